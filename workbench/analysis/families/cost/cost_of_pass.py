"""Cost of pass: expected cost of a right answer, per group and with the best group per item."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import BOOTSTRAP, ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.stats import intervals, resampling
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
    Column(
        "n_solved", "int", "count", "Items that it passed at least once.", KEY_NULL, "items solved"
    ),
    Column(
        "pass_rate",
        "float",
        "0..1",
        "Mean over items of the share of trials that passed.",
        KEY_NULL,
    ),
    Column("cost_usd", "float", "USD", "Mean cost of an attempt.", KEY_NULL, "cost per attempt"),
    Column(
        "cost_of_pass_usd",
        "float",
        "USD",
        "Mean cost of an attempt over the pass rate; infinite where nothing passed.",
        KEY_NULL,
        "cost of pass",
    ),
    Column(
        "cost_of_pass_usd_low",
        "float",
        "USD",
        "Lower end of its interval; where nothing passed a one-sided bound.",
        FEW_ITEMS,
        "cost of pass, low",
    ),
    Column(
        "cost_of_pass_usd_high",
        "float",
        "USD",
        "Upper end of its interval.",
        FEW_ITEMS,
        "cost of pass, high",
    ),
    Column(
        "frontier_cost_of_pass_usd",
        "float",
        "USD",
        "Mean over items of its cost of pass there, or of the expert's if that is lower.",
        KEY_NULL,
        "cost of pass, or the expert's",
    ),
    Column(
        "frontier_cost_of_pass_usd_low",
        "float",
        "USD",
        "Lower end of its interval.",
        FEW_ITEMS,
        "with the expert, low",
    ),
    Column(
        "frontier_cost_of_pass_usd_high",
        "float",
        "USD",
        "Upper end of its interval.",
        FEW_ITEMS,
        "with the expert, high",
    ),
    Column(
        "essentialness",
        "float",
        "0..1",
        "Share by which the frontier would be lower with it than without it.",
        "no group solves what is left",
        "essentialness",
    ),
    Column(
        "n_best",
        "int",
        "count",
        "Items on which it has the lowest cost of pass.",
        KEY_NULL,
        "items cheapest",
    ),
)
_TOTALS = (
    Column("n_groups", "int", "count", "Groups.", KEY_NULL, "groups"),
    Column("n_unsolved", "int", "count", "Items that no group passed.", KEY_NULL, "items unsolved"),
    Column(
        "human_cost_usd",
        "float",
        "USD",
        "Mean over items of what an expert charges.",
        "no expert",
        "expert",
    ),
    Column(
        "gain",
        "float",
        "0..1",
        "Share by which all groups together undercut the expert.",
        "no expert",
    ),
    Column(
        "n_expert",
        "int",
        "count",
        "Items where the expert is the cheapest.",
        KEY_NULL,
        "items for the expert",
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Costs:
    """Costs and pass rates of attempts on one task.

    Attributes:
        rate, cost: (n_items, n_groups) pass rate and mean cost of an attempt; NaN where not tried.
        expert: (n_items,) what an expert charges; infinite where there is none.
    """

    panel: Panel
    rate: Floats
    cost: Floats
    expert: Floats

    @functools.cached_property
    def per_item(self) -> Floats:
        """Cost of pass v = C / R of every item, (n_items, n_groups); infinite where R is 0."""
        v = divide(self.cost, self.rate)
        v[np.isnan(v)] = np.inf  # never passed, or not tried
        return v

    @functools.cached_property
    def alone(self) -> Floats:
        """The least of each group's and the expert's, (n_items, n_groups); NaN where not tried."""
        cheaper = np.minimum(self.per_item, self.expert[:, None])
        return np.where(self.panel.tried, cheaper, np.nan)

    @functools.cached_property
    def frontier(self) -> Floats:
        """The least cost of pass over all groups and the expert, (n_items,)."""
        return np.asarray(np.minimum(self.per_item.min(axis=1), self.expert))

    @functools.cached_property
    def without(self) -> Floats:
        """The frontier without each group in turn, (n_items, n_groups)."""
        v = self.per_item
        rivals = np.sort(np.column_stack([v, np.full(len(v), np.inf)]), axis=1)
        first = rivals[:, :1]
        second = rivals[:, 1:2]
        return np.minimum(np.where(v == first, second, first), self.expert[:, None])


@analysis(
    name="cost-of-pass",
    title="Cost of pass",
    question="How many dollars does a right answer cost, and which group makes it cheap?",
    source="Erol et al. 2025, arXiv 2504.13359 (eq. 3 and essentialness)",
    needs=("item_id", "passed", "cost_usd"),
    measures=("cost_usd",),
    require=("cost_usd",),
    options=(
        Option(
            "human_cost_usd",
            "float",
            None,
            "what an expert charges per item; the items' own figures if open",
            low=0,
        ),
        Option("expert", "flag", default=True, help="let an expert answer where that is cheaper"),
        SHARED,
        ERRORS,
        BOOTSTRAP,
        LEVEL,
        RESAMPLES,
    ),
    columns=(
        *_ROWS,
        *_TOTALS,
        Column("best", "text", doc="The cheapest group, or the expert.", null="no group solves it"),
    ),
    example={"human_cost_usd": 0.0001},
    chart=ChartSpec("cost_of_pass", x="cost_of_pass_usd", y="group"),
)
def cost_of_pass(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute expected dollars per right answer, cheapest group first, per task if `by` names it.

    Grain: one row per group; `more["totals"]`: one row per task, all groups together;
    `more["items"]`: one row per item with its cheapest group. Only scored traces of known cost
    count, for costs and passes alike.

    Two estimators that differ widely. `cost_of_pass_usd` = mean cost of an attempt / pass rate,
    over the items at large: what retrying until right costs with a perfect verifier. The frontier
    form takes v = C / R for every item, the least of it over the groups and the expert (who is
    always right), and then the mean over items; it is infinite where no group solves an item. With
    few trials the least of noisy values is too low. Essentialness of g: (V(M∖g) − V(M)) / V(M∖g).

    Intervals: bootstrap over clusters of items, paired over groups. Where nothing passed the figure
    is infinite, and the low end is the mean cost over the upper Clopper–Pearson bound of the pass
    rate, each cluster counted once.
    """
    items = reduce_items(
        frame,
        by,
        ("cost_usd",),
        errors_as_wrong=options["errors_as_wrong"],
        require=("cost_usd",),
        about=("task", "item", "human_cost_usd"),
    )
    panels = build(items, shared=options["shared"])
    notes = panels.notes
    rows = []
    totals = []
    details = []
    for task, panel in panels.parts:
        costs = _Costs(panel, panel.outcome(), panel.measure("cost_usd"), _expert(panel, options))
        row, total = _rows(costs, rng, options)
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(row.with_columns(where))
        totals.append(total.select(*where, pl.all()))
        details.append(_details(costs))
        notes += _notes(task, costs)
    head = [c.name for c in _ROWS]
    table = pl.concat(rows).select(*by, *head) if rows else empty(by, _ROWS)
    more = {"totals": pl.concat(totals), "items": pl.concat(details)} if rows else {}
    return Answer(table, more=more, dropped=panels.dropped, notes=notes)


