"""Thinking length: its distribution, and whether longer thinking is more accurate."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_NO_SPREAD
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import intervals, ratios, survival
from workbench.analysis.stats.arrays import Bools, Floats, Ints
from workbench.schema import KEY_NULL, Column

_CUT = "too many were cut before, or fewer than two items"
_NO_FIT = "no fit: fewer than three distinct lengths, or no finite shape"
_ONE_SIDE = "none right, or none wrong"
_ROWS = (
    Column(
        "n_items", "int", "count", "Items with a trace whose thinking is known.", KEY_NULL, "items"
    ),
    Column("n", "int", "count", "Traces whose thinking tokens are known.", KEY_NULL, "traces"),
    Column(
        "n_censored",
        "int",
        "count",
        "Those of them that a limit cut while thinking.",
        KEY_NULL,
        "cut",
    ),
    *ends(
        Column(
            "reasoning_tokens",
            "float",
            "tokens",
            "Mean thinking tokens as seen; too low where some were cut.",
            KEY_NULL,
            "thinking tokens",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column("p10_tokens", "float", "tokens", "10th percentile, cuts allowed for.", _CUT, "p10"),
        _CUT,
    ),
    *ends(
        Column("p50_tokens", "float", "tokens", "Median, cuts allowed for.", _CUT, "median"), _CUT
    ),
    *ends(
        Column("p90_tokens", "float", "tokens", "90th percentile, cuts allowed for.", _CUT, "p90"),
        _CUT,
    ),
    Column(
        "gamma_shape",
        "float",
        doc="Shape of the fitted Gamma distribution.",
        null=_NO_FIT,
        title="Gamma shape",
    ),
    Column("gamma_scale_tokens", "float", "tokens", "Its scale.", _NO_FIT, "Gamma scale"),
    Column(
        "gamma_mean_tokens",
        "float",
        "tokens",
        "Its mean: how long thinking would be uncut.",
        _NO_FIT,
        "Gamma mean",
    ),
    Column(
        "gamma_distance",
        "float",
        "0..1",
        "Largest gap between the fit and the lengths seen.",
        _NO_FIT,
        "misfit",
    ),
    *ends(
        Column(
            "share_of_output",
            "float",
            "0..1",
            "Thinking tokens over output tokens.",
            "output unknown, or 0",
            "share of output",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    Column("n_right", "int", "count", "Right ones.", KEY_NULL, "right"),
    Column("n_wrong", "int", "count", "Wrong ones.", KEY_NULL, "wrong"),
    Column(
        "right_tokens",
        "float",
        "tokens",
        "Mean thinking tokens of the right ones.",
        "none right",
        "when right",
    ),
    Column(
        "wrong_tokens",
        "float",
        "tokens",
        "Mean thinking tokens of the wrong ones.",
        "none wrong",
        "when wrong",
    ),
    *ends(
        Column(
            "wrong_extra_tokens",
            "float",
            "tokens",
            "Mean of the wrong ones minus that of the right ones.",
            _ONE_SIDE,
            "wrong − right",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    Column(
        "n_mixed", "int", "count", "Items with right and wrong ones.", KEY_NULL, "items with both"
    ),
    *ends(
        Column(
            "wrong_extra_within_tokens",
            "float",
            "tokens",
            "The same within items that have both, so that hard items weigh on both sides.",
            "no item has both",
            "wrong − right, same item",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
)


@analysis(
    name="thinking-length",
    title="Thinking length",
    question="How long does it think, and is longer thinking right or wrong?",
    source="Kaplan & Meier 1958; Gamma lengths: Budget Guidance; Woodruff 1952 (intervals)",
    needs=("item_id",),
    measures=("reasoning_tokens", "output_tokens"),
    require=("reasoning_tokens",),
    scored=False,
    options=(
        Option(
            "budget_cuts",
            "flag",
            default=True,
            help="thinking that reached its budget counts as cut",
        ),
        LEVEL,
    ),
    columns=_ROWS,
    chart=ChartSpec("thinking_length", x="reasoning_tokens", y="group"),
    settles=Settles("wrong_extra_tokens", 0.0),
)
def thinking_length(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Describe the thinking tokens of each group's traces, the shortest median first.

    Grain: one row per group. All traces have equal weights, as in any distribution; failed ones and
    those whose thinking tokens are unknown are left out, unscored ones only of right against wrong.

    Cut: stop_reason is max_tokens (or limit_type tokens) and no visible token followed, or, with
    `budget_cuts`, the thinking reached its budget. Of a cut one only a lower bound is known: the
    percentiles are product-limit estimates (Kaplan–Meier), null where the cut came before, and the
    Gamma distribution is fitted with the upper tail as the likelihood of the cut ones
    (`gamma_distance` tells how far it is from what was seen). The mean, the share of the output and
    right against wrong are of the lengths as seen, and too low where there are cuts.

    Longer thinking goes with hard items: `wrong_extra_within_tokens` compares within items that
    have right and wrong traces. Intervals: t · SE of the linearised statistic, clustered by item,
    with one degree of freedom fewer than clusters, of the mean length corrected for skewness (Hall
    1992); percentiles after Woodruff. Lengths are skewed: where 95 are promised, the interval of
    `wrong_extra_tokens` holds the truth in 90 of 100 simulated studies of 30 items, 93 of 100 items
    and 94 of 500; that of the median in 96. What the thinking says (hedges, second thoughts, the
    question repeated) is counted by the analysis `markers`.
    """
    marked = frame.with_columns(is_cut=_cut(frame, budget=options["budget_cuts"]))
    rows = per_trace.fetch(
        marked, by, ("reasoning_tokens", "output_tokens"), flags=("passed", "is_cut")
    )
    rows, dropped = per_trace.keep_passing(rows, {"failed traces": ~pl.col("_failed")})
    groups = rows.select(by).unique()
    rows, unknown = per_trace.keep_passing(
        rows, {"traces without reasoning_tokens": pl.col("_reasoning_tokens").is_not_null()}
    )
    group_rows = [
        dict(zip(by, key, strict=True)) | _row(part, options["level"])
        for key, part in per_trace.parts(rows, by)
    ]
    silent = groups.join(rows.select(by).unique(), on=list(by), how="anti", nulls_equal=True)
    group_rows += [
        row | _nothing() for row in silent.sort(by, nulls_last=True).iter_rows(named=True)
    ]
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame(group_rows, schema=schema).sort(*first, "p50_tokens", *by, nulls_last=True)
    notes = _notes(rows)
    if table["wrong_extra_tokens_low"].count():
        fewest = min(table.filter(pl.col("wrong_extra_tokens_low").is_not_null())["n_items"])
        notes += intervals.few_items_notes(fewest, "what wrong traces think more", 90)
    return Answer(table, dropped=dropped | unknown, notes=notes)


