"""Decoding of JSON bytes with faults: byte-order mark, NaN, invalid characters or encoding."""

import json
import math
import mmap
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workbench.errors import ImportFormatError
from workbench.sources.report import FileReport

T = TypeVar("T")
ANY = msgspec.json.Decoder()
LOADED = 2**29  # bytes; larger documents are memory-mapped, so that they need not fit in memory
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def document(path: Path) -> memoryview:
    """Return a file's bytes without a byte-order mark.

    Raises:
        ImportFormatError: the file is empty, or its first bytes are not UTF-8.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if not size:
            raise ImportFormatError(f"{path} is empty")
        large = size > LOADED
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if large else file.read()
    head = data[:3]
    if head[:2] in _UTF16:
        raise ImportFormatError(f"{path} is UTF-16, from byte 0 on; save it as UTF-8")
    return memoryview(data)[len(_BOM) if head == _BOM else 0 :]


def decode(
    decoder: msgspec.json.Decoder[T], data: bytes | memoryview, where: str, report: FileReport
) -> T:
    """Decode a document; NaN and infinities become null, with a note in the report.

    Args:
        decoder: typed decoder of msgspec.
        data: UTF-8 JSON.
        where: file and member, for the message.
        report: gets a note per document with such numbers, or with invalid characters.

    Raises:
        ImportFormatError: malformed, truncated, not UTF-8, or not of the decoder's type.
    """
    try:
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise _bad_text(data, where) from error
    except RecursionError as error:
        raise ImportFormatError(f"{where} is nested too deeply to be read") from error
    except msgspec.ValidationError as error:
        raise ImportFormatError(f"{where}: {error}") from error
    except msgspec.DecodeError:
        cleaned = _cleaned(data, where, report)
    try:
        return decoder.decode(cleaned)
    except msgspec.DecodeError as error:
        raise ImportFormatError(f"{where}: {error}") from error


def _cleaned(data: bytes | memoryview, where: str, report: FileReport) -> bytes:
    """Rewrite JSON that Python accepts and msgspec rejects: NaN, half surrogate pairs."""
    n = 0

    def constant(text: str) -> float | None:
        nonlocal n
        value = float(text)
        if math.isfinite(value):
            return value
        n += 1
        return None

    try:
        parsed: Any = json.loads(bytes(data), parse_constant=constant, parse_float=constant)
    except UnicodeDecodeError as error:
        raise _bad_text(data, where) from error
    except (ValueError, RecursionError) as error:
        raise ImportFormatError(f"{where} is not JSON: {error}") from error
    text = json.dumps(parsed, ensure_ascii=False)
    clean = text.encode(errors="replace")
    if n:
        report.notes["NaN or infinite numbers, read as null"] += n
    if len(clean) != len(text.encode(errors="surrogatepass")):
        report.notes["documents with half surrogate pairs, read as ?"] += 1
    return clean


def _bad_text(data: bytes | memoryview, where: str) -> ImportFormatError:
    try:
        bytes(data).decode()
    except UnicodeDecodeError as error:
        return ImportFormatError(f"{where} is not UTF-8 at byte {error.start}; save it as UTF-8")
    return ImportFormatError(f"{where} is not UTF-8; save it as UTF-8")
