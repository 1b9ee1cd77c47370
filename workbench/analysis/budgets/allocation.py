"""Which option for which kind of item: by difficulty or another group of items, under a common budget."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import curves, knapsack, settling
from workbench.analysis.options import ERRORS, LEVEL, OUTCOME, cost_axis
from workbench.analysis.panel import Floats, Panel, build
from workbench.analysis.reduce import MEASURES, Items, reduce_items
from workbench.analysis.registry import ChartSpec, Option, analysis, unknown
from workbench.analysis.result import Answer, empty, label
from workbench.analysis.sample import ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, columns_by_name

C = Column
Ints = npt.NDArray[np.int64]
_DIFFICULTY = "difficulty"
_MOST_BINS = 60
_STEPS = 13  # budgets between the cheapest and the dearest option
_FEW = "fewer than two items, or all alike"
_NOT = "nothing fits the budget"
_ROWS = (
    C("budget", "float", "", "Most that an item may cost on average.", KEY_NULL),
    C("n_items", "int", "count", "Items that every option was tried on.", KEY_NULL, "items"),
    C("n_bins", "int", "count", "Bins that get an option each.", KEY_NULL, "bins"),
    *ends(C("rate", "float", "0..1", "Accuracy with the best option for each bin, chosen on one half of the items and measured on the other.", _NOT, "one option per bin"), _FEW),
    C("cost", "float", "", "What that cost on the other half.", _NOT, "cost with it"),
    *ends(C("single_rate", "float", "0..1", "Accuracy with the one best option for all, chosen and measured likewise.", _NOT, "one option for all"), _FEW),
    C("single_cost", "float", "", "What that cost.", _NOT, "cost with one option"),
    *ends(C("gain", "float", "0..1", "The first accuracy minus the second.", _NOT, "gain by bins"), _FEW),
    C("promised", "float", "0..1", "Accuracy of the best plan on the very items it was made from: too good.", _NOT, "promised on the same items"),
    C("single", "text", doc="The best option for all within the budget, on all items.", null=_NOT),
)  # fmt: skip
_PLAN = (
    C("bin", "int", "count", "Place of the bin, the hardest first.", KEY_NULL),
    C("of", "text", doc="Pass rates of the base, or the value of the column.", null=KEY_NULL, title="items of"),
    C("choice", "text", doc="The option of the bin in the exact best plan on all items.", null=KEY_NULL),
    *ends(C("bin_rate", "float", "0..1", "Its accuracy on the bin.", KEY_NULL, "accuracy on the bin"), _FEW),
    C("bin_cost", "float", "", "Its mean cost on the bin.", KEY_NULL, "cost on the bin"),
)  # fmt: skip


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

    def means(self, values: Floats, keep: npt.NDArray[np.bool_]) -> Floats:
        """Average per bin and option over some items; over all of them where a bin has none."""
        out = np.empty((len(self.names), values.shape[1]))
        for b in range(len(self.names)):
            own = keep & (self.bins == b)
            out[b] = values[own if own.any() else keep].mean(axis=0)
        return out


@analysis(
    name="allocation",
    title="Allocation",
    question="Which option should hard items get, and which easy ones, for the most right answers within a budget?",
    source="Snell et al. 2024, arXiv 2408.03314 (difficulty bins, two-fold choice within them; unverified beyond the abstract); exact plan: multiple-choice knapsack (Nemhauser & Ullmann 1969)",
    needs=("item_id",),
    measures=(),
    options=(
        Option("base", "group", None, "the group whose pass rate says how hard an item is; the cheapest if open"),
        Option("bins", "int", 5, "bins of difficulty, of equally many items where pass rates differ", low=1, high=20),
        Option("over", "text", _DIFFICULTY, "what makes the bins: difficulty, or a column of the items, such as task or cluster"),
        Option("budget", "float", None, "most that an item may cost on average; if open, a range of budgets", low=0),
        cost_axis("cost", "cost_usd", "what the budget is in: any measure of a trace"),
        OUTCOME, ERRORS, LEVEL,
    ),
    columns=(*_ROWS, *_PLAN),
    chart=ChartSpec("curve", x="budget", y="rate", also=("single_rate",)),
    example={"bins": 3},
)  # fmt: skip
def allocation(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Give every bin of items one option, so that most answers are right within a budget per item.

    Grain: one row per budget (per task if `by` names it); `more["plan"]`: one row per budget and bin;
    `more["bins"]`: one row per bin and option. The options are the groups of `by`. Only traces with the
    cost count, on the items that all options were tried on; trials weigh within their item.

    Bins of difficulty: quantiles of the pass rate of `base` per item, linear between order statistics;
    bins that coincide are one. The trials with an even number say how hard an item is, those with an odd
    number what base achieves, so that luck does not count twice; a base with single trials is no option.

    Plan: one option per bin with the largest expected number of right answers within the budget, exact
    (all unbeaten totals are listed; the order of bins or options has no say). Rates: each half of the items
    (by clusters, drawn within bins) is planned for on the other half, so `rate` is of items that the plan
    has not seen, `promised` of those it has. `single_rate` is chosen alike. A plan can overrun its budget on
    new items: `cost` says what it took. Intervals: Wilson's with the effective number of items, of the gain
    mean ± t · SE; they leave the luck of the halves out.
    """
    measure = options["cost"]
    if measure not in MEASURES:
        raise AnalysisError(unknown("measure", measure, MEASURES))
    items, hardness, base, notes = _reduced(frame, by, options)
    built = build(items, shared=True)
    rows, plans, bins = [], [], []
    for task, panel in built.parts:
        where = {"task": task} if task is not None else {}
        found = _task(panel, hardness, rng, options)
        if found is None:
            continue
        for budget in _budgets(found, options["budget"]):
            row, plan = _row(found, budget, options["level"])
            rows.append(where | row)
            if options["budget"] is not None:
                notes += _open(found, row, measure)
            plans += [where | {"budget": budget} | p for p in plan]
        bins += [where | b for b in _bins(found, options["level"])]
    columns = _declared(measure)
    first = ["task"] if "task" in by else []
    schema = empty(first, columns.values()).schema
    tables = {
        name: pl.DataFrame(part, schema={k: schema[k] for k in part[0]})
        for name, part in (("plan", plans), ("bins", bins)) if part
    }  # fmt: skip
    order = [*first, *(c.name for c in _ROWS)]
    table = pl.DataFrame(rows, schema={k: schema[k] for k in order})
    said = (f"difficulty by the pass rate of {base}",) if base else ()
    return Answer(
        table, tuple(columns.values()), tables, built.dropped, (*built.notes, *said, *notes)
    )