def _notes(known: pl.DataFrame) -> tuple[str, ...]:
    cut = int(known["_is_cut"].sum()) if known.height else 0
    if not cut:
        return ()
    return (f"{cut} of {known.height} were cut while thinking: means as seen are too low",)


def _cut(frame: "nw.LazyFrame[Any]", *, budget: bool) -> "nw.Expr":
    """Whether thinking was still going on when a limit ended it."""
    present = frame.collect_schema().names()

    def known(test: "nw.Expr", *columns: str, otherwise: bool = False) -> "nw.Expr":
        if not set(columns) <= set(present):
            return nw.lit(value=otherwise)
        unknown = functools.reduce(operator.or_, [nw.col(c).is_null() for c in columns])
        return nw.when(unknown).then(nw.lit(value=otherwise)).otherwise(test)

    limited = known(nw.col("stop_reason") == "max_tokens", "stop_reason")
    limited |= known(nw.col("limit_type") == "tokens", "limit_type")
    spent = "output_tokens", "reasoning_tokens"
    cut = limited & known(nw.col(spent[0]) <= nw.col(spent[1]), *spent, otherwise=True)
    if not budget:
        return cut
    full = "reasoning_tokens", "thinking_budget_tokens"
    return cut | known(nw.col(full[0]) >= nw.col(full[1]), *full)


