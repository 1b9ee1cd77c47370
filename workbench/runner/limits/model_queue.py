"""The queue of calls to one model with one key: which may be sent next, and when."""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec

from workbench.errors import ProviderError, ProviderRejected
from workbench.runner.limits.adaptive import Window
from workbench.runner.limits.buckets import Buckets, Cost, Sizes
from workbench.runner.limits.progress import ModelState
from workbench.runner.providers.protocol import Reply, Request
from workbench.runner.providers.ratelimits import RateLimit

OVERLOAD = frozenset({"http_429", "http_503", "http_529"})
_MOST_S = 60.0  # longest wait for a bucket, as headers may be misread and a refusal tells more
_SOON_S = 1e-4
_FREE = Cost()


class SendPermit(msgspec.Struct):
    """The permission to send one request.

    Attributes:
        number: of the request, in the order of sending.
        cost: its estimated cost.
    """

    number: int
    cost: Cost


class ModelQueue:
    """A FIFO queue in front of a window, the server's rate limits and its Retry-After pauses.

    Attributes:
        state: the state of the model, for display.
        n_answered: calls that were answered.
    """

    def __init__(
        self,
        state: ModelState,
        *,
        start: int | None,
        has_room: Callable[[], bool],
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Create an empty queue.

        Args:
            state: updated in place.
            start: initial concurrency; None: the cap.
            has_room: whether the models that share the cap leave room for a request.
            clock: monotonic seconds.
            now: the time of day in UTC.
            sleep: waits.
        """
        self.state = state
        self.window = Window(state.cap, start=start)
        self.buckets = Buckets()
        self.sizes = Sizes()
        self._has_room = has_room
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._waiting: deque[tuple[asyncio.Future[SendPermit], Request]] = deque()
        self._resume_s = 0.0
        self._bucket_due_s = 0.0
        self._timer: asyncio.Task[None] | None = None
        self._timer_s = 0.0
        self._retrying: dict[object, dt.datetime] = {}
        self.n_answered = 0
        self._show()

    async def enter(self, request: Request) -> SendPermit:
        """Wait for a permit."""
        if not self._waiting and (permit := self._try(request)):
            return permit
        future: asyncio.Future[SendPermit] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, request))
        self.state.waiting += 1
        self.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(future.result(), None, None)
            raise
        finally:
            self.state.waiting -= 1

    def leave(self, permit: SendPermit, reply: Reply | None, error: ProviderError | None) -> None:
        """Return a permit with the reply or error; a cancelled call has neither."""
        waiting, number = any(not f.done() for f, _ in self._waiting), permit.number
        self.state.in_flight -= 1
        written: int | None = None
        if error is not None and not isinstance(error, ProviderRejected):
            self._failed(number, error)
        elif error is not None:
            self.window.answered(number, None, full=False)
        elif reply is not None:
            call = reply.call
            self.n_answered += 1
            written = call.output_tokens
            if written is not None:
                self.sizes.add(written)
            latency_s = call.e2e_s if call.ttft_s is None else call.ttft_s
            self.window.answered(number, latency_s, full=waiting)
        self.buckets.end(number, written)
        self._show()

    def pump(self) -> None:
        """Give permits to the waiting calls that may be sent now."""
        while self._waiting:
            future, request = self._waiting[0]
            if not future.done():
                permit = self._try(request)
                if permit is None:
                    return
                future.set_result(permit)
            self._waiting.popleft()

    def pause(self, seconds: float) -> None:
        """Send no requests for some seconds, as the server asked."""
        until_s = self._clock() + seconds
        if until_s > self._resume_s:
            self._resume_s = until_s
            self.state.paused_until = self._now() + dt.timedelta(seconds=seconds)

    def update_limits(self, permit: SendPermit, limits: Sequence[RateLimit]) -> None:
        """Update the buckets from the headers of a request's answer."""
        self.buckets.update(permit.number, limits, self._clock())

    def resize(self, cap: int) -> None:
        """Change the cap."""
        self.state.cap = cap
        self.window.resize(cap)
        self._show()

    def retrying(self, call: object) -> None:
        """Note that a call failed and is tried again."""
        self._retrying.setdefault(call, self._now())
        self.state.n_retries += 1
        self._show_retrying()

    def ended(self, call: object) -> None:
        """Note that a call is over."""
        if self._retrying.pop(call, None) is not None:
            self._show_retrying()

    def _try(self, request: Request) -> SendPermit | None:
        """Return a permit if the request may be sent now; else set the timer, if time decides."""
        if self.state.in_flight >= int(self.window.limit) or not self._has_room():
            return None
        at_s = self._clock()
        cost = self._cost(request) if self.buckets else _FREE
        wait_s = max(self._resume_s - at_s, self._bucket_wait_s(cost, at_s))
        if wait_s > _SOON_S:
            self._wake_in(wait_s)
            return None
        self._bucket_due_s = 0.0
        if self.state.paused_until is not None:
            self.state.paused_until = None
            self._show()
        number = self.window.send()
        self.buckets.take(number, cost)
        self.state.in_flight += 1
        return SendPermit(number, cost)

    def _bucket_wait_s(self, cost: Cost, at_s: float) -> float:
        if not self.buckets or not (wait_s := self.buckets.wait_s(cost, at_s)):
            return 0.0
        if not self._bucket_due_s:
            self._bucket_due_s = at_s + _MOST_S
        wait_s = min(wait_s, self._bucket_due_s - at_s)
        if wait_s > 1.0:
            self.state.paused_until = self._now() + dt.timedelta(seconds=wait_s)
            self.state.why = f"the server's {self.buckets.scarcest(cost, at_s)} are used up"
        return wait_s

    def _cost(self, request: Request) -> Cost:
        texts = [request.prompt or "", *_texts(request.messages)]
        n_bytes = sum(len(t) if t.isascii() else len(t.encode()) for t in texts)
        most = request.sampling.get("max_tokens")
        return self.sizes.cost(n_bytes, most if isinstance(most, int) else None)

    def _failed(self, number: int, error: ProviderError) -> None:
        self.state.last_error, self.state.last_error_at = error.kind, self._now()
        if error.kind in OVERLOAD:
            self.state.n_overloads += 1
            self.window.overloaded(number, error.kind)
        else:
            self.window.troubled(number, error.kind)

    def _wake_in(self, seconds: float) -> None:
        at_s = self._clock() + seconds
        if self._timer is not None:
            if self._timer_s <= at_s + _SOON_S:
                return
            self._timer.cancel()
        self._timer_s = at_s
        self._timer = asyncio.get_running_loop().create_task(self._wake(seconds))

    async def _wake(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._timer = None
        self.pump()

    def _show(self) -> None:
        self.state.limit, self.state.why = int(self.window.limit), self.window.why

    def _show_retrying(self) -> None:
        self.state.retrying = len(self._retrying)
        self.state.retrying_since = next(iter(self._retrying.values()), None)


def _texts(messages: Sequence[object]) -> Iterator[str]:
    """Yield the texts of a chat; other contents in their written form."""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else message
        yield content if isinstance(content, str) else repr(content)
