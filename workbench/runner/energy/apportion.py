"""Apportioning of a device's energy among the active calls, so that the shares add up to it.

Between two updates of the counter, the energy above idle, D = ΔE − P₀·Δt, goes to the active calls
by overlap × work rate. As each call's share is D / Σ(overlap × rate) times its own overlap × rate,
it is the growth, between its begin and its end, of one curve that all calls have in common. So a
call costs two look-ups, however many intervals it spans, and the shares add up to D by
construction.

Counters lag (see `lag`): a call's work counts as done after each of several delays, each with its
probability, and there is a curve for each. D keeps its sign, so that the noise of idle power and of
update times cancels within a call; the figure reported for a call is never negative.
"""

import bisect
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.runner.energy.baseline import Baseline, Floats, Ints, Updates
from workbench.runner.energy.lag import Lag

MOST_MISMATCH = 0.02  # of what the meter read; beyond it a run is marked
MOST_DISAGREEMENT = (
    0.05  # of counter and integral of power; beyond it the difference is uncertainty
)


class Spans(NamedTuple):
    """Active times of calls, one row a span; a call may have several (its phases, its tries).

    Attributes:
        call: (n,) which call.
        begin_s, end_s: (n,) seconds on the meter's clock.
        rate: (n,) work rate: 1 for a sequence that decodes; for a prefill its tokens per second
            times the cost of one of them relative to a decode step, where they are known, else 1.
    """

    call: Ints
    begin_s: Floats
    end_s: Floats
    rate: Floats


class Occupancy:
    """Integral of 1/n(t) while n calls are active; a span's share is its growth over the span.

    `machine_time.MachineClock` gives the same for whole calls; this one can be asked about any
    moment.
    """

    def __init__(self) -> None:
        """Start without active calls."""
        self._at: list[float] = [0.0]
        self._integral: list[float] = [0.0]
        self._active = 0

    def add(self, at_s: float, change: int) -> None:
        """Count calls in (+1) or out (−1); times come in order, a late one counts from the last."""
        last, integral = self._at[-1], self._integral[-1]
        at = max(at_s, last)
        if self._active:
            integral += (at - last) / self._active
        self._at.append(at)
        self._integral.append(integral)
        self._active += change

    def at(self, time_s: float) -> float:
        """Return the integral at a time up to now."""
        n = bisect.bisect_right(self._at, time_s) - 1
        if n < 0:
            return 0.0
        if n + 1 == len(self._at):
            since = (time_s - self._at[n]) / self._active if self._active else 0.0
            return self._integral[n] + since
        width = self._at[n + 1] - self._at[n]
        part = (time_s - self._at[n]) / width if width else 0.0
        return self._integral[n] + part * (self._integral[n + 1] - self._integral[n])

    def share(self, begin_s: float, end_s: float) -> float:
        """Return a span's share in seconds."""
        return self.at(end_s) - self.at(begin_s)

    def forget(self, before_s: float) -> None:
        """Drop the spans before a time that is not needed any more."""
        n = bisect.bisect_right(self._at, before_s) - 1
        if n > 0:
            del self._at[:n], self._integral[:n]


_AT, _CROWD, _RATE, _POWER, _SHARED = range(5)


