"""Answers that are handed over from one model to another, the least sure first: resampled curves."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from workbench.analysis import resampling

Floats = npt.NDArray[np.float64]
GRID = np.linspace(0, 1, 21)  # shares at which curves are shown
_BLOCKS = 25  # steps of a resampled curve


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Answers of the small model with what either model makes of their item.

    Attributes:
        kept, handed: (n, 2) accuracy and cost if the small model's answer stands, or is deferred.
        large: (n, 2) accuracy and cost of the larger model alone.
        sure: (n,) confidence; weight: (n,), an item's answers sum to 1; cluster: (n,).
    """

    kept: Floats
    handed: Floats
    large: Floats
    sure: Floats
    weight: Floats
    cluster: npt.NDArray[np.int64]


def parity(share: Floats, rate: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """The least share at which a curve is as good as at its end, and the cost there; (r,) and (r,)."""
    enough = rate >= rate[:, -1:] - 1e-12
    j = np.argmax(enough, axis=1)
    rows, before = np.arange(len(rate)), np.maximum(j - 1, 0)
    rise = rate[rows, j] - rate[rows, before]
    part = np.divide(
        rate[:, -1] - rate[rows, before], rise, out=np.ones(len(rate)), where=rise > 1e-12
    )
    part = np.clip(part, 0, 1)
    found = [x[rows, before] + part * (x[rows, j] - x[rows, before]) for x in (share, cost)]
    return found[0], found[1]


def resampled(
    pair: Pair, rng: np.random.Generator, resamples: int
) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Resample clusters: shares, accuracies and costs at the blocks' ends, and the larger one's cost."""
    _, codes = np.unique(pair.cluster, return_inverse=True)
    n_clusters = int(codes.max()) + 1
    if n_clusters < 2:
        return None
    order = np.argsort(pair.sure, kind="stable")
    upto = np.empty(len(order))
    upto[order] = np.cumsum(pair.weight[order])
    _, tied = np.unique(pair.sure, return_inverse=True)
    last = np.zeros(int(tied.max()) + 1)
    np.maximum.at(last, tied, upto)
    if len(last) > _BLOCKS:
        last = np.ceil(last / upto.max() * _BLOCKS - 1e-9)
    _, block = np.unique(last, return_inverse=True)
    k, place = int(block.max()) + 1, block[tied]
    w = pair.weight
    change, start = w[:, None] * (pair.handed - pair.kept), w[:, None] * pair.kept
    sums = np.zeros((n_clusters, 3 * k + 3))
    for j, value in enumerate((w, change[:, 0], change[:, 1])):
        np.add.at(sums, (codes, j * k + place), value)
    for j, value in enumerate((start[:, 0], start[:, 1], w * pair.large[:, 1])):
        np.add.at(sums[:, 3 * k + j], codes, value)
    drawn = resampling.resampled_sums(np.nan_to_num(sums), resamples, rng)
    drawn[:, np.isnan(sums).any(axis=0)] = np.nan
    share, rate, cost = (np.cumsum(drawn[:, j * k : (j + 1) * k], axis=1) for j in range(3))
    total = share[:, -1:]
    share, rate, cost = (
        np.column_stack([s, s + x]) / total
        for s, x in (
            (np.zeros_like(total), share), (drawn[:, -3:-2], rate), (drawn[:, -2:-1], cost)
        )
    )  # fmt: skip
    return share, rate, cost, drawn[:, -1] / total[:, 0]


def intervals(
    share: Floats, rate: Floats, cost: Floats, large_cost: Floats, level: float
) -> tuple[dict[str, float], tuple[Floats, Floats]]:
    """Percentile intervals of the figures by name, and the ends of the accuracy at `GRID`."""
    area = (np.diff(share, axis=1) * (rate[:, 1:] + rate[:, :-1]) / 2).sum(axis=1)
    at_random = (rate[:, 0] + rate[:, -1]) / 2
    least, parity_cost = parity(share, rate, cost)
    with np.errstate(divide="ignore", invalid="ignore"):
        saving = np.where(large_cost > 0, 1 - parity_cost / large_cost, np.nan)
    figures = {
        "area": area,
        "gain_area": area - at_random,
        "parity_share": least,
        "saving": saving,
    }
    found: dict[str, float] = {}
    for name, draws in figures.items():
        low, high = resampling.percentile(draws[:, None], level)
        found |= {f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    interp: Callable[..., Floats] = np.interp
    points = np.stack([interp(GRID, s, r) for s, r in zip(share, rate, strict=True)])
    return found, resampling.percentile(points, level)
