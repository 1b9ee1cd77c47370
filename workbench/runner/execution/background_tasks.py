"""Background tasks of a launch: traces that are written once the energy counters have updated."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundTasks:
    """A set of asyncio tasks that all finish before the run does; the first fault ends the run."""

    def __init__(self) -> None:
        """Start with no tasks."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._fault: BaseException | None = None

    def __len__(self) -> int:
        """Return the number of tasks that have not finished."""
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and self._fault is None and (fault := task.exception()) is not None:
            self._fault = fault
            self._failed.set()

    async def watch(self) -> None:
        """Wait for the first fault of a task and raise it."""
        await self._failed.wait()
        self._raise()

    async def drain(self) -> None:
        """Wait for all tasks; then raise the first fault unless `watch` has raised it."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        self._raise()

    def _raise(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