class Ledger:
    """Where the energy of one device went, interval by interval of its counter.

    Attributes:
        metered_j: what the counter counted in the closed intervals.
        duration_s: their length.
        unattributed_j: energy above idle in intervals that hold no call's. A stretch of them counts
            as one interval, so that noise about the idle power cancels instead of being rectified.
        mean_w: energy above idle of all calls so far, per second of work at a rate of 1; never
            negative.
    """

    def __init__(self, idle: Baseline, start_s: float) -> None:
        """Begin at an update of the counter."""
        self.idle = idle
        self.metered_j = self.duration_s = 0.0
        self._quiet_j = self._loose_j = self._paid_j = self._paid_s = 0.0
        self._lag = Lag(idle.late_s)
        # rows: time; crowded intervals so far; of the interval that begins there, D per unit of
        # work (infinite without any work) and D per second; then, for each delay, ∫D per unit of
        # work
        self._rows: Floats = np.zeros((_SHARED + self._lag.delays_s.size, 256))
        self._rows[_AT, 0] = start_s
        self._n = 1

    @property
    def closed_s(self) -> float:
        """The end of the last closed interval."""
        return float(self._rows[_AT, self._n - 1])

    @property
    def unattributed_j(self) -> float:
        """Energy above idle while no call was active."""
        return self._loose_j + max(0.0, self._quiet_j)

    @property
    def idle_j(self) -> float:
        """Idle power times the time so far."""
        return self.idle.idle_w * self.duration_s

    @property
    def mean_w(self) -> float:
        """Mean power above idle of the work so far."""
        return max(self._paid_j, 0.0) / self._paid_s if self._paid_s else 0.0

    def close(self, moved: Updates, work: Spans, calls: Spans) -> None:
        """Settle the intervals between the updates of a counter, for good.

        Args:
            moved: the updates; the first is where the last closing ended.
            work: who is paid in them: spans with their rates; an end may lie beyond.
            calls: who is active in them, which decides whether a call was alone.
        """
        at, counted = moved
        if at.size < 2:
            return
        dt, gained = np.diff(at), np.diff(counted)
        above = gained - self.idle.idle_w * dt
        delays = self._lag.delays_s
        worked, busy = (
            np.stack([_overlaps(at, _later(spans, delay))[0] for delay in delays])
            for spans in (work, _merged(work))
        )
        self._lag.learn(above, busy, worked)
        weight = self._lag.weights @ worked
        _, crowd = _overlaps(at, calls._replace(end_s=calls.end_s + delays[-1]))
        paid = weight > 0
        per_work = np.divide(above, weight, out=np.zeros_like(dt), where=paid)
        self._settle_quiet(above, paid)
        self.metered_j += float(gained.sum())
        self.duration_s += float(dt.sum())
        self._paid_j += float(above[paid].sum())
        self._paid_s += float(weight.sum())
        self._append(
            at,
            (crowd > 1).astype(np.float64),
            np.where(paid, np.maximum(per_work, 0.0), np.inf),
            np.maximum(above, 0.0) / dt,
            np.outer(self._lag.weights, per_work * dt),
        )

    def _settle_quiet(self, above: Floats, paid: npt.NDArray[np.bool_]) -> None:
        starts = np.flatnonzero(np.diff(paid)) + 1
        for part, is_paid in zip(
            np.split(above, starts), paid[np.concatenate(([0], starts))], strict=True
        ):
            if is_paid:
                self._loose_j += max(0.0, self._quiet_j)
                self._quiet_j = 0.0
            else:
                self._quiet_j += float(part.sum())

    def _append(
        self, at: Floats, crowded: Floats, rate: Floats, power: Floats, shared: Floats
    ) -> None:
        n, m = self._n, at.size - 1
        if n + m > self._rows.shape[1]:
            grown = np.zeros((len(self._rows), max(2 * self._rows.shape[1], n + m)))
            grown[:, :n] = self._rows[:, :n]
            self._rows = grown
        rows, new = self._rows, slice(n, n + m)
        rows[_AT, new] = at[1:]
        rows[_CROWD, new] = rows[_CROWD, n - 1] + np.cumsum(crowded)
        rows[_SHARED:, new] = rows[_SHARED:, n - 1 : n] + np.cumsum(shared, axis=1)
        rows[_RATE, n - 1 : n + m - 1] = rate
        rows[_POWER, n - 1 : n + m - 1] = power
        self._n += m

    def forget(self, before_s: float) -> None:
        """Drop the intervals that ended before a time that is not needed any more."""
        n = int(np.searchsorted(self._rows[_AT, : self._n], before_s, "right")) - 1
        if n > 0:
            self._rows[:, : self._n - n] = self._rows[:, n : self._n].copy()
            self._n -= n

    def energy_j(self, begin_s: Floats, end_s: Floats, rate: Floats) -> Floats:
        """Return the dynamic joules of work at a rate between two times, (n,); may be negative."""
        at, joules = self._rows[_AT, : self._n], np.zeros(len(rate))
        for delay, shared in zip(self._lag.delays_s, self._rows[_SHARED:, : self._n], strict=True):
            joules += np.interp(end_s + delay, at, shared) - np.interp(begin_s + delay, at, shared)
        return rate * joules

    def begin_w(self, at_s: Floats, rate: Floats) -> Floats:
        """Return the watts at the start of work, (n,): the highest of its possible intervals.

        Never more than the device's, which is what short work in a long interval would seem to
        draw.
        """
        return self._power(self._first(at_s[:, None] + self._lag.delays_s), rate)

    def end_w(self, at_s: Floats, rate: Floats) -> Floats:
        """Return the watts at the end of work, (n,): the highest of its possible intervals."""
        return self._power(self._last(at_s[:, None] + self._lag.delays_s), rate)

    def alone(self, begin_s: Floats, end_s: Floats) -> npt.NDArray[np.bool_]:
        """Whether a call was the only active one in all intervals of its time, (n,)."""
        crowd, last = self._rows[_CROWD], self._last(end_s + self._lag.delays_s[-1])
        lonely: npt.NDArray[np.bool_] = crowd[last + 1] == crowd[self._first(begin_s)]
        return lonely

    def _first(self, at_s: Floats) -> Ints:
        interval = np.searchsorted(self._rows[_AT, : self._n], at_s, "right") - 1
        return np.clip(interval, 0, max(self._n - 2, 0))

    def _last(self, at_s: Floats) -> Ints:
        interval = np.searchsorted(self._rows[_AT, : self._n], at_s, "left") - 1
        return np.clip(interval, 0, max(self._n - 2, 0))

    def _power(self, interval: Ints, rate: Floats) -> Floats:
        own = rate[:, None] * self._rows[_RATE, interval]
        most: Floats = np.minimum(own, self._rows[_POWER, interval]).max(axis=1)
        return most


