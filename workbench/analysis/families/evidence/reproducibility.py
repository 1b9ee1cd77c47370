"""Reproducibility of the answers of a configuration under other runtime settings."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import engine, per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Ints
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, TRACE_FACTS, Column

_READ = 128  # bytes of texts that are compared at a time
_SPACE = ord(" ")
_ONE = "one setting, or no attempt made under all of them"
_NULL_IF_FEW = "fewer than two items, or one setting"
_NO_TEXT = "no text under two settings"
# White space that is not one plain space, of all that Python splits words at.
_ALL = (
    r"\x09-\x0d\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}"
    r"\x{202f}\x{205f}\x{3000}"
)
_SPACES = f"[{_ALL}][ {_ALL}]*| [ {_ALL}]+"
_ROWS = (
    Column("n_settings", "int", "count", "Settings: values of `setting`.", KEY_NULL, "settings"),
    Column(
        "n_items", "int", "count", "Items tried, and scored, under all of them.", KEY_NULL, "items"
    ),
    Column(
        "n",
        "int",
        "count",
        "Attempts (item and trial) made under all of them.",
        KEY_NULL,
        "attempts",
    ),
    Column("pass_rate", "float", "0..1", "Mean over settings of the share of right ones.", _ONE),
    *ends(
        Column(
            "accuracy_sd",
            "float",
            "0..1",
            "Sample standard deviation of the settings' pass rates (Std@Acc).",
            _ONE,
            "sd of the pass rate",
        ),
        "one setting, or no spread",
    ),
    Column(
        "accuracy_range",
        "float",
        "0..1",
        "Highest minus lowest pass rate.",
        _ONE,
        "range of the pass rate",
    ),
    Column(
        "chance_sd",
        "float",
        "0..1",
        "The sd that independent changes of single attempts, as often as seen, would give.",
        _ONE,
        "sd by chance",
    ),
    *ends(
        Column(
            "changed_rate",
            "float",
            "0..1",
            "Share of attempts right under one setting and wrong under another.",
            _ONE,
            "attempts that flip",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "length_sd_tokens",
            "float",
            "tokens",
            "Mean over attempts of the sample standard deviation of the output tokens "
            "(Avg_Std@Output_Length).",
            "output tokens unknown, or one setting",
            "sd of the length",
        ),
        "fewer than two items, or no spread",
    ),
    *ends(
        Column(
            "diverging_rate",
            "float",
            "0..1",
            "Share of attempts whose texts differ between settings.",
            _NO_TEXT,
            "texts that diverge",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "n_texts",
        "int",
        "count",
        "Attempts with text under two settings or more.",
        KEY_NULL,
        "attempts with texts",
    ),
    Column(
        "divergence_words",
        "float",
        "count",
        "Median place of the first word that differs, from 0; texts that are alike are left out.",
        "none diverges",
        "place of divergence",
    ),
)
_SETTINGS = (
    Column("setting", "text", doc="The setting.", null="not known"),
    Column("rate", "float", "0..1", "Pass rate on the shared attempts.", _ONE, "pass rate"),
    Column(
        "mean_tokens", "float", "tokens", "Mean output tokens of them.", "unknown", "output tokens"
    ),
)


@analysis(
    name="reproducibility",
    title="Reproducibility",
    question="How far do accuracy, length and text spread over runtime settings, and where do "
    "outputs part?",
    source="Yuan et al. 2025, arXiv 2506.09501 (Std@Acc, Avg_Std@Output_Length, Div_Index); words "
    "stand for tokens, and the sd of the top-1 probability is not given: neither is recorded",
    needs=("item_id", "passed"),
    options=(
        Option(
            "setting",
            "text",
            "run_id",
            "the column that tells runtime settings apart: run_id, provider, precision, "
            "effort, trial …",
        ),
        LEVEL,
    ),
    columns=(*_ROWS, *_SETTINGS),
    rows="trace_texts",
    chart=ChartSpec(
        "figures",
        x="accuracy_sd",
        y="group",
        also=("changed_rate", "diverging_rate", "length_sd_tokens"),
    ),
    settles=Settles("accuracy_sd", better="less", unit="settings", n="n_settings"),
    example={
        "by": ("model", "strategy"),
        "where": "strategy:direct,cot,think,budgeted",
        "setting": "trial",
    },
)
def reproducibility(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare the same attempts, item and trial, under all values of a setting.

    Grain: one row per group; `more["settings"]`: one row per group and setting. Failed and unscored
    traces are left out, and what was not tried under every setting of its group. If the setting is
    `trial` itself, an attempt is an item. Where a setting holds an attempt twice, the one with the
    first id stands.

    Estimators: sample standard deviations (one less in the denominator) of pass rates over
        settings,
    and of output tokens over settings, averaged over attempts; below 1e-12 they are 0. Sd by
    chance: √(Σ s²) / n with s² an attempt's variance over settings: what single attempts that
        change without
    regard to each other would give; a larger sd of the pass rate says that a setting shifts them
    together. Divergence: the first word, counted from 0, at which not all texts (thinking, then
    answer) agree; where one text ends there, its end. Greedy decoding should give 0 throughout.

    Intervals: the sd's is that of n normal values, √(χ²), for settings that are a sample of those
    that might be; with few settings it is wide. Rates Wilson's with the effective number of items,
    lengths t · SE corrected for skewness (Hall 1992).
    """
    setting = options["setting"]
    present = frame.collect_schema().names()
    if setting not in present and setting not in TRACE_FACTS.names:
        raise AnalysisError(unknown_name("column of option setting", setting, present))
    setting_column = nw.col(setting) if setting in present else nw.lit(None)
    frame = frame.with_columns(setting_column.cast(nw.String).alias("_setting"))
    keys = () if setting == "trial" else ("trial",)
    compared = _compared(frame, by, keys, options["level"])
    if compared is None:
        frame = _firsts(frame, (*by, "item_id", *keys, "_setting"))
        compared = _compared(frame, by, keys, options["level"])
        assert compared is not None
    comparisons, settings, dropped, names = compared
    shape = names | {c.name: DTYPES[c.type] for c in _ROWS}
    lone = sum(row["n_settings"] < 2 for row in comparisons)
    notes = (
        (
            (
                f"{lone} of {len(comparisons)} groups have one value of {setting}: group by what "
                "stays the same, as model"
            ),
        )
        if lone
        else ()
    )
    return Answer(
        pl.DataFrame([dict.fromkeys(shape) | row for row in comparisons], schema=shape),
        more={
            "settings": pl.DataFrame(
                settings, schema=names | {c.name: DTYPES[c.type] for c in _SETTINGS}
            )
        },
        dropped=dropped,
        notes=notes,
    )


