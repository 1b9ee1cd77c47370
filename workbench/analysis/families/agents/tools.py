"""Tools by use: calls, failures, and cost in waiting time and tokens."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL, RESAMPLES
from workbench.analysis.core.result import DTYPES, Answer, empty
from workbench.analysis.inputs import per_trace, sample, tool_rows
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import Items
from workbench.analysis.inputs.sample import Means, ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NO_CALL = "no tool was called"
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    *ends(
        Column(
            "calls_per_trace",
            "float",
            "count",
            "Mean tool calls of a trace, those without any included.",
            KEY_NULL,
            "tool calls per trace",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "used_rate",
            "float",
            "0..1",
            "Share of traces that called a tool.",
            KEY_NULL,
            "traces with tools",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "tool_error_rate",
            "float",
            "0..1",
            "Share of the tool calls that failed.",
            _NO_CALL,
            "failed calls",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "repeat_rate",
            "float",
            "0..1",
            "Share of the tool calls that an earlier one of the same trace had asked with "
            "the same words.",
            _NO_CALL,
            "repeated calls",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "correct_per_call",
            "float",
            "",
            "Right answers over tool calls (tool productivity).",
            "no scored trace, or no tool was called",
            "right answers per tool call",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "extra_calls",
            "float",
            "count",
            "Calls of a right trace beyond the fewest with which a trace of its group was "
            "right on the item (redundancy).",
            "no item was ever right",
            "calls beyond the fewest",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "wait_s",
            "float",
            "s",
            "Mean time of a trace that its tools took, calls side by side added up.",
            "a tool's time is unknown",
            "wait for tools",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "read_tokens",
            "float",
            "tokens",
            "Mean tokens of the tools' results of a trace.",
            "results were not counted",
            "tokens of results",
        ),
        FEW_ITEMS,
    ),
)
_BY_TOOL = (
    Column("tool", "text", doc="Name of the tool.", null=KEY_NULL),
    Column("n_calls", "int", "count", "Calls.", KEY_NULL, "calls"),
    Column(
        "share_of_calls",
        "float",
        "0..1",
        "Share of the group's tool calls.",
        KEY_NULL,
        "share of calls",
    ),
    Column("n_errors", "int", "count", "Calls that failed.", KEY_NULL, "failed"),
    *ends(
        Column(
            "error_rate",
            "float",
            "0..1",
            "Share of its calls that failed.",
            KEY_NULL,
            "failed calls",
        ),
        "fewer than two items, or no spread",
    ),
    Column("mean_s", "float", "s", "Mean time of a call.", "not measured", "time per call"),
    Column(
        "tokens_per_call",
        "float",
        "tokens",
        "Mean tokens of a result.",
        "not counted",
        "tokens per result",
    ),
    Column(
        "bytes_per_call",
        "float",
        "bytes",
        "Mean bytes of a result.",
        "not recorded",
        "bytes per result",
    ),
    Column(
        "tool_cost_usd",
        "float",
        "USD",
        "What the tool charged for all calls whose charge is known.",
        "never priced",
        "tool cost",
    ),
)
NO_TOOLS = "the rows have no column tool, so that no call is known: give it rows of tool_uses"
_NUMBERS = ("e2e_s", "result_tokens", "result_bytes", "cost_usd")
_MEASURES = (
    "_calls",
    "_used",
    "_errors",
    "_repeats",
    "_right",
    "_right_of",
    "_extra",
    "_wait",
    "_read",
)


@analysis(
    name="tools",
    title="Tools",
    question="Which tools are called, how often do they fail, wait or repeat, and how many right "
    "answers does a call bring?",
    source="tool productivity: OTC-PO (unverified); redundancy and fewer calls for right answers "
    "after LightSearcher (abstract only): the exact forms are ours",
    needs=("item_id",),
    scored=False,
    options=(LEVEL, RESAMPLES),
    columns=(*_ROWS, *_BY_TOOL),
    rows="tool_uses",
    chart=ChartSpec(
        "figures",
        x="calls_per_trace",
        y="group",
        also=("correct_per_call", "tool_error_rate", "repeat_rate"),
    ),
    settles=Settles("correct_per_call"),
    example={"by": ("model", "task"), "where": "strategy:react"},
)
def tools(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count what tools were asked for and what came of it.

    Grain: one row per group, per task if `by` names it; `more["by_tool"]`: one row per group and
    tool, the most called first. Failed traces are left out of the groups' rows, their calls are not
    of `by_tool`. Traces that called nothing count in all means; trials are averaged within their
    item.

    Right answers per tool call: mean of right or wrong over mean calls, of scored traces. Failed
    and repeated calls: over all calls. A call repeats if the same trace had called the same tool
    with the same arguments, letter by letter; calls whose arguments were not recorded never do.
    Calls beyond the fewest: those of a right trace minus the fewest with which a trace of its group
    got the item right; 0 where an item has one right trace. Waits and tokens are unknown for a
    group in which a call's are; a failed call without a time took none.

    Intervals: expanded percentile bootstrap of item clusters; of `by_tool` t · SE of the ratio,
    clustered.
    """
    rows = tool_rows.fetch(
        frame, by, _NUMBERS, transform=lambda piece: piece.drop("_trace_id", "_ordinal")
    )
    recorded = "tool" in frame.collect_schema().names()
    reduced = []
    by_tool = []
    for key, part in per_trace.parts(rows, by):
        group = dict(zip(by, key, strict=True))
        reduced.append(_items(_traces(part, recorded=recorded), group))
        by_tool += _by_tool(part, group, options["level"])
    reduced = reduced or [_items(_traces(rows, recorded=recorded), dict.fromkeys(by))]
    whole = pl.concat(reduced).cast({c: rows.schema[c] for c in by})
    built = build(Items(whole, tuple(by), _MEASURES, (), errors_as_wrong=False, scored=False))
    table = sample.tabulate(built, by, _ROWS, lambda panel: _rows(panel, rng, options))
    more = {"by_tool": _tabulated(by_tool, by, rows)}
    notes = built.notes
    if not recorded:
        notes += (NO_TOOLS,)
    return Answer(table, more=more, dropped=built.dropped, notes=notes)


