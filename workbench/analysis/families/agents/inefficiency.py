"""Inefficiency of tool use: four patterns, with example traces."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.families.agents.tools import NO_TOOLS
from workbench.analysis.inputs import per_trace, tool_rows
from workbench.analysis.inputs.sample import ends
from workbench.analysis.inputs.text_matching import contain_words
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.schema import KEY_NULL, Column

_NO_SPREAD = "fewer than two items, or no spread"
_NO_TOOL = "no trace called a tool"
PATTERNS = {
    "confirmatory": "its final answer stood in what the model wrote before the first tool answered",
    "mixing": "it went from one tool to another at least `switches` times",
    "no_priors": (
        "at least `wasted` of its calls failed, came back empty or repeated an earlier one"
    ),
    "collapse": (
        "at least `wasted` of its calls could not be read or "
        "named no tool, or tool syntax "
        "stands in its text and no tool ever ran"
    ),
}
_MALFORMED = ("unknown_tool", "bad_arguments", "parsing")  # the last is Inspect's word
_SYNTAX = (
    r"(?im)^\s*Action( Input)?\s*:|<tool_call>|<function[=_ "
    r"]|\[TOOL_CALLS\]|<\|python_tag\|>|\"(tool|function)(_call|_name)?\"\s*:\s*[\"{]"
)
_NUMBERS = ("result_bytes", "output_tokens", "opening_tokens")
_TEXTS = ("answer", "opening_text", "input")
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column(
        "n_with_tools",
        "int",
        "count",
        "Those of them that called a tool.",
        KEY_NULL,
        "traces with tools",
    ),
    *ends(
        Column(
            "confirmatory_rate",
            "float",
            "0..1",
            "Share of traces with tools that knew the answer before.",
            _NO_TOOL,
            "confirmatory use",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "mixing_rate",
            "float",
            "0..1",
            "Share of traces with tools that went to and fro between them.",
            _NO_TOOL,
            "tool mixing",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "no_priors_rate",
            "float",
            "0..1",
            "Share of traces with tools most of whose calls came to nothing.",
            _NO_TOOL,
            "lack of tool priors",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "collapse_rate",
            "float",
            "0..1",
            "Share of all traces whose calls could not be read.",
            KEY_NULL,
            "format collapse",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "wasted_calls",
            "float",
            "0..1",
            "Share of the tool calls that failed, came back empty or repeated an earlier one.",
            _NO_TOOL,
            "wasted calls",
        ),
        _NO_SPREAD,
    ),
    *ends(
        Column(
            "opening_share",
            "float",
            "0..1",
            "Share of the output tokens written up to the first call of a tool, traces with tools.",
            "tokens or calls not known",
            "written before the first call",
        ),
        _NO_SPREAD,
    ),
)
_COMPARED = (
    Column("pattern", "text", doc="The pattern.", null=KEY_NULL),
    Column("n_showing", "int", "count", "Traces that show it.", KEY_NULL, "traces with it"),
    Column(
        "pass_rate_with",
        "float",
        "0..1",
        "Share of them that passed.",
        "none scored",
        "pass rate with it",
    ),
    Column(
        "pass_rate_without",
        "float",
        "0..1",
        "Share of the others that passed.",
        "none scored",
        "pass rate without",
    ),
    *ends(
        Column(
            "pass_rate_change",
            "float",
            "0..1",
            "Pass rate with it minus without, within items that have both.",
            "no item has both",
            "change of the pass rate, same item",
        ),
        _NO_SPREAD,
    ),
    *ends(
        Column(
            "tokens_factor",
            "float",
            doc="Output tokens with it over without, within items that have both.",
            null="no item has both, or tokens unknown",
            title="times the tokens, same item",
        ),
        _NO_SPREAD,
    ),
)
_TRACES = (
    Column("trace_id", "text", doc="The trace.", null=KEY_NULL),
    Column("pattern", "text", doc="The pattern that it shows.", null=KEY_NULL),
)


@analysis(
    name="inefficiency",
    title="Tool inefficiency",
    question="Which traces ask tools for what they know, switch to and "
    "fro, waste calls, or fail to "
    "write them?",
    source="names of the four patterns: arXiv 2604.05404 (tool-integrated reasoning); the "
    "detectors are ours",
    needs=("item_id",),
    scored=False,
    options=(
        Option("switches", "int", 2, "changes of tool from which a trace counts as mixing", low=1),
        Option(
            "wasted",
            "float",
            0.5,
            "share of a trace's calls from which waste, or unreadable calls, count",
            low=0.01,
            high=1.0,
        ),
        LEVEL,
    ),
    columns=(*_ROWS, *_COMPARED, *_TRACES),
    rows="tool_uses",
    chart=ChartSpec(
        "figures",
        x="confirmatory_rate",
        y="group",
        also=("mixing_rate", "no_priors_rate", "collapse_rate"),
    ),
    example={"by": ("model", "task"), "where": "strategy:react"},
)
def inefficiency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Look for four patterns of tools in vain, trace by trace.

    Grain: one row per group; `more["patterns"]`: one row per group and pattern; `more["traces"]`:
        one
    row per trace and pattern that it shows, so that they can be opened. Failed traces are left out;
    all others have equal weights.

    Confirmatory: the final answer, letter case aside and as whole words, stood in what the model
    wrote up to its first call, and not in the question. A short answer may stand there by chance.
    Mixing: the tool differs from that of the call before at least `switches` times. Lack of tool
    priors: at least the share `wasted` of the calls failed, came back with no bytes, or repeated
    tool and arguments of an earlier one. Format collapse: at least the share `wasted` of the calls
    was unreadable or named a tool that is not there (error types unknown_tool, bad_arguments,
    parsing), or no call ran and tool syntax stands in the text. That call rates drop when tools are
    renamed, also a sign of collapse, is for an experiment, not for a detector.

    A pattern is no harm in itself: `patterns` compares traces with and without it on the same
    items. Intervals, clustered by item: rates Wilson's with the effective number of items, else t ·
    SE, of amounts corrected for skewness (Hall 1992).
    """
    rows = tool_rows.fetch(
        frame, by, _NUMBERS, texts=_TEXTS, transform=lambda piece: _read(piece, by)
    )
    names = {c: rows.schema[c] for c in by}
    pattern_rows = []
    compared = []
    shown = []
    failed = 0
    silent = 0
    for key, part in per_trace.parts(rows, by):
        traces = _patterns(part, options)
        done = traces.filter(~pl.col("_failed"))
        failed += traces.height - done.height
        silent += int(
            done.select(((pl.col("calls") > 0) & pl.col("confirmatory").is_null()).sum()).item()
        )
        own = dict(zip(by, key, strict=True))
        named = [pl.lit(value, names[c]).alias(c) for c, value in own.items()]
        shown += [
            done.filter(p)
            .select(*named, pl.lit(p).alias("pattern"), trace_id="_trace_id")
            .sort("trace_id")
            for p in sorted(PATTERNS)
        ]
        if done.height:
            pattern_rows.append(own | _row(done, options["level"]))
            place = ratios.numbered(done["_item"].to_numpy())
            compared += [own | _compare(done, p, options["level"], place) for p in PATTERNS]
    shape = names | dict.fromkeys(("pattern", "trace_id"), pl.String)
    more = {
        "patterns": pl.DataFrame(
            compared, schema=names | {c.name: DTYPES[c.type] for c in _COMPARED}
        ),
        "traces": pl.concat(shown) if shown else pl.DataFrame(schema=shape),
    }
    notes: tuple[str, ...] = (
        (
            (
                f"{silent} traces with tools have no answer or no recorded text: they count as "
                "not confirmatory"
            ),
        )
        if silent
        else ()
    )
    if "tool" not in frame.collect_schema().names():
        notes += (NO_TOOLS,)
    table = pl.DataFrame(pattern_rows, schema=names | {c.name: DTYPES[c.type] for c in _ROWS})
    return Answer(table, more=more, dropped={"failed traces": failed}, notes=notes)