def _expert(panel: Panel, options: dict[str, Any]) -> Floats:
    charged = panel.items["human_cost_usd"].fill_null(np.inf).to_numpy().astype(float)
    if not options["expert"]:
        return np.full(len(charged), np.inf)
    if options["human_cost_usd"] is not None:
        return np.full(len(charged), options["human_cost_usd"])
    return charged


def _notes(task: str | None, costs: _Costs) -> tuple[str, ...]:
    where = f" on {task}" if task else ""
    notes = []
    if not np.isfinite(costs.expert).all():
        notes.append(f"no expert's cost for some items{where}: what no group solves costs infinity")
    if costs.panel.n_clusters < 2:
        notes.append(f"no intervals{where}: they need at least two items")
    return tuple(notes)


def _rows(
    costs: _Costs, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make the rows and the totals of a task."""
    panel = costs.panel
    v = costs.per_item
    best = costs.frontier
    rate = np.nanmean(costs.rate, axis=0)
    cost = np.nanmean(costs.cost, axis=0)
    low, high = _ratio_interval(costs, rng, options)
    f_low, f_high = _frontier_interval(panel, np.column_stack([costs.alone, best]), rng, options)
    essential = _share(costs.without.mean(axis=0), float(best.mean()))
    cheapest = np.isfinite(v) & (v == v.min(axis=1, keepdims=True)) & (v <= best[:, None])
    rows = panel.groups.with_columns(
        pl.Series("n_items", panel.tried.sum(axis=0)).cast(pl.Int64),
        pl.Series("n", np.nansum(panel.matrix("n"), axis=0)).cast(pl.Int64),
        pl.Series("n_solved", (np.nan_to_num(costs.rate) > 0).sum(axis=0)).cast(pl.Int64),
        pl.Series("pass_rate", rate),
        pl.Series("cost_usd", cost),
        pl.Series("cost_of_pass_usd", _over(cost, rate)),
        *_ends("cost_of_pass_usd", low, high),
        pl.Series("frontier_cost_of_pass_usd", np.nanmean(costs.alone, axis=0)),
        *_ends("frontier_cost_of_pass_usd", f_low[:-1], f_high[:-1]),
        pl.Series("essentialness", essential).fill_nan(None),
        pl.Series("n_best", cheapest.sum(axis=0)).cast(pl.Int64),
    ).sort("cost_of_pass_usd", "frontier_cost_of_pass_usd", maintain_order=True)
    return rows, _totals(costs, f_low[-1:], f_high[-1:])


def _totals(costs: _Costs, low: Floats, high: Floats) -> pl.DataFrame:
    """Sum a task up: all groups together against the expert."""
    v = costs.per_item
    total = float(costs.frontier.mean())
    expert = (
        costs.expert.mean(keepdims=True) if np.isfinite(costs.expert).all() else np.array([np.nan])
    )
    return pl.DataFrame(
        {
            "n_items": [len(v)],
            "n_groups": [v.shape[1]],
            "n_unsolved": [int(np.isinf(v).all(axis=1).sum())],
            "frontier_cost_of_pass_usd": [total],
        }
    ).with_columns(
        *_ends("frontier_cost_of_pass_usd", low, high),
        pl.Series("human_cost_usd", expert).fill_nan(None),
        pl.Series("gain", _share(expert, total)).fill_nan(None),
        pl.Series("n_expert", [int((costs.expert < v.min(axis=1)).sum())]),
    )


def _over(cost: Floats, rate: Floats) -> Floats:
    """Cost over pass rate; infinite where nothing passed, NaN where nothing was tried."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(rate > 0, cost / rate, np.where(rate == 0, np.inf, np.nan))
    return ratio


def _share(before: Floats, after: float) -> Floats:
    """(before − after) / before; 1 where something infinite became finite, NaN where neither is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Floats = np.where(
            np.isinf(before) & np.isfinite(after), 1.0, (before - after) / before
        )
    return share


def _ends(name: str, low: Floats, high: Floats) -> list[pl.Series]:
    return [
        pl.Series(f"{name}_low", low).fill_nan(None),
        pl.Series(f"{name}_high", high).fill_nan(None),
    ]


def _interval(
    sums: Floats, statistic: Any, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[Floats, Floats]:
    """Bootstrap interval of a function of sums over clusters; NaN below two clusters."""
    if len(sums) < 2:
        nothing = np.full_like(statistic(sums.sum(axis=0)[None])[0], np.nan)
        return nothing, nothing
    draws = statistic(resampling.resampled_sums(sums, options["resamples"], rng))
    if options["interval"] == "percentile":
        return resampling.percentile(draws, options["level"], len(sums))
    jackknife = statistic(resampling.left_out_sums(sums))
    whole = statistic(sums.sum(axis=0)[None])[0]
    return resampling.bca(whole, draws, jackknife, options["level"], len(sums))


def _ratio_interval(
    costs: _Costs, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[Floats, Floats]:
    panel = costs.panel
    parts = (costs.cost, costs.rate, panel.tried.astype(float))
    sums = np.hstack([panel.cluster_sums(part) for part in parts])

    def statistic(totals: Floats) -> Floats:
        cost, rate, n = np.split(totals, 3, axis=1)
        return np.where(n > 0, _over(cost, rate), np.nan)

    low, high = _interval(sums, statistic, rng, options)
    clusters = panel.n_own_clusters
    rate = np.nanmean(costs.rate, axis=0)
    cost = np.nanmean(costs.cost, axis=0)
    _, ceiling = intervals.clopper_pearson(np.zeros(len(rate)), clusters, 2 * options["level"] - 1)
    low, high = np.where(rate > 0, low, cost / ceiling), np.where(rate > 0, high, np.inf)
    enough = clusters > 1
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _frontier_interval(
    panel: Panel, values: Floats, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[Floats, Floats]:
    """Interval of means over items that may be infinite; (n_items, k), NaN where not tried."""
    infinite = np.isinf(values).astype(float)
    finite = np.where(np.isfinite(values), values, 0.0)
    here = (~np.isnan(values)).astype(float)
    sums = np.hstack([panel.cluster_sums(part) for part in (finite, infinite, here)])

    def statistic(totals: Floats) -> Floats:
        total, endless, n = np.split(totals, 3, axis=1)
        return np.where(endless > 0, np.inf, divide(total, n))

    low, high = _interval(sums, statistic, rng, options)
    enough = np.append(panel.n_own_clusters, panel.n_clusters) > 1
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _details(costs: _Costs) -> pl.DataFrame:
    """Name the cheapest for every item, the most expensive item first."""
    v = costs.per_item
    names = costs.panel.labels
    least = v.min(axis=1)
    best_groups = [names[g] for g in v.argmin(axis=1)]
    best = [
        "expert" if e < low else (group if np.isfinite(low) else None)
        for e, low, group in zip(costs.expert, least, best_groups, strict=True)
    ]
    items = costs.panel.items
    return (
        items.select("task", "item", "item_id")
        .with_columns(
            pl.Series("best", best, pl.String),
            pl.Series("frontier_cost_of_pass_usd", costs.frontier),
        )
        .sort("frontier_cost_of_pass_usd", descending=True, maintain_order=True)
    )
