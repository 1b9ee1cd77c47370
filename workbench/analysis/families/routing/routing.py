"""Routing of items to models: single models, random mixing, learned routers, and an oracle."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, cost_axis
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import features
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import check_measure, reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import knapsack, quality_curves, resampling
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column, known_columns

_NULL_IF_FEW = "fewer than two items, or a single model"
_SINGLE = "a single model"
_PAIR = "a single model, or no gap between the two"
_PRICES = 15  # points of a router's curve, beside its two ends
_TENTHS = np.linspace(0, 1, 11)
_SAMPLED = 2000
ORACLE = "oracle"
MIX = "random mix"
_ROWS = (
    Column(
        "router", "text", doc="A single model, or a way to choose one for each item.", null=KEY_NULL
    ),
    Column("kind", "text", doc="single, mix, learned or oracle.", null=KEY_NULL),
    Column("n_items", "int", "count", "Items that every model was tried on.", KEY_NULL, "items"),
    Column(
        "peak_rate",
        "float",
        "0..1",
        "The highest accuracy of the curve (P_s).",
        KEY_NULL,
        "highest accuracy",
    ),
    Column(
        "peak_cost", "float", "", "The least mean cost at which it has it.", KEY_NULL, "cost there"
    ),
    *ends(
        Column(
            "mean_rate",
            "float",
            "0..1",
            "Mean accuracy over the costs from the cheapest to the dearest single model "
            "(nAUC, on the range that all share).",
            _SINGLE,
            "accuracy over costs",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "gain",
            "float",
            "0..1",
            "That minus the random mix's: what knowing the item is worth.",
            _SINGLE,
            "gain over mixing",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "own_mean_rate",
        "float",
        "0..1",
        "nAUC over the router's own range of costs, as MMR-Bench has it; not comparable.",
        "a single point",
        "nAUC, own range",
    ),
    Column(
        "parity",
        "float",
        "0..1",
        "The least cost at which it is as good as the best single model, over that model's "
        "cost (QNC); infinite where it never is.",
        "that model is free",
        "cost at parity",
    ),
    Column(
        "aiq",
        "float",
        "0..1",
        "Area under its concave hull up to the dearest model's cost, over that cost (AIQ, "
        "as RouterBench's code has it).",
        KEY_NULL,
        "AIQ",
    ),
    Column(
        "aiq_span",
        "float",
        "0..1",
        "The same over the span of costs alone (AIQ as the paper writes it; unverified).",
        "no span",
        "AIQ over the span",
    ),
    Column(
        "apgr",
        "float",
        "",
        "Part of the gap between two models that it closes, on average over shares of "
        "strong calls (APGR); an oracle goes beyond 1.",
        _PAIR,
        "gap closed (APGR)",
    ),
    *(
        Column(
            f"cpt_{p}",
            "float",
            "0..1",
            f"Share of calls to the strong model that close {p} % of the gap.",
            "never closed, a single model, or no gap",
            f"CPT {p} %",
        )
        for p in (20, 50, 80)
    ),
)
_CURVE = (
    Column("cost", "float", "", "Mean cost of an item.", KEY_NULL),
    Column("rate", "float", "0..1", "Accuracy there.", KEY_NULL, "accuracy"),
)
_ASSIGNED = (
    Column("model", "text", doc="A single model.", null=KEY_NULL),
    Column(
        "given_share",
        "float",
        "0..1",
        "Share of the items that the router gives to it within the budget.",
        KEY_NULL,
        "share of items",
    ),
    Column(
        "budget_rate",
        "float",
        "0..1",
        "Accuracy of the whole assignment.",
        KEY_NULL,
        "accuracy within budget",
    ),
    Column(
        "budget_cost",
        "float",
        "",
        "Mean cost of the whole assignment, as it came out.",
        KEY_NULL,
        "cost within budget",
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """Items × models, cheapest model first; all known.

    Attributes:
        names: of the models; rate, cost: (n_items, m).
        predicted: by router, (n_items, m) accuracy and cost as it expects them.
    """

    panel: Panel
    names: list[str]
    rate: Floats
    cost: Floats
    predicted: dict[str, tuple[Floats, Floats]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Curve:
    """Points of a router: (k,) mean costs and accuracies, and their (n_items, k) values."""

    kind: str
    cost: Floats
    rate: Floats
    per_item: tuple[Floats, Floats] | None = None


@analysis(
    name="routing",
    title="Routing",
    question="Is it worth choosing the model by the item: what do routers reach, between mixing at "
    "random and an oracle?",
    source="RouterBench (hull, AIQ), MMR-Bench (nAUC, P_s, QNC), RouteLLM, arXiv 2406.18665 (APGR, "
    "CPT), FORC (assignment within a budget); all from their code",
    needs=("item_id",),
    options=(
        Option(
            "weak", "group", None, "the model that APGR and CPT begin with; the cheapest if open"
        ),
        Option("strong", "group", None, "the model that they end with; the most accurate if open"),
        Option("budget", "float", None, "assign the items within this mean cost", low=0),
        cost_axis("cost", "cost_usd", "what is paid: any measure of a trace"),
        Option(
            "folds",
            "int",
            5,
            "parts of the items: each is routed by what the others taught",
            low=2,
            high=20,
        ),
        Option(
            "neighbours", "int", 20, "items that the nearest-neighbour router asks", low=1, high=500
        ),
        OUTCOME,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_CURVE, *_ASSIGNED),
    rows="trace_details",
    chart=ChartSpec("routing", x="cost", y="rate"),
    settles=Settles("gain", 0.0, where=("kind", "learned")),
    example={"where": "strategy:direct,cot,think"},
)
def routing(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Route items to the groups of `by`, and hold every router against mixing models at random.

    Grain: one row per router (per task if `by` names it), the best mean accuracy first;
    `more["curve"]`: one row per router and non-dominated point; `more["assignment"]`: with a
    `budget`, one row per router and model. Only traces with the cost count, on the items that every
    model was tried on; trials are averaged within their item.

    Routers choose, for a price λ, the model with the largest expected accuracy − λ · expected cost;
    over all λ this draws a curve. Equal ones go to the cheaper model. The oracle knows accuracy and
    cost of each item: no router can be better, and with single trials it also profits from luck.
    Random mix: the concave hull of the single models, which needs no knowledge of the item. Learned
    routers know the item's text, task and difficulty, in 4,096 hashed columns: `nearest neighbours`
    averages the outcomes of the closest items, `logistic` fits one penalised logistic curve per
    model. Both are cross-validated by clusters: no item is routed by what it, or its cluster,
    taught. From more than 2,000 items that many are learned from, drawn at random.

    Mean accuracy: the area between the cheapest and the most expensive single model's cost,
    straight between Pareto points, flat beyond, over the span. APGR and CPT: of the items by the
    predicted gain of the strong model over the weak one, in tenths of calls as RouteLLM has it; the
    oracle calls the strong model only where it gains. Intervals: expanded percentile bootstrap of
    item clusters with the routers as they are; they leave out what other training items would have
    taught.
    """
    measure = options["cost"]
    check_measure(frame, measure)
    items = reduce_items(
        frame,
        by,
        (measure,),
        outcome=options["outcome"],
        require=(measure,),
        errors_as_wrong=options["errors_as_wrong"],
    )
    built = build(items, shared=True)
    known = _known(frame)
    rows = []
    points = []
    given = []
    notes = list(built.notes)
    for task, panel in built.parts:
        where = {"task": task} if task is not None else {}
        task_data, task_notes = _task(panel, known, rng, options)
        notes += task_notes
        curves = _curves(task_data)
        router_rows = _rows(task_data, curves, rng, options)
        rows += [where | row for row in router_rows]
        points += [where | p for name, c in curves.items() for p in _points(name, c)]
        if options["budget"] is not None:
            given += [where | g for g in _assigned(task_data, options["budget"])]
    return _answer(rows, points, given, by, measure, built.dropped, notes)


