"""What a server said is left of its limits, counted on between its answers: wait before, not after a 429."""

import math
from collections.abc import Sequence

import msgspec

from workbench.runner.providers.ratelimits import RateLimit

_PERIOD_S = 60.0  # of a limit that tells neither its period nor its reset, as Azure's
_ENOUGH = 5  # answers whose mean is trusted


class Cost(msgspec.Struct, frozen=True):
    """What a request takes from the buckets, estimated before and counted after.

    Attributes:
        input_tokens, output_tokens: as expected, or as used.
        most_output_tokens: what a bucket of all tokens charges for the output before it is known.
    """

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    most_output_tokens: float = 0.0

    def of(self, kind: str) -> float:
        """Return what a bucket of that kind takes."""
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
        """Begin without any."""
        self._n, self._output = 0, 0.0

    def add(self, output_tokens: int) -> None:
        """Count a finished call."""
        self._n += 1
        self._output += output_tokens

    def cost(self, prompt_bytes: int, max_tokens: int | None) -> Cost:
        """Estimate: four bytes a token for the prompt; the mean output, or the most where too few are known."""
        mean = self._output / self._n if self._n >= _ENOUGH else None
        most = max_tokens if max_tokens is not None else mean if mean is not None else 500.0
        return Cost(prompt_bytes / 4, most if mean is None else mean, most)


class _Bucket:
    """One limit: full at `limit`, refilled evenly, as of what the server said last."""

    def __init__(self, told: RateLimit, at_s: float) -> None:
        self.kind, self.at_s = told.kind, at_s
        self.remaining, self.limit, self.reset_s = told.remaining, told.limit, told.reset_s
        self.rate = _rate(told)

    def wait_s(self, cost: float, taken: float, at_s: float) -> float:
        """Seconds until `cost` is there, beside what was `taken` since the server spoke."""
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


def _rate(told: RateLimit) -> float:
    """Refill per second: even, so that the bucket is full at its reset, or in its period."""
    if told.limit is None:
        return 0.0
    used = told.limit - told.remaining
    if told.reset_s is not None and told.reset_s > 0 and used > 0:
        return used / told.reset_s
    return told.limit / (told.period_s or _PERIOD_S)


class Buckets:
    """The limits of one model and key, as its answers tell them.

    An answer tells what was left when the server let its request in. Taken off until the server has
    spoken of them: requests that went out and have not begun to be answered, by their estimate;
    and, from a bucket of output tokens, what is being written, by its estimate, and what was, by
    its count.
    """

    def __init__(self) -> None:
        """Begin without a limit: nothing waits until a server names one."""
        self._buckets: dict[str, _Bucket] = {}
        self._unheard: dict[int, Cost] = {}
        self._writing: dict[int, float] = {}
        self._taken = dict.fromkeys(("requests", "input_tokens", "tokens"), 0.0)  # by the unheard
        self._writes, self._written = 0.0, 0.0

    def __bool__(self) -> bool:
        """Say whether any limit is known."""
        return bool(self._buckets)

    def told(self, number: int, limits: Sequence[RateLimit], at_s: float) -> None:
        """Take what the answer to a request says."""
        self._hear(number)
        self._written = 0.0
        for limit in limits:
            if limit.limit == 0:  # no allowance at all: nothing to wait for, the refusals say it
                self._buckets.pop(limit.name, None)
            else:
                self._buckets[limit.name] = _Bucket(limit, at_s)

    def take(self, number: int, cost: Cost) -> None:
        """Count a request that goes out."""
        if self._buckets:
            self._unheard[number] = cost
            self._writing[number] = cost.output_tokens
            self._writes += cost.output_tokens
            self._add(cost, 1)

    def end(self, number: int, output_tokens: float | None) -> None:
        """Count a request as ended, with what was written as far as it is known; None where it was refused."""
        if number in self._writing:
            self._hear(number)
            self._writes -= self._writing.pop(number)
            self._written += output_tokens or 0.0

    def wait_s(self, cost: Cost, at_s: float) -> float:
        """Return how long a request has to wait now; 0 where all buckets hold enough."""
        return max(self._waits(cost, at_s).values(), default=0.0)

    def scarcest(self, cost: Cost, at_s: float) -> str | None:
        """Name the limit that makes a request wait longest; None where none does."""
        waits = self._waits(cost, at_s)
        name = max(waits, key=lambda n: waits[n], default=None)
        return name if name is not None and waits[name] > 0 else None

    def _waits(self, cost: Cost, at_s: float) -> dict[str, float]:
        taken = {**self._taken, "output_tokens": self._writes + self._written}
        return {
            name: bucket.wait_s(cost.of(bucket.kind), taken[bucket.kind], at_s)
            for name, bucket in self._buckets.items()
        }

    def _hear(self, number: int) -> None:
        cost = self._unheard.pop(number, None)
        if cost is not None:
            self._add(cost, -1)

    def _add(self, cost: Cost, sign: int) -> None:
        for kind in self._taken:
            self._taken[kind] += sign * cost.of(kind)