def _compared(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], keys: Sequence[str], level: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int], Any] | None:
    """Compare group by group; null where a setting holds an attempt twice.

    Returns:
        Rows of groups and of their settings, what was left out, and the types of the `by` columns.
    """
    # The texts first: grouping them takes room that the rows would hold.
    of_texts = dict(per_trace.parts(_texts(frame, by, keys), by))
    rows, dropped = _attempts(frame, by, keys)
    comparisons = []
    settings = []
    lost = 0
    for key, part in per_trace.parts(rows, by):
        n = part["_place"].n_unique()
        shared = _shared(part, n)
        if shared is None:
            return None
        lost += part.height - shared.height
        names = dict(zip(by, key, strict=True))
        row = _row(shared, n, level)
        if n > 1 and shared.height:
            row |= _divergences(of_texts[key].filter(pl.col("_n") == n), level)
        comparisons.append(names | row)
        settings += [names | setting_names for setting_names in _settings(shared)]
    dropped |= {"traces not made under every setting": lost}
    return comparisons, settings, dropped, {c: rows.schema[c] for c in by}


def _shared(part: pl.DataFrame, n: int) -> pl.DataFrame | None:
    """Keep the attempts that all n settings have; null where a setting has one twice."""
    attempt = part["_attempt"].to_numpy()
    place = part["_place"].to_numpy()
    cell = attempt * (int(place.max(initial=0)) + 1) + place
    order = np.argsort(cell)
    if (np.diff(cell[order]) == 0).any():
        return None
    attempt = attempt[order]
    begins = np.flatnonzero(np.append(True, attempt[1:] != attempt[:-1])[: len(attempt)])
    n_of = np.diff(np.append(begins, len(attempt)))
    return part.select(pl.all().gather(order[np.repeat(n_of == n, n_of)]))


