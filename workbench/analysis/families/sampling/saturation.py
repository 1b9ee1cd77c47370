"""Saturation of accuracy with more samples, more rounds or a larger budget."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import attempt_counts, joint_resampling, parameter_levels, rounds
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.inputs.votes import item_votes, with_answers
from workbench.analysis.stats import intervals, pass_at_k, resampling
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_MOST = 100  # votes of a curve
_NAMED = 4  # groups that a note names
_NULL_IF_FEW = "fewer than two items, or no fit"
_NO_FIT = "fewer than three levels, or nothing ever right"
_ROWS = (
    Column("n_items", "int", "count", "Items of the curve.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    Column("n_levels", "int", "count", "Points of the curve.", KEY_NULL, "levels"),
    Column("most", "float", "", "The largest level tried.", KEY_NULL, "largest level"),
    *ends(
        Column("plateau", "float", "0..1", "Accuracy that endless tries approach: F_max.", _NO_FIT),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "step",
            "float",
            "0..1",
            "Share of what is left that one more unit gains: p.",
            _NO_FIT,
            "gained per unit",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "n_star",
            "float",
            "",
            "Units after which one more gains no more than it must; infinite where the "
            "curve has no bend.",
            _NO_FIT,
            "saturation at",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "is_beyond",
        "bool",
        doc="Saturation lies beyond the largest level tried: an extrapolation of the law.",
        null=_NO_FIT,
        title="beyond what was tried",
    ),
    Column(
        "must_gain",
        "float",
        "0..1",
        "Accuracy that one more unit must gain to be worth it: ε.",
        "a cost is unknown",
        "gain asked per unit",
    ),
    Column(
        "last_gain",
        "float",
        "0..1",
        "Gain per unit over the last two levels, as seen.",
        "a single level",
    ),
    Column(
        "worst_residual",
        "float",
        "0..1",
        "The largest distance of the curve from the law.",
        _NO_FIT,
        "largest residual",
    ),
    Column(
        "law_holds",
        "bool",
        doc="No point is further from the law than chance explains.",
        null=_NULL_IF_FEW,
    ),
    Column(
        "what",
        "text",
        doc="What is right: the commonest of N answers, one of N, or the trace.",
        null=KEY_NULL,
    ),
)
_CURVE = (
    Column("level", "float", "", "Samples, rounds or units of the setting: N.", KEY_NULL, "N"),
    *ends(Column("rate", "float", "0..1", "Accuracy.", KEY_NULL, "accuracy"), _NULL_IF_FEW),
    Column("law", "float", "0..1", "F_max (1 − (1 − p)^N).", _NO_FIT, "law"),
    Column("cost_usd", "float", "USD", "Mean cost of an item.", "a cost is unknown", "cost"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Curve:
    """Curve of a group.

    Levels (k,), accuracy per item (n_items, k) all known, cost (k,), cluster names (n_items,).
    """

    names: pl.DataFrame
    levels: Floats
    rate: Floats
    cost: Floats
    clusters: pl.Series
    n: int
    what: str


def law(levels: Floats, plateau: Floats, step: Floats) -> Floats:
    """F_max (1 − (1 − p)^N), (…, k)."""
    value: Floats = plateau[..., None] * -np.expm1(levels * np.log1p(-_below_one(step))[..., None])
    return value


def fit(levels: Floats, rate: Floats, *, roughly: bool = False) -> tuple[Floats, Floats]:
    """Fit F_max and p, both within 0..1, by least squares.

    For a given p the best F_max has a closed form; p is found on a grid of log(−ln(1 − p)), since
    the sum of squares may have several low points, and then on finer ones around the best.

    Args:
        levels: (k,) positive, rising.
        rate: (r, k).
        roughly: p to a thousandth of itself, by a parabola through the best three points: for
            resamples.

    Returns:
        (r,) F_max and (r,) p; NaN where all is 0.
    """
    low = math.log(1e-4 / levels[-1])
    high = math.log(40 / levels[0])
    grid = np.linspace(low, high, 241)
    wide = float(grid[1] - grid[0])
    squares = _squares(grid[None], levels, rate)
    place = np.clip(np.argmin(squares, axis=1), 1, len(grid) - 2)
    best = grid[np.argmin(squares, axis=1)]
    if roughly:
        a, b, c = (squares[np.arange(len(rate)), place + d] for d in (-1, 0, 1))
        bend = a - 2 * b + c
        shift = np.divide(a - c, 2 * bend, out=np.zeros_like(a), where=bend > 0)
        best = np.where(best == grid[place], best + wide * np.clip(shift, -1, 1), best)
    while wide > 1e-9 and not roughly:
        around = np.clip(best[:, None] + np.linspace(-wide, wide, 9), low, high)
        best = np.take_along_axis(
            around, np.argmin(_squares(around, levels, rate), axis=1)[:, None], 1
        )[:, 0]
        wide /= 4
    reach = -np.expm1(-np.exp(best)[:, None] * levels)
    plateau = np.clip((reach * rate).sum(axis=1) / (reach**2).sum(axis=1), 0.0, 1.0)
    never = rate.max(axis=1) <= 0
    step = -np.expm1(-np.exp(best))
    return np.where(never, np.nan, plateau), np.where(never, np.nan, step)


def _squares(logs: Floats, levels: Floats, rate: Floats) -> Floats:
    """Sum of squares at each log of −ln(1 − p), less that of the rates; (r, g).

    `logs` is (r, g), or (1, g) where all rows are looked for among the same.
    """
    reach = -np.expm1(-np.exp(logs)[..., None] * levels)
    top = rate @ reach[0].T if len(logs) == 1 else np.einsum("rgk,rk->rg", reach, rate)
    square = (reach**2).sum(axis=-1)
    plateau = np.clip(top / square, 0.0, 1.0)
    return np.asarray(plateau * (plateau * square - 2 * top))


def saturates_at(plateau: Floats, step: Floats, gain: float) -> Floats:
    """N* = ⌈ln(ε / (F_max p)) / ln(1 − p)⌉: the least N of which the next unit gains ε at most.

    0 where even the first unit gains no more; infinite where nothing bends the curve.
    """
    first = plateau * step
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.log(gain / first) / np.log1p(-_below_one(step))
    # A quotient that is whole but for rounding is not rounded up.
    whole = np.maximum(np.ceil(exact - 1e-9), 1.0)
    out: Floats = np.where(first <= gain, 0.0, whole)
    return np.where(np.isnan(first) | math.isnan(gain), np.nan, out)


def _below_one(step: Floats) -> Floats:
    return np.minimum(step, 1 - 1e-16)


@analysis(
    name="saturation",
    title="Saturation",
    question="Where do more samples, more rounds or a larger budget stop paying?",
    source="arXiv 2505.20522 (F(N) = F_max (1 − (1 − p)^N), from summaries; N* follows by algebra)",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option(
            "axis",
            "text",
            "trials",
            "what grows: trials, rounds (as noted in traces), or a numeric column or "
            "parameter of the strategy, such as thinking_budget_tokens, samples",
        ),
        Option(
            "select",
            "choice",
            "auto",
            "how one of several trials is chosen; auto votes where answers are recorded",
            choices=("auto", "vote", "any"),
        ),
        Option("epsilon", "float", 0.01, "accuracy that one more unit must gain", low=0, high=1),
        Option(
            "value_usd",
            "float",
            None,
            "what a right answer is worth: one more unit must gain its cost over this",
            low=0,
        ),
        Option(
            "unit",
            "float",
            1.0,
            "how much of the axis is one unit: 1000 for thousands of tokens",
            low=0,
        ),
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_CURVE),
    rows="trace_details",
    chart=ChartSpec("curve", x="level", y="rate", also=("law",)),
    settles=Settles("n_star", "most"),
    example={"by": ("model",), "where": "strategy:cot"},
)
def saturation(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Fit the law of saturation to accuracy over N, and find where the next unit stops paying.

    Grain: one row per group; `more["curve"]`: one row per group and level. Over trials, N recorded
    answers of an item are taken for the samples of one attempt: their commonest answer (`vote`,
    ties by lot), or any right one (`any`: pass@N, which needs a perfect verifier and saturates
    later); exact expectations over subsets, on the items with enough trials. Over rounds, N answers
    were given one after the other (see refinement). Over a setting, each level has traces of its
    own; `by` must leave it out (as model), and the items are those that all levels were tried on.

    Law: F(N) = F_max (1 − (1 − p)^N): N independent samples or rounds, each right with chance p,
    and no harm done. F_max is the plateau of the selected answer, not of coverage. Least squares
    over the levels, F_max and p within 0..1. N* is the least N with F(N + 1) − F(N) ≤ ε; where it
    is beyond the largest level tried it is an extrapolation (`is_beyond`), and its interval says
    how little is known.

    Check: `law_holds` compares every residual with its bootstrap spread (Bonferroni over the
    levels). Items of very different difficulty bend the curve otherwise than one p can, and answers
    that get worse (overthinking) break the law: trust the curve then, and `last_gain`. Intervals:
    bootstrap of item clusters, widened for few of them; those of the plateau hold it in 91 of 100
    simulated studies of 30 items, 93 of 100 items and 94 of 500, where 95 are promised.
    """
    if options["unit"] <= 0:
        raise AnalysisError("option unit: give how much of the axis is one unit, above 0")
    group_curves, dropped, notes = _curves_of(frame, by, options)
    rows = []
    curves = []
    fewest = intervals.ENOUGH_ITEMS
    parts = [
        joint_resampling.Part(joint_resampling.batch(c.names), c.clusters, c.rate)
        for c in group_curves
    ]
    resampled = joint_resampling.resample_jointly(parts, options["resamples"], rng)
    for curve, bootstrap in zip(group_curves, resampled, strict=True):
        row, table = _judge(curve, bootstrap, options)
        rows.append(row)
        curves.append(table)
        notes += _remarks(curve, row)
        if row["plateau_low"].item() is not None:
            fewest = min(fewest, bootstrap.n_clusters)
    notes += intervals.few_items_notes(fewest, "a plateau", 91)
    notes += _short(
        [c for c, r in zip(group_curves, rows, strict=True) if r["n_levels"].item() < 3]
    )
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    more = {"curve": pl.concat(curves).select(*by, *(c.name for c in _CURVE))} if curves else {}
    return Answer(table, more=more, dropped=dropped, notes=tuple(notes))


