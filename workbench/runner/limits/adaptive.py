"""Adaptive concurrency of one model: an AIMD window below the plan's limit."""

import statistics

_FAILURE_WEIGHT = 1 / 32  # of the newest answer in the moving share of failures
_MAX_FAILURE_SHARE = 0.25
_SLOW = 3.0  # ratio to the best time to first token at which growth stops
_SLOW_S = 0.25  # and the least difference to it, in seconds
_FORGET = 1.1  # the best latency grows per round, so that longer prompts do not stay "overload"
_STEP = 0.05  # growth per round beyond the slow start, as a share; one request at least


class Window:
    """Concurrency limit that grows with answers and halves on overload (AIMD).

    At the start, and after an overload up to half of the limit it hit, it is in slow start: one
    more per answer, so that it doubles per round (Jacobson, 1988, "Congestion avoidance and
    control"). Beyond, it grows by one per round, or a twentieth. An overload halves it once per
    window: only a request sent after the last cut can cut again. Isolated timeouts and broken
    streams do not cut; a quarter of all requests does. It does not grow while the first token takes
    several times as long as in the best round.

    A request is identified by its number, counted from 1 in the order of sending.

    Attributes:
        limit: requests that may be in flight, 1 or more; a float, of which the whole part counts.
        cap: upper bound of the limit.
        why: reason of the present limit, in words.
    """

    def __init__(self, cap: int, *, start: int | None = None) -> None:
        """Start at `start` requests; None starts at the cap, and ignores latency."""
        self.cap = cap
        self.watches_latency = start is not None
        self.limit = float(cap if start is None else min(start, cap))
        self._threshold = float(cap)
        self._sent = 0
        self._cut_at = 0
        self._round_ends = 0
        self._in_storm = False
        self._is_slow = False
        self._failure_share = 0.0
        self._best = 0.0
        self._latencies: list[float] = []
        self.why = "at the plan's cap" if self.limit >= cap else "growing"

    def send(self) -> int:
        """Return the number of a request that is sent."""
        self._sent += 1
        return self._sent

    def answered(self, number: int, latency_s: float | None, *, full: bool) -> None:
        """Count an answer.

        Args:
            number: of the request.
            latency_s: its time to the first token.
            full: whether more requests waited to be sent.
        """
        self._failure_share -= self._failure_share * _FAILURE_WEIGHT
        if latency_s is not None and self.watches_latency:
            self._latencies.append(latency_s)
        if number > self._cut_at:
            self._in_storm = False
        if number >= self._round_ends:
            self._end_round()
        if not full or self._is_slow or self.limit >= self.cap:
            return
        rising = self.limit < self._threshold
        self.limit += 1.0 if rising else max(1.0, _STEP * self.limit) / self.limit
        self.limit = min(self.limit, float(self.cap))
        self.why = "at the plan's cap" if self.limit >= self.cap else "growing"

    def overloaded(self, number: int, kind: str) -> bool:
        """Count a refusal for overload; returns whether it halved the limit."""
        if number <= self._cut_at:
            return False
        # several cuts in a row count as one overload: growth slows at half of the first limit
        if not self._in_storm:
            self._threshold = max(self.limit / 2, 1.0)
        self._in_storm = True
        self._is_slow = False
        self.limit = max(self.limit / 2, 1.0)
        self._cut_at = self._round_ends = self._sent
        self._latencies.clear()
        self.why = f"halved after {kind}"
        return True

    def troubled(self, number: int, kind: str) -> bool:
        """Count another failure; returns whether their share halved the limit."""
        self._failure_share += (1.0 - self._failure_share) * _FAILURE_WEIGHT
        if self._failure_share < _MAX_FAILURE_SHARE:
            return False
        if not self.overloaded(number, f"many failures ({kind})"):
            return False
        self._failure_share = 0.0
        return True

    def resize(self, cap: int) -> None:
        """Change the cap; a window at its cap moves to the new one."""
        was_full = self.limit >= self.cap
        self.cap = cap
        self.limit = float(cap) if was_full else min(self.limit, float(cap))
        self._threshold = max(self._threshold, float(cap)) if was_full else self._threshold
        if self.limit >= cap:
            self.why = "at the plan's cap"

    def _end_round(self) -> None:
        self._round_ends = self._sent + 1
        if not self._latencies:
            return
        now = statistics.median(self._latencies)
        self._latencies.clear()
        self._best = min(self._best * _FORGET, now) if self._best else now
        self._is_slow = now > _SLOW * self._best and now - self._best > _SLOW_S
        if self._is_slow:
            self.why = f"held: the first token takes {now:.2g} s, {now / self._best:.1f} × the best"
