"""Causes of a file that cannot be opened, read or written, by error codes and facts of the system.

DuckDB's errors carry a type and a text; the text holds paths and values of the user. So what
the type does not say is determined otherwise: which process holds a lock, how the operating system
answers an attempt to open the file, what its header says, whether the disk takes a write.
"""

import contextlib
import errno
import os
import platform
import shutil
import struct
import tempfile
from pathlib import Path

import duckdb

from workbench.errors import StoreError, StoreMissing, StoreUnwritable, StoreVersionError

try:
    import fcntl
except ImportError:  # not a POSIX system: there a file that is held cannot be opened
    fcntl = None  # type: ignore[assignment]  # the one platform switch of this module

_LOCKS: bool = fcntl is not None

# what DuckDB raises where bytes of its file make no sense; `duckdb.Error` itself, not its kin
_DAMAGE = (duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)
_NARROW_BYTES = 32 << 20  # less room than this, and a failed write is put down to it
_PROBE_BYTES = 1 << 20
_WINDOWS_SHARING = 32  # ERROR_SHARING_VIOLATION
_MAGIC = b"DUCK"
_MAGIC_AT = 8  # bytes from the start of the file
_LIBRARY_AT = 52  # the version of the library that wrote the file, ended by a zero byte
_IS_LINUX = platform.system() == "Linux"
_FLOCK = "hhqqi4x" if _IS_LINUX else "qqihh"  # `struct flock`; elsewhere that of BSD and macOS


def is_damage(error: BaseException) -> bool:
    """Return whether an error of the engine means that the file cannot be what it was."""
    return type(error) is duckdb.Error or isinstance(error, _DAMAGE)


def first_line(error: BaseException) -> str:
    """Return what an error says, without its second and later lines."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def holder(path: Path) -> str | None:
    """Name the process that locks a file, as in "process 12 (/usr/bin/duckdb)"; None if unknown.

    Closing any handle of a file lets go of all locks that this process has on it. So it is only for
    files that this process has not open.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        is_locked = getattr(error, "winerror", None) == _WINDOWS_SHARING
        return "another process" if is_locked else None
    try:
        return _locked_by(file) if _LOCKS else None
    finally:
        os.close(file)


def _locked_by(file: int) -> str | None:
    kind = fcntl.F_WRLCK
    whence = os.SEEK_SET
    lock = (kind, whence, 0, 0, 0) if _IS_LINUX else (0, 0, 0, kind, whence)
    with contextlib.suppress(OSError):  # a file system without locks
        answer = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_FLOCK, *lock)))
        kind, process = (answer[0], answer[4]) if _IS_LINUX else (answer[3], answer[2])
        if kind != fcntl.F_UNLCK:
            return _process(process)
    return None


def _process(number: int) -> str:
    if number <= 0:  # of another machine or container
        return "another process"
    with contextlib.suppress(OSError):
        return f"process {number} ({Path(f'/proc/{number}/exe').readlink()})"
    return f"process {number}"


def unopenable(path: Path, *, read_only: bool) -> StoreError | None:
    """Return why a file cannot be opened, by the system's answers and its header; None if unknown.

    Like `holder`, only for files that this process has not open.
    """
    if not path.exists():
        return _no_file(path, read_only=read_only)
    try:
        file = os.open(path, os.O_RDONLY if read_only else os.O_RDWR)
    except OSError as error:
        if getattr(error, "winerror", None) == _WINDOWS_SHARING:
            return None
        kind = StoreUnwritable if is_of_disk(error) and not read_only else StoreError
        return kind(f"cannot open {path}: {reason(error)}")
    try:
        head = os.read(file, 128)
    except OSError as error:
        return StoreError(f"cannot read {path}: {reason(error)}")
    finally:
        os.close(file)
    return _not_a_store(path, head, read_only=read_only)


def _not_a_store(path: Path, head: bytes, *, read_only: bool) -> StoreError | None:
    if not head:  # a store that is being made, or was not finished
        refused = None if read_only else refusal(path.parent)
        return None if refused is None else StoreError(f"cannot write {path}: {reason(refused)}")
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return StoreVersionError(f"{path} is no DuckDB database; name another file with --store")
    return None


def is_empty(path: Path) -> bool:
    """Return whether a file is there that holds nothing."""
    with contextlib.suppress(OSError):
        return path.is_file() and not path.stat().st_size
    return False


