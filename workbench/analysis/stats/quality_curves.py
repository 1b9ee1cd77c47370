"""Figures of quality curves over cost, as those of routers and cascades.

A curve is given by its points: (k,) or (…, k) costs and qualities, in any order.
"""

import numpy as np

from workbench.analysis.stats import pareto
from workbench.analysis.stats.arrays import Floats


def pareto_points(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Return the non-dominated points, cheapest first, each cost once: (j,) and (j,)."""
    keep = pareto.non_dominated(cost, quality)
    x, place = np.unique(cost[keep], return_index=True)
    return x, quality[keep][place]


def concave(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Return the corners of the concave hull of the Pareto points, which random mixing achieves."""
    corner = pareto.hull(cost, quality)
    x, place = np.unique(cost[corner], return_index=True)
    return x, quality[corner][place]


def area(x: Floats, y: Floats) -> float:
    """Area under straight lines between points, by trapezia."""
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def own_area(cost: Floats, quality: Floats) -> float:
    """Mean quality over the curve's own range of cost (nAUC of MMR-Bench); NaN where it has none.

    Not comparable between curves that span different ranges; `common_area` is.
    """
    x, y = pareto_points(cost, quality)
    return area(x, y) / float(x[-1] - x[0]) if len(x) > 1 else float("nan")


def common_area(cost: Floats, quality: Floats, low: float, high: float) -> float:
    """Mean quality over a given range of cost: linear between Pareto points, flat beyond them.

    NaN where the range is empty. Before its first point a curve has that point's quality: give a
    range that begins where all curves do.
    """
    if not high > low:
        return float("nan")
    x, y = pareto_points(cost, quality)
    inside = x[(x > low) & (x < high)]
    at = np.concatenate([[low], inside, [high]])
    return area(at, np.interp(at, x, y)) / (high - low)


def common_areas(cost: Floats, quality: Floats, low: Floats, high: Floats) -> Floats:
    """`common_area` for many resamples of one curve at once.

    Args:
        cost: (r, k).
        quality: (r, k).
        low: (r,) where each range begins.
        high: (r,) where it ends.
    """
    order = np.argsort(cost, axis=1, kind="stable")
    x, y = (np.take_along_axis(v, order, 1) for v in (cost, quality))
    keep = pareto.non_dominated(x, y)
    # A dominated point is replaced by the Pareto point before it, which adds no area.
    place = np.maximum.accumulate(np.where(keep, np.arange(x.shape[1]), -1), axis=1)
    first = np.argmax(keep, axis=1)[:, None]
    place = np.where(place < 0, first, place)
    x, y = (np.take_along_axis(v, place, 1) for v in (x, y))
    lower = low[:, None]
    upper = high[:, None]
    ends = np.concatenate([np.minimum(lower, x[:, :1]), x, np.maximum(upper, x[:, -1:])], axis=1)
    level = np.concatenate([y[:, :1], y, y[:, -1:]], axis=1)
    a = np.clip(ends[:, :-1], lower, upper)
    b = np.clip(ends[:, 1:], lower, upper)
    wide = np.diff(ends, axis=1)
    slope = np.divide(np.diff(level, axis=1), wide, out=np.zeros_like(wide), where=wide > 0)
    middle = level[:, :-1] + slope * ((a + b) / 2 - ends[:, :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = ((b - a) * middle).sum(axis=1) / np.where(high > low, high - low, np.nan)
    return mean


def hull_areas(cost: Floats, quality: Floats) -> Floats:
    """Mean quality on the concave hull over the points' range of cost, for many resamples at once.

    Along each hull the next corner is the point of the steepest rise; behind the last one it is
    flat.

    Args:
        cost: (r, k).
        quality: (r, k).

    Returns:
        (r,); NaN where all cost the same.
    """
    at = cost.min(axis=1)
    high = cost.max(axis=1)
    wide = high - at
    level = np.where(cost == at[:, None], quality, -np.inf).max(axis=1)
    area = np.zeros(len(cost))
    rows = np.arange(len(cost))
    for _ in range(cost.shape[1]):
        run = cost - at[:, None]
        rise = quality - level[:, None]
        rises = (run > 0) & (rise > 0)
        if not rises.any():
            break
        slope = np.divide(rise, run, out=np.full(cost.shape, -np.inf), where=rises)
        corner = np.argmax(slope, axis=1)
        step = np.where(rises.any(axis=1), run[rows, corner], 0.0)
        gain = np.where(rises.any(axis=1), rise[rows, corner], 0.0)
        area += step * (level + gain / 2)
        at, level = at + step, level + gain
    area += (high - at) * level
    mean: Floats = np.divide(area, wide, out=np.full(len(cost), np.nan), where=wide > 0)
    return mean


def parity_cost(cost: Floats, quality: Floats, best: float, best_cost: float) -> float:
    """QNC: the least cost at which the curve is as good as the best single model, over its cost.

    Infinite where the curve never is (MMR-Bench); NaN where that model's cost is 0.
    """
    x, y = pareto_points(cost, quality)
    enough = y >= best - 1e-12
    if not best_cost > 0:
        return float("nan")
    return float(x[enough][0]) / best_cost if enough.any() else float("inf")


def hull_area(cost: Floats, quality: Floats, most: float) -> tuple[float, float]:
    """AIQ of RouterBench in both forms, over the concave hull extended or cut to the cost `most`.

    Returns:
        the area over `most`, beginning at the first point (as its code has it), 0 if that costs
        more; and over the range from the first point to `most` (as the paper writes it;
        unverified). NaN where there is none.
    """
    x, y = concave(cost, quality)
    inside = x < most
    x, y = np.append(x[inside], most), np.append(y[inside], np.interp(most, x, y))
    whole = area(x, y)
    span = float(most - x[0])
    return (whole / most if most > 0 else float("nan"), whole / span if span > 0 else float("nan"))


def recovered(quality: Floats, weak: float, strong: float) -> Floats:
    """PGR: (quality − weak) / (strong − weak), the share of the gap closed; NaN without a gap."""
    gap = strong - weak
    share: Floats = (quality - weak) / gap if gap > 0 else np.full(quality.shape, np.nan)
    return share


def mean_recovered(share: Floats, quality: Floats, weak: float, strong: float) -> float:
    """APGR of RouteLLM: the area between the curve and the weak model, over that of the strong one.

    Args:
        share: (k,) share of calls to the strong model, rising from 0 to 1.
        quality: (k,).
        weak: the quality of the one model.
        strong: that of the other.
    """
    return area(share, recovered(quality, weak, strong)) / float(share[-1] - share[0])


def calls_for(share: Floats, quality: Floats, weak: float, strong: float, part: float) -> float:
    """CPT(part): the share of strong calls at which that part of the gap is first closed.

    Straight between points; NaN where the curve never gets there, or there is no gap. Where quality
    falls somewhere, interpolating its inverse would be silently wrong; the first crossing is not.
    """
    closed = recovered(quality, weak, strong)
    reached = np.flatnonzero(closed >= part - 1e-12)
    if not len(reached):
        return float("nan")
    j = int(reached[0])
    if j == 0:
        return float(share[0])
    step = (part - closed[j - 1]) / (closed[j] - closed[j - 1])
    return float(share[j - 1] + step * (share[j] - share[j - 1]))


def deferred(first: Floats, other: Floats, score: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Accumulate the effect of handing over the lowest scores first; equal scores go together.

    Args:
        first: (n, k) what an item gives (quality, cost …) if kept.
        other: (n, k) what it gives if handed over.
        score: (n,) the lowest is handed over first; −inf goes before all.
        weight: (n,) of each row.

    Returns:
        (s,) the share handed over, from 0 to 1, and (s, k) the means there. Between two steps they
        are straight lines: a draw among equal scores.
    """
    order = np.argsort(score)  # not stable, which is faster: equal scores go together
    ordered = score[order]
    w = weight[order] / weight.sum()
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    share = np.append(0.0, np.cumsum(w)[last])
    share[-1] = 1.0
    means = np.empty((len(share), first.shape[1]))
    for j, (first_value, other_value) in enumerate(zip(first.T, other.T, strict=True)):
        means[0, j] = (weight * first_value).sum() / weight.sum()
        means[1:, j] = means[0, j] + np.cumsum(w * (other_value - first_value)[order])[last]
    return share, means
