"""Latency to the first token, the answer and the end, and the share within limits."""

import datetime as dt
import functools
import operator
from collections.abc import Collection, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.calls import is_alone
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import intervals, quantiles
from workbench.schema import KEY_NULL, Column

_UNBOUNDED = "fewer than two items, or too few traces to bound it"
_PERCENTILES = (50, 90, 99)
_TPOT = "tpot_s"
TRACE_MEASURES = ("ttft_s", "answer_start_s", _TPOT, "e2e_s")
CALL_MEASURES = (
    "queue_s",
    "ttft_s",
    "answer_start_s",
    _TPOT,
    "gap_p50_s",
    "gap_p99_s",
    "gap_max_s",
    "e2e_s",
)
_OBJECTIVES = {
    "max_ttft_s": "ttft_s",
    "max_answer_s": "answer_start_s",
    "max_tpot_s": _TPOT,
    "max_e2e_s": "e2e_s",
}
_ROWS = (
    Column(
        "measure",
        "text",
        doc="What was timed: a column of traces or calls, or tpot_s.",
        null=KEY_NULL,
    ),
    Column("n_items", "int", "count", "Items with a known time.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces (or calls) with a known time.", KEY_NULL, "timed"),
    Column(
        "n_unknown",
        "int",
        "count",
        "Traces (or calls) whose time is unknown.",
        KEY_NULL,
        "not timed",
    ),
    Column("mean_s", "float", "s", "Mean time.", KEY_NULL, "mean"),
    *ends(Column("p50_s", "float", "s", "Median time.", KEY_NULL, "median"), _UNBOUNDED),
    *ends(Column("p90_s", "float", "s", "90th percentile.", KEY_NULL, "p90"), _UNBOUNDED),
    *ends(Column("p99_s", "float", "s", "99th percentile.", KEY_NULL, "p99"), _UNBOUNDED),
    Column("max_s", "float", "s", "Longest time.", KEY_NULL, "longest"),
    Column(
        "spread",
        "float",
        doc="90th percentile over the median.",
        null="the median is 0",
        title="p90 / median",
    ),
)
_GOODPUT = (
    Column(
        "n_judged",
        "int",
        "count",
        "Traces (or calls) that were held to the objectives.",
        KEY_NULL,
        "judged",
    ),
    Column("n_met", "int", "count", "Those that met every objective.", KEY_NULL, "met"),
    *ends(
        Column(
            "goodput",
            "float",
            "0..1",
            "Share that met every objective given.",
            "none has all the times asked for",
        ),
        "fewer than two items",
    ),
    Column(
        "goodput_per_second",
        "float",
        "1/s",
        "Those that met them over the time from the first start to the last end.",
        "starts or ends are unknown",
        "goodput per second",
    ),
)


def _objective(name: str, measure: str) -> Option:
    return Option(name, "float", None, f"objective: {measure} of at most so many seconds", low=0)


@analysis(
    name="latency",
    title="Latency",
    question="How long does one wait for the first token, the answer and the end?",
    source="Woodruff 1952 (quantiles); Zhong et al. 2024, arXiv 2401.09670 (TPOT, goodput)",
    needs=("item_id", "e2e_s"),
    measures=("e2e_s",),
    scored=False,
    options=(*(_objective(n, m) for n, m in _OBJECTIVES.items()), ERRORS, LEVEL),
    columns=(*_ROWS, *_GOODPUT),
    example={"where": "strategy:direct"},
    also_rows=("call_facts",),
    chart=ChartSpec("latency", x="p50_s", y="group"),
)
def latency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute percentiles of every known time, and the share within the objectives.

    Grain: one row per group and measure; `more["goodput"]`, where an objective is given: one row
    per group. Given traces the measures are time to the first token, time to the answer (the first
    visible token), time per output token and end to end. Given calls (rows of `call_facts`) there
    are also the wait for a slot and the gaps between chunks, which only calls have: gap_p50_s is
    the call's own median gap, and a percentile of it is over calls.

    TPOT = (end to end − time to first token) / (output tokens − 1). Of a trace it is only known
    where the trace is one call; otherwise tools and later prompts would count as decoding.

    All traces have equal weights: a percentile is what a user meets. Linear between order
    statistics; intervals after Woodruff, clustered by item; an end beyond the observations is null.
    Goodput: the share of those with every time asked for known that met all objectives (Wilson's
    interval with the effective number of observations). Failed ones are left out, or miss with
    `errors_as_wrong`.
    """
    calls = "call_id" in frame.collect_schema().names()
    wanted = {m: options[o] for o, m in _OBJECTIVES.items() if options[o] is not None}
    measures = CALL_MEASURES if calls else TRACE_MEASURES
    rows = _fetched(frame if calls else _with_tpot(frame), by, measures, wanted)
    more = {}
    if wanted:
        judged = rows if options["errors_as_wrong"] else rows.filter(~pl.col("_failed"))
        more["goodput"] = _goodput(judged, by, wanted, options["level"])
    what = f"failed {'calls' if calls else 'traces'}"
    if wanted and options["errors_as_wrong"]:
        what += ", left out of the percentiles"
    counted, dropped = per_trace.keep_passing(rows, {what: ~pl.col("_failed")})
    table = _table(counted, by, measures, options["level"])
    lost = counted.select(by).n_unique() - table.select(by).n_unique() if counted.height else 0
    dropped |= {"groups without a known time": lost}
    return Answer(table, more=more, dropped=dropped, notes=_notes(table, measures, calls=calls))


def _fetched(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], measures: Sequence[str], wanted: Collection[str]
) -> pl.DataFrame:
    """Fetch the times that are recorded or requested, one row per trace (or call)."""
    present = set(frame.collect_schema().names())
    numbers = [m for m in measures if m in present or m in wanted]
    return per_trace.fetch(frame, by, numbers, times=("started_at",) if wanted else ())


def _with_tpot(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Add the time per output token of traces that are one call."""
    if not {"n_calls", "output_tokens", "ttft_s"} <= set(frame.collect_schema().names()):
        return frame
    whole, first, output = (
        nw.col(c).cast(nw.Float64) for c in ("e2e_s", "ttft_s", "output_tokens")
    )
    alone = (nw.col("n_calls") == 1) & is_alone(frame) & (output > 1)
    return frame.with_columns(tpot_s=nw.when(alone).then((whole - first) / (output - 1)))


