"""The app in a real terminal: however it ends, the terminal is as it was."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tui_records import everything
from workbench.store import open_store

MODES_ON = ("\x1b[?1049h", "\x1b[?1003h", "\x1b[?25l", "\x1b[?2004h")
MODES_OFF = {
    "\x1b[?1049": "l",
    "\x1b[?1003": "l",
    "\x1b[?1000": "l",
    "\x1b[?2004": "l",
    "\x1b[?25": "h",
}
LONGEST_S = 60.0


class Terminal:
    """A terminal with the app in it."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int, theirs: int) -> None:
        self.process, self.ours, self.theirs = process, ours, theirs
        self.said = ""

    def read(self, *awaited: str) -> str:
        """Read until everything awaited was said, or the process has ended and said all."""
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.said += os.read(self.ours, 1 << 16).decode(errors="replace")
            elif self.process.poll() is not None:
                return self.said
            if awaited and all(text in self.said for text in awaited):
                return self.said
        raise AssertionError(f"{awaited} did not come; {self.said[-400:]!r}")


@contextmanager
def terminal(*command: str, **environment: str) -> Iterator[Terminal]:
    """Run a command in a terminal of its own, as its controlling one."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (30, 100))
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"} | environment,
    )
    try:
        yield Terminal(process, ours, theirs)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


@pytest.fixture(scope="module")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to open."""
    path = tmp_path_factory.mktemp("terminal") / "traces.duckdb"
    open_store(path, create=True).ingest(everything(3))
    return path


def app(path: Path) -> tuple[str, ...]:
    """The command that opens the app."""
    return (sys.executable, "-m", "workbench", "tui", str(path))


def assert_restored(said: str) -> None:
    """Every mode was switched off last."""
    for mode, off in MODES_OFF.items():
        assert mode in said
        assert said[said.rindex(mode) + len(mode)] == off, mode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_restores_the_terminal(small_path: Path, number: signal.Signals) -> None:
    """Raw mode, alternate screen, mouse, paste and cursor; the exit status tells of the signal."""
    with terminal(*app(small_path)) as shown:
        before = termios.tcgetattr(shown.theirs)
        shown.read(*MODES_ON, "smol-135m")
        assert termios.tcgetattr(shown.theirs) != before

        shown.process.send_signal(number)
        status = shown.process.wait(LONGEST_S)
        assert_restored(shown.read())
        assert termios.tcgetattr(shown.theirs) == before
    assert status == -number


STUCK = """
import sys, time
from workbench.tui import run
from workbench.tui.explore import ExploreScreen

def stuck(self):
    print("STUCK", file=sys.__stderr__, flush=True)
    while True:
        time.sleep(0.05)

ExploreScreen.action_runs = stuck
run(sys.argv[1])
"""


def test_a_signal_restores_the_terminal_of_an_app_that_hangs(small_path: Path) -> None:
    """The event loop never comes to it: the handler does it by itself."""
    with terminal(sys.executable, "-c", STUCK, str(small_path)) as shown:
        before = termios.tcgetattr(shown.theirs)
        shown.read(*MODES_ON, "smol-135m")
        os.write(shown.ours, b"r")
        shown.read("STUCK")

        shown.process.send_signal(signal.SIGTERM)
        status = shown.process.wait(LONGEST_S)
        assert_restored(shown.read())
        assert termios.tcgetattr(shown.theirs) == before
    assert status == -signal.SIGTERM


def test_a_signal_ends_the_app_in_a_long_query(small_path: Path) -> None:
    """Nobody waits for what runs in threads."""
    query = "SELECT count(*) FROM range(100000000000) AS r(i) WHERE i % 7 = 3"
    with terminal(*app(small_path)) as shown:
        shown.read(*MODES_ON, "smol-135m")
        os.write(shown.ours, b":")
        shown.read("F5 runs")
        os.write(shown.ours, b"\x01" + b"\x0b" * 8 + query.encode())
        shown.read("range(")
        os.write(shown.ours, b"\x1b[15~")
        shown.read("running")

        began = time.monotonic()
        shown.process.send_signal(signal.SIGTERM)
        assert shown.process.wait(LONGEST_S) == -signal.SIGTERM
        assert time.monotonic() - began < LONGEST_S / 2
        assert_restored(shown.read())


def test_the_app_leaves_by_its_key_as_before(small_path: Path) -> None:
    """q ends it, with status 0."""
    with terminal(*app(small_path)) as shown:
        before = termios.tcgetattr(shown.theirs)
        shown.read(*MODES_ON, "smol-135m")
        os.write(shown.ours, b"q")
        assert shown.process.wait(LONGEST_S) == 0
        assert_restored(shown.read())
        assert termios.tcgetattr(shown.theirs) == before
