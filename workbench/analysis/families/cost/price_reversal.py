"""Price reversal: pairs where the lower list price has the higher bill."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL, RESAMPLES
from workbench.analysis.core.result import DTYPES, Answer, empty, label
from workbench.analysis.inputs import calls, engine
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import Items, reduce_items
from workbench.analysis.stats import rank_correlation, resampling, shapley
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_MEASURES = ("cost_usd", "reasoning_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok")
_REQUIRE = ("cost_usd", "input_usd_per_mtok", "output_usd_per_mtok")
_AMOUNTS = ("n_calls", "input_tokens", "output_tokens", "reasoning_tokens")
_MOST_PAIRS = 200  # whose difference is taken apart
_EVERY = "(all tasks)"
_NO_THINKING = "the cost of thinking is unknown"
_UNLISTED = (
    "no trace has a bill and a listed price of input and output (a price per machine-hour "
    "is none): "
    "add a sheet with input_usd_per_mtok and output_usd_per_mtok (workbench prices add)"
)
_PAIRS = (
    Column(
        "cheaper",
        "text",
        doc="The group with the lower listed price.",
        null=KEY_NULL,
        title="listed cheaper",
    ),
    Column(
        "dearer",
        "text",
        doc="The group with the higher listed price.",
        null=KEY_NULL,
        title="listed dearer",
    ),
    Column("reversed", "bool", doc="Whether the cheaper by list costs more.", null=KEY_NULL),
    Column(
        "p_reversed",
        "float",
        "0..1",
        "Share of resamples of the items in which it costs more.",
        FEW_ITEMS,
        "probability of reversal",
    ),
    Column(
        "reversed_without_thinking",
        "bool",
        doc="Whether it would, if thinking were free.",
        null=_NO_THINKING,
    ),
    Column(
        "list_ratio",
        "float",
        doc="Listed price of the dearer over that of the cheaper.",
        null="the cheaper is free",
        title="listed ratio",
    ),
    Column(
        "cost_ratio",
        "float",
        doc="Bill of the cheaper by list over that of the dearer; above 1 reversed.",
        null="the dearer was free",
        title="bill ratio",
    ),
)
_GROUPS = (
    Column(
        "list_usd_per_mtok",
        "float",
        "USD/Mtok",
        "Listed input price plus listed output price.",
        KEY_NULL,
        "listed price",
    ),
    Column("cost_usd", "float", "USD", "Bill for the shared items, once each.", KEY_NULL, "bill"),
    Column(
        "cost_without_thinking_usd",
        "float",
        "USD",
        "That bill, had thinking been free.",
        _NO_THINKING,
        "bill without thinking",
    ),
    Column(
        "list_rank",
        "float",
        doc="Place by listed price, 1 the cheapest; ties share the mean.",
        null=KEY_NULL,
        title="place by listed price",
    ),
    Column(
        "cost_rank",
        "float",
        doc="Place by bill, 1 the cheapest; ties share the mean.",
        null=KEY_NULL,
        title="place by bill",
    ),
)
_TOTALS = (
    Column("n_items", "int", "count", "Items that every group was tried on.", KEY_NULL, "items"),
    Column(
        "n_groups", "int", "count", "Groups with a listed price and a cost.", KEY_NULL, "groups"
    ),
    Column("n_pairs", "int", "count", "Pairs whose listed prices differ.", KEY_NULL, "pairs"),
    Column(
        "n_reversed",
        "int",
        "count",
        "Pairs in which the cheaper by list costs more.",
        KEY_NULL,
        "reversed",
    ),
    Column(
        "n_reversed_low", "float", "count", "Lower end of its interval.", FEW_ITEMS, "reversed, low"
    ),
    Column(
        "n_reversed_high",
        "float",
        "count",
        "Upper end of its interval.",
        FEW_ITEMS,
        "reversed, high",
    ),
    Column("reversal_rate", "float", "0..1", "Reversed pairs over pairs.", "no pairs"),
    Column(
        "n_reversed_surely",
        "int",
        "count",
        "Reversed in at least the level's share of resamples.",
        FEW_ITEMS,
        "surely reversed",
    ),
    Column(
        "kendall_tau",
        "float",
        doc="Kendall's τ-b of listed price and bill; over tasks the mean.",
        null="fewer than two groups, or all tied",
        title="Kendall's τ",
    ),
    Column(
        "kendall_tau_low", "float", doc="Lower end of its interval.", null=FEW_ITEMS, title="τ, low"
    ),
    Column(
        "kendall_tau_high",
        "float",
        doc="Upper end of its interval.",
        null=FEW_ITEMS,
        title="τ, high",
    ),
    Column(
        "n_reversed_without_thinking",
        "int",
        "count",
        "Reversed pairs, were thinking free.",
        _NO_THINKING,
        "reversed without thinking",
    ),
    Column(
        "kendall_tau_without_thinking",
        "float",
        doc="τ-b, were thinking free.",
        null=_NO_THINKING,
        title="τ without thinking",
    ),
)
_FACTORS = (
    Column(
        "cheaper",
        "text",
        doc="The group with the lower listed price.",
        null=KEY_NULL,
        title="listed cheaper",
    ),
    Column(
        "dearer",
        "text",
        doc="The group with the higher listed price.",
        null=KEY_NULL,
        title="listed dearer",
    ),
    Column(
        "factor",
        "text",
        doc="What the bill is made of; the rest is caches, discounts and prices that changed.",
        null=KEY_NULL,
    ),
    Column(
        "cheaper_value",
        "float",
        doc="Its value for the cheaper by list: calls per item, tokens per call, or USD per "
        "million tokens.",
        null="unknown, or the rest",
    ),
    Column("dearer_value", "float", doc="Its value for the dearer.", null="unknown, or the rest"),
    Column(
        "effect_usd",
        "float",
        "USD",
        "How much of the bills' difference, cheaper by list minus dearer, is due to it.",
        "unknown",
        "effect",
    ),
)
_REPEATS = (
    Column(
        "n_repeated",
        "int",
        "count",
        "Items with several traces whose thinking is known.",
        KEY_NULL,
        "repeated items",
    ),
    Column(
        "widest_ratio",
        "float",
        doc="Most over least thinking tokens of one item, the widest of all; the least counts "
        "as 1 at least.",
        null=KEY_NULL,
        title="widest spread",
    ),
    Column("widest_item", "text", doc="That item.", null=KEY_NULL),
    Column(
        "median_ratio",
        "float",
        doc="That ratio in the middle of the items.",
        null=KEY_NULL,
        title="usual spread",
    ),
    Column(
        "variation",
        "float",
        doc="Sample standard deviation over mean of an item's thinking tokens, averaged over "
        "items.",
        null="none thought",
        title="coefficient of variation",
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Bills:
    """Listed prices and bills of a task's groups on their shared items, (n_groups,) each."""

    panel: Panel
    listed: Floats
    cost: Floats
    bare: Floats  # without thinking; NaN where unknown
    draws: Floats | None  # bills of resamples, (resamples, n_groups)
    factors: dict[str, Floats]  # what the bills are made of; NaN where unknown


