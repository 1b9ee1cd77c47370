"""The budget of a run in dollars, tokens, joules and seconds, counted call by call."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec

from workbench.errors import ConfigError, LimitReached
from workbench.records import Call
from workbench.runner.providers import broken_requests
from workbench.runner.providers.broken_requests import may_be_billed, tokens_of

if TYPE_CHECKING:
    from workbench.errors import ProviderError
    from workbench.runner.providers.protocol import Ask, Line, Reply, Request

PriceOf = Callable[[Call], float | None]
_ROUNDING = 1e-9  # of the limit: sums of floats
_BYTES_A_TOKEN = 3  # fewer than most texts have, so that prompts are not underestimated


class Amounts(NamedTuple):
    """Dollars and tokens."""

    usd: float = 0.0
    tokens: float = 0.0


class _Means:
    """Mean amounts of one configuration's finished calls and attempts, with priors before any."""

    def __init__(self, call: float, attempt: float) -> None:
        self._prior_call = call
        self._prior_attempt = attempt
        self._calls = (0, 0.0)  # number and sum
        self._attempts = (0, 0.0)
        self.n_open = 0  # attempts in flight
        self.n_flying = 0  # calls in flight
        self.open_spent = 0.0
        self.open_reserved = 0.0

    @property
    def call(self) -> float:
        n, total = self._calls
        return total / n if n else self._prior_call

    @property
    def attempt(self) -> float:
        n, total = self._attempts
        return total / n if n else max(self._prior_attempt, self.call)

    @property
    def is_known(self) -> bool:
        """Whether any attempt has ended with a known amount."""
        return self._attempts[0] > 0

    @property
    def knows_calls(self) -> bool:
        """Whether any call has ended with a known amount."""
        return self._calls[0] > 0

    @property
    def in_flight(self) -> float:
        """Amount that the open attempts are still expected to take, at least by their calls."""
        expected = max(self.n_open * self.attempt, self.open_reserved)
        return max(expected - self.open_spent, self.n_flying * self.call, 0.0)

    def add_call(self, amount: float) -> None:
        self._calls = self._calls[0] + 1, self._calls[1] + amount

    def add_attempt(self, amount: float) -> None:
        self._attempts = self._attempts[0] + 1, self._attempts[1] + amount


class _Currency:
    """One unit of the budget, dollars or tokens, with its limits and amounts."""

    def __init__(self, limit: float | None, amount: PriceOf) -> None:
        self.limit = limit
        self.amount = amount
        self.spent = 0.0  # of calls with a known amount
        self.doubt = 0.0  # estimates for calls of unknown amount
        self.n_known = 0  # calls and broken requests with a known amount
        self.n_doubtful = 0  # and those with an estimate
        # limit over all collectors, and the amount that the others take, reservations included
        self.shared_limit: float | None = None
        self.elsewhere = 0.0
        self._means: dict[str, _Means] = {}

    def expect(self, configuration_id: str, call: float, attempt: float) -> None:
        self._means[configuration_id] = _Means(call, attempt)

    def of(self, configuration_id: str) -> _Means:
        if configuration_id not in self._means:
            self._means[configuration_id] = _Means(0.0, 0.0)
        return self._means[configuration_id]

    def share_of(self, configuration_id: str, most: float) -> float:
        """Return the expected amount of an attempt, whose first call may take up to `most`."""
        means = self.of(configuration_id)
        return means.attempt if means.is_known else max(means.attempt, most)

    @property
    def is_limited(self) -> bool:
        return self.limit is not None or self.shared_limit is not None

    def has_room_for_attempt(
        self, configuration_id: str, most: float, *, alone: bool = False
    ) -> bool:
        if not self.is_limited:
            return True
        means = self.of(configuration_id)
        if not means.is_known and not any(m.n_open for m in self._means.values()):
            # the first attempt measures their size: it needs room for one call only
            return self.has_room_for_call(configuration_id, most, alone=alone)
        flying = sum(m.in_flight for m in self._means.values())
        return self._fits(flying + self.share_of(configuration_id, most), alone=alone)

    def has_room_for_call(self, configuration_id: str, most: float, *, alone: bool = False) -> bool:
        if not self.is_limited:
            return True
        flying = sum(m.n_flying * m.call for m in self._means.values())
        return self._fits(flying + max(self.of(configuration_id).call, most), alone=alone)

    def add(self, configuration_id: str, call: Call, most: float) -> tuple[float, bool | None]:
        """Count an ended call.

        Returns:
            Its amount, and whether that is known (None: it cannot be billed). An unknown amount
            of a call that may be billed is the mean of its configuration, and at least `most`.
        """
        means, amount = self.of(configuration_id), self.amount(call)
        if amount is not None:
            means.add_call(amount)
        return self._count(call, amount, max(means.call, most))

    def lose(self, configuration_id: str, call: Call, most: float) -> tuple[float, bool | None]:
        """Count a broken request, which does not enter the mean of whole calls."""
        return self._count(call, self.amount(call), max(self.of(configuration_id).call, most))

    def _count(
        self, call: Call, amount: float | None, otherwise: float
    ) -> tuple[float, bool | None]:
        if amount is not None:
            self.spent += amount
            self.n_known += 1
            return amount, True
        if not may_be_billed(call):
            return 0.0, None
        self.doubt += otherwise
        self.n_doubtful += 1
        return otherwise, False

    def _fits(self, more: float, *, alone: bool) -> bool:
        coming = self.spent + self.doubt + more
        elsewhere = 0.0 if alone else self.elsewhere
        limits = ((self.limit, coming), (self.shared_limit, coming + elsewhere))
        return all(limit is None or taken <= limit * (1 + _ROUNDING) for limit, taken in limits)


