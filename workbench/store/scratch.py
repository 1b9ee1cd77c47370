"""Scratch folders for unfinished files: removed by their command, or by the next one after a kill.

The command that uses a folder holds an advisory lock on it, which the operating system releases
however the process ends. Without such locks (Windows), folders of killed commands stay.
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
    """Make a scratch folder for the length of the block, and remove it with its contents.

    Args:
        parent: the folder to make it in; made where it is missing.
        prefix: how its name begins. Unlocked folders of killed commands with this prefix are
            removed, too.

    Raises:
        OSError: it cannot be made.
    """
    private.make_folder(parent)
    sweep(parent, prefix)
    with contextlib.ExitStack() as stack:
        path = _make_locked(parent, prefix, stack)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _make_locked(parent: Path, prefix: str, stack: contextlib.ExitStack) -> Path:
    """Make a folder and lock it; retry if another command's `sweep` removed it before the lock."""
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
    """Remove folders of killed commands; those in use, or that cannot be removed, stay."""
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
