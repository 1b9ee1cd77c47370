"""Trade-off against a baseline: cost at equal quality, and quality at equal cost."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import SCORES, ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED, cost_axis
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import grain, published_figures, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import check_measure, reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import pareto, resampling, step_curves
from workbench.analysis.stats.arrays import Floats
from workbench.analysis.stats.step_curves import Curve
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, known_columns

_AGGREGATE = "fewer than two items, or an aggregate"
_NEVER = "no point of it is as good as the baseline"
_DEAR = "each point of it costs more than the baseline"
_SPAN = "a single point, or no quality in common"
_ROWS = (
    Column(
        "is_baseline",
        "bool",
        doc="What the others are held against.",
        null=KEY_NULL,
        title="baseline",
    ),
    Column(
        "n_points",
        "int",
        "count",
        "Points of the curve; 1 unless `points` names what tells them apart.",
        KEY_NULL,
        "points",
    ),
    Column("n_items", "int", "count", "Items behind its best point.", "an aggregate", "items"),
    Column("n", "int", "count", "Traces behind its best point.", "an aggregate", "traces"),
    *ends(
        Column(
            "cost_ratio",
            "float",
            "",
            "Cost at which it is as good as the baseline, over the baseline's: 0.8 is a "
            "fifth cheaper.",
            _NEVER,
            "cost at equal quality / baseline",
        ),
        f"{_AGGREGATE}, or never as good",
    ),
    *ends(
        Column(
            "gain",
            "float",
            "",
            "Its quality at the baseline's cost, minus the baseline's; in the unit of y.",
            _DEAR,
            "quality at equal cost − baseline",
        ),
        f"{_AGGREGATE}, or too rarely as cheap",
    ),
    Column(
        "p_cheaper",
        "float",
        "0..1",
        "Share of resamples in which it is as good for less.",
        _AGGREGATE,
        "probability of being cheaper",
    ),
    Column(
        "p_better",
        "float",
        "0..1",
        "Share of resamples in which it is better for no more.",
        _AGGREGATE,
        "probability of being better",
    ),
    Column(
        "mean_cost_ratio",
        "float",
        "",
        "Geometric mean of the ratio of costs over all qualities that both curves span.",
        _SPAN,
        "mean cost ratio",
    ),
    Column(
        "mean_gain",
        "float",
        "",
        "Mean difference of quality over all costs that both curves span.",
        _SPAN,
        "mean gain",
    ),
)
_POINTS = (
    Column("is_baseline", "bool", doc="Whether it is a point of the baseline.", null=KEY_NULL),
    Column(
        "on_frontier",
        "bool",
        doc="No other point of its curve is at least as good on both axes.",
        null=KEY_NULL,
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Points:
    """All points of one task: costs to keep low and gains to keep high, (r, n_points) each.

    Row 0 is the data, the rows below are resamples where there are any.
    """

    groups: pl.DataFrame
    cost: Floats
    gain: Floats
    shown: dict[str, pl.Series]
    n_clusters: int = 0


@analysis(
    name="tradeoff",
    title="Trade-off",
    question="Against a baseline, how much cheaper at equal quality, and how much better at equal "
    "cost?",
    source="Interpolation on Pareto frontiers; mean over a span in the manner of Bjøntegaard 2001 "
    "(VCEG-M33), with straight lines",
    needs=("item_id",),
    options=(
        Option("baseline", "group", None, "what the others are held against; the dearest if open"),
        Option(
            "points",
            "text",
            None,
            "a column that tells the points of one curve apart: effort, "
            "thinking_budget_tokens, precision",
        ),
        Option(
            "y", "measure", "pass_rate", "the quality: pass_rate, score or a metric", choices=SCORES
        ),
        OUTCOME,
        cost_axis("x", "cost_usd", "the cost: any measure of a trace, or a metric"),
        Option("maximise_x", "flag", default=False, help="more of x is better: tokens per second"),
        Option("minimise_y", "flag", default=False, help="less of y is better: an error rate"),
        Option(
            "between",
            "choice",
            "line",
            "between two points of a curve: a straight line (a mixture of both), or only "
            "the points",
            choices=("line", "step"),
        ),
        Option("log_x", "flag", default=False, help="the straight line is over the logarithm of x"),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_POINTS),
    example={"by": ("strategy",), "points": "model", "baseline": "cot"},
    aggregates=True,
    within=("points",),
    chart=ChartSpec("figures", x="cost_ratio", y="group", also=("gain",)),
)
def tradeoff(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare every group's curve with the baseline's, the cheapest at equal quality first.

    Results are per task if `by` names the task.

    Grain: one row per group; `more["points"]`: one row per point; `more["others"]`: one row per
    task, where three points or more are known, of the frontier that all groups but the baseline
    make together. A group is one point, or a curve of as many as the column `points` tells apart:
    budgets, sizes, bits.

    The baseline's point is its best one. At equal quality: the least cost at which a curve is at
    least as good, over the baseline's cost. At equal cost: the most quality that a curve has for no
    more, minus the baseline's. Between Pareto points of a curve the cost is interpolated
    (`between`), which a mixture of the two attains; before its cheapest and after its best point a
    curve does not go on: what it never reaches is null, not extrapolated. Where both curves span a
    range, the means over it compare them as a whole (as Bjøntegaard's do for video codecs, there
    with a cubic).

    Given traces, a figure is the mean over items of the mean over trials, both over the scored
    traces whose x is known. Given aggregates (columns `metric`, `value`) it is the mean of the
    metric's values, without intervals: any metric in either direction. Intervals: expanded
    percentile bootstrap of item clusters, the same for all groups. A resample in which a curve
    never gets as good counts as infinitely expensive; one in which it is more expensive throughout
    is left out of the gain, whose interval is null where that is more than one in ten. The
    probabilities count both as no.
    """
    if options["x"] == options["y"]:
        raise AnalysisError(f"x and y are both {options['x']}; choose two")
    keys = (*by, *(() if options["points"] in (None, *by) else (options["points"],)))
    present = frame.collect_schema().names()
    if options["points"] is not None and options["points"] not in present:
        raise AnalysisError(unknown_name("column of points", options["points"], present))
    units: dict[str, str] = {}
    if grain.are_figures(frame.collect_schema().names()):
        parts, dropped, notes, units = _from_results(frame, keys, options)
    else:
        parts, dropped, notes = _from_traces(frame, keys, rng, options)
    group_columns = [c for c in by if c != "task"] or list(by)
    baseline = _baseline(parts, group_columns, options)
    tables: dict[str, list[pl.DataFrame]] = {"rows": [], "points": [], "others": []}
    for task, points in parts:
        judged, judge_notes = _judge(points, group_columns, baseline, options)
        notes += tuple(f"{task}: {text}" if task else text for text in judge_notes)
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        for name, table in judged.items():
            tables[name].append(table.with_columns(where))
    columns = (*_axes(options, units).values(), *_ROWS, *_POINTS)
    more = {
        name: pl.concat(tables[name], how="vertical_relaxed")
        for name in ("points", "others")
        if tables[name]
    }
    if not tables["rows"]:
        return Answer(
            empty(by, (*_axes(options, units).values(), *_ROWS)), columns, {}, dropped, notes
        )
    rows = pl.concat(tables["rows"], how="vertical_relaxed")
    order = [*(["task"] if "task" in by and len(by) > 1 else []), "cost_ratio"]
    rows = rows.select(*by, pl.exclude(by)).sort(*order, *by, nulls_last=True)
    return Answer(rows, columns, more, dropped, notes)


