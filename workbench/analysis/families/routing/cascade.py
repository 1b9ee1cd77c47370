"""Cascade: a small model first, and a larger one where its confidence is low."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL, RESAMPLES
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import confidences
from workbench.analysis.inputs.confidences import Answers
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.inputs.votes import item_votes, with_answers
from workbench.analysis.stats import handover, quality_curves
from workbench.analysis.stats.arrays import Floats
from workbench.analysis.stats.handover import GRID, Pair
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_Row = dict[str, Any]
_NO_COST = "a cost is unknown"
_MOST_PAIRS = 40
_ROWS = (
    Column("pair", "text", doc="The small model and the larger one.", null=KEY_NULL),
    Column(
        "n_items",
        "int",
        "count",
        "Items that both were tried on, with a confidence.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Answers of the small model on them.", KEY_NULL, "answers"),
    Column(
        "by_what",
        "text",
        doc="recorded: the confidence of the trace; agreement: the share of the item's trials "
        "that gave the commonest answer.",
        null=KEY_NULL,
        title="confidence",
    ),
    Column(
        "small_rate", "float", "0..1", "Accuracy of the small model alone.", KEY_NULL, "small alone"
    ),
    Column(
        "large_rate",
        "float",
        "0..1",
        "Accuracy of the larger model alone.",
        KEY_NULL,
        "large alone",
    ),
    *ends(
        Column(
            "area",
            "float",
            "0..1",
            "Mean accuracy over all shares that could be deferred, the least confident "
            "first (AUC-DF).",
            KEY_NULL,
            "area under deferral",
        ),
        FEW_ITEMS,
    ),
    Column(
        "random_area",
        "float",
        "0..1",
        "The same when items are deferred at random.",
        KEY_NULL,
        "area at random",
    ),
    *ends(
        Column(
            "gain_area",
            "float",
            "0..1",
            "The first minus the second.",
            KEY_NULL,
            "gain over random",
        ),
        FEW_ITEMS,
    ),
    Column(
        "relative_gain", "float", "0..1", "That over the area at random.", "nothing is ever right"
    ),
    Column(
        "oracle_area",
        "float",
        "0..1",
        "The area if exactly those were deferred first that the larger model gets better.",
        KEY_NULL,
        "area of an oracle",
    ),
    Column(
        "of_oracle",
        "float",
        "0..1",
        "Part of the oracle's gain over random that the confidence has.",
        "the oracle gains nothing",
        "part of the oracle's gain",
    ),
    Column(
        "best_share",
        "float",
        "0..1",
        "Share to defer for the highest accuracy.",
        KEY_NULL,
        "best share to defer",
    ),
    Column(
        "best_rate",
        "float",
        "0..1",
        "The accuracy there, on the same items: a little too good.",
        KEY_NULL,
        "accuracy there",
    ),
    *ends(
        Column(
            "parity_share",
            "float",
            "0..1",
            "The least share to defer to be as good as the larger model alone.",
            KEY_NULL,
            "deferred at parity",
        ),
        FEW_ITEMS,
    ),
    Column(
        "parity_cost_usd",
        "float",
        "USD",
        "Mean cost of an item there: the small model always, the larger one where deferred.",
        _NO_COST,
        "cost at parity",
    ),
    Column(
        "large_cost_usd",
        "float",
        "USD",
        "Mean cost of an item by the larger model alone.",
        _NO_COST,
        "cost of large alone",
    ),
    *ends(
        Column(
            "saving",
            "float",
            "0..1",
            "Share of the larger model's cost that is saved at equal accuracy; below 0 "
            "where the cascade is dearer.",
            _NO_COST,
            "saved at parity",
        ),
        "fewer than two items, or a cost is unknown",
    ),
)
_CURVE = (
    Column(
        "share",
        "float",
        "0..1",
        "Share of items deferred to the larger model, the least confident first.",
        KEY_NULL,
        "deferred",
    ),
    *ends(
        Column("rate", "float", "0..1", "Accuracy of the cascade.", KEY_NULL, "accuracy"), FEW_ITEMS
    ),
    Column(
        "random_rate",
        "float",
        "0..1",
        "Accuracy when as many are deferred at random.",
        KEY_NULL,
        "at random",
    ),
    Column("cost_usd", "float", "USD", "Mean cost of an item.", _NO_COST, "cost"),
    Column(
        "threshold",
        "float",
        "0..1",
        "The highest confidence that is deferred.",
        "nothing is deferred",
    ),
)
_RECORDED = (
    Column(
        "n_run",
        "int",
        "count",
        "Traces of a cascade that was really run.",
        KEY_NULL,
        "traces of a cascade",
    ),
    Column(
        "deferred_rate",
        "float",
        "0..1",
        "Share of them that were deferred.",
        KEY_NULL,
        "deferred as run",
    ),
    Column(
        "kept_right",
        "float",
        "0..1",
        "Accuracy of those that were kept.",
        "none kept",
        "accuracy where kept",
    ),
    Column(
        "deferred_right",
        "float",
        "0..1",
        "Accuracy of those that were deferred.",
        "none deferred",
        "accuracy where deferred",
    ),
    Column("run_cost_usd", "float", "USD", "Mean cost of a trace.", _NO_COST, "cost as run"),
)


@analysis(
    name="cascade",
    title="Cascade",
    question="If a small model answers first and a larger one where it is not sure, what is right, "
    "and at what cost?",
    source="deferral curves as in the literature on cascades (unverified beyond abstracts; "
    "FrugalGPT, arXiv 2305.05176, for the idea); areas are derived here",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option(
            "small",
            "group",
            None,
            "the model that answers first; every one with a confidence if open",
        ),
        Option(
            "large",
            "group",
            None,
            "the model that is deferred to; the most accurate dearer one if open",
        ),
        Option(
            "confidence",
            "choice",
            "auto",
            "recorded with the trace, or agreement among an item's trials, which are all "
            "paid for; auto takes what was recorded where there is any",
            choices=("auto", "recorded", "agreement"),
        ),
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_CURVE, *_RECORDED),
    chart=ChartSpec("curve", x="share", y="rate", also=("random_rate",)),
    settles=Settles("gain_area", 0.0, groups=("pair",)),
    example={"where": "strategy:direct"},
)
def cascade(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Replay deferring the least confident answers of a small model to a larger one.

    Grain: one row per pair of groups, the widest gain over random first (per task if `by` names
    it); `more["curve"]`: one row per pair and share deferred; `more["recorded"]`: one row per group
    that a cascade was really run in (the strategy `cascade` notes it). Only scored traces of known
    confidence count, on the items that both models were tried on; an item's answers share its
    weight.

    Deferring a share d hands over the answers of lowest confidence; equal ones by lot, so the curve
    is straight between steps. A handed-over answer is as right as the larger model's trials of the
    item are on average, and costs both: cost(d) = small + large where deferred. Area: by trapezia
    over d from 0 to 1; at random it is the mean of the two models. Relative gain: (area − random) /
    random. Parity: the least d at which the cascade is as good as the larger model alone; savings
    are against that model alone.

    Agreement: the commonest of an item's recorded answers stands (ties by lot), its share of the
    trials is the confidence, and all trials are paid for. Intervals: expanded percentile bootstrap
    of item clusters, with the curve in 25 steps. The threshold is chosen on the items that it is
    judged on; the area has no such choice.
    """
    sure = confidences.read(frame, by)
    items = reduce_items(frame, by, ("cost_usd",))
    choice = options["confidence"]
    agreeing = choice == "agreement" or (choice == "auto" and sure.own.is_empty())
    cast = None
    if agreeing:
        items, cast, _ = with_answers(frame, items)
    built = build(items)
    _check(built.parts, options)
    rows = []
    curves = []
    notes = []
    for task, panel in built.parts:
        where = {"task": task} if task is not None else {}
        if cast is None:
            answers = functools.partial(sure.of, panel, task)
        else:
            answers = functools.partial(confidences.agreeing, panel, item_votes(panel, cast))
        pair_rows, more = _judged(panel, answers, rng, options)
        notes += more
        for name, row, curve in pair_rows:
            what = "agreement" if agreeing else "recorded"
            rows.append(where | {"pair": name, "by_what": what} | row)
            curves += [where | {"pair": name} | point for point in curve]
    if not rows:
        notes.append(
            "no pair: a confidence (or several answers of an item) and a dearer model on "
            "the same items"
            " are needed"
        )
    remarks = built.dropped, tuple(dict.fromkeys(notes))
    return _answer(rows, curves, sure.described(by), by, remarks)


