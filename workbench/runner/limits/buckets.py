"""Token buckets that follow a server's rate limits, so that requests wait before a 429."""

import math
from collections.abc import Sequence

import msgspec

from workbench.runner.providers.ratelimits import RateLimit

_PERIOD_S = 60.0  # of a limit that names neither its period nor its reset, as Azure's
_ENOUGH = 5  # answers needed for a mean


class Cost(msgspec.Struct, frozen=True):
    """Amounts that a request takes from the buckets, estimated before and counted after.

    Attributes:
        input_tokens, output_tokens: as expected, or as used.
        most_output_tokens: what a bucket of all tokens charges for the output before it is known.
    """

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    most_output_tokens: float = 0.0

    def of(self, kind: str) -> float:
        """Return the amount that it takes from a bucket of that kind."""
        if kind == "requests":
            return 1.0
        if kind == "input_tokens":
            return self.input_tokens
        if kind == "output_tokens":
            return self.output_tokens
        return self.input_tokens + self.most_output_tokens


class Sizes:
    """The mean size of finished calls, for the estimates."""

    def __init__(self) -> None:
        """Start without calls."""
        self._n = 0
        self._output = 0.0

    def add(self, output_tokens: int) -> None:
        """Count a finished call."""
        self._n += 1
        self._output += output_tokens

    def cost(self, prompt_bytes: int, max_tokens: int | None) -> Cost:
        """Estimate a request: four bytes a token for the prompt, and the mean output.

        With fewer than `_ENOUGH` calls, the output is estimated by `max_tokens`.
        """
        mean = self._output / self._n if self._n >= _ENOUGH else None
        most = max_tokens if max_tokens is not None else mean if mean is not None else 500.0
        return Cost(prompt_bytes / 4, most if mean is None else mean, most)


class _Bucket:
    """One limit: full at `limit`, refilled evenly, as of the server's last answer."""

    def __init__(self, limit: RateLimit, at_s: float) -> None:
        self.kind = limit.kind
        self.at_s = at_s
        self.remaining = limit.remaining
        self.limit = limit.limit
        self.reset_s = limit.reset_s
        self.rate = _rate(limit)

    def wait_s(self, cost: float, taken: float, at_s: float) -> float:
        """Seconds until `cost` is available, beside the amount `taken` since the last answer."""
        passed = max(at_s - self.at_s, 0.0)
        full = math.inf if self.limit is None else self.limit
        is_reset = self.reset_s is not None and passed >= self.reset_s
        level = full if is_reset else min(self.remaining + self.rate * passed, full)
        missing = min(cost, full) - (level - taken)
        if missing <= 0:
            return 0.0
        refilled = missing / self.rate if self.rate > 0 else math.inf
        until_reset = math.inf
        if self.reset_s is not None and not is_reset:
            until_reset = self.reset_s - passed
        return min(refilled, until_reset)


def _rate(limit: RateLimit) -> float:
    """Refill per second: even, so that the bucket is full at its reset, or in its period."""
    if limit.limit is None:
        return 0.0
    used = limit.limit - limit.remaining
    if limit.reset_s is not None and limit.reset_s > 0 and used > 0:
        return used / limit.reset_s
    return limit.limit / (limit.period_s or _PERIOD_S)


class Buckets:
    """The rate limits of one model and key, as the headers of its answers state them.

    An answer states the rest at the time when the server accepted its request. Subtracted until an
    answer includes them: requests sent and not yet answered, by their estimates; and, from a bucket
    of output tokens, outputs in progress by their estimates and finished ones by their counts.
    """

    def __init__(self) -> None:
        """Start without a limit: no request waits until a server states one."""
        self._buckets: dict[str, _Bucket] = {}
        self._unanswered: dict[int, Cost] = {}
        self._output_estimates: dict[int, float] = {}  # of requests in flight
        # sums over the unanswered requests
        self._taken = dict.fromkeys(("requests", "input_tokens", "tokens"), 0.0)
        self._estimated_output = 0.0
        self._finished_output = 0.0

    def __bool__(self) -> bool:
        """Whether any limit is known."""
        return bool(self._buckets)

    def update(self, number: int, limits: Sequence[RateLimit], at_s: float) -> None:
        """Set the limits that the answer to a request states."""
        self._mark_answered(number)
        self._finished_output = 0.0
        for limit in limits:
            if limit.limit == 0:  # no allowance at all: waiting does not help, the refusals tell
                self._buckets.pop(limit.name, None)
            else:
                self._buckets[limit.name] = _Bucket(limit, at_s)

    def take(self, number: int, cost: Cost) -> None:
        """Count a request that is sent."""
        if self._buckets:
            self._unanswered[number] = cost
            self._output_estimates[number] = cost.output_tokens
            self._estimated_output += cost.output_tokens
            self._add(cost, 1)

    def end(self, number: int, output_tokens: float | None) -> None:
        """Count a request as ended, with its output tokens; None where refused or not known."""
        if number in self._output_estimates:
            self._mark_answered(number)
            self._estimated_output -= self._output_estimates.pop(number)
            self._finished_output += output_tokens or 0.0

    def wait_s(self, cost: Cost, at_s: float) -> float:
        """Return the seconds that a request has to wait; 0 where all buckets hold enough."""
        return max(self._waits(cost, at_s).values(), default=0.0)

    def scarcest(self, cost: Cost, at_s: float) -> str | None:
        """Return the name of the limit with the longest wait; None without a wait."""
        waits = self._waits(cost, at_s)
        name = max(waits, key=lambda n: waits[n], default=None)
        return name if name is not None and waits[name] > 0 else None

    def _waits(self, cost: Cost, at_s: float) -> dict[str, float]:
        output = self._estimated_output + self._finished_output
        taken = {**self._taken, "output_tokens": output}
        return {
            name: bucket.wait_s(cost.of(bucket.kind), taken[bucket.kind], at_s)
            for name, bucket in self._buckets.items()
        }

    def _mark_answered(self, number: int) -> None:
        cost = self._unanswered.pop(number, None)
        if cost is not None:
            self._add(cost, -1)

    def _add(self, cost: Cost, sign: int) -> None:
        for kind in self._taken:
            self._taken[kind] += sign * cost.of(kind)
