"""Allocation of options to groups of items, as by difficulty, under a common budget."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, cost_axis
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import clustered_means
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import Items, check_measure, mean_measure, reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import knapsack
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, known_columns

_DIFFICULTY = "difficulty"
_MOST_BINS = 60
_STEPS = 13  # budgets between the cheapest and the most expensive option
_NULL_IF_FEW = "fewer than two items, or all alike"
_NOT = "nothing fits the budget"
_ROWS = (
    Column("budget", "float", "", "Most that an item may cost on average.", KEY_NULL),
    Column("n_items", "int", "count", "Items that every option was tried on.", KEY_NULL, "items"),
    Column("n_bins", "int", "count", "Bins that get an option each.", KEY_NULL, "bins"),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Accuracy with the best option for each bin, chosen on one half of the items "
            "and measured on the other.",
            _NOT,
            "one option per bin",
        ),
        _NULL_IF_FEW,
    ),
    Column("cost", "float", "", "What that cost on the other half.", _NOT, "cost with it"),
    *ends(
        Column(
            "single_rate",
            "float",
            "0..1",
            "Accuracy with the one best option for all, chosen and measured likewise.",
            _NOT,
            "one option for all",
        ),
        _NULL_IF_FEW,
    ),
    Column("single_cost", "float", "", "What that cost.", _NOT, "cost with one option"),
    *ends(
        Column(
            "gain", "float", "0..1", "The first accuracy minus the second.", _NOT, "gain by bins"
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "promised",
        "float",
        "0..1",
        "Accuracy of the best plan on the very items it was made from: too good.",
        _NOT,
        "promised on the same items",
    ),
    Column(
        "single", "text", doc="The best option for all within the budget, on all items.", null=_NOT
    ),
)
_PLAN = (
    Column("bin", "int", "count", "Place of the bin, the hardest first.", KEY_NULL),
    Column(
        "of",
        "text",
        doc="Pass rates of the base, or the value of the column.",
        null=KEY_NULL,
        title="items of",
    ),
    Column(
        "choice",
        "text",
        doc="The option of the bin in the exact best plan on all items.",
        null=KEY_NULL,
    ),
    *ends(
        Column(
            "bin_rate", "float", "0..1", "Its accuracy on the bin.", KEY_NULL, "accuracy on the bin"
        ),
        _NULL_IF_FEW,
    ),
    Column("bin_cost", "float", "", "Its mean cost on the bin.", KEY_NULL, "cost on the bin"),
)


class _Choices(NamedTuple):
    """Choices of options for some items.

    Attributes:
        totals: the non-dominated choices of one option per bin.
        rate, cost: (n_options,) of one option for all.
    """

    totals: knapsack.Totals
    rate: Floats
    cost: Floats

    def plan(self, budget: float) -> tuple[Ints | None, int | None, float | None]:
        """Return the best option per bin, the best single one, and the plan's expected rate."""
        place = self.totals.best(budget)
        fits = self.cost <= budget * (1 + 1e-12)
        single = int(np.argmax(np.where(fits, self.rate, -1.0))) if fits.any() else None
        if place is None:
            return None, single, None
        return self.totals.options(place), single, float(self.totals.value[place])


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """Items × options, all known, with each item's bin from 0 and the half that it is in."""

    panel: Panel
    rate: Floats
    cost: Floats
    bins: Ints
    names: list[str]
    half: Ints

    @property
    def options(self) -> list[str]:
        """The options' names."""
        return self.panel.labels

    @functools.cached_property
    def choices(self) -> list[_Choices | None]:
        """Choices from the items outside each half (None if there are none), and from all."""
        keeps = (self.half != 0, self.half != 1, np.ones(len(self.half), bool))
        share = np.bincount(self.bins, minlength=len(self.names))[:, None] / len(self.bins)
        by_bin: list[_Choices | None] = []
        for keep in keeps:
            if not keep.any():
                by_bin.append(None)
                continue
            rate, cost = (share * self._means(x, keep) for x in (self.rate, self.cost))
            by_bin.append(_Choices(knapsack.solve(rate, cost), rate.sum(axis=0), cost.sum(axis=0)))
        return by_bin

    def _means(self, values: Floats, keep: npt.NDArray[np.bool_]) -> Floats:
        """Average per bin and option over some items; over all of them where a bin has none."""
        out = np.empty((len(self.names), values.shape[1]))
        for b in range(len(self.names)):
            in_bin = keep & (self.bins == b)
            out[b] = values[in_bin if in_bin.any() else keep].mean(axis=0)
        return out