class Budget:
    """Amounts that a run has spent, and whether another attempt or call fits into its limits.

    An attempt may begin if three amounts stay within every limit together: the amount spent, the
    expected rest of the attempts in flight (by the mean of their configuration's finished ones),
    and its own share. Before any attempt has finished, a call counts as one of typical size with
    all the output that it may write, and the first attempt needs room for one call only. A further
    call of an attempt may be made if the calls in flight and one more stay within the limits: an
    attempt of hundreds of calls ends in time, with `LimitReached`. A call without reported usage
    that may have been billed counts as the most it can have taken: its prompt and all the output
    that it was allowed.

    The limits may be changed while the run goes on; None is no limit.

    Attributes:
        n_unpriced: calls that reported usage but have no price.
        n_open, n_ended: attempts in flight, and those that have ended.
        limit_j: joules of the run by its meter, idle power included.
        limit_time_s: seconds from the start of the run, after which no attempt begins.
        shared: lock over the budget that other collectors share; null without others.
    """

    def __init__(
        self,
        limit_usd: float | None,
        price: PriceOf | None,
        *,
        limit_tokens: float | None = None,
        limit_j: float | None = None,
        limit_time_s: float | None = None,
        joules: Callable[[], float | None] | None = None,
        elapsed_s: Callable[[], float] | None = None,
    ) -> None:
        """Set the limits.

        Args:
            limit_usd: dollars; needs prices.
            price: returns a call's cost in USD, None where unknown.
            limit_tokens: input and output tokens, cached ones and thinking included.
            limit_j: joules; needs a meter.
            limit_time_s: seconds.
            joules: returns the joules of the run so far, None while not known.
            elapsed_s: returns the seconds since the run's start.
        """
        self._price, self._joules, self._elapsed_s = price, joules, elapsed_s
        self._usd = _Currency(limit_usd, self._cost)
        self._tokens = _Currency(limit_tokens, tokens_of)
        self.limit_j, self.limit_time_s = limit_j, limit_time_s
        self.n_unpriced, self.n_open, self.n_ended = 0, 0, 0
        self._typical: dict[str, Call] = {}
        self._most_output: dict[str, int] = {}  # the longest reply so far, by configuration
        self.shared: SharedBudget | None = None
        self._check()

    def _check(self) -> None:
        if self.limit_usd is not None and self._price is None:
            raise ConfigError("a budget needs prices; none were given")
        if self.limit_j is not None and self._joules is None:
            raise ConfigError(
                f"the budget of {self.limit_j:g} J cannot be kept: no meter reads the energy of"
                " this run; leave out budget_j, or run the model on this machine with a meter (see:"
                " workbench doctor)"
            )

    @property
    def currencies(self) -> tuple[_Currency, _Currency]:
        """Dollars and tokens, which are counted call by call."""
        return self._usd, self._tokens

    @property
    def limit_usd(self) -> float | None:
        """Dollars that may be spent."""
        return self._usd.limit

    @limit_usd.setter
    def limit_usd(self, limit: float | None) -> None:
        if limit is not None and self._price is None:
            raise ConfigError("a budget needs prices; none were given")
        self._usd.limit, self._usd.shared_limit = limit, None

    @property
    def limit_tokens(self) -> float | None:
        """Tokens that may be used."""
        return self._tokens.limit

    @limit_tokens.setter
    def limit_tokens(self, limit: float | None) -> None:
        self._tokens.limit, self._tokens.shared_limit = limit, None

    def share(
        self, shared: "SharedBudget", limit_usd: float | None, limit_tokens: float | None
    ) -> None:
        """Set the limits over all collectors; a limit set later replaces them."""
        self.shared = shared
        self._usd.shared_limit, self._tokens.shared_limit = limit_usd, limit_tokens

    def elsewhere(self, amounts: Amounts) -> None:
        """Set the amounts that other collectors take."""
        for currency, amount in zip(self.currencies, amounts, strict=True):
            currency.elsewhere = amount

    @property
    def spent_usd(self) -> float | None:
        """Known cost so far; null without prices, and while no call has a known cost."""
        is_unknown = self._usd.n_doubtful and not self._usd.n_known
        return None if self._price is None or is_unknown else self._usd.spent

    @property
    def has_prices(self) -> bool:
        """Whether calls can be priced at all."""
        return self._price is not None

    @property
    def spent_tokens(self) -> int:
        """Tokens that were reported so far."""
        return round(self._tokens.spent)

    @property
    def spent_j(self) -> float | None:
        """Joules so far; null without a meter."""
        return None if self._joules is None else self._joules()

    def expect(self, configuration_id: str, call: Call, n_calls: int = 1) -> None:
        """Set the expected use of an attempt.

        Args:
            configuration_id: the attempt's configuration.
            call: the sum of a typical attempt's calls.
            n_calls: the number of these calls.

        Raises:
            ConfigError: the call has no price, and there is a budget in dollars.
        """
        cost = self.check_price(call)
        tokens = tokens_of(call) or 0.0
        self._usd.expect(configuration_id, (cost or 0.0) / n_calls, cost or 0.0)
        self._tokens.expect(configuration_id, tokens / n_calls, tokens)
        self._typical[configuration_id] = msgspec.structs.replace(
            call,
            input_tokens=(call.input_tokens or 0) // n_calls,
            output_tokens=(call.output_tokens or 0) // n_calls,
            machine_s=None if call.machine_s is None else call.machine_s / n_calls,
        )

    def check_price(self, call: Call) -> float | None:
        """Price a typical call of a model that will be asked; ConfigError as in `expect`."""
        cost = self._price(call) if self._price is not None else None
        if cost is None and self.limit_usd is not None:
            raise ConfigError(
                f"the budget of ${self.limit_usd:g} cannot be kept: no price is known for the model"
                f" {call.model!r} at provider {call.provider!r}"
                + (f" or the machine {call.machine!r}" if call.machine else "")
                + "; add a row to your price sheet (see: workbench prices --help) or leave out the"
                " budget"
            )
        return cost

    def may_start(
        self, configuration_id: str, prompt_bytes: int = 0, *, alone: bool = False
    ) -> bool:
        """Whether one more attempt fits into the limits.

        Args:
            configuration_id: the attempt's configuration.
            prompt_bytes: estimated length of its first prompt.
            alone: leave the amounts of other collectors out.
        """
        most = self.most_of_first(configuration_id, prompt_bytes)
        return self.reached(1) is None and all(
            c.has_room_for_attempt(configuration_id, amount, alone=alone)
            for c, amount in zip(self.currencies, most, strict=True)
        )

    def share_of(self, configuration_id: str, prompt_bytes: int = 0) -> Amounts:
        """Return the expected amounts of one more attempt."""
        most = self.most_of_first(configuration_id, prompt_bytes)
        shares = (
            c.share_of(configuration_id, amount)
            for c, amount in zip(self.currencies, most, strict=True)
        )
        return Amounts(*shares)

    def begin(self, configuration_id: str, prompt_bytes: int = 0) -> "AttemptAccount":
        """Count an attempt as in flight."""
        return AttemptAccount(self, configuration_id, self.share_of(configuration_id, prompt_bytes))

    def most_of_first(self, configuration_id: str, prompt_bytes: int) -> Amounts:
        """Return the most that an attempt's first call may take; zero for an unknown prompt."""
        typical = self._typical.get(configuration_id)
        if typical is None or not prompt_bytes:
            return Amounts()
        tokens = prompt_bytes // _BYTES_A_TOKEN
        return self._amounts(msgspec.structs.replace(typical, input_tokens=tokens))

    def most_of(self, configuration_id: str, request: "Request", provider: str | None) -> Amounts:
        """Return the most that a request may take: its estimated prompt and its maximal output."""
        if not any(currency.is_limited for currency in self.currencies):
            return Amounts()
        text = msgspec.json.encode((request.messages, request.prompt))
        typical = self._typical.get(configuration_id)
        typical_output = (typical.output_tokens if typical is not None else None) or 0
        max_tokens = request.sampling.get("max_tokens")
        longest = self._most_output.get(configuration_id, typical_output)
        call = Call(
            provider=provider,
            model=request.model,
            cache_read_tokens=0,
            input_tokens=len(text) // _BYTES_A_TOKEN + 1,
            output_tokens=max_tokens if isinstance(max_tokens, int) else longest,
        )
        if typical is not None and typical.model == call.model:
            call = msgspec.structs.replace(
                call,
                provider=typical.provider,
                machine=typical.machine,
                machine_s=typical.machine_s,
            )
        return self._amounts(call)

    def _amounts(self, call: Call) -> Amounts:
        return Amounts(*(currency.amount(call) or 0.0 for currency in self.currencies))

    def saw_output(self, configuration_id: str, call: Call) -> None:
        """Update the longest output, the estimate for calls without a cap."""
        if call.output_tokens is not None and call.error_type is None:
            longest = self._most_output.get(configuration_id, 0)
            self._most_output[configuration_id] = max(longest, call.output_tokens)

    def reached(self, more: int = 0) -> str | None:
        """Describe the limit of joules or seconds that `more` attempts would reach, if any."""
        elapsed_s = self._elapsed_s() if self._elapsed_s is not None else 0.0
        if self.limit_time_s is not None and elapsed_s >= self.limit_time_s:
            return f"{elapsed_s:.0f} s of {self.limit_time_s:g} s"
        spent_j = self.spent_j or 0.0
        mean_j = spent_j / self.n_ended if self.n_ended else 0.0
        coming_j = mean_j * (self.n_open + more) if more else 0.0
        if self.limit_j is not None and spent_j + coming_j > self.limit_j:
            return f"{spent_j:.0f} J of {self.limit_j:g} J"
        return None

    def state(self) -> str:
        """Describe the amount spent of each limit, for the user."""
        parts = []
        if (limit := self.limit_usd) is not None:
            parts.append(f"{_describe(self._usd, '${:.4f}'.format)} of ${limit:g}")
        if (limit := self.limit_tokens) is not None:
            parts.append(f"{_describe(self._tokens, '{:,.0f}'.format)} of {limit:,.0f} tokens")
        if self.limit_j is not None:
            parts.append(f"{self.spent_j or 0.0:,.0f} J of {self.limit_j:,g} J")
        if self.limit_time_s is not None and self._elapsed_s is not None:
            parts.append(f"{self._elapsed_s():,.0f} s of {self.limit_time_s:,g} s")
        return ", ".join(parts)

    def verdict(self, configuration_id: str, prompt_bytes: int = 0) -> str:
        """Describe why no attempt may begin while none is in flight, and what to do."""
        most = self.most_of_first(configuration_id, prompt_bytes)
        usd, tokens = (
            max(c.of(configuration_id).call, amount)
            for c, amount in zip(self.currencies, most, strict=True)
        )
        if self._usd.limit is not None and not self._usd.spent and usd > self._usd.limit:
            return f"the budget has no room for one call: it may cost ${usd:.4f}; raise budget_usd"
        if (
            self._tokens.limit is not None
            and not self._tokens.spent
            and tokens > self._tokens.limit
        ):
            return (
                f"the budget has no room for one call: it may take {tokens:,.0f} tokens; raise"
                " budget_tokens or lower max_tokens"
            )
        return f"the budget is used up: {self.state()} spent; raise it to go on"

    def count_unpriced(self, call: Call) -> None:
        """Count a call that reported usage and has no price."""
        if self._price is not None and call.output_tokens is not None:
            self.n_unpriced += self._cost(call) is None

    def _cost(self, call: Call) -> float | None:
        if call.billed_cost_usd is not None and self._price is not None:
            return call.billed_cost_usd
        return self._price(call) if self._price is not None else None


