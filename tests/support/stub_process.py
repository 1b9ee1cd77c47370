"""The stub server in a process of its own, which outlives a collector that is killed."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import ROOT


class StubProcess:
    """A server that logs every reply whose last byte it wrote."""

    def __init__(self, log: Path, *options: str) -> None:
        command = [sys.executable, str(ROOT / "tests" / "support" / "runner_stub.py"), *options]
        self.log = log
        self._process = subprocess.Popen(
            [*command, "--log", str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        """Its address for chats."""
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """End it by the end of its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()
