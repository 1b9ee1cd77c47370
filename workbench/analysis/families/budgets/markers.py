"""Markers of thinking in texts: hedges, second thoughts, repeated questions; relative effort."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_NO_SPREAD
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_THREADS = (
    3  # that read texts: Polars alone keeps little more than one processor busy with short ones
)
_ONE_SIDE = "none right, or none wrong"
HEDGES = (
    "maybe, perhaps, possibly, probably, might, could be, seems, i think, i guess, not sure, "
    "unsure, likely"
)
TURNS = (
    "wait, but, however, actually, alternatively, hmm, let me check, let me verify, let me re, "
    "double-check, hold on, on second thought"
)
_ROWS = (
    Column("n_items", "int", "count", "Items with a recorded text.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces with a recorded text.", KEY_NULL, "traces"),
    *ends(
        Column("words", "float", "count", "Mean words of the text.", KEY_NULL, "words"),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "hedges",
            "float",
            "",
            "Hedging markers per 100 words, all texts together.",
            KEY_NULL,
            "hedges per 100 words",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "turns",
            "float",
            "",
            "Markers of second thoughts per 100 words.",
            KEY_NULL,
            "second thoughts per 100 words",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "echo",
            "float",
            "0..1",
            "Share of the question's runs of `run` words that stand in the text again.",
            "questions not recorded, or too short",
            "question echoed",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "hedged_wrong_extra",
            "float",
            "",
            "Hedges and second thoughts per 100 words of wrong traces minus those of right ones.",
            _ONE_SIDE,
            "markers, wrong − right",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "relative_effort",
            "float",
            "",
            "Mean over traces of their output tokens over the mean of all groups on the "
            "item; above 1 spends more than its peers.",
            "output tokens unknown",
            "relative effort",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "relative_effort_right",
            "float",
            "",
            "The same of right traces.",
            "none right, or tokens unknown",
            "relative effort when right",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
)
# By figure: a factor, what its sum is divided by, what there must be some of, the most it can be.
_FIGURES = {
    "words": (1, "_n", "_n", np.inf),
    "hedges": (100, "_words", "_n", np.inf),
    "turns": (100, "_words", "_n", np.inf),
    "echo": (1, "_echo_n", "_echo_n", 1.0),
    "relative_effort": (1, "_relative_effort_n", "_relative_effort_n", np.inf),
    "relative_effort_right": (1, "_relative_effort_right_n", "_relative_effort_right_n", np.inf),
}


@analysis(
    name="markers",
    title="Markers",
    question="How much do texts hedge, turn back and repeat the question, and how much effort is "
    "that next to others?",
    source="relative effort ρ = ℓ / mean ℓ of the item: e1 (from notes); the lists of markers and "
    "the measure of the echo are ours",
    needs=("item_id",),
    scored=False,
    options=(
        Option(
            "text",
            "choice",
            "all",
            "which text: thinking, the visible output, or both",
            choices=("all", "thinking", "output"),
        ),
        Option("hedges", "text", HEDGES, "hedging markers, comma-separated"),
        Option("turns", "text", TURNS, "markers of second thoughts, comma-separated"),
        Option(
            "run", "int", 5, "words in a row that count as an echo of the question", low=2, high=50
        ),
        LEVEL,
    ),
    columns=_ROWS,
    rows="trace_texts",
    chart=ChartSpec("figures", x="hedges", y="group", also=("turns", "echo", "relative_effort")),
    example={"by": ("model", "strategy")},
)
def markers(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count markers in what models wrote; per group, the most hedging first.

    Grain: one row per group. Failed traces and those without a recorded text are left out; all
    others have equal weights. Markers are whole words or phrases, letter case aside; a word counts
    once even where two markers overlap. "let me re" also finds "let me reconsider": a marker that
    ends in "re" is a beginning. They are English, and a list is no understanding: change it by
    `hedges` and `turns`.

    Echo: of the question's runs of `run` words in a row, the share that stands in the text.
    Relative effort: output tokens of a trace over the mean of all traces on its item, whatever the
    group, so that hard items weigh on both sides; it needs the item tried by others, or several
    times.

    Hedging goes with hard items: `hedged_wrong_extra` is a plain difference, not cause. Intervals:
    t · SE of ratios and means, clustered by item; of amounts corrected for skewness (Hall 1992).
    """
    rows = per_trace.fetch(
        frame,
        by,
        ("output_tokens",),
        texts=("thinking_text", "output_text", "input"),
        flags=("passed",),
        transform=functools.partial(_read, by=by, options=options),
    )
    dropped = {
        "failed traces": int(rows["_failed"].sum()),
        "traces without a recorded text": int(rows["_silent"].sum()),
    }
    rows = rows.filter(pl.col("_n") + pl.col("_silent") > 0)
    groups = rows.select(by).unique()
    rows = _relative(rows).filter(pl.col("_n") > 0)
    group_rows = [
        dict(zip(by, key, strict=True)) | _row(part, options["level"])
        for key, part in per_trace.parts(rows, by)
    ]
    silent = groups.join(rows, on=list(by), how="anti", nulls_equal=True)
    group_rows += [
        r | {"n_items": 0, "n": 0} for r in silent.sort(by, nulls_last=True).iter_rows(named=True)
    ]
    shape = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame([dict.fromkeys(shape) | r for r in group_rows], schema=shape).sort(
        *first,
        "hedges",
        *by,
        descending=[*[False] * len(first), True, *[False] * len(by)],
        nulls_last=True,
    )
    return Answer(table, dropped=dropped)


