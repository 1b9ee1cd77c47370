"""Tools in use without use: four patterns, with the traces that show them."""

import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis import fetched, ratios
from workbench.analysis.agents.tools import NO_TOOLS
from workbench.analysis.options import LEVEL
from workbench.analysis.registry import ChartSpec, Option, analysis
from workbench.analysis.result import DTYPES, Answer
from workbench.analysis.sample import ends
from workbench.schema import KEY_NULL, Column

C = Column
_FEW = "fewer than two items"
_NO_SPREAD = "fewer than two items, or no spread"
_NO_TOOL = "no trace called a tool"
PATTERNS = {
    "confirmatory": "its final answer stood in what the model wrote before the first tool answered",
    "mixing": "it went from one tool to another at least `switches` times",
    "no_priors": "at least `wasted` of its calls failed, came back empty or repeated an earlier one",
    "collapse": "at least `wasted` of its calls could not be read or named no tool, or tool syntax stands in its text and no tool ever ran",
}  # fmt: skip
_MALFORMED = ("unknown_tool", "bad_arguments", "parsing")  # the last is Inspect's word
_SYNTAX = r"(?im)^\s*Action( Input)?\s*:|<tool_call>|<function[=_ ]|\[TOOL_CALLS\]|<\|python_tag\|>|\"(tool|function)(_call|_name)?\"\s*:\s*[\"{]"  # fmt: skip
_ROWS = (
    C("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    C("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    C("n_with_tools", "int", "count", "Those of them that called a tool.", KEY_NULL, "traces with tools"),
    *ends(C("confirmatory_rate", "float", "0..1", "Share of traces with tools that knew the answer before.", _NO_TOOL, "confirmatory use"), _FEW),
    *ends(C("mixing_rate", "float", "0..1", "Share of traces with tools that went to and fro between them.", _NO_TOOL, "tool mixing"), _FEW),
    *ends(C("no_priors_rate", "float", "0..1", "Share of traces with tools most of whose calls came to nothing.", _NO_TOOL, "lack of tool priors"), _FEW),
    *ends(C("collapse_rate", "float", "0..1", "Share of all traces whose calls could not be read.", KEY_NULL, "format collapse"), _FEW),
    *ends(C("wasted_calls", "float", "0..1", "Share of the tool calls that failed, came back empty or repeated an earlier one.", _NO_TOOL, "wasted calls"), _NO_SPREAD),
    *ends(C("opening_share", "float", "0..1", "Share of the output tokens written up to the first call of a tool, traces with tools.", "tokens or calls not known", "written before the first call"), _NO_SPREAD),
)  # fmt: skip
_COMPARED = (
    C("pattern", "text", doc="The pattern.", null=KEY_NULL),
    C("n_showing", "int", "count", "Traces that show it.", KEY_NULL, "traces with it"),
    C("pass_rate_with", "float", "0..1", "Share of them that passed.", "none scored", "pass rate with it"),
    C("pass_rate_without", "float", "0..1", "Share of the others that passed.", "none scored", "pass rate without"),
    *ends(C("pass_rate_change", "float", "0..1", "Pass rate with it minus without, within items that have both.", "no item has both", "change of the pass rate, same item"), _NO_SPREAD),
    *ends(C("tokens_factor", "float", doc="Output tokens with it over without, within items that have both.", null="no item has both, or tokens unknown", title="times the tokens, same item"), _NO_SPREAD),
)  # fmt: skip
_TRACES = (
    C("trace_id", "text", doc="The trace.", null=KEY_NULL),
    C("pattern", "text", doc="The pattern that it shows.", null=KEY_NULL),
)


@analysis(
    name="inefficiency",
    title="Tool inefficiency",
    question="Which traces ask tools for what they know, switch to and fro, waste calls, or fail to write them?",
    source="names of the four patterns: arXiv 2604.05404 (tool-integrated reasoning); the detectors are ours",
    needs=("item_id",),
    scored=False,
    options=(
        Option("switches", "int", 2, "changes of tool from which a trace counts as mixing", low=1),
        Option("wasted", "float", 0.5, "share of a trace's calls from which waste, or unreadable calls, count", low=0.01, high=1.0),
        LEVEL,
    ),
    columns=(*_ROWS, *_COMPARED, *_TRACES),
    rows="tool_uses",
    chart=ChartSpec("figures", x="confirmatory_rate", y="group", also=("mixing_rate", "no_priors_rate", "collapse_rate")),
    example={"by": ("model", "task"), "where": "strategy:react"},
)  # fmt: skip
def inefficiency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Look for four patterns of tools in vain, trace by trace.

    Grain: one row per group; `more["patterns"]`: one row per group and pattern; `more["traces"]`: one
    row per trace and pattern that it shows, so that they can be opened. Failed traces are left out;
    all others weigh alike.

    Confirmatory: the final answer, letter case aside and as whole words, stood in what the model wrote
    up to its first call, and not in the question. A short answer may stand there by chance. Mixing:
    the tool differs from that of the call before at least `switches` times. Lack of tool priors: at
    least the share `wasted` of the calls failed, came back with no bytes, or repeated tool and
    arguments of an earlier one. Format collapse: at least the share `wasted` of the calls was
    unreadable or named a tool that is not there (error types unknown_tool, bad_arguments, parsing), or
    no call ran and tool syntax stands in the text. That call rates drop when tools are renamed, also
    a sign of collapse, is for an experiment, not for a detector.

    A pattern is no harm in itself: `patterns` compares traces with and without it on the same items.
    Intervals, clustered by item: rates Wilson's with the effective number of items, else t · SE.
    """
    rows = _fetch(frame, by)
    traces = _patterns(rows, by, options)
    done = traces.filter(~pl.col("_failed"))
    found = [
        dict(zip(by, key, strict=True)) | _row(part, options["level"])
        for key, part in done.group_by(by, maintain_order=True)
    ]
    names = {c: rows.schema[c] for c in by}
    table = pl.DataFrame(found, schema=names | {c.name: DTYPES[c.type] for c in _ROWS})
    compared = [
        dict(zip(by, key, strict=True)) | _compare(part, pattern, options["level"])
        for key, part in done.group_by(by, maintain_order=True)
        for pattern in PATTERNS
    ]
    shown = done.unpivot(list(PATTERNS), index=["_trace_id", *by], variable_name="pattern")
    shown = shown.filter(pl.col("value").fill_null(value=False)).rename({"_trace_id": "trace_id"})
    more = {
        "patterns": pl.DataFrame(compared, schema=names | {c.name: DTYPES[c.type] for c in _COMPARED}),
        "traces": shown.select(*by, "pattern", "trace_id").sort(*by, "pattern", "trace_id", nulls_last=True),
    }  # fmt: skip
    silent = int(done.filter((pl.col("calls") > 0) & pl.col("confirmatory").is_null()).height)
    notes: tuple[str, ...] = (f"{silent} traces with tools have no answer or no recorded text: they count as not confirmatory",) if silent else ()  # fmt: skip
    if "tool" not in frame.collect_schema().names():
        notes += (NO_TOOLS,)
    return Answer(table, more=more, dropped={"failed traces": traces.height - done.height}, notes=notes)  # fmt: skip


def _fetch(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> pl.DataFrame:
    texts = ("trace_id", "tool", "arguments", "error_type", "trace_error_type", "answer", "input", "opening_text")  # fmt: skip
    numbers = ("ordinal", "result_bytes", "output_tokens", "opening_tokens")
    rows = fetched.fetch(frame, by, numbers, texts=texts, flags=("passed",))
    return rows.with_columns(_failed=pl.col("_trace_error_type").is_not_null()).sort(
        *by, "_trace_id", "_ordinal", nulls_last=True
    )


def _patterns(rows: pl.DataFrame, by: Sequence[str], options: dict[str, Any]) -> pl.DataFrame:
    """Make one row per trace: what its calls came to, and which patterns it shows."""
    called = pl.col("_tool").is_not_null()
    words = pl.concat_str("_tool", pl.lit("\n"), "_arguments")
    failed = pl.col("_error_type").is_not_null()
    repeats = words.is_not_null() & ~pl.struct(words, "_trace_id").is_first_distinct()
    wasted = called & (failed | (pl.col("_result_bytes") == 0).fill_null(value=False) | repeats)
    malformed = failed & pl.col("_error_type").is_in(_MALFORMED)
    first = ("_item", "_code", "_failed", "_passed", "_answer", "_input", "_opening_text", "_output_tokens", "_opening_tokens")  # fmt: skip
    traces = rows.with_columns(wasted=wasted, malformed=malformed, ran=called & ~malformed).group_by(
        *by, "_trace_id", maintain_order=True
    ).agg(
        *[pl.col(c).first() for c in first],
        pl.col("_tool").count().alias("calls"),
        *[pl.col(c).cast(pl.Int64).sum() for c in ("wasted", "malformed", "ran")],
        (pl.col("_tool") != pl.col("_tool").shift()).sum().alias("switches"),
    )  # fmt: skip
    known = [
        _knew(*texts)
        for texts in traces.select("_answer", "_opening_text", "_input", "calls").iter_rows()
    ]
    syntax = pl.col("_opening_text").str.contains(_SYNTAX).fill_null(value=False)
    uses = pl.col("calls") > 0
    share = options["wasted"] * pl.col("calls")
    return traces.with_columns(
        confirmatory=pl.Series(known, dtype=pl.Boolean),
        mixing=uses & (pl.col("switches") >= options["switches"]),
        no_priors=uses & (pl.col("wasted") >= share),
        collapse=(uses & (pl.col("malformed") >= share)) | ((pl.col("ran") == 0) & syntax),
    )


def _knew(answer: str | None, opening: str | None, question: str | None, calls: int) -> bool | None:
    """Whether the answer stood in the text before the first call; None where that cannot be told."""
    if not calls:
        return None
    wanted = " ".join((answer or "").split()).casefold().strip(" .")
    if not wanted or opening is None:
        return None
    written, asked = (" ".join((t or "").split()).casefold() for t in (opening, question))
    if wanted not in written:
        return False
    whole = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    return bool(whole.search(written)) and not whole.search(asked)


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    uses = part.filter(pl.col("calls") > 0)
    row: dict[str, Any] = {
        "n_items": part["_item"].n_unique(), "n": part.height, "n_with_tools": uses.height,
    }  # fmt: skip
    for pattern in PATTERNS:
        own = part if pattern == "collapse" else uses
        values = own[pattern].fill_null(value=False).cast(pl.Float64).to_numpy()
        rate = ratios.share(values, own["_code"].to_numpy(), level)
        row |= ratios.figures(f"{pattern}_rate", rate)
    counted = uses.filter(pl.col("_opening_tokens").is_not_null(), pl.col("_output_tokens") > 0)
    for name, rows, top, bottom in (
        ("wasted_calls", uses, "wasted", "calls"),
        ("opening_share", counted, "_opening_tokens", "_output_tokens"),
    ):
        x, y = (rows[c].cast(pl.Float64).to_numpy() for c in (top, bottom))
        share = ratios.ratio(x, y, rows["_code"].to_numpy(), level, (0.0, 1.0))
        row |= ratios.figures(name, share)
    return row


def _compare(part: pl.DataFrame, pattern: str, level: float) -> dict[str, Any]:
    """Set traces with a pattern against those without, each item against itself."""
    part = part.with_columns(_shows=pl.col(pattern).fill_null(value=False))
    sides = {
        shows: part.filter(pl.col("_shows") == shows)["_passed"].cast(pl.Float64).mean()
        for shows in (True, False)
    }
    row: dict[str, Any] = {
        "pattern": pattern, "n_showing": int(part["_shows"].sum()),
        "pass_rate_with": sides[True], "pass_rate_without": sides[False],
    }  # fmt: skip
    side = pl.col("_shows")
    both = part.group_by("_item", maintain_order=True).agg(
        pl.col("_code").first(),
        *[
            pl.col(c).cast(pl.Float64).filter(side if name == "with" else ~side).mean().alias(f"{c}_{name}")
            for c in ("_passed", "_output_tokens") for name in ("with", "without")
        ],
    )  # fmt: skip
    passed = both.drop_nulls(["_passed_with", "_passed_without"])
    change = (passed["_passed_with"] - passed["_passed_without"]).to_numpy()
    row |= ratios.figures("pass_rate_change", ratios.mean(change, passed["_code"].to_numpy(), level, (-1.0, 1.0)))  # fmt: skip
    spent = both.drop_nulls(["_output_tokens_with", "_output_tokens_without"])
    x, y = (spent[f"_output_tokens_{name}"].to_numpy() for name in ("with", "without"))
    row |= ratios.figures("tokens_factor", ratios.ratio(x, y, spent["_code"].to_numpy(), level, (0.0, np.inf)))  # fmt: skip
    return row
