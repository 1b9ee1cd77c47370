"""What holds a collection back: slots, retries with back-off, and a budget in USD."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from workbench.errors import ConfigError, ProviderError, ProviderUnavailable
from workbench.records import Call
from workbench.runner.machine import MachineClock
from workbench.runner.session import CallRefused, Provider, Reply, Request, StreamBroken

PriceOf = Callable[[Call], float | None]


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait between tries.

    The wait is exponential with full jitter (uniform below the ceiling), but never shorter than what the
    server asked for, and that is capped too.

    Attributes:
        retries: tries after the first one.
        base_s: ceiling of the first wait; it doubles from try to try.
        most_s: cap of one wait.
        total_s: cap of all waits of one call; a wait that would pass it ends the tries.
    """

    retries: int = 5
    base_s: float = 1.0
    most_s: float = 60.0
    total_s: float = 300.0

    def wait_s(
        self, failures: int, waited_s: float, asked_s: float | None, rng: random.Random
    ) -> float | None:
        """Return the wait after the n-th failure in a row; None to give up."""
        if failures > self.retries:
            return None
        ceiling = min(self.base_s * 2.0 ** (failures - 1), self.most_s)
        wait = max(rng.uniform(0.0, ceiling), min(asked_s or 0.0, self.most_s))
        return None if waited_s + wait > self.total_s else wait


class Caller:
    """Asks a provider with retries, within a number of slots; failures come back as data."""

    def __init__(
        self,
        provider: Provider,
        *,
        slots: int,
        backoff: Backoff,
        rng: random.Random,
        machine: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Share `slots` requests at a time; `machine` names the one whose time is apportioned."""
        self._provider, self._backoff, self._rng = provider, backoff, rng
        self._slots = asyncio.Semaphore(slots)
        self._machine, self._shares = machine, MachineClock()
        self._clock, self._sleep = clock, sleep

    @property
    def provider_name(self) -> str:
        """The provider's name in records and price sheets."""
        return self._provider.name

    async def count_tokens(self, text: str) -> int | None:
        """Count with the provider's own tokenizer; None where it offers none."""
        return await self._provider.count_tokens(text)

    async def ask(self, request: Request, _role: str) -> tuple[Reply, ProviderError | None]:
        """Ask until the provider answers or it is no use; the call tells what it took."""
        failures, waited, queued, share = 0, 0.0, 0.0, 0.0
        while True:
            asked = self._clock()
            async with self._slots:
                sent = self._clock()
                queued += sent - asked
                begun = self._shares.begin(sent)
                error: ProviderError | None = None
                reply = Reply()
                try:
                    reply = await self._provider.generate(request)
                except ProviderError as caught:
                    error = caught
                finally:
                    share += self._shares.end(begun, self._clock())
            wait = None
            if isinstance(error, ProviderUnavailable):
                failures += 1
                wait = self._backoff.wait_s(failures, waited, error.retry_after_s, self._rng)
            if wait is None:
                break
            await self._sleep(wait)
            waited += wait
        retries = failures if error is None else max(failures - 1, 0)
        extra: dict[str, object] = {"queue_s": queued, "n_retries": retries, "retry_wait_s": waited}
        if self._machine is not None:
            extra |= {"machine": self._machine, "machine_s": share}
        return self._finish(request, reply, error, extra), error

    def _finish(
        self, request: Request, reply: Reply, error: ProviderError | None, extra: dict[str, object]
    ) -> Reply:
        if isinstance(error, StreamBroken | CallRefused):
            reply = error.reply
        if error is not None:
            extra |= {
                "provider": self._provider.name, "model": request.model, "stop_reason": "error",
                "error_type": error.kind, "error_message": str(error),
            }  # fmt: skip
        return msgspec.structs.replace(reply, call=msgspec.structs.replace(reply.call, **extra))


class Budget:
    """What a run has spent, and whether it may begin another attempt.

    The cost of an attempt in flight is taken to be the mean of its configuration's finished ones; before
    there are any, that of one call of ordinary size with all the output it may write. A call that broke off or
    ran out of time without usage may have been billed: it counts as much as that estimate.

    Attributes:
        spent_usd: known cost so far; null without prices.
        n_unpriced: calls that reported usage but have no price.
    """

    def __init__(self, limit_usd: float | None, price: PriceOf | None) -> None:
        """Set a limit in USD, or none; `price` gives a call's cost, None where unknown."""
        if limit_usd is not None and price is None:
            raise ConfigError("a budget needs prices; none were given")
        self.limit_usd, self._price = limit_usd, price
        self.spent_usd: float | None = 0.0 if price is not None else None
        self.n_unpriced = 0
        self._doubt = 0.0  # estimates for calls whose cost is not known
        self._prior: dict[str, float] = {}
        self._settled: dict[str, tuple[int, float]] = {}
        self._flying: dict[str, int] = {}

    def expect(self, configuration_id: str, call: Call) -> None:
        """Price a typical call of a configuration; ConfigError if a budget is set and it has no price."""
        cost = self._price(call) if self._price is not None else None
        if cost is None and self.limit_usd is not None:
            raise ConfigError(
                f"the budget of ${self.limit_usd:g} cannot be kept: no price is known for the model"
                f" {call.model!r} at provider {call.provider!r}"
                + (f" or the machine {call.machine!r}" if call.machine else "")
                + "; add a row to your price sheet (see: workbench prices --help) or leave out the budget"
            )
        self._prior[configuration_id] = cost or 0.0

    def may_start(self, configuration_id: str) -> bool:
        """Say whether one more attempt fits: spent + in flight + this one stays within the limit."""
        if self.limit_usd is None:
            return True
        flying = sum(n * self._estimate(c) for c, n in self._flying.items())
        committed = (self.spent_usd or 0.0) + self._doubt + flying
        return committed + self._estimate(configuration_id) <= self.limit_usd

    def begin(self, configuration_id: str) -> None:
        """Count an attempt as in flight."""
        self._flying[configuration_id] = self._flying.get(configuration_id, 0) + 1

    def settle(self, configuration_id: str, calls: Iterable[Call]) -> None:
        """Count an attempt as ended, with what its calls cost."""
        self._flying[configuration_id] -= 1
        if self._price is None or self.spent_usd is None:
            return
        total, known = 0.0, True
        for call in calls:
            billed = call.billed_cost_usd
            cost = billed if billed is not None else self._price(call)
            if cost is None:
                self.n_unpriced += call.output_tokens is not None
                known = known and call.ttft_s is None and call.error_type != "timeout"
            else:
                total += cost
        self.spent_usd += total
        if known:
            n, sum_usd = self._settled.get(configuration_id, (0, 0.0))
            self._settled[configuration_id] = (n + 1, sum_usd + total)
        else:
            self._doubt += self._estimate(configuration_id)

    def _estimate(self, configuration_id: str) -> float:
        n, total = self._settled.get(configuration_id, (0, 0.0))
        return total / n if n else self._prior.get(configuration_id, 0.0)
