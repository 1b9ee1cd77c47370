"""A collection's progress on stderr: a bar where a person looks, else a line every ten seconds."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from workbench.cli.options import talk
from workbench.tui.formats import UNKNOWN, count, decimal, usd

if TYPE_CHECKING:
    from workbench.runner import Progress as Collected

LOG_EVERY_S = 10.0


def clock(seconds: float | None) -> str:
    """Write a duration as 1:02:03; unknown is a dash."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def line(p: "Collected") -> str:
    """Say how far it is, how fast, how long yet, and what was spent."""
    rate = UNKNOWN if p.rate_per_s is None else f"{decimal(p.rate_per_s)}/s"
    failed = f", {count(p.failed)} failed" if p.failed else ""
    done = count(p.before + p.done)
    return (
        f"{done} of {count(p.planned)} ({p.in_flight} in flight{failed}) · {rate} · "
        f"{clock(p.eta_s)} left · {usd(p.spent_usd)}"
    )


class Bar:
    """Shows what the runner tells."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.person = console.is_terminal
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self.progress = Progress(*columns, console=console, disable=not self.person)
        self.task = self.progress.add_task("starting", total=None)
        self.progress.start()
        self.logged = time.monotonic()

    def show(self, p: "Collected") -> None:
        """Take the newest state."""
        if self.person:
            done = p.before + p.done
            self.progress.update(self.task, total=p.planned, completed=done, description=line(p))
        elif time.monotonic() - self.logged >= LOG_EVERY_S:
            self.logged = time.monotonic()
            talk(line(p))

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.progress.stop()
