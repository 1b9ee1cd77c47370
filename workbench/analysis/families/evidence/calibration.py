"""Calibration of confidences and of verifiers' scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_NO_SPREAD
from workbench.analysis.core.options import ERRORS, LEVEL
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.panel import divide
from workbench.analysis.stats import intervals, ratios
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NONE = "not known of any trace"
_SCALE = "not known, or not between 0 and 1"
_SIDES = "nothing right, or nothing wrong"
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
    Column(
        "mean_signal", "float", "", "Mean of what is judged.", _NONE, "mean confidence or score"
    ),
    Column("pass_rate", "float", "0..1", "Share of these traces that passed.", _NONE),
    Column(
        "auc",
        "float",
        "0..1",
        "Chance that a right trace has more of it than a wrong one, ties half.",
        _SIDES,
        "AUC",
    ),
    Column(
        "auc_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        f"{_SIDES}, or {FEW_ITEMS_OR_NO_SPREAD}",
        "AUC, low",
    ),
    Column(
        "auc_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        f"{_SIDES}, or {FEW_ITEMS_OR_NO_SPREAD}",
        "AUC, high",
    ),
    Column(
        "bias",
        "float",
        "",
        "Mean confidence minus pass rate: above 0 is overconfident.",
        _SCALE,
        "overconfidence",
    ),
    Column(
        "bias_low",
        "float",
        "",
        "Lower end of its interval.",
        f"{_SCALE}, or {FEW_ITEMS_OR_NO_SPREAD}",
        "overconfidence, low",
    ),
    Column(
        "bias_high",
        "float",
        "",
        "Upper end of its interval.",
        f"{_SCALE}, or {FEW_ITEMS_OR_NO_SPREAD}",
        "overconfidence, high",
    ),
    Column(
        "calibration_error",
        "float",
        "0..1",
        "Mean distance of confidence and pass rate over the bins.",
        _SCALE,
        "calibration error",
    ),
    Column(
        "brier_score",
        "float",
        "0..1",
        "Mean squared distance of confidence and outcome.",
        _SCALE,
        "Brier score",
    ),
)
_BINS = (
    Column("bin", "int", "", "Number of the bin, from 1.", KEY_NULL),
    Column("signal_from", "float", "", "Where the bin begins.", KEY_NULL, "from"),
    Column(
        "signal_to", "float", "", "Where it ends; the last one includes its end.", KEY_NULL, "to"
    ),
    Column(
        "pass_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "fewer than two items",
        "pass rate, low",
    ),
    Column(
        "pass_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "fewer than two items",
        "pass rate, high",
    ),
)
_BIN_ORDER = (
    "bin",
    "signal_from",
    "signal_to",
    "n_items",
    "n",
    "mean_signal",
    "pass_rate",
    "pass_rate_low",
    "pass_rate_high",
)


class _Blocks(NamedTuple):
    """Traces of a group gathered by item and signal, each (m,).

    Attributes:
        signal: what they have in common.
        n, passed: how many, and how many passed.
        cluster: the number of the item's cluster, from 0.
        item: the number of the item, from 0.
    """

    signal: Floats
    n: Floats
    passed: Floats
    cluster: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]


@analysis(
    name="calibration",
    title="Calibration",
    question="Can a confidence or a verifier's score be believed: does "
    "it tell right from wrong, and "
    "how often?",
    source="Murphy & Winkler 1977 (reliability); Hanley & McNeil 1982 (AUC); Obuchowski 1997 "
    "(clustered); Naeini et al. 2015 (calibration error); Brier 1950",
    needs=("item_id", "passed"),
    options=(
        Option(
            "signal",
            "choice",
            "confidence",
            "what is judged",
            choices=("confidence", "verifier_score"),
        ),
        Option("bins", "int", 10, "bins of equal width for the reliability", low=2, high=100),
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_BINS),
    example={"where": "strategy:self_consistency", "bins": 5},
    chart=ChartSpec("calibration", x="mean_signal", y="pass_rate"),
    settles=Settles("auc", 0.5),
)
def calibration(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare a signal with the observed outcomes.

    Grain: one row per group, in order of their names; `more["bins"]`: one row per group and bin
    that is not empty. Only scored traces with a known, finite signal count, with equal weights.

    Estimators: AUC, the chance that a right trace's signal exceeds a wrong one's, ties half (Mann &
    Whitney); 1 where it tells them apart, ½ where it says nothing. Bias is mean signal minus pass
    rate; calibration error the mean over bins, weighed by their traces, of |mean signal − pass
    rate|, which chance alone keeps above 0; Brier score the mean of (signal − outcome)². The last
    three need a signal between 0 and 1 and are null where it leaves that range; the bins then span
    its own range.

    Intervals respect that trials of an item, and items of a cluster, go together: AUC ± t · SE from
    the clusters' sums of placement values (Obuchowski 1997, eq. 3), bias ± t · SE, pass rates of
    bins Wilson's with the effective number of traces.
    """
    signal = options["signal"]
    rows = per_trace.fetch(frame, by, (signal,), flags=("passed",))
    groups = rows.select(by).unique().sort(by, nulls_last=True)
    known, dropped = _known(rows, signal, wrong=options["errors_as_wrong"])
    of_groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    bins = []
    for key, part in per_trace.parts(known, by):
        blocks = _blocks(part, signal)
        bin_rows = _bins(blocks, options)
        of_groups[key] = _row(blocks, bin_rows, options)
        bins += [dict(zip(by, key, strict=True)) | b for b in bin_rows]
    group_rows = [of_groups.get(key, {"n_items": 0, "n": 0}) for key in groups.iter_rows()]
    silent = [label(key) for key in groups.iter_rows() if key not in of_groups]
    declared = dict.fromkeys(c.name for c in _ROWS)
    table = pl.DataFrame([declared | row for row in group_rows], schema=empty((), _ROWS).schema)
    shapes = empty((), (*_ROWS, *_BINS)).schema
    shape = dict(groups.schema) | {name: shapes[name] for name in _BIN_ORDER}
    names = "; ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
    return Answer(
        pl.concat([groups, table], how="horizontal"),
        more={"bins": pl.DataFrame(bins, schema=shape)},
        dropped=dropped,
        notes=(f"no {signal} of {names}",) if silent else (),
    )


