"""Progress of a collection on stderr: a bar on a terminal, else a line every ten seconds."""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from workbench.cli.options import print_message
from workbench.formats import UNKNOWN, clock, count, decimal, usd

if TYPE_CHECKING:
    from workbench.runner import Progress as RunProgress
    from workbench.runner.control.protocol import RunState

LOG_EVERY_S = 10.0


def line(p: "RunProgress | RunState") -> str:
    """Write attempts done, attempts a second, time left and dollars spent in one line."""
    rate = UNKNOWN if p.rate_per_s is None else f"{decimal(p.rate_per_s)}/s"
    failed = f", {count(p.failed)} failed" if p.failed else ""
    done = count(p.before + p.done)
    return (
        f"{done} of {count(p.planned)} ({p.in_flight} in flight{failed}) · {rate} · "
        f"{clock(p.eta_s)} left · {usd(p.spent_usd)}"
    )


def with_trouble(p: "RunProgress | RunState") -> str:
    """Write the line, with the status and what slows the run down, if anything does."""
    status = "" if p.status == "running" else f"{p.status}: "
    trouble = p.trouble(dt.datetime.now(dt.UTC))
    return status + line(p) + (f" · {trouble}" if trouble else "")


class Bar:
    """Progress bar of a collection; lines of a log where stderr is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.is_terminal = self.console.is_terminal
        self.last_log_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self.progress = Progress(*columns, console=self.console, disable=not self.is_terminal)
        self.task = self.progress.add_task("starting", total=None)
        self.progress.start()

    def show(self, p: "RunProgress") -> None:
        """Show the newest state; as a log line at most every `LOG_EVERY_S` seconds."""
        if self.is_terminal:
            done = p.before + p.done
            self.progress.update(
                self.task, total=p.planned, completed=done, description=with_trouble(p)
            )
        elif time.monotonic() - self.last_log_at >= LOG_EVERY_S:
            self.last_log_at = time.monotonic()
            print_message(with_trouble(p))

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Remove the bar while other code writes to the terminal."""
        self.progress.stop()
        try:
            yield
        finally:
            self._begin()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.progress.stop()