def _answer(
    rows: list[dict[str, Any]],
    curves: list[dict[str, Any]],
    run: pl.DataFrame | None,
    by: Sequence[str],
    remarks: tuple[dict[str, int], tuple[str, ...]],
) -> Answer:
    first = ["task"] if "task" in by else []
    if not rows:
        return Answer(
            empty((), _ROWS),
            more={} if run is None else {"recorded": run},
            dropped=remarks[0],
            notes=remarks[1],
        )
    table = pl.DataFrame(rows, schema=empty(first, _ROWS).schema).fill_nan(None)
    table = table.sort(
        *first,
        "gain_area",
        "pair",
        descending=[False] * len(first) + [True, False],
        nulls_last=True,
    )
    pair = Column("pair", "text")
    more = {}
    if curves:
        points = pl.DataFrame(curves, schema=empty([*first, "pair"], _CURVE).schema).fill_nan(None)
        order = {name: i for i, name in enumerate(table["pair"].unique(maintain_order=True))}
        place = pl.col(pair.name).replace_strict(order, return_dtype=pl.Int64)
        more["curve"] = points.sort(*first, place, "share")
    if run is not None:
        more["recorded"] = run
    return Answer(table, more=more, dropped=remarks[0], notes=remarks[1])


def _check(parts: Sequence[tuple[str | None, Panel]], options: dict[str, Any]) -> None:
    names = {name for _, panel in parts for name in panel.labels}
    for option in ("small", "large"):
        if options[option] is not None and options[option] not in names and names:
            raise AnalysisError(unknown_name(f"group for {option}", options[option], names))


