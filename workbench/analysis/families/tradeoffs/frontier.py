"""Pareto frontier of gain and cost, with bootstrap probabilities."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import SCORES, ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import (
    ERRORS,
    LEVEL,
    MEASURES,
    OUTCOME,
    RESAMPLES,
    SHARED,
    cost_axis,
)
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import grain, published_figures
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import check_measure, reduce_items
from workbench.analysis.stats import intervals, pareto, resampling
from workbench.analysis.stats.arrays import Bools, Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, known_columns

_AGGREGATE = "fewer than two items, or an aggregate"
_ROWS = (
    Column("n_items", "int", "count", "Items behind the point.", "an aggregate", "items"),
    Column("n", "int", "count", "Traces behind the point.", "an aggregate", "traces"),
    Column(
        "on_frontier",
        "bool",
        doc="No other group is at least as good on all axes and better on one.",
        null=KEY_NULL,
    ),
    Column(
        "p_on_frontier",
        "float",
        "0..1",
        "Share of resamples in which it is on the frontier.",
        _AGGREGATE,
        "probability of the frontier",
    ),
    Column(
        "dominated_by",
        "text",
        doc="The best group that dominates it on all axes.",
        null="on the frontier",
    ),
    Column(
        "stood_for_by",
        "text",
        doc="The group of the thinned frontier that is nearly as good or better (ε-dominance); "
        "itself if kept.",
        null="dominated, or no ε given",
        title="stood for by",
    ),
    Column(
        "on_hull", "bool", doc="Not dominated by a random mix of two others.", null="three axes"
    ),
    Column("is_knee", "bool", doc="Highest above the chord of the frontier.", null=KEY_NULL),
)
_TOTALS = (
    Column("n_groups", "int", "count", "Groups with a figure on every axis.", KEY_NULL, "groups"),
    Column("n_on_frontier", "int", "count", "Groups on the frontier.", KEY_NULL, "on the frontier"),
    Column(
        "n_kept",
        "int",
        "count",
        "Groups of the frontier thinned out by ε-dominance.",
        "no ε given",
        "kept within ε",
    ),
    Column("knee", "text", doc="The group at the knee.", null="no knee, or three axes"),
    Column(
        "hypervolume",
        "float",
        doc="Area (volume of three axes) between the frontier and the reference.",
        null="no points, or log of 0",
    ),
    Column(
        "hypervolume_share",
        "float",
        "0..1",
        "That over the box from the reference to the ideal.",
        "the box is empty",
    ),
    Column("reference_x", "float", doc="The reference on the x axis.", null="no points"),
    Column("reference_y", "float", doc="The reference on the y axis.", null="no points"),
    Column("reference_z", "float", doc="The reference on the z axis.", null="two axes"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Points:
    """The groups of one task on the axes x, y and maybe z.

    Attributes:
        groups: the columns that name them.
        at: by axis, (n_groups,).
        extra: further columns.
        draws: by axis, (resamples, n_groups), where there are.
    """

    groups: pl.DataFrame
    at: dict[str, Floats]
    extra: dict[str, Any]
    draws: dict[str, Floats] | None = None


@analysis(
    name="frontier",
    title="Frontier",
    question="Which groups are on the Pareto frontier of score and cost, and how certain is that?",
    source="Pareto dominance; bootstrap over items (Efron 1979); hypervolume (Zitzler & Thiele "
    "1999); ε-dominance (Laumanns et al. 2002)",
    needs=("item_id",),
    options=(
        Option(
            "y", "measure", "pass_rate", "the gain: pass_rate, score or a metric", choices=SCORES
        ),
        OUTCOME,
        cost_axis("x", "cost_usd", "the cost: any measure of a trace, or a metric"),
        Option(
            "z",
            "measure",
            None,
            "a third axis, another cost: any measure of a trace, or a metric",
            choices=MEASURES,
        ),
        Option("maximise_x", "flag", default=False, help="more of x is better"),
        Option("minimise_y", "flag", default=False, help="less of y is better"),
        Option("maximise_z", "flag", default=False, help="more of z is better"),
        Option("log_x", "flag", default=False, help="knee and hypervolume on the logarithm of x"),
        Option("reference_x", "float", None, "worst x for the hypervolume; the worst seen if open"),
        Option("reference_y", "float", None, "worst y for the hypervolume; 0 for a score if open"),
        Option("reference_z", "float", None, "worst z for the hypervolume; the worst seen if open"),
        Option(
            "epsilon_x",
            "float",
            None,
            "thin the frontier out: a cost this much higher, as a share, is as good (.05: 5 %)",
            low=0.0,
        ),
        Option(
            "epsilon_y", "float", None, "the same of y: a gain this much lower, as a share", low=0.0
        ),
        Option("epsilon_z", "float", None, "the same of z", low=0.0),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_TOTALS),
    aggregates=True,
    chart=ChartSpec("frontier", x="cost_usd", y="pass_rate"),
    settles=Settles("pass_rate", where=("on_frontier", True)),
)
def frontier(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Mark the groups on the Pareto frontier, cheapest first, per task if `by` names it.

    Grain: one row per group with a figure on every axis; `more["totals"]`: one row per task. Given
    traces, a figure is the mean over items of the mean over trials, both over the same traces: the
    scored ones whose x is known. Given aggregates (columns `metric` and `value`), it is the mean of
    the metric's values, without intervals.

    Domination: at least as good on all axes and better on one; equal points both stay. The
    probability of being on the frontier is the share of resamples of item clusters, the same for
    all groups, in which a group is not dominated. Intervals: Wilson's with the effective number of
    observations for scores, bootstrap percentiles widened for few clusters for the rest. The hull
    is on the linear axis; knee and hypervolume follow `log_x`. With a third axis `z` there is no
    hull and no knee, and the hypervolume is a volume.

    ε-dominance: a stands for b if its costs are at most 1 + ε times those of b, and its gain times
    1 + ε is at least that of b. With an `epsilon` of any axis (0 for the others) the frontier is
    thinned out to groups that stand for all of it, with two axes as few as can be, the cheaper of
    equals; `stood_for_by` names for each group of the frontier the one that is kept.
    """
    units: dict[str, str] = {}
    axes = [options[axis] for axis in ("x", "y", "z") if options[axis]]
    for axis in axes:
        if axes.count(axis) > 1:
            raise AnalysisError(f"two axes are both {axis}; choose two")
    if grain.are_figures(frame.collect_schema().names()):
        parts, dropped, notes, units = _from_results(frame, by, options)
    else:
        parts, dropped, notes = _from_traces(frame, by, rng, options)
    tables = []
    totals = []
    for task, points in parts:
        rows, total, more = _rows(points, options)
        where = {"task": task} if task is not None else {}
        tables.append(rows.with_columns(pl.lit(v).alias(k) for k, v in where.items()))
        totals.append(where | total)
        notes += more
    columns = _axis_columns(options, units)
    order = [*by, *columns, *(c.name for c in _ROWS)]
    rows = (
        pl.concat(tables, how="vertical_relaxed").select(order)
        if tables
        else empty(by, (*columns.values(), *_ROWS))
    )
    types = {"knee": pl.String, "n_kept": pl.Int64, "reference_z": pl.Float64}
    summary = pl.DataFrame(totals, schema_overrides=types) if totals else pl.DataFrame()
    return Answer(rows, (*columns.values(), *_ROWS, *_TOTALS), {"totals": summary}, dropped, notes)