def _answer(  # noqa: PLR0917  # the parts of one answer
    rows: list[dict[str, Any]],
    points: list[dict[str, Any]],
    given: list[dict[str, Any]],
    by: Sequence[str],
    measure: str,
    dropped: dict[str, int],
    notes: list[str],
) -> Answer:
    unit = known_columns()[measure].unit
    priced = {"cost", "peak_cost", "budget_cost"}
    columns = [
        dataclasses.replace(c, unit=unit) if c.name in priced else c
        for c in (*_ROWS, *_CURVE, *_ASSIGNED)
    ]
    first = ["task"] if "task" in by else []
    table = pl.DataFrame(rows, schema=empty(first, _ROWS).schema).fill_nan(None)
    best = pl.coalesce("mean_rate", "peak_rate")
    table = table.sort(*first, best, "router", descending=[*[False] * len(first), True, False])
    more = {}
    if points:
        more["curve"] = pl.DataFrame(points, schema=empty([*first, "router"], _CURVE).schema)
    if given:
        more["assignment"] = pl.DataFrame(given, schema=empty([*first, "router"], _ASSIGNED).schema)
    return Answer(table, tuple(columns), more, dropped, tuple(dict.fromkeys(notes)))


def _known(frame: "nw.LazyFrame[Any]") -> pl.DataFrame:
    """Fetch what is known of every item before it is answered."""
    present = frame.collect_schema().names()
    have = [c for c in ("input", "task", "difficulty") if c in present]
    grouped = frame.group_by("item_id").agg(nw.col(c).max() for c in have)
    fetched: pl.DataFrame = grouped.collect("polars").to_native()
    absent = [c for c in ("input", "task", "difficulty") if c not in have]
    return fetched.with_columns(pl.lit(None, pl.String).alias(c) for c in absent)


