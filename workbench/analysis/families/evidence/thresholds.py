"""Thresholds on a confidence: whether one has the same meaning for every group."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NONE = "no confidence known"
_ROWS = (
    Column("n_items", "int", "count", "Items.", KEY_NULL, "items"),
    Column("n", "int", "count", "Scored traces with a known confidence.", KEY_NULL, "traces"),
    Column(
        "own_threshold",
        "float",
        "",
        "The lowest threshold from which at least `wanted` of the group's accepted traces "
        "are right.",
        "no threshold reaches it, or no confidence known",
        "its own threshold",
    ),
    Column(
        "own_accepted",
        "float",
        "0..1",
        "Share of its traces that this threshold accepts.",
        "no threshold reaches it",
        "accepted at its own",
    ),
    Column(
        "common_threshold",
        "float",
        "",
        "The same threshold for all groups' traces together.",
        "no threshold reaches it",
        "common threshold",
    ),
    *ends(
        Column(
            "precision_common",
            "float",
            "0..1",
            "Share of its traces accepted at the common threshold that are right.",
            "none accepted",
            "right among the accepted",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "accepted_common",
            "float",
            "0..1",
            "Share of its traces that the common threshold accepts.",
            _NONE,
            "accepted",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "utility_common",
            "float",
            "0..1",
            "Share handled right at the common threshold: accepted and right, or refused "
            "and wrong.",
            _NONE,
            "handled right",
        ),
        FEW_ITEMS,
    ),
)
_TOTALS = (
    Column(
        "inconsistency",
        "float",
        "",
        "Variance over groups of the share handled right, averaged over the thresholds.",
        "fewer than two groups",
        "threshold inconsistency",
    ),
    Column(
        "precision_spread",
        "float",
        "0..1",
        "Highest minus lowest share of right ones among the accepted, at the common threshold.",
        "fewer than two groups",
        "spread of precision",
    ),
    Column(
        "threshold_spread",
        "float",
        "",
        "Highest minus lowest of the groups' own thresholds.",
        "fewer than two groups reach it",
        "spread of thresholds",
    ),
    Column("n_groups", "int", "count", "Groups with a known confidence.", KEY_NULL, "groups"),
)


@analysis(
    name="thresholds",
    title="Threshold consistency",
    question="Does one threshold on the confidence mean the same for "
    "every group, or does each need "
    "its own?",
    source="the figures are ours: precision, share accepted and share handled right at one "
    "threshold, and their spread over groups",
    needs=("item_id", "passed"),
    options=(
        Option(
            "signal",
            "choice",
            "confidence",
            "what the threshold is on",
            choices=("confidence", "verifier_score"),
        ),
        Option(
            "wanted", "float", 0.9, "share of the accepted that should be right", low=0.01, high=1.0
        ),
        Option(
            "grid",
            "int",
            101,
            "thresholds tried for the inconsistency, from the lowest signal to the highest",
            low=3,
            high=10_001,
        ),
        LEVEL,
    ),
    columns=(*_ROWS, *_TOTALS),
    example={"where": "strategy:self_consistency", "wanted": 0.5},
    chart=ChartSpec(
        "figures", x="own_threshold", y="group", also=("precision_common", "accepted_common")
    ),
)
def thresholds(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Find each group's threshold, and try one threshold on all.

    Grain: one row per group; `more["totals"]`: one row. Groups may be models, tasks, or anything a
    threshold is shared over. Only scored traces with a known signal count, with equal weights. A
    trace is accepted if its signal is at or above the threshold.

    Own threshold: the lowest of the group's signals from which at least the share `wanted` of what
    is accepted is right; the common one the same over the traces of all groups. Picked on the data
    it is judged on, its precision is optimistic, the more so the fewer traces there are.
    Inconsistency: the variance over groups (as a population) of the share handled right, averaged
    over `grid` thresholds; 0 where every threshold does every group the same.

    Intervals: Wilson's with the effective number of items, the threshold taken as given.
    """
    signal = options["signal"]
    rows = per_trace.fetch(frame, by, (signal,), flags=("passed",))
    scored, gone = per_trace.keep_passing(
        rows,
        {"failed traces": ~pl.col("_failed"), "unscored traces": pl.col("_passed").is_not_null()},
    )
    shape = {c: scored.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    groups = scored.select(by).unique().sort(by, nulls_last=True)
    without = f"traces without {signal}"
    known, silent = per_trace.keep_passing(scored, {without: pl.col(f"_{signal}").is_finite()})
    known = known.with_columns(pl.col("_passed").cast(pl.Float64).alias("_right"))
    known = known.rename({f"_{signal}": "_signal"})
    common = lowest(known["_signal"].to_numpy(), known["_right"].to_numpy(), options["wanted"])
    of_groups = {}
    parts = []
    for key, group_traces in per_trace.parts(known, by):
        of_groups[key] = _row(group_traces, common, options)
        parts.append(group_traces.select("_signal", "_right"))
    nothing = {"n_items": 0, "n": 0, "common_threshold": common}
    group_rows = [
        dict(zip(by, key, strict=True)) | of_groups.get(key, nothing) for key in groups.iter_rows()
    ]
    table = pl.DataFrame([dict.fromkeys(shape) | r for r in group_rows], schema=shape)
    totals = pl.DataFrame(
        [_totals(table, parts, options["grid"])], schema={c.name: DTYPES[c.type] for c in _TOTALS}
    )
    notes = (
        (f"no threshold makes {100 * options['wanted']:g} % of the accepted right over all groups",)
        if known.height and common is None
        else ()
    )
    return Answer(
        table, more={"totals": totals} if group_rows else {}, dropped=gone | silent, notes=notes
    )


def lowest(signal: Floats, right: Floats, wanted: float) -> float | None:
    """Find the lowest signal from which a share `wanted` of the traces is right; None if none."""
    if not len(signal):
        return None
    values, places = np.unique(signal, return_inverse=True)
    n = np.bincount(places)[::-1].cumsum()[::-1]
    good = np.bincount(places, weights=right)[::-1].cumsum()[::-1]
    enough = np.flatnonzero(good / n >= wanted - 1e-12)
    return float(values[enough[0]]) if len(enough) else None


def _row(rows: pl.DataFrame, common: float | None, options: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "n_items": rows["_item"].n_unique(),
        "n": rows.height,
        "common_threshold": common,
    }
    signal, right, codes = (rows[c].to_numpy() for c in ("_signal", "_right", "_code"))
    at = lowest(signal, right, options["wanted"])
    if at is not None:
        row |= {"own_threshold": at, "own_accepted": float((signal >= at).mean())}
    if common is None:
        return row
    accepted = signal >= common
    figures = {
        "precision_common": np.where(accepted, right, np.nan),
        "accepted_common": accepted.astype(float),
        "utility_common": (accepted == (right == 1)).astype(float),
    }
    for name, values in figures.items():
        row |= ratios.figures(name, ratios.share(values, codes, options["level"]))
    return row


def _totals(table: pl.DataFrame, parts: list[pl.DataFrame], grid: int) -> dict[str, Any]:
    total: dict[str, Any] = dict.fromkeys(c.name for c in _TOTALS) | {"n_groups": len(parts)}
    if len(parts) < 2:
        return total
    signals = [p["_signal"].to_numpy() for p in parts]
    rights = [p["_right"].to_numpy() for p in parts]
    total["inconsistency"] = inconsistency(signals, rights, grid)
    for name, column in (
        ("precision_spread", "precision_common"),
        ("threshold_spread", "own_threshold"),
    ):
        values = table[column].drop_nulls().to_numpy()
        if len(values) > 1:
            total[name] = float(np.ptp(values))
    return total


def inconsistency(signals: Sequence[Floats], rights: Sequence[Floats], grid: int) -> float:
    """Average over thresholds the variance over groups of the share handled right.

    Args:
        signals: per group, (n,).
        rights: per group, (n,) 1 or 0.
        grid: how many thresholds, evenly from the lowest signal of all to the highest.
    """
    ends_ = min(s.min() for s in signals), max(s.max() for s in signals)
    places = np.linspace(*ends_, grid).round(12)  # decimal, so that .3 is at the threshold .3
    signals = [s.round(12) for s in signals]
    return float(
        np.array([_handled(s, r, places) for s, r in zip(signals, rights, strict=True)])
        .var(axis=0)
        .mean()
    )


def _handled(signal: Floats, right: Floats, places: Floats) -> Floats:
    """Share of traces at each threshold that are right and accepted, or wrong and rejected."""
    order = np.argsort(signal)
    below = np.searchsorted(signal[order], places)
    right_below = np.concatenate([[0.0], np.cumsum(right[order])])[below]
    return np.asarray((right.sum() - right_below + below - right_below) / len(signal))