def _known(rows: pl.DataFrame, signal: str, *, wrong: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    """Keep the scored traces with a signal, failed ones as wrong by option; count the others."""
    tests = {"failed traces": ~pl.col("_failed")}
    if wrong:
        passed = pl.when("_failed").then(pl.lit(value=False)).otherwise("_passed")
        rows, tests = rows.with_columns(_passed=passed), {}
    tests |= {
        "unscored traces": pl.col("_passed").is_not_null(),
        f"traces without {signal}": pl.col(f"_{signal}").is_finite(),
    }
    return per_trace.keep_passing(rows, tests)


def _blocks(frame: pl.DataFrame, signal: str) -> _Blocks:
    """Take a group's traces as blocks of one."""
    cluster, item = (ratios.numbered(frame[c].to_numpy()) for c in ("_code", "_item"))
    passed = frame["_passed"].cast(pl.Float64).to_numpy()
    return _Blocks(frame[f"_{signal}"].to_numpy(), np.ones(len(passed)), passed, cluster, item)


def _row(blocks: _Blocks, bins: list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    n = float(blocks.n.sum())
    level = options["level"]
    mean = float((blocks.n @ blocks.signal) / n)
    rate = float(blocks.passed.sum() / n)
    row: dict[str, Any] = {
        "n_items": int(blocks.item.max()) + 1,
        "n": int(n),
        "mean_signal": mean,
        "pass_rate": rate,
    }
    area, se = auc(blocks.signal, blocks.passed, blocks.n - blocks.passed, blocks.cluster)
    clusters = int(blocks.cluster.max()) + 1
    if area is not None:
        row["auc"] = area
        row |= _ends("auc", area, se, clusters, level)
    if blocks.signal.min() < 0 or blocks.signal.max() > 1:
        return row
    gap = blocks.n * (blocks.signal - (mean - rate)) - blocks.passed
    sums = np.bincount(blocks.cluster, gap)[:, None]
    bias_se = float(intervals.clustered_se(sums, [n], [clusters])[0])
    row["bias"] = mean - rate
    row |= _ends("bias", mean - rate, bias_se, clusters, level, least=-1.0)
    squares = blocks.passed * (1 - blocks.signal) ** 2
    squares += (blocks.n - blocks.passed) * blocks.signal**2
    row["brier_score"] = float(squares.sum() / n)
    off = [b["n"] * abs(b["mean_signal"] - b["pass_rate"]) for b in bins]
    row["calibration_error"] = sum(off) / n
    return row


def _ends(
    name: str, value: float, se: float, clusters: int, level: float, *, least: float = 0.0
) -> dict[str, float]:
    if clusters < 2 or not se > 1e-12:
        return {}
    low, high = (float(x) for x in intervals.student(value, se, clusters, level))
    return {f"{name}_low": max(low, least), f"{name}_high": min(high, 1.0)}


def auc(
    signal: Floats, right: Floats, wrong: Floats, cluster: npt.NDArray[np.int64]
) -> tuple[float | None, float]:
    """Area under the ROC curve, and its standard error for clustered observations.

    SE² = C / (C − 1) Σ_c [Σ (V₁₀ − A) / m + Σ (V₀₁ − A) / n]², with placement values V over the m
    right and n wrong traces of each cluster (Obuchowski 1997, Biometrics 53:567; DeLong et al. 1988
    where every trace is its own cluster).

    Args:
        signal: (m,) what a block of traces has in common.
        right: (m,) how many of the block are right.
        wrong: (m,) how many are wrong.
        cluster: (m,) whole numbers from 0.

    Returns:
        The area and its standard error; None and NaN where nothing is right or nothing wrong.
    """
    n_right = right.sum()
    n_wrong = wrong.sum()
    if n_right == 0 or n_wrong == 0:
        return None, float("nan")
    _, place = np.unique(signal, return_inverse=True)
    at_right = np.bincount(place, right)
    at_wrong = np.bincount(place, wrong)
    # The share of the other side that a signal exceeds, or is exceeded by; ties half.
    exceeds = (np.cumsum(at_wrong) - at_wrong / 2) / n_wrong
    exceeded = 1 - (np.cumsum(at_right) - at_right / 2) / n_right
    area = float(at_right @ exceeds / n_right)
    parts = right * (exceeds[place] - area) / n_right + wrong * (exceeded[place] - area) / n_wrong
    sums = np.bincount(cluster, parts)
    count = np.count_nonzero(np.bincount(cluster))
    variance = count / (count - 1) * (sums**2).sum() if count > 1 else np.nan
    return area, float(np.sqrt(variance))


def _bins(blocks: _Blocks, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Sum up the blocks in bins of equal width; empty bins are left out."""
    low = min(0.0, blocks.signal.min())
    high = max(1.0, blocks.signal.max())
    if low < 0 or high > 1:
        low = blocks.signal.min()
        high = blocks.signal.max()
    edges = np.linspace(low, high, options["bins"] + 1).round(12)
    # Edges are decimal: .3 begins the bin from .3 on, though 3 · 0.1 is above 0.3 in binary.
    place = ((blocks.signal - low) / (high - low) * options["bins"]).round(9)
    which = np.clip(place.astype(np.int64), 0, options["bins"] - 1)
    n, passed, mean = (
        np.bincount(which, weights, options["bins"])
        for weights in (blocks.n, blocks.passed, blocks.n * blocks.signal)
    )
    rate = divide(passed, n)
    n_clusters = int(blocks.cluster.max()) + 1
    # Per bin and item, and per bin and cluster.
    items = np.bincount(which + options["bins"] * blocks.item).astype(bool)
    place = which + options["bins"] * blocks.cluster
    size = options["bins"] * n_clusters
    met = np.bincount(place, minlength=size).reshape(n_clusters, -1) > 0
    residual = blocks.passed - rate[which] * blocks.n
    sums = np.bincount(place, residual, size).reshape(n_clusters, -1)
    n_items = np.bincount(np.flatnonzero(items) % options["bins"], minlength=options["bins"])
    clusters = met.sum(axis=0)
    se = intervals.clustered_se(sums, n, clusters)
    ends = intervals.clustered_share(rate, se, clusters, options["level"])
    return [
        {
            "bin": int(b) + 1,
            "signal_from": float(edges[b]),
            "signal_to": float(edges[b + 1]),
            "n_items": int(n_items[b]),
            "n": int(n[b]),
            "pass_rate": float(rate[b]),
            "mean_signal": float(mean[b] / n[b]),
            "pass_rate_low": float(ends[0][b]) if clusters[b] > 1 else None,
            "pass_rate_high": float(ends[1][b]) if clusters[b] > 1 else None,
        }
        for b in np.flatnonzero(n)
    ]
