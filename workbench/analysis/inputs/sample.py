"""Sample means over items per group, and figures of them, with a bootstrap over clusters."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.result import empty
from workbench.analysis.inputs.panel import Built, Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.stats import intervals, resampling
from workbench.analysis.stats.arrays import Bools, Floats
from workbench.schema import Column

Means = Mapping[str, Floats]
Statistic = Callable[[Means], Floats]
_OUTCOME = "outcome"  # beside the names of measures


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
        """Return a function of the means and its interval; ends are NaN below two clusters.

        Percentiles over resamples, widened for few clusters (`resampling.tails`).
        """
        value = statistic(self.means)
        if self.draws is None:
            nothing = np.full_like(value, np.nan)
            return value, nothing, nothing
        low, high = resampling.percentile(statistic(self.draws), self.level, self.clusters)
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
            name,
            value,
            np.where(few, np.nan, low),
            np.where(never, np.where(few, np.nan, np.inf), high),
        )


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
    marks: list[Bools] = []
    where = []  # which mark each value's known items are; equal ones are added up once
    for value in values.values():
        mark = ~np.isnan(value)
        place = next(
            (j for j, other in enumerate(marks) if np.array_equal(mark, other)), len(marks)
        )
        where.append(place)
        if place == len(marks):
            marks.append(mark)
    # Bags at once: sums of many clusters would take as much room as all the values.
    bag = resampling.bags(panel.n_clusters, rng)[panel.clusters]
    columns = (column for matrix in (*values.values(), *marks) for column in matrix.T)
    sums = np.column_stack([_added(column, bag) for column in columns])

    def means(totals: Floats) -> dict[str, Floats]:
        parts = np.split(totals, len(values) + len(marks), axis=1)
        return {
            name: divide(parts[j], np.round(parts[len(values) + where[j]]))
            for j, name in enumerate(values)
        }

    draws = None
    if panel.n_clusters > 1:
        draws = means(resampling.resampled_sums(sums, options["resamples"], rng))
    whole = means(sums.sum(axis=0, keepdims=True))
    return Sample(
        {name: mean[0] for name, mean in whole.items()},
        draws,
        panel.n_own_clusters.astype(float),
        options["level"],
    )


def _added(column: npt.NDArray[Any], bag: npt.NDArray[np.int64]) -> Floats:
    """Add up the known items of each bag."""
    known = np.nan_to_num(column.astype(float), posinf=np.inf, neginf=-np.inf)
    return np.asarray(np.bincount(bag, known), float)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Traces that several figures are made of, each on the traces that have what it needs.

    Where all have it no second pass is made, and figures of the same traces share their resamples.

    Attributes:
        frame: rows of `trace_facts`.
        by: the columns that name a group.
        measures: the measures that figures may need.
        rng: the source of randomness.
        options: of the analysis: outcome, shared, errors_as_wrong, resamples, level.
        about: what to keep of the items, see `reduce_items`.
    """

    frame: Any
    by: tuple[str, ...]
    measures: tuple[str, ...]
    rng: np.random.Generator
    options: Mapping[str, Any]
    about: tuple[str, ...] = ()
    _built: dict[tuple[bool, tuple[str, ...]], Built] = dataclasses.field(default_factory=dict)
    _known: dict[bool, frozenset[str]] = dataclasses.field(default_factory=dict)
    _drawn: dict[int, Sample] = dataclasses.field(default_factory=dict)

    def built(self, require: Sequence[str], *, scored: bool) -> Built:
        """Return the panels of the traces that have a value in every required measure."""
        scored = scored and _OUTCOME not in self._known.get(False, ())
        if scored not in self._known:
            self._built[scored, ()] = self._reduced((), scored=scored)
        key = scored, tuple(r for r in require if r not in self._known[scored])
        if key not in self._built:
            self._built[key] = self._reduced(key[1], scored=scored)
        return self._built[key]

    def _reduced(self, require: tuple[str, ...], *, scored: bool) -> Built:
        items = reduce_items(
            self.frame,
            self.by,
            self.measures,
            outcome=self.options["outcome"],
            require=require,
            scored=scored,
            errors_as_wrong=self.options["errors_as_wrong"],
            about=self.about,
        )
        if not require:
            names = {m: f"{m}_known" for m in self.measures} | {_OUTCOME: "n_scored"}
            n = items.frame["n"]
            whole = (m for m, known in names.items() if (items.frame[known] == n).all())
            self._known[scored] = frozenset(whole)
        return build(items, shared=self.options["shared"])

    def draw(self, panel: Panel) -> Sample:
        """Resample a panel of `built`, once: "rate" and the measures that all its traces have."""
        if id(panel) not in self._drawn:
            n = np.nan_to_num(panel.matrix("n"))
            whole = (
                m for m in self.measures if (np.nan_to_num(panel.matrix(f"{m}_known")) == n).all()
            )
            values = {"rate": panel.outcome()} | {m: panel.measure(m) for m in whole}
            self._drawn[id(panel)] = draw(panel, values, self.rng, self.options)
        return self._drawn[id(panel)]


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


def tabulate(
    built: Built,
    by: Sequence[str],
    columns: Sequence[Column],
    rows: Callable[[Panel], Sequence[pl.Series]],
) -> pl.DataFrame:
    """Join the groups of all tasks in one table: the `by` columns, then the declared ones."""
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


def without_ends(series: Sequence[pl.Series]) -> list[pl.Series]:
    """Blank the intervals of figures that were given, not measured: they have no spread."""
    ends_of = ("_low", "_high")
    return [s.clear(s.len()) if s.name.endswith(ends_of) else s for s in series]


def ends(base: Column, few: str = "fewer than two items") -> tuple[Column, Column, Column]:
    """Declare a column and the two ends of its interval."""
    title = base.title or base.name.replace("_", " ")
    low, high = (
        Column(
            f"{base.name}_{end}",
            "float",
            base.unit,
            f"{word} end of its interval.",
            few,
            f"{title}, {end}",
        )
        for end, word in (("low", "Lower"), ("high", "Upper"))
    )
    return base, low, high
