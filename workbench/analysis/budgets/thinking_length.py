"""How long models think, and whether longer is better."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis import fetched, intervals, lengths
from workbench.analysis.options import LEVEL
from workbench.analysis.registry import ChartSpec, Option, analysis
from workbench.analysis.result import DTYPES, Answer
from workbench.analysis.sample import ends
from workbench.schema import KEY_NULL, Column

C = Column
Floats = lengths.Floats
_FEW = "fewer than two items, or no spread"
_CUT = "too many were cut before, or fewer than two items"
_NO_FIT = "no fit: fewer than three distinct lengths, or no finite shape"
_ONE_SIDE = "none right, or none wrong"
_ROWS = (
    C("n_items", "int", "count", "Items with a trace whose thinking is known.", KEY_NULL, "items"),
    C("n", "int", "count", "Traces whose thinking tokens are known.", KEY_NULL, "traces"),
    C("n_censored", "int", "count", "Those of them that a limit cut while thinking.", KEY_NULL, "cut"),
    *ends(C("reasoning_tokens", "float", "tokens", "Mean thinking tokens as seen; too low where some were cut.", KEY_NULL, "thinking tokens"), _FEW),
    *ends(C("p10_tokens", "float", "tokens", "10th percentile, cuts allowed for.", _CUT, "p10"), _CUT),
    *ends(C("p50_tokens", "float", "tokens", "Median, cuts allowed for.", _CUT, "median"), _CUT),
    *ends(C("p90_tokens", "float", "tokens", "90th percentile, cuts allowed for.", _CUT, "p90"), _CUT),
    C("gamma_shape", "float", doc="Shape of the fitted Gamma distribution.", null=_NO_FIT, title="Gamma shape"),
    C("gamma_scale_tokens", "float", "tokens", "Its scale.", _NO_FIT, "Gamma scale"),
    C("gamma_mean_tokens", "float", "tokens", "Its mean: how long thinking would be uncut.", _NO_FIT, "Gamma mean"),
    C("gamma_distance", "float", "0..1", "Largest gap between the fit and the lengths seen.", _NO_FIT, "misfit"),
    *ends(C("share_of_output", "float", "0..1", "Thinking tokens over output tokens.", "output unknown, or 0", "share of output"), _FEW),
    C("n_right", "int", "count", "Right ones.", KEY_NULL, "right"),
    C("n_wrong", "int", "count", "Wrong ones.", KEY_NULL, "wrong"),
    C("right_tokens", "float", "tokens", "Mean thinking tokens of the right ones.", "none right", "when right"),
    C("wrong_tokens", "float", "tokens", "Mean thinking tokens of the wrong ones.", "none wrong", "when wrong"),
    *ends(C("wrong_extra_tokens", "float", "tokens", "Mean of the wrong ones minus that of the right ones.", _ONE_SIDE, "wrong − right"), _FEW),
    C("n_mixed", "int", "count", "Items with right and wrong ones.", KEY_NULL, "items with both"),
    *ends(C("wrong_extra_within_tokens", "float", "tokens", "The same within items that have both, so that hard items weigh on both sides.", "no item has both", "wrong − right, same item"), _FEW),
)  # fmt: skip


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
        Option("budget_cuts", "flag", default=True, help="thinking that reached its budget counts as cut"),
        LEVEL,
    ),
    columns=_ROWS,
    chart=ChartSpec("thinking_length", x="reasoning_tokens", y="group"),
)  # fmt: skip
def thinking_length(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Describe the thinking tokens of each group's traces, the shortest median first.

    Grain: one row per group. All traces weigh alike, as in any distribution; failed ones and those
    whose thinking tokens are unknown are left out, unscored ones only of right against wrong.

    Cut: stop_reason is max_tokens (or limit_type tokens) and no visible token followed, or, with
    `budget_cuts`, the thinking reached its budget. Of a cut one only a lower bound is known: the
    percentiles are product-limit estimates (Kaplan–Meier), null where the cut came before, and the
    Gamma distribution is fitted with the upper tail as the likelihood of the cut ones
    (`gamma_distance` tells how far it is from what was seen). The mean, the share of the output and
    right against wrong are of the lengths as seen, and too low where there are cuts.

    Longer thinking goes with hard items: `wrong_extra_within_tokens` compares within items that have
    right and wrong traces. Intervals: t · SE of the linearised statistic, clustered by item, with
    one degree of freedom fewer than clusters; percentiles after Woodruff. Hedging and echo markers
    need the transcripts and are not counted here.
    """
    rows = fetched.fetch(
        frame, by, ("reasoning_tokens", "output_tokens", "thinking_budget_tokens"),
        texts=("stop_reason", "limit_type"), flags=("passed",),
    )  # fmt: skip
    done = rows.filter(~pl.col("_failed"))
    known = done.filter(pl.col("_reasoning_tokens").is_not_null())
    known = known.with_columns(_cut=_cut(budget=options["budget_cuts"]))
    found = [
        dict(zip(by, key, strict=True)) | _row(part, options["level"])
        for key, part in fetched.parts(known, by)
    ]
    silent = (
        done.select(by)
        .unique()
        .join(known.select(by).unique(), on=list(by), how="anti", nulls_equal=True)
    )
    found += [row | _nothing() for row in silent.sort(by, nulls_last=True).iter_rows(named=True)]
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame(found, schema=schema).sort(*first, "p50_tokens", *by, nulls_last=True)
    dropped = {
        "failed traces": rows.height - done.height,
        "traces without reasoning_tokens": done.height - known.height,
    }
    return Answer(table, dropped=dropped, notes=_notes(known))