def _task(
    panel: Panel, known: pl.DataFrame, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[_Task, list[str]]:
    """Order models by cost, and let the routers learn."""
    rate = panel.outcome()
    cost = panel.measure(options["cost"])
    order = np.lexsort((-rate.mean(axis=0), cost.mean(axis=0)))
    names = [panel.labels[j] for j in order]
    rate, cost = rate[:, order], cost[:, order]
    for option in ("weak", "strong"):
        if options[option] is not None and options[option] not in names:
            raise AnalysisError(unknown_name(f"group for {option}", options[option], names))
    task_data = _Task(panel, names, rate, cost, {})
    if len(names) < 2:
        return task_data, [f"a single model, nothing to route: {names[0]}"]
    task_data.predicted[ORACLE] = rate, cost
    n_folds = min(options["folds"], panel.n_clusters)
    if n_folds < 2:
        return task_data, ["a single item, or cluster of items: no router can learn"]
    facts = panel.items.select("item_id").join(
        known, on="item_id", how="left", maintain_order="left"
    )
    described = [
        {k: v for k, v in (("task", r["task"]), ("difficulty", r["difficulty"])) if v is not None}
        for r in facts.iter_rows(named=True)
    ]
    matrix = features.hashed(facts["input"].to_list(), described)
    folds = (rng.permutation(panel.n_clusters) % n_folds)[panel.clusters]
    expected = np.stack([cost[folds != f].mean(axis=0) for f in range(n_folds)])[folds]
    guesses = features.predicted(matrix, rate, folds, options["neighbours"], rng)
    task_data.predicted.update({name: (guess, expected) for name, guess in guesses.items()})
    alike = facts.drop("item_id").unique().height < 2
    bare = (
        ["nothing tells the items apart: learned routers can only learn the best model"]
        if alike
        else []
    )
    if facts["input"].null_count() == facts.height and not bare:
        bare = ["no question is recorded: routers learned from task and difficulty alone"]
    return task_data, bare


def _curves(task: _Task) -> dict[str, _Curve]:
    """Draw every router's curve: the oracle's first, single models last."""
    out: dict[str, _Curve] = {}
    for name, (rate, cost) in task.predicted.items():
        chosen = [knapsack.by_price(rate, cost, price) for price in _prices(rate, cost)]
        at = np.arange(len(task.rate))
        per_item = tuple(
            np.column_stack([x[at, j] for j in chosen]) for x in (task.cost, task.rate)
        )
        kind = "oracle" if name == ORACLE else "learned"
        costs, rates = (x.mean(axis=0) for x in per_item)
        out[name] = _Curve(kind, costs, rates, (per_item[0], per_item[1]))
    costs = task.cost.mean(axis=0)
    rates = task.rate.mean(axis=0)
    if len(task.names) > 1:
        out[MIX] = _Curve("mix", *quality_curves.concave(costs, rates))
    for j, name in enumerate(task.names):
        out[name] = _Curve("single", costs[j : j + 1], rates[j : j + 1])
    return out


def _prices(rate: Floats, cost: Floats) -> list[float]:
    """Choose prices at which choices change, spread evenly over them, and the two ends."""
    rate, cost = rate[:_SAMPLED], cost[:_SAMPLED]
    i, j = np.triu_indices(rate.shape[1], 1)
    more = rate[:, j] - rate[:, i]
    dearer = cost[:, j] - cost[:, i]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = more / dearer
    at = at[np.isfinite(at) & (at > 0)]
    middle = np.quantile(at, (np.arange(_PRICES) + 0.5) / _PRICES) if len(at) else np.empty(0)
    return [0.0, *np.unique(middle).tolist(), float("inf")]


def _points(name: str, curve: _Curve) -> list[dict[str, Any]]:
    x, y = quality_curves.pareto_points(curve.cost, curve.rate)
    return [{"router": name, "cost": float(a), "rate": float(b)} for a, b in zip(x, y, strict=True)]


def _rows(
    task: _Task, curves: dict[str, _Curve], rng: np.random.Generator, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Measure every curve."""
    costs = task.cost.mean(axis=0)
    rates = task.rate.mean(axis=0)
    best = int(np.lexsort((costs, -rates))[0])
    low = float(costs.min())
    high = float(costs.max())
    intervals_of = _resampled(task, curves, rng, options) if len(task.names) > 1 else {}
    mixed = quality_curves.common_area(costs, rates, low, high)
    if MIX in curves:
        mixed = quality_curves.common_area(curves[MIX].cost, curves[MIX].rate, low, high)
    rows = []
    for name, curve in curves.items():
        x, y = quality_curves.pareto_points(curve.cost, curve.rate)
        row: dict[str, Any] = dict.fromkeys(c.name for c in _ROWS)
        aiq, span = quality_curves.hull_area(curve.cost, curve.rate, high)
        row |= {
            "router": name,
            "kind": curve.kind,
            "n_items": len(task.rate),
            "peak_rate": float(y[-1]),
            "peak_cost": float(x[-1]),
            "parity": quality_curves.parity_cost(curve.cost, curve.rate, rates[best], costs[best]),
            "aiq": aiq,
            "aiq_span": span,
        }
        if curve.kind != "single":
            mean = quality_curves.common_area(curve.cost, curve.rate, low, high)
            row |= {
                "mean_rate": mean,
                "gain": None if curve.kind == "mix" else mean - mixed,
                "own_mean_rate": quality_curves.own_area(curve.cost, curve.rate),
                **intervals_of.get(name, {}),
                **_gap(task, name, options),
            }
        rows.append(row)
    return rows


def _gap(task: _Task, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """APGR and CPT of a router between the weak and the strong model."""
    means = task.rate.mean(axis=0)
    weak = task.names.index(options["weak"]) if options["weak"] else 0
    strong = task.names.index(options["strong"]) if options["strong"] else int(np.argmax(means))
    low = float(means[weak])
    high = float(means[strong])
    if weak == strong or not high > low:
        return {}
    if name == MIX:
        quality = low + _TENTHS * (high - low)
    else:
        rate, _ = task.predicted[name]
        share, got = quality_curves.deferred(
            task.rate[:, [weak]],
            task.rate[:, [strong]],
            rate[:, weak] - rate[:, strong],
            np.ones(len(rate)),
        )
        quality = np.interp(_TENTHS, share, got[:, 0])
        if name == ORACLE:  # it need not call the strong model more often than it gains
            quality = np.maximum.accumulate(quality)
    figures = {"apgr": quality_curves.mean_recovered(_TENTHS, quality, low, high)}
    for part in (20, 50, 80):
        figures[f"cpt_{part}"] = quality_curves.calls_for(_TENTHS, quality, low, high, part / 100)
    return figures


def _resampled(
    task: _Task, curves: dict[str, _Curve], rng: np.random.Generator, options: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Intervals of mean accuracy, and of its gain over the mix, by resampling clusters."""
    if task.panel.n_clusters < 2:
        return {}
    n, m = task.rate.shape
    routed = {name: c.per_item for name, c in curves.items() if c.per_item is not None}
    blocks = [task.cost, task.rate, *(x for pair in routed.values() for x in pair), np.ones((n, 1))]
    sums = task.panel.cluster_sums(np.hstack(blocks))
    resampled = resampling.resampled_sums(sums, options["resamples"], rng)
    resampled = resampled[:, :-1] / resampled[:, -1:]
    costs = resampled[:, :m]
    rates = resampled[:, m : 2 * m]
    low = costs.min(axis=1)
    high = costs.max(axis=1)
    areas = {MIX: quality_curves.hull_areas(costs, rates)}
    at = 2 * m
    for name, (cost, _) in routed.items():
        k = cost.shape[1]
        areas[name] = quality_curves.common_areas(
            resampled[:, at : at + k], resampled[:, at + k : at + 2 * k], low, high
        )
        at += 2 * k
    ends: dict[str, dict[str, float]] = {}
    for name, area in areas.items():
        ends[name] = {}
        for figure, draws in (("mean_rate", area), ("gain", area - areas[MIX])):
            if figure == "gain" and name == MIX:
                continue
            a, b = resampling.percentile(draws[:, None], options["level"], task.panel.n_clusters)
            ends[name] |= {f"{figure}_low": float(a[0]), f"{figure}_high": float(b[0])}
    return ends


def _assigned(task: _Task, budget: float) -> list[dict[str, Any]]:
    """Assign the items within a budget: the least price at which the expected cost keeps to it."""
    rows = []
    for name, (rate, cost) in task.predicted.items():
        chosen = knapsack.within(rate, cost, budget)
        if chosen is None:
            continue
        at = np.arange(len(rate))
        got = float(task.rate[at, chosen].mean()), float(task.cost[at, chosen].mean())
        rows += [
            {
                "router": name,
                "model": model,
                "given_share": float((chosen == j).mean()),
                "budget_rate": got[0],
                "budget_cost": got[1],
            }
            for j, model in enumerate(task.names)
        ]
    return rows