def _read(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Read the texts of a trace on one of its rows: `_knew`, `_syntax`; null on other rows."""
    # A trace is in several groups where `by` tells its calls apart.
    group = pl.sum_horizontal(pl.col("_trace"), *(pl.col(c).hash(k) for k, c in enumerate(by)))
    marked = rows.with_columns(_first=group.is_first_distinct())
    at = (marked["_first"] & marked["_tool"].is_not_null()).arg_true()
    answer, opening, question = (rows[f"_{c}"].gather(at) for c in _TEXTS)
    knew = contain_words(answer, opening)
    hit = knew.arg_true()
    is_in_question = contain_words(answer.gather(hit), question.gather(hit)).fill_null(value=False)
    knew = knew.scatter(hit, ~is_in_question)
    known = pl.Series([None], dtype=pl.Boolean).new_from_index(0, rows.height)
    malformed = pl.col("_wrong") & pl.col("_error_type").is_in(_MALFORMED)
    # Of a trace that begins with a call that ran, the syntax of calls says nothing.
    ran = pl.col("_tool").is_not_null() & ~malformed
    return marked.with_columns(
        pl.col("_output_tokens", "_opening_tokens").cast(pl.Int32),
        # A number does to tell tools apart.
        _tool=pl.when(pl.col("_tool").is_not_null()).then(pl.col("_tool").hash()),
        _empty=(pl.col("_result_bytes") == 0).fill_null(value=False),
        _malformed=malformed,
        _knew=known.scatter(at, knew),
        _syntax=pl.when(pl.col("_first") & ~ran).then("_opening_text").str.contains(_SYNTAX),
    ).drop("_first", "_result_bytes", *(f"_{c}" for c in _TEXTS))


def _patterns(rows: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    """Make one row per trace of a group: what its calls came to, and which patterns it shows."""
    called = pl.col("_tool").is_not_null()
    malformed = pl.col("_malformed")
    first = (
        "_trace_id",
        "_item",
        "_code",
        "_failed",
        "_passed",
        "_output_tokens",
        "_opening_tokens",
    )
    same = (pl.col("_trace") == pl.col("_trace").shift()).fill_null(value=False)
    sums = {
        "calls": called,
        "malformed": malformed,
        "ran": called & ~malformed,
        "wasted": called & (pl.col("_wrong") | pl.col("_empty") | tool_rows.IS_REPEAT),
        "switches": same & (pl.col("_tool") != pl.col("_tool").shift()),
        "knew": pl.col("_knew"),
        "known": pl.col("_knew").is_not_null(),
        "syntax": pl.col("_syntax"),
    }
    counted = {c: e.fill_null(value=False).cast(pl.Int32) for c, e in sums.items()}
    marked = tool_rows.ordered(rows).select(*first, begins=~same, **counted)
    at = marked["begins"].arg_true()
    traces = marked.select(pl.col(first).gather(at)).with_columns(
        pl.Series(c, np.add.reduceat(marked[c].to_numpy(), at.to_numpy())) for c in sums
    )
    uses = pl.col("calls") > 0
    share = options["wasted"] * pl.col("calls")
    return traces.select(
        *first,
        "calls",
        "wasted",
        confirmatory=pl.when(uses & (pl.col("known") > 0)).then(pl.col("knew") > 0),
        mixing=uses & (pl.col("switches") >= options["switches"]),
        no_priors=uses & (pl.col("wasted") >= share),
        collapse=(uses & (pl.col("malformed") >= share))
        | ((pl.col("ran") == 0) & (pl.col("syntax") > 0)),
    )


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    uses = part.filter(pl.col("calls") > 0)
    row: dict[str, Any] = {
        "n_items": part["_item"].n_unique(),
        "n": part.height,
        "n_with_tools": uses.height,
    }
    for pattern in PATTERNS:
        pattern_rows = part if pattern == "collapse" else uses
        values = pattern_rows[pattern].fill_null(value=False).cast(pl.Float64).to_numpy()
        rate = ratios.share(values, pattern_rows["_code"].to_numpy(), level)
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


def _compare(part: pl.DataFrame, pattern: str, level: float, place: Ints) -> dict[str, Any]:
    """Compare traces with a pattern and those without, item by item.

    Args:
        part: one row per trace.
        pattern: which.
        level: of the intervals.
        place: (n,) the item of each trace, from 0.
    """
    shows = part[pattern].fill_null(value=False)
    passed = part["_passed"].cast(pl.Float64)
    row: dict[str, Any] = {
        "pattern": pattern,
        "n_showing": int(shows.sum()),
        "pass_rate_with": passed.filter(shows).mean(),
        "pass_rate_without": passed.filter(~shows).mean(),
    }
    x, y, codes = _both(part, shows, "_passed", place)
    row |= ratios.figures("pass_rate_change", ratios.mean(x - y, codes, level, (-1.0, 1.0)))
    x, y, codes = _both(part, shows, "_output_tokens", place)
    return row | ratios.figures("tokens_factor", ratios.ratio(x, y, codes, level, ratios.AMOUNT))


def _both(
    part: pl.DataFrame, shows: pl.Series, column: str, place: Ints
) -> tuple[Floats, Floats, Ints]:
    """Average a column over an item's traces with a pattern and without, where it is known of both.

    Returns:
        Means with, means without, numbers of the clusters: (n_items,) each, in order of the items.
    """
    known = part[column].is_not_null().to_numpy()
    values = part[column].cast(pl.Float64).fill_null(0.0).to_numpy()
    # (without, with) side by side, an item after the other.
    cell = 2 * place + shows.to_numpy()
    size = 2 * int(place.max() + 1)
    n = np.bincount(cell, known, size).reshape(-1, 2)
    both = n.all(axis=1)
    total = np.bincount(cell, values, size).reshape(-1, 2)[both]
    codes = np.zeros(len(n), np.int64)
    codes[place] = part["_code"].to_numpy()
    means = total / n[both]
    return means[:, 1], means[:, 0], codes[both]
