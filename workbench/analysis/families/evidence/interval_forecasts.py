"""Interval forecasts: coverage and width of answers that are intervals."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.item_means import by_item
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NONE = "no answer is an interval"
_ROWS = (
    Column("n_items", "int", "count", "Items with a number as target.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    Column(
        "n_intervals", "int", "count", "Those whose answer is an interval.", KEY_NULL, "intervals"
    ),
    *ends(
        Column(
            "coverage",
            "float",
            "0..1",
            "Share of the traces whose interval holds the truth; an answer that is no "
            "interval misses.",
            "no traces",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "undercover",
            "float",
            "0..1",
            "Nominal level minus coverage: above 0 is overconfident.",
            "no traces",
            "missing coverage",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "interval_score",
            "float",
            "",
            "Mean interval score (Winkler) of the intervals, on the scale asked for; the "
            "lower the better.",
            _NONE,
            "interval score",
        ),
        f"{FEW_ITEMS}, or no spread",
    ),
    *ends(
        Column(
            "width",
            "float",
            "",
            "Mean width of the intervals on that scale (sharpness); the lower the sharper, "
            "coverage permitting.",
            _NONE,
            "width of the interval",
        ),
        f"{FEW_ITEMS}, or no spread",
    ),
    Column(
        "below",
        "float",
        "0..1",
        "Share of the intervals that lie wholly above the truth.",
        _NONE,
        "truth below",
    ),
    Column(
        "above",
        "float",
        "0..1",
        "Share of the intervals that lie wholly below the truth.",
        _NONE,
        "truth above",
    ),
    Column(
        "n_swapped",
        "int",
        "count",
        "Intervals given with the larger end first.",
        KEY_NULL,
        "ends swapped",
    ),
    Column(
        "n_off_scale",
        "int",
        "count",
        "Intervals or truths that the scale cannot take, left out of score and width.",
        KEY_NULL,
        "off the scale",
    ),
)
_NUMBER = r"[-+−]?(?:\d[\d,_ ]*\d|\d)?(?:\.\d+)?(?:[eE][-+]?\d+)?\s*%?"
_BETWEEN = r"\s*(?:,|;|\.\.+|…|\bto\b|\band\b|–|—|−|-)\s*"
_PAIR = re.compile(
    rf"[\[(]?\s*({_NUMBER})(?:\s*(?!to\b|and\b)[A-Za-z]+)?{_BETWEEN}({_NUMBER})\s*[\])]?"
)
_SCALES: dict[str, Callable[[Floats], Floats]] = {
    "ln": np.log,
    "log10": np.log10,
    "plain": np.asarray,
    "signed-log": lambda x: np.sign(x) * np.log1p(np.abs(x)),
}


@analysis(
    name="interval-forecasts",
    title="Interval forecasts",
    question="Do answers that are intervals hold the truth as often as "
    "asked, and how sharp are they?",
    source="interval score: Winkler 1972; Gneiting & Raftery 2007, eq. 43; on logarithms after "
    "QuantSightBench (base and treatment of numbers below 0 unverified)",
    needs=("item_id",),
    scored=False,
    options=(
        Option(
            "nominal",
            "float",
            0.9,
            "the coverage that the model was asked for",
            low=0.01,
            high=0.999,
        ),
        Option(
            "scale",
            "choice",
            "ln",
            "what score and width are taken of; ln and log10 need numbers above 0",
            choices=tuple(_SCALES),
        ),
        LEVEL,
    ),
    columns=_ROWS,
    rows="trace_details",
    by_hand={
        "nominal": 0.8,
        "scale": "plain",
        "worked": "Every interval is 20 wide; one that misses is 10 off, "
        "and pays 2 / (1 − 0.8) × 10 "
        "= 100. Terse holds 4 of"
        " 6: 20 + 100 × 2/6 = 53.3.",
    },
    chart=ChartSpec("figures", x="coverage", y="group", also=("interval_score", "width")),
    settles=Settles("coverage", "nominal"),
)
def interval_forecasts(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare intervals that models answered with the true number.

    Grain: one row per group. Traces count whose item's target is a number and which did not fail;
    trials are averaged within their item. An answer is an interval if two numbers stand in it with
    a comma, "to", "and" or a dash between them: [10, 20], 10–20, from 10 to 20. Swapped ends are
    put right and counted. An answer that is none misses in the coverage; width and score, which
    need one, leave it out.

    Interval score at level 1 − α: (u − l) + 2/α · (l − y)₊ + 2/α · (y − u)₊, on the logarithms of
    ends and truth unless `scale` says otherwise; width is u − l there. A wide interval holds
    everything, so widths are compared at equal coverage, or by the score, which pays for both.

    Intervals of the figures: coverage Wilson's with the effective number of items, else t · SE
    corrected for skewness (Hall 1992), clustered by item.
    """
    rows = per_trace.fetch(frame, by, (), texts=("answer", "target"), transform=_read)
    done, dropped = per_trace.keep_passing(rows, {"failed traces": ~pl.col("_failed")})
    shape = {c: done.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    groups = done.select(by).unique()
    with_target, gone = per_trace.keep_passing(
        done, {"traces whose item has no number as target": pl.col("_truth").is_not_null()}
    )
    group_rows = [
        dict(zip(by, key, strict=True)) | _row(part, options)
        for key, part in per_trace.parts(with_target, by)
    ]
    silent = groups.join(with_target.select(by).unique(), on=list(by), how="anti", nulls_equal=True)
    counts = [c.name for c in _ROWS if c.type == "int"]
    group_rows += [
        r | dict.fromkeys(counts, 0) for r in silent.sort(by, nulls_last=True).iter_rows(named=True)
    ]
    table = pl.DataFrame([dict.fromkeys(shape) | r for r in group_rows], schema=shape)
    none = table.filter((pl.col("n") > 0) & (pl.col("n_intervals") == 0)).height
    none_note = f"no answer of {none} groups is an interval: were they asked for one?"
    return Answer(table, dropped=dropped | gone, notes=(none_note,) if none else ())


def _read(rows: pl.DataFrame) -> pl.DataFrame:
    """Read answers and targets as numbers: `_truth`, `_low`, `_high`; each wording once."""
    targets, answers = (rows[c].unique() for c in ("_target", "_answer"))
    truth = pl.DataFrame(
        {"_target": targets, "_truth": [number(t) for t in targets]},
        schema_overrides={"_truth": pl.Float64},
    )
    pairs = [read(a) or (None, None) for a in answers]
    ends_ = {
        name: pl.Series([p[k] for p in pairs], dtype=pl.Float64)
        for k, name in enumerate(("_low", "_high"))
    }
    with_truth = rows.join(truth, on="_target", how="left", nulls_equal=True, maintain_order="left")
    with_truth = with_truth.join(
        pl.DataFrame({"_answer": answers} | ends_),
        on="_answer",
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return with_truth.drop("_target", "_answer")


def number(text: str | None) -> float | None:
    """Parse a number with separators, a currency or per cent sign; None where there is none.

    >>> number("$1,250"), number("12 %"), number("about 3")
    (1250.0, 12.0, None)
    """
    bare = (text or "").strip().strip("$€ %").replace("−", "-")
    bare = re.sub(r"(?<=\d)[,_ ](?=\d{3}(?!\d))", "", bare)
    try:
        value = float(bare)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def read(answer: str | None) -> tuple[float, float] | None:
    """Read an interval, the ends as they stand; None where the answer is none.

    >>> read("[10, 20]"), read("between 1.5 and 3"), read("5–9"), read("42")
    ((10.0, 20.0), (1.5, 3.0), (5.0, 9.0), None)
    """
    text = (answer or "").replace("$", "").replace("€", "")
    for match in _PAIR.finditer(text):
        low = number(match[1])
        high = number(match[2])
        if low is not None and high is not None:
            return low, high
    return None


def interval_score(low: Floats, high: Floats, truth: Floats, alpha: float) -> Floats:
    """Score intervals of level 1 − α (Winkler 1972); the lower the better."""
    under = np.maximum(low - truth, 0.0)
    over = np.maximum(truth - high, 0.0)
    return np.asarray((high - low) + 2 / alpha * (under + over))


def _row(part: pl.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    truth = part["_truth"].to_numpy()
    ends_ = part.select("_low", "_high").fill_null(np.nan).to_numpy()
    given = ~np.isnan(ends_).any(axis=1)
    low = ends_.min(axis=1)
    high = ends_.max(axis=1)
    level = options["level"]
    alpha = 1 - options["nominal"]
    with np.errstate(invalid="ignore", divide="ignore"):
        covers = given & (low <= truth) & (truth <= high)
        scaled = [_SCALES[options["scale"]](x) for x in (low, high, truth)]
    usable = given & np.isfinite(scaled).all(axis=0)
    score, width = np.full((2, len(truth)), np.nan)
    score[usable] = interval_score(scaled[0][usable], scaled[1][usable], scaled[2][usable], alpha)
    width[usable] = (scaled[1] - scaled[0])[usable]
    named = part.with_columns(
        held=pl.Series(covers.astype(float)),
        score=pl.Series(score).fill_nan(None),
        width=pl.Series(width).fill_nan(None),
    )
    items = by_item(named, ("held", "score", "width"))
    codes = items["_code"].to_numpy()
    values = {c: items[c].fill_null(np.nan).to_numpy() for c in ("held", "score", "width")}
    covered = ratios.share(values["held"], codes, level)
    row: dict[str, Any] = {
        "n_items": items.height,
        "n": part.height,
        "n_intervals": int(given.sum()),
        "n_swapped": int((ends_[:, 0] > ends_[:, 1]).sum()),
        "n_off_scale": int((given & ~usable).sum()),
    }
    row |= ratios.figures("coverage", covered)
    gap = options["nominal"]
    row |= ratios.figures("undercover", (gap - covered[0], gap - covered[2], gap - covered[1]))
    row |= ratios.figures(
        "interval_score", ratios.mean(values["score"], codes, level, ratios.AMOUNT)
    )
    row |= ratios.figures("width", ratios.mean(values["width"], codes, level, ratios.AMOUNT))
    if given.any():
        row["below"] = float((truth < low)[given].mean())
        row["above"] = float((truth > high)[given].mean())
    return row