def _open(task: _Task, row: dict[str, Any], measure: str) -> list[str]:
    """Say what would settle whether bins are worth it, where that is open."""
    usd = float(task.cost.mean(axis=0).sum()) if measure == "cost_usd" else None
    gain = (row["gain"], row["gain_low"], row["gain_high"])
    return settling.said("one option per bin against one for all", row["n_items"], gain, usd)


def _declared(measure: str) -> dict[str, Column]:
    """Say what the columns mean: costs are in the unit of the measure."""
    unit = columns_by_name()[measure].unit
    priced = {"budget", "cost", "single_cost", "bin_cost"}
    option = C("option", "text", doc="A group of `by`.", null=KEY_NULL)
    return {
        c.name: dataclasses.replace(c, unit=unit) if c.name in priced else c
        for c in (*_ROWS, *_PLAN, option)
    }


def _reduced(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[Items, pl.DataFrame, str, list[str]]:
    """Reduce to options × items, and say what each item's bin is made from: `_value`, per item."""
    measure, over = options["cost"], options["over"]
    given: dict[str, Any] = {
        "outcome": options["outcome"], "errors_as_wrong": options["errors_as_wrong"],
        "require": (measure,),
    }  # fmt: skip
    present = frame.collect_schema().names()
    if over != _DIFFICULTY:
        if over not in present:
            raise AnalysisError(unknown("column of the items", over, present))
        value = frame.group_by("item_id").agg(nw.col(over).cast(nw.String).max().alias("_value"))
        fetched: pl.DataFrame = value.collect("polars").to_native()
        return reduce_items(frame, by, (measure,), **given), fetched, "", []
    half = nw.col("trial").cast(nw.Int64) % 2 if "trial" in present else nw.lit(0)
    items = reduce_items(frame.with_columns(_half=half), (*by, "_half"), (measure,), **given)
    rows = items.frame.filter(pl.col("n") > 0)
    base = _base(rows, by, measure, options["base"])
    named = [c for c in by if c != "task"] or ["task"]
    own = pl.Series(
        [label(row) == base for row in rows.select(named).iter_rows()], dtype=pl.Boolean
    )
    known = pl.Series(own) & (rows["_half"] == 0)
    hardness = rows.filter(known).select("item_id", _value=pl.col("outcome") / pl.col("n"))
    notes = []
    rest = items.frame.filter(pl.col("n") == 0)
    kept = rows.filter(~known)
    if rows.height and not (own & ~known).any():
        notes.append(
            f"{base} has single trials, which say how hard items are: it is no option itself"
        )
    merged = _merged(pl.concat([kept, rest]), by, measure)
    return dataclasses.replace(items, frame=merged, by=tuple(by)), hardness, base, notes


def _base(rows: pl.DataFrame, by: Sequence[str], measure: str, asked: str | None) -> str:
    """Name the group that grades the items: as asked, or the cheapest."""
    named = [c for c in by if c != "task"] or ["task"]
    mean = pl.col(f"{measure}_sum").sum() / pl.col(f"{measure}_known").sum()
    groups = rows.group_by(named).agg(_mean=mean).sort("_mean", *named, nulls_last=True)
    names = [label(row) for row in groups.select(named).iter_rows()]
    if asked is not None and asked not in names:
        raise AnalysisError(unknown("group for base", asked, names))
    return asked or (names[0] if names else "")


def _merged(rows: pl.DataFrame, by: Sequence[str], measure: str) -> pl.DataFrame:
    """Add the halves of each item's trials up again."""
    keys = list(dict.fromkeys((*by, "item_id")))
    counts = [c for c in rows.columns if c.startswith("n_") or c in {"n", "outcome"}]
    sums = [*counts, f"{measure}_sum", f"{measure}_known"]
    rest = [c for c in rows.columns if c not in {*keys, *sums, "_half"}]
    grouped = rows.group_by(keys, maintain_order=True).agg(pl.col(sums).sum(), pl.col(rest).max())
    return grouped.sort(keys, nulls_last=True)


def _task(
    panel: Panel, hardness: pl.DataFrame, rng: np.random.Generator, options: dict[str, Any]
) -> _Task | None:
    """Put a task's items in bins and halves; None where no item has a bin."""
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
        panel, panel.outcome(), panel.measure(options["cost"]), bins, names,
        _halves(panel.clusters, bins, rng),
    )  # fmt: skip