def _axis_columns(options: dict[str, Any], units: dict[str, str]) -> dict[str, Column]:
    """Declare the columns of the axes and their intervals; a metric has its own unit."""
    schema = known_columns()
    rate = Column(
        "pass_rate", "float", "0..1", "Mean over items of the share of trials that passed."
    )
    declared: dict[str, Column] = {}
    for name in dict.fromkeys(options[axis] for axis in ("y", "x", "z") if options[axis]):
        base = (
            rate
            if name == "pass_rate"
            else schema.get(name, Column(name, "float", units.get(name, "")))
        )
        base = dataclasses.replace(base, type="float", null=KEY_NULL)
        declared[name] = base
        for end, word in (("low", "Lower"), ("high", "Upper")):
            declared[f"{name}_{end}"] = Column(
                f"{name}_{end}",
                "float",
                base.unit,
                f"{word} end of its interval.",
                _AGGREGATE,
                f"{base.title or name.replace('_', ' ')}, {end}",
            )
    return declared


def _from_traces(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], rng: np.random.Generator, options: dict[str, Any]
) -> tuple[list[tuple[str | None, _Points]], dict[str, int], tuple[str, ...]]:
    plan = frontier.reduction(options)
    for measure in plan.measures:
        check_measure(frame, measure, "axis")
    items = reduce_items(
        frame,
        by,
        plan.measures,
        outcome=plan.outcome,
        require=plan.require,
        scored=plan.scored,
        errors_as_wrong=options["errors_as_wrong"],
    )
    panels = build(items, shared=options["shared"])
    parts = [(task, _resampled(panel, rng, options)) for task, panel in panels.parts]
    return parts, panels.dropped, panels.notes