def _traces(rows: pl.DataFrame, *, recorded: bool) -> pl.DataFrame:
    """Add the calls of a group up to traces; null for failed traces and unrecorded calls."""
    called = pl.col("_tool").is_not_null()
    wrong = pl.col("_wrong")
    sums = {
        "_calls": called,
        "_errors": wrong,
        "_repeats": tool_rows.IS_REPEAT,
        "_untimed": called & ~wrong & pl.col("_e2e_s").is_null(),
        "_wait": pl.col("_e2e_s"),
        "_unread": called & pl.col("_result_tokens").is_null(),
        "_read": pl.col("_result_tokens"),
    }
    first = ("_item", "_code", "_failed", "_passed")
    traces = rows.select("_trace", *first, **{c: e.cast(pl.Float64) for c, e in sums.items()})
    traces = traces.group_by("_trace").agg(pl.col(first).first(), pl.col(*sums).sum())
    passed = pl.col("_passed")
    calls = pl.col("_calls")
    done = traces.with_columns(
        _wait=pl.when(pl.col("_untimed") == 0).then("_wait"),
        _read=pl.when(pl.col("_unread") == 0).then("_read"),
        _right=passed.cast(pl.Float64),
        _used=(calls > 0).cast(pl.Float64),
        _right_of=pl.when(passed.is_not_null()).then(calls),
        _extra=pl.when(passed).then(calls),
    )
    known = ~pl.col("_failed") & recorded
    return done.with_columns(pl.when(known).then(pl.col(_MEASURES)))


def _items(traces: pl.DataFrame, group: dict[str, Any]) -> pl.DataFrame:
    """Add the traces of a group up to items, as `reduce_items` does."""
    done = ~pl.col("_failed")
    scored = pl.col("_passed").is_not_null()
    counts = {"n_failed": ~done, "n_unscored": done & ~scored, "n": done, "n_scored": done & scored}
    items = (
        traces.with_columns(**counts)
        .group_by("_item")
        .agg(
            pl.col("_code").first(),
            pl.len().alias("n_traces"),
            pl.col(*counts).sum(),
            pl.col(_MEASURES).sum().name.suffix("_sum"),
            pl.col(_MEASURES).count().name.suffix("_known"),
            fewest=pl.col("_extra").min(),
        )
        .sort("_item")
    )
    # Numbers as texts, in the same order.
    item, code = (pl.col(c).cast(pl.String).str.zfill(9) for c in ("_item", "_code"))
    named = {"item_id": item} | {c: pl.lit(v) for c, v in group.items()}
    return items.with_columns(
        n_missing=pl.lit(0),
        outcome=pl.col("_right_sum"),
        _extra_sum=pl.col("_extra_sum") - pl.col("_extra_known") * pl.col("fewest").fill_null(0.0),
        _cluster=pl.when(pl.col("_code") > 0)
        .then(pl.lit("cluster ") + code)
        .otherwise(pl.lit("item ") + item),
        **named,
    ).drop("_item", "_code", "fewest")


