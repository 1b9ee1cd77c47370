"""Compares mathematics for the scorer `math`: one process that is asked one thing after the other, and ended when it takes too long."""

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
_WALL = 20.0  # times the limit on computing: a machine may have others to serve


class _Said(msgspec.Struct):
    same: bool = False
    error: str | None = None


class Algebra:
    """The process; it is begun with the first question, and again after one that it did not survive."""

    def __init__(self) -> None:
        """Begin without one."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def same(self, targets: Sequence[str], answer: str, limit_s: float) -> tuple[bool, str | None]:
        """Say whether an answer is the same as one of the targets, and why that could not be found out.

        Args:
            targets: what is accepted.
            answer: what was answered.
            limit_s: seconds of computing.

        Raises:
            TaskError: the process does not begin.
        """
        asked = msgspec.json.encode({"targets": targets, "answer": answer, "limit_s": limit_s})
        with self._lock:
            process = self._process or self._begin()
            line = _exchange(process, asked + b"\n", _WALL * limit_s)
            if not line:
                self._end()
                return False, f"not compared within {limit_s:g} s of computing (timeout_s)"
        said = msgspec.json.decode(line, type=_Said)
        return said.same, said.error and f"not compared: {said.error}"

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
            raise TaskError("math-verify does not load here; see: python -c 'import math_verify'")
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


def _exchange(process: "subprocess.Popen[bytes]", asked: bytes, limit_s: float) -> bytes:
    """Write a line and read one; b"" where the process ended, or was ended as it took too long."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("the process was begun without pipes")
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(asked)
            process.stdin.flush()
        return process.stdout.readline()
    finally:
        timer.cancel()


ALGEBRA = Algebra()
atexit.register(ALGEBRA.close)