def _settings(shared: pl.DataFrame) -> list[dict[str, Any]]:
    """Average each setting over the shared attempts."""
    by_place = shared.group_by("_place").agg(
        pl.col("__setting").first().alias("setting"),
        pl.col("_passed").mean().alias("rate"),
        pl.col("_output_tokens").mean().alias("mean_tokens"),
    )
    return by_place.drop("_place").sort("setting").to_dicts()


def _attempts(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], keys: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fetch scored traces with the numbers of attempt and setting, `_attempt` and `_place`."""
    rows = per_trace.fetch(
        frame, by, ("output_tokens", *keys), texts=("_setting",), flags=("passed",)
    )
    rows, dropped = per_trace.keep_passing(
        rows,
        {"failed traces": ~pl.col("_failed"), "unscored traces": pl.col("_passed").is_not_null()},
    )
    place = engine.ranks(rows["__setting"]).fill_null(0).cast(pl.Int32)
    attempt = pl.col("_item").cast(pl.Int64)
    for key in keys:
        number = pl.col(f"_{key}").cast(pl.Int64)
        number = (number - number.min() + 1).fill_null(0)
        attempt = attempt * (number.max() + 1) + number
    rows = rows.with_columns(_attempt=attempt, _place=place)
    return rows.drop("_failed", *(f"_{key}" for key in keys)), dropped


def _firsts(frame: "nw.LazyFrame[Any]", keys: Sequence[str]) -> "nw.LazyFrame[Any]":
    """Keep the scored trace with the first id of those made alike."""
    scored_traces = _scored(frame)
    return scored_traces.filter(
        nw.col("trace_id") == nw.col("trace_id").min().over(*dict.fromkeys(keys))
    )


def _scored(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    if "error_type" in frame.collect_schema().names():
        frame = frame.filter(nw.col("error_type").is_null())
    return frame.filter(~nw.col("passed").is_null())


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
        "pass_rate": float(rates.mean()),
        "accuracy_range": float(np.ptp(rates)),
        "chance_sd": _tidy(np.sqrt(right.var(axis=1, ddof=1).sum()) / len(right)),
    }
    sd = _tidy(rates.std(ddof=1))
    unknown_ends = float("nan"), float("nan")
    row |= ratios.figures("accuracy_sd", (sd, *(sd_ends(sd, n, level) if sd else unknown_ends)))
    flips = (np.ptp(right, axis=1) > 0).astype(float)
    row |= ratios.figures("changed_rate", ratios.share(flips, codes, level))
    tokens = shared["_output_tokens"].fill_null(np.nan).to_numpy().reshape(-1, n)
    spread = tokens.std(axis=1, ddof=1)
    return row | ratios.figures(
        "length_sd_tokens", ratios.mean(spread, codes, level, ratios.AMOUNT)
    )


def _tidy(sd: Any) -> float:
    return float(sd) if sd >= 1e-12 else 0.0


def sd_ends(sd: float, n: int, level: float) -> tuple[float, float]:
    """Compute the interval of a standard deviation of n normal values: sd · √((n − 1) / χ²)."""
    from scipy import special

    tails = special.chdtri(n - 1, np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = sd * np.sqrt((n - 1) / tails)
    return float(low), float(high)


def _texts(frame: "nw.LazyFrame[Any]", by: Sequence[str], keys: Sequence[str]) -> pl.DataFrame:
    """Compare the texts of each attempt where the data are: `_n` traces, `_known` texts, `_parted`.

    Of texts in order the first and the last differ where any two do: what all begin with, those
    begin with.
    """
    present = frame.collect_schema().names()
    for column in ("thinking_text", "output_text"):
        if column not in present:
            frame = frame.with_columns(nw.lit(None, nw.String).alias(column))
    parts = nw.col("thinking_text"), nw.col("output_text")
    text = nw.concat_str(*parts, separator=" ", ignore_nulls=True)
    text = text.str.replace_all(_SPACES, " ").str.strip_chars(" ")
    hashed = _scored(frame).with_columns(
        _text=nw.when(~parts[0].is_null() | ~parts[1].is_null()).then(text), _item=nw.col("item_id")
    )
    item_columns = [c for c in ("task_id", "cluster") if c in present and c not in by]
    grouped = hashed.group_by(*dict.fromkeys((*by, "_item", *keys))).agg(
        nw.len().alias("n"),
        nw.col("_text").count().alias("known"),
        nw.col("_text").min().alias("low"),
        nw.col("_text").max().alias("high"),
        *[nw.col(c).max() for c in item_columns],
    )
    alike = nw.col("low") == nw.col("high")
    hashed = grouped.with_columns(
        item_id=nw.col("_item"), **{c: nw.when(~alike).then(nw.col(c)) for c in ("low", "high")}
    )
    return per_trace.fetch(hashed, by, ("n", "known"), texts=("low", "high"), transform=_read)


def _read(attempts: pl.DataFrame) -> pl.DataFrame:
    """Find where texts part; `_parted` is null where they are alike."""
    at = attempts["_low"].is_not_null().arg_true()
    low, high = (attempts[c].gather(at).cast(pl.Binary).to_list() for c in ("_low", "_high"))
    places = pl.Series([None], dtype=pl.Int32).new_from_index(0, attempts.height)
    parted = places.scatter(at, partings(low, high))
    return attempts.drop("_low", "_high").with_columns(_parted=parted)


def _divergences(attempts: pl.DataFrame, level: float) -> dict[str, Any]:
    """Sum up where the texts of attempts part."""
    known = attempts.filter(pl.col("_known") > 1)
    parted = known["_parted"]
    row: dict[str, Any] = {"n_texts": known.height}
    row |= ratios.figures(
        "diverging_rate",
        ratios.share(
            parted.is_not_null().cast(pl.Float64).to_numpy(), known["_code"].to_numpy(), level
        ),
    )
    row["divergence_words"] = parted.median()
    return row


def partings(low: Sequence[bytes], high: Sequence[bytes]) -> Ints:
    """Find the first word, from 0, at which the two texts of each pair differ, or one ends.

    Args:
        low: (n,) the text of a pair that comes first in order, in UTF-8, single spaces between its
            words.
        high: (n,) the other one, which differs.

    >>> partings([b"one two four", b"one"], [b"one two three", b"one two"])
    array([2, 1])
    """
    ends = np.fromiter(map(len, low), np.int64, len(low))
    shorter = np.minimum(ends, np.fromiter(map(len, high), np.int64, len(high)))
    words = np.zeros(len(low), np.int64)
    remaining = np.arange(len(low))
    start = 0
    while len(remaining):
        a, b = (_letters(texts, remaining, start) for texts in (low, high))
        differ = a != b
        first = np.where(differ.any(axis=1), differ.argmax(axis=1), _READ)
        same = np.minimum(first, shorter[remaining] - start)
        words[remaining] += ((a == _SPACE) & (np.arange(_READ) < same[:, None])).sum(axis=1)
        (done,) = np.nonzero(same < _READ)
        ended = start + same[done] == ends[remaining[done]]
        words[remaining[done]] += ended & (b[done, same[done]] == _SPACE)
        remaining, start = np.delete(remaining, done), start + _READ
    return words


def _letters(texts: Sequence[bytes], which: Ints, start: int) -> npt.NDArray[np.uint8]:
    """Read the next bytes of some texts: (len(which), _READ), 0 after the end of a text."""
    pieces = [texts[k][start : start + _READ] for k in which.tolist()]
    return np.array(pieces, f"S{_READ}").view(np.uint8).reshape(-1, _READ)
