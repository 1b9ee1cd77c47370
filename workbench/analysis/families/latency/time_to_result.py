"""Time to result over many workloads: performance profiles of time ratios."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED, cost_axis
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import clustered_means, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import check_measure, reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two workloads"
_PROFILE = (
    Column(
        "ratio",
        "float",
        "",
        "Times the time of the fastest group on the workload.",
        KEY_NULL,
        "times the first",
    ),
    *ends(
        Column(
            "share",
            "float",
            "0..1",
            "Share of workloads whose result is there within that ratio.",
            KEY_NULL,
            "share of workloads",
        ),
        _NULL_IF_FEW,
    ),
)
_ROWS = (
    Column(
        "n_workloads",
        "int",
        "count",
        "Workloads that the group was tried on and some group has a result of.",
        KEY_NULL,
        "workloads",
    ),
    *ends(
        Column(
            "first",
            "float",
            "0..1",
            "Share of workloads on which no group is faster; ties count for all.",
            KEY_NULL,
            "first",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "reached",
            "float",
            "0..1",
            "Share of workloads of which it has a result at all.",
            KEY_NULL,
            "has a result",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "area",
            "float",
            "0..1",
            "Mean height of the profile from 1 to the largest ratio.",
            KEY_NULL,
            "area under the profile",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "median_ratio",
        "float",
        "",
        "Median of the ratios; infinite where half of the workloads have no result.",
        KEY_NULL,
        "median ratio",
    ),
)
_STEPS = 17


@analysis(
    name="time-to-result",
    title="Time to result",
    question="Over many workloads, which group has the right result first, and how far behind are "
    "the others?",
    source="Dolan & Moré 2002 (performance profiles); Dahl et al. 2023, arXiv 2306.07179 (area as "
    "a score; form of mlcommons/algorithmic-efficiency at 11e70c0)",
    needs=("item_id",),
    measures=("e2e_s",),
    options=(
        cost_axis("measure", "e2e_s", "what it takes: time, or any other measure of a trace"),
        Option("unit", "choice", "item_id", "what a workload is", choices=("item_id", "task")),
        Option("target", "float", None, "score that counts as a result; whether it passed if open"),
        Option("most", "float", 4.0, "largest ratio of the profile and its area", low=1.01),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_PROFILE),
    chart=ChartSpec("time_to_result", x="ratio", y="share"),
    settles=Settles("area", unit="workloads", n="n_workloads"),
)
def time_to_result(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Summarise the performance profile of every group, the largest area first.

    Results are per task if `by` names the task.

    Grain: one row per group; `more["profile"]`: one row per group and ratio. A workload is an item
    (or a task). The time to its result is what it is expected to take with attempts until one is
    right: the mean time of an attempt over the share that is right, infinite where none was. A
    ratio is that time over the least of all groups on the same workload; the profile at τ is the
    share of workloads with a ratio of at most τ: at 1 how often a group is first, far right how
    often it gets there at all. The area is the mean of the profile from 1 to `most` (the score of
    AlgoPerf, there with a ratio of 4), exactly: the mean of (most − ratio) / (most − 1), not below
    0.

    Ratios depend on the other groups: without one of them the others' may change. Workloads of
    which no group has a result are left out and counted; a group is judged on the workloads that it
    was tried on. Only scored traces whose time is known count. Intervals: Wilson's with the
    effective number of workloads; of the area percentile bootstrap of their clusters. The spread of
    trials within a workload is not in them.
    """
    measure = options["measure"]
    present = frame.collect_schema().names()
    check_measure(frame, measure)
    if options["unit"] == "task":
        if "task" in by and len(by) > 1:
            raise AnalysisError("unit task: do not group by task too; its tasks are the workloads")
        hidden = [c for c in ("cluster",) if c in present]
        frame = frame.with_columns(item_id=nw.col("task")).drop(hidden)
    if options["target"] is not None and "score" in present:
        reached = nw.col("score") >= options["target"]
        frame = frame.with_columns(passed=nw.when(~nw.col("score").is_null()).then(reached))
    items = reduce_items(
        frame,
        by,
        (measure,),
        require=(measure,),
        errors_as_wrong=options["errors_as_wrong"],
    )
    built = build(items, shared=options["shared"])
    rows = []
    profiles = []
    unsolved = 0
    for task, panel in built.parts:
        ratio = ratios(sample.per(panel.measure(measure), panel.outcome()), panel.outcome())
        unsolved += int(np.isnan(ratio).all(axis=1).sum())
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(_rows(panel, ratio, rng, options).with_columns(where))
        profiles.append(_profile(panel, ratio, rows[-1]["area"], options).with_columns(where))
    dropped = built.dropped | {"workloads of which no group has a result": unsolved}
    if not rows:
        return Answer(empty(by, _ROWS), dropped=dropped, notes=built.notes)
    first = ["task"] if "task" in by else []
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS))
    down = [False] * len(first) + [True] + [False] * len(by)
    table = table.sort(*first, "area", *by, descending=down, nulls_last=True)
    profile = pl.concat(profiles).select(*by, *(c.name for c in _PROFILE))
    return Answer(table, more={"profile": profile}, dropped=dropped, notes=built.notes)


