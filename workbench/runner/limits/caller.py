"""The caller of a provider: limits concurrency, retries failures, and returns errors as data."""

import asyncio
import contextlib
import datetime as dt
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.limits.backoff import Backoff
from workbench.runner.limits.machine_time import MachineClock
from workbench.runner.limits.model_queue import OVERLOAD, ModelQueue
from workbench.runner.limits.progress import ModelState
from workbench.runner.providers import broken_requests, ratelimits
from workbench.runner.providers.protocol import (
    FATAL,
    UNREACHABLE,
    CallRefused,
    Provider,
    Reply,
    Request,
    StreamBroken,
)

if TYPE_CHECKING:
    from workbench.runner.energy.watch import Watch

DETERMINISTIC = frozenset({"http_500", "stream_error", "bad_response"})
_SAME = 3


class _Tries:
    """The tries of one call so far: failures, waits and machine time."""

    def __init__(self) -> None:
        self.failures = 0
        self.waited_s = 0.0
        self.queued_s = 0.0
        self.share_s = 0.0  # machine time of all requests
        self.last_s = 0.0  # machine time of the last request
        self._message = ""  # of the last failure
        self._same = 0  # failures in a row with this message
        self._answered = 0

    def fail(self, error: ProviderError, n_answered: int) -> None:
        """Count a failure; `n_answered` calls of the model were answered by then."""
        self.failures += error.n_sent if isinstance(error, StreamBroken) else 1
        if str(error) != self._message:
            self._message = str(error)
            self._same = 0
            self._answered = n_answered
        self._same += 1

    def is_hopeless(self, error: ProviderError, n_answered: int) -> bool:
        """Whether this request keeps failing in one way while other calls are answered."""
        deterministic = error.kind in DETERMINISTIC and self._same >= _SAME
        return deterministic and n_answered >= self._answered + self._same


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Caller:
    """Sends calls to one provider with one key; each model has a queue of its own.

    Attributes:
        backoff: the waits between tries; may be replaced while calls are in flight.
        provider: the provider.
        states: state of each model that has got requests, updated in place.
        watch: the meters of this machine, where the model runs on it.
        fatal: errors that every further request would get, by model; by None where it holds for all
            models. No request is sent any more then.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        slots: int,
        backoff: Backoff,
        rng: random.Random,
        machine: str | None = None,
        start: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], dt.datetime] = _now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Share `slots` concurrent requests among all models.

        Args:
            provider: the provider.
            slots: the most concurrent requests.
            backoff: the waits between tries.
            rng: randomness of the jitter of waits.
            machine: the machine whose time is apportioned.
            start: initial concurrency of a model's window; None starts with all slots, which suits
                a server of one's own.
            clock: monotonic seconds.
            now: the time of day in UTC.
            sleep: waits.
        """
        self.provider, self.backoff, self._rng = provider, backoff, rng
        self._slots, self._start = slots, start
        self._machine, self._shares = machine, MachineClock()
        self._clock, self._now, self._sleep = clock, now, sleep
        self._queues: dict[str, ModelQueue] = {}
        self.watch: Watch | None = None
        self.fatal: dict[str | None, ProviderError] = {}

    @property
    def provider_name(self) -> str:
        """The provider's name in records and price sheets."""
        return self.provider.name

    @property
    def states(self) -> list[ModelState]:
        """The states of the models that have got requests."""
        return [queue.state for queue in self._queues.values()]

    async def count_tokens(self, text: str) -> int | None:
        """Count with the provider's own tokenizer; None where it offers none."""
        return await self.provider.count_tokens(text)

    def resize(self, slots: int) -> None:
        """Change the number of concurrent requests; those in flight continue."""
        self._slots = slots
        for queue in self._queues.values():
            queue.resize(slots)
        self._pump()

    async def ask(self, request: Request, _role: str) -> tuple[Reply, ProviderError | None]:
        """Send a request until the provider answers or a retry cannot help."""
        queue, tries = self._queue_of(request.model), _Tries()
        try:
            while True:
                reply, error = await self._once(queue, request, tries)
                wait = self._wait_s(queue, error, tries)
                self._pump()
                if wait is None:
                    break
                self._lose(request, error, tries)
                queue.retrying(tries)
                await self._sleep(wait)
                tries.waited_s += wait
        finally:
            queue.ended(tries)
        silent = reply.call.n_retries or 0  # retries that the provider made itself
        retries = tries.failures + silent if error is None else max(tries.failures - 1, 0)
        extra: dict[str, object] = {
            "queue_s": tries.queued_s,
            "n_retries": retries,
            "retry_wait_s": tries.waited_s,
        }
        if self._machine is not None:
            extra |= {"machine": self._machine, "machine_s": tries.share_s}
        return self._finish(request, reply, error, extra), error

    async def _once(
        self, queue: ModelQueue, request: Request, tries: _Tries
    ) -> tuple[Reply, ProviderError | None]:
        """Wait for a permit and send the request once."""
        entered_s = self._clock()
        permit = await queue.enter(request)
        fatal = self.fatal.get(request.model) or self.fatal.get(None)
        if fatal is not None:
            queue.leave(permit, None, None)
            self._pump()
            return Reply(), fatal
        sent_s = self._clock()
        tries.queued_s += sent_s - entered_s
        begun = self._shares.begin(sent_s)
        reply: Reply | None = None
        error: ProviderError | None = None
        try:
            with (
                ratelimits.listening(lambda limits: queue.update_limits(permit, limits)),
                self._watched(),
            ):
                reply = await self.provider.generate(request)
        except ProviderError as caught:
            error = caught
            if isinstance(caught, ProviderRejected) and caught.kind in FATAL:
                of = None if caught.kind in UNREACHABLE else request.model
                self.fatal[of] = ProviderRejected(str(caught), kind=caught.kind)
        finally:
            tries.last_s = self._shares.end(begun, self._clock())
            tries.share_s += tries.last_s
            queue.leave(permit, reply, error)
            if reply is None and error is None:  # cancelled
                self._pump()
        return reply or Reply(), error

    def _watched(self) -> contextlib.AbstractContextManager[object]:
        """Report to the meters when this request is in flight."""
        if self.watch is None:
            return contextlib.nullcontext()
        return self.watch.request(stepped=hasattr(self.provider, "on_step"))

    def _wait_s(
        self, queue: ModelQueue, error: ProviderError | None, tries: _Tries
    ) -> float | None:
        """Return the wait before the next try, None for no other; Retry-After pauses the queue."""
        if not isinstance(error, ProviderUnavailable):
            return None
        tries.fail(error, queue.n_answered)
        if tries.is_hopeless(error, queue.n_answered):
            return None
        retry_after_s = error.retry_after_s
        if retry_after_s and error.kind in OVERLOAD:
            queue.pause(min(retry_after_s, self.backoff.most_s))
        return self.backoff.wait_s(tries.failures, tries.waited_s, retry_after_s, self._rng)

    def _lose(self, request: Request, error: ProviderError | None, tries: _Tries) -> None:
        """Report a broken request that is sent again, if it may have been billed."""
        if not isinstance(error, StreamBroken):
            return
        extra = self._failed(request, error)
        if self._machine is not None:
            extra |= {"machine": self._machine, "machine_s": tries.last_s}
        call = msgspec.structs.replace(error.reply.call, **extra)
        if broken_requests.may_be_billed(call):
            tries.share_s -= tries.last_s  # the broken request has a record of its own
            broken_requests.tell(call)

    def _failed(self, request: Request, error: ProviderError) -> dict[str, object]:
        """Return the fields of a failed call."""
        return {
            "provider": self.provider.name,
            "model": request.model,
            "stop_reason": "error",
            "error_type": error.kind,
            "error_message": str(error),
        }

    def _queue_of(self, model: str) -> ModelQueue:
        queue = self._queues.get(model)
        if queue is None:
            state = ModelState(provider=self.provider.name, model=model, cap=self._slots)
            queue = self._queues[model] = ModelQueue(
                state,
                start=self._start,
                has_room=self._has_room,
                clock=self._clock,
                now=self._now,
                sleep=self._sleep,
            )
        return queue

    def _has_room(self) -> bool:
        return sum(queue.state.in_flight for queue in self._queues.values()) < self._slots

    def _pump(self) -> None:
        for queue in self._queues.values():
            queue.pump()

    def _finish(
        self, request: Request, reply: Reply, error: ProviderError | None, extra: dict[str, object]
    ) -> Reply:
        if isinstance(error, StreamBroken | CallRefused):
            reply = error.reply
        if error is not None:
            extra |= self._failed(request, error)
        return msgspec.structs.replace(reply, call=msgspec.structs.replace(reply.call, **extra))
