"""Turn control: savings and losses of a cap on turns, replayed from recorded traces."""

import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL, RESAMPLES
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import joint_resampling, turns
from workbench.analysis.inputs.panel import divide
from workbench.analysis.inputs.sample import Means, Sample, ends
from workbench.analysis.inputs.turns import Runs
from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_UNKNOWN = "turns unknown"
_UNPRICED = "cost of the turns unknown"
_MOST_TURNS = 500
_ROWS = (
    Column(
        "rule",
        "text",
        doc="none; limit: stop after so many turns; extend: begin with one limit, and extend to "
        "the next where the run has not ended.",
        null=KEY_NULL,
    ),
    Column(
        "turns",
        "float",
        "count",
        "Turns after which a run is stopped; a mean where the limit comes from other items.",
        _UNKNOWN,
        "limit",
    ),
    Column(
        "extended",
        "float",
        "count",
        "Turns to which it is extended.",
        "not extended",
        "extended to",
    ),
    Column("n_items", "int", "count", "Items.", KEY_NULL, "items"),
    Column("n", "int", "count", "Scored traces.", KEY_NULL, "traces"),
    *ends(
        Column(
            "stopped_rate",
            "float",
            "0..1",
            "Share of runs that the limit stops.",
            _UNKNOWN,
            "runs stopped",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Accuracy if every run that is stopped fails: the least that the rule keeps.",
            _UNKNOWN,
            "accuracy kept, at least",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "rate_most",
            "float",
            "0..1",
            "Accuracy if the stopped runs that passed would still have passed; under "
            "`extend`, if all that reach the longer limit may.",
            _UNKNOWN,
            "accuracy kept, at most",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "saving",
            "float",
            "0..1",
            "Share of the cost that is saved: the least.",
            _UNPRICED,
            "saved, at least",
        ),
        FEW_ITEMS,
    ),
    Column(
        "saving_most",
        "float",
        "0..1",
        "The most: under `extend`, if nothing were extended.",
        _UNPRICED,
        "saved, at most",
    ),
    *ends(
        Column(
            "cost_usd",
            "float",
            "USD",
            "Mean cost of a run under the rule: the most.",
            _UNPRICED,
            "cost, at most",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "per_pass_usd",
            "float",
            "USD",
            "That over the least accuracy.",
            "cost of the turns unknown, or turns unknown",
            "cost per right answer, at most",
        ),
        FEW_ITEMS,
    ),
)
_CURVE = (
    Column(
        "limit", "int", "count", "Turns after which a run is stopped.", KEY_NULL, "turns allowed"
    ),
    Column(
        "kept",
        "float",
        "0..1",
        "Accuracy if every run that is stopped fails.",
        KEY_NULL,
        "accuracy kept",
    ),
    Column(
        "kept_low", "float", "0..1", "Lower end of its interval.", FEW_ITEMS, "accuracy kept, low"
    ),
    Column(
        "kept_high", "float", "0..1", "Upper end of its interval.", FEW_ITEMS, "accuracy kept, high"
    ),
    Column("saved", "float", "0..1", "Share of the cost that is saved.", _UNPRICED, "cost saved"),
)
_TURNS = (
    Column("mean_turns", "float", "count", "Mean turns of a run.", KEY_NULL, "turns"),
    Column(
        "mean_turns_passed",
        "float",
        "count",
        "Of the runs that passed.",
        "none passed",
        "turns of right runs",
    ),
    Column(
        "mean_turns_failed", "float", "count", "Of the others.", "all passed", "turns of wrong runs"
    ),
    *(
        Column(
            f"turns_p{p}",
            "float",
            "count",
            f"{p}th percentile of the turns, linear between runs.",
            KEY_NULL,
            f"turns, P{p}",
        )
        for p in (25, 50, 75)
    ),
    Column("most_turns", "float", "count", "Turns of the longest run.", KEY_NULL, "most turns"),
)