def _resampled(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> _Points:
    """Compute the groups' points on the axes, with intervals."""
    values = {
        axis: panel.outcome() if options[axis] in SCORES else panel.measure(options[axis])
        for axis in ("x", "y", "z")
        if options[axis]
    }
    tried = panel.tried
    n_items = tried.sum(axis=0)
    extra: dict[str, Any] = {
        "n_items": n_items,
        "n": np.nan_to_num(panel.matrix("n")).sum(axis=0).astype(int),
    }
    sums = np.hstack([panel.cluster_sums(v) for v in (*values.values(), tried.astype(float))])
    mean = {axis: divide(np.nansum(v, axis=0), n_items) for axis, v in values.items()}
    draws = None
    enough = panel.n_own_clusters > 1
    if panel.n_clusters > 1:
        resampled = resampling.resampled_sums(sums, options["resamples"], rng)
        *parts, n = np.split(resampled, len(values) + 1, axis=1)
        draws = {axis: _level(divide(part, n)) for axis, part in zip(values, parts, strict=True)}
    for axis, v in values.items():
        low = np.full(len(n_items), np.nan)
        high = np.full(len(n_items), np.nan)
        if options[axis] in SCORES:
            residuals = panel.cluster_sums(v - mean[axis])
            clusters = panel.n_own_clusters
            se = intervals.clustered_se(residuals, n_items, clusters)
            low, high = intervals.clustered_share(mean[axis], se, clusters, options["level"])
        elif draws is not None:
            low, high = resampling.percentile(draws[axis], options["level"], panel.n_own_clusters)
        extra[f"{options[axis]}_low"] = np.where(enough, low, np.nan)
        extra[f"{options[axis]}_high"] = np.where(enough, high, np.nan)
    return _Points(panel.groups, mean, extra, draws)


def _level(draws: Floats) -> Floats:
    """Cut the last digits off, so that rounding in the sums does not tell equal groups apart."""
    scale = np.nanmax(np.abs(draws), initial=0.0) or 1.0
    levelled: Floats = np.round(draws / scale, 12) * scale
    return levelled


def _from_results(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[list[tuple[str | None, _Points]], dict[str, int], tuple[str, ...], dict[str, str]]:
    """Take metrics of aggregates as the axes."""
    axes = {axis: options[axis] for axis in ("x", "y", "z") if options[axis]}
    wide = published_figures.wide(frame, by, tuple(axes.values()))
    whole = wide.frame.drop_nulls(list(axes.values()))
    keys = [c for c in by if c != "task"]
    split = "task" in by and bool(keys)
    parts = whole.partition_by("task", as_dict=True) if split else {(None,): whole}
    points = [
        (
            None if task is None else str(task),
            _Points(
                part.select(keys if split else by),
                {axis: part[name].to_numpy().astype(float) for axis, name in axes.items()},
                {},
            ),
        )
        for (task,), part in sorted(parts.items(), key=lambda part: str(part[0]))
        if part.height
    ]
    missing = wide.frame.height - whole.height
    dropped = {f"groups without {' or '.join(axes.values())}": missing}
    return points, dropped, wide.notes, wide.units


def _signs(options: dict[str, Any]) -> dict[str, float]:
    """By axis: −1 turns what is to be high into a cost, and what is to be low into a gain."""
    turned = {"x": options["maximise_x"], "y": options["minimise_y"], "z": options["maximise_z"]}
    return {axis: -1.0 if turn else 1.0 for axis, turn in turned.items()}


def _rows(
    points: _Points, options: dict[str, Any]
) -> tuple[pl.DataFrame, dict[str, Any], tuple[str, ...]]:
    """Judge the points of one task: their rows, the totals and notes."""
    signs = _signs(options)
    cost, gain, *second = (signs[axis] * points.at[axis] for axis in points.at)
    on = pareto.non_dominated(cost, gain, *second)
    names = [label(row) for row in points.groups.iter_rows()]
    by_whom = [names[j] if j is not None else None for j in pareto.dominators(cost, gain, *second)]
    stand = _thinned(points, on, options)
    total, knee, notes = _totals(points, options, on, names)
    total["n_kept"] = None if stand is None else len(set(stand[stand >= 0].tolist()))
    p: Any = [None] * len(names)
    if points.draws is not None:
        signed_draws = [signs[axis] * points.draws[axis] for axis in points.at]
        p = pareto.non_dominated(*signed_draws).mean(axis=0)
    known = points.extra | {options[axis]: values for axis, values in points.at.items()}
    nothing = [None] * len(names)
    rows = points.groups.with_columns(
        *[
            pl.Series(name, known.get(name, nothing), pl.Float64, strict=False).fill_nan(None)
            for name in _axis_columns(options, {})
        ],
        *[pl.Series(c, known.get(c, nothing), pl.Int64) for c in ("n_items", "n")],
        pl.Series("on_frontier", on),
        pl.Series("p_on_frontier", p, pl.Float64),
        pl.Series("dominated_by", by_whom, pl.String),
        pl.Series(
            "stood_for_by",
            nothing if stand is None else [names[j] if j >= 0 else None for j in stand],
            pl.String,
        ),
        pl.Series("on_hull", nothing if second else pareto.hull(cost, gain), pl.Boolean),
        pl.Series("is_knee", [j == knee for j in range(len(names))], pl.Boolean),
    ).sort(options["x"], descending=options["maximise_x"], maintain_order=True)
    return rows, total, notes


def _thinned(points: _Points, on: Bools, options: dict[str, Any]) -> Any:
    """Choose the representative of each frontier point within ε; None if no ε was given."""
    epsilon = {axis: options[f"epsilon_{axis}"] for axis in points.at}
    if all(e is None for e in epsilon.values()):
        return None
    signs = _signs(options) | {"y": -_signs(options)["y"]}  # 1 where less is better
    covers = np.ones((len(on), len(on)), dtype=bool)
    for axis, values in points.at.items():
        if (values < 0).any():
            raise AnalysisError(
                f"epsilon is a share, and {options[axis]} is below 0 for some group"
            )
        wide = 1 + (epsilon[axis] or 0.0)
        a = values[:, None]
        b = values[None, :]
        # Rounding must not part equal points.
        covers &= (
            (a <= wide * b * (1 + 1e-12)) if signs[axis] > 0 else (a * wide * (1 + 1e-12) >= b)
        )
    return pareto.representatives(covers, signs["x"] * points.at["x"], on)


def _references(points: _Points, options: dict[str, Any]) -> dict[str, float]:
    """Reference point of the hypervolume: the options' values, the worst point, or a score of 0."""
    signs = _signs(options)
    references = {}
    for axis, values in points.at.items():
        better = signs[axis] if axis == "y" else -signs[axis]
        worst = better * float(np.min(better * values))
        if axis == "y" and options["y"] in SCORES and not options["minimise_y"]:
            worst = 0.0
        given = options[f"reference_{axis}"]
        references[axis] = worst if given is None else float(given)
    return references


def _totals(
    points: _Points, options: dict[str, Any], on: Bools, names: list[str]
) -> tuple[dict[str, Any], int | None, tuple[str, ...]]:
    worst = _references(points, options)
    signs = _signs(options)
    total: dict[str, Any] = {
        "n_groups": len(names),
        "n_on_frontier": int(on.sum()),
        "n_kept": None,
        "knee": None,
        "hypervolume": None,
        "hypervolume_share": None,
        **{f"reference_{axis}": worst.get(axis) for axis in ("x", "y", "z")},
    }
    at = dict(points.at)
    if options["log_x"]:
        if (at["x"] <= 0).any() or worst["x"] <= 0:
            return total, None, (f"no knee or hypervolume: {options['x']} has no logarithm at 0",)
        at["x"], worst["x"] = np.log10(at["x"]), float(np.log10(worst["x"]))
    cost, gain, *second = (signs[axis] * at[axis] for axis in at)
    x, y, *z = (signs[axis] * worst[axis] for axis in at)
    whole = pareto.box(cost, gain, (x, y))
    if second:
        knee = None
        area = pareto.volume(cost, gain, second[0], (x, y, z[0]))
        whole *= max(z[0] - float(second[0].min()), 0.0)
    else:
        knee = pareto.knee(cost, gain)
        area = pareto.hypervolume(cost, gain, (x, y))
    total |= {
        "knee": names[knee] if knee is not None else None,
        "hypervolume": area,
        "hypervolume_share": area / whole if whole > 0 else None,
    }
    places: dict[tuple[float, ...], list[str]] = {}
    for j in np.flatnonzero(on):
        places.setdefault(tuple(v[j] for v in points.at.values()), []).append(names[j])
    all_of = "all" if second else "both"
    notes = [f"tied on {all_of} axes: {', '.join(t)}" for t in places.values() if len(t) > 1]
    return total, knee, tuple(notes)
