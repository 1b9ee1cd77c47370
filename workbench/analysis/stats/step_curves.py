"""Step curves along Pareto frontiers, many resamples at once: cost of a gain, gain at a cost.

At a cost the curve is the best gain of the points that cost no more; for a gain, the least cost of
those that gain no less. Between two non-dominated points it is a step, or a straight line (a random
mixture of the two).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_SLACK = 1e-9
_STEPS = 32  # of the means over a span


class Curve:
    """Non-dominated points of curves, one curve a row.

    Args:
        cost: (r, k) in any order; NaN = no point.
        gain: (r, k).
        straight: whether the curve runs straight between its points.
    """

    def __init__(self, cost: Floats, gain: Floats, *, straight: bool) -> None:
        """Sort the points by cost and take the running maximum of the gain."""
        bad = np.isnan(cost) | np.isnan(gain)
        x = np.where(bad, np.inf, cost)
        y = np.where(bad, -np.inf, gain)
        order = np.lexsort((-y, x), axis=-1)
        self.cost = np.take_along_axis(x, order, -1)
        self.best = np.maximum.accumulate(np.take_along_axis(y, order, -1), axis=-1)
        self.straight = straight

    def cost_of(self, gain: Floats) -> Floats:
        """Least cost at which a gain (r,) is reached, (r,); NaN where it never is."""
        reached = self.best >= _below(gain)[:, None]
        at = reached.argmax(axis=1)
        x = _take(self.cost, at)
        y = _take(self.best, at)
        if self.straight:
            previous = np.where(at > 0, _take(self.best, np.maximum(at - 1, 0)), np.nan)
            start = _take(self.cost, (self.best >= previous[:, None]).argmax(axis=1))
            with np.errstate(invalid="ignore", divide="ignore"):
                between = start + (x - start) * np.clip(
                    (gain - previous) / (y - previous), 0.0, 1.0
                )
            x = np.where(np.isnan(between), x, between)
        return np.where(reached.any(axis=1) & ~np.isnan(gain), x, np.nan)

    def gain_at(self, cost: Floats) -> Floats:
        """Most gain at no more than a cost (r,), (r,); NaN where even the cheapest costs more."""
        inside = (self.cost <= -_below(-cost)[:, None]) & np.isfinite(self.best)
        at = np.maximum(inside.sum(axis=1) - 1, 0)
        y = _take(self.best, at)
        if self.straight:
            above = self.best > y[:, None]
            right = above.argmax(axis=1)
            start = _take(self.cost, (self.best >= y[:, None]).argmax(axis=1))
            with np.errstate(invalid="ignore", divide="ignore"):
                part = (cost - start) / (_take(self.cost, right) - start)
                more = y + np.clip(part, 0.0, 1.0) * (_take(self.best, right) - y)
            y = np.where(above.any(axis=1) & ~np.isnan(more), more, y)
        return np.where(inside.any(axis=1), y, np.nan)

    def spans(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Least and most cost, then gain, of the Pareto points, (r,) each; NaN without any."""
        known = np.isfinite(self.best) & np.isfinite(self.cost)
        rows = known.any(axis=1)
        top = np.where(rows, np.where(known, self.best, -np.inf).max(axis=1), np.nan)
        dearest = _take(self.cost, (self.best >= top[:, None]).argmax(axis=1))
        return (
            np.where(rows, self.cost[:, 0], np.nan),
            np.where(rows, dearest, np.nan),
            np.where(rows, self.best[:, 0], np.nan),
            top,
        )


def mean_cost_ratio(one: Curve, two: Curve, plain: Callable[[Floats], Floats]) -> float:
    """Geometric mean of the cost ratio over the gains that the first rows of both curves share.

    Args:
        one: the curve judged.
        two: the curve it is compared with.
        plain: converts costs of the curves to positive amounts.

    Returns:
        NaN where they have no span in common, or a cost is not above 0.
    """
    gains = _steps([curve.spans()[2:] for curve in (one, two)])
    costs = [plain(_first(curve, len(gains)).cost_of(gains)) for curve in (one, two)]
    if not len(gains) or not all((cost > 0).all() for cost in costs):
        return float("nan")
    return float(np.exp(np.mean(np.log(costs[0]) - np.log(costs[1]))))


def mean_gain(one: Curve, two: Curve) -> float:
    """Mean difference of gains over the costs that the first rows of both curves share, or NaN."""
    costs = _steps([curve.spans()[:2] for curve in (one, two)])
    if not len(costs):
        return float("nan")
    gains = [_first(curve, len(costs)).gain_at(costs) for curve in (one, two)]
    return float(np.mean(gains[0] - gains[1]))


def _steps(spans: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Midpoints of equal steps over the common part of all spans; none if that is empty."""
    low = max(float(s[0][0]) for s in spans)
    high = min(float(s[1][0]) for s in spans)
    if not high > low:
        return np.empty(0)
    return np.asarray(low + (high - low) * (np.arange(_STEPS) + 0.5) / _STEPS)


def _first(curve: Curve, times: int) -> Curve:
    """Repeat the first row of a curve."""
    whole = (np.broadcast_to(part[0], (times, part.shape[1])) for part in (curve.cost, curve.best))
    cost, best = (np.where(np.isinf(part), np.nan, part) for part in whole)
    return Curve(cost, best, straight=curve.straight)


def _take(values: Floats, place: npt.NDArray[np.intp]) -> Floats:
    return np.take_along_axis(values, place[:, None], -1)[:, 0]


def _below(value: Floats) -> Floats:
    """Subtract a tolerance, so that equal figures do not fail on rounding."""
    return np.asarray(value - _SLACK * np.abs(value))
