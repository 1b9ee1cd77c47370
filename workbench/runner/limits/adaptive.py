"""How many requests to one model are under way at once: as many as it answers, no more than the plan allows."""

import statistics

_BAD = 1 / 32  # weight of the newest answer in the share of troubles
_TOO_BAD = 0.25
_SLOW = 3.0  # times the best first token
_SLOW_S = 0.25  # and so much longer at least
_FORGET = 1.1  # the best latency fades, so that longer prompts are not taken for overload for ever
_STEP = 0.05  # growth per round beyond the slow start, as a share; one request at least


class Window:
    """Adds while answers come, halves when the server says that it is too much (AIMD).

    The beginning, and the way back up to half of where an overload was met, is a slow start: one
    more per answer, so that it doubles per round (Jacobson, 1988, "Congestion avoidance and
    control"). Beyond, it grows by one per round, or a twentieth. An overload halves it once per
    window: only a request sent after the last cut can cut again. Isolated timeouts and broken
        streams do not cut; a quarter of all does.
    It does not grow while the first token takes several times as long as in the best round.

    A request is named by its number, counted from 1 in the order of sending.

    Attributes:
        limit: requests that may be under way, 1 or more; a float, of which the whole part counts.
        cap: what it never passes.
        why: what holds the limit where it is, in words.
    """

    def __init__(self, cap: int, *, start: int | None = None) -> None:
        """Begin with `start` requests; None begins at the cap, and latency never holds it back."""
        self.cap, self.watches_latency = cap, start is not None
        self.limit = float(cap if start is None else min(start, cap))
        self._threshold = float(cap)
        self._sent = self._cut_at = self._round_ends = 0
        self._in_storm = self._held = False
        self._bad, self._best = 0.0, 0.0
        self._latencies: list[float] = []
        self.why = "at the plan's cap" if self.limit >= cap else "growing"

    def send(self) -> int:
        """Number a request that goes out."""
        self._sent += 1
        return self._sent

    def answered(self, number: int, latency_s: float | None, *, full: bool) -> None:
        """Take an answer: its time to the first token, and whether more would have been sent."""
        self._bad -= self._bad * _BAD
        if latency_s is not None and self.watches_latency:
            self._latencies.append(latency_s)
        if number > self._cut_at:
            self._in_storm = False
        if number >= self._round_ends:
            self._end_round()
        if not full or self._held or self.limit >= self.cap:
            return
        rising = self.limit < self._threshold
        self.limit += 1.0 if rising else max(1.0, _STEP * self.limit) / self.limit
        self.limit = min(self.limit, float(self.cap))
        self.why = "at the plan's cap" if self.limit >= self.cap else "growing"

    def overloaded(self, number: int, kind: str) -> bool:
        """Take a refusal for overload; says whether the limit was halved for it."""
        if number <= self._cut_at:
            return False
        if (
            not self._in_storm
        ):  # the cuts of one storm go down together, the way up goes back to its half
            self._threshold = max(self.limit / 2, 1.0)
        self._in_storm, self._held = True, False
        self.limit = max(self.limit / 2, 1.0)
        self._cut_at = self._round_ends = self._sent
        self._latencies.clear()
        self.why = f"halved after {kind}"
        return True

    def troubled(self, number: int, kind: str) -> bool:
        """Take another failure; says whether there were so many that the limit was halved."""
        self._bad += (1.0 - self._bad) * _BAD
        if self._bad < _TOO_BAD or not self.overloaded(number, f"many failures ({kind})"):
            return False
        self._bad = 0.0
        return True

    def resize(self, cap: int) -> None:
        """Set another cap; a window that was at its cap goes on at the new one."""
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
        self._held = now > _SLOW * self._best and now - self._best > _SLOW_S
        if self._held:
            self.why = f"held: the first token takes {now:.2g} s, {now / self._best:.1f} × the best"