def _judged(
    panel: Panel,
    answers: Callable[[int], Answers | None],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> tuple[list[tuple[str, _Row, list[_Row]]], list[str]]:
    """Measure the pairs of a task: name, figures and curve of each; and what there is to say."""
    judged: list[tuple[str, _Row, list[_Row], int]] = []
    skipped = 0

    def each() -> Iterator[Pair]:
        nonlocal skipped
        for name, pair in _pairs(panel, answers, options):
            if len(judged) == _MOST_PAIRS:
                skipped += 1
                continue
            judged.append((name, *_exact(pair), int(np.count_nonzero(np.bincount(pair.cluster)))))
            yield pair

    bootstraps = handover.resampled(each(), rng, options["resamples"])
    for (_, row, points, n_clusters), draws in zip(judged, bootstraps, strict=True):
        if draws is None:
            continue
        more, (low, high) = handover.intervals(draws, options["level"], n_clusters)
        row.update(more)
        for point, below, above in zip(points, low.tolist(), high.tolist(), strict=True):
            point.update(rate_low=below, rate_high=above)
    skipped_note = [f"{skipped} further pairs are left out; name small or large"] if skipped else []
    return [(name, row, points) for name, row, points, _ in judged], skipped_note


def _pairs(
    panel: Panel, answers: Callable[[int], Answers | None], options: dict[str, Any]
) -> Iterator[tuple[str, Pair]]:
    """Make the pairs of a task: each group with confidences, and each that is more expensive."""
    rate = panel.outcome()
    cost = panel.measure("cost_usd")
    for small, name in enumerate(panel.labels):
        others = [j for j, n in enumerate(panel.labels) if j != small and n == options["large"]]
        if options["large"] is None:
            others = _above(rate, cost, small)
        if options["small"] not in {None, name} or not others:
            continue
        small_answers = answers(small)
        if small_answers is None:
            continue
        for large in others:
            pair = _paired(panel, small_answers, rate[:, large], cost[:, large])
            if pair is not None:
                yield f"{name} → {panel.labels[large]}", pair


def _above(rate: Floats, cost: Floats, small: int) -> list[int]:
    """Choose the most accurate of the more expensive groups, or of all if costs are unknown."""
    known = ~np.isnan(rate)
    both = known & known[:, [small]]
    dearer, better = (
        np.where(both, x - x[:, [small]], 0.0).sum(axis=0).tolist() for x in (cost, rate)
    )
    n = both.sum(axis=0).tolist()
    candidates = [
        (-better[large] / n[large], large)
        for large, more in enumerate(dearer)
        if large != small and (better[large] > 0 if np.isnan(more) else more > 0)
    ]
    return [min(candidates)[1]] if candidates else []


def _paired(panel: Panel, answers: Answers, rate: Floats, cost: Floats) -> Pair | None:
    item, right, own_cost, sure = answers
    known = ~np.isnan(rate[item])
    if not known.any():
        return None
    item = item[known]
    right, own_cost, sure = (x[known] for x in (right, own_cost, sure))
    large = np.column_stack([rate[item], cost[item]])
    small_alone = np.column_stack([right, own_cost])
    handed = np.column_stack([large[:, 0], own_cost + large[:, 1]])
    weight = 1.0 / np.bincount(item)[item]
    return Pair(small_alone, handed, large, sure, weight, panel.clusters[item])


def _exact(pair: Pair) -> tuple[_Row, list[_Row]]:
    """Measure the exact curve; ends of intervals are left open."""
    share, means = quality_curves.deferred(pair.small, pair.deferred, pair.confidence, pair.weight)
    rate, cost = means.T
    alone = pair.weight @ pair.large / pair.weight.sum()
    area = quality_curves.area(share, rate)
    at_random = float(rate[0] + rate[-1]) / 2
    ideal_share, ideal = quality_curves.deferred(
        pair.small[:, :1], pair.deferred[:, :1], pair.small[:, 0] - pair.deferred[:, 0], pair.weight
    )
    oracle = quality_curves.area(ideal_share, ideal[:, 0])
    best = int(np.argmax(rate > rate.max() - 1e-12))
    parity, parity_cost = (
        float(x[0]) for x in handover.parity_point(share[None], rate[None], cost[None])
    )
    row: _Row = dict.fromkeys(c.name for c in _ROWS if c.name not in {"pair", "by_what"})
    row |= {
        "n_items": round(float(pair.weight.sum())),
        "n": len(pair.confidence),
        "small_rate": float(rate[0]),
        "large_rate": float(alone[0]),
        "area": area,
        "random_area": at_random,
        "gain_area": area - at_random,
        "relative_gain": (area - at_random) / at_random if at_random > 0 else None,
        "oracle_area": oracle,
        "of_oracle": (area - at_random) / (oracle - at_random)
        if oracle - at_random > 1e-12
        else None,
        "best_share": float(share[best]),
        "best_rate": float(rate[best]),
        "parity_share": parity,
        "parity_cost_usd": parity_cost,
        "large_cost_usd": float(alone[1]),
        "saving": 1 - parity_cost / alone[1] if alone[1] > 0 else None,
    }
    return row, _points(pair, share, rate, cost)


def _points(pair: Pair, share: Floats, rate: Floats, cost: Floats) -> list[_Row]:
    """Read the exact curve at the shares that are shown."""
    order = np.argsort(pair.confidence, kind="stable")
    weight = np.cumsum(pair.weight[order]) / pair.weight.sum()
    last = np.minimum(np.searchsorted(weight, GRID - 1e-12), len(order) - 1)
    rates, costs = (np.interp(GRID, share, x) for x in (rate, cost))
    return [
        {
            "share": float(s),
            "rate": float(rates[j]),
            "rate_low": None,
            "rate_high": None,
            "random_rate": float(rate[0] + s * (rate[-1] - rate[0])),
            "cost_usd": float(costs[j]),
            "threshold": None if s == 0 else float(pair.confidence[order[last[j]]]),
        }
        for j, s in enumerate(GRID)
    ]