def quantile_bins(values: Floats, n: int) -> tuple[Ints, list[str]]:
    """Put values in n bins at their quantiles; equal edges make one bin of several.

    Returns:
        (n_values,) bins from 0, the lowest values first; and what they span.
    """
    edges = np.unique(np.quantile(values, np.arange(1, n) / n)) if n > 1 else np.empty(0)
    _, bins = np.unique(np.digitize(values, edges), return_inverse=True)
    spans = [values[bins == b] for b in range(int(bins.max()) + 1)]
    names = [f"{s.min():.3g} to {s.max():.3g}" if s.min() < s.max() else f"{s.min():.3g}" for s in spans]  # fmt: skip
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


def _budgets(task: _Task, asked: float | None) -> list[float]:
    if asked is not None:
        return [asked]
    means = task.cost.mean(axis=0)
    grid = np.linspace(means.min(), means.max(), _STEPS)
    return sorted({*means.tolist(), *grid.tolist()})[:40]


def _plan(
    task: _Task, keep: npt.NDArray[np.bool_], budget: float
) -> tuple[Ints | None, int | None, float | None]:
    """Give the best option per bin, the best single one, and what the plan promises, from some items."""
    rate, cost = task.means(task.rate, keep), task.means(task.cost, keep)
    share = np.bincount(task.bins, minlength=len(task.names))[:, None] / len(task.bins)
    totals = knapsack.solve(share * rate, share * cost)
    place = totals.best(budget)
    alone = (share * cost).sum(axis=0) <= budget * (1 + 1e-12)
    single = int(np.argmax(np.where(alone, (share * rate).sum(axis=0), -1.0))) if alone.any() else None  # fmt: skip
    if place is None:
        return None, single, None
    return totals.options(place), single, float(totals.value[place])


def _row(task: _Task, budget: float, level: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Plan on either half and measure on the other; and plan once on all."""
    n = len(task.bins)
    got = {name: np.full((n, 1), np.nan) for name in ("rate", "cost", "single_rate", "single_cost")}
    for half in (0, 1):
        seen, new = task.half != half, np.flatnonzero(task.half == half)
        if not seen.any():
            continue
        plan, single, _ = _plan(task, seen, budget)
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
    whole, single, promised = _plan(task, np.ones(n, bool), budget)
    figures = [
        *curves.share(task.panel, got["rate"], level).series("rate"),
        *curves.share(task.panel, got["single_rate"], level).series("single_rate"),
        *curves.difference(task.panel, got["rate"] - got["single_rate"], level).series("gain"),
        *(curves.share(task.panel, got[c], level).series(c)[0] for c in ("cost", "single_cost")),
    ]  # fmt: skip
    row: dict[str, Any] = {
        "budget": budget, "n_items": n, "n_bins": len(task.names),
        **{s.name: s[0] for s in figures},
        "promised": promised, "single": None if single is None else task.options[single],
    }  # fmt: skip
    row = {c.name: row[c.name] for c in _ROWS}
    if whole is None:
        return row, []
    rates = {b["bin"]: b for b in _bins(task, level, whole)}
    return row, [
        {"bin": b, "of": r["of"], "choice": r["option"], **{k: r[k] for k in (c.name for c in _PLAN[3:])}}
        for b, r in rates.items()
    ]  # fmt: skip


def _bins(task: _Task, level: float, only: Ints | None = None) -> list[dict[str, Any]]:
    """List accuracy and cost per bin and option, or of one option per bin."""
    rows = []
    for b, name in enumerate(task.names):
        own = task.bins == b
        rate = np.where(own[:, None], task.rate, np.nan)
        figures = curves.share(task.panel, rate, level).series("bin_rate")
        cost = task.cost[own].mean(axis=0)
        options = range(len(task.options)) if only is None else [int(only[b])]
        rows += [
            {"bin": b + 1, "of": name, "option": task.options[o],
             **{s.name: s[o] for s in figures}, "bin_cost": float(cost[o])}
            for o in options
        ]  # fmt: skip
    return rows
