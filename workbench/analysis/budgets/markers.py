"""Words that give thinking away: hedges, second thoughts, the question said again; and effort relative to peers."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import fetched, ratios
from workbench.analysis.declaration import ChartSpec, Option, analysis
from workbench.analysis.options import LEVEL
from workbench.analysis.result import DTYPES, Answer
from workbench.analysis.sample import ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

C = Column
Floats = npt.NDArray[np.float64]
_FEW = "fewer than two items, or no spread"
_ONE_SIDE = "none right, or none wrong"
HEDGES = "maybe, perhaps, possibly, probably, might, could be, seems, i think, i guess, not sure, unsure, likely"
TURNS = "wait, but, however, actually, alternatively, hmm, let me check, let me verify, let me re, double-check, hold on, on second thought"
_ROWS = (
    C("n_items", "int", "count", "Items with a recorded text.", KEY_NULL, "items"),
    C("n", "int", "count", "Traces with a recorded text.", KEY_NULL, "traces"),
    *ends(C("words", "float", "count", "Mean words of the text.", KEY_NULL, "words"), _FEW),
    *ends(C("hedges", "float", "", "Hedging markers per 100 words, all texts together.", KEY_NULL, "hedges per 100 words"), _FEW),
    *ends(C("turns", "float", "", "Markers of second thoughts per 100 words.", KEY_NULL, "second thoughts per 100 words"), _FEW),
    *ends(C("echo", "float", "0..1", "Share of the question's runs of `run` words that stand in the text again.", "questions not recorded, or too short", "question echoed"), _FEW),
    *ends(C("hedged_wrong_extra", "float", "", "Hedges and second thoughts per 100 words of wrong traces minus those of right ones.", _ONE_SIDE, "markers, wrong − right"), _FEW),
    *ends(C("relative_effort", "float", "", "Mean over traces of their output tokens over the mean of all groups on the item; above 1 spends more than its peers.", "output tokens unknown", "relative effort"), _FEW),
    *ends(C("relative_effort_right", "float", "", "The same of right traces.", "none right, or tokens unknown", "relative effort when right"), _FEW),
)  # fmt: skip


@analysis(
    name="markers",
    title="Markers",
    question="How much do texts hedge, turn back and repeat the question, and how much effort is that next to others?",
    source="relative effort ρ = ℓ / mean ℓ of the item: e1 (from notes); the lists of markers and the measure of the echo are ours",
    needs=("item_id",),
    scored=False,
    options=(
        Option("text", "choice", "all", "which text: thinking, the visible output, or both", choices=("all", "thinking", "output")),
        Option("hedges", "text", HEDGES, "hedging markers, comma-separated"),
        Option("turns", "text", TURNS, "markers of second thoughts, comma-separated"),
        Option("run", "int", 5, "words in a row that count as an echo of the question", low=2, high=50),
        LEVEL,
    ),
    columns=_ROWS,
    rows="trace_texts",
    chart=ChartSpec("figures", x="hedges", y="group", also=("turns", "echo", "relative_effort")),
    example={"by": ("model", "strategy")},
)  # fmt: skip
def markers(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count markers in what models wrote; per group, the most hedging first.

    Grain: one row per group. Failed traces and those without a recorded text are left out; all others
    weigh alike. Markers are whole words or phrases, letter case aside; a word counts once even where
    two markers overlap. "let me re" also finds "let me reconsider": a marker that ends in "re" is a
    beginning. They are English, and a list is no understanding: change it by `hedges` and `turns`.

    Echo: of the question's runs of `run` words in a row, the share that stands in the text. Relative
    effort: output tokens of a trace over the mean of all traces on its item, whatever the group, so
    that hard items weigh on both sides; it needs the item tried by others, or several times.

    Hedging goes with hard items: `hedged_wrong_extra` is a plain difference, not cause. Intervals:
    t · SE of ratios and means, clustered by item.
    """
    texts = ("thinking_text", "output_text", "input")
    rows = fetched.fetch(
        frame, by, ("output_tokens",), texts=texts, flags=("passed",),
        each=functools.partial(_read, options=options),
    )  # fmt: skip
    rows, dropped = fetched.sieve(rows, {"failed traces": ~pl.col("_failed")})
    groups = rows.select(by).unique()
    rows = rows.drop("_failed").with_columns(_relative(rows).alias("_effort"))
    rows, unknown = fetched.sieve(
        rows, {"traces without a recorded text": pl.col("_words").is_not_null()}
    )
    found = [
        dict(zip(by, key, strict=True)) | _row(part, options["level"])
        for key, part in fetched.parts(rows, by)
    ]
    silent = groups.join(rows.select(by).unique(), on=list(by), how="anti", nulls_equal=True)
    found += [r | {"n_items": 0, "n": 0} for r in silent.sort(by, nulls_last=True).iter_rows(named=True)]  # fmt: skip
    shape = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame([dict.fromkeys(shape) | r for r in found], schema=shape).sort(
        *first, "hedges", *by, descending=[*[False] * len(first), True, *[False] * len(by)], nulls_last=True
    )  # fmt: skip
    return Answer(table, dropped=dropped | unknown)


