"""Asks a provider: as many at once as it bears, again where that may help; failures come back as data."""

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


class _Took:
    """What the tries of one call took so far, and whether they all fail in one way."""

    def __init__(self) -> None:
        self.failures, self.waited_s, self.queued_s = 0, 0.0, 0.0
        self.share_s = self.last_s = 0.0  # of the machine, by all requests and by the last
        self._said, self._same, self._answered = "", 0, 0

    def fail(self, error: ProviderError, n_answered: int) -> None:
        """Note a failure, and how many calls of the model were answered by then."""
        self.failures += error.n_sent if isinstance(error, StreamBroken) else 1
        if str(error) != self._said:
            self._said, self._same, self._answered = str(error), 0, n_answered
        self._same += 1

    def is_hopeless(self, error: ProviderError, n_answered: int) -> bool:
        """Say whether this request alone brings the server down: the same fault, while others are answered."""
        deterministic = error.kind in DETERMINISTIC and self._same >= _SAME
        return deterministic and n_answered >= self._answered + self._same


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Caller:
    """Asks one provider with one key; each of its models has a queue of its own.

    Attributes:
        backoff: the waits between tries; may be replaced while calls are under way.
        provider: who answers.
        states: how each model that was asked stands, kept up to date in place.
        watch: the meters of this machine, where the model runs on it.
        fatal: what every further request would meet, by model, and by None where it holds for all
            of them: none is sent any more.
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
        """Share `slots` requests at a time over all models.

        Args:
            provider: who answers.
            slots: the most requests under way at once.
            backoff: the waits between tries.
            rng: for the jitter of waits.
            machine: the one whose time is apportioned.
            start: how many at once a model's window begins with; None begins with all slots, which
                is right for a server of one's own.
            clock: monotonic seconds.
            now: the time of day in UTC.
            sleep: waits.
        """
        self.provider, self.backoff, self._rng = provider, backoff, rng
        self._slots, self._start = slots, start
        self._machine, self._shares = machine, MachineClock()
        self._clock, self._now, self._sleep = clock, now, sleep
        self._lanes: dict[str, ModelQueue] = {}
        self.watch: Watch | None = None
        self.fatal: dict[str | None, ProviderError] = {}

    @property
    def provider_name(self) -> str:
        """The provider's name in records and price sheets."""
        return self.provider.name

    @property
    def states(self) -> list[ModelState]:
        """How the models stand that were asked so far."""
        return [queue.state for queue in self._lanes.values()]

    async def count_tokens(self, text: str) -> int | None:
        """Count with the provider's own tokenizer; None where it offers none."""
        return await self.provider.count_tokens(text)

    def resize(self, slots: int) -> None:
        """Set another number of requests at a time; those under way go on."""
        self._slots = slots
        for queue in self._lanes.values():
            queue.resize(slots)
        self._pump()

    async def ask(self, request: Request, _role: str) -> tuple[Reply, ProviderError | None]:
        """Ask until the provider answers or it is no use; the call tells what it took."""
        queue, took = self._lane(request.model), _Took()
        try:
            while True:
                reply, error = await self._once(queue, request, took)
                wait = self._wait_s(queue, error, took)
                self._pump()
                if wait is None:
                    break
                self._lose(request, error, took)
                queue.retrying(took)
                await self._sleep(wait)
                took.waited_s += wait
        finally:
            queue.ended(took)
        silent = reply.call.n_retries or 0  # the provider asked again itself
        retries = took.failures + silent if error is None else max(took.failures - 1, 0)
        extra: dict[str, object] = {
            "queue_s": took.queued_s,
            "n_retries": retries,
            "retry_wait_s": took.waited_s,
        }
        if self._machine is not None:
            extra |= {"machine": self._machine, "machine_s": took.share_s}
        return self._finish(request, reply, error, extra), error

    async def _once(
        self, queue: ModelQueue, request: Request, took: "_Took"
    ) -> tuple[Reply, ProviderError | None]:
        """Wait for a seat and ask once."""
        asked = self._clock()
        seat = await queue.enter(request)
        fatal = self.fatal.get(request.model) or self.fatal.get(None)
        if fatal is not None:
            queue.leave(seat, None, None)
            self._pump()
            return Reply(), fatal
        sent = self._clock()
        took.queued_s += sent - asked
        begun = self._shares.begin(sent)
        reply: Reply | None = None
        error: ProviderError | None = None
        try:
            with ratelimits.listening(lambda told: queue.heard(seat, told)), self._watched():
                reply = await self.provider.generate(request)
        except ProviderError as caught:
            error = caught
            if isinstance(caught, ProviderRejected) and caught.kind in FATAL:
                of = None if caught.kind in UNREACHABLE else request.model
                self.fatal[of] = ProviderRejected(str(caught), kind=caught.kind)
        finally:
            took.last_s = self._shares.end(begun, self._clock())
            took.share_s += took.last_s
            queue.leave(seat, reply, error)
            if reply is None and error is None:  # cancelled
                self._pump()
        return reply or Reply(), error

    def _watched(self) -> contextlib.AbstractContextManager[object]:
        """Let the meters know when this request is under way."""
        if self.watch is None:
            return contextlib.nullcontext()
        return self.watch.request(stepped=hasattr(self.provider, "on_step"))

    def _wait_s(
        self, queue: ModelQueue, error: ProviderError | None, took: "_Took"
    ) -> float | None:
        """Say how long a failed call waits, and keep the others from sending while the server asks for it."""
        if not isinstance(error, ProviderUnavailable):
            return None
        took.fail(error, queue.n_answered)
        if took.is_hopeless(error, queue.n_answered):
            return None
        asked_s = error.retry_after_s
        if asked_s and error.kind in OVERLOAD:
            queue.pause(min(asked_s, self.backoff.most_s))
        return self.backoff.wait_s(took.failures, took.waited_s, asked_s, self._rng)

    def _lose(self, request: Request, error: ProviderError | None, took: "_Took") -> None:
        """Tell of a request that broke off and is made again, if it may have been billed."""
        if not isinstance(error, StreamBroken):
            return
        extra = self._failed(request, error)
        if self._machine is not None:
            extra |= {"machine": self._machine, "machine_s": took.last_s}
        call = msgspec.structs.replace(error.reply.call, **extra)
        if broken_requests.may_be_billed(call):
            took.share_s -= took.last_s  # it has a row of its own
            broken_requests.tell(call)

    def _failed(self, request: Request, error: ProviderError) -> dict[str, object]:
        """Give what a call says that failed."""
        return {
            "provider": self.provider.name,
            "model": request.model,
            "stop_reason": "error",
            "error_type": error.kind,
            "error_message": str(error),
        }

    def _lane(self, model: str) -> ModelQueue:
        queue = self._lanes.get(model)
        if queue is None:
            state = ModelState(provider=self.provider.name, model=model, cap=self._slots)
            queue = self._lanes[model] = ModelQueue(
                state,
                start=self._start,
                has_room=self._has_room,
                clock=self._clock,
                now=self._now,
                sleep=self._sleep,
            )
        return queue

    def _has_room(self) -> bool:
        return sum(queue.state.in_flight for queue in self._lanes.values()) < self._slots

    def _pump(self) -> None:
        for queue in self._lanes.values():
            queue.pump()

    def _finish(
        self, request: Request, reply: Reply, error: ProviderError | None, extra: dict[str, object]
    ) -> Reply:
        if isinstance(error, StreamBroken | CallRefused):
            reply = error.reply
        if error is not None:
            extra |= self._failed(request, error)
        return msgspec.structs.replace(reply, call=msgspec.structs.replace(reply.call, **extra))
