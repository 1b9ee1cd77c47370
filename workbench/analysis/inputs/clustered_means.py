"""Clustered means: means over items of a matrix of items and groups, with intervals."""

from typing import NamedTuple

import numpy as np
import polars as pl

from workbench.analysis.inputs.panel import Panel
from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats

_ROUNDING = 1e-12  # below it two ways to the same number may differ


class Mean(NamedTuple):
    """Means per group, each (n_groups,); NaN where unknown.

    Attributes:
        value: the mean over the known items.
        low, high: its interval; NaN below two clusters.
        se: its standard error, see `intervals.clustered_se`.
    """

    value: Floats
    low: Floats
    high: Floats
    se: Floats

    def series(self, name: str) -> list[pl.Series]:
        """Three columns: the mean under its name, and its ends; null where unknown."""
        ends = (("", self.value), ("_low", self.low), ("_high", self.high))
        return [pl.Series(f"{name}{end}", values).fill_nan(None) for end, values in ends]


def share(panel: Panel, values: Floats, level: float) -> Mean:
    """Average values between 0 and 1; the interval of `intervals.clustered_share`.

    Args:
        panel: the items' clusters.
        values: (n_items, n_groups), NaN where unknown.
        level: nominal coverage.
    """
    mean, se, clusters = _clustered(panel, values)
    low, high = intervals.clustered_share(mean, se, clusters, level)
    return _mean(mean, low, high, se, clusters)


def difference(
    panel: Panel, values: Floats, level: float, *, low: float = -1.0, high: float = 1.0
) -> Mean:
    """Average values that lie between `low` and `high`; mean ± t · SE, cut to that range.

    Where all are alike there is no interval: no spread was seen, which does not say there is none.
    """
    values = np.where(np.abs(values) < _ROUNDING, 0.0, values)
    mean, se, clusters = _clustered(panel, values)
    below, above = intervals.student(mean, np.where(se > 0, se, np.nan), clusters, level)
    return _mean(mean, np.maximum(below, low), np.minimum(above, high), se, clusters)


def _mean(mean: Floats, low: Floats, high: Floats, se: Floats, clusters: Floats) -> Mean:
    several = clusters > 1
    return Mean(
        mean,
        np.where(several, low, np.nan),
        np.where(several, high, np.nan),
        np.where(several, se, np.nan),
    )


def _clustered(panel: Panel, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, clustered standard error and number of clusters of each column."""
    known = ~np.isnan(values)
    n = known.sum(axis=0).astype(float)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    residuals = np.where(known, values - mean, 0.0)
    clusters = n
    if panel.n_clusters < len(panel.clusters):
        residuals = panel.cluster_sums(residuals)
        clusters = (panel.cluster_sums(known.astype(float)) > 0).sum(axis=0).astype(float)
    return mean, intervals.clustered_se(residuals, n, clusters), clusters