def _read(rows: pl.DataFrame, by: Sequence[str], options: dict[str, Any]) -> pl.DataFrame:
    """Count markers in the texts and add them up per group and item, without keeping the texts."""
    chosen = {
        "all": ("_thinking_text", "_output_text"),
        "thinking": ("_thinking_text",),
        "output": ("_output_text",),
    }[options["text"]]
    some = pl.any_horizontal(pl.col(c).is_not_null() for c in chosen)
    # A line break in front, so that every word follows white space and is quickly counted; and
    # behind, for `spaced`.
    text = pl.concat_str(pl.lit(""), *chosen, pl.lit(""), separator="\n", ignore_nulls=True)
    with_text = rows.with_columns(_text=pl.when(some).then(text).str.to_lowercase())
    with_text = with_text.with_columns(_counted(with_text, options))
    keys = (*by, "_item")
    sums = with_text.select(
        *keys, "_cluster", **{c: e.cast(pl.Float64) for c, e in _sums().items()}
    )
    grouped = sums.group_by(keys, maintain_order=True)
    return grouped.agg(pl.col("_cluster").first(), pl.exclude(*keys, "_cluster").sum())


def _sums() -> dict[str, pl.Expr]:
    """Expressions that are summed over traces: traces with text, their counts, and known counts."""
    done = ~pl.col("_failed")
    has_text = ~pl.col("_failed") & pl.col("_words").is_not_null()
    right = has_text & pl.col("_passed").fill_null(value=False)
    wrong = has_text & ~pl.col("_passed").fill_null(value=True)
    spent = pl.col("_output_tokens")
    marks = pl.col("_hedges") + pl.col("_turns")
    sums = {"_failed": pl.col("_failed"), "_silent": done & ~has_text, "_n": has_text}
    sums |= {c: pl.when(has_text).then(c) for c in ("_words", "_hedges", "_turns", "_echo")}
    sums |= {"_echo_n": has_text & pl.col("_echo").is_not_null()}
    for name, which in (
        ("_spent", done),
        ("_relative_effort", has_text),
        ("_relative_effort_right", right),
    ):
        sums |= {name: pl.when(which).then(spent), f"{name}_n": which & spent.is_not_null()}
    for name, which in (("right", right), ("wrong", wrong)):
        sums[f"_{name}_words"] = pl.when(which).then("_words")
        sums[f"_{name}_marks"] = pl.when(which).then(marks)
    return sums


def _relative(rows: pl.DataFrame) -> pl.DataFrame:
    """Divide output tokens by their mean on the item over all groups; null where that is 0."""
    item = rows["_item"].to_numpy()
    total, n = (np.bincount(item, rows[c].to_numpy())[item] for c in ("_spent", "_spent_n"))
    rate = pl.Series(np.divide(n, total, out=np.zeros(len(item)), where=total > 0))
    return rows.with_columns(
        pl.col("_relative_effort", "_relative_effort_right") * rate,
        pl.col("_relative_effort_n", "_relative_effort_right_n") * (rate > 0),
    )


def pattern(listed: str) -> str:
    """Make a pattern that matches any marker of a comma-separated list, the longest first."""
    words = sorted(
        {" ".join(w.split()).lower() for w in listed.split(",")} - {""}, key=lambda w: (-len(w), w)
    )
    if not words:
        raise AnalysisError("a list of markers is empty; name at least one word")
    return "|".join(_whole(w) for w in words)


