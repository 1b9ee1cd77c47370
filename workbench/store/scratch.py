"""Scratch folders for unfinished files: removed by their command, or by the next one after a kill.

Whoever works in one holds it under an advisory lock, which the operating system lets go of however
its owner ends. Where there are no such locks (Windows) what a killed command left stays.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from workbench import private

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]  # the one platform switch

_LOCKS: bool = fcntl is not None


@contextlib.contextmanager
def folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of our own for the length of the block; whatever is there at its end goes.

    Args:
        parent: where; made where it is missing.
        prefix: how its name begins. What killed commands left under such names goes, too.

    Raises:
        OSError: it cannot be made.
    """
    private.make_folder(parent)
    sweep(parent, prefix)
    with contextlib.ExitStack() as stack:
        path = _made(parent, prefix, stack)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _made(parent: Path, prefix: str, stack: contextlib.ExitStack) -> Path:
    """Make a folder and lock it; again if somebody took it for a dead one's in between."""
    while True:
        path = parent / f"{prefix}{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        if not _LOCKS:
            return path
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                return path


def sweep(parent: Path, prefix: str) -> None:
    """Remove what killed commands left; what lives, or cannot be removed, stays."""
    if not _LOCKS:
        return
    for entry in list(parent.iterdir()):
        if entry.name.startswith(prefix) and entry.is_dir() and not entry.is_symlink():
            with contextlib.suppress(OSError):
                fd = os.open(entry, os.O_RDONLY)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry, ignore_errors=True)
                finally:
                    os.close(fd)
