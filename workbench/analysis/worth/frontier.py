"""Who is not beaten on a gain and a cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis import aggregates, intervals, pareto, resampling
from workbench.analysis.options import ERRORS, LEVEL, RESAMPLES, SHARED, cost_axis
from workbench.analysis.panel import Panel, build, divide
from workbench.analysis.reduce import MEASURES, reduce_items
from workbench.analysis.registry import SCORES, ChartSpec, Option, analysis, unknown
from workbench.analysis.result import Answer, empty, label
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, columns_by_name

C = Column
Floats = intervals.Floats
_AGGREGATE = "fewer than two items, or an aggregate"
_ROWS = (
    C("n_items", "int", "count", "Items behind the point.", "an aggregate", "items"),
    C("n", "int", "count", "Traces behind the point.", "an aggregate", "traces"),
    C("on_frontier", "bool", doc="No other group is at least as good on both axes.", null=KEY_NULL),
    C("p_on_frontier", "float", "0..1", "Share of resamples in which it is on the frontier.", _AGGREGATE, "probability of the frontier"),
    C("dominated_by", "text", doc="The best group that beats it on both axes.", null="on the frontier"),
    C("on_hull", "bool", doc="Not beaten by mixing two others at random.", null=KEY_NULL),
    C("is_knee", "bool", doc="Highest above the chord of the frontier.", null=KEY_NULL),
)  # fmt: skip
_TOTALS = (
    C("n_groups", "int", "count", "Groups with both figures.", KEY_NULL, "groups"),
    C("n_on_frontier", "int", "count", "Groups on the frontier.", KEY_NULL, "on the frontier"),
    C("knee", "text", doc="The group at the knee.", null="no knee"),
    C("hypervolume", "float", doc="Area between the frontier and the reference.", null="no points, or log of 0"),
    C("hypervolume_share", "float", "0..1", "That area over the box from the reference to the ideal.", "the box is empty"),
    C("reference_x", "float", doc="The reference on the x axis.", null="no points"),
    C("reference_y", "float", doc="The reference on the y axis.", null="no points"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Points:
    """The groups of one task on both axes, (n_groups,) each, and their resamples where there are."""

    groups: pl.DataFrame
    x: Floats
    y: Floats
    extra: dict[str, Any]
    draws: tuple[Floats, Floats] | None = None


@analysis(
    name="frontier",
    title="Frontier",
    question="Who is not beaten on score and cost, and how sure is that?",
    source="Pareto dominance; bootstrap over items (Efron 1979); hypervolume (Zitzler & Thiele 1999)",
    needs=("item_id",),
    options=(
        Option("y", "measure", "pass_rate", "the gain: pass_rate, score or a metric", choices=SCORES),
        cost_axis("x", "cost_usd", "the cost: any measure of a trace, or a metric"),
        Option("maximise_x", "flag", default=False, help="more of x is better"),
        Option("minimise_y", "flag", default=False, help="less of y is better"),
        Option("log_x", "flag", default=False, help="knee and hypervolume on the logarithm of x"),
        Option("reference_x", "float", None, "worst x for the hypervolume; the worst seen if open"),
        Option("reference_y", "float", None, "worst y for the hypervolume; 0 for a score if open"),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_TOTALS),
    chart=ChartSpec("frontier", x="cost_usd", y="pass_rate"),
)  # fmt: skip
def frontier(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Mark the groups that no other group beats, cheapest first, per task if `by` names it.

    Grain: one row per group that has both figures; `more["totals"]`: one row per task. Given
    traces, a figure is the mean over items of the mean over trials, both over the same traces: the
    scored ones whose x is known. Given aggregates (columns `metric` and `value`), it is the mean of
    the metric's values, without intervals.

    Domination: at least as good on both axes and better on one; equal points both stay. The
    probability of being on the frontier is the share of resamples of item clusters, the same for
    all groups, in which a group is not dominated. Intervals: Wilson's with the effective number of
    observations for scores, percentile bootstrap for the rest. The hull is on the linear axis;
    knee and hypervolume follow `log_x`.
    """
    units: dict[str, str] = {}
    if aggregates.is_aggregates(frame):
        parts, dropped, notes, units = _from_results(frame, by, options)
    else:
        parts, dropped, notes = _from_traces(frame, by, rng, options)
    tables, totals = [], []
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
    summary = (
        pl.DataFrame(totals, schema_overrides={"knee": pl.String}) if totals else pl.DataFrame()
    )
    return Answer(rows, (*columns.values(), *_ROWS, *_TOTALS), {"totals": summary}, dropped, notes)


