"""Explained variance of outcomes: shares of the task, the model, the strategy and settings."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import resampling
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column
from workbench.slice.names import columns

_NONE = "all traces right, or all wrong"
_ROWS = (
    Column("factor", "text", doc="The column whose values are the levels.", null=KEY_NULL),
    Column("n_levels", "int", "count", "Its levels.", KEY_NULL, "levels"),
    *ends(
        Column(
            "explained",
            "float",
            "0..1",
            "Share of the deviance that it explains alone.",
            _NONE,
            "explained alone",
        ),
        "fewer than two items, or all alike",
    ),
    Column(
        "explained_adjusted",
        "float",
        "0..1",
        "The same, corrected for the number of levels; below 0 where chance explains as much.",
        _NONE,
        "explained, adjusted",
    ),
    Column(
        "explained_beside",
        "float",
        "0..1",
        "Share of the deviance that it explains beside all other factors (additive).",
        _NONE,
        "explained beside the others",
    ),
    Column("n", "int", "count", "Scored traces.", KEY_NULL, "traces"),
)
_ANOVA = (
    Column("source", "text", doc="What varies: groups, items, or what is left.", null=KEY_NULL),
    Column("degrees", "int", "count", "Degrees of freedom.", KEY_NULL),
    Column("squares", "float", "", "Sum of squares of the items' mean outcomes.", KEY_NULL),
    Column("share", "float", "0..1", "Share of all squares (η²).", "nothing varies"),
    Column(
        "f",
        "float",
        "",
        "F: mean square of the groups over that of what is left.",
        "not tested, or nothing is left",
        "F",
    ),
    Column(
        "p",
        "float",
        "0..1",
        "Chance of an F as large if all groups were alike.",
        "not tested, or nothing is left",
    ),
)
_MOST_LEVELS = 500
_STEPS = 100  # of Newton's method


@analysis(
    name="explained-variance",
    title="Explained variance",
    question="Which explains more of right and wrong: the task, the model, the strategy or the "
    "setting?",
    source="McFadden 1974 (share of deviance explained by a binomial model); Fisher 1925 (analysis "
    "of variance, items as blocks)",
    needs=("item_id", "passed"),
    options=(
        Option("factors", "text", "task", "further columns, comma-separated, beside those of `by`"),
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_ANOVA),
    within=("factors",),
    chart=ChartSpec("figures", x="explained", y="factor", also=("explained_beside",)),
    example={"by": ("model", "strategy")},
)
def explained_variance(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Explain outcomes by one factor at a time and by all of them, the strongest factor first.

    Grain: one row per factor, which are the columns of `by` and of `factors`; `more["anova"]`: one
    row per source of variation between the groups of `by`. Only scored traces count, with equal
    weights.

    Explained alone: D² = 1 − D(factor) / D(null), D the deviance of single traces (Bernoulli, not
    grouped) under logit P(right) = a level of the factor, whose fit is the level's share of right
    traces. Adjusted: 1 − (D(factor) + L − 1) / D(null), since L levels of independent traces
    explain L − 1 by chance, on average (χ²). Beside the others: (D(all but the factor) − D(all)) /
    D(null) under an additive logit (type II). A column with a level per item would explain all
    there is; it is refused above 500 levels.

    Analysis of variance: outcomes averaged per group and item, on the items that every group was
    tried on, items as blocks: F = MS(groups) / MS(left). It takes items for independent; `compare`
    says which groups differ, with clusters. Intervals of D²: expanded percentile bootstrap of item
    clusters, for the share among all items: what chance explains in a sample, estimated by what
    resampling adds, is taken off twice, once for the sample and once for the resamples (Efron &
    Tibshirani 1993, §10.6). Of many levels and few traces `explained` itself may lie above its
    interval.
    """
    factor_columns = columns(options["factors"])
    present = frame.collect_schema().names()
    for column in factor_columns:
        if column not in present:
            raise AnalysisError(unknown_name("factor", column, present))
    factors = list(dict.fromkeys((*by, *factor_columns)))
    items = reduce_items(frame, factors, errors_as_wrong=options["errors_as_wrong"])
    rows = items.frame.filter(pl.col("n_scored") > 0)
    if rows.is_empty():
        return Answer(empty((), _ROWS), dropped=items.dropped())
    levels = {f: rows[f].rank("dense").fill_null(0).cast(pl.Int64).to_numpy() for f in factors}
    levels = {f: np.unique(v, return_inverse=True)[1] for f, v in levels.items()}
    for name, codes in levels.items():
        if codes.max() >= _MOST_LEVELS:
            raise AnalysisError(
                f"the factor {name} has {codes.max() + 1:,} levels; more than "
                f"{_MOST_LEVELS} explain"
                " anything"
            )
    table = _factors(rows, levels, rng, options)
    groups = items
    if len(factors) > len(by):
        groups = reduce_items(frame, by, errors_as_wrong=options["errors_as_wrong"])
    more, notes = _blocks(build(groups).parts, tuple(by))
    return Answer(table, more={"anova": more}, dropped=items.dropped(), notes=notes)


