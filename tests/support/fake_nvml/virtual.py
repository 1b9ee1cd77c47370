"""Time that passes without waiting: coroutines sleep on it, and a meter is sampled as it goes."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualTime:
    """A clock that jumps to whatever is slept for next, in order; ticks go on in between."""

    def __init__(self, *, tick_s: float, start_s: float = 1000.0) -> None:
        self.now = start_s
        self.on_tick: Callable[[], object] = lambda: None
        self._tick_s, self._next = tick_s, start_s
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.now + seconds, next(self._order), future))
        await future

    def _advance(self, to_s: float) -> None:
        while self._next <= to_s:
            self.now = max(self.now, self._next)
            self.on_tick()
            self._next += self._tick_s
        self.now = max(self.now, to_s)

    async def run(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines until all are done; nothing else may make them wait."""
        tasks = [asyncio.ensure_future(c) for c in coroutines]
        while not all(task.done() for task in tasks):
            for _ in range(4):  # let everybody that can go on reach the next sleep
                await asyncio.sleep(0)
            if self._waiting:
                at, _, future = heapq.heappop(self._waiting)
                self._advance(at)
                if not future.done():
                    future.set_result(None)
        return [task.result() for task in tasks]