def _rows(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in _MEASURES}
    n = np.nan_to_num(panel.matrix("n"))
    for name in ("_wait", "_read"):
        # The traces without tools, which waited for none, are no sample of all.
        unknown = (np.nan_to_num(panel.matrix(f"{name}_known")) < n).any(axis=0)
        values[name] = np.where(unknown, np.nan, values[name])
    bootstrap = sample.draw(panel, values, rng, options)

    def per_call(top: str, calls: str = "_calls") -> sample.Statistic:
        return lambda m: divide(m[top], m[calls])

    def plain(name: str) -> sample.Statistic:
        def chosen(means: Means) -> Floats:
            return means[name]

        return chosen

    statistics = {
        "calls_per_trace": plain("_calls"),
        "used_rate": plain("_used"),
        "tool_error_rate": per_call("_errors"),
        "repeat_rate": per_call("_repeats"),
        "correct_per_call": per_call("_right", "_right_of"),
        "extra_calls": plain("_extra"),
        "wait_s": plain("_wait"),
        "read_tokens": plain("_read"),
    }
    series = sample.counts(panel)
    for name, statistic in statistics.items():
        series += bootstrap.series(name, statistic)
    return series


def _by_tool(rows: pl.DataFrame, group: dict[str, Any], level: float) -> list[dict[str, Any]]:
    """Sum up a group's calls of each tool, those of failed traces left out."""
    trace_columns = ("_wrong", "_code", "_e2e_s", "_result_tokens", "_result_bytes", "_cost_usd")
    called = rows.select(
        "_tool", "_failed", *trace_columns
    )  # few columns, which are taken apart by tool
    calls = called.filter(~pl.col("_failed") & pl.col("_tool").is_not_null())
    tool_rows_ = []
    for (tool,), part in per_trace.parts(calls, ("_tool",)):
        wrong = part["_wrong"].cast(pl.Float64).to_numpy()
        rate = ratios.ratio(wrong, np.ones(len(wrong)), part["_code"].to_numpy(), level, (0.0, 1.0))
        row = {"tool": tool} | group | {"n_calls": part.height, "n_errors": int(wrong.sum())}
        row |= ratios.figures("error_rate", rate)
        for name, c in (
            ("mean_s", "e2e_s"),
            ("tokens_per_call", "result_tokens"),
            ("bytes_per_call", "result_bytes"),
        ):
            row[name] = part[f"_{c}"].mean()
        cost = part["_cost_usd"].drop_nulls()
        tool_rows_.append(row | {"tool_cost_usd": cost.sum() if len(cost) else None})
    return tool_rows_


def _tabulated(
    records: list[dict[str, Any]], by: Sequence[str], rows: pl.DataFrame
) -> pl.DataFrame:
    """Make the table of tools, each group's most called first."""
    names = tuple(c.name for c in _BY_TOOL)
    if not records:
        return empty(by, _BY_TOOL)
    schema = {c: rows.schema[c] for c in by} | {
        c.name: DTYPES[c.type] for c in _BY_TOOL if c.name not in by
    }
    table = pl.DataFrame([dict.fromkeys(schema) | row for row in records], schema=schema)
    share = pl.col("n_calls") / pl.col("n_calls").sum().over(by)
    order = [*by, "n_calls", "tool"] if "tool" not in by else [*by, "n_calls"]
    down = [name == "n_calls" for name in order]
    return (
        table.with_columns(share_of_calls=share)
        .sort(order, descending=down, nulls_last=True)
        .select(*dict.fromkeys((*by, *names)))
    )