def _axis_columns(options: dict[str, Any], units: dict[str, str]) -> dict[str, Column]:
    """Say what the axes and their intervals mean; a metric brings its own unit."""
    schema = columns_by_name()
    rate = C("pass_rate", "float", "0..1", "Mean over items of the share of trials that passed.")
    found: dict[str, Column] = {}
    for axis in ("y", "x"):
        name = options[axis]
        base = (
            rate if name == "pass_rate" else schema.get(name, C(name, "float", units.get(name, "")))
        )
        base = dataclasses.replace(base, type="float", null=KEY_NULL)
        found[name] = base
        for end, word in (("low", "Lower"), ("high", "Upper")):
            found[f"{name}_{end}"] = C(
                f"{name}_{end}", "float", base.unit, f"{word} end of its interval.", _AGGREGATE,
                f"{base.title or name.replace('_', ' ')}, {end}",
            )  # fmt: skip
    return found


def _from_traces(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], rng: np.random.Generator, options: dict[str, Any]
) -> tuple[list[tuple[str | None, _Points]], dict[str, int], tuple[str, ...]]:
    present = frame.collect_schema().names()
    if options["x"] == options["y"]:
        raise AnalysisError(f"x and y are both {options['x']}; choose two")
    plan = frontier.reduction(options)
    for measure in plan.measures:
        if measure not in present or measure not in MEASURES:
            raise AnalysisError(
                unknown("axis", measure, {*SCORES, *MEASURES} & {*SCORES, *present})
            )
    items = reduce_items(
        frame, by, plan.measures, outcome=plan.outcome, require=plan.require, scored=plan.scored,
        errors_as_wrong=options["errors_as_wrong"],
    )  # fmt: skip
    panels = build(items, shared=options["shared"])
    parts = [(task, _resampled(panel, rng, options)) for task, panel in panels.parts]
    return parts, panels.dropped, panels.notes