def _read(rows: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    """Count what is wanted of the texts, and let go of them; null where none is recorded."""
    chosen = {"all": ("_thinking_text", "_output_text"), "thinking": ("_thinking_text",), "output": ("_output_text",)}[options["text"]]  # fmt: skip
    some = pl.any_horizontal(pl.col(c).is_not_null() for c in chosen)
    text = pl.concat_str(chosen, separator="\n", ignore_nulls=True)
    told = rows.with_columns(_text=pl.when(some).then(text))
    told = told.with_columns(_counted(told, options))
    return told.drop("_text", "_input", "_thinking_text", "_output_text")


def _relative(rows: pl.DataFrame) -> pl.Series:
    """Output tokens of a trace over their mean on its item; null where unknown, or nobody spent any."""
    item, spent = rows["_item"].to_numpy(), rows["_output_tokens"].fill_null(np.nan).to_numpy()
    known = ~np.isnan(spent)
    total, n = np.bincount(item, np.where(known, spent, 0.0)), np.bincount(item, known)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pl.Series(spent * (n / total)[item]).fill_nan(None)


def pattern(listed: str) -> str:
    """Make the pattern that finds any marker of a comma-separated list, the longest first."""
    words = sorted({" ".join(w.split()).casefold() for w in listed.split(",")} - {""}, key=lambda w: (-len(w), w))  # fmt: skip
    if not words:
        raise AnalysisError("a list of markers is empty; name at least one word")
    return rf"(?i){'|'.join(_whole(w) for w in words)}"


def _whole(marker: str) -> str:
    """Find a marker as whole words; one that ends in "re" is a beginning."""
    begin = r"\b" if re.match(r"\w", marker) else ""
    end = r"\b" if re.search(r"\w$", marker) and not marker.endswith(" re") else ""
    return begin + re.escape(marker).replace(r"\ ", r"\s+") + end


def echoes(texts: pl.DataFrame, run: int) -> pl.Series:
    """Give the share of each question's runs of words that stand in the text; null where it has none.

    Args:
        texts: `_text` and `_input`, the question.
        run: words in a row.
    """
    asked = texts["_input"].unique().drop_nulls()
    told = [re.findall(r"\w+", q.casefold()) for q in asked.to_list()]
    runs = [list({f" {' '.join(w[k : k + run])} " for k in range(len(w) - run + 1)}) for w in told]
    listed = pl.DataFrame({"_input": asked, "_run": pl.Series(runs, dtype=pl.List(pl.String))})
    listed = listed.explode("_run").drop_nulls("_run")
    said = pl.concat_str(
        pl.lit(" "), pl.col("_text").str.to_lowercase().str.replace_all(r"\W+", " "), pl.lit(" ")
    )
    numbered = texts.select("_input", _said=said).with_row_index("_at")
    each = numbered.join(listed, on="_input", how="inner").select(
        "_at", _seen=pl.col("_said").str.contains(pl.col("_run"), literal=True)
    )
    shares = each.group_by("_at").agg(pl.col("_seen").mean())
    return numbered.join(shares, on="_at", how="left", maintain_order="left")["_seen"]


def _counted(known: pl.DataFrame, options: dict[str, Any]) -> list[pl.Series]:
    text = pl.col("_text")
    counts = known.select(
        text.str.count_matches(r"\S+").alias("_words"),
        *[text.str.count_matches(pattern(options[n])).alias(f"_{n}") for n in ("hedges", "turns")],
    )
    return [*counts.get_columns(), echoes(known, options["run"]).alias("_echo")]


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    codes = part["_code"].to_numpy()
    x = {c: part[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in ("_words", "_hedges", "_turns", "_echo", "_effort")}  # fmt: skip
    none = (0.0, np.inf)
    row: dict[str, Any] = {"n_items": part["_item"].n_unique(), "n": part.height}
    row |= ratios.figures("words", ratios.mean(x["_words"], codes, level, none))
    for name in ("hedges", "turns"):
        rate = ratios.ratio(100 * x[f"_{name}"], x["_words"], codes, level, none)
        row |= ratios.figures(name, rate)
    row |= ratios.figures("echo", ratios.mean(x["_echo"], codes, level, (0.0, 1.0)))
    row |= ratios.figures("relative_effort", ratios.mean(x["_effort"], codes, level, none))
    right = part["_passed"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    effort = ratios.mean(np.where(right == 1, x["_effort"], np.nan), codes, level, none)
    row |= ratios.figures("relative_effort_right", effort)
    marks = 100 * (x["_hedges"] + x["_turns"])
    return row | ratios.figures("hedged_wrong_extra", _extra(marks, x["_words"], right, codes, level))  # fmt: skip


def _extra(
    marks: Floats, words: Floats, right: Floats, codes: npt.NDArray[np.int64], level: float
) -> tuple[float, float, float]:
    """Ratio of the wrong traces minus that of the right ones, with the interval of both together."""
    sides = [(right == side) & (words > 0) for side in (0.0, 1.0)]
    if not all(s.any() for s in sides):
        return (float("nan"),) * 3
    rates = [marks[s].sum() / words[s].sum() for s in sides]
    influence = np.zeros(len(marks))
    for sign, s, rate in zip((1.0, -1.0), sides, rates, strict=True):
        influence += np.where(s, sign * (marks - rate * words) / words[s].sum(), 0.0)
    value = float(rates[0] - rates[1])
    _, low, high = ratios.ratio(value / len(marks) + influence, np.full(len(marks), 1 / len(marks)), codes, level)  # fmt: skip
    return value, low, high
