"""The command folder of a running collection, as the collector uses it."""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Self

import msgspec

from workbench import private
from workbench.runner.control import protocol
from workbench.runner.control.protocol import CommandResult, RunState

try:
    import fcntl
except ImportError:  # not POSIX: the age of the lock file decides (see `spool.is_live`)
    fcntl = None  # type: ignore[assignment]  # the one platform switch

_MAX_COMMANDS = 100  # read at a time
_MAX_RESULTS = 200  # files; older ones are deleted


class CommandFolder:
    """One run's folder under `<spool>/control`, locked while the collector lives."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Take a folder over; see `open`."""
        self.folder, self._lock = folder, lock
        self._results: list[Path] = []
        self._guard = threading.Lock()
        self._is_closed = False

    @classmethod
    def open(cls, spool_dir: Path, run_id: str) -> Self:
        """Make the folder of a run, and delete the folders of runs whose collector has died.

        It is locked before it gets its name, so that no other collector deletes it as a dead one.
        Only its owner may read it or write files there.
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
        """Read and delete the command files, the oldest first; None stands for no plain file.

        Files whose name begins with a dot are still being written; files of other names stay.
        """
        inbox = self.folder / "commands"
        try:
            with os.scandir(inbox) as entries:
                names = sorted(e.name for e in entries if protocol.is_command_name(e.name))
        except OSError:
            return []
        commands = []
        for name in names[:_MAX_COMMANDS]:
            path = inbox / name
            commands.append((path.stem, protocol.read_plain(path, protocol.MOST_BYTES)))
            _discard(path)
        return commands

    def answer(self, result: CommandResult) -> None:
        """Write the result of a command; the oldest results are deleted."""
        path = self.folder / "results" / f"{result.command_id}.json"
        with contextlib.suppress(OSError):  # the state lists it too
            protocol.write_whole(path, msgspec.json.encode(result))
            self._results.append(path)
        while len(self._results) > _MAX_RESULTS:
            self._results.pop(0).unlink(missing_ok=True)

    def publish(self, state: RunState) -> None:
        """Replace the state file; on a disk error the last one stays, whose time tells its age.

        May be called from a thread; after `close` it does nothing.
        """
        with self._guard, contextlib.suppress(OSError):
            if self._is_closed:
                return
            protocol.write_whole(self.folder / "state.json", msgspec.json.encode(state))
            os.utime(self.folder / "lock")

    def close(self, last: RunState) -> None:
        """Publish the last state and release the lock; the next collector deletes the folder."""
        self.publish(last)
        with self._guard:
            self._is_closed = True
            os.close(self._lock)


def _discard(path: Path) -> None:
    """Delete a file or a folder; a link is deleted, not its target."""
    try:
        path.unlink()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
