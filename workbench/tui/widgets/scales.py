"""Scales of axes: positions of values between 0 and 1, and round values for ticks."""

import dataclasses
import math
from collections.abc import Sequence

MARGIN = 0.06  # of the span, kept free at both ends


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Return at most `most` round values on the axis."""
        most = max(2, most)
        return self._log_ticks(most) if self.is_log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        ticks = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return ticks[:most]

    def _log_ticks(self, most: int) -> list[float]:
        ticks: list[float] = []
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            values = [f * 10.0**p for p in powers for f in factors]
            ticks = [
                v for v in values if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)
            ]
            if len(ticks) <= most:
                break
        if len(ticks) > most:
            ticks = ticks[:: math.ceil(len(ticks) / most)]
        return ticks if len(ticks) > 1 else self._linear_ticks(most)


def fit(
    values: Sequence[float], *, is_log: bool, low: float | None = None, high: float | None = None
) -> Scale:
    """Return a scale that holds all values with some room, inside `low` and `high` where given."""
    if is_log:
        return _fit_log(values)
    least, most = min(values), max(values)
    span = most - least or abs(most) or 1.0
    least, most = least - span * MARGIN, most + span * MARGIN
    bottom = least if low is None else max(low, least)
    top = most if high is None else min(high, most)
    return Scale(bottom, top) if top > bottom else Scale(bottom, bottom + 1)


def _fit_log(values: Sequence[float]) -> Scale:
    least, most = min(values), max(values)
    ratio = max(most / least, 1.6) ** (1 + 2 * MARGIN)
    middle = math.sqrt(least * most)
    return Scale(middle / math.sqrt(ratio), middle * math.sqrt(ratio), is_log=True)
