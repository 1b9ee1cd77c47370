"""Comparison of mathematical answers for the scorer `math`, in a process with a time limit."""

import atexit
import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from workbench.errors import TaskError
from workbench.scoring import math_worker

_START_S = 120.0  # the library is large, and the disk may be busy
_WALL = 20.0  # wall-clock limit in units of the CPU limit: other processes share the machine


class _Result(msgspec.Struct):
    same: bool = False
    error: str | None = None


class Algebra:
    """A worker process, started with the first comparison and again after one that killed it."""

    def __init__(self) -> None:
        """Create without a process."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def same(self, targets: Sequence[str], answer: str, limit_s: float) -> tuple[bool, str | None]:
        """Compare an answer with the targets.

        Args:
            targets: the accepted answers.
            answer: the model's answer.
            limit_s: seconds of CPU time.

        Returns:
            Whether the answer equals a target, and why no comparison was possible (None if it was).

        Raises:
            TaskError: the process does not start.
        """
        request = msgspec.json.encode({"targets": targets, "answer": answer, "limit_s": limit_s})
        with self._lock:
            process = self._process or self._begin()
            line = _exchange(process, request + b"\n", _WALL * limit_s)
            if not line:
                self._end()
                return False, f"not compared within {limit_s:g} s of computing (timeout_s)"
        result = msgspec.json.decode(line, type=_Result)
        return result.same, result.error and f"not compared: {result.error}"

    def _begin(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(  # noqa: S603  # our own file, by this very Python
            [sys.executable, "-I", str(Path(math_worker.__file__))],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        if not _exchange(process, b"", _START_S):
            self._end()
            raise TaskError(
                "math-verify cannot be imported here; for the reason run: python -c 'import"
                " math_verify'"
            )
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


def _exchange(process: "subprocess.Popen[bytes]", request: bytes, limit_s: float) -> bytes:
    """Write a line and read one; b"" where the process ended, or was killed after `limit_s`."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("the process was started without pipes")
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.flush()
        return process.stdout.readline()
    finally:
        timer.cancel()


ALGEBRA = Algebra()
atexit.register(ALGEBRA.close)
