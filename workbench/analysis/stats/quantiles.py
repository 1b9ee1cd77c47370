"""Quantiles of clustered observations with Woodruff's interval."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats


def quantiles(
    values: Floats,
    clusters: npt.NDArray[np.int64],
    probabilities: Sequence[float],
    level: float = 0.95,
) -> Floats:
    """Estimate quantiles (linear between order statistics), each with an interval.

    Woodruff 1952 (JASA 47:635): the share of observations at or below the quantile has a clustered
    standard error; the quantiles at p ± t · SE are the ends, t with one degree of freedom fewer
    than clusters. No shape of the distribution is assumed.

    Args:
        values: (n,) known observations, with equal weights.
        clusters: (n,) which cluster each belongs to, from 0.
        probabilities: of the quantiles, 0..1.
        level: nominal coverage.

    Returns:
        (len(probabilities), 3): quantile, low, high; an end is NaN below two clusters, or where it
        lies beyond the observations: too few to bound it.
    """
    out = np.full((len(probabilities), 3), np.nan)
    n = len(values)
    if n == 0:
        return out
    codes = _cluster_numbers(clusters)
    values = values.astype(float)
    ordered = np.argsort(values, kind="stable")
    values, codes = values[ordered], codes[ordered]
    size = np.bincount(codes)  # 0 for a number that no cluster has
    n_clusters = int((size > 0).sum())
    for row, p in zip(out, probabilities, strict=True):
        row[0] = _at(values, p)
        if n_clusters < 2:
            continue
        below = int(np.searchsorted(values, row[0], side="right"))
        share = below / n
        residual = np.bincount(codes[:below], minlength=len(size)) - share * size
        se = intervals.clustered_se(residual[:, None], [n], [n_clusters])
        low, high = intervals.student([p], se, [n_clusters], level)
        if se[0] == 0 and below < n:
            continue  # equal shares in all clusters give no estimate of the spread
        row[1] = _at(values, low[0]) if low[0] >= 0 else np.nan
        row[2] = _at(values, high[0]) if high[0] <= 1 else np.nan
    return out


def _cluster_numbers(clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number clusters from 0; few gaps are allowed, which saves sorting."""
    first = int(clusters.min())
    if int(clusters.max()) - first < 4 * len(clusters):
        return np.asarray(clusters - first)
    return np.asarray(np.unique(clusters, return_inverse=True)[1])


def _at(ordered: Floats, p: float) -> float:
    """Return the quantile of ordered values: NumPy's default, without sorting again."""
    place = p * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
