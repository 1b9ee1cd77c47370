"""Watch over a sandboxed process: start it, copy its input and output, end it at a limit."""

import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ConfigError
from workbench.sandbox.isolation import InheritedFiles

CPU_SPENT = 128 + signal.SIGXCPU
_LOOK_S = 0.05  # seconds between counts of the files that the code has created
_MOST_FILES = 5_000  # a folder in memory is limited in bytes, and an empty file has none
_MOST_OUTPUT = 16 << 20  # bytes; a process that writes more is ended
_PIECE = 65_536
_END_S = 5.0  # seconds for a sandbox to end once its first process was killed


@dataclasses.dataclass(slots=True)
class Ended:
    """Result of a process: exit status, limit reached, and the beginning of its output."""

    stdout: bytes
    stderr: bytes
    exit_status: int
    limit: str | None
    elapsed_s: float
    truncated: bool


def run(
    name: str,
    command: Sequence[str],
    *,
    stdin: bytes,
    timeout_s: float,
    output_bytes: int,
    inherited: InheritedFiles,
) -> Ended:
    """Run a sandbox until it ends or reaches a limit; no process of it remains.

    Raises:
        ConfigError: the program called `name`, which puts it up, failed itself, so that the code
            never ran.
    """
    start = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  # the program that was found; the code is in a file
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        pass_fds=inherited.descriptors,
        start_new_session=True,
        bufsize=0,
    )
    inherited.close_ours()
    watched = _Watched(process, inherited.status_to_read, stdin, output_bytes)
    try:
        limit = watched.until(start + timeout_s)
    finally:
        _end(process)
        watched.close()
    elapsed_s = time.monotonic() - start
    status = watched.exit_status()
    if status is None and limit is None:
        output = bytes(watched.captured["stderr"] or watched.captured["status"])
        message = output.decode("utf-8", "replace").strip()
        raise ConfigError(
            f"{name} could not put up a sandbox: {message[:300] or 'it printed nothing'}; "
            "unprivileged user"
            " namespaces may be switched off here (sysctl kernel.unprivileged_userns_clone,"
            " kernel.apparmor_restrict_unprivileged_userns)"
        )
    return Ended(
        bytes(watched.captured["stdout"]),
        bytes(watched.captured["stderr"]),
        128 + signal.SIGKILL if status is None else status,
        limit,
        elapsed_s,
        watched.truncated,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a sandbox from within, so that each process is waited for by its parent.

    When the first process of the sandbox goes, all in there go.
    """
    deadline = time.monotonic() + _END_S
    while process.poll() is None:
        children = _children(process.pid)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        if not children or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)


def _children(pid: int) -> list[int]:
    """List the children of a process; none where it has gone."""
    pids = []
    for threads in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += [int(child) for child in threads.read_text(encoding="ascii").split()]
    return pids


class _Watched:
    """The pipes of one process."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", status: int, stdin: bytes, output_bytes: int
    ) -> None:
        self.process = process
        self.unsent = memoryview(stdin)
        self.most = output_bytes
        self.captured = {"stdout": bytearray(), "stderr": bytearray(), "status": bytearray()}
        self.n_read, self.truncated = 0, False
        self.pid: int | None = None
        self.selector = selectors.DefaultSelector()
        outputs: dict[str, Any] = {
            "stdout": process.stdout,
            "stderr": process.stderr,
            "status": status,
        }
        for name, file in outputs.items():
            self._register(file, selectors.EVENT_READ, name)
        self._register(process.stdin, selectors.EVENT_WRITE, "stdin")

    def _register(self, file: IO[bytes] | int | None, event: int, name: str) -> None:
        assert file is not None
        os.set_blocking(file if isinstance(file, int) else file.fileno(), False)
        self.selector.register(file, event, name)

    def until(self, deadline: float) -> str | None:
        """Carry bytes until the process closes its pipes; returns the limit that came first."""
        look = time.monotonic() + _LOOK_S
        while {key.data for key in self.selector.get_map().values()} - {"stdin"}:
            now = time.monotonic()
            if now >= deadline:
                return "time"
            if now >= look:
                look = now + _LOOK_S
                if self._n_files() > _MOST_FILES:
                    return "files"
            for key, _ in self.selector.select(min(deadline, look) - now):
                self._carry(key)
            if self.n_read > _MOST_OUTPUT:
                return "output"
        return None

    def _carry(self, key: selectors.SelectorKey) -> None:
        if key.data == "stdin":
            with contextlib.suppress(BlockingIOError):
                try:
                    self.unsent = self.unsent[os.write(key.fd, self.unsent[:_PIECE]) :]
                except BrokenPipeError:
                    self.unsent = self.unsent[:0]
            if not self.unsent:
                self.selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]  # stdin is a file
            return
        try:
            data = os.read(key.fd, _PIECE)
        except BlockingIOError:
            return
        if not data:
            self.selector.unregister(key.fileobj)
            return
        captured = self.captured[key.data]
        self.n_read += len(data)
        room = self.most - len(captured) if key.data != "status" else len(data)
        captured += data[:room]
        self.truncated = self.truncated or room < len(data)

    def _n_files(self) -> int:
        """Count the files in the sandbox's folder, from outside; 0 where it cannot be seen."""
        if self.pid is None:
            self.pid = next(iter(_children(self.process.pid)), None)
        if self.pid is None:
            return 0
        try:
            if Path(f"/proc/{self.pid}/root").samefile("/"):
                return 0  # not in its namespaces yet: its /work would be the host's
            seen = os.statvfs(f"/proc/{self.pid}/root/work")
        except OSError:
            return 0
        return seen.f_files - seen.f_ffree

    def _status_number(self, name: str) -> int | None:
        """Find a number in the status that the sandbox program reports, one JSON object a line."""
        for line in bytes(self.captured["status"]).splitlines():
            with contextlib.suppress(*UNDECODABLE):
                if name in (fields := msgspec.json.decode(line, type=dict[str, Any])):
                    return int(fields[name])
        return None

    def exit_status(self) -> int | None:
        """Return the exit status of the code; None where it did not end, or never began."""
        return self._status_number("exit-code")

    def close(self) -> None:
        """Close the pipes."""
        self.selector.close()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None:
                file.close()