@analysis(
    name="allocation",
    title="Allocation",
    question="Which option should hard items get, and which easy ones, for the most right answers "
    "within a budget?",
    source="Snell et al. 2024, arXiv 2408.03314 (difficulty bins, two-fold choice within them; "
    "unverified beyond the abstract); exact plan: multiple-choice knapsack (Nemhauser & "
    "Ullmann 1969)",
    needs=("item_id",),
    measures=(),
    options=(
        Option(
            "base",
            "group",
            None,
            "the group whose pass rate says how hard an item is; the cheapest if open",
        ),
        Option(
            "bins",
            "int",
            5,
            "bins of difficulty, of equally many items where pass rates differ",
            low=1,
            high=20,
        ),
        Option(
            "over",
            "text",
            _DIFFICULTY,
            "what makes the bins: difficulty, or a column of the items, such as task or cluster",
        ),
        Option(
            "budget",
            "float",
            None,
            "most that an item may cost on average; if open, a range of budgets",
            low=0,
        ),
        cost_axis("cost", "cost_usd", "what the budget is in: any measure of a trace"),
        OUTCOME,
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_PLAN),
    chart=ChartSpec("curve", x="budget", y="rate", also=("single_rate",)),
    example={"bins": 3, "where": "strategy:direct,cot,think"},
)
def allocation(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Choose an option for every bin of items, for most right answers within a budget per item.

    Grain: one row per budget (per task if `by` names it); `more["plan"]`: one row per budget and
    bin; `more["bins"]`: one row per bin and option. The options are the groups of `by`. Only traces
    with the cost count, on the items that all options were tried on; trials weigh within their
    item.

    Bins of difficulty: quantiles of the pass rate of `base` per item, linear between order
    statistics; bins that coincide are one. Of the trials of base, the first of an item, and every
    second number after it, say how hard the item is, the others what base achieves, so that luck
    does not count twice; a base with single trials is no option.

    Plan: one option per bin with the largest expected number of right answers within the budget,
    exact (all non-dominated totals are listed; the order of bins or options does not matter).
    Rates: each half of the items (by clusters, drawn within bins) is planned for on the other half,
    so `rate` is of items that the plan has not seen, `promised` of those it has. `single_rate` is
    chosen alike. A plan can overrun its budget on new items: `cost` says what it took. Intervals:
    Wilson's with the effective number of items, of the gain mean ± t · SE; they leave the luck of
    the halves out.
    """
    measure = options["cost"]
    check_measure(frame, measure)
    items, hardness, base, notes, graded = _reduced(frame, by, options)
    built = build(items, shared=True)
    dropped = {reason: n + graded.get(reason, 0) for reason, n in built.dropped.items()}
    rows = []
    plans = []
    bins = []
    for task, panel in built.parts:
        where = {"task": task} if task is not None else {}
        choices = _task(panel, hardness, rng, options)
        if choices is None:
            continue
        listed = _bins(choices, options["level"])
        for budget in _budgets(choices, options["budget"]):
            row, plan = _row(choices, listed, budget, options["level"])
            rows.append(where | row)
            plans += [where | {"budget": budget} | p for p in plan]
        bins += [where | b for b in listed]
    columns = _declared(measure)
    first = ["task"] if "task" in by else []
    schema = empty(first, columns.values()).schema
    tables = {
        name: pl.DataFrame(part, schema={k: schema[k] for k in part[0]})
        for name, part in (("plan", plans), ("bins", bins))
        if part
    }
    order = [*first, *(c.name for c in _ROWS)]
    table = pl.DataFrame(rows, schema={k: schema[k] for k in order})
    difficulty_note = (f"difficulty by the pass rate of {base}",) if base else ()
    return Answer(
        table, tuple(columns.values()), tables, dropped, (*built.notes, *difficulty_note, *notes)
    )


def _declared(measure: str) -> dict[str, Column]:
    """Declare the columns, with costs in the unit of the measure."""
    unit = known_columns()[measure].unit
    priced = {"budget", "cost", "single_cost", "bin_cost"}
    option = Column("option", "text", doc="A group of `by`.", null=KEY_NULL)
    return {
        c.name: dataclasses.replace(c, unit=unit) if c.name in priced else c
        for c in (*_ROWS, *_PLAN, option)
    }


def _reduced(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[Items, pl.DataFrame, str, list[str], dict[str, int]]:
    """Reduce to options × items, and say what each item's bin is made from: `_value`, per item.

    Also the base, notes, and what was left out of the traces that grade the items.
    """
    measure = options["cost"]
    over = options["over"]
    given: dict[str, Any] = {
        "outcome": options["outcome"],
        "errors_as_wrong": options["errors_as_wrong"],
        "require": (measure,),
    }
    present = frame.collect_schema().names()
    if over != _DIFFICULTY:
        if over not in present:
            raise AnalysisError(unknown_name("column of the items", over, present))
        value = frame.group_by("item_id").agg(nw.col(over).cast(nw.String).max().alias("_value"))
        fetched: pl.DataFrame = value.collect("polars").to_native()
        return reduce_items(frame, by, (measure,), **given), fetched, "", [], {}
    base, mine = _base(frame, by, options)
    even = ~nw.lit(value=False)
    if "trial" in present:  # others count trials from 1, or have the third alone
        trial = nw.col("trial").cast(nw.Int64)
        first = nw.when(mine).then(trial).min().over("item_id")
        even = ((trial - first) % 2 == 0).fill_null(value=True)
    graded = reduce_items(frame.filter(mine & even), by, **given)
    items = reduce_items(frame.filter(~(mine & even)), by, (measure,), **given)
    rows = graded.frame.filter(pl.col("n") > 0)
    hardness = rows.select("item_id", _value=pl.col("outcome") / pl.col("n"))
    notes = []
    group_rows = items.frame.filter(pl.col("n") > 0).select(_named(by)).unique()
    if rows.height and base not in [label(row) for row in group_rows.iter_rows()]:
        notes.append(
            f"{base} has single trials, which say how hard items are: it is no option itself"
        )
    return items, hardness, base, notes, graded.dropped()


def _named(by: Sequence[str]) -> list[str]:
    return [c for c in by if c != "task"] or ["task"]


def _base(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[str, "nw.Expr"]:
    """Name the group that grades the items, as requested or the cheapest; and tell its traces."""
    named = _named(by)
    base_label = options["base"]
    groups = mean_measure(
        frame,
        named,
        options["cost"],
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    ).sort("mean", *named, nulls_last=True)
    keys = {label(row): row for row in groups.select(named).iter_rows()}
    if base_label is not None and base_label not in keys:
        raise AnalysisError(unknown_name("group for base", base_label, keys))
    base = base_label or next(iter(keys), "")
    mine = ~nw.lit(value=not keys)
    for name, value in zip(named, keys.get(base, ()), strict=False):
        here = nw.col(name)
        mine &= here.is_null() if value is None else (here == value).fill_null(value=False)
    return base, mine


def _task(
    panel: Panel, hardness: pl.DataFrame, rng: np.random.Generator, options: dict[str, Any]
) -> _Task | None:
    """Split a task's items into bins and halves; None if no item has a bin."""
    value = panel.items.join(hardness, on="item_id", how="left", maintain_order="left")["_value"]
    known = value.is_not_null().to_numpy()
    if not known.any():
        return None
    if not known.all():
        panel, value = panel.restrict(known), value.filter(pl.Series(known))
    if options["over"] == _DIFFICULTY:
        bins, names = quantile_bins(value.to_numpy(), options["bins"])
    else:
        levels = value.unique().sort()
        if len(levels) > _MOST_BINS:
            reason = f"{options['over']} has {len(levels):,} values; at most {_MOST_BINS} make bins"
            raise AnalysisError(reason)
        names = levels.to_list()
        bins = np.searchsorted(np.array(names), value.to_numpy()).astype(np.int64)
    return _Task(
        panel,
        panel.outcome(),
        panel.measure(options["cost"]),
        bins,
        names,
        _halves(panel.clusters, bins, rng),
    )


def quantile_bins(values: Floats, n: int) -> tuple[Ints, list[str]]:
    """Split values into n bins at their quantiles; equal edges merge bins.

    Returns:
        (n_values,) bins from 0, the lowest values first; and what they span.
    """
    values = values.round(12)  # interpolation may miss a decimal value by its last digit
    edges = np.unique(np.quantile(values, np.arange(1, n) / n).round(12)) if n > 1 else np.empty(0)
    _, bins = np.unique(np.digitize(values, edges), return_inverse=True)
    spans = [values[bins == b] for b in range(int(bins.max()) + 1)]
    names = [
        f"{s.min():.3g} to {s.max():.3g}" if s.min() < s.max() else f"{s.min():.3g}" for s in spans
    ]
    return bins.astype(np.int64), names


def _halves(clusters: Ints, bins: Ints, rng: np.random.Generator) -> Ints:
    """Deal clusters to two halves, alternating within bins; an item goes with its cluster."""
    n = int(clusters.max()) + 1
    home = np.full(n, bins.max() + 1)
    np.minimum.at(home, clusters, bins)
    order = np.lexsort((rng.permutation(n), home))
    half = np.empty(n, np.int64)
    half[order] = np.arange(n) % 2
    return np.asarray(half[clusters])


def _budgets(task: _Task, budget: float | None) -> list[float]:
    if budget is not None:
        return [budget]
    means = task.cost.mean(axis=0)
    grid = np.linspace(means.min(), means.max(), _STEPS)
    return sorted({*means.tolist(), *grid.tolist()})[:40]


def _row(
    task: _Task, listed: list[dict[str, Any]], budget: float, level: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Plan on either half and measure on the other; and plan once on all."""
    n = len(task.bins)
    got = {name: np.full((n, 1), np.nan) for name in ("rate", "cost", "single_rate", "single_cost")}
    for half in (0, 1):
        seen = task.choices[half]
        new = np.flatnonzero(task.half == half)
        if seen is None:
            continue
        plan, single, _ = seen.plan(budget)
        if plan is not None:
            chosen = plan[task.bins[new]]
            got["rate"][new, 0], got["cost"][new, 0] = (
                task.rate[new, chosen],
                task.cost[new, chosen],
            )
        if single is not None:
            got["single_rate"][new, 0] = task.rate[new, single]
            got["single_cost"][new, 0] = task.cost[new, single]
    for name, value in got.items():  # a figure of one half alone is none
        if np.isnan(value).any():
            got[name] = np.full_like(value, np.nan)
    every = task.choices[2]
    whole, single, promised = every.plan(budget) if every else (None, None, None)
    figures = [
        *clustered_means.share(task.panel, got["rate"], level).series("rate"),
        *clustered_means.share(task.panel, got["single_rate"], level).series("single_rate"),
        *clustered_means.difference(task.panel, got["rate"] - got["single_rate"], level).series(
            "gain"
        ),
        *(
            clustered_means.share(task.panel, got[c], level).series(c)[0]
            for c in ("cost", "single_cost")
        ),
    ]
    row: dict[str, Any] = {
        "budget": budget,
        "n_items": n,
        "n_bins": len(task.names),
        **{s.name: s[0] for s in figures},
        "promised": promised,
        "single": None if single is None else task.options[single],
    }
    row = {c.name: row[c.name] for c in _ROWS}
    if whole is None:
        return row, []
    planned = [listed[b * len(task.options) + int(o)] for b, o in enumerate(whole)]
    return row, [
        {
            "bin": r["bin"],
            "of": r["of"],
            "choice": r["option"],
            **{c.name: r[c.name] for c in _PLAN[3:]},
        }
        for r in planned
    ]


def _bins(task: _Task, level: float) -> list[dict[str, Any]]:
    """List accuracy and cost per bin and option."""
    rows = []
    for b, name in enumerate(task.names):
        in_bin = task.bins == b
        rate = np.where(in_bin[:, None], task.rate, np.nan)
        figures = clustered_means.share(task.panel, rate, level).series("bin_rate")
        cost = task.cost[in_bin].mean(axis=0)
        rows += [
            {
                "bin": b + 1,
                "of": name,
                "option": task.options[o],
                **{s.name: s[o] for s in figures},
                "bin_cost": float(cost[o]),
            }
            for o in range(len(task.options))
        ]
    return rows
