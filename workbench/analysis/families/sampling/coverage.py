"""Coverage of k attempts: pass@k, pass^k, and their cost."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import attempt_counts, clustered_means
from workbench.analysis.inputs.attempt_counts import SHORT, Attempts, attempts
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.stats import intervals, pass_at_k, resampling
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_ROWS = (
    Column("k", "int", "count", "Attempts per item.", KEY_NULL, "attempts"),
    Column(
        "n_items",
        "int",
        "count",
        "Items with enough trials for the whole curve.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    Column(
        "pass_at_k",
        "float",
        "0..1",
        "Chance that at least one of k attempts passes.",
        KEY_NULL,
        "pass@k",
    ),
    Column(
        "pass_at_k_low", "float", "0..1", "Lower end of its interval.", FEW_ITEMS, "pass@k, low"
    ),
    Column(
        "pass_at_k_high", "float", "0..1", "Upper end of its interval.", FEW_ITEMS, "pass@k, high"
    ),
    Column("pass_all_k", "float", "0..1", "Chance that all k attempts pass.", KEY_NULL, "pass^k"),
    Column(
        "pass_all_k_low", "float", "0..1", "Lower end of its interval.", FEW_ITEMS, "pass^k, low"
    ),
    Column(
        "pass_all_k_high", "float", "0..1", "Upper end of its interval.", FEW_ITEMS, "pass^k, high"
    ),
    Column(
        "envelope_gap",
        "float",
        "0..1",
        "pass@k minus pass^k: what luck decides.",
        KEY_NULL,
        "envelope gap",
    ),
    Column(
        "envelope_gap_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "fewer than two items, or all alike",
        "envelope gap, low",
    ),
    Column(
        "envelope_gap_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "fewer than two items, or all alike",
        "envelope gap, high",
    ),
    Column(
        "cost_usd",
        "float",
        "USD",
        "Mean cost of k attempts at an item.",
        "no cost known",
        "cost of k attempts",
    ),
)
_FLAT = "fewer than three sizes with a pass@k between 0 and 1"
_FIT = (
    Column("a", "float", doc="Factor of the law pass@k = exp(a k^b); below 0.", null=_FLAT),
    Column(
        "b",
        "float",
        doc="Exponent of the law; the further below 0, the more a try adds.",
        null=_FLAT,
    ),
    Column(
        "fit_error",
        "float",
        "0..1",
        "Mean distance of the law from the curve.",
        _FLAT,
        "error of the fit",
    ),
    Column(
        "far_k",
        "int",
        "count",
        "Attempts that the law was asked about.",
        "not asked",
        "attempts asked about",
    ),
    Column(
        "far_pass_at_k",
        "float",
        "0..1",
        "pass@k there, if the law holds.",
        "not asked, or no fit",
        "extrapolated pass@k",
    ),
    Column(
        "far_pass_at_k_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "not asked, or no fit",
        "extrapolated, low",
    ),
    Column(
        "far_pass_at_k_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "not asked, or no fit",
        "extrapolated, high",
    ),
)


@analysis(
    name="coverage",
    title="Coverage",
    question="What is trying again worth: how often is one of k right, or all of k, at what cost?",
    source="Chen et al. 2021, arXiv 2107.03374 (eq. 1); Yao et al. 2024, arXiv 2406.12045 "
    "(pass^k); Brown et al. 2024, arXiv 2407.21787 (§3.1)",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option(
            "k",
            "int",
            None,
            "most attempts; items with fewer trials are left out. If open, what nine in ten "
            "items have",
            low=1,
        ),
        Option("far_k", "int", None, "extrapolate to this many attempts", low=1),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_FIT),
    example={"where": "strategy:think"},
    chart=ChartSpec("coverage", x="k", y="pass_at_k"),
)
def coverage(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute pass@k, pass^k and the cost of k attempts for k = 1, 2, …, the best group first.

    Grain: one row per group and k (per task if `by` names it); `more["fit"]`: one row per group.
    Only scored traces count. A curve is of one set of items throughout: those with at least as many
    trials as its largest k, which is what nine in ten items of the group have unless `k` is given.

    Per item, of n trials of which c passed, pass@k = 1 − C(n−c, k) / C(n, k) and pass^k = C(c, k) /
    C(n, k): unbiased, where 1 − (1 − c/n)^k is too low. Items have equal weights in means. pass@k
    is what k attempts reach with a perfect verifier, pass^k what a user who needs all k relies on;
    between them, the envelope gap, lies what chance decides. The cost is k times the mean cost of
    an attempt, over the traces of known cost.

    Intervals: Wilson's with the effective number of items that the clustered standard error
    implies; of the gap mean ± t · SE. Null with fewer than two items (clusters).

    The fit is of pass@k = exp(a k^b), by least squares of ln(−ln pass@k) on ln k; the interval of
    `far_pass_at_k` is a bootstrap over clusters of items, for the errors of neighbouring k are not
    independent. It says how far the items' spread carries, not whether the law goes on: where it
    does, 95 % intervals from four trials of 30 items hold in 91 of 100 simulated studies, of 100 in
    94.
    """
    items = reduce_items(frame, by, ("cost_usd",), errors_as_wrong=options["errors_as_wrong"])
    panels = build(items, shared=options["shared"])
    notes = panels.notes
    short = 0
    rows = []
    fits = []
    for task, panel in panels.parts:
        tries = attempts(panel, options["k"])
        short += tries.n_short
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(_rows(tries, options["level"]).with_columns(where))
        fits.append(_fits(tries, rng, options).with_columns(where))
        notes += tries.notes(task)
        if options["far_k"] is not None and len(panel.n_own_clusters):
            fewest = int(panel.n_own_clusters.min())
            notes += intervals.few_items_notes(fewest, "the extrapolation", 91)
    dropped = panels.dropped | {
        SHORT: short,
        attempt_counts.UNPRICED: attempt_counts.unpriced(panels.parts),
    }
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    more = {"fit": pl.concat(fits).select(*by, *(c.name for c in _FIT))} if fits else {}
    return Answer(table, more=more, dropped=dropped, notes=notes)


