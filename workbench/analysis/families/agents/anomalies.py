"""Anomalies: traces far above others of their group, and agents that go round in circles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.families.agents.tools import NO_TOOLS
from workbench.analysis.inputs import per_trace, tool_rows
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

# kind → (column of the trace, what is counted)
_MEASURES = {
    "cost": ("_trace_cost_usd", "USD"),
    "duration": ("_trace_e2e_s", "s"),
    "input": ("_input_tokens", "tokens"),
    "output": ("_output_tokens", "tokens"),
    "calls": ("_n_calls", "calls"),
    "tool calls": ("_calls", "tool calls"),
}
PATTERNS = {
    "loop": "one tool was asked the same thing at least `repeats` times",
    "repeated error": "a tool failed at least `errors` times in a row",
    "read again": "one file was read at least `repeats` times and not written in between",
    "no answer": "it thought and gave no answer, and did not fail",
}
_UNITS = {
    "loop": "tool calls",
    "repeated error": "tool calls",
    "read again": "tool calls",
    "no answer": "thinking tokens",
}
KINDS = (*_MEASURES, *PATTERNS)
# Iglewicz & Hoaglin 1993: of normal values 1.4826 × the median absolute deviation, or 1.2533 × the
# mean absolute deviation, is the standard deviation
_MEDIAN_SCALE = 1.482602
_MEAN_SCALE = 1.253314
_READS = r"(?i)\b(read|open|view|cat|get)|read_?file"
_WRITES = r"(?i)write|edit|patch|replace|create|insert|apply"
_PATH = r'"(?:file_path|filepath|path|filename|file|notebook_path)"\s*:\s*"((?:[^"\\]|\\.)+)"'
_ROWS = (
    Column("kind", "text", doc="Measure that is far above, or pattern.", null=KEY_NULL),
    Column("n", "int", "count", "Traces of which it is known.", KEY_NULL, "traces"),
    Column("n_flagged", "int", "count", "Those that are far above, or show it.", KEY_NULL),
    Column("flagged_share", "float", "0..1", "Share of them.", "known of none", "share"),
    Column(
        "group_median",
        "float",
        doc="Median of the group, in the unit of the kind.",
        null="a pattern, or known of none",
        title="median",
    ),
    Column(
        "limit",
        "float",
        doc="Value from which a trace is far above.",
        null="a pattern, or too few traces to judge by",
    ),
    Column("unit", "text", doc="Unit of the values.", null=KEY_NULL),
)
_TRACES = (
    Column("trace_id", "text", doc="The trace.", null=KEY_NULL),
    Column("value", "float", doc="Its value, in the unit of the kind.", null=KEY_NULL),
    Column(
        "times_median",
        "float",
        doc="Its value over the median of its group.",
        null="a pattern",
        title="times the median",
    ),
    Column(
        "robust_z",
        "float",
        doc="Its logarithm above the median's, over the robust standard deviation of the group.",
        null="a pattern",
        title="robust z",
    ),
    Column("n_reference", "int", "count", "Traces that it is compared with.", "a pattern"),
    Column("what", "text", doc="The tool, or the tool and the file.", null="a measure"),
)
_NUMBERS = ("output_tokens", "input_tokens", "reasoning_tokens", "n_calls")
_OF_TRACE = ("trace_cost_usd", "trace_e2e_s")


class _Pattern(NamedTuple):
    """Traces that show a pattern: a row each, with the count and what was repeated."""

    kind: str
    rows: pl.DataFrame


@analysis(
    name="anomalies",
    title="Anomalies",
    question="Which traces are far above others of their group, and which agents went round in "
    "circles?",
    source="modified z-score: Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers; of "
    "logarithms, as costs are skewed",
    needs=("trace_id",),
    scored=False,
    options=(
        Option("z", "float", 3.5, "robust z from which a trace is far above", low=0.0),
        Option("times", "float", 2.0, "and at least so many times the median", low=1.0),
        Option("least", "int", 8, "traces that a group needs to be judged by", low=3),
        Option("repeats", "int", 3, "equal calls of a tool, or reads of a file, that count", low=2),
        Option("errors", "int", 3, "failures of a tool in a row that count", low=2),
        Option("most", "int", 50, "traces that are listed", low=0),
    ),
    columns=(*_ROWS, *_TRACES),
    rows="tool_uses",
    chart=ChartSpec("anomalies", x="times_median", y="kind"),
    settles=None,
    example={"by": ("model", "task"), "where": "strategy:react"},
)
def anomalies(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Flag traces that are far above their group, and tools called in vain, worst first.

    Grain: one row per group and kind; `more["traces"]`: one row per flagged trace and kind, with
    what it is compared with, so that each can be opened. The group is the reference: choose `by` so
    that its traces are alike, as model and task, or project and model.

    A measure (cost, duration, input, output, calls, tool calls) is far above if its robust z is at
    least `z` and it is at least `times` the median. The z is of logarithms: (ln x − median) /
    (1.4826 · MAD), or over 1.2533 times the mean absolute deviation where the MAD is 0. Values of 0
    are no part of the reference. Only high values are flagged; a group of fewer than `least` known
    values flags none.

    Patterns: a loop asks one tool the same thing, in the same words, `repeats` times or more; a
    repeated error is a tool that fails `errors` times in a row; a file is read again if a tool that
    reads (by its name) is given the same path `repeats` times, and no tool that writes is given it
    in between; no answer: thinking, no answer, no error. Failed traces count. A flag is a reason to
    look, not a fault.
    """
    del rng  # nothing is drawn
    rows = _fetched(frame, by)
    names = {c: rows.schema[c] for c in by}
    summary: list[dict[str, Any]] = []
    flagged: list[pl.DataFrame] = []
    small: set[str] = set()
    for key, part in per_trace.parts(rows, by):
        own = dict(zip(by, key, strict=True))
        keys = [pl.lit(value, names[c]).alias(c) for c, value in own.items()]
        ordered = tool_rows.ordered(part)
        traces = _traces(ordered)
        for kind in _MEASURES:
            row, found = _far_above(traces, kind, options)
            summary.append(own | row)
            flagged.append(found.select(*keys, pl.all()))
            if row["n"] and row["limit"] is None:
                small.add(str(key))
        for pattern in _patterns(ordered, traces, options):
            summary.append(own | _counted(pattern, traces.height))
            flagged.append(_shown(pattern).select(*keys, pl.all()))
    listed = pl.concat(flagged) if flagged else _frame([], names, (_ROWS[0], *_TRACES))
    place = pl.col("kind").cast(pl.Enum(KINDS))
    listed = listed.sort(
        pl.col("robust_z"),
        place,
        "value",
        "trace_id",
        descending=[True, False, True, False],
        nulls_last=True,
    )
    notes: list[str] = []
    if small:
        notes.append(
            f"{len(small)} groups have fewer than {options['least']} traces, or no spread, and"
            " flag none of some measure: choose a coarser group to compare within"
        )
    if listed.height > options["most"]:
        notes.append(f"{listed.height:,} flags, of which the first {options['most']:,} are listed")
    if "tool" not in frame.collect_schema().names():
        notes.append(NO_TOOLS)
    return Answer(
        _frame(summary, names, _ROWS),
        more={"traces": listed.head(options["most"])},
        notes=tuple(notes),
    )


