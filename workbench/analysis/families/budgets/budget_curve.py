"""Budget curve: accuracy gained by a larger thinking budget or more effort."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES
from workbench.analysis.core.result import DTYPES, Answer, label
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_BUDGET = "thinking_budget_tokens"
_EFFORT = "effort"
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_MEASURES = ("output_tokens", "cost_usd", "energy_j")
_ROWS = (
    Column(
        "level",
        "text",
        doc="The budget in thinking tokens, or the effort, as set.",
        null="not set",
        title="budget or effort",
    ),
    Column("place", "int", "count", "Place of the level, from 1 the least.", KEY_NULL, "place"),
    Column(
        "n_items",
        "int",
        "count",
        "Items that every level of the group was tried on.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Scored traces on them.", KEY_NULL, "traces"),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Mean over items of the outcome of their trials.",
            KEY_NULL,
            "accuracy",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "output_tokens",
            "float",
            "tokens",
            "Mean output tokens, which need not be the budget.",
            "unknown of some trace",
            "output tokens spent",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "cost_usd", "float", "USD", "Mean cost of a trace.", "unknown of some trace", "cost"
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "gain",
            "float",
            "0..1",
            "Accuracy above the level before.",
            "the first level",
            "gain over the level before",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "per_point_usd",
            "float",
            "USD",
            "Extra cost per point (1 %) of accuracy gained over the level before; infinite "
            "where it is dearer and no better.",
            "the first level, a cost unknown, or not dearer",
            "marginal cost per point",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "per_point_j",
            "float",
            "J",
            "Extra energy per point of accuracy gained over the level before; infinite "
            "where it takes more and is no better.",
            "the first level, energy unknown, or no more of it",
            "marginal energy per point",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "overthinking",
            "float",
            "0..1",
            "How far the best of the lower levels lies above this one; 0 where none does.",
            KEY_NULL,
        ),
        FEW_ITEMS,
    ),
)
_AREAS = (
    Column("n_levels", "int", "count", "Levels.", KEY_NULL, "levels"),
    *ends(
        Column(
            "mean_rate",
            "float",
            "0..1",
            "Mean accuracy, all levels weighing alike (anytime score, uniform).",
            KEY_NULL,
            "anytime, uniform",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "linear_rate",
            "float",
            "0..1",
            "Mean accuracy weighed by the budget (anytime score, linear).",
            "levels are not budgets",
            "anytime, linear",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "area",
            "float",
            "0..1",
            "Area under accuracy from budget 0 (accuracy 0) to the largest, over it.",
            "levels are not budgets",
        ),
        FEW_ITEMS,
    ),
    *ends(Column("regret", "float", "0..1", "1 − area.", "levels are not budgets"), FEW_ITEMS),
    *ends(
        Column(
            "log_area",
            "float",
            "0..1",
            "Area over the logarithm of the budget, from the least to the largest, over its span.",
            "levels are not budgets, or one alone",
            "area over log budget",
        ),
        FEW_ITEMS,
    ),
    Column(
        "best_level",
        "text",
        doc="The level of the highest accuracy; the least of equal ones.",
        null="not set",
    ),
    Column(
        "n_overthinking",
        "int",
        "count",
        "Levels with a lower accuracy than a lower level.",
        KEY_NULL,
        "levels past the best",
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Curve:
    """The levels of one group, from the least, on the items that all of them have."""

    levels: list[str | None]
    budgets: Floats | None  # where the levels are budgets
    counts: list[pl.Series]
    bootstrap: sample.Sample


def area(budgets: Floats | None, rate: Floats, upto: float | None = None) -> Floats:
    """Area under accuracy from (0, 0), by trapezia, over the largest budget or `upto`.

    Between budgets accuracy is interpolated, beyond the last it stays (as in MRT, whose normalised
    regret is 1 − this); a budget of 0 starts the curve at its own accuracy.

    Args:
        budgets: (k,) rising, not negative; NaN results where they are unknown, or all 0.
        rate: (…, k).
        upto: where the area ends; the last budget where None.
    """
    if budgets is None or budgets[-1] == 0:
        return np.full(rate.shape[:-1], np.nan)
    top = float(budgets[-1]) if upto is None else upto
    x = budgets
    y = rate
    if x[0] > 0:
        x = np.concatenate([[0.0], x])
        y = np.concatenate([np.zeros_like(y[..., :1]), y], axis=-1)
    if top > x[-1]:
        x, y = np.append(x, top), np.concatenate([y, y[..., -1:]], axis=-1)
    right = int((x < top).sum())
    part = (top - x[right - 1]) / (x[right] - x[right - 1])
    last = y[..., right - 1] + part * (y[..., right] - y[..., right - 1])
    x, y = np.append(x[:right], top), np.concatenate([y[..., :right], last[..., None]], axis=-1)
    share: Floats = _under(x, y) / top
    return share


def _under(x: Floats, y: Floats) -> Floats:
    whole: Floats = (np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(axis=-1)
    return whole


def log_area(budgets: Floats | None, rate: Floats) -> Floats:
    """Area over ln(budget) between the budgets above 0, over its span; NaN below two of them."""
    positive = np.zeros(0, bool) if budgets is None else budgets > 0
    if budgets is None or positive.sum() < 2:
        return np.full(rate.shape[:-1], np.nan)
    x = np.log(budgets[positive])
    share: Floats = _under(x, rate[..., positive]) / (x[-1] - x[0])
    return share


def linear(budgets: Floats | None, rate: Floats) -> Floats:
    """Mean accuracy weighed by the budget; NaN where budgets are unknown, or all 0."""
    if budgets is None or budgets.sum() == 0:
        return np.full(rate.shape[:-1], np.nan)
    score: Floats = (rate * budgets).sum(axis=-1) / budgets.sum()
    return score


_FORMULAS: dict[str, Callable[[Floats | None, Floats], Floats]] = {
    "mean_rate": lambda _, rate: np.asarray(rate.mean(axis=-1)),
    "linear_rate": linear,
    "area": area,
    "regret": lambda budgets, rate: 1 - area(budgets, rate),
    "log_area": log_area,
}


@analysis(
    name="budget-curve",
    title="Budget curve",
    question="What does a larger thinking budget, or more effort, buy?",
    source="Anytime scores: AnytimeReasoner; normalised regret: MRT; marginal cost: ours",
    needs=("item_id",),
    measures=_MEASURES,
    options=(
        Option(
            "axis",
            "choice",
            "auto",
            "what the levels are; auto takes the budget where one is set",
            choices=("auto", _BUDGET, _EFFORT),
        ),
        OUTCOME,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_AREAS),
    example={"by": ("model",), "where": "strategy:budgeted"},
    within=("thinking_budget_tokens", "effort"),
    chart=ChartSpec("budget_curve", x="output_tokens", y="rate"),
)
def budget_curve(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Follow each group over its thinking budgets or effort levels, the least first.

    Grain: one row per group and level; `more["areas"]`: one row per group. A group's name must
    leave the level out (`by` model, not configuration), else every group has one level. Levels of a
    group are compared on the items that all of them have; only scored traces count; trials are
    averaged within their item. Efforts are ordered as none, minimal, low, medium, high, xhigh, max;
    others follow by name. Traces without a level are left out where the group has others that have
    one.

    Marginal cost per point: (C_b − C_a) / (100 (A_b − A_a)) against the level before; infinite
    where b is more expensive and no better, null where it is not more expensive. Overthinking: the
    running best below minus A, where positive. Areas: see the columns; they compare only on the
    same budgets.
    Intervals: expanded percentile bootstrap of item clusters, the same resample for all levels of a
    group. A marginal figure's upper end is infinite where the gain may be nothing. Cost, energy and
    tokens of a level are null where one of its traces lacks them, so that they speak of the same
    traces as accuracy.
    """
    by = tuple(by)
    axis = _axis(frame, options["axis"])
    if axis in by:
        raise AnalysisError(
            f"by: {axis} is the axis of the curve; group by what stays the same on it"
        )
    present = frame.collect_schema().names()
    if axis not in present:
        frame = frame.with_columns(nw.lit(None, nw.String).alias(axis))
    items = reduce_items(
        frame,
        (*by, axis),
        _MEASURES,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    )
    rows = []
    areas = []
    lost = 0
    unset = 0
    counted_rows = items.frame.filter(pl.col("n") > 0)
    for key, part in counted_rows.group_by(by, maintain_order=True):
        named = [pl.lit(v, counted_rows.schema[c]).alias(c) for c, v in zip(by, key, strict=True)]
        levelled = part.filter(pl.col(axis).is_not_null()) if part[axis].count() else part
        unset += int(part["n"].sum()) - int(levelled["n"].sum())
        panel = build(dataclasses.replace(items, frame=levelled, by=(axis,))).parts[0][1]
        shared = panel.restrict(panel.everywhere)
        lost += panel.items.height - shared.items.height
        if shared.items.height:
            curve = _curve(shared, axis, rng, options)
            rows.append(_levels(curve).select(*named, pl.all()))
            areas.append(_areas(curve).select(*named, pl.all()))
    blank = {c: items.frame.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    table = pl.concat(rows) if rows else pl.DataFrame(schema=blank)
    more = {"areas": pl.concat(areas)} if areas else {}
    dropped = items.dropped() | {
        f"traces without {axis}": unset,
        "items that not every level was tried on": lost,
    }
    return Answer(table, more=more, dropped=dropped, notes=_notes(areas, by))


def _axis(frame: "nw.LazyFrame[Any]", axis: str) -> str:
    """Choose what the levels are: what was asked, else the budget where any is set."""
    if axis != "auto":
        return axis
    present = set(frame.collect_schema().names())
    have = [c for c in (_BUDGET, _EFFORT) if c in present]
    if not have:
        return _EFFORT
    known = frame.select(nw.col(c).count() for c in have).collect("polars").to_native().row(0)
    return next((c for c, n in zip(have, known, strict=True) if n), _EFFORT)


def _curve(panel: Panel, axis: str, rng: np.random.Generator, options: dict[str, Any]) -> _Curve:
    """Line one group's levels up."""
    order = _order(panel.groups[axis])
    values = {"rate": panel.outcome()[:, order]}
    for measure in _MEASURES:
        whole = np.nansum(panel.matrix(f"{measure}_known"), axis=0) == np.nansum(
            panel.matrix("n"), axis=0
        )
        values[measure] = np.where(whole, panel.measure(measure), np.nan)[:, order]
    raw = [panel.groups[axis][j] for j in order]
    set_ = axis == _BUDGET and raw[0] is not None
    return _Curve(
        [None if level is None else str(level) for level in raw],
        np.array(raw, float) if set_ else None,
        [counted.gather(order) for counted in sample.counts(panel)],
        sample.draw(panel, values, rng, options),
    )


def _order(levels: pl.Series) -> list[int]:
    """Order levels: not set, then budgets by size, or efforts by their usual names."""

    def rank(j: int) -> tuple[float, str]:
        value = levels[j]
        if value is None:
            return -1.0, ""
        if isinstance(value, int | float):
            return float(value), ""
        known = str(value).lower()
        return float(_EFFORTS.index(known) if known in _EFFORTS else len(_EFFORTS)), known

    return sorted(range(len(levels)), key=rank)


def _levels(curve: _Curve) -> pl.DataFrame:
    """One row per level, with what it adds to the one before."""
    bootstrap = curve.bootstrap
    n = len(curve.levels)
    return pl.DataFrame(
        [
            pl.Series("level", curve.levels, pl.String),
            pl.Series("place", range(1, n + 1), pl.Int64),
            *curve.counts,
            *(
                s
                for c in ("rate", "output_tokens", "cost_usd")
                for s in bootstrap.series(c, operator.itemgetter(c))
            ),
            *bootstrap.series("gain", lambda m: _step(m["rate"])),
            *_marginal(bootstrap, "per_point_usd", "cost_usd"),
            *_marginal(bootstrap, "per_point_j", "energy_j"),
            *bootstrap.series("overthinking", _overthinking),
        ]
    )


def _step(values: Floats) -> Floats:
    """Each level minus the one before; NaN for the first."""
    first = np.full_like(values[..., :1], np.nan)
    return np.concatenate([first, np.diff(values, axis=-1)], axis=-1)


def _marginal(bootstrap: sample.Sample, name: str, measure: str) -> list[pl.Series]:
    def price(means: sample.Means) -> Floats:
        more = _step(means[measure])
        gain = 100 * _step(means["rate"])
        rises = gain > 1e-9  # rounding is no gain
        paid: Floats = np.where(rises, sample.per(more, np.where(rises, gain, 1.0)), np.inf)
        return np.where(more > 0, paid, np.nan)

    value, *ends_ = bootstrap.series(name, price)
    return [value, *(end.set(value.is_null(), None) for end in ends_)]


def _overthinking(means: sample.Means) -> Floats:
    rate = means["rate"]
    excess: Floats = np.maximum.accumulate(rate, axis=-1) - rate
    return excess


def _areas(curve: _Curve) -> pl.DataFrame:
    """One row per group: anytime scores and areas over the levels."""
    rate = curve.bootstrap.means["rate"]
    budgets = curve.budgets
    bootstrap = dataclasses.replace(curve.bootstrap, clusters=curve.bootstrap.clusters[:1])
    figures = [
        s
        for name, formula in _FORMULAS.items()
        for s in bootstrap.series(name, functools.partial(_figure, formula, budgets))
    ]
    return pl.DataFrame(
        [
            pl.Series("n_levels", [len(rate)], pl.Int64),
            *figures,
            pl.Series("best_level", [curve.levels[int(np.argmax(rate))]], pl.String),
            pl.Series(
                "n_overthinking", [int((_overthinking({"rate": rate}) > 1e-12).sum())], pl.Int64
            ),
        ]
    )


def _figure(
    formula: Callable[[Floats | None, Floats], Floats], budgets: Floats | None, means: sample.Means
) -> Floats:
    """One figure per group, as a column of one."""
    return np.asarray(formula(budgets, means["rate"]))[..., None]


def _notes(areas: list[pl.DataFrame], by: Sequence[str]) -> tuple[str, ...]:
    single = [a for a in areas if a["n_levels"].item() < 2]
    if not single:
        return ()
    names = "; ".join(label(a.select(by).row(0)) for a in single[:5])
    return (f"only one level: {names}; group by what stays the same over the levels, as model",)
