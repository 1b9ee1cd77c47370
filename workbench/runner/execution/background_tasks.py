"""Work that follows an attempt after its worker has gone on: a trace that waits for the counters of a meter."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundTasks:
    """Tasks beside the workers; none is forgotten, and the first fault of one ends the run."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._fault: BaseException | None = None

    def __len__(self) -> int:
        """Count those that go on."""
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something follow."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and self._fault is None and (fault := task.exception()) is not None:
            self._fault = fault
            self._failed.set()

    async def watch(self) -> None:
        """Raise the first fault when it happens; waits until cancelled where there is none."""
        await self._failed.wait()
        self._raise()

    async def drain(self) -> None:
        """Wait for all of them; then raise the first fault, if nobody has."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        self._raise()

    def _raise(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