def _axes(options: dict[str, Any], units: dict[str, str]) -> dict[str, Column]:
    """Declare the columns of the axes and their intervals; a metric has its own unit."""
    schema = known_columns()
    rate = Column(
        "pass_rate", "float", "0..1", "Mean over items of the share of trials that passed."
    )
    axis_columns: dict[str, Column] = {}
    for axis in ("y", "x"):
        name = options[axis]
        base = (
            rate
            if name == "pass_rate"
            else schema.get(name, Column(name, "float", units.get(name, "")))
        )
        doc = base.doc or "Mean of the metric's values."
        base = dataclasses.replace(base, type="float", null=KEY_NULL, doc=doc)
        axis_columns |= {c.name: c for c in ends(base, _AGGREGATE)}
    return axis_columns


Part = tuple[str | None, _Points]


def _from_traces(
    frame: "nw.LazyFrame[Any]",
    keys: Sequence[str],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> tuple[list[Part], dict[str, int], tuple[str, ...]]:
    plan = tradeoff.reduction(options)
    for measure in plan.measures:
        check_measure(frame, measure, "axis")
    items = reduce_items(
        frame,
        keys,
        plan.measures,
        outcome=plan.outcome,
        require=plan.require,
        scored=plan.scored,
        errors_as_wrong=options["errors_as_wrong"],
    )
    built = build(items, shared=options["shared"])
    parts = [(task, _drawn(panel, rng, options)) for task, panel in built.parts]
    return parts, built.dropped, built.notes


def _drawn(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> _Points:
    """Compute the points of a panel on both axes, with resamples."""
    values = {
        axis: panel.outcome() if options[axis] in SCORES else panel.measure(options[axis])
        for axis in ("y", "x")
    }
    bootstrap = sample.draw(panel, values, rng, options)
    shown = {
        s.name: s
        for axis in ("y", "x")
        for s in bootstrap.series(options[axis], operator.itemgetter(axis))
    } | {s.name: s for s in sample.counts(panel)}
    both = {
        axis: bootstrap.means[axis][None, :]
        if bootstrap.draws is None
        else np.vstack([bootstrap.means[axis], bootstrap.draws[axis]])
        for axis in values
    }
    cost, gain = _oriented(both["x"], both["y"], options)
    return _Points(panel.groups, cost, gain, shown, panel.n_clusters)


def _from_results(
    frame: "nw.LazyFrame[Any]", keys: Sequence[str], options: dict[str, Any]
) -> tuple[list[Part], dict[str, int], tuple[str, ...], dict[str, str]]:
    """Take two metrics of aggregates as the axes."""
    wide = published_figures.wide(frame, keys, (options["x"], options["y"]))
    whole = wide.frame.drop_nulls([options["x"], options["y"]])
    group_columns = [c for c in keys if c != "task"]
    split = "task" in keys and bool(group_columns)
    pieces = whole.partition_by("task", as_dict=True) if split else {(None,): whole}
    parts: list[Part] = []
    for (task,), piece in sorted(pieces.items(), key=lambda pair: str(pair[0])):
        if piece.height:
            x, y = (piece[options[axis]].to_numpy()[None, :] for axis in ("x", "y"))
            cost, gain = _oriented(x, y, options)
            shown = {options[axis]: piece[options[axis]] for axis in ("y", "x")}
            groups = piece.select(group_columns if split else keys)
            parts.append((None if task is None else str(task), _Points(groups, cost, gain, shown)))
    missing = wide.frame.height - whole.height
    dropped = {f"groups without {options['x']} or {options['y']}": missing}
    return parts, dropped, wide.notes, wide.units


def _oriented(x: Floats, y: Floats, options: dict[str, Any]) -> tuple[Floats, Floats]:
    """Turn both axes so that costs are to be low and gains high; costs in logarithms if asked."""
    if options["log_x"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.where(x > 0, np.log(x), np.nan)
    return (-x if options["maximise_x"] else x), (-y if options["minimise_y"] else y)


def _plain(cost: Floats, options: dict[str, Any]) -> Floats:
    """Turn oriented costs back to x."""
    x = -cost if options["maximise_x"] else cost
    return np.exp(x) if options["log_x"] else x


def _baseline(
    parts: Sequence[Part], group_columns: Sequence[str], options: dict[str, Any]
) -> str | None:
    """Name the baseline: the option's value, or the group with the worst mean cost."""
    costs: dict[str, list[float]] = {}
    for _, points in parts:
        for row, cost in zip(
            points.groups.select(group_columns).iter_rows(), points.cost[0], strict=True
        ):
            costs.setdefault(label(row), []).append(float(cost))
    baseline = options["baseline"]
    if baseline is not None and baseline not in costs and costs:
        raise AnalysisError(unknown_name("group for baseline", baseline, costs))
    if baseline is not None or not costs:
        return None if baseline is None else str(baseline)
    return max(sorted(costs), key=lambda name: np.nan_to_num(np.mean(costs[name]), nan=-np.inf))


def _judge(
    points: _Points, group_columns: Sequence[str], baseline: str | None, options: dict[str, Any]
) -> tuple[dict[str, pl.DataFrame], tuple[str, ...]]:
    """Compare the curves of one task with the baseline's: tables by name, and notes."""
    names = [label(row) for row in points.groups.select(group_columns).iter_rows()]
    places = {name: [j for j, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    if baseline not in places:
        return {}, (f"the baseline {baseline} has no point",)
    base = places[str(baseline)]
    rows = [
        _row(points, at, base, options) | {"is_baseline": name == baseline}
        for name, at in places.items()
    ]
    first = [at[0] for at in places.values()]
    table = points.groups.select(group_columns)[first]
    figures = pl.DataFrame(rows, schema=dict(empty((), _ROWS).schema) | _floats(options))
    named = [*_axes(options, {}), *(c.name for c in _ROWS)]
    comparison = {
        "rows": table.hstack(figures.select(named)),
        "points": _listed(points, places, base, options),
    }
    others = [j for j in range(len(names)) if j not in base]
    if len(others) > 1:
        alone = pl.DataFrame([_row(points, others, base, options)], schema=figures.schema)
        null_columns = [c.name for c in _ROWS if c.name not in {"is_baseline", "n_items", "n"}]
        comparison["others"] = alone.select(null_columns)
    return comparison, _notes(places, rows, baseline)


def _floats(options: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(_axes(options, {}), pl.Float64)


def _listed(
    points: _Points, places: dict[str, list[int]], base: list[int], options: dict[str, Any]
) -> pl.DataFrame:
    """List every point with its place on its own curve."""
    on = np.zeros(points.groups.height, bool)
    for at in places.values():
        on[at] = pareto.non_dominated(points.cost[0, at], points.gain[0, at])
    height = points.groups.height
    axes = [
        points.shown.get(c, pl.Series(c, [None] * height, pl.Float64)).alias(c).cast(pl.Float64)
        for c in _axes(options, {})
    ]
    return points.groups.with_columns(
        *axes, is_baseline=pl.Series([j in base for j in range(height)]), on_frontier=pl.Series(on)
    )


def _best(points: _Points, at: list[int]) -> int:
    """The point of a curve with the highest gain, then the lowest cost."""
    known = [j for j in at if not np.isnan(points.gain[0, j] + points.cost[0, j])] or at
    return min(known, key=lambda j: (-points.gain[0, j], points.cost[0, j]))


def _row(
    points: _Points, at: list[int], base: list[int], options: dict[str, Any]
) -> dict[str, Any]:
    """Compare one curve with the baseline."""
    straight = options["between"] == "line"
    curve = Curve(points.cost[:, at], points.gain[:, at], straight=straight)
    against = Curve(points.cost[:, base], points.gain[:, base], straight=straight)
    place = _best(points, base)
    best = _best(points, at)
    cost = points.cost[:, place]
    gain = points.gain[:, place]
    needed = _ratio(curve.cost_of(gain), cost, options)
    more = curve.gain_at(cost) - gain
    shown = -more if options["minimise_y"] else more
    row = {name: series[best] for name, series in points.shown.items()}
    never = 0.0 if options["maximise_x"] else np.inf
    row |= {"n_points": len(at), **_figure("cost_ratio", needed, points, options["level"], never)}
    row |= _figure("gain", shown, points, options["level"])
    if at == base:  # its chance of beating its own best point says nothing
        row |= dict.fromkeys(
            f"{name}_{end}" for name in ("cost_ratio", "gain") for end in ("low", "high")
        )
    elif len(needed) > 1 and points.n_clusters > 1:
        less = needed > 1 + 1e-9 if options["maximise_x"] else needed < 1 - 1e-9
        row |= {"p_cheaper": float(less[1:].mean()), "p_better": float((more[1:] > 1e-9).mean())}
    ratio = step_curves.mean_cost_ratio(curve, against, lambda cost: _plain(cost, options))
    row["mean_cost_ratio"] = _known(ratio)
    mean = step_curves.mean_gain(curve, against)
    row["mean_gain"] = _known(-mean if options["minimise_y"] else mean)
    wanted = {*_axes(options, {}), *(c.name for c in _ROWS)}
    return dict.fromkeys(wanted) | {k: v for k, v in row.items() if k in wanted}


def _ratio(needed: Floats, cost: Floats, options: dict[str, Any]) -> Floats:
    x = _plain(needed, options)
    base = _plain(cost, options)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(base > 0, x / base, np.nan)


def _figure(
    name: str, values: Floats, points: _Points, level: float, never: float = float("nan")
) -> dict[str, float | None]:
    """A figure of the data (first) with its percentile interval over the resamples.

    `never` stands for a resample without the figure; NaN leaves it out, a tenth of them at most.
    """
    low = high = None
    draws = np.where(np.isnan(values[1:]), never, values[1:])
    known = ~np.isnan(draws)
    if points.n_clusters > 1 and known.sum() >= 0.9 * len(draws) and not np.isnan(values[0]):
        interval = resampling.percentile(draws[known][:, None], level, points.n_clusters)
        low, high = (float(end[0]) for end in interval)
    return {name: _known(values[0]), f"{name}_low": low, f"{name}_high": high}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _notes(
    places: dict[str, list[int]], rows: Sequence[dict[str, Any]], baseline: str | None
) -> tuple[str, ...]:
    """Write notes on the baseline and on groups that never reach it."""
    named = list(zip(places, rows, strict=True))
    never = [name for name, row in named if row["cost_ratio"] is None]
    notes = [f"the baseline is {baseline}"]
    if never:
        more = f" and {len(never) - 5} more" if len(never) > 5 else ""
        notes.append(f"never as good as the baseline: {'; '.join(never[:5])}{more}")
    return tuple(notes)
