"""What a collection asks before it spends: warnings beforehand, and the question after a pilot."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from workbench.cli.options import talk

if TYPE_CHECKING:
    from workbench.cli.progress import Bar
    from workbench.runner import Work
    from workbench.runner.execution.controller import Pilot
    from workbench.store import Store


class Asking:
    """Knows whether to go on, or whom to ask."""

    def __init__(
        self,
        store: "Store",
        work: "Work",
        *,
        yes: bool,
        n_items: int | None,
        limits: Mapping[str, float],
    ) -> None:
        """Take what was typed: `n_items` of a pilot, None for none; `yes` answers the question; budgets."""
        self._store, self._work, self._yes, self._n_items = store, work, yes, n_items
        self.limits = limits

    def warn(self) -> None:
        """Say beforehand which budgets will not do."""
        from workbench.cli.estimates import estimate_of
        from workbench.runner.planning.plan_budget import budgets_of

        if not budgets_of(self._work.plan) and not self.limits:
            return
        for warning in estimate_of(self._store, self._work, self.limits).warnings:
            talk(f"note: {warning}")

    def pilot(self, bar: "Bar", ingest: Callable[[], Awaitable[None]]) -> "Pilot | None":
        """Make the pilot that was typed; `ingest` takes in what it wrote."""
        from workbench.runner.execution.controller import Pilot

        if self._n_items is None:
            return None
        return Pilot(self._n_items, lambda: self._go_on(bar, ingest))

    async def _go_on(self, bar: "Bar", ingest: Callable[[], Awaitable[None]]) -> bool:
        """Show what the rest will take, and ask."""
        from workbench.cli import estimates

        await ingest()
        found = await asyncio.to_thread(estimates.estimate_of, self._store, self._work, self.limits)
        with bar.aside():
            talk(f"the pilot is made; {estimates.count_text(found.missing)} attempts are left:")
            estimates.show(found, on_stderr=True)
            if self._yes:
                return True
            if not sys.stdin.isatty():
                talk("nobody can answer here; the same command with --yes goes on")
                return False
            talk("go on? [y/N] ")
            return (await _typed_line()).strip().lower() in {"y", "yes"}


async def _typed_line() -> str:
    """Wait for a line without a thread: one that waits for the terminal would outlive Ctrl-C."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin)