def _rows(tries: Attempts, level: float) -> pl.DataFrame:
    """Average the items' curves, the group with the best first attempt first."""
    panel = tries.panel
    parts = []
    for k in tries.sizes:
        one = tries.at_least_one(k)
        every = tries.all(k)
        part = tries.rows(k).with_columns(
            *clustered_means.share(panel, one, level).series("pass_at_k"),
            *clustered_means.share(panel, every, level).series("pass_all_k"),
            *clustered_means.difference(panel, one - every, level, low=0.0).series("envelope_gap"),
        )
        parts.append(part)
    return attempt_counts.ordered(parts, "pass_at_k", panel, _ROWS)


def power_law(sizes: Sequence[int], values: Floats) -> tuple[Floats, Floats]:
    """Fit exp(a k^b) by least squares of ln(−ln value) on ln k.

    Args:
        sizes: (s,) the k.
        values: (..., s) pass@k; those not strictly between 0 and 1 are left out.

    Returns:
        (...) a and (...) b; NaN with fewer than three values.
    """
    inside = (values > 0) & (values < 1)
    y = np.log(-np.log(np.where(inside, values, 0.5)))
    x = np.broadcast_to(np.log(np.asarray(sizes, float)), values.shape)
    n = inside.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_mean, y_mean = ((inside * v).sum(axis=-1) / n for v in (x, y))
        dx = inside * (x - x_mean[..., None])
        b = (dx * y).sum(axis=-1) / (dx * x).sum(axis=-1)
        a = -np.exp(y_mean - b * x_mean)
    return np.where(n >= 3, a, np.nan), np.where(n >= 3, b, np.nan)


def _fits(tries: Attempts, rng: np.random.Generator, options: dict[str, Any]) -> pl.DataFrame:
    """Fit the law to each group's curve, and extrapolate it where asked."""
    names = [c.name for c in _FIT]
    rows = []
    for g, most in enumerate(tries.most):
        row: dict[str, Any] = dict.fromkeys(names) | {"far_k": options["far_k"]}
        ks = pass_at_k.curve_sizes(most)
        if len(ks) >= 3:
            row |= _fit(tries.panel, tries.curve(g), ks, rng, options)
        rows.append(row)
    declared = empty((), _FIT).schema
    return pl.concat([tries.panel.groups, pl.DataFrame(rows, schema=declared)], how="horizontal")


def _fit(
    panel: Panel, per_item: Floats, ks: list[int], rng: np.random.Generator, options: dict[str, Any]
) -> dict[str, Any]:
    curve = np.nanmean(per_item, axis=0)
    a, b = power_law(ks, curve)
    if np.isnan(a):
        return {}
    error = np.abs(np.exp(a * np.array(ks, float) ** b) - curve).mean()
    parameters = {"a": float(a), "b": float(b), "fit_error": float(error)}
    far = options["far_k"]
    if far is None:
        return parameters
    parameters["far_pass_at_k"] = float(np.exp(a * float(far) ** b))
    known = ~np.isnan(per_item[:, :1])
    sums = panel.cluster_sums(np.hstack([per_item, known.astype(float)]))
    sums = sums[sums[:, -1] > 0]
    if len(sums) < 2:
        return parameters
    draws = resampling.resampled_sums(sums, options["resamples"], rng)
    a_drawn, b_drawn = power_law(ks, draws[:, :-1] / draws[:, -1:])
    low, high = resampling.percentile(
        np.exp(a_drawn * float(far) ** b_drawn)[:, None], options["level"], len(sums)
    )
    ends = {"far_pass_at_k_low": float(low[0]), "far_pass_at_k_high": float(high[0])}
    return parameters | {name: end for name, end in ends.items() if not np.isnan(end)}