def _factors(
    rows: pl.DataFrame,
    levels: dict[str, npt.NDArray[np.int64]],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> pl.DataFrame:
    n = rows["n_scored"].to_numpy().astype(float)
    right = rows["outcome"].to_numpy()
    clusters = rows["_cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
    total = n.sum()
    null = deviance(np.array([total]), np.array([right.sum()]))
    full = additive(list(levels.values()), n, right)
    shares = []
    for name, codes in levels.items():
        tried, passed = (np.bincount(codes, weights=w).astype(float) for w in (n, right))
        alone = deviance(tried, passed)
        beside = additive([c for other, c in levels.items() if other != name], n, right)
        low, high = _interval(codes, n, right, clusters, rng=rng, options=options)
        k = len(tried)
        shares.append(
            (
                name,
                k,
                _share(null - alone, null),
                low,
                high,
                1 - (alone + k - 1) / null if null > 0 else None,
                _share(beside - full, null),
                int(total),
            )
        )
    frame = pl.DataFrame(shares, schema=empty((), _ROWS).schema, orient="row")
    return frame.sort("explained", "factor", descending=[True, False], nulls_last=True)


def _share(part: float, whole: float) -> float | None:
    return max(part, 0.0) / whole if whole > 0 else None


def deviance(n: Floats, right: Floats) -> float:
    """Deviance of single Bernoulli traces in cells fitted by their own share: −2 Σ log-likelihood.

    Args:
        n: (…, cells) traces of each cell; empty ones add nothing.
        right: (…, cells) how many of them were right.
    """
    return float(_deviances(n[None], right[None])[0])


def _deviances(n: Floats, right: Floats) -> Floats:
    share = np.nan_to_num(divide(right, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(right > 0, right * np.log(share), 0.0)
        parts += np.where(n > right, (n - right) * np.log1p(-share), 0.0)
    return np.asarray(-2 * np.nan_to_num(parts).sum(axis=-1))


def _interval(
    codes: npt.NDArray[np.int64],
    n: Floats,
    right: Floats,
    clusters: npt.NDArray[np.int64],
    *,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> tuple[float | None, float | None]:
    """Resample clusters of items; a level keeps its traces of the items drawn."""
    n_clusters = int(clusters.max()) + 1
    k = int(codes.max()) + 1
    if n_clusters < 2:
        return None, None
    place = clusters * k + codes
    counted = [
        np.bincount(place, weights=w, minlength=n_clusters * k).reshape(n_clusters, k)
        for w in (n, right)
    ]
    sums = np.hstack(counted).astype(float)
    resampled = resampling.resampled_sums(sums, options["resamples"], rng)
    tried = resampled[:, :k]
    passed = resampled[:, k:]
    null = _deviances(tried.sum(axis=1, keepdims=True), passed.sum(axis=1, keepdims=True))
    shares = np.where(null > 0, 1 - divide(_deviances(tried, passed), null), np.nan)
    if np.isnan(shares).all():
        return None, None
    # Chance explains something in the sample, and once more in a resample of it.
    chance = np.nanmean(shares) - _whole(tried=sums[:, :k], passed=sums[:, k:])
    low, high = resampling.percentile(shares[:, None] - 2 * chance, options["level"], n_clusters)
    return max(float(low[0]), 0.0), max(float(high[0]), 0.0)


def _whole(tried: Floats, passed: Floats) -> float:
    """Compute D² of all clusters, (n_clusters, k) each."""
    n = tried.sum(axis=0)
    right = passed.sum(axis=0)
    null = deviance(np.array([n.sum()]), np.array([right.sum()]))
    return 1 - deviance(n, right) / null if null > 0 else float("nan")


def additive(factors: list[npt.NDArray[np.int64]], n: Floats, right: Floats) -> float:
    """Deviance under logit P = an effect per level of each factor, added up; by Newton's method.

    Levels that are always right or wrong have no finite effect; the deviance still has its limit,
    to which a ridge of 1e-9 leads.

    Args:
        factors: the levels of each row, from 0; none gives the null model.
        n: (rows,) traces.
        right: (rows,) right ones.
    """
    columns = [np.ones((len(n), 1))]
    columns += [np.eye(int(f.max()) + 1)[f][:, 1:] for f in factors]
    design = np.hstack(columns)
    effects = np.zeros(design.shape[1])
    ridge = 1e-9 * np.eye(len(effects))
    before = now = np.inf
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ effects, -30, 30)))
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(right > 0, right * np.log(p), 0.0)
            parts += np.where(n > right, (n - right) * np.log1p(-p), 0.0)
        now = float(-2 * parts.sum())
        if before - now < 1e-10 * (1 + abs(now)):
            break
        before = now
        hessian = design.T @ (design * (n * p * (1 - p))[:, None]) + ridge
        effects += np.linalg.solve(hessian, design.T @ (right - n * p) - 1e-9 * effects)
    return min(before, now)


def _blocks(
    parts: Sequence[tuple[str | None, Panel]], by: tuple[str, ...]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Test the groups against each other over the items that all of them have."""
    from scipy import special

    nothing = empty((), _ANOVA)
    tables = []
    notes = []
    for task, panel in parts:
        shared = panel.outcome()[panel.everywhere]
        items, groups = shared.shape
        if groups < 2 or items < 2:
            notes.append("the analysis of variance needs two groups that share two items")
            continue
        mean = shared.mean()
        squares = [
            items * ((shared.mean(axis=0) - mean) ** 2).sum(),
            groups * ((shared.mean(axis=1) - mean) ** 2).sum(),
        ]
        whole = ((shared - mean) ** 2).sum()
        squares.append(max(whole - sum(squares), 0.0))
        degrees = [groups - 1, items - 1, (groups - 1) * (items - 1)]
        residual = squares[2] / degrees[2]
        f = squares[0] / degrees[0] / residual if residual > 1e-15 else None
        p = None if f is None else float(special.fdtrc(degrees[0], degrees[2], f))
        rows = [
            (
                name,
                d,
                float(s),
                _share(float(s), float(whole)),
                f if g == 0 else None,
                p if g == 0 else None,
            )
            for g, (name, d, s) in enumerate(
                zip(("groups", "items", "left"), degrees, squares, strict=True)
            )
        ]
        table = pl.DataFrame(rows, schema=nothing.schema, orient="row")
        if "task" in by and task is not None:
            table = table.select(pl.lit(task).alias("task"), pl.all())
        tables.append(table)
    return (pl.concat(tables) if tables else nothing), tuple(dict.fromkeys(notes))