def _nothing() -> dict[str, Any]:
    """The row of a group whose thinking is never known."""
    counts = ("n_items", "n", "n_censored", "n_right", "n_wrong", "n_mixed")
    return dict.fromkeys(c.name for c in _ROWS) | dict.fromkeys(counts, 0)


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    x = part["_reasoning_tokens"].to_numpy()
    cut = part["_is_cut"].to_numpy()
    # Clusters from 0, so that they are counted, not sorted.
    codes = part.select(pl.col("_code") - pl.col("_code").min()).to_series().to_numpy()
    n_items = part["_item"].n_unique()
    row: dict[str, Any] = {"n_items": n_items, "n": len(x), "n_censored": int(cut.sum())}
    row |= ratios.figures("reasoning_tokens", ratios.mean(x, codes, level, ratios.AMOUNT))
    wanted = (10, 50, 90)
    sample = survival.count_lengths(x, cut)
    quantile_rows = survival.quantiles(sample, cut, codes, [p / 100 for p in wanted], level)
    for p, figures in zip(wanted, quantile_rows, strict=True):
        row |= _figures(f"p{p}_tokens", *figures)
    fit = survival.gamma(sample)
    if fit is not None:
        row |= {
            "gamma_shape": fit.shape,
            "gamma_scale_tokens": fit.scale,
            "gamma_mean_tokens": fit.mean,
            "gamma_distance": fit.distance,
        }
    right = part["_passed"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    scored = ~np.isnan(right)
    sides = x[scored], right[scored] > 0, codes[scored]
    row |= _share(x, part["_output_tokens"].fill_null(np.nan).to_numpy(), codes, level)
    return row | _right_and_wrong(*sides, part["_item"].to_numpy()[scored], level)


def _share(x: Floats, y: Floats, codes: Ints, level: float) -> dict[str, Any]:
    known = ~np.isnan(y)
    x, y, codes = x[known], y[known], codes[known]
    if not y.sum() > 0:
        return {}
    share = float(x.sum() / y.sum())
    row = _linear("share_of_output", share, (x - share * y) / y.mean(), codes, level)
    for end, bound in (("low", max), ("high", min)):
        value = row[f"share_of_output_{end}"]
        limit = 0.0 if end == "low" else 1.0
        row[f"share_of_output_{end}"] = None if value is None else bound(value, limit)
    return row


def _right_and_wrong(
    x: Floats, right: Bools, codes: Ints, items: Ints, level: float
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "n_mixed": 0,
    }
    means = {}
    for name, side in (("right", right), ("wrong", ~right)):
        if side.any():
            means[name] = row[f"{name}_tokens"] = float(x[side].mean())
    if len(means) < 2:
        return row
    n = len(x)
    influence = np.where(
        right, -(x - means["right"]) * n / right.sum(), (x - means["wrong"]) * n / (~right).sum()
    )
    extra = means["wrong"] - means["right"]
    row |= _linear("wrong_extra_tokens", extra, influence, codes, level)
    return row | _within(x, right, codes, items, level)


def _within(x: Floats, right: Bools, codes: Ints, items: Ints, level: float) -> dict[str, Any]:
    """Compare right and wrong traces of the same item, with equal weights of items."""
    of = 2 * items + right
    size = int(items.max()) + 1
    n, total = (np.bincount(of, v, 2 * size).reshape(size, 2) for v in (np.ones(len(x)), x))
    both: Bools = np.asarray((n > 0).all(axis=1))
    if not both.any():
        return {"n_mixed": 0}
    wrong, passed = (total[both] / n[both]).T
    d: Floats = np.asarray(wrong - passed)
    code = np.zeros(size, np.int64)
    code[items] = codes
    name = "wrong_extra_within_tokens"
    row = _linear(name, float(d.mean()), d - d.mean(), code[both], level)
    return row | {"n_mixed": len(d)}


def _linear(
    name: str, value: float, influence: Floats, codes: Ints, level: float
) -> dict[str, Any]:
    """Return a statistic with the interval that its influence function implies, clustered."""
    sums = np.bincount(codes, influence)
    n_clusters = int((np.bincount(codes) > 0).sum())
    se = intervals.clustered_se(sums[:, None], [len(influence)], [n_clusters])
    low, high = intervals.student([value], se, [n_clusters], level)
    spread = n_clusters > 1 and se[0] > 0
    nan = float("nan")
    return _figures(name, value, low[0] if spread else nan, high[0] if spread else nan)


def _figures(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    given = zip(("", "_low", "_high"), (value, low, high), strict=True)
    return {f"{name}{end}": None if np.isnan(v) else float(v) for end, v in given}