def ratios(time: Floats, rate: Floats) -> Floats:
    """Times over the least of each workload, (n_workloads, n_groups).

    Args:
        time: expected times; NaN where the group was not tried, or never right.
        rate: share of right attempts; NaN where the group was not tried.

    Returns:
        Infinite where a group was never right; NaN where it was not tried, or no group was ever
        right.
    """
    tried = ~np.isnan(rate)
    time = np.where(tried & (rate == 0), np.inf, time)
    least = np.where(np.isnan(time), np.inf, time).min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(least > 0, time / least, np.where(time == least, 1.0, np.inf))
    return np.where(np.isfinite(least) & tried, ratio, np.nan)


def _within(ratio: Floats, most: float) -> Floats:
    """1 where a ratio is at most that, 0 where it is more; NaN stays."""
    return np.where(np.isnan(ratio), np.nan, (ratio <= most * (1 + 1e-12)).astype(float))


def _profile(panel: Panel, ratio: Floats, area: pl.Series, options: dict[str, Any]) -> pl.DataFrame:
    """The shares at ratios that are even in the logarithm, groups in the order of their areas."""
    groups = panel.groups.with_columns(_area=area, _place=pl.int_range(pl.len()))
    parts = []
    for at in np.geomspace(1.0, options["most"], _STEPS).tolist():
        share = clustered_means.share(panel, _within(ratio, at), options["level"])
        parts.append(groups.with_columns(pl.lit(at).alias("ratio"), *share.series("share")))
    order = ["_area", "_place", "ratio"]
    table = pl.concat(parts).sort(order, descending=[True, False, False], nulls_last=True)
    return table.drop("_area", "_place").filter(pl.col("share").is_not_null())


def _rows(
    panel: Panel, ratio: Floats, rng: np.random.Generator, options: dict[str, Any]
) -> pl.DataFrame:
    most = options["most"]
    level = options["level"]
    height = np.clip((most - ratio) / (most - 1), 0.0, 1.0)
    bootstrap = sample.draw(panel, {"area": height}, rng, options)
    known = ~np.isnan(ratio)
    # workloads without any result were tried, but have no time ratio
    few = pl.Series((panel.cluster_sums(known.astype(float)) > 0).sum(axis=0) < 2)
    medians = [
        float(np.median(ratio[known[:, g], g])) if known[:, g].any() else None
        for g in range(ratio.shape[1])
    ]
    return panel.groups.with_columns(
        pl.Series("n_workloads", known.sum(axis=0)).cast(pl.Int64),
        *clustered_means.share(panel, _within(ratio, 1.0), level).series("first"),
        *clustered_means.share(panel, np.where(known, np.isfinite(ratio), np.nan), level).series(
            "reached"
        ),
        *[
            part if part.name == "area" else part.set(few, None)
            for part in bootstrap.series("area", lambda means: means["area"])
        ],
        pl.Series("median_ratio", medians, pl.Float64),
    )
