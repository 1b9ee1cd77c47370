"""Whether the same configuration answers the same under other runtime settings."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import fetched, ratios
from workbench.analysis.options import LEVEL
from workbench.analysis.registry import ChartSpec, Option, analysis, unknown
from workbench.analysis.result import DTYPES, Answer
from workbench.analysis.sample import ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, TRACE_FACTS, Column

C = Column
Floats = npt.NDArray[np.float64]
_ONE = "one setting, or no attempt made under all of them"
_FEW = "fewer than two items, or one setting"
_NO_TEXT = "no text under two settings"
_ROWS = (
    C("n_settings", "int", "count", "Settings: values of `setting`.", KEY_NULL, "settings"),
    C("n_items", "int", "count", "Items tried, and scored, under all of them.", KEY_NULL, "items"),
    C("n", "int", "count", "Attempts (item and trial) made under all of them.", KEY_NULL, "attempts"),
    C("pass_rate", "float", "0..1", "Mean over settings of the share of right ones.", _ONE),
    *ends(C("accuracy_sd", "float", "0..1", "Sample standard deviation of the settings' pass rates (Std@Acc).", _ONE, "sd of the pass rate"), "one setting, or no spread"),
    C("accuracy_range", "float", "0..1", "Highest minus lowest pass rate.", _ONE, "range of the pass rate"),
    C("chance_sd", "float", "0..1", "The sd that independent changes of single attempts, as often as seen, would give.", _ONE, "sd by chance"),
    *ends(C("changed_rate", "float", "0..1", "Share of attempts right under one setting and wrong under another.", _ONE, "attempts that flip"), _FEW),
    *ends(C("length_sd_tokens", "float", "tokens", "Mean over attempts of the sample standard deviation of the output tokens (Avg_Std@Output_Length).", "output tokens unknown, or one setting", "sd of the length"), "fewer than two items, or no spread"),
    *ends(C("diverging_rate", "float", "0..1", "Share of attempts whose texts differ between settings.", _NO_TEXT, "texts that diverge"), _FEW),
    C("n_texts", "int", "count", "Attempts with text under two settings or more.", KEY_NULL, "attempts with texts"),
    C("divergence_words", "float", "count", "Median place of the first word that differs, from 0; texts that are alike are left out.", "none diverges", "place of divergence"),
)  # fmt: skip
_SETTINGS = (
    C("setting", "text", doc="The setting.", null="not known"),
    C("rate", "float", "0..1", "Pass rate on the shared attempts.", _ONE, "pass rate"),
    C("mean_tokens", "float", "tokens", "Mean output tokens of them.", "unknown", "output tokens"),
)  # fmt: skip


@analysis(
    name="reproducibility",
    title="Reproducibility",
    question="How far do accuracy, length and text spread over runtime settings, and where do outputs part?",
    source="Yuan et al. 2025, arXiv 2506.09501 (Std@Acc, Avg_Std@Output_Length, Div_Index); words stand for tokens, and the sd of the top-1 probability is not given: neither is recorded",
    needs=("item_id", "passed"),
    options=(
        Option("setting", "text", "run_id", "the column that tells runtime settings apart: run_id, provider, precision, effort, trial …"),
        LEVEL,
    ),
    columns=(*_ROWS, *_SETTINGS),
    rows="trace_texts",
    chart=ChartSpec("figures", x="accuracy_sd", y="group", also=("changed_rate", "diverging_rate", "length_sd_tokens")),
    example={"by": ("model", "strategy"), "setting": "trial"},
)  # fmt: skip
def reproducibility(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare the same attempts, item and trial, under all values of a setting.

    Grain: one row per group; `more["settings"]`: one row per group and setting. Failed and unscored
    traces are left out, and what was not tried under every setting of its group. If the setting is
    `trial` itself, an attempt is an item. Where a setting holds an attempt twice, the one with the first id stands.

    Estimators: sample standard deviations (one less in the denominator) of pass rates over settings,
    and of output tokens over settings, averaged over attempts; below 1e-12 they are 0. Sd by chance:
    √(Σ s²) / n with s² an attempt's variance over settings: what single attempts that change without
    regard to each other would give; a larger sd of the pass rate says that a setting shifts them
    together. Divergence: the first word, counted from 0, at which not all texts (thinking, then
    answer) agree; where one text ends there, its end. Greedy decoding should give 0 throughout.

    Intervals: the sd's is that of n normal values, √(χ²), for settings that are a sample of those
    that might be; with few settings it is wide. Rates Wilson's with the effective number of items,
    lengths t · SE.
    """
    setting = options["setting"]
    present = frame.collect_schema().names()
    if setting not in present and setting not in TRACE_FACTS.names:
        raise AnalysisError(unknown("column of option setting", setting, present))
    told = nw.col(setting) if setting in present else nw.lit(None)
    frame = frame.with_columns(told.cast(nw.String).alias("_setting"))
    rows = fetched.fetch(frame, by, ("output_tokens", "trial"), texts=("_setting", "trace_id", "thinking_text", "output_text"), flags=("passed",))  # fmt: skip
    done = rows.filter(~pl.col("_failed"))
    scored = done.filter(pl.col("_passed").is_not_null())
    keys = ["_item"] if setting == "trial" else ["_item", "_trial"]
    scored = scored.sort(*by, *keys, "__setting", "_trace_id", nulls_last=True).unique([*by, *keys, "__setting"], keep="first", maintain_order=True)  # fmt: skip
    found, settings, lost = [], [], 0
    for key, part in scored.group_by(by, maintain_order=True):
        n = part["__setting"].n_unique()
        shared = part.filter(pl.len().over(keys) == n)
        lost += part.height - shared.height
        names = dict(zip(by, key, strict=True))
        found.append(names | _row(shared, n, options["level"]))
        each = shared.group_by("__setting", maintain_order=True).agg(
            pl.col("_passed").mean().alias("rate"), pl.col("_output_tokens").mean()
        )
        settings += [
            names | {"setting": s, "rate": r, "mean_tokens": t} for s, r, t in each.sort("__setting").iter_rows()
        ]  # fmt: skip
    of = {c: rows.schema[c] for c in by}
    shape = of | {c.name: DTYPES[c.type] for c in _ROWS}
    lone = sum(row["n_settings"] < 2 for row in found)
    notes = (f"{lone} of {len(found)} groups have one value of {setting}: group by what stays the same, as model",) if lone else ()  # fmt: skip
    dropped = {
        "failed traces": rows.height - done.height,
        "unscored traces": done.filter(pl.col("_passed").is_null()).height,
        "traces not made under every setting": lost,
    }
    return Answer(
        pl.DataFrame([dict.fromkeys(shape) | row for row in found], schema=shape),
        more={"settings": pl.DataFrame(settings, schema=of | {c.name: DTYPES[c.type] for c in _SETTINGS})},
        dropped=dropped, notes=notes,
    )  # fmt: skip


