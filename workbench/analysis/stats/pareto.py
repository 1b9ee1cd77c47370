"""Pareto frontier of a gain to maximise and one or two costs to minimise.

A point dominates another if it costs no more, gains no less, and differs in one of these. Equal
points do not dominate each other: both are on the frontier.
"""

import itertools

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Bools, Floats


def non_dominated(cost: Floats, gain: Floats, second: Floats | None = None) -> Bools:
    """Mark the points that no other dominates, along the last axis; points with NaN are not marked.

    With a second cost each point is compared with all others. Else, sorted by rising cost and
    falling gain, a point is marked if its gain strictly exceeds the running maximum, or if it
    equals the point that set it.
    """
    if second is not None:
        return _non_dominated_in_three(cost, gain, second)
    bad = np.isnan(cost) | np.isnan(gain)
    x = np.where(bad, np.inf, cost)
    y = np.where(bad, -np.inf, gain)
    order = np.lexsort((-y, x), axis=-1)
    xs = np.take_along_axis(x, order, -1)
    ys = np.take_along_axis(y, order, -1)
    stays = np.empty(xs.shape, dtype=bool)
    best_x = np.full(xs.shape[:-1], np.nan)
    best_y = np.full(xs.shape[:-1], -np.inf)
    for j in range(xs.shape[-1]):
        better = ys[..., j] > best_y
        best_x, best_y = np.where(better, xs[..., j], best_x), np.where(better, ys[..., j], best_y)
        stays[..., j] = (ys[..., j] == best_y) & (xs[..., j] == best_x)
    out = np.empty_like(stays)
    np.put_along_axis(out, order, stays, -1)
    return out & ~bad


def _non_dominated_in_three(cost: Floats, gain: Floats, second: Floats) -> Bools:
    known = ~(np.isnan(cost) | np.isnan(gain) | np.isnan(second))
    stays = known.copy()
    for j in range(cost.shape[-1]):
        stays[..., j] &= ~_dominating(cost, gain, second, j).any(axis=-1)
    return stays


def _dominating(cost: Floats, gain: Floats, second: Floats, j: int) -> Bools:
    """Mark the points that dominate the j-th."""
    at = [v[..., j : j + 1] for v in (cost, gain, second)]
    as_good = (cost <= at[0]) & (gain >= at[1]) & (second <= at[2])
    return np.asarray(as_good & ((cost < at[0]) | (gain > at[1]) | (second < at[2])))


def dominators(cost: Floats, gain: Floats, second: Floats | None = None) -> list[int | None]:
    """List for each point the one that dominates it with the highest gain, then the lowest cost."""
    dominating: list[int | None] = []
    level = np.zeros_like(cost) if second is None else second
    for i in range(len(cost)):
        beats = _dominating(cost, gain, level, i)
        best = sorted(np.flatnonzero(beats), key=lambda j: (-gain[j], cost[j], j))
        dominating.append(int(best[0]) if best else None)
    return dominating


def hull(cost: Floats, gain: Floats) -> Bools:
    """Mark the frontier points on its concave hull: what mixing two of them at random achieves.

    Only on a linear cost axis. Points on a straight stretch count as on the hull.
    """
    chain: list[tuple[float, float]] = []
    for point in sorted({(float(cost[j]), float(gain[j])) for j in _along(cost, gain)}):
        while len(chain) > 1 and _under(chain[-2], chain[-1], point):
            chain.pop()
        chain.append(point)
    return np.array([(c, g) in chain for c, g in zip(cost, gain, strict=True)], dtype=bool)


def _along(cost: Floats, gain: Floats) -> list[int]:
    """List the frontier from the cheapest to the most expensive."""
    return sorted(np.flatnonzero(non_dominated(cost, gain)), key=lambda j: (cost[j], gain[j], j))


def _under(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies under the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def hypervolume(cost: Floats, gain: Floats, reference: tuple[float, float]) -> float:
    """Area between the frontier and a reference (cost, gain) that is worse than all of it.

    The part of a point beyond the reference counts for nothing.
    """
    worst_cost, worst_gain = reference
    area = 0.0
    best = worst_gain
    for j in _along(cost, gain):
        if cost[j] < worst_cost and gain[j] > best:
            area += (worst_cost - cost[j]) * (gain[j] - best)
            best = gain[j]
    return area


def volume(
    cost: Floats, gain: Floats, second: Floats, reference: tuple[float, float, float]
) -> float:
    """Hypervolume with a second cost: the sum of areas of the points within each level of it.

    Args:
        cost: (n,) to keep low.
        gain: (n,) to keep high.
        second: (n,) to keep low.
        reference: cost, gain and second cost that are worse than all points.
    """
    levels = np.append(np.unique(second[second < reference[2]]), reference[2])
    volume = 0.0
    for low, high in itertools.pairwise(levels.tolist()):
        within = second <= low
        volume += (high - low) * hypervolume(cost[within], gain[within], reference[:2])
    return volume


def representatives(covers: Bools, cost: Floats, among: Bools) -> npt.NDArray[np.int64]:
    """Choose representatives so that each point has one that is nearly as good or better.

    For the first uncovered point by cost, the point that covers it and most others is chosen, the
    cheaper of equals. On a frontier of two axes a point covers an interval of it, and the
    representatives are as few as possible; with three axes they may be more.

    Args:
        covers: (n, n): whether the first is nearly as good as the second or better.
        cost: (n,) sets the order.
        among: (n,) which points need a representative, and may be one.

    Returns:
        (n,): the representative of each point, itself if it is one; −1 outside `among`.
    """
    out = np.full(len(cost), -1)
    order = [int(j) for j in np.argsort(cost, kind="stable") if among[j]]
    uncovered = among.copy()
    for i in order:
        if not uncovered[i]:
            continue
        best = max(
            (j for j in order if covers[j, i]), key=lambda j: int((covers[j] & uncovered).sum())
        )
        covered = covers[best] & uncovered
        out[covered] = best
        uncovered = uncovered & ~covered
        out[best] = best
    return out


def box(cost: Floats, gain: Floats, reference: tuple[float, float]) -> float:
    """Area between the ideal (least cost, most gain) and the reference; 0 without points."""
    known = ~(np.isnan(cost) | np.isnan(gain))
    if not known.any():
        return 0.0
    wide = reference[0] - cost[known].min()
    high = gain[known].max() - reference[1]
    return float(max(wide, 0.0) * max(high, 0.0))


def knee(cost: Floats, gain: Floats) -> int | None:
    """Find the frontier point highest above the chord from its cheapest to its best point.

    Both axes are scaled to 0..1 first, so that the answer depends on whether `cost` is logarithmic.
    None where the frontier has fewer than three points or none lies above the chord.
    """
    along = _along(cost, gain)
    x = cost[along]
    y = gain[along]
    if len(along) < 3 or x[-1] == x[0] or y[-1] == y[0]:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    best = int(np.argmax(above))
    return int(along[best]) if above[best] > 1e-12 else None