def _resampled(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> _Points:
    """Put the groups of a panel on both axes, with intervals."""
    values = {
        axis: panel.outcome() if options[axis] in SCORES else panel.measure(options[axis])
        for axis in ("x", "y")
    }
    tried = panel.tried
    n_items = tried.sum(axis=0)
    extra: dict[str, Any] = {
        "n_items": n_items, "n": np.nan_to_num(panel.matrix("n")).sum(axis=0).astype(int)
    }  # fmt: skip
    sums = np.hstack(
        [panel.cluster_sums(v) for v in (values["x"], values["y"], tried.astype(float))]
    )
    mean = {axis: divide(np.nansum(v, axis=0), n_items) for axis, v in values.items()}
    draws = None
    enough = panel.n_own_clusters > 1
    if panel.n_clusters > 1:
        drawn = np.split(resampling.resampled_sums(sums, options["resamples"], rng), 3, axis=1)
        draws = (_level(divide(drawn[0], drawn[2])), _level(divide(drawn[1], drawn[2])))
    for axis, v in values.items():
        low, high = np.full(len(n_items), np.nan), np.full(len(n_items), np.nan)
        if options[axis] in SCORES:
            residuals = panel.cluster_sums(v - mean[axis])
            se = intervals.clustered_se(residuals, n_items)
            size = intervals.effective_n(mean[axis], se, panel.n_own_clusters)
            low, high = intervals.wilson(mean[axis], size, options["level"])
        elif draws is not None:
            low, high = resampling.percentile(draws[axis == "y"], options["level"])
        extra[f"{options[axis]}_low"] = np.where(enough, low, np.nan)
        extra[f"{options[axis]}_high"] = np.where(enough, high, np.nan)
    return _Points(panel.groups, mean["x"], mean["y"], extra, draws)


def _level(draws: Floats) -> Floats:
    """Cut the last digits off, so that rounding in the sums does not tell equal groups apart."""
    scale = np.nanmax(np.abs(draws), initial=0.0) or 1.0
    levelled: Floats = np.round(draws / scale, 12) * scale
    return levelled


def _from_results(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[list[tuple[str | None, _Points]], dict[str, int], tuple[str, ...], dict[str, str]]:
    """Take two metrics of aggregates as the axes."""
    wide = aggregates.wide(frame, by, (options["x"], options["y"]))
    whole = wide.frame.drop_nulls([options["x"], options["y"]])
    keys = [c for c in by if c != "task"]
    split = "task" in by and bool(keys)
    parts = whole.partition_by("task", as_dict=True) if split else {(None,): whole}
    points = [
        (None if task is None else str(task), _Points(
            part.select(keys if split else by), part[options["x"]].to_numpy().astype(float),
            part[options["y"]].to_numpy().astype(float), {},
        ))
        for (task,), part in sorted(parts.items(), key=lambda part: str(part[0])) if part.height
    ]  # fmt: skip
    missing = wide.frame.height - whole.height
    dropped = {f"groups without {options['x']} or {options['y']}": missing}
    return points, dropped, wide.notes, wide.units


def _rows(
    points: _Points, options: dict[str, Any]
) -> tuple[pl.DataFrame, dict[str, Any], tuple[str, ...]]:
    """Judge the points of one task: their rows, the totals and notes."""
    signs = (-1.0 if options["maximise_x"] else 1.0, -1.0 if options["minimise_y"] else 1.0)
    cost, gain = signs[0] * points.x, signs[1] * points.y
    on = pareto.non_dominated(cost, gain)
    names = [label(row) for row in points.groups.iter_rows()]
    by_whom = [names[j] if j is not None else None for j in pareto.dominators(cost, gain)]
    total, knee, notes = _totals(points, options, signs, on, names)
    p: Any = [None] * len(names)
    if points.draws is not None:
        x, y = points.draws
        p = pareto.non_dominated(signs[0] * x, signs[1] * y).mean(axis=0)
    extra = {
        name: points.extra.get(name, [None] * len(names)) for name in _axis_columns(options, {})
    }
    rows = points.groups.with_columns(
        pl.Series(options["y"], points.y),
        pl.Series(options["x"], points.x),
        *[
            pl.Series(name, values, pl.Float64, strict=False).fill_nan(None)
            for name, values in extra.items()
            if name not in {options["x"], options["y"]}
        ],
        *[
            pl.Series(c, points.extra.get(c, [None] * len(names)), pl.Int64)
            for c in ("n_items", "n")
        ],
        pl.Series("on_frontier", on),
        pl.Series("p_on_frontier", p, pl.Float64),
        pl.Series("dominated_by", by_whom, pl.String),
        pl.Series("on_hull", pareto.hull(cost, gain)),
        pl.Series("is_knee", [j == knee for j in range(len(names))], pl.Boolean),
    ).sort(options["x"], descending=options["maximise_x"], maintain_order=True)
    return rows, total, notes


def _totals(
    points: _Points,
    options: dict[str, Any],
    signs: tuple[float, float],
    on: pareto.Bools,
    names: list[str],
) -> tuple[dict[str, Any], int | None, tuple[str, ...]]:
    bounded = options["y"] in SCORES and not options["minimise_y"]
    worst_x = options["reference_x"]
    worst_x = signs[0] * np.max(signs[0] * points.x) if worst_x is None else worst_x
    worst_y = options["reference_y"]
    worst_y = (
        (0.0 if bounded else signs[1] * np.min(signs[1] * points.y)) if worst_y is None else worst_y
    )
    total: dict[str, Any] = {
        "n_groups": len(names), "n_on_frontier": int(on.sum()), "knee": None,
        "hypervolume": None, "hypervolume_share": None,
        "reference_x": float(worst_x), "reference_y": float(worst_y),
    }  # fmt: skip
    x, reference = points.x, float(worst_x)
    if options["log_x"]:
        if (x <= 0).any() or reference <= 0:
            return total, None, (f"no knee or hypervolume: {options['x']} has no logarithm at 0",)
        x, reference = np.log10(x), float(np.log10(reference))
    cost, gain = signs[0] * x, signs[1] * points.y
    corner = (signs[0] * reference, signs[1] * float(worst_y))
    knee = pareto.knee(cost, gain)
    area, whole = pareto.hypervolume(cost, gain, corner), pareto.box(cost, gain, corner)
    total |= {
        "knee": names[knee] if knee is not None else None,
        "hypervolume": area, "hypervolume_share": area / whole if whole > 0 else None,
    }  # fmt: skip
    pairs: dict[tuple[float, float], list[str]] = {}
    for j in np.flatnonzero(on):
        pairs.setdefault((points.x[j], points.y[j]), []).append(names[j])
    notes = [f"tied on both axes: {', '.join(tied)}" for tied in pairs.values() if len(tied) > 1]
    return total, knee, tuple(notes)
