"""Handover curves: answers deferred to a larger model, the least confident first, resampled."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats import resampling
from workbench.analysis.stats.arrays import Floats

GRID = np.linspace(0, 1, 21)  # shares at which curves are shown
_BLOCKS = 25  # steps of a resampled curve


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Answers of the small model, with accuracy and cost of both models on their items.

    Attributes:
        small, deferred: (n, 2) accuracy and cost if the small model's answer stands, or is
            deferred.
        large: (n, 2) accuracy and cost of the larger model alone.
        confidence: (n,) of the small model's answer.
        weight: (n,) the answers of an item sum to 1.
        cluster: (n,) the number of the item's cluster.
    """

    small: Floats
    deferred: Floats
    large: Floats
    confidence: Floats
    weight: Floats
    cluster: npt.NDArray[np.int64]


class ResampledCurves(NamedTuple):
    """Resamples of a curve.

    Attributes:
        share, rate, cost: (r, k) shares of deferred answers, accuracies and costs.
        large_cost: (r,) the larger model's cost.
    """

    share: Floats
    rate: Floats
    cost: Floats
    large_cost: Floats


def parity_point(share: Floats, rate: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """Find the least share at which a curve is as accurate as at its end, and the cost there.

    Args:
        share: (r, k) rising shares of deferred answers.
        rate: (r, k) accuracies.
        cost: (r, k) costs.

    Returns:
        (r,) shares and (r,) costs, linear between points.
    """
    enough = rate >= rate[:, -1:] - 1e-12
    j = np.argmax(enough, axis=1)
    rows = np.arange(len(rate))
    before = np.maximum(j - 1, 0)
    rise = rate[rows, j] - rate[rows, before]
    part = np.divide(
        rate[:, -1] - rate[rows, before], rise, out=np.ones(len(rate)), where=rise > 1e-12
    )
    part = np.clip(part, 0, 1)
    least_share = share[rows, before] + part * (share[rows, j] - share[rows, before])
    least_cost = cost[rows, before] + part * (cost[rows, j] - cost[rows, before])
    return least_share, least_cost


def resampled(
    pairs: Iterable[Pair], rng: np.random.Generator, resamples: int
) -> list[ResampledCurves | None]:
    """Resample clusters; pairs of the same clusters see the same resamples.

    Args:
        pairs: consumed one at a time, so that only one is in memory.
        rng: the source of randomness.
        resamples: how many.

    Returns:
        Per pair the curves of its resamples, None below two clusters.
    """
    bags: dict[bytes, npt.NDArray[np.int64]] = {}
    parts: list[tuple[bytes, Floats]] = []
    for pair in pairs:
        present = np.bincount(pair.cluster) > 0
        key = np.flatnonzero(present).tobytes()
        if key not in bags:
            bags[key] = resampling.bags(int(present.sum()), rng)
        bag = bags[key][np.cumsum(present) - 1]
        parts.append((key, _blocks(pair, bag[pair.cluster])))
    out: list[ResampledCurves | None] = [None] * len(parts)
    for key, bag in bags.items():
        indices = [i for i, (k, _) in enumerate(parts) if k == key and len(bag) > 1]
        if not indices:
            continue
        sums = np.hstack([parts[i][1] for i in indices])
        resamples_of_sums = resampling.resampled_sums(np.nan_to_num(sums), resamples, rng)
        resamples_of_sums[:, np.isnan(sums).any(axis=0)] = np.nan
        ends = np.cumsum([parts[i][1].shape[1] for i in indices])[:-1]
        for i, curve_sums in zip(indices, np.split(resamples_of_sums, ends, axis=1), strict=True):
            out[i] = _curves(curve_sums)
    return out


def _blocks(pair: Pair, bag: npt.NDArray[np.int64]) -> Floats:
    """Sum weights and the changes by deferring, per bag and block of confidence.

    Returns:
        (n_bags, 3 k + 2): k blocks of each, then accuracy and cost if nothing is deferred.
    """
    order = np.argsort(pair.confidence, kind="stable")
    rises = np.append(True, pair.confidence[order][1:] > pair.confidence[order][:-1])
    upto = np.cumsum(pair.weight[order])
    last = upto[np.append(np.flatnonzero(rises)[1:] - 1, len(order) - 1)]  # of equal confidences
    block = np.arange(len(last))
    if len(last) > _BLOCKS:
        step = np.ceil(last / upto[-1] * _BLOCKS - 1e-9)
        block = np.cumsum(np.diff(step, prepend=step[0]) > 0)
    k = int(block[-1]) + 1
    w = pair.weight
    place = np.empty(len(order), np.int64)
    place[order] = block[np.cumsum(rises) - 1]
    place += bag * k
    n_bags = int(bag.max()) + 1
    change = w[:, None] * (pair.deferred - pair.small)
    start = w[:, None] * pair.small
    parts = [
        np.bincount(place, x, n_bags * k).reshape(n_bags, k)
        for x in (w, change[:, 0], change[:, 1])
    ]
    whole = [np.bincount(bag, x, n_bags) for x in (start[:, 0], start[:, 1])]
    return np.column_stack([*parts, *whole])


def _curves(sums: Floats) -> ResampledCurves:
    k = (sums.shape[1] - 2) // 3
    share, rate, cost = (np.cumsum(sums[:, j * k : (j + 1) * k], axis=1) for j in range(3))
    total = share[:, -1:]
    large = cost[:, -1]
    first = np.zeros_like(total), sums[:, -2:-1], sums[:, -1:]
    curves = [
        np.column_stack([start, start + x]) / total
        for start, x in zip(first, (share, rate, cost), strict=True)
    ]
    return ResampledCurves(curves[0], curves[1], curves[2], large / total[:, 0])


def intervals(
    curves: ResampledCurves, level: float, n_clusters: int
) -> tuple[dict[str, float], tuple[Floats, Floats]]:
    """Return intervals (widened percentiles) of the figures, and of the accuracy at `GRID`."""
    share, rate, cost, large_cost = curves
    area = (np.diff(share, axis=1) * (rate[:, 1:] + rate[:, :-1]) / 2).sum(axis=1)
    at_random = (rate[:, 0] + rate[:, -1]) / 2
    least, parity_cost = parity_point(share, rate, cost)
    with np.errstate(divide="ignore", invalid="ignore"):
        saving = np.where(large_cost > 0, 1 - parity_cost / large_cost, np.nan)
    figures = {
        "area": area,
        "gain_area": area - at_random,
        "parity_share": least,
        "saving": saving,
    }
    ends: dict[str, float] = {}
    for name, draws in figures.items():
        low, high = resampling.percentile(draws[:, None], level, n_clusters)
        ends |= {f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    interp: Callable[..., Floats] = np.interp
    points = np.stack([interp(GRID, s, r) for s, r in zip(share, rate, strict=True)])
    return ends, resampling.percentile(points, level, n_clusters)
