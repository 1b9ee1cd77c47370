"""Power of comparisons: items, trials or repeats that detect a difference, and their cost."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL
from workbench.analysis.core.result import DTYPES, Answer, label
from workbench.analysis.inputs import clustered_means, variance_components
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import Items, reduce_items
from workbench.analysis.stats import sample_size
from workbench.analysis.stats.arrays import Bools, Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_MEASURES = {"cost_usd": "cost_usd", "energy_j": "energy_j", "e2e_s": "time_s"}
_NULL_IF_FEW = "fewer than two shared items, or all differences alike"
_SINGLE = "a single trial per item cannot be told from its item"
_ENOUGH = "not known of both, or no number of them suffices"
_ROWS = (
    Column("a", "text", doc="The group that is judged.", null=KEY_NULL, title="A"),
    Column("b", "text", doc="What it is held against.", null=KEY_NULL, title="B"),
    Column("verdict", "text", doc="What it takes, in words.", null=KEY_NULL),
    Column("n_items", "int", "count", "Items that both were tried on.", KEY_NULL, "shared items"),
    Column(
        "trials_a",
        "float",
        "count",
        "Mean trials of A per shared item.",
        "no shared items",
        "trials of A",
    ),
    Column(
        "trials_b",
        "float",
        "count",
        "Mean trials of B per shared item.",
        "no shared items",
        "trials of B",
    ),
    Column(
        "difference",
        "float",
        "0..1",
        "Pass rate of A minus B on the shared items.",
        "no shared items",
        "A − B",
    ),
    Column(
        "difference_low", "float", "0..1", "Lower end of its interval.", _NULL_IF_FEW, "A − B, low"
    ),
    Column(
        "difference_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _NULL_IF_FEW,
        "A − B, high",
    ),
    Column(
        "between",
        "float",
        "",
        "Variance over items of the true difference.",
        _SINGLE,
        "variance between items",
    ),
    Column(
        "within",
        "float",
        "",
        "Variance of one trial's outcome, of A plus of B.",
        _SINGLE,
        "variance between trials",
    ),
    Column(
        "detectable",
        "float",
        "0..1",
        "Smallest difference that the recorded items and trials show.",
        _NULL_IF_FEW,
        "smallest visible difference",
    ),
    Column(
        "items_needed",
        "int",
        "count",
        "Items that show the difference asked for, with as many trials as now.",
        _NULL_IF_FEW,
        "items needed",
    ),
    Column(
        "items_more", "int", "count", "Items still missing for it.", _NULL_IF_FEW, "further items"
    ),
    Column(
        "items_cost_usd",
        "float",
        "USD",
        "What these items would cost, for A and B.",
        _ENOUGH,
        "cost of further items",
    ),
    Column(
        "items_energy_j",
        "float",
        "J",
        "What energy they would take.",
        _ENOUGH,
        "energy of further items",
    ),
    Column(
        "items_time_s",
        "float",
        "s",
        "How long they would take, one attempt after the other.",
        _ENOUGH,
        "time of further items",
    ),
    Column(
        "trials_needed",
        "int",
        "count",
        "Trials per item, of A and of B, that show it on the items as now.",
        "no number of them suffices, or a single trial per item",
        "trials needed",
    ),
    Column(
        "trials_cost_usd",
        "float",
        "USD",
        "What the missing trials would cost.",
        _ENOUGH,
        "cost of further trials",
    ),
    Column(
        "trials_energy_j",
        "float",
        "J",
        "What energy they would take.",
        _ENOUGH,
        "energy of further trials",
    ),
    Column(
        "trials_time_s",
        "float",
        "s",
        "How long they would take, one attempt after the other.",
        _ENOUGH,
        "time of further trials",
    ),
    Column(
        "repeats_needed",
        "int",
        "count",
        "Trials per item that show it on these very items, whatever others would do.",
        _SINGLE,
        "repeats needed, same items",
    ),
)


@analysis(
    name="power",
    title="Power",
    question="How many items and trials does it take to see a difference, "
    "and what would they cost?",
    source="Miller 2024, arXiv 2411.00640 (sample size); Bjarnason et al. 2026, arXiv 2602.07150 "
    "(app. A)",
    needs=("item_id", "passed"),
    measures=tuple(_MEASURES),
    options=(
        Option(
            "difference", "float", 0.05, "the difference of pass rates to see", low=0.0001, high=1
        ),
        Option("power", "float", 0.8, "chance to see it", low=0.5, high=0.9999),
        Option(
            "test",
            "choice",
            "normal",
            "t takes the variance as estimated: a little more is needed, which counts where "
            "items are a handful",
            choices=("normal", "t"),
        ),
        Option(
            "baseline", "group", None, "what the others are held against; the commonest if open"
        ),
        ERRORS,
        LEVEL,
    ),
    columns=_ROWS,
    chart=ChartSpec("power", x="items_needed", y="pair"),
    settles=None,  # it is the plan
)
def power(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Plan a comparison from the variance and the costs of the traces at hand.

    Grain: one row per group other than the baseline, per task if `by` names it, in order of the
    groups. Only scored traces of items that both were tried on count; trials are averaged within
    their item.

    With δ the difference asked for, n = z² V / δ² items are needed, where V = ω² + σ_A² / K_A +
    σ_B² / K_B is the variance of one item's observed difference (Miller 2024), clusters of items
    included, and z = z for 1 − level, two-sided, plus z for the power: a normal approximation. With
    `test=t` noncentral t takes the place of z (n − 1 degrees of freedom): about two items more. ω²
    is the variance of the observed differences minus what trials explain, not below 0; K trials
    suffice on the items as they are if ω² alone leaves room. `repeats_needed` asks about these very
    items only: ω² does not enter.

    Costs are further attempts times their mean cost, energy and time so far, of A and of B. The
    variance is an estimate: with few items what is needed is a rough figure.
    """
    items = reduce_items(frame, by, tuple(_MEASURES), errors_as_wrong=options["errors_as_wrong"])
    panels = build(items)
    baseline = _baseline(items, by, options["baseline"])
    rows = []
    alone = 0
    for task, panel in panels.parts:
        history = _history(panel)
        for name in panel.labels:
            if name == baseline or baseline not in panel.labels:
                continue
            pair = [panel.labels.index(name), panel.labels.index(baseline)]
            both = np.asarray(panel.tried[:, pair].all(axis=1))
            alone += int(panel.tried[:, pair].any(axis=1).sum() - both.sum())
            row: dict[str, Any] = dict.fromkeys(c.name for c in _ROWS)
            row |= {"task": task, "a": name, "b": baseline, "n_items": int(both.sum())}
            if both.any():
                row |= _plan(history, pair, both, options)
            rows.append(row | {"verdict": _verdict(row, options)})
    several = any(task is not None for task, _ in panels.parts)
    head = ["task"] if several else []
    schema = {"task": DTYPES["text"]} | {c.name: DTYPES[c.type] for c in _ROWS}
    table = pl.DataFrame(rows, schema=schema).select(*head, *(c.name for c in _ROWS))
    dropped = panels.dropped | {"items that only one of the two was tried on": alone}
    notes = () if rows else ("nothing to compare: there are fewer than two groups",)
    return Answer(table, dropped=dropped, notes=notes)


