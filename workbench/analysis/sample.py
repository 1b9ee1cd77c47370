"""Means over items per group and figures made of them, with a bootstrap over clusters of items."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench.analysis import intervals, resampling
from workbench.analysis.panel import Bools, Built, Panel, divide
from workbench.analysis.result import empty
from workbench.schema import Column

Floats = intervals.Floats
Means = Mapping[str, Floats]
Statistic = Callable[[Means], Floats]


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Means of a panel's groups, and those of resamples of its items, paired over groups.

    Attributes:
        means: by name, (n_groups,): over the items where the value is known; NaN where none is.
        draws: by name, (resamples, n_groups); None below two clusters.
        clusters: (n_groups,) how many clusters each group was tried on.
        level: nominal coverage.
    """

    means: Means
    draws: Means | None
    clusters: Floats
    level: float

    def figure(self, statistic: Statistic) -> tuple[Floats, Floats, Floats]:
        """Give a function of the means and its percentile interval; ends are NaN below two clusters."""
        value = statistic(self.means)
        if self.draws is None:
            nothing = np.full_like(value, np.nan)
            return value, nothing, nothing
        low, high = resampling.percentile(statistic(self.draws), self.level)
        enough = self.clusters > 1
        return value, np.where(enough, low, np.nan), np.where(enough, high, np.nan)

    def series(self, name: str, statistic: Statistic) -> list[pl.Series]:
        """Make the columns of a figure: `name`, `name_low`, `name_high`."""
        return _series(name, *self.figure(statistic))

    def per_success(self, name: str, cost: Statistic) -> list[pl.Series]:
        """Make the columns of a cost per right answer, mean cost over the mean called "rate".

        Where nothing passed it is infinite, and the low end is the cost over the upper
        Clopper–Pearson bound of the pass rate, each cluster counted once.
        """
        value, low, high = self.figure(lambda means: over(cost(means), means["rate"]))
        _, ceiling = intervals.clopper_pearson(
            np.zeros(len(value)), self.clusters, 2 * self.level - 1
        )
        never = np.isinf(value)
        few = never & (self.clusters < 2)
        low = np.where(never, cost(self.means) / ceiling, low)
        return _series(
            name, value, np.where(few, np.nan, low),
            np.where(never, np.where(few, np.nan, np.inf), high),
        )  # fmt: skip


def draw(
    panel: Panel, values: Mapping[str, Floats], rng: np.random.Generator, options: Mapping[str, Any]
) -> Sample:
    """Average values over the items of a panel, and over resamples of its clusters.

    Args:
        panel: the items and groups.
        values: by name, (n_items, n_groups); NaN where unknown.
        rng: the source of randomness.
        options: `resamples` and `level` of the analysis.
    """
    known = [(~np.isnan(v)).astype(float) for v in values.values()]
    sums = np.hstack([panel.cluster_sums(v) for v in (*values.values(), *known)])
    means = _means(sums.sum(axis=0, keepdims=True), list(values))
    draws = None
    if panel.n_clusters > 1:
        draws = _means(resampling.resampled_sums(sums, options["resamples"], rng), list(values))
    return Sample(
        {name: mean[0] for name, mean in means.items()}, draws,
        panel.n_own_clusters.astype(float), options["level"],
    )  # fmt: skip


def _means(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    parts = np.split(sums, 2 * len(names), axis=1)
    return {name: divide(parts[j], np.round(parts[len(names) + j])) for j, name in enumerate(names)}


def over(cost: Floats, gain: Floats) -> Floats:
    """Divide; infinite where the gain is 0, NaN where one of the two is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(gain == 0, np.where(np.isnan(cost), np.nan, np.inf), cost / gain)
    return ratio


def per(gain: Floats, cost: Floats) -> Floats:
    """Divide; NaN where the cost is 0 or one of the two is unknown."""
    return divide(gain, cost)


def counts(panel: Panel) -> list[pl.Series]:
    """Make the columns `n_items` and `n`: how many items and traces count."""
    return [
        pl.Series("n_items", panel.tried.sum(axis=0)).cast(pl.Int64),
        pl.Series("n", np.nan_to_num(panel.matrix("n")).sum(axis=0)).cast(pl.Int64),
    ]


def known(panel: Panel, measure: str) -> Bools:
    """Which groups have a known value of a measure, (n_groups,)."""
    return np.asarray(np.nansum(panel.matrix(f"{measure}_known"), axis=0) > 0)


def tabulate(
    built: Built,
    by: Sequence[str],
    columns: Sequence[Column],
    rows: Callable[[Panel], Sequence[pl.Series]],
) -> pl.DataFrame:
    """Put the groups of all tasks in one table: the `by` columns, then the declared ones."""
    tables = []
    for task, panel in built.parts:
        table = panel.groups.with_columns(rows(panel))
        if task is not None:
            table = table.with_columns(task=pl.lit(task, pl.String))
        tables.append(table.select(*by, *(c.name for c in columns)))
    return pl.concat(tables) if tables else empty(by, columns)


def _series(name: str, value: Floats, low: Floats, high: Floats) -> list[pl.Series]:
    return [
        pl.Series(f"{name}{end}", part, pl.Float64).fill_nan(None)
        for end, part in (("", value), ("_low", low), ("_high", high))
    ]


def ends(base: Column, few: str = "fewer than two items") -> tuple[Column, Column, Column]:
    """Declare a column and the two ends of its interval."""
    title = base.title or base.name.replace("_", " ")
    low, high = (
        Column(f"{base.name}_{end}", "float", base.unit, f"{word} end of its interval.", few, f"{title}, {end}")
        for end, word in (("low", "Lower"), ("high", "Upper"))
    )  # fmt: skip
    return base, low, high
