"""Variance components of outcomes: between items, and between the trials of an item."""

import dataclasses
import functools

import numpy as np

from workbench.analysis.inputs.panel import Panel, divide
from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """Sums from which the components follow, per group; axes (..., n_groups).

    The leading axes are free, so that the same formulas serve the data and all jackknife samples.

    Attributes:
        rates, squares: sums over items of the pass rate, and of its square.
        noise: sum over the items with several trials of p (1 − p) n / (n − 1).
        items, repeated: how many items, and how many with several trials.
        inverse: sum over items of 1 / trials.
    """

    rates: Floats
    squares: Floats
    noise: Floats
    items: Floats
    repeated: Floats
    inverse: Floats

    @functools.cached_property
    def within(self) -> Floats:
        """Variance between trials of an item, averaged over items; NaN without repeated items."""
        return divide(self.noise, self.repeated)

    @functools.cached_property
    def total(self) -> Floats:
        """Variance of the items' observed pass rates (n − 1); NaN with fewer than two items."""
        spread = self.squares - divide(self.rates, self.items) * self.rates
        return divide(spread, self.items - 1)

    @functools.cached_property
    def between(self) -> Floats:
        """Variance of the items' true pass rates: what of `total` trials do not explain.

        Not cut at 0, below which chance can take it.
        """
        return self.total - self.within * divide(self.inverse, self.items)

    @functools.cached_property
    def icc(self) -> Floats:
        """The share of the variance of one outcome that lies between items, not cut to 0..1."""
        return divide(self.between, self.between + self.within)


def sums(panel: Panel, n: Floats, passed: Floats) -> Components:
    """Prepare the sums of every cluster, each (n_clusters, n_groups).

    Args:
        panel: the items' clusters.
        n: (n_items, n_groups) how often an item was tried; NaN leaves it out.
        passed: (n_items, n_groups) how often it passed.
    """
    rate = divide(passed, n)
    noise = np.where(n > 1, rate * (1 - rate) * divide(n, n - 1), np.nan)
    parts = (rate, rate**2, noise, *((x > 0) * 1.0 for x in (n, n - 1)), divide(1.0, n))
    return Components(*(panel.cluster_sums(part) for part in parts))


def added(parts: Components) -> Components:
    """Add up the clusters: (n_clusters, n_groups) → (n_groups,)."""
    return Components(*(np.sum(x, axis=0) for x in _fields(parts)))


def jackknife(parts: Components, name: str, level: float) -> tuple[Floats, Floats]:
    """Compute jackknife intervals of a component, leaving out each cluster in turn.

    SE² = (m − 1) / m Σ (θ₍ᵢ₎ − θ̄)² over the m clusters of a group (Tukey 1958; Efron & Stein
    1981); estimate ± t · SE with m − 1 degrees of freedom. NaN below three clusters, and where
    something that is left is unknown or all are alike.
    """
    whole = added(parts)
    without_one = Components(*(np.sum(x, axis=0) - x for x in _fields(parts)))
    present = parts.items > 0
    m = present.sum(axis=0).astype(float)
    values = np.where(present, getattr(without_one, name), 0.0)
    away = np.where(present, values - divide(values.sum(axis=0), m), 0.0)
    se = np.sqrt(divide(m - 1, m) * (away**2).sum(axis=0))
    se = np.where((m > 2) & (se > 1e-12), se, np.nan)
    return intervals.student(getattr(whole, name), se, m, level)


def _fields(parts: Components) -> list[Floats]:
    return [getattr(parts, field.name) for field in dataclasses.fields(parts)]
