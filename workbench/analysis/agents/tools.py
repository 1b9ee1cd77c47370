"""What tools are called, what they bring, and what they cost in waits and tokens."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis import ratios, sample
from workbench.analysis.options import LEVEL, RESAMPLES
from workbench.analysis.panel import Panel, build, divide
from workbench.analysis.reduce import reduce_items
from workbench.analysis.registry import ChartSpec, analysis
from workbench.analysis.result import DTYPES, Answer, empty
from workbench.analysis.sample import Means, ends
from workbench.schema import KEY_NULL, Column

C = Column
_FEW = "fewer than two items"
_NO_CALL = "no tool was called"
_ROWS = (
    C("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    C("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    *ends(C("calls_per_trace", "float", "count", "Mean tool calls of a trace, those without any included.", KEY_NULL, "tool calls per trace"), _FEW),
    *ends(C("used_rate", "float", "0..1", "Share of traces that called a tool.", KEY_NULL, "traces with tools"), _FEW),
    *ends(C("tool_error_rate", "float", "0..1", "Share of the tool calls that failed.", _NO_CALL, "failed calls"), _FEW),
    *ends(C("repeat_rate", "float", "0..1", "Share of the tool calls that an earlier one of the same trace had asked with the same words.", _NO_CALL, "repeated calls"), _FEW),
    *ends(C("correct_per_call", "float", "", "Right answers over tool calls (tool productivity).", "no scored trace, or no tool was called", "right answers per tool call"), _FEW),
    *ends(C("extra_calls", "float", "count", "Calls of a right trace beyond the fewest with which a trace of its group was right on the item (redundancy).", "no item was ever right", "calls beyond the fewest"), _FEW),
    *ends(C("wait_s", "float", "s", "Mean time of a trace that its tools took, calls side by side added up.", "a tool's time is unknown", "wait for tools"), _FEW),
    *ends(C("read_tokens", "float", "tokens", "Mean tokens of the tools' results of a trace.", "results were not counted", "tokens of results"), _FEW),
)  # fmt: skip
_BY_TOOL = (
    C("tool", "text", doc="Name of the tool.", null=KEY_NULL),
    C("n_calls", "int", "count", "Calls.", KEY_NULL, "calls"),
    C("share_of_calls", "float", "0..1", "Share of the group's tool calls.", KEY_NULL, "share of calls"),
    C("n_errors", "int", "count", "Calls that failed.", KEY_NULL, "failed"),
    *ends(C("error_rate", "float", "0..1", "Share of its calls that failed.", KEY_NULL, "failed calls"), "fewer than two items, or no spread"),
    C("mean_s", "float", "s", "Mean time of a call.", "not measured", "time per call"),
    C("tokens_per_call", "float", "tokens", "Mean tokens of a result.", "not counted", "tokens per result"),
    C("bytes_per_call", "float", "bytes", "Mean bytes of a result.", "not recorded", "bytes per result"),
    C("tool_cost_usd", "float", "USD", "What the tool charged for all calls whose charge is known.", "never priced", "tool cost"),
)  # fmt: skip
NO_TOOLS = "the rows have no column tool: give it rows of tool_uses"
_MEASURES = ("_calls", "_used", "_errors", "_repeats", "_right", "_right_of", "_extra", "_wait", "_read")  # fmt: skip


@analysis(
    name="tools",
    title="Tools",
    question="Which tools are called, how often do they fail, wait or repeat, and how many right answers does a call bring?",
    source="tool productivity: OTC-PO (unverified); redundancy and fewer calls for right answers after LightSearcher (abstract only): the exact forms are ours",
    needs=("item_id",),
    scored=False,
    options=(LEVEL, RESAMPLES),
    columns=(*_ROWS, *_BY_TOOL),
    rows="tool_uses",
    chart=ChartSpec("figures", x="calls_per_trace", y="group", also=("correct_per_call", "tool_error_rate", "repeat_rate")),
    example={"by": ("model", "task"), "where": "strategy:react"},
)  # fmt: skip
def tools(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count what tools were asked for and what came of it.

    Grain: one row per group, per task if `by` names it; `more["by_tool"]`: one row per group and tool,
    the most called first. Failed traces are left out of the groups' rows, their calls are not of
    `by_tool`. Traces that called nothing count in all means; trials are averaged within their item.

    Right answers per tool call: mean of right or wrong over mean calls, of scored traces. Failed and
    repeated calls: over all calls. A call repeats if the same trace had called the same tool with the
    same arguments, letter by letter; calls whose arguments were not recorded never do. Calls beyond the
    fewest: those of a right trace minus the fewest with which a trace of its group got the item right;
    0 where an item has one right trace. Waits and tokens are unknown for a group in which a call's
    are; a failed call without a time took none.

    Intervals: percentile bootstrap of item clusters; of `by_tool` t · SE of the ratio, clustered.
    """
    whole = _whole(frame)
    built = build(reduce_items(_traces(whole, by), by, _MEASURES, scored=False))
    table = sample.tabulate(built, by, _ROWS, lambda panel: _rows(panel, rng, options))
    done = whole.filter(nw.col("trace_error_type").is_null())
    more = {"by_tool": _by_tool(done, by, options["level"])}
    notes = built.notes
    if "tool" not in frame.collect_schema().names():
        notes += (NO_TOOLS,)
    return Answer(table, more=more, dropped=built.dropped, notes=notes)