def _curves_of(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[list[_Curve], dict[str, int], list[str]]:
    axis = options["axis"]
    if axis == "trials":
        return _of_trials(frame, by, options)
    if axis == "rounds":
        noted = rounds.read(frame, by)
        curves = [_of_rounds(noted, names, at) for names, at in noted.groups(by)]
        return curves, noted.dropped, [] if curves else ["no trace notes its rounds"]
    ladder = parameter_levels.levelled_groups(frame, by, axis, ("cost_usd",), options)
    single = "; ".join(label(names.row(0)) for names in ladder.single[:5])
    notes = [f"only one level of {axis}: {single}; group by what stays the same"] if single else []
    if not ladder.single and not ladder.several:
        notes = [f"no trace has a number in {axis}"]
    curves = [_of_levels(each, options["unit"]) for each in ladder.several]
    return curves, ladder.dropped, notes


def _of_trials(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[list[_Curve], dict[str, int], list[str]]:
    """Take recorded trials for samples; vote where answers are known, or any right one."""
    items = reduce_items(frame, by, ("cost_usd",), errors_as_wrong=options["errors_as_wrong"])
    voting = options["select"] == "vote"
    lost = 0
    patterns = None
    if options["select"] != "any":
        answered, patterns, lost = with_answers(frame, items)
        voting = voting or bool(patterns.height)
        items = answered if voting else items
    panels = build(items)
    curves = []
    short = 0
    for task, panel in panels.parts:
        tries = attempt_counts.attempts(panel, None, cap=_MOST)
        short += tries.n_short
        voted = None
        if voting and patterns is not None:
            cast = item_votes(panel, patterns)
            right = np.vstack([cast.votes(tries.sizes)[0], np.full((1, len(tries.sizes)), np.nan)])
            voted = right[cast.place]
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        for g in range(panel.groups.height):
            curves += [
                dataclasses.replace(c, names=c.names.with_columns(where).select(by))
                for c in _of_group(tries, voted, g)
            ]
    spoilt = {"items with a right trace whose answer is not recorded": lost if voting else 0}
    return curves, panels.dropped | {attempt_counts.SHORT: short} | spoilt, list(panels.notes)


def _of_group(tries: attempt_counts.Attempts, voted: Floats | None, g: int) -> Iterator[_Curve]:
    """Make the curve of a group over its trials, if it has one."""
    sizes = [k for k in tries.sizes if k in pass_at_k.curve_sizes(tries.most[g])]
    if not sizes:
        return
    if voted is None:
        rate = tries.curve(g)
    else:
        rate = voted[:, g][:, [tries.sizes.index(k) for k in sizes]]
    enough = ~np.isnan(tries.n[:, g]) & ~np.isnan(rate).any(axis=1)
    if not enough.any():
        return
    levels = np.array(sizes, float)
    yield _Curve(
        tries.panel.groups[g],
        levels,
        rate[enough],
        levels * tries.cost[g],
        tries.panel.items["_cluster"].filter(pl.Series(enough)),
        int(tries.n[enough, g].sum()),
        "one of N right" if voted is None else "majority of N",
    )


def _of_rounds(noted: rounds.RecordedRounds, names: pl.DataFrame, at: Ints) -> _Curve:
    last = int(noted.is_round[at].sum(axis=1).max())
    place, codes = rounds.items(noted, at)
    n = np.bincount(place)[:, None]
    rate, cost = (rounds.added(x[at][:, :last], place) / n for x in (noted.right, noted.cost))
    levels = np.arange(1.0, last + 1)
    return _Curve(names, levels, rate, cost.mean(axis=0), codes, len(at), "after N answers")


def _of_levels(ladder: parameter_levels.LevelledGroup, unit: float) -> _Curve:
    panel: Panel = ladder.panel
    positive = np.array(ladder.levels) > 0
    levels = np.array(ladder.levels)[positive] / unit
    n = int(np.nansum(panel.matrix("n")))
    rate = panel.outcome()[:, positive]
    cost = panel.measure("cost_usd")[:, positive]
    return _Curve(
        ladder.names, levels, rate, cost.mean(axis=0), panel.items["_cluster"], n, "trace"
    )


def _judge(
    curve: _Curve, resampled: joint_resampling.ResampledMeans, options: dict[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fit one group's curve and its resamples, (resamples, k)."""
    draws = resampled.draws
    clusters = resampled.n_clusters
    levels = curve.levels
    mean = curve.rate.mean(axis=0)
    level = options["level"]
    gain = _must_gain(curve, options)
    row: dict[str, Any] = {
        "n_items": len(curve.rate),
        "n": curve.n,
        "n_levels": len(levels),
        "most": float(levels[-1]),
        "must_gain": gain,
        "what": curve.what,
        "last_gain": float((mean[-1] - mean[-2]) / (levels[-1] - levels[-2]))
        if len(levels) > 1
        else None,
    }
    fitted = np.full(len(levels), np.nan)
    if len(levels) > 2 and mean.max() > 0:
        fitted, more = _fitted(levels, mean, resampled, gain, level)
        row |= more
    names = [c.name for c in _ROWS]
    # `v != v` is true of NaN only
    full = {n: None if (v := row.get(n)) is None or v != v else v for n in names}  # noqa: PLR0124
    table = pl.DataFrame([full], schema=empty((), _ROWS).schema)
    low, high = (
        resampling.percentile(draws, level, clusters)
        if draws is not None
        else (np.full_like(mean, np.nan),) * 2
    )
    points = pl.DataFrame(
        {
            "level": levels,
            "rate": mean,
            "rate_low": low,
            "rate_high": high,
            "law": fitted,
            "cost_usd": curve.cost,
        }
    ).fill_nan(None)
    return pl.concat([curve.names, table], how="horizontal"), curve.names.join(points, how="cross")


def _must_gain(curve: _Curve, options: dict[str, Any]) -> float:
    """ε: as requested, or what one more unit costs over what a right answer is worth."""
    value = options["value_usd"]
    if value is None:
        return float(options["epsilon"])
    x = curve.levels
    y = curve.cost
    if len(x) < 2 or np.isnan(y).any() or value <= 0:
        return float("nan")
    away = x - x.mean()
    return float((away * y).sum() / (away**2).sum() / value)


def _fitted(
    levels: Floats,
    mean: Floats,
    resampled: joint_resampling.ResampledMeans,
    gain: float,
    level: float,
) -> tuple[Floats, dict[str, Any]]:
    """Fit the curve and its resamples; compare what is left with its spread."""
    bootstrap_draws = resampled.draws
    clusters = resampled.n_clusters
    plateau, step = fit(levels, mean[None])
    star = saturates_at(plateau, step, gain)
    fitted = law(levels, plateau, step)[0]
    residual = mean - fitted
    row: dict[str, Any] = {
        "plateau": float(plateau[0]),
        "step": float(step[0]),
        "n_star": float(star[0]),
        "is_beyond": None if math.isnan(star[0]) else bool(star[0] > levels[-1]),
        "worst_residual": float(np.abs(residual).max()),
    }
    if bootstrap_draws is None:
        return fitted, row
    plateaus, steps = fit(levels, bootstrap_draws, roughly=True)
    for name, draws in (
        ("plateau", plateaus),
        ("step", steps),
        ("n_star", saturates_at(plateaus, steps, gain)),
    ):
        if np.isnan(draws).all():
            continue
        low, high = resampling.percentile(draws[:, None], level, clusters)
        row |= {f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    spread = np.nanstd(bootstrap_draws - law(levels, plateaus, steps), axis=0)
    reach = NormalDist().inv_cdf(1 - (1 - level) / (2 * len(levels)))
    row["law_holds"] = bool((np.abs(residual) <= reach * spread + 1e-6).all())
    return fitted, row


def _short(curves: Sequence[_Curve]) -> list[str]:
    """Write a note on the groups whose curves have too few levels."""
    names = [label(c.names.row(0)) for c in curves]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        [f"the law needs three levels: fewer of {', '.join(names[:_NAMED])}{more}"] if names else []
    )


def _remarks(curve: _Curve, row: pl.DataFrame) -> list[str]:
    """Write notes on a curve: its fit, saturation and extrapolation."""
    name = label(curve.names.row(0))
    figures = row.row(0, named=True)
    remarks = []
    if figures["law_holds"] is False:
        remarks.append(f"{name}: the curve is not of the law's shape; look at it before N*")
    if figures["is_beyond"]:
        high = figures["n_star_high"]
        upto = "" if high is None or math.isinf(high) else f", {high:g} at most"
        remarks.append(f"{name}: not saturated at N = {figures['most']:g}; try more{upto}")
    return remarks