@analysis(
    name="price-reversal",
    title="Price reversal",
    question="Does the listed price predict the bill, and what does thinking do to it?",
    source="arXiv 2603.23971 (listed price, reversal, ablation of thinking, attribution); Kendall "
    "1945 (τ-b); Shapley 1953",
    needs=("item_id", "task", "cost_usd", "input_usd_per_mtok", "output_usd_per_mtok"),
    measures=_MEASURES,
    require=_REQUIRE,
    scored=False,
    options=(LEVEL, RESAMPLES),
    columns=(*_PAIRS, *_GROUPS, *_TOTALS, *_FACTORS[2:], *_REPEATS),
    by_hand={
        "by": ("model",),
        "worked": "By list the thinker costs $1 + $5 per million tokens, "
        "terse $2 + $10. But an item "
        "costs the thinker"
        " 1,000 × $1 + 800 × $5 per million = $0.005, and terse 1,000 × $2 + 200 × $10 = "
        "$0.004: reversed, by 1.25."
        " Without its 600 thinking tokens the thinker would come to $0.002.",
    },
    chart=ChartSpec("price_reversal", x="list_rank", y="cost_rank"),
    settles=Settles("kendall_tau", 0.0, table="totals"),
)
def price_reversal(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare the order of listed prices with the order of bills, on every task apart.

    Grain: one row per task and pair of groups whose listed prices differ, the widest reversal
    first; `more["groups"]`: one row per task and group; `more["totals"]`: one row per task, and one
    over all tasks where there are several (counts summed, τ averaged); `more["attribution"]`: one
    row per task, pair (the first 200) and factor; `more["repeats"]`: one row per task and group
    with repeated items.

    Listed price: input plus output per million tokens, unweighted. Bill: the cost of the items that
    every group was tried on, trials averaged. A pair is reversed if the cheaper by list has the
    strictly higher bill; pairs of equal list price are left out. Failed traces and those without a
    cost or a listed price are left out, unscored ones are not. Intervals and `p_reversed` resample
    clusters of items, the same for all groups: they are the noise floor of the finding. The bill
    without thinking is known only if it is for every trace of the shared items.

    Attribution: a bill is calls × (input per call × input price + (answer + thinking per call) ×
    output price). The difference of two bills is shared out among these six factors by their
    Shapley values (the idea of the paper's second version, known from notes on it, whose game has
    the prices and amounts of cached input as two factors more); what they do not explain, as reads
    from caches, is the rest. Repeats: how much the thinking on one item differs from trace to
    trace, whether priced or not: the most over the least.
    """
    by = tuple(c for c in by if c != "task")
    if not by:
        raise AnalysisError(
            "price-reversal compares within a task; name another column to group by"
        )
    measures = (*_MEASURES, *_AMOUNTS)
    repeats = _repeats(frame, by)  # first, while nothing else is held
    frame = _with_requests(frame)
    items = reduce_items(frame, ("task", *by), measures, require=_REQUIRE, scored=False)
    panels = build(items, shared=True)
    parts = [(str(task), _bills(panel, rng, options)) for task, panel in panels.parts]
    tables = [_pairs(bills) for _, bills in parts]
    dropped = panels.dropped | {"pairs of equal listed price": sum(tied for _, tied in tables)}
    if not parts:
        return Answer(empty(("task",), _PAIRS), dropped=dropped, notes=(_UNLISTED, *panels.notes))
    totals = _summed(
        [(t, b, table) for (t, b), (table, _) in zip(parts, tables, strict=True)], options
    )
    groups = pl.concat([_groups(bills).select(_named(task), pl.all()) for task, bills in parts])
    rows = pl.concat(
        [
            table.select(_named(task), pl.all())
            for (task, _), (table, _) in zip(parts, tables, strict=True)
        ]
    ).sort("reversed", "cost_ratio", descending=True, nulls_last=True, maintain_order=True)
    parts_of = pl.concat(
        [
            _attributed(bills, table).select(_named(task), pl.all())
            for (task, bills), (table, _) in zip(parts, tables, strict=True)
        ]
    )
    more = {"totals": totals, "groups": groups, "attribution": parts_of, "repeats": repeats}
    return Answer(rows, more=more, dropped=dropped, notes=panels.notes + _changed(items, by))


def _with_requests(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Count the calls of traces whose source gave totals of several as so many."""
    if "n_calls" not in frame.collect_schema().names():
        return frame
    several = calls.requests(frame)
    return frame.with_columns(n_calls=nw.when(several > 1).then(several).otherwise("n_calls"))


def _summed(
    parts: Sequence[tuple[str, _Bills, pl.DataFrame]], options: dict[str, Any]
) -> pl.DataFrame:
    """Sum every task up, and all together where there are several."""
    totals = pl.DataFrame(
        [{"task": task} | _totals(bills, pairs, options) for task, bills, pairs in parts],
        schema={"task": pl.String} | {c.name: DTYPES[c.type] for c in _TOTALS},
    )
    return pl.concat([totals, _overall(totals)]) if len(parts) > 1 else totals


def _named(task: str) -> pl.Expr:
    return pl.lit(task, pl.String).alias("task")


def _bills(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> _Bills:
    listed = panel.measure("input_usd_per_mtok") + panel.measure("output_usd_per_mtok")
    cost = panel.measure("cost_usd")
    thinking = panel.measure("reasoning_cost_usd")
    partly = panel.matrix("reasoning_cost_usd_known") < panel.matrix("n")
    bare = np.where(partly, np.nan, cost - thinking).sum(axis=0)
    draws = None
    if panel.n_clusters > 1:
        draws = resampling.resampled_sums(panel.cluster_sums(cost), options["resamples"], rng)
    # Items have equal weights, so that a price that changed midway counts by the share of its
    # items.
    return _Bills(
        panel, listed.mean(axis=0).round(9), cost.sum(axis=0), bare, draws, _factors(panel)
    )


def _factors(panel: Panel) -> dict[str, Floats]:
    """Factors of the bills: calls per item, tokens per call, USD per million tokens."""
    n_calls, given, out, thinking = (panel.measure(m).sum(axis=0) for m in _AMOUNTS)
    return {
        "calls": n_calls / panel.items.height,
        "input per call": divide(given, n_calls),
        "answer per call": divide(out - thinking, n_calls),
        "thinking per call": divide(thinking, n_calls),
        "input price": panel.measure("input_usd_per_mtok").mean(axis=0),
        "output price": panel.measure("output_usd_per_mtok").mean(axis=0),
    }


def _bill(factors: shapley.Factors) -> Floats:
    out = factors["answer per call"] + factors["thinking per call"]
    per_call = factors["input per call"] * factors["input price"] + out * factors["output price"]
    return np.asarray(factors["calls"] * per_call / 1e6)


def _attributed(bills: _Bills, pairs: pl.DataFrame) -> pl.DataFrame:
    """Share out the differences of the widest pairs' bills."""
    widest = pairs.sort(
        "reversed", "cost_ratio", descending=True, nulls_last=True, maintain_order=True
    ).head(_MOST_PAIRS)
    place = {name: j for j, name in enumerate(bills.panel.labels)}
    low, high = ([place[name] for name in widest[c]] for c in ("cheaper", "dearer"))
    one, other = ({f: v[at] for f, v in bills.factors.items()} for at in (low, high))
    n = bills.panel.items.height
    effects = {f: n * v for f, v in shapley.shapley(_bill, one, other).items()}
    rest = bills.cost[low] - bills.cost[high] - sum(effects.values())
    effects["rest"] = np.where(np.abs(rest) < 1e-9 * bills.cost[high], 0.0, rest)  # rounding
    tables = [
        widest.select("cheaper", "dearer").with_columns(
            pl.lit(factor).alias("factor"),
            *[
                pl.Series(c, values.get(factor, np.full(len(low), np.nan)), pl.Float64).fill_nan(
                    None
                )
                for c, values in (
                    ("cheaper_value", one),
                    ("dearer_value", other),
                    ("effect_usd", effects),
                )
            ],
            _pair=pl.int_range(len(low)),
        )
        for factor in effects
    ]
    return pl.concat(tables).sort("_pair", maintain_order=True).drop("_pair")


def _repeats(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> pl.DataFrame:
    """Compare the thinking of traces on the same item."""
    columns = [c.name for c in _REPEATS]
    present = frame.collect_schema().names()
    if "reasoning_tokens" not in present:
        return empty((*by, "task"), _REPEATS)
    thinking = nw.col("reasoning_tokens").cast(nw.Float64)
    done = frame.filter(~nw.col("reasoning_tokens").is_null())
    if "error_type" in present:
        done = done.filter(nw.col("error_type").is_null())
    name = "item" if "item" in present else "item_id"
    keys = [*by, *(c for c in ("task", "item_id") if c not in by)]
    spreads = (
        done.group_by(keys)
        .agg(
            thinking.count().alias("n"),
            thinking.min().alias("least"),
            thinking.max().alias("most"),
            thinking.mean().alias("mean"),
            thinking.std().alias("sd"),
            nw.col(name).max().alias("_item"),
        )
        .filter(nw.col("n") > 1)
    )
    variation = nw.when(nw.col("mean") > 0).then(nw.col("sd") / nw.col("mean"))
    ratio = nw.col("most") / nw.max_horizontal(nw.col("least"), nw.lit(1.0))
    several = engine.collect(spreads.select(*keys, "_item", ratio=ratio, variation=variation))
    groups = [*by, "task"]
    # The few widest are sorted, not all.
    widest = several.filter(pl.col("ratio") == pl.col("ratio").max().over(groups))
    first = (
        engine.spelled(widest)
        .sort(keys)
        .group_by(groups)
        .agg(pl.col("_item").first().cast(pl.String).alias("widest_item"))
    )
    figures = engine.spelled(
        several.group_by(groups).agg(
            pl.len().cast(pl.Int64).alias("n_repeated"),
            pl.col("ratio").max().alias("widest_ratio"),
            pl.col("ratio").median().alias("median_ratio"),
            pl.col("variation").mean(),
        )
    )
    both = figures.join(first, on=groups, how="left", nulls_equal=True)
    return both.sort(groups).select(*groups, *columns)


def _changed(items: Items, by: Sequence[str]) -> tuple[str, ...]:
    """Note the groups whose listed price is not one figure."""
    price = pl.col("input_usd_per_mtok_sum", "output_usd_per_mtok_sum") / pl.col(
        "input_usd_per_mtok_known"
    )
    spread = items.frame.filter(pl.col("n") > 0).group_by(by).agg(price.max() - price.min())
    moved = spread.filter(pl.max_horizontal(pl.selectors.ends_with("_sum")) > 1e-9).select(by)
    return tuple(
        f"the listed price of {label(row)} is not one figure; its mean was used"
        for row in moved.sort(by).iter_rows()
    )


def _pairs(bills: _Bills) -> tuple[pl.DataFrame, int]:
    """Pair every two groups; also count the pairs of equal listed price."""
    i, j = np.triu_indices(len(bills.listed), 1)
    tied = bills.listed[i] == bills.listed[j]
    swap = bills.listed[i] > bills.listed[j]
    low = np.where(swap, j, i)[~tied]
    high = np.where(swap, i, j)[~tied]
    names = pl.Series(bills.panel.labels, dtype=pl.String)
    with np.errstate(divide="ignore", invalid="ignore"):
        listed = bills.listed[high] / bills.listed[low]
        ratio = bills.cost[low] / bills.cost[high]
    unknown = np.isnan(bills.bare[low]) | np.isnan(bills.bare[high])
    bare = pl.Series(bills.bare[low] > bills.bare[high]).set(pl.Series(unknown), None)
    p = None if bills.draws is None else (bills.draws[:, low] > bills.draws[:, high]).mean(axis=0)
    table = pl.DataFrame(
        {
            "cheaper": names.gather(low),
            "dearer": names.gather(high),
            "reversed": bills.cost[low] > bills.cost[high],
            "p_reversed": pl.Series([None] * len(low) if p is None else p, dtype=pl.Float64),
            "reversed_without_thinking": bare,
            "list_ratio": pl.Series(np.where(np.isfinite(listed), listed, np.nan)).fill_nan(None),
            "cost_ratio": pl.Series(np.where(np.isfinite(ratio), ratio, np.nan)).fill_nan(None),
        }
    )
    return table, int(tied.sum())


def _groups(bills: _Bills) -> pl.DataFrame:
    return bills.panel.groups.with_columns(
        pl.Series("list_usd_per_mtok", bills.listed),
        pl.Series("cost_usd", bills.cost),
        pl.Series("cost_without_thinking_usd", bills.bare).fill_nan(None),
        pl.Series("list_rank", bills.listed).rank("average"),
        pl.Series("cost_rank", bills.cost).rank("average"),
    ).sort("list_rank", maintain_order=True)


def _totals(bills: _Bills, pairs: pl.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    """Sum a task up."""
    n = pairs.height
    k = len(bills.listed)
    known = not np.isnan(bills.bare).any()
    total: dict[str, Any] = {
        "n_items": bills.panel.items.height,
        "n_groups": k,
        "n_pairs": n,
        "n_reversed": int(pairs["reversed"].sum()),
        "n_reversed_low": None,
        "n_reversed_high": None,
        "reversal_rate": pairs["reversed"].mean(),
        "n_reversed_surely": None,
        "kendall_tau": _float(rank_correlation.tau_b(bills.listed, bills.cost)),
        "kendall_tau_low": None,
        "kendall_tau_high": None,
        "n_reversed_without_thinking": int(pairs["reversed_without_thinking"].sum())
        if known
        else None,
        "kendall_tau_without_thinking": _float(rank_correlation.tau_b(bills.listed, bills.bare))
        if known
        else None,
    }
    if bills.draws is None or n == 0:
        return total
    i, j = np.triu_indices(k, 1)
    gap = (bills.listed[i] - bills.listed[j]) * (bills.draws[:, i] - bills.draws[:, j])
    counts = (gap < 0).sum(axis=1).astype(float)
    taus = rank_correlation.tau_b(bills.listed, bills.draws)
    (low, tau_low), (high, tau_high) = resampling.percentile(
        np.column_stack([counts, taus]), options["level"], bills.panel.n_clusters
    )
    surely = pairs["reversed"] & (pairs["p_reversed"] >= options["level"])
    return total | {
        "n_reversed_low": float(low),
        "n_reversed_high": float(high),
        "n_reversed_surely": int(surely.sum()),
        "kendall_tau_low": _float(tau_low),
        "kendall_tau_high": _float(tau_high),
    }


def _float(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _overall(totals: pl.DataFrame) -> pl.DataFrame:
    """Add tasks up: counts are summed, τ averaged; what one task lacks is unknown."""
    counts = (
        "n_items",
        "n_groups",
        "n_pairs",
        "n_reversed",
        "n_reversed_surely",
        "n_reversed_without_thinking",
    )
    taus = ("kendall_tau", "kendall_tau_without_thinking")
    row: dict[str, Any] = dict.fromkeys(totals.columns) | {"task": _EVERY}
    for names, fold in ((counts, pl.Series.sum), (taus, pl.Series.mean)):
        row |= {c: None if totals[c].null_count() else fold(totals[c]) for c in names}
    row["n_groups"] = totals["n_groups"].max()
    row["reversal_rate"] = row["n_reversed"] / row["n_pairs"] if row["n_pairs"] else None
    return pl.DataFrame([row], schema=totals.schema)
