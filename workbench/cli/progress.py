"""A collection's progress on stderr: a bar where a person looks, else a line every ten seconds."""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from workbench.cli.options import talk
from workbench.formats import UNKNOWN, clock, count, decimal, usd

if TYPE_CHECKING:
    from workbench.runner import Progress as Collected
    from workbench.runner.control.protocol import RunState

LOG_EVERY_S = 10.0


def line(p: "Collected | RunState") -> str:
    """Say how far it is, how fast, how long yet, and what was spent."""
    rate = UNKNOWN if p.rate_per_s is None else f"{decimal(p.rate_per_s)}/s"
    failed = f", {count(p.failed)} failed" if p.failed else ""
    done = count(p.before + p.done)
    return (
        f"{done} of {count(p.planned)} ({p.in_flight} in flight{failed}) · {rate} · "
        f"{clock(p.eta_s)} left · {usd(p.spent_usd)}"
    )


def with_trouble(p: "Collected | RunState") -> str:
    """Say it with what holds it back, where something does."""
    status = "" if p.status == "running" else f"{p.status}: "
    trouble = p.trouble(dt.datetime.now(dt.UTC))
    return status + line(p) + (f" · {trouble}" if trouble else "")


class Bar:
    """Shows what the runner tells."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.person = self.console.is_terminal
        self.logged = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self.progress = Progress(*columns, console=self.console, disable=not self.person)
        self.task = self.progress.add_task("starting", total=None)
        self.progress.start()

    def show(self, p: "Collected") -> None:
        """Take the newest state."""
        if self.person:
            done = p.before + p.done
            self.progress.update(
                self.task, total=p.planned, completed=done, description=with_trouble(p)
            )
        elif time.monotonic() - self.logged >= LOG_EVERY_S:
            self.logged = time.monotonic()
            talk(with_trouble(p))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to somebody else for a while."""
        self.progress.stop()
        try:
            yield
        finally:
            self._begin()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.progress.stop()