def _table(
    rows: pl.DataFrame, by: Sequence[str], measures: Sequence[str], level: float
) -> pl.DataFrame:
    records = []
    known = [m for m in measures if f"_{m}" in rows.columns]
    for key, part in per_trace.parts(rows, by):
        for measure in known:
            row = _row(part, f"_{measure}", level)
            if row is not None:
                records.append(dict(zip(by, key, strict=True)) | {"measure": measure} | row)
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    return pl.DataFrame(records, schema=schema)


def _row(part: pl.DataFrame, column: str, level: float) -> dict[str, Any] | None:
    """Sum up one time of one group; None where it is not known at all."""
    timed = part.filter(pl.col(column).is_not_null())
    if timed.is_empty():
        return None
    values = timed[column].to_numpy()
    quantile_rows = quantiles.quantiles(
        values, timed["_code"].to_numpy(), [p / 100 for p in _PERCENTILES], level
    )
    row: dict[str, Any] = {
        "n_items": timed["_item"].n_unique(),
        "n": timed.height,
        "n_unknown": part.height - timed.height,
        "mean_s": float(values.mean()),
        "max_s": float(values.max()),
    }
    for p, figures in zip(_PERCENTILES, quantile_rows, strict=True):
        for end, figure in zip(("", "_low", "_high"), figures, strict=True):
            row[f"p{p}_s{end}"] = None if np.isnan(figure) else float(figure)
    row["spread"] = row["p90_s"] / row["p50_s"] if row["p50_s"] > 0 else None
    return row


def _goodput(
    rows: pl.DataFrame, by: Sequence[str], wanted: dict[str, float], level: float
) -> pl.DataFrame:
    """Count the traces (or calls) that meet the objectives; the best group first."""
    known = functools.reduce(operator.and_, [pl.col(f"_{m}").is_not_null() for m in wanted])
    fast = functools.reduce(operator.and_, [pl.col(f"_{m}") <= v for m, v in wanted.items()])
    judged = rows.filter(known | pl.col("_failed")).with_columns(_met=fast & ~pl.col("_failed"))
    judged = judged.with_columns(pl.col("_met").fill_null(value=False).cast(pl.Float64))
    records = []
    for key, part in per_trace.parts(judged, by):
        records.append(dict(zip(by, key, strict=True)) | _met(part, level))
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _GOODPUT}
    table = pl.DataFrame(records, schema=schema)
    return table.sort("goodput", descending=True, nulls_last=True, maintain_order=True)


def _met(part: pl.DataFrame, level: float) -> dict[str, Any]:
    met = part["_met"].to_numpy()
    share = float(met.mean())
    sums = (
        part.with_columns(_left=pl.col("_met") - share).group_by("_code").agg(pl.col("_left").sum())
    )
    se = intervals.clustered_se(sums["_left"].to_numpy()[:, None], [len(met)], [sums.height])
    low, high = intervals.clustered_share([share], se, [sums.height], level)
    row: dict[str, Any] = {
        "n_judged": len(met),
        "n_met": int(met.sum()),
        "goodput": share,
        "goodput_low": float(low[0]) if sums.height > 1 else None,
        "goodput_high": float(high[0]) if sums.height > 1 else None,
        "goodput_per_second": None,
    }
    timed = part.filter(pl.col("_started_at").is_not_null() & pl.col("_e2e_s").is_not_null())
    if timed.height == part.height:
        end = (timed["_started_at"] + (timed["_e2e_s"] * 1e6).round().cast(pl.Duration("us"))).max()
        start = timed["_started_at"].min()
        if isinstance(start, dt.datetime) and isinstance(end, dt.datetime) and end > start:
            row["goodput_per_second"] = float(met.sum()) / (end - start).total_seconds()
    return row


def _notes(table: pl.DataFrame, measures: Sequence[str], *, calls: bool) -> tuple[str, ...]:
    known_measures = set(table["measure"].unique())
    notes = []
    missing = [m for m in measures if m not in known_measures]
    if table.height and missing:
        notes.append(f"known of none: {', '.join(missing)}; only streamed calls have most of them")
    if table.height and not calls:
        notes.append("waits for a slot and gaps between chunks are times of calls: give call_facts")
    return tuple(notes)
