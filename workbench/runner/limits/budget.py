"""What a run may spend: dollars, tokens, joules, seconds; counted call by call, so that it stops in time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.errors import ConfigError, LimitReached
from workbench.records import Call

if TYPE_CHECKING:
    from workbench.errors import ProviderError
    from workbench.runner.asking import Ask, Line, Reply, Request

PriceOf = Callable[[Call], float | None]
_ROUNDING = 1e-9  # of the limit: sums of floats


class _Means:
    """What the finished calls and attempts of one configuration took, and what is guessed before."""

    def __init__(self, call: float, attempt: float) -> None:
        self._prior_call, self._prior_attempt = call, attempt
        self._calls, self._attempts = (0, 0.0), (0, 0.0)
        self.n_open, self.n_flying, self.open_spent = 0, 0, 0.0

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
    def in_flight(self) -> float:
        """What the open attempts are expected to take yet; at least their calls under way."""
        return max(self.n_open * self.attempt - self.open_spent, self.n_flying * self.call, 0.0)

    def add_call(self, amount: float) -> None:
        self._calls = self._calls[0] + 1, self._calls[1] + amount

    def add_attempt(self, amount: float) -> None:
        self._attempts = self._attempts[0] + 1, self._attempts[1] + amount


class _Currency:
    """One kind of what is spent."""

    def __init__(self, limit: float | None, amount: PriceOf) -> None:
        self.limit, self.amount = limit, amount
        self.spent, self.doubt = 0.0, 0.0  # known; estimates for calls whose amount is not known
        self._means: dict[str, _Means] = {}

    def expect(self, configuration_id: str, call: float, attempt: float) -> None:
        self._means[configuration_id] = _Means(call, attempt)

    def of(self, configuration_id: str) -> _Means:
        if configuration_id not in self._means:
            self._means[configuration_id] = _Means(0.0, 0.0)
        return self._means[configuration_id]

    def has_room_for_attempt(self, configuration_id: str) -> bool:
        if self.limit is None:
            return True
        means = self.of(configuration_id)
        if not means.is_known and not any(m.n_open for m in self._means.values()):
            return self.has_room_for_call(configuration_id, 0.0)  # to learn how long they are
        flying = sum(m.in_flight for m in self._means.values())
        return self._fits(flying + means.attempt)

    def has_room_for_call(self, configuration_id: str, last: float) -> bool:
        if self.limit is None:
            return True
        flying = sum(m.n_flying * m.call for m in self._means.values())
        return self._fits(flying + max(self.of(configuration_id).call, last))

    def add(self, configuration_id: str, call: Call) -> tuple[float, bool | None]:
        """Count an ended call; returns what it is taken to have cost, and whether that is known.

        A call that nobody can bill says nothing about the others: None.
        """
        means, amount = self.of(configuration_id), self.amount(call)
        if amount is not None:
            self.spent += amount
            means.add_call(amount)
            return amount, True
        if not may_be_billed(call):
            return 0.0, None
        self.doubt += means.call
        return means.call, False

    def _fits(self, more: float) -> bool:
        if self.limit is None:
            return True
        return self.spent + self.doubt + more <= self.limit * (1 + _ROUNDING)


def may_be_billed(call: Call) -> bool:
    """Say whether a call without usage may cost: it answered, began to answer, or was left to itself."""
    return call.error_type is None or call.ttft_s is not None or call.error_type == "timeout"


def tokens_of(call: Call) -> float | None:
    """Input and output tokens, else the total; null where neither was reported."""
    if call.input_tokens is None or call.output_tokens is None:
        return call.total_tokens
    return call.input_tokens + call.output_tokens


class Budget:
    """What a run has spent, and whether it may begin another attempt or make another call.

    An attempt begins if what is spent, what those in flight will take by the mean of their configuration's finished
    ones, and its own share stay within every limit; before there are any finished ones, a call is taken to
    be of ordinary size with all the output that it may write, and the first attempt needs room for one call only. A call within an attempt is made if the calls in flight
    and one more stay within the limits: an attempt of hundreds of calls ends in time, with `LimitReached`.
    A call that ended without usage but may have been billed counts as much as its estimate. The first call
    of an attempt belongs to its beginning.

    The limits may be changed while the run goes on; None is no limit.

    Attributes:
        n_unpriced: calls that reported usage but have no price.
        n_open, n_ended: attempts in flight, and those that have ended.
        limit_j: joules of the run as its meter reads them; idle power is among them.
        limit_time_s: seconds from the run's begin; nothing begins after, what is in flight ends.
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
            price: gives a call's cost in USD, None where unknown.
            limit_tokens: input and output tokens, cached ones and thinking included.
            limit_j: joules; needs a meter.
            limit_time_s: seconds.
            joules: reads what the run has used so far, None while nothing is known.
            elapsed_s: reads how long the run has lasted.
        """
        self._price, self._joules, self._elapsed_s = price, joules, elapsed_s
        self._usd = _Currency(limit_usd, self._cost)
        self._tokens = _Currency(limit_tokens, tokens_of)
        self.limit_j, self.limit_time_s = limit_j, limit_time_s
        self.n_unpriced, self.n_open, self.n_ended = 0, 0, 0
        self._of_model: dict[str | None, list[str]] = {}
        self._check()

    def _check(self) -> None:
        if self.limit_usd is not None and self._price is None:
            raise ConfigError("a budget needs prices; none were given")
        if self.limit_j is not None and self._joules is None:
            raise ConfigError(
                f"the budget of {self.limit_j:g} J cannot be kept: no meter reads the energy of this run;"
                " leave out budget_j, or run the model on this machine with a meter (see: workbench doctor)"
            )

    @property
    def currencies(self) -> tuple[_Currency, _Currency]:
        """Dollars and tokens: what is counted call by call."""
        return self._usd, self._tokens

    @property
    def limit_usd(self) -> float | None:
        """Dollars that may be spent."""
        return self._usd.limit

    @limit_usd.setter
    def limit_usd(self, limit: float | None) -> None:
        if limit is not None and self._price is None:
            raise ConfigError("a budget needs prices; none were given")
        self._usd.limit = limit

    @property
    def limit_tokens(self) -> float | None:
        """Tokens that may be used."""
        return self._tokens.limit

    @limit_tokens.setter
    def limit_tokens(self, limit: float | None) -> None:
        self._tokens.limit = limit

    @property
    def spent_usd(self) -> float | None:
        """Known cost so far; null without prices."""
        return None if self._price is None else self._usd.spent

    @property
    def spent_tokens(self) -> int:
        """Tokens that were reported so far."""
        return round(self._tokens.spent)

    @property
    def spent_j(self) -> float | None:
        """Joules so far; null without a meter."""
        return None if self._joules is None else self._joules()

    def expect(self, configuration_id: str, call: Call, n_calls: int = 1) -> None:
        """Price a typical attempt, its calls added up; ConfigError if it has no price and a budget is set."""
        cost = self._price(call) if self._price is not None else None
        if cost is None and self.limit_usd is not None:
            raise ConfigError(
                f"the budget of ${self.limit_usd:g} cannot be kept: no price is known for the model"
                f" {call.model!r} at provider {call.provider!r}"
                + (f" or the machine {call.machine!r}" if call.machine else "")
                + "; add a row to your price sheet (see: workbench prices --help) or leave out the budget"
            )
        tokens = tokens_of(call) or 0.0
        self._usd.expect(configuration_id, (cost or 0.0) / n_calls, cost or 0.0)
        self._tokens.expect(configuration_id, tokens / n_calls, tokens)
        self._of_model.setdefault(call.model, []).append(configuration_id)

    def may_start(self, configuration_id: str) -> bool:
        """Say whether one more attempt fits."""
        return self.reached(1) is None and all(
            c.has_room_for_attempt(configuration_id) for c in self.currencies
        )

    def begin(self, configuration_id: str) -> "Tab":
        """Count an attempt as in flight."""
        return Tab(self, configuration_id)

    def lost(self, call: Call) -> None:
        """Count a try that ended without an answer and is made again: it may have been billed."""
        everybody = [c for ids in self._of_model.values() for c in ids]
        ids = self._of_model.get(call.model) or everybody  # a helper model is among all of them
        if ids and may_be_billed(call):
            for currency in self.currencies:
                currency.doubt += max(currency.of(c).call for c in ids)

    def reached(self, more: int = 0) -> str | None:
        """Say which limit on joules or seconds is reached, with that many more attempts; None for none."""
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
        """Say what is spent of each limit, for the user."""
        said = []
        if self.limit_usd is not None:
            said.append(f"${self._usd.spent:.4f} of ${self.limit_usd:g}")
        if self.limit_tokens is not None:
            said.append(f"{self.spent_tokens:,} of {self.limit_tokens:,.0f} tokens")
        if self.limit_j is not None:
            said.append(f"{self.spent_j or 0.0:,.0f} J of {self.limit_j:,g} J")
        if self.limit_time_s is not None and self._elapsed_s is not None:
            said.append(f"{self._elapsed_s():,.0f} s of {self.limit_time_s:,g} s")
        return ", ".join(said)

    def verdict(self, configuration_id: str) -> str:
        """Say why no attempt may begin while none is in flight, and what to do."""
        usd, tokens = (c.of(configuration_id).call for c in self.currencies)
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


class Tab:
    """What one attempt spends of a budget, from its beginning to its end."""

    def __init__(self, budget: Budget, configuration_id: str) -> None:
        """Open it."""
        self._budget, self._id = budget, configuration_id
        self._currencies = budget.currencies
        self._spent = [0.0] * len(self._currencies)
        self._last = [0.0] * len(self._currencies)
        self._n_known, self._n_doubtful = [0] * len(self._currencies), [0] * len(self._currencies)
        self._n_calls, self._is_open = 0, True
        self.was_stopped = False
        budget.n_open += 1
        for currency in self._currencies:
            currency.of(configuration_id).n_open += 1

    def guard(self, ask: "Ask") -> "Ask":
        """Return the way to a model that counts each call, and refuses the one that would pass a limit."""

        async def guarded(request: "Request", role: str) -> "tuple[Reply, ProviderError | None]":
            self.check()
            return await self._counted(ask, request, role)

        return guarded

    def over(self, line: "Line") -> "Line":
        """Return a way to a model on which every call is counted here."""
        return line._replace(ask=self.guard(line.ask))

    def check(self) -> None:
        """Raise LimitReached where another call of the attempt would pass a limit."""
        fits = self._budget.reached() is None and all(
            c.has_room_for_call(self._id, last)
            for c, last in zip(self._currencies, self._last, strict=True)
        )
        if self._n_calls and not fits:
            self.was_stopped = True
            raise LimitReached(
                f"the run's budget ends this attempt after {self._n_calls} calls:"
                f" {self._budget.state()} spent; raise the budget to go on",
                limit_type="budget",
            )

    def close(self, *, is_whole: bool = True) -> None:
        """Count the attempt as ended; its calls that are still under way are counted when they end.

        Args:
            is_whole: all of its calls were made here; one that went on from kept replies says nothing of others.
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
            is_known = self._n_known[place] and not self._n_doubtful[place]
            if is_known and is_whole and not self.was_stopped:
                means.add_attempt(spent)

    async def _counted(
        self, ask: "Ask", request: "Request", role: str
    ) -> "tuple[Reply, ProviderError | None]":
        self._n_calls += 1
        for currency in self._currencies:
            currency.of(self._id).n_flying += 1
        call = Call(model=request.model, error_type="timeout")  # cancelled: may have been billed
        try:
            reply, error = await ask(request, role)
            call = reply.call
        finally:
            for currency in self._currencies:
                currency.of(self._id).n_flying -= 1
            self.add(call)
        return reply, error

    def add(self, call: Call) -> None:
        """Count a call that has ended."""
        self._budget.count_unpriced(call)
        for place, currency in enumerate(self._currencies):
            amount, is_known = currency.add(self._id, call)
            self._n_known[place] += is_known is True
            self._n_doubtful[place] += is_known is False
            self._last[place] = amount
            if self._is_open:
                self._spent[place] += amount
                currency.of(self._id).open_spent += amount