def _frame(
    rows: list[dict[str, Any]], names: dict[str, pl.DataType], columns: Sequence[Column]
) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names | {c.name: DTYPES[c.type] for c in columns})


def _fetched(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> pl.DataFrame:
    """Fetch the tool calls of all traces, with hashes in place of long texts."""
    if "trace_cost_usd" not in frame.collect_schema().names() and (
        "cost_usd" in frame.collect_schema().names()
    ):
        frame = frame.with_columns(trace_cost_usd=nw.col("cost_usd"))

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        path = pl.col("_arguments").str.extract(_PATH)
        return rows.with_columns(
            _path=pl.when(pl.col("_tool").is_not_null()).then(path),
            _answered=pl.col("_answer").fill_null("").str.contains(r"\S"),
        ).drop("_answer")

    return tool_rows.fetch(frame, by, (*_NUMBERS, *_OF_TRACE), texts=("answer",), transform=read)


def _traces(rows: pl.DataFrame) -> pl.DataFrame:
    """Make a row per trace of ordered rows."""
    columns = [f"_{c}" for c in (*_NUMBERS, *_OF_TRACE)]
    return rows.group_by("_trace", maintain_order=True).agg(
        pl.col("_trace_id").first(),
        *[pl.col(c).max() for c in columns],  # they are alike on all rows of a trace
        pl.col("_answered").first(),
        pl.col("_failed").first(),
        _calls=pl.col("_tool").count().cast(pl.Float64),
    )


def _far_above(
    traces: pl.DataFrame, kind: str, options: dict[str, Any]
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Judge the traces of a group by a measure: the row of the group, and the flagged traces."""
    column, unit = _MEASURES[kind]
    known = traces.filter(pl.col(column).is_not_null(), pl.col(column).is_finite())
    positive = known.filter(pl.col(column) > 0)
    values = positive[column].to_numpy()
    row: dict[str, Any] = {"kind": kind, "n": known.height, "n_flagged": 0, "unit": unit}
    row |= {"flagged_share": None, "group_median": known[column].median(), "limit": None}
    shown = positive.select(
        pl.lit(kind).alias("kind"), trace_id="_trace_id", value=pl.col(column).cast(pl.Float64)
    )
    z, median, limit = _scores(values, options)
    is_far = np.zeros(len(values), bool) if limit is None else values >= limit
    row |= {"n_flagged": int(is_far.sum()), "limit": limit}
    row["flagged_share"] = row["n_flagged"] / known.height if known.height else None
    shown = shown.with_columns(
        times_median=pl.Series(values / median if median else values, dtype=pl.Float64),
        robust_z=pl.Series(z, dtype=pl.Float64),
        n_reference=pl.lit(len(values), pl.Int64),
        what=pl.lit(None, pl.String),
    )
    return row, shown.filter(pl.Series(is_far, dtype=pl.Boolean))


def _scores(values: Floats, options: dict[str, Any]) -> tuple[Floats, float | None, float | None]:
    """Return the robust z of values above 0, their median, and the value from which one is far.

    The limit is None where the group is too small, or all its values are alike.
    """
    if len(values) < options["least"]:
        return np.full(len(values), np.nan), None, None
    logs = np.log(values)
    median = float(np.median(logs))
    deviations = np.abs(logs - median)
    scale = _MEDIAN_SCALE * float(np.median(deviations))
    scale = scale or _MEAN_SCALE * float(deviations.mean())
    if not scale:
        return np.zeros(len(values)), float(np.exp(median)), None
    limit = float(np.exp(median + max(options["z"] * scale, np.log(options["times"]))))
    return (logs - median) / scale, float(np.exp(median)), limit


def _patterns(
    rows: pl.DataFrame, traces: pl.DataFrame, options: dict[str, Any]
) -> tuple[_Pattern, ...]:
    """Find the traces of each pattern; of a trace the worst case."""
    called = rows.filter(pl.col("_tool").is_not_null())
    loops = (
        called.filter(pl.col("_words").is_not_null())
        .group_by("_trace_id", "_words")
        .agg(pl.len().alias("value"), pl.col("_tool").first().alias("what"))
        .filter(pl.col("value") >= options["repeats"])
    )
    same = (pl.col("_trace") == pl.col("_trace").shift()) & (
        pl.col("_tool") == pl.col("_tool").shift()
    )
    begins = ~(same & pl.col("_wrong").shift()).fill_null(value=False)
    errors = (
        called.with_columns(_streak=begins.cum_sum())
        .filter(pl.col("_wrong"))
        .group_by("_trace_id", "_streak")
        .agg(pl.len().alias("value"), pl.col("_tool").first().alias("what"))
        .filter(pl.col("value") >= options["errors"])
    )
    silent = traces.filter(
        pl.col("_reasoning_tokens") > 0, ~pl.col("_answered"), ~pl.col("_failed")
    ).select("_trace_id", value="_reasoning_tokens", what=pl.lit(None, pl.String))
    return (
        _Pattern("loop", _worst(loops)),
        _Pattern("repeated error", _worst(errors)),
        _Pattern("read again", _worst(_read_again(called, options["repeats"]))),
        _Pattern("no answer", _worst(silent)),
    )


def _read_again(called: pl.DataFrame, repeats: int) -> pl.DataFrame:
    """Count the reads of a file between two writes of it."""
    writes = pl.col("_tool").str.contains(_WRITES)
    reads = pl.col("_tool").str.contains(_READS) & ~writes
    with_path = called.filter(pl.col("_path").is_not_null()).with_columns(
        _writes=writes.cast(pl.Int32).cum_sum().over("_trace", "_path"), _reads=reads
    )
    return (
        with_path.filter(pl.col("_reads"))
        .group_by("_trace_id", "_path", "_writes")
        .agg(
            pl.len().alias("value"),
            pl.format("{}: {}", pl.col("_tool").first(), pl.col("_path").first()).alias("what"),
        )
        .filter(pl.col("value") >= repeats)
    )


def _worst(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the worst case of each trace."""
    chosen = rows.select("_trace_id", pl.col("value").cast(pl.Float64), "what")
    return chosen.sort("_trace_id", "value", "what", descending=[False, True, False]).unique(
        "_trace_id", keep="first", maintain_order=True
    )


def _counted(pattern: _Pattern, n: int) -> dict[str, Any]:
    return {
        "kind": pattern.kind,
        "n": n,
        "n_flagged": pattern.rows.height,
        "flagged_share": pattern.rows.height / n if n else None,
        "group_median": None,
        "limit": None,
        "unit": _UNITS[pattern.kind],
    }


def _shown(pattern: _Pattern) -> pl.DataFrame:
    return pattern.rows.select(
        pl.lit(pattern.kind).alias("kind"),
        trace_id="_trace_id",
        value="value",
        times_median=pl.lit(None, pl.Float64),
        robust_z=pl.lit(None, pl.Float64),
        n_reference=pl.lit(None, pl.Int64),
        what="what",
    )