def _whole(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Add the columns that are absent, as unknown throughout."""
    present = frame.collect_schema().names()
    texts = dict.fromkeys(("tool", "arguments", "error_type", "trace_error_type", "task_id", "task", "item", "cluster", "tool_call_id", "trace_id"), nw.String)  # fmt: skip
    numbers = dict.fromkeys(("e2e_s", "result_tokens", "result_bytes", "cost_usd"), nw.Float64)
    absent = {c: t for c, t in (texts | numbers | {"passed": nw.Boolean}).items() if c not in present}  # fmt: skip
    return frame.with_columns(nw.lit(None).cast(t).alias(c) for c, t in absent.items())


def _traces(whole: "nw.LazyFrame[Any]", by: Sequence[str]) -> "nw.LazyFrame[Any]":
    """Add calls up to traces, in the engine."""
    called = ~nw.col("tool").is_null()
    words = nw.concat_str(nw.col("tool"), nw.lit("\n"), nw.col("arguments"))
    # What was not recorded cannot be seen to repeat.
    alone = nw.col("arguments").is_null()
    marked = whole.with_columns(
        _called=nw.when(called).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
        _failed=nw.when(called & ~nw.col("error_type").is_null()).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
        _words=nw.when(alone).then(nw.lit(None).cast(nw.String)).otherwise(words),
        _worded=nw.when(called & ~alone).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
        _no_wait=nw.when(called & nw.col("e2e_s").is_null() & nw.col("error_type").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)),
        _no_size=nw.when(called & nw.col("result_tokens").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)),
        _passed=nw.when(nw.col("passed")).then(nw.lit(1.0)).when(~nw.col("passed")).then(nw.lit(0.0)).otherwise(nw.lit(None).cast(nw.Float64)),
    )  # fmt: skip
    facts = ("task_id", "task", "item", "cluster", "trace_error_type")
    # Every word once: the group-by of (trace, words) is what makes repeats countable in any engine.
    worded = marked.group_by(*by, "item_id", "trace_id", "_words").agg(
        *[nw.col(c).max().alias(c) for c in facts if c not in by],
        *[nw.col(c).sum().alias(c) for c in ("_called", "_failed", "_worded", "_no_wait", "_no_size")],
        nw.col("e2e_s").cast(nw.Float64).sum().alias("_wait"),
        nw.col("result_tokens").cast(nw.Float64).sum().alias("_read"),
        nw.col("_passed").max().alias("_right"),
    )  # fmt: skip
    worded = worded.with_columns(
        _repeats=nw.when(nw.col("_worded") > 1).then(nw.col("_worded") - 1).otherwise(nw.lit(0.0))
    )
    traces = worded.group_by(*by, "item_id", "trace_id").agg(
        *[nw.col(c).max().alias(c) for c in facts if c not in by],
        *[nw.col(c).sum().alias(a) for c, a in (("_called", "_calls"), ("_failed", "_errors"), ("_repeats", "_repeats"))],
        *[nw.col(c).sum().alias(c) for c in ("_no_wait", "_no_size", "_wait", "_read")],
        nw.col("_right").max().alias("_right"),
    )  # fmt: skip
    nothing = nw.lit(None).cast(nw.Float64)
    traces = traces.with_columns(
        passed=nw.col("_right"),
        error_type=nw.col("trace_error_type"),
        _used=nw.when(nw.col("_calls") > 0).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
        _right_of=nw.when(~nw.col("_right").is_null()).then(nw.col("_calls")).otherwise(nothing),
        _wait=nw.when(nw.col("_no_wait") == 0).then(nw.col("_wait")).otherwise(nothing),
        _read=nw.when(nw.col("_no_size") == 0).then(nw.col("_read")).otherwise(nothing),
        _when_right=nw.when((nw.col("_right") > 0) & nw.col("trace_error_type").is_null())
        .then(nw.col("_calls"))
        .otherwise(nothing),
    )
    fewest = nw.col("_when_right").min().over(*dict.fromkeys((*by, "item_id")))
    return traces.with_columns(_extra=nw.col("_when_right") - fewest)


def _rows(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in _MEASURES}
    n = np.nan_to_num(panel.matrix("n"))
    for name in ("_wait", "_read"):
        # The traces without tools, which waited for none, are no sample of all.
        unknown = (np.nan_to_num(panel.matrix(f"{name}_known")) < n).any(axis=0)
        values[name] = np.where(unknown, np.nan, values[name])
    drawn = sample.draw(panel, values, rng, options)

    def per_call(top: str, calls: str = "_calls") -> sample.Statistic:
        return lambda m: divide(m[top], m[calls])

    def plain(name: str) -> sample.Statistic:
        def chosen(means: Means) -> sample.Floats:
            return means[name]

        return chosen

    statistics = {
        "calls_per_trace": plain("_calls"), "used_rate": plain("_used"),
        "tool_error_rate": per_call("_errors"), "repeat_rate": per_call("_repeats"),
        "correct_per_call": per_call("_right", "_right_of"), "extra_calls": plain("_extra"),
        "wait_s": plain("_wait"), "read_tokens": plain("_read"),
    }  # fmt: skip
    series = sample.counts(panel)
    for name, statistic in statistics.items():
        series += drawn.series(name, statistic)
    return series


def _by_tool(done: "nw.LazyFrame[Any]", by: Sequence[str], level: float) -> pl.DataFrame:
    """Sum up the calls of each tool; the groups' items are what its interval resamples."""
    keys = [*by, *(["tool"] if "tool" not in by else [])]
    numbers = ("e2e_s", "result_tokens", "result_bytes", "cost_usd")
    cells = done.filter(~nw.col("tool").is_null()).group_by(*dict.fromkeys((*keys, "item_id"))).agg(
        nw.len().alias("_n"), nw.col("error_type").count().alias("_e"),
        *[nw.col(c).max().alias(f"_{c}") for c in ("task_id", "cluster")],
        *[nw.col(c).cast(nw.Float64).sum().alias(f"{c}_sum") for c in numbers],
        *[nw.col(c).count().alias(f"{c}_known") for c in numbers],
    ).collect("polars").to_native()  # fmt: skip
    code = (
        pl.when(pl.col("_cluster").is_null())
        .then(-pl.col("item_id").cast(pl.String).rank("dense").cast(pl.Int64))
        .otherwise(pl.struct("_task_id", "_cluster").rank("dense").cast(pl.Int64))
    )
    found = []
    for key, part in cells.with_columns(_code=code).sort(keys, nulls_last=True).group_by(keys, maintain_order=True):  # fmt: skip
        n, errors = (part[c].cast(pl.Float64).to_numpy() for c in ("_n", "_e"))
        rate = ratios.ratio(errors, n, part["_code"].to_numpy(), level, (0.0, 1.0))
        row = dict(zip(keys, key, strict=True)) | {"n_calls": int(n.sum()), "n_errors": int(errors.sum())}  # fmt: skip
        row |= ratios.figures("error_rate", rate)
        sums = {c: (float(part[f"{c}_sum"].sum()), int(part[f"{c}_known"].sum())) for c in numbers}
        for name, c in (("mean_s", "e2e_s"), ("tokens_per_call", "result_tokens"), ("bytes_per_call", "result_bytes")):  # fmt: skip
            row[name] = sums[c][0] / sums[c][1] if sums[c][1] else None
        row["tool_cost_usd"] = sums["cost_usd"][0] if sums["cost_usd"][1] else None
        found.append(row)
    names = tuple(c.name for c in _BY_TOOL)
    if not found:
        return empty(by, _BY_TOOL)
    schema = {c: cells.schema[c] for c in by} | {
        c.name: DTYPES[c.type] for c in _BY_TOOL if c.name not in by
    }
    table = pl.DataFrame([dict.fromkeys(schema) | row for row in found], schema=schema)
    share = pl.col("n_calls") / pl.col("n_calls").sum().over(by)
    order = [*by, "n_calls", "tool"] if "tool" not in by else [*by, "n_calls"]
    down = [name == "n_calls" for name in order]
    return (
        table.with_columns(share_of_calls=share)
        .sort(order, descending=down, nulls_last=True)
        .select(*dict.fromkeys((*by, *names)))
    )
