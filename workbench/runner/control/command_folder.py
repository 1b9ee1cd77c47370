"""The folder of a running collection, from the inside: made, locked, emptied of commands, let go."""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Self

import msgspec

from workbench import private
from workbench.runner.control import protocol
from workbench.runner.control.protocol import RunState, Taken

try:
    import fcntl
except (
    ImportError
):  # not a POSIX system: the age of the lock file tells instead (see `spool.is_live`)
    fcntl = None  # type: ignore[assignment]  # the one platform switch

_MOST = 100  # commands taken at a time
_ANSWERS = 200  # results that are kept


class CommandFolder:
    """One run's folder under `<spool>/control`, held under its lock."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Take a folder over; see `open`."""
        self.folder, self._lock = folder, lock
        self._answered: list[Path] = []
        self._guard, self._is_closed = threading.Lock(), False

    @classmethod
    def open(cls, spool_dir: Path, run_id: str) -> Self:
        """Make the folder of a run, and delete those of runs that are gone.

        It is locked before it gets its name, so that nobody takes it for a dead one. Nobody but its
        owner may look into it or drop files there.
        """
        protocol.sweep(spool_dir)
        parent = protocol.control_dir(spool_dir)
        private.make_folder(parent)
        hidden = parent / f".{run_id}.{os.getpid()}"
        shutil.rmtree(hidden, ignore_errors=True)
        for folder in (hidden, hidden / "commands", hidden / "results"):
            folder.mkdir(mode=0o700)
        lock = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = parent / run_id
            hidden.rename(folder)
        except OSError:
            os.close(lock)
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return cls(folder, lock)

    def collect(self) -> list[tuple[str, bytes | None]]:
        """Take what was dropped, the oldest names first; None is no plain file.

        Names that begin with a dot are still being written. What has another name than a command is
        left.
        """
        inbox = self.folder / "commands"
        try:
            with os.scandir(inbox) as entries:
                names = sorted(e.name for e in entries if protocol.is_command_name(e.name))[:_MOST]
        except OSError:
            return []
        letters = []
        for name in names:
            path = inbox / name
            letters.append((path.stem, protocol.read_plain(path, protocol.MOST_BYTES)))
            _discard(path)
        return letters

    def answer(self, taken: Taken) -> None:
        """Say how a command was taken; the oldest answers go."""
        path = self.folder / "results" / f"{taken.command_id}.json"
        with contextlib.suppress(OSError):  # the state tells it too
            protocol.write_whole(path, msgspec.json.encode(taken))
            self._answered.append(path)
        while len(self._answered) > _ANSWERS:
            self._answered.pop(0).unlink(missing_ok=True)

    def publish(self, state: RunState) -> None:
        """Replace the state; a disk that refuses leaves the last one, whose time tells its age.

        May be called from a thread; one that comes too late does not undo the last word.
        """
        with self._guard, contextlib.suppress(OSError):
            if self._is_closed:
                return
            protocol.write_whole(self.folder / "state.json", msgspec.json.encode(state))
            os.utime(self.folder / "lock")

    def close(self, last: RunState) -> None:
        """Leave a last state and let go of the lock; the folder stays until the next collector."""
        self.publish(last)
        with self._guard:
            self._is_closed = True
            os.close(self._lock)


def _discard(path: Path) -> None:
    """Delete what was dropped, a folder too; never what a link leads to."""
    try:
        path.unlink()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