def noise_j(idle: Baseline, machine_s: Floats, length_s: Floats) -> Floats:
    """Return what noise may put into shares or hide of them, in joules, (n,).

    Idle's standard deviation × the share of the device's time, and that of the counter at both
    ends.
    """
    part = np.divide(machine_s, length_s, out=np.zeros_like(machine_s), where=length_s > 0)
    half_width: Floats = (idle.idle_sd_w or 0.0) * machine_s + np.sqrt(2.0) * idle.jump_sd_j * part
    return half_width


def half_width(
    energy_j: Floats, edges_w: Floats, noise_j: Floats, *, period_s: float, disagreement: float
) -> Floats:
    """Return the uncertainty of shares in joules, (n,): the sum of three bounds.

    One update period of the counter at each end, at the share's own power there; the noise; and
    what counter and integral of power disagree about, as a fraction, where it is over 5 %.
    """
    doubt = disagreement if disagreement > MOST_DISAGREEMENT else 0.0
    return period_s * edges_w + noise_j + doubt * energy_j


def _later(spans: Spans, delay_s: float) -> Spans:
    return spans._replace(begin_s=spans.begin_s + delay_s, end_s=spans.end_s + delay_s)


def _merged(spans: Spans) -> Spans:
    """Return the times in which any span is active, one row each, at a rate of 1."""
    order = np.argsort(spans.begin_s)
    begin, end = spans.begin_s[order], np.maximum.accumulate(spans.end_s[order])
    first = np.flatnonzero(np.append(True, begin[1:] > end[:-1])[: begin.size])
    last = np.append(first[1:] - 1, begin.size - 1)[: first.size]
    return Spans(np.arange(first.size), begin[first], end[last], np.ones(first.size))


def _overlaps(at: Floats, spans: Spans) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Sum overlap × rate, and count the calls that touch, per interval: (m,) and (m,)."""
    m = at.size - 1
    begin, end = np.maximum(spans.begin_s, at[0]), np.minimum(spans.end_s, at[-1])
    inside = end > begin
    begin, end, rate = begin[inside], end[inside], spans.rate[inside]
    first = np.searchsorted(at, begin, "right") - 1
    last = np.searchsorted(at, end, "left") - 1
    weight: Floats = np.bincount(first, rate * (np.minimum(end, at[first + 1]) - begin), m).astype(
        np.float64
    )
    longer = last > first
    weight += np.bincount(last[longer], (rate * (end - at[last]))[longer], m)
    through: Floats = np.bincount(first[longer] + 1, rate[longer], m + 1)[:m].astype(np.float64)
    through -= np.bincount(last[longer], rate[longer], m)
    # a sum of rates that cancel leaves rounding where none is active: the count decides
    touching = np.cumsum(
        np.bincount(first, minlength=m + 1) - np.bincount(last + 1, minlength=m + 1)
    )
    weight += np.cumsum(through) * np.diff(at)
    return np.where(touching[:m] > 0, weight, 0.0), touching[:m]