@analysis(
    name="turn-control",
    title="Turn control",
    question="What would a cap on the number of turns have saved, and what would it have lost?",
    source="arXiv 2510.16786 (limits at percentiles, extension on demand; from abstract and "
    "summaries); replay and its bounds are derived here",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option(
            "limits",
            "text",
            "p25,p50,p75",
            "limits to replay, comma-separated: turns (8), or percentiles of the group's "
            "own turns (p75)",
        ),
        Option(
            "held_out",
            "flag",
            default=False,
            help="take percentiles from one half of the items and replay the other",
        ),
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_CURVE, *_TURNS),
    rows="call_outcomes",
    chart=ChartSpec("curve", x="limit", y="kept", also=("saved",)),
    settles=Settles("saving", 0.0, where=("rule", "limit")),
    example={"where": "strategy:think", "limits": "1"},
)
def turn_control(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Replay caps on turns: which runs would have been stopped, what that saves and loses.

    Grain: one row per group and rule; `more["curve"]`: one per group and number of turns allowed;
    `more["turns"]`: one per group. A turn is a call of the subject that did not fail; calls in
    other roles cost with the turn before them, judges not at all. Failed and unscored traces are
    left out. Given traces without calls, turns are `n_turns`, and a run's cost is shared out as 1 :
    2 : 3 …, since every turn reads all that went before.

    A limit L of turns costs the first L turns of every run, exactly, if the run would have gone the
    same way. What it solves is only bounded: at least the runs that passed within L turns (an agent
    that is told how many turns are left may hurry, and half a patch may pass), at most all that
    passed. Beginning with L0 and extending to L1 on demand lies between the two limits in both,
    wherever the decision falls; the rule `extend` gives those bounds. A percentile is rounded down
    to whole turns, 1 at least.

    Intervals: expanded percentile bootstrap of item clusters, with equal weights of items for
    accuracy, runs for cost. They hold for the given limits and leave their choice out; `held_out`
    shows what that is worth. The curve has Wilson's interval with the effective number of clusters.
    """
    wanted = _wanted(options["limits"])
    runs_by_group = turns.read(frame, by)
    runs = runs_by_group.runs
    notes = runs_by_group.notes
    rows = []
    curves = []
    taken = []
    limits = [_limits(group_runs, wanted, rng, held_out=options["held_out"]) for group_runs in runs]
    for group_runs, group_limits, bootstrap in zip(
        runs, limits, _draw(runs, limits, rng, options), strict=True
    ):
        rows.append(_rules(group_runs, group_limits, bootstrap))
        curves.append(_curve(group_runs, options["level"]))
        taken.append(_turns(group_runs))
    names = [c.name for c in _ROWS]
    parts = [*rows, *_silent(runs_by_group.silent)]
    table = pl.concat([part.select(*by, *names) for part in parts]) if parts else empty(by, _ROWS)
    short = [label(r.names.row(0)) for r in runs if r.turns.max() == 1]
    if short:
        notes.append(f"every run has one turn, nothing to cap: {'; '.join(short[:5])}")
    if not runs and runs_by_group.silent.height:
        notes.append("no turns recorded: give call_facts, or traces with n_turns")
        curves = [runs_by_group.silent.with_columns(_nothing(_CURVE))]
    more = {"curve": pl.concat(curves)} if curves else {}
    more |= {"turns": pl.concat(taken)} if taken else {}
    return Answer(table, more=more, dropped=runs_by_group.dropped, notes=tuple(notes))


def _nothing(columns: Sequence[Column]) -> list[pl.Expr]:
    return [pl.lit(None, d).alias(c) for c, d in empty((), columns).schema.items()]


def _silent(groups: pl.DataFrame) -> list[pl.DataFrame]:
    """Make a row of nulls for each group whose turns were not recorded."""
    if groups.is_empty():
        return []
    zero = pl.lit(0, pl.Int64)
    blank = groups.with_columns(_nothing(_ROWS))
    return [blank.with_columns(rule=pl.lit("none"), n_items=zero, n=zero)]


def _wanted(text: str) -> list[tuple[bool, float]]:
    """Read limits: (is a percentile, value), as requested."""
    thresholds = []
    for word in (w.strip().lower() for w in text.split(",")):
        if not re.fullmatch(r"p?\d{1,4}(\.\d{1,4})?", word):
            raise AnalysisError(
                f"option limits: {word[:20]!r} is neither a number of turns nor a "
                "percentile, as 8,p75"
            )
        is_percentile = word.startswith("p")
        value = float(word.lstrip("p"))
        if (is_percentile and value > 100) or (not is_percentile and value < 1):
            raise AnalysisError(f"option limits: {word} is out of range")
        thresholds.append((is_percentile, value))
    return thresholds


def _limits(
    runs: Runs, wanted: Sequence[tuple[bool, float]], rng: np.random.Generator, *, held_out: bool
) -> list[Floats]:
    """Make the limits of every item, (n_items,) each, rising; the last one never stops a run."""
    n_items = len(runs.clusters)
    half = np.zeros(n_items, np.int64)
    if held_out:
        half = (rng.permutation(int(runs.clusters.max()) + 1) % 2)[runs.clusters]
    of_run = half[runs.item]
    limits = []
    for is_percentile, value in wanted:
        per_half = [value, value]
        if is_percentile:
            sides = [of_run != 0, of_run != 1] if held_out else [of_run == 0] * 2
            per_half = [
                max(np.floor(runs.percentile(value, side)), 1.0) if side.any() else np.nan
                for side in sides
            ]
        limits.append(np.array(per_half)[half])
    never = np.full(n_items, float(runs.turns.max()))
    known = {tuple(x): x for x in limits if not np.isnan(x).any() and (x < never).any()}
    return [*sorted(known.values(), key=lambda x: float(x.mean())), never]


def _rules(runs: Runs, limits: list[Floats], bootstrap: Sample) -> pl.DataFrame:
    """One row per rule: none, each limit, and each extension from one limit to the next."""
    last = len(limits) - 1
    rules: list[tuple[str, int, int | None]] = [("none", last, None)]
    rules += [("limit", j, None) for j in range(last)]
    rules += [("extend", j, j + 1) for j in range(last) if limits[j + 1].mean() > limits[j].mean()]
    return pl.concat([_rule(runs, rule, limits, (a, b), bootstrap) for rule, a, b in rules])


def _replayed(runs: Runs, limits: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Replay an item's runs under each limit: mean rates of passed and stopped runs, total cost.

    Returns:
        (n_items, k) each; the last NaN where costs are unknown.
    """
    n = runs.n_of_items
    shape = len(n), len(limits)
    pass_rate = np.empty(shape)
    stopped = np.empty(shape)
    cost = np.full(shape, np.nan)
    upto = None
    if runs.spent is not None:
        upto = np.column_stack([np.zeros(len(n)), np.cumsum(runs.spent, axis=1)])
    for j, limit in enumerate(limits):
        within = runs.turns <= limit[runs.item]
        pass_rate[:, j] = np.bincount(runs.item, runs.passed * runs.n * within) / n
        stopped[:, j] = np.bincount(runs.item, runs.n * ~within) / n
        if upto is not None:
            cost[:, j] = upto[np.arange(len(n)), np.minimum(limit, upto.shape[1] - 1).astype(int)]
    return pass_rate, stopped, cost


def _draw(
    runs: Sequence[Runs],
    limits: Sequence[list[Floats]],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> list[Sample]:
    """Average what limits keep, stop and cost over items, and over resamples of their clusters."""
    parts = []
    for group_runs, group_limits in zip(runs, limits, strict=True):
        values = np.column_stack([*_replayed(group_runs, group_limits), group_runs.n_of_items])
        parts.append(
            joint_resampling.Part(
                joint_resampling.batch(group_runs.names), group_runs.cluster_names, values
            )
        )

    def means(averages: Floats) -> Means:
        k = (averages.shape[-1] - 1) // 3
        pass_rate, stopped, cost = (averages[..., j * k : (j + 1) * k] for j in range(3))
        return {"kept": pass_rate, "stopped": stopped, "cost": cost / averages[..., -1:]}

    return [
        Sample(
            means(joint.mean),
            None if joint.draws is None else means(joint.draws),
            np.full(1, float(joint.n_clusters)),
            options["level"],
        )
        for joint in joint_resampling.resample_jointly(parts, options["resamples"], rng)
    ]


def _rule(
    runs: Runs, rule: str, limits: list[Floats], places: tuple[int, int | None], bootstrap: Sample
) -> pl.DataFrame:
    """Make the row of a rule: bounds of the pass rate that it keeps, and of its cost."""
    low, longer = places
    high = low if longer is None else longer

    def of(name: str, j: int) -> Any:
        return lambda m: m[name][..., j : j + 1]

    def saving(j: int) -> Any:
        def share(m: Means) -> Floats:
            return 1 - divide(m["cost"][..., j : j + 1], m["cost"][..., -1:])

        return share

    most = high if rule == "extend" else -1
    last = of("kept", most) if most >= 0 else lambda m: m["kept"][..., -1:]
    least_saved = np.asarray(saving(low)(bootstrap.means))
    return runs.names.with_columns(
        rule=pl.lit(rule),
        turns=pl.lit(float(limits[low].mean())),
        extended=pl.lit(None if longer is None else float(limits[longer].mean()), pl.Float64),
        n_items=pl.lit(len(runs.clusters), pl.Int64),
        n=pl.lit(int(runs.n.sum()), pl.Int64),
    ).with_columns(
        *bootstrap.series("stopped_rate", of("stopped", high)),
        *bootstrap.series("rate", of("kept", low)),
        *bootstrap.series("rate_most", last),
        *bootstrap.series("saving", saving(high)),
        pl.Series("saving_most", least_saved).fill_nan(None),
        *bootstrap.series("cost_usd", of("cost", high)),
        *bootstrap.series("per_pass_usd", lambda m: _over(of("cost", high)(m), of("kept", low)(m))),
    )


def _over(cost: Floats, rate: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(rate == 0, np.where(np.isnan(cost), np.nan, np.inf), cost / rate)
    return ratio


def _curve(runs: Runs, level: float) -> pl.DataFrame:
    """Replay every limit up to the longest run; the interval of `clustered_share`."""
    longest = int(runs.turns.max())
    at = np.unique(np.linspace(1, longest, min(longest, 60)).round().astype(np.int64))
    pass_rate, _, cost = _replayed(runs, [np.full(len(runs.clusters), float(t)) for t in at])
    mean = pass_rate.mean(axis=0)
    n_clusters = int(runs.clusters.max()) + 1
    away = pass_rate - mean
    residuals = np.column_stack([np.bincount(runs.clusters, x, n_clusters) for x in away.T])
    clusters = np.full(len(at), n_clusters)
    se = intervals.clustered_se(residuals, np.full(len(at), len(pass_rate)), clusters)
    ends_ = intervals.clustered_share(mean, se, clusters, level)
    low, high = (np.where(clusters > 1, end, np.nan) for end in ends_)
    saved = 1 - divide(cost.sum(axis=0), cost.sum(axis=0)[-1:])
    table = pl.DataFrame(
        {"limit": at, "kept": mean, "kept_low": low, "kept_high": high, "saved": saved}
    )
    return runs.names.join(table.fill_nan(None), how="cross")


def _turns(runs: Runs) -> pl.DataFrame:
    """Describe the runs as they were."""
    right = runs.passed > 0
    everyone = np.ones(len(runs.turns), bool)
    means = [
        np.average(runs.turns[keep], weights=runs.n[keep]) if keep.any() else None
        for keep in (everyone, right, ~right)
    ]
    values = [
        *means,
        *(runs.percentile(p, everyone) for p in (25, 50, 75)),
        float(runs.turns.max()),
    ]
    return runs.names.with_columns(
        pl.lit(v, pl.Float64).alias(c.name) for c, v in zip(_TURNS, values, strict=True)
    )