def _row(shared: pl.DataFrame, n: int, level: float) -> dict[str, Any]:
    """Describe the attempts made under all n settings."""
    row: dict[str, Any] = {"n_settings": n, "n_items": shared["_item"].n_unique(), "n_texts": 0}
    row["n"] = shared.height // n
    if n < 2 or not shared.height:
        return row
    # Sorted by attempt and setting, and every attempt has all: (attempts, settings).
    right = shared["_passed"].cast(pl.Float64).to_numpy().reshape(-1, n)
    codes = shared["_code"].to_numpy().reshape(-1, n)[:, 0]
    rates = right.mean(axis=0)
    row |= {
        "pass_rate": float(rates.mean()), "accuracy_range": float(np.ptp(rates)),
        "chance_sd": _tidy(np.sqrt(right.var(axis=1, ddof=1).sum()) / len(right)),
    }  # fmt: skip
    sd = _tidy(rates.std(ddof=1))
    unknown_ends = float("nan"), float("nan")
    row |= ratios.figures("accuracy_sd", (sd, *(sd_ends(sd, n, level) if sd else unknown_ends)))
    flips = (np.ptp(right, axis=1) > 0).astype(float)
    row |= ratios.figures("changed_rate", ratios.share(flips, codes, level))
    tokens = shared["_output_tokens"].fill_null(np.nan).to_numpy().reshape(-1, n)
    spread = tokens.std(axis=1, ddof=1)
    row |= ratios.figures("length_sd_tokens", ratios.mean(spread, codes, level, (0.0, np.inf)))
    return row | _texts(shared, n, codes, level)


def _tidy(sd: Any) -> float:
    return float(sd) if sd >= 1e-12 else 0.0


def sd_ends(sd: float, n: int, level: float) -> tuple[float, float]:
    """Give the interval of a standard deviation of n normal values: sd · √((n − 1) / χ²)."""
    from scipy import special

    tails = special.chdtri(n - 1, np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = sd * np.sqrt((n - 1) / tails)
    return float(low), float(high)


def _texts(
    shared: pl.DataFrame, n: int, codes: npt.NDArray[np.int64], level: float
) -> dict[str, Any]:
    """Find where the texts of each attempt part."""
    texts = shared.select(
        pl.when(pl.col("_thinking_text").is_not_null() | pl.col("_output_text").is_not_null()).then(
            pl.concat_str("_thinking_text", "_output_text", separator="\n", ignore_nulls=True)
        )
    ).to_series()
    known, places = np.zeros(len(codes), bool), []
    written = texts.to_list()
    for at in range(len(codes)):
        given = [t for t in written[at * n : (at + 1) * n] if t is not None]
        known[at] = len(given) > 1
        if known[at]:
            alike = given.count(given[0]) == len(given)
            places.append(None if alike else divergence([t.split() for t in given]))
    parted = np.array([p is not None for p in places], float)
    row: dict[str, Any] = {"n_texts": len(places)}
    row |= ratios.figures("diverging_rate", ratios.share(parted, codes[known], level))
    some = [p for p in places if p is not None]
    row["divergence_words"] = float(np.median(some)) if some else None
    return row


def divergence(responses: Sequence[Sequence[Any]]) -> int | None:
    """Give the first place, from 0, at which not all responses agree; None where they are alike.

    Where one is the beginning of another they part at its end (Div_Index of arXiv 2506.09501 §3.1).

    >>> divergence([(1, 2, 3, 4), (1, 2, 9, 4), (1, 2, 3, 7)])
    2
    """
    for place, parts in enumerate(zip(*responses, strict=False)):
        if any(part != parts[0] for part in parts):
            return place
    lengths = {len(r) for r in responses}
    return min(lengths) if len(lengths) > 1 else None