def _whole(marker: str) -> str:
    """Find a marker as whole words; one that ends in "re" is a beginning."""
    begin = r"\b" if re.match(r"\w", marker) else ""
    end = r"\b" if re.search(r"\w$", marker) and not marker.endswith(" re") else ""
    return begin + re.escape(marker).replace(r"\ ", r"\s+") + end


def spaced(text: pl.Expr) -> pl.Expr:
    """Leave one space between two words, and where a line break was at the ends.

    A single space, as most are, stands as it is: nothing to replace, which takes half the time.
    """
    return text.str.replace_all(r"\W{2,}|[^\w ]", " ")


def echoes(texts: pl.DataFrame, run: int) -> pl.Series:
    """Compute the share of a question's n-grams that occur in the text; null where it has none.

    Args:
        texts: `_said`, the text in lower case, `spaced`; and `_input`, the question.
        run: words in a row.
    """
    questions = texts["_input"].unique().drop_nulls()
    words = (re.findall(r"\w+", q.lower()) for q in questions)
    runs = [{f" {' '.join(w[k : k + run])} " for k in range(len(w) - run + 1)} for w in words]
    listed = pl.DataFrame(
        [(q, found) for q, of in enumerate(runs) for found in of],
        schema={"_question": pl.UInt32, "_run": pl.String},
        orient="row",
    )
    # Numbers are joined many times quicker than texts.
    question = texts["_input"].cast(pl.Enum(questions)).to_physical().cast(pl.UInt32)
    numbered = texts.select("_said", question.alias("_question")).with_row_index("_at")
    hits = (
        numbered.join(listed, on="_question", how="inner")
        .select("_at", _seen=pl.col("_said").str.contains(pl.col("_run"), literal=True))
        .drop_nulls()
    )
    at = hits["_at"].to_numpy()
    seen = np.bincount(at, hits["_seen"].to_numpy(), texts.height)
    n = np.bincount(at, minlength=texts.height)
    return pl.Series(np.divide(seen, n, out=np.full(texts.height, np.nan), where=n > 0)).fill_nan(
        None
    )


def _counted(known: pl.DataFrame, options: dict[str, Any]) -> list[pl.Series]:
    text = pl.col("_text")
    counts = known.select(
        "_input",
        spaced(text).alias("_said"),
        text.str.count_matches(r"\s\S").alias("_words"),
        *[text.str.count_matches(pattern(options[n])).alias(f"_{n}") for n in ("hedges", "turns")],
    )
    echo = echoes(counts, options["run"]).alias("_echo")
    return [*counts.drop("_input", "_said").get_columns(), echo]


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    """Sum one group up, cluster by cluster."""
    codes = ratios.numbered(part["_code"].to_numpy())
    sums = part.select(pl.selectors.float())
    x = {c.name: np.bincount(codes, c.to_numpy()).astype(float) for c in sums.iter_columns()}
    row: dict[str, Any] = {"n_items": part["_item"].n_unique(), "n": int(x["_n"].sum())}
    for name, (factor, bottom, n, most) in _FIGURES.items():
        (known,) = np.nonzero(x[n])
        estimate = ratios.ratio(
            factor * x[f"_{name}"][known], x[bottom][known], known, level, (0.0, most)
        )
        row |= ratios.figures(name, estimate)
    return row | ratios.figures("hedged_wrong_extra", _extra(x, level))


def _extra(x: Mapping[str, Floats], level: float) -> tuple[float, float, float]:
    """Difference of the ratios of wrong and of right traces, with its interval."""
    words = {side: float(x[f"_{side}_words"].sum()) for side in ("wrong", "right")}
    if not all(words.values()):
        return (float("nan"),) * 3
    rates = {side: float(x[f"_{side}_marks"].sum()) / n for side, n in words.items()}
    apart = {
        side: 100 * (x[f"_{side}_marks"] - rates[side] * x[f"_{side}_words"]) / n
        for side, n in words.items()
    }
    value = 100 * (rates["wrong"] - rates["right"])
    k = len(x["_n"])
    influence = value / k + apart["wrong"] - apart["right"]
    _, low, high = ratios.ratio(influence, np.full(k, 1 / k), np.arange(k), level)
    return value, low, high
