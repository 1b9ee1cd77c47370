"""Heads of files: the first bytes, lines and keys, from which a source detects its format.

Each source looks at each file of a folder. The head of the last files is kept in memory, so that a
file is read once for all sources.
"""

import contextlib
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workbench.decoding import UNDECODABLE

Line = dict[str, Any]
T = TypeVar("T")

START_BYTES = 64 << 10
_MAX_LINES = 40
_MAX_LINES_BYTES = 8 << 20  # the first line may contain a picture
_REMEMBERED = 8  # files whose head is kept
_BOM = b"\xef\xbb\xbf"
_SQLITE = b"SQLite format 3\x00"
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]')


def start(path: Path) -> bytes:
    """Return the first 64 KiB of a file without a byte-order mark; b"" if it cannot be read."""
    return _head(_start, path, b"")


def lines(path: Path) -> list[Line]:
    """Return the JSON objects of a file's first 40 lines; broken lines are left out.

    The list is empty if the first lines are not objects, one a line.
    """
    return _head(_lines, path, [])


def keys(path: Path) -> tuple[str, ...]:
    """Return the keys of the JSON object with which a file begins, in order.

    Only the first 64 KiB are looked at: a key behind them is not seen. The tuple is empty if the
    file does not begin with an object.
    """
    return _head(_keys, path, ())


def is_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database."""
    return start(path).startswith(_SQLITE)


def _head(read: Callable[[Path, int, int], T], path: Path, default: T) -> T:
    try:
        status = path.stat()
        return read(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return default


@functools.lru_cache(maxsize=_REMEMBERED)
def _start(path: Path, size: int, changed_ns: int) -> bytes:
    del size, changed_ns  # a file that changed is read again
    with path.open("rb") as file:
        return file.read(START_BYTES).removeprefix(_BOM)


@functools.lru_cache(maxsize=_REMEMBERED)
def _lines(path: Path, size: int, changed_ns: int) -> list[Line]:
    if _start(path, size, changed_ns).lstrip()[:1] != b"{":
        return []
    objects: list[Line] = []
    bytes_left = _MAX_LINES_BYTES
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            raw = file.readline(bytes_left)
            bytes_left -= len(raw)
            line = raw.removeprefix(_BOM).strip()
            if not raw or bytes_left <= 0 or (line and line[:1] != b"{"):
                break
            with contextlib.suppress(*UNDECODABLE):
                objects.append(_OBJECT.decode(line))
    return objects


@functools.lru_cache(maxsize=_REMEMBERED)
def _keys(path: Path, size: int, changed_ns: int) -> tuple[str, ...]:
    data = _start(path, size, changed_ns)
    if data.lstrip()[:1] != b"{":
        return ()
    depth = 0
    names: list[str] = []
    for token in _TOKEN.finditer(data):
        mark = token[0][:1]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if not depth:
                break
        elif depth == 1 and token[2] is not None:
            names.append(token[1].decode(errors="replace"))
    return tuple(names)