def _no_file(path: Path, *, read_only: bool) -> StoreError:
    if not path.parent.is_dir():
        return StoreMissing(
            f"there is no folder {path.parent}; if its disk is mounted elsewhere or lost, "
            "name it with --store"
        )
    if read_only:
        return StoreMissing(f"{path} is gone: it was deleted, moved, or its disk is lost")
    refused = refusal(path.parent)
    why = f": {reason(refused)}" if refused else ""
    return StoreError(f"cannot make {path}{why}")


def opening_failed(path: Path, error: duckdb.Error) -> StoreError:
    """Turn an error of the engine at opening into ours, where `unopenable` knows nothing."""
    if is_empty(path):
        return StoreVersionError(
            f"{path} is empty: making a store there was not finished; delete it, or import into it"
        )
    written_by = _library(path)
    if not is_damage(error) and _newer(written_by):
        return StoreVersionError(
            f"{path} was written by DuckDB {written_by}, and this is {duckdb.__version__}"
            f" ({first_line(error)}); upgrade duckdb, or export it where it opens (workbench export"
            " FOLDER) and import the folder here: stores made now open in both"
        )
    if is_damage(error):
        return StoreError(f"{path} is damaged: {first_line(error)}; {REPAIR}")
    return StoreError(f"cannot open {path}: {first_line(error)}")


REPAIR = "workbench doctor --repair COPY saves what can be read, and takes the rest from backups"


def _library(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        text = file.read(128)[_LIBRARY_AT:].split(b"\0", 1)[0]
        return text.decode("ascii", errors="replace").removeprefix("v")
    return ""


def _newer(version: str) -> bool:
    return _numbers(version) > _numbers(duckdb.__version__)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("-", maxsplit=1)[0].split(".")
    return tuple(int(part) for part in parts) if all(p.isdigit() for p in parts) else ()


def use_failed(path: Path, error: duckdb.Error, *, writing: bool) -> StoreError | None:
    """Return why an open store could not be read or written; None if the statement is at fault."""
    message = first_line(error)
    if not path.exists():
        return StoreMissing(
            f"{path} is gone: it was deleted or moved, or its disk is lost ({message})"
        )
    if is_damage(error) or isinstance(error, duckdb.IOException | duckdb.TransactionException):
        if writing and (refused := refusal(path.parent)):
            return StoreUnwritable(f"cannot write {path}: {reason(refused)} ({message})")
        if is_damage(error):
            return StoreError(f"{path} is damaged: {message}; {REPAIR}")
    if isinstance(error, duckdb.IOException):
        return StoreError(f"reading or writing failed: {message}")
    if writing and isinstance(error, duckdb.TransactionException):
        # The lease keeps other writers out, so this is no conflict: the disk refused the write. The
        # transaction was rolled back, so that a full disk has room again.
        free = shutil.disk_usage(path.parent).free
        return StoreUnwritable(
            f"cannot write {path}: {message}; nothing was changed; "
            f"its disk has {free / 1e6:,.0f} MB free:"
            " if that is little, make room; then run the same command again"
        )
    return None


def refusal(folder: Path) -> OSError | None:
    """Ask the operating system whether a folder takes a file, by writing one; None if it does.

    A disk with so little room that the next write may not fit counts as full.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
            os.fsync(file.fileno())
        if shutil.disk_usage(folder).free < _NARROW_BYTES:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    except OSError as error:
        return error
    return None


_ADVICE = {
    errno.ENOSPC: "the disk is full; make room, then run the same command again",
    errno.EDQUOT: "the quota of the disk is used up; make room, then run the same command again",
    errno.EROFS: "the disk is read-only; give {other}",
    errno.EACCES: "permission denied; give {other}, or change the rights of its folder",
    errno.EPERM: "not permitted; give {other}, or change the rights of its folder",
    errno.ENOENT: "the folder is gone; its disk may not be mounted",
    errno.EIO: "the disk failed",
    errno.ESTALE: "the disk of the network is lost",
    errno.ENOTCONN: "the disk of the network is lost",
    errno.EISDIR: "it is a folder; give {other}",
}


def is_of_disk(error: OSError) -> bool:
    """Return whether an error comes from the disk or from permissions, not from the request."""
    return error.errno in _ADVICE


def reason(error: OSError, other: str = "another --store") -> str:
    """Return the cause that an error code stands for, and what the user can do.

    Args:
        error: an error of the operating system.
        other: the option or argument that the user can give instead, for the advice.
    """
    message = error.strerror or str(error)
    if error.errno in _ADVICE:
        return _ADVICE[error.errno].format(other=other)
    return message[:1].lower() + message[1:]
