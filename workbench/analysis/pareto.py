"""Who is not beaten in two dimensions: a cost to keep low, a gain to keep high.

Definitions: a point dominates another if it costs no more and gains no less, and differs in one of
the two. Equal points do not dominate each other: both stay.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def non_dominated(cost: Floats, gain: Floats) -> Bools:
    """Mark the points that no other dominates, along the last axis; NaN points never are.

    Sorted by cost up and gain down, a point stays if its gain strictly exceeds the running maximum,
    or equals the point that set it.
    """
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


def dominators(cost: Floats, gain: Floats) -> list[int | None]:
    """Name for each point the one that beats it with the highest gain, then the lowest cost."""
    found: list[int | None] = []
    for i in range(len(cost)):
        beats = (cost <= cost[i]) & (gain >= gain[i]) & ((cost < cost[i]) | (gain > gain[i]))
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