def _notes(known: pl.DataFrame) -> tuple[str, ...]:
    cut = int(known["_cut"].sum()) if known.height else 0
    if not cut:
        return ()
    return (f"{cut} of {known.height} were cut while thinking: means as seen are too low",)


def _cut(*, budget: bool) -> pl.Expr:
    """Whether thinking was still going on when a limit ended it."""
    limited = pl.col("_stop_reason").eq("max_tokens").fill_null(value=False)
    limited |= pl.col("_limit_type").eq("tokens").fill_null(value=False)
    silent = (pl.col("_output_tokens") <= pl.col("_reasoning_tokens")).fill_null(value=True)
    cut = limited & silent
    if budget:
        full = pl.col("_reasoning_tokens") >= pl.col("_thinking_budget_tokens")
        cut |= full.fill_null(value=False)
    return cut


def _nothing() -> dict[str, Any]:
    """The row of a group whose thinking is never known."""
    counts = ("n_items", "n", "n_censored", "n_right", "n_wrong", "n_mixed")
    return dict.fromkeys(c.name for c in _ROWS) | dict.fromkeys(counts, 0)


def _row(part: pl.DataFrame, level: float) -> dict[str, Any]:
    x, cut, codes = (part[c].to_numpy() for c in ("_reasoning_tokens", "_cut", "_code"))
    row: dict[str, Any] = {
        "n_items": part["_item"].n_unique(), "n": len(x), "n_censored": int(cut.sum()),
    }  # fmt: skip
    row |= _linear("reasoning_tokens", float(x.mean()), x - x.mean(), codes, level)
    wanted = (10, 50, 90)
    found = lengths.quantiles(x, cut, codes, [p / 100 for p in wanted], level)
    for p, figures in zip(wanted, found, strict=True):
        row |= _figures(f"p{p}_tokens", *figures)
    fit = lengths.gamma(x, cut)
    if fit is not None:
        row |= {
            "gamma_shape": fit.shape, "gamma_scale_tokens": fit.scale,
            "gamma_mean_tokens": fit.mean, "gamma_distance": fit.distance,
        }  # fmt: skip
    return row | _share(part, level) | _right_and_wrong(part, level)


def _share(part: pl.DataFrame, level: float) -> dict[str, Any]:
    known = part.filter(pl.col("_output_tokens").is_not_null())
    x, y = known["_reasoning_tokens"].to_numpy(), known["_output_tokens"].to_numpy()
    if not y.sum() > 0:
        return {}
    share = float(x.sum() / y.sum())
    influence = (x - share * y) / y.mean()
    row = _linear("share_of_output", share, influence, known["_code"].to_numpy(), level)
    for end, bound in (("low", max), ("high", min)):
        value = row[f"share_of_output_{end}"]
        limit = 0.0 if end == "low" else 1.0
        row[f"share_of_output_{end}"] = None if value is None else bound(value, limit)
    return row


def _right_and_wrong(part: pl.DataFrame, level: float) -> dict[str, Any]:
    scored = part.filter(pl.col("_passed").is_not_null())
    x, right = scored["_reasoning_tokens"].to_numpy(), scored["_passed"].to_numpy().astype(bool)
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
    row |= _linear("wrong_extra_tokens", extra, influence, scored["_code"].to_numpy(), level)
    return row | _within(scored, level)


def _within(scored: pl.DataFrame, level: float) -> dict[str, Any]:
    """Compare right and wrong traces of the same item, items weighing alike."""
    mean = pl.col("_reasoning_tokens").filter
    both = (
        scored.group_by("_item", maintain_order=True)
        .agg(
            (mean(~pl.col("_passed")).mean() - mean(pl.col("_passed")).mean()).alias("_extra"),
            pl.col("_code").first(),
        )
        .drop_nulls("_extra")
    )
    if both.is_empty():
        return {"n_mixed": 0}
    d = both["_extra"].to_numpy()
    row = _linear(
        "wrong_extra_within_tokens", float(d.mean()), d - d.mean(), both["_code"].to_numpy(), level
    )
    return row | {"n_mixed": both.height}


def _linear(
    name: str, value: float, influence: Floats, codes: lengths.Ints, level: float
) -> dict[str, Any]:
    """Give a statistic with the interval that its influence function implies, clustered."""
    _, places = np.unique(codes, return_inverse=True)
    sums = np.bincount(places, weights=influence)
    se = intervals.clustered_se(sums[:, None], [len(influence)])
    low, high = intervals.student([value], se, [len(sums)], level)
    spread = len(sums) > 1 and se[0] > 0
    nan = float("nan")
    return _figures(name, value, low[0] if spread else nan, high[0] if spread else nan)


def _figures(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    given = zip(("", "_low", "_high"), (value, low, high), strict=True)
    return {f"{name}{end}": None if np.isnan(v) else float(v) for end, v in given}