def _describe(currency: _Currency, text: Callable[[float], str]) -> str:
    """Describe the amount spent, and the other amounts that count against the limit."""
    parts = [text(currency.spent) if currency.n_known or not currency.n_doubtful else "—"]
    if currency.n_doubtful:
        requests = "request" if currency.n_doubtful == 1 else "requests"
        parts.append(
            f"{text(currency.doubt)} assumed for {currency.n_doubtful:,} {requests} whose usage"
            " nobody reported"
        )
    if currency.elsewhere:
        parts.append(f"{text(currency.elsewhere)} spent or reserved by other collectors")
    return " + ".join(parts)


_T = TypeVar("_T")


class SharedBudget(Protocol):
    """Lock over a budget that several collectors share."""

    async def exclusively(self, act: Callable[[], _T]) -> _T:
        """Call a function under the lock, with the other collectors' amounts up to date."""
        ...


class AttemptAccount:
    """The account of one attempt: the amounts it reserves and spends of a budget.

    Attributes:
        reserved: the amounts it is expected to take.
        was_stopped: whether the budget ended it early.
        on_change: called when it has taken more than it had reserved.
    """

    def __init__(self, budget: Budget, configuration_id: str, reserved: Amounts) -> None:
        """Open the account, and reserve the amounts."""
        self._budget, self._id, self.reserved = budget, configuration_id, reserved
        self._currencies = budget.currencies
        self._spent = [0.0] * len(self._currencies)
        self._last = [0.0] * len(self._currencies)
        self._n_known, self._n_doubtful = [0] * len(self._currencies), [0] * len(self._currencies)
        self._n_calls, self._is_open = 0, True
        self.was_stopped = False
        self.on_change: Callable[[], object] | None = None
        budget.n_open += 1
        for currency, amount in zip(self._currencies, reserved, strict=True):
            means = currency.of(configuration_id)
            means.n_open += 1
            means.open_reserved += amount

    @property
    def spent(self) -> Amounts:
        """The amounts so far, estimates for unreported usage included."""
        return Amounts(*self._spent)

    @property
    def taken(self) -> Amounts:
        """The amounts so far, and at least the reserved ones while the attempt is in flight."""
        if not self._is_open:
            return self.spent
        return Amounts(*map(max, self._spent, self.reserved))

    def guard(self, ask: "Ask", provider: str | None = None) -> "Ask":
        """Wrap a function that sends calls: each is counted, or refused at a limit."""

        async def guarded(request: "Request", role: str) -> "tuple[Reply, ProviderError | None]":
            most = self._budget.most_of(self._id, request, provider)
            await self._admit(most)
            return await self._counted(ask, request, role, most)

        return guarded

    def over(self, line: "Line") -> "Line":
        """Return a line to a model whose calls are counted here."""
        return line._replace(ask=self.guard(line.ask, line.provider))

    async def _admit(self, most: Amounts) -> None:
        shared = self._budget.shared
        if not self._n_calls or shared is None:
            self.check(most)
            return

        def take() -> None:
            self.check(most)
            # the next call is reserved before the lock is released
            self._reserve(Amounts(*(s + m for s, m in zip(self._spent, most, strict=True))))

        await shared.exclusively(take)

    def _reserve(self, amounts: Amounts) -> None:
        amounts = Amounts(*map(max, amounts, self.reserved))
        if amounts == self.reserved:
            return
        for currency, before, now in zip(self._currencies, self.reserved, amounts, strict=True):
            currency.of(self._id).open_reserved += now - before
        self.reserved = amounts
        if self.on_change is not None:
            self.on_change()

    def check(self, most: Amounts = Amounts()) -> None:  # noqa: B008  # frozen
        """Raise LimitReached where another call, of at most `most`, would pass a limit."""
        fits = self._budget.reached() is None and all(
            c.has_room_for_call(self._id, last if c.of(self._id).knows_calls else max(last, amount))
            for c, last, amount in zip(self._currencies, self._last, most, strict=True)
        )
        if self._n_calls and not fits:
            self.was_stopped = True
            raise LimitReached(
                f"the run's budget ends this attempt after {self._n_calls} calls:"
                f" {self._budget.state()} spent; raise the budget to go on",
                limit_type="budget",
            )

    def close(self, *, is_whole: bool = True) -> None:
        """Count the attempt as ended; calls still in flight are counted when they end.

        Args:
            is_whole: whether all of its calls were made here; only such attempts enter the mean.
        """
        if not self._is_open:
            return
        self._is_open = False
        self._budget.n_open -= 1
        self._budget.n_ended += 1
        for place, currency in enumerate(self._currencies):
            means, spent = currency.of(self._id), self._spent[place]
            means.n_open -= 1
            means.open_spent -= spent
            means.open_reserved -= self.reserved[place]
            is_known = self._n_known[place] and not self._n_doubtful[place]
            if is_known and is_whole and not self.was_stopped:
                means.add_attempt(spent)

    async def _counted(
        self, ask: "Ask", request: "Request", role: str, most: Amounts
    ) -> "tuple[Reply, ProviderError | None]":
        self._n_calls += 1
        for currency in self._currencies:
            currency.of(self._id).n_flying += 1
        call = Call(model=request.model, error_type="timeout")  # cancelled: may have been billed
        arrived: list[Call] = []  # the call's record, if the provider made one on cancellation

        def lose(lost: Call) -> None:
            if lost.error_type == broken_requests.CANCELLED:
                arrived.append(lost)
            else:
                self.lose(lost, most)

        try:
            with broken_requests.listening(lose):
                reply, error = await ask(request, role)
            call = reply.call
        except asyncio.CancelledError:
            call = arrived[-1] if arrived else call
            raise
        finally:
            for currency in self._currencies:
                currency.of(self._id).n_flying -= 1
            self.add(call, most)
        return reply, error

    def lose(self, call: Call, most: Amounts = Amounts()) -> None:  # noqa: B008  # frozen
        """Count a broken request that is sent again."""
        self._budget.count_unpriced(call)
        for place, currency in enumerate(self._currencies):
            self._add(place, *currency.lose(self._id, call, most[place]))

    def add(self, call: Call, most: Amounts = Amounts()) -> None:  # noqa: B008  # frozen
        """Count a call that has ended; `most` is its amount where the usage was not reported."""
        self._budget.count_unpriced(call)
        self._budget.saw_output(self._id, call)
        for place, currency in enumerate(self._currencies):
            amount, is_known = currency.add(self._id, call, most[place])
            self._last[place] = amount
            self._add(place, amount, is_known)
        if self.on_change is not None and any(
            spent > reserved for spent, reserved in zip(self._spent, self.reserved, strict=True)
        ):
            self.on_change()

    def _add(self, place: int, amount: float, is_known: bool | None) -> None:
        self._n_known[place] += is_known is True
        self._n_doubtful[place] += is_known is False
        if self._is_open:
            self._spent[place] += amount
            self._currencies[place].of(self._id).open_spent += amount