def _baseline(items: Items, by: Sequence[str], baseline: str | None) -> str | None:
    """Name the group of comparison: the requested one, or the group with the most traces."""
    keys = [c for c in by if c != "task"] or list(by)
    counts = items.frame.filter(pl.col("n") > 0).group_by(keys).agg(pl.col("n").sum())
    counts = counts.sort("n", *keys, descending=[True] + [False] * len(keys), nulls_last=True)
    labels = [label(row) for row in counts.select(keys).iter_rows()]
    if baseline is not None and baseline not in labels and labels:
        raise AnalysisError(unknown_name("group for baseline", baseline, labels))
    return baseline if baseline is not None else next(iter(labels), None)


@dataclasses.dataclass(frozen=True, eq=False)
class _History:
    """Recorded figures, each (n_items, n_groups), NaN where not tried or unknown."""

    panel: Panel
    n: Floats
    passed: Floats
    costs: dict[str, Floats]


def _history(panel: Panel) -> _History:
    costs = {measure: panel.measure(measure) for measure in _MEASURES}
    return _History(panel, panel.matrix("n_scored"), panel.matrix("outcome"), costs)


def _plan(
    history: _History, pair: list[int], both: Bools, options: dict[str, Any]
) -> dict[str, Any]:
    """Measure the difference and its variance on the shared items, and what follows."""
    panel = history.panel
    n = int(both.sum())
    trials, passed = (
        np.where(both[:, None], x[:, pair], np.nan) for x in (history.n, history.passed)
    )
    rate = divide(passed, trials)
    observed = clustered_means.difference(
        panel, (rate[:, 0] - rate[:, 1])[:, None], options["level"]
    )
    k = np.nanmean(trials, axis=0)
    plan: dict[str, Any] = {
        "trials_a": float(k[0]),
        "trials_b": float(k[1]),
        "difference": float(observed.value[0]),
    }
    clusters = len(np.unique(panel.clusters[both]))
    if clusters < 2:
        return plan
    variance = n * float(observed.se[0]) ** 2  # of one item's difference
    within = variance_components.added(variance_components.sums(panel, trials, passed)).within
    noise = float((within * np.nanmean(1 / trials, axis=0)).sum())
    if not math.isnan(noise):
        between = max(variance - noise, 0.0)
        variance = between + noise
        plan |= {"between": between, "within": float(within.sum())}
    if variance < 1e-12:
        return plan
    plan |= {"difference_low": float(observed.low[0]), "difference_high": float(observed.high[0])}
    plan = {k: v for k, v in plan.items() if not (isinstance(v, float) and math.isnan(v))}
    needs = _needs(plan, variance, n, options)
    missing = {"items": needs["items_more"] * k}
    if needs.get("trials_needed") is not None:
        missing["trials"] = n * np.maximum(needs["trials_needed"] - k, 0.0)
    return plan | needs | _costs(history, pair, both, missing)


