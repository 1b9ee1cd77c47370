"""Reader of the zip members of an Inspect `.eval` file, with limits against zip bombs.

The standard library supports zip method 93 (Zstandard) only from Python 3.14 on, so that members
are inflated here, at the offset in the central directory.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.errors import ImportFormatError

MEMBER_LIMIT = 2**31  # bytes of one member, inflated
RATIO_LIMIT = 2000  # inflated ÷ stored size of one member; texts rarely exceed 200
WHOLE_RATIO_LIMIT = 200  # of all members together
RATIO_FREE = 2**26  # bytes; below this inflated size any ratio is allowed
ZSTANDARD = 93
_LOCAL = struct.Struct("<4s22xHH")  # signature, then the lengths of name and extra field
_ENCRYPTED = 1


class Archive:
    """An open `.eval` file; a later member of the same name replaces an earlier one."""

    def __init__(self, path: Path, file: BinaryIO, directory: list[zipfile.ZipInfo]) -> None:
        """Store the members of the directory by name."""
        self.path = path
        self._file = file
        self._size = path.stat().st_size
        self.members = {info.filename: info for info in directory}

    def names(self, folder: str) -> list[str]:
        """Return the names of the JSON members directly in a folder, in the order of writing."""
        depth = folder.count("/")
        return [
            name
            for name in self.members
            if name.startswith(folder) and name.endswith(".json") and name.count("/") == depth
        ]

    def read(self, name: str) -> bytes:
        """Inflate one member.

        Raises:
            ImportFormatError: truncated, damaged, too large, or compressed by another method.
        """
        info = self.members[name]
        where = f"{self.path}, member {name}"
        if info.flag_bits & _ENCRYPTED:
            raise ImportFormatError(f"{where} is encrypted; decrypt the log first")
        _guard(info.file_size, info.compress_size, where)
        packed = self._packed(info, where)
        try:
            data = _inflate(info, packed)
        except (zlib.error, ValueError, EOFError, MemoryError) as error:
            raise ImportFormatError(f"{where} is damaged: {error}; copy the log again") from error
        if len(data) > info.file_size:
            raise ImportFormatError(
                f"{where} inflates to more than the {info.file_size} bytes it declares; not read"
            )
        if len(data) < info.file_size or zlib.crc32(data) != info.CRC:
            raise ImportFormatError(f"{where} is damaged or truncated; copy the log again")
        return data

    def _packed(self, info: zipfile.ZipInfo, where: str) -> bytes:
        if not 0 <= info.header_offset <= self._size - info.compress_size:
            raise ImportFormatError(f"{where} is truncated; copy the log again")
        self._file.seek(info.header_offset)
        local = self._file.read(_LOCAL.size)
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
            raise ImportFormatError(f"{where} is not where the directory says; copy the log again")
        _, n_name, n_extra = _LOCAL.unpack(local)
        self._file.seek(n_name + n_extra, 1)
        packed = self._file.read(info.compress_size)
        if len(packed) < info.compress_size:
            raise ImportFormatError(f"{where} is truncated; copy the log again")
        return packed


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an `.eval` file.

    Raises:
        ImportFormatError: the file is truncated or not a zip file.
    """
    with path.open("rb") as file:
        directory = read_directory(file)
        if isinstance(directory, str):
            raise ImportFormatError(
                f"{path} is truncated or not a zip file ({directory}); copy the log again"
            )
        _guard_whole(directory, path)
        yield Archive(path, file, directory)


def read_directory(file: BinaryIO) -> list[zipfile.ZipInfo] | str:
    """List a zip file's members, or return why that fails."""
    try:
        with zipfile.ZipFile(file) as zipped:
            return zipped.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        return str(error)  # the standard library raises all of these on damaged directories
    except (struct.error, IndexError, OSError) as error:
        return f"its directory is damaged: {error}"


def _guard(size: int, packed: int, where: str) -> None:
    if size > MEMBER_LIMIT:
        raise ImportFormatError(
            f"{where} would inflate to {size} bytes, over the limit of {MEMBER_LIMIT}; not read"
        )
    if size > RATIO_FREE and size > RATIO_LIMIT * max(packed, 1):
        raise ImportFormatError(
            f"{where} would inflate {size // max(packed, 1)}-fold to {size} bytes, which no log "
            f"does; not read"
        )


def _guard_whole(directory: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse members that are large in total, also if they share the same stored bytes."""
    for info in directory:
        _guard(info.file_size, info.compress_size, f"{path}, member {info.filename}")
    size = sum(info.file_size for info in directory)
    packed = path.stat().st_size
    if size > RATIO_FREE and size > WHOLE_RATIO_LIMIT * packed:
        raise ImportFormatError(
            f"{path} would inflate {size // max(packed, 1)}-fold to {size} bytes in "
            f"{len(directory)} members, which no log does; not read"
        )


def _inflate(info: zipfile.ZipInfo, packed: bytes) -> bytes:
    limit = info.file_size + 1  # one byte more than declared shows that the declaration is wrong
    if info.compress_type == zipfile.ZIP_STORED:
        return packed
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
    if info.compress_type == ZSTANDARD:
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        try:
            with decompressor.stream_reader(packed, read_across_frames=True) as stream:
                return stream.read(limit)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
    msg = f"zip method {info.compress_type} is not one that Inspect writes"
    raise ValueError(msg)
