"""Pilot prompt: budget warnings before a launch and the question after its first items."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from workbench.cli.options import print_message

if TYPE_CHECKING:
    from workbench.cli.progress import Bar
    from workbench.runner import Work
    from workbench.runner.execution.controller import Pilot
    from workbench.store import Store


class PilotPrompt:
    """Warns of budgets that are too small, and asks after a pilot whether to continue."""

    def __init__(
        self,
        store: "Store",
        work: "Work",
        *,
        yes: bool,
        n_items: int | None,
        limits: Mapping[str, float],
    ) -> None:
        """Bind to a launch.

        Args:
            store: the store that the estimate is made from.
            work: the attempts of the plan.
            yes: continue after the pilot without a question.
            n_items: items of the pilot; None runs the plan without a pilot.
            limits: budgets of this launch by name.
        """
        self._store = store
        self._work = work
        self._yes = yes
        self._n_items = n_items
        self.limits = limits

    def warn(self) -> None:
        """Print the budgets that the estimate exceeds, before anything is sent."""
        from workbench.cli.estimates import estimate_of
        from workbench.runner.planning.plan_budget import budgets_of

        if not budgets_of(self._work.plan) and not self.limits:
            return
        for warning in estimate_of(self._store, self._work, self.limits).warnings:
            print_message(f"note: {warning}")

    def pilot(self, bar: "Bar", ingest: Callable[[], Awaitable[None]]) -> "Pilot | None":
        """Make the pilot, if one was typed; `ingest` imports its spool into the store."""
        from workbench.runner.execution.controller import Pilot

        if self._n_items is None:
            return None
        return Pilot(self._n_items, lambda: self._confirm(bar, ingest))

    async def _confirm(self, bar: "Bar", ingest: Callable[[], Awaitable[None]]) -> bool:
        """Show the estimate of the remaining attempts, and ask whether to continue."""
        from workbench.cli import estimates

        await ingest()
        preflight = await asyncio.to_thread(
            estimates.estimate_of, self._store, self._work, self.limits
        )
        with bar.suspended():
            missing = estimates.count_text(preflight.missing)
            print_message(f"the pilot is finished; {missing} attempts are left:")
            estimates.show(preflight, on_stderr=True)
            if self._yes:
                return True
            if not sys.stdin.isatty():
                print_message(
                    "stopped after the pilot: stdin is no terminal, so you cannot be asked; to"
                    " run the rest, give the same command with --yes"
                )
                return False
            print_message("continue? [y/N] ")
            return (await _read_line()).strip().lower() in {"y", "yes"}


async def _read_line() -> str:
    """Read a line from stdin on the loop: a thread that waits for stdin would outlive Ctrl-C."""
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
