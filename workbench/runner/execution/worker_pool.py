"""Workers that go on as long as there is something to do: as many as are wanted, which may change meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable


class WorkerPool:
    """Runs so many workers at once; each takes step after step. The first fault ends them all.

    Attributes:
        wanted: workers that may be there; one that is too many leaves after its step.
        present: workers that are there.
    """

    def __init__(self, step: Callable[[], Awaitable[bool]], *, ramp_s: float) -> None:
        """Prepare.

        Args:
            step: does one thing; False where there is nothing left to do.
            ramp_s: seconds between the beginnings of workers that come together.
        """
        self._step, self._ramp_s = step, ramp_s
        self.wanted = self.present = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._fault: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether all workers have left."""
        return self._ended.is_set()

    def resize(self, wanted: int, most_new: int) -> None:
        """Set how many are wanted; at most `most_new`, for whom there is work, come at once."""
        self.wanted = wanted
        for place in range(min(wanted - self.present, most_new)):
            self.present += 1
            worker = asyncio.create_task(self._run(place))
            self._workers.add(worker)
            worker.add_done_callback(self._left)

    async def run(self, *others: asyncio.Task[None]) -> None:
        """Wait until all workers have left; a fault of theirs, or of one of the others, is raised."""
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
            # all at once would delay one another, and so be timed wrongly, or trip a rate limit
            await asyncio.sleep(place * self._ramp_s)
            while self.present <= self.wanted and await self._step():
                pass
        finally:
            self.present -= 1

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        # asked of every worker: asyncio prints the faults that nobody asks for
        fault = None if worker.cancelled() else worker.exception()
        self._fault = self._fault or fault
        if not self.present or self._fault is not None:
            self._ended.set()
