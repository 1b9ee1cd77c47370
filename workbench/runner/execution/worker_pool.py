"""A pool of asyncio workers whose size can change while it runs."""

import asyncio
from collections.abc import Awaitable, Callable


class WorkerPool:
    """Runs workers that repeat one step until it returns False; the first fault ends them all.

    Attributes:
        wanted: the size of the pool; surplus workers end after their current step.
        present: the number of running workers.
    """

    def __init__(self, step: Callable[[], Awaitable[bool]], *, ramp_s: float) -> None:
        """Prepare an empty pool.

        Args:
            step: the unit of work; returns False where there is nothing left to do.
            ramp_s: seconds between the starts of workers that are added together.
        """
        self._step = step
        self._ramp_s = ramp_s
        self.wanted = 0
        self.present = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._fault: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether all workers have ended."""
        return self._ended.is_set()

    def resize(self, wanted: int, most_new: int) -> None:
        """Set the size of the pool, and start at most `most_new` workers now."""
        self.wanted = wanted
        for place in range(min(wanted - self.present, most_new)):
            self.present += 1
            worker = asyncio.create_task(self._run(place))
            self._workers.add(worker)
            worker.add_done_callback(self._on_done)

    async def run(self, *others: asyncio.Task[None]) -> None:
        """Wait until all workers have ended; raises the first fault of a worker or other task."""
        if not self.present:
            self._ended.set()
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, *others}, return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                if other.done():
                    other.result()
            if self._fault is not None:
                raise self._fault
        finally:
            for task in (ended, *others, *self._workers):
                task.cancel()
            await asyncio.gather(ended, *others, *self._workers, return_exceptions=True)

    async def _run(self, place: int) -> None:
        try:
            # simultaneous starts delay one another, which distorts timings, and trip rate limits
            await asyncio.sleep(place * self._ramp_s)
            while self.present <= self.wanted and await self._step():
                pass
        finally:
            self.present -= 1

    def _on_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        # read from every worker, as asyncio logs exceptions that are never retrieved
        fault = None if worker.cancelled() else worker.exception()
        self._fault = self._fault or fault
        if not self.present or self._fault is not None:
            self._ended.set()
