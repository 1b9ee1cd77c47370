"""Private files and folders, readable by their owner alone: they may hold prompts and answers."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_NOBODY_ELSE = 0o077


class _Mask:
    """The mask of this process while blocks of `only_owner` run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_blocks = 0
        self._before = 0

    def enter(self) -> None:
        with self._lock:
            if not self._n_blocks:
                self._before = os.umask(_NOBODY_ELSE)
            self._n_blocks += 1

    def leave(self) -> None:
        with self._lock:
            self._n_blocks -= 1
            if not self._n_blocks:
                os.umask(self._before)


_MASK = _Mask()


@contextlib.contextmanager
def only_owner() -> Iterator[None]:
    """Let whatever this process creates be its owner's alone, for the length of the block.

    It is for libraries that create files themselves. The mask belongs to the process: files that
    other threads create meanwhile are private too. Blocks of several threads may overlap; the mask
    from before comes back when the last one is left.
    """
    _MASK.enter()
    try:
        yield
    finally:
        _MASK.leave()


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; one that is there keeps its mode."""
    with only_owner():
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; one that is there is overwritten and keeps its mode."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with os.fdopen(number, "wb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8 with line ends as they are in the text; see `write_bytes`."""
    write_bytes(path, text.encode())


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it: the open of a pipe would wait for a writer.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(number, "rb")


def who_else_can_write(folder: Path, owners: Collection[int]) -> str | None:
    """Return who beside its owner could put files into a folder, or another folder in its place.

    Args:
        folder: a folder that exists.
        owners: ids of the users whom it may belong to.

    Returns:
        A sentence with what to type against it; None where nobody could, or the system has no such
        rights.
    """
    if os.name != "posix":
        return None
    found, above = folder.stat(), folder.absolute().parent
    if found.st_uid not in owners:
        return (
            f"{folder} belongs to another user (id {found.st_uid}); look at it, then:"
            f" chown {os.geteuid()} {folder}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "every user of this machine" if found.st_mode & stat.S_IWOTH else "its group"
        return f"{who} can write to {folder}; look at it, then: chmod go-w {folder}"
    mode = above.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return (
            f"every user of this machine can put another folder in the place of {folder}; type:"
            f" chmod o-w {above}"
        )
    return None
