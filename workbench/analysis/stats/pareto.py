"""Who is not beaten: a cost to keep low, a gain to keep high, and a second cost where there is one.

Definitions: a point dominates another if it costs no more and gains no less, and differs in one of
these. Equal points do not dominate each other: both stay.
"""

import itertools

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Bools, Floats


def non_dominated(cost: Floats, gain: Floats, second: Floats | None = None) -> Bools:
    """Mark the points that no other dominates, along the last axis; NaN points never are.

    With a second cost point by point. Else, sorted by cost up and gain down, a point stays if its
    gain strictly exceeds the running maximum, or equals the point that set it.
    """
    if second is not None:
        return _unbeaten(cost, gain, second)
    bad = np.isnan(cost) | np.isnan(gain)
    x, y = np.where(bad, np.inf, cost), np.where(bad, -np.inf, gain)
    order = np.lexsort((-y, x), axis=-1)
    xs, ys = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    stays = np.empty(xs.shape, dtype=bool)
    best_x, best_y = np.full(xs.shape[:-1], np.nan), np.full(xs.shape[:-1], -np.inf)
    for j in range(xs.shape[-1]):
        better = ys[..., j] > best_y
        best_x, best_y = np.where(better, xs[..., j], best_x), np.where(better, ys[..., j], best_y)
        stays[..., j] = (ys[..., j] == best_y) & (xs[..., j] == best_x)
    out = np.empty_like(stays)
    np.put_along_axis(out, order, stays, -1)
    return out & ~bad


def _unbeaten(cost: Floats, gain: Floats, second: Floats) -> Bools:
    known = ~(np.isnan(cost) | np.isnan(gain) | np.isnan(second))
    stays = known.copy()
    for j in range(cost.shape[-1]):
        stays[..., j] &= ~_beat(cost, gain, second, j).any(axis=-1)
    return stays


def _beat(cost: Floats, gain: Floats, second: Floats, j: int) -> Bools:
    """Mark the points that dominate the j-th."""
    at = [v[..., j : j + 1] for v in (cost, gain, second)]
    as_good = (cost <= at[0]) & (gain >= at[1]) & (second <= at[2])
    return np.asarray(as_good & ((cost < at[0]) | (gain > at[1]) | (second < at[2])))


def dominators(cost: Floats, gain: Floats, second: Floats | None = None) -> list[int | None]:
    """Name for each point the one that beats it with the highest gain, then the lowest cost."""
    found: list[int | None] = []
    level = np.zeros_like(cost) if second is None else second
    for i in range(len(cost)):
        beats = _beat(cost, gain, level, i)
        best = sorted(np.flatnonzero(beats), key=lambda j: (-gain[j], cost[j], j))
        found.append(int(best[0]) if best else None)
    return found


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
    """List the frontier from cheap to dear."""
    return sorted(np.flatnonzero(non_dominated(cost, gain)), key=lambda j: (cost[j], gain[j], j))


def _under(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies under the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def hypervolume(cost: Floats, gain: Floats, reference: tuple[float, float]) -> float:
    """Area between the frontier and a reference (cost, gain) that is worse than all of it.

    The part of a point beyond the reference counts for nothing.
    """
    worst_cost, worst_gain = reference
    area, best = 0.0, worst_gain
    for j in _along(cost, gain):
        if cost[j] < worst_cost and gain[j] > best:
            area += (worst_cost - cost[j]) * (gain[j] - best)
            best = gain[j]
    return area


def volume(
    cost: Floats, gain: Floats, second: Floats, reference: tuple[float, float, float]
) -> float:
    """Hypervolume of points with a second cost: the area of those within each level of it, stacked.

    Args:
        cost: (n,) to keep low.
        gain: (n,) to keep high.
        second: (n,) to keep low.
        reference: cost, gain and second cost that are worse than all points.
    """
    levels = np.append(np.unique(second[second < reference[2]]), reference[2])
    found = 0.0
    for low, high in itertools.pairwise(levels.tolist()):
        within = second <= low
        found += (high - low) * hypervolume(cost[within], gain[within], reference[:2])
    return found


def stands_for(covers: Bools, cost: Floats, among: Bools) -> npt.NDArray[np.int64]:
    """Thin points out until each is stood for by one that is kept and nearly as good.

    Along the first uncovered point by cost, the one that covers it and most others is kept, the
    cheaper of equals. Along a frontier of two axes what a point covers is a stretch, and the kept
    are as few as can be; with three they may be more.

    Args:
        covers: (n, n): whether the first is nearly as good as the second or better.
        cost: (n,) sets the order.
        among: (n,) which points are to be stood for, and may be kept.

    Returns:
        (n,): which point stands for each, itself if it is kept; −1 where it is not among them.
    """
    out = np.full(len(cost), -1)
    order = [int(j) for j in np.argsort(cost, kind="stable") if among[j]]
    left = among.copy()
    for i in order:
        if not left[i]:
            continue
        best = max((j for j in order if covers[j, i]), key=lambda j: int((covers[j] & left).sum()))
        mine = covers[best] & left
        out[mine], left = best, left & ~mine
        out[best] = best
    return out


def box(cost: Floats, gain: Floats, reference: tuple[float, float]) -> float:
    """Area between the ideal (least cost, most gain) and the reference; 0 without points."""
    known = ~(np.isnan(cost) | np.isnan(gain))
    if not known.any():
        return 0.0
    wide, high = reference[0] - cost[known].min(), gain[known].max() - reference[1]
    return float(max(wide, 0.0) * max(high, 0.0))


def knee(cost: Floats, gain: Floats) -> int | None:
    """Find the frontier point highest above the chord from its cheapest to its best point.

    Both axes are scaled to 0..1 first, so that the answer depends on whether `cost` is logarithmic.
    None where fewer than three points stay or none lies above the chord.
    """
    along = _along(cost, gain)
    x, y = cost[along], gain[along]
    if len(along) < 3 or x[-1] == x[0] or y[-1] == y[0]:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    best = int(np.argmax(above))
    return int(along[best]) if above[best] > 1e-12 else None