def _needs(
    plan: dict[str, Any], variance: float, n: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Count the items, trials and repeats that show the difference."""
    test = (1 - options["level"], options["power"])
    t = options["test"] == "t"
    wanted = options["difference"]
    needed = _up(sample_size.items(variance, wanted, *test, t=t))
    needs: dict[str, Any] = {
        "detectable": min(sample_size.detectable(variance, n, *test, t=t), 1.0),
        "items_needed": needed,
        "items_more": max(needed - n, 0),
    }
    if "within" in plan:
        within = plan["within"]
        trials = sample_size.trials(plan["between"], within, n, wanted, test, t=t)
        needs["trials_needed"] = None if math.isnan(trials) else _up(trials)
        needs["repeats_needed"] = _up(sample_size.repeats(within / n, wanted, *test, t=t))
    return needs


def _up(number: float) -> int:
    """Round up, at least 1; what exceeds a whole number by rounding only is that number."""
    return max(1, math.ceil(number - 1e-9))


def _costs(
    history: _History, pair: list[int], both: Bools, missing: dict[str, Floats]
) -> dict[str, float]:
    """Price missing attempts, (2,), at the means of the recorded ones; absent where not known."""
    priced = {}
    for measure, name in _MEASURES.items():
        known = history.costs[measure][both][:, pair]
        mean = divide(np.nansum(known, axis=0), (~np.isnan(known)).sum(axis=0))
        for what, attempts in missing.items():
            # Nothing missing costs nothing, even where the price of an attempt is unknown.
            total = float(np.where(attempts > 0, attempts * mean, 0.0).sum())
            priced[f"{what}_{name}"] = total
    return {name: value for name, value in priced.items() if not math.isnan(value)}


def _verdict(row: dict[str, Any], options: dict[str, Any]) -> str:
    """Write the note on the items, trials or repeats that are needed."""
    wanted = f"{100 * options['difference']:g} points"
    if row["items_needed"] is None:
        return "not to be told: fewer than two shared items, or no spread"
    if row["items_more"] == 0:
        return f"enough for {wanted}: shows {100 * row['detectable']:.1f}"
    more = f"{row['items_more']:,} more items" + _price(row["items_cost_usd"])
    if row["trials_needed"] is None:
        return f"for {wanted}: {more}"
    trials = f"{row['trials_needed']:,} trials of each" + _price(row["trials_cost_usd"])
    return f"for {wanted}: {more} or {trials}"


def _price(usd: float | None) -> str:
    return "" if usd is None else f" (${usd:,.2f})"
