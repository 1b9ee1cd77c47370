"""Refinement rounds: answers corrected and broken by revision, and the cost."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import joint_resampling, parameter_levels, rounds
from workbench.analysis.inputs.panel import divide
from workbench.analysis.inputs.sample import Means, Sample, ends
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.schema import KEY_NULL, Column

_FIRST = "the first answer"
_NO_ANSWERS = "answers are not compared"
_ROWS = (
    Column("round", "int", "count", "Revisions made or allowed; 0 is the first answer.", KEY_NULL),
    Column("n_items", "int", "count", "Items.", KEY_NULL, "items"),
    Column("n", "int", "count", "Attempts.", KEY_NULL, "traces"),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Share of attempts whose answer after the round is right; one that ended "
            "earlier keeps its last.",
            KEY_NULL,
            "accuracy after the round",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "gain",
            "float",
            "0..1",
            "Accuracy above that of the first answer.",
            _FIRST,
            "gain over the first answer",
        ),
        FEW_ITEMS,
    ),
    Column(
        "made_rate",
        "float",
        "0..1",
        "Share of attempts that made the round.",
        KEY_NULL,
        "rounds made",
    ),
    *ends(
        Column(
            "correction_rate",
            "float",
            "0..1",
            "Share of the wrong answers before the round that are right after it.",
            "nothing wrong before",
            "wrong made right",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "overcorrection_rate",
            "float",
            "0..1",
            "Share of the right answers before the round that are wrong after it.",
            "nothing right before",
            "right made wrong",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "cost_usd",
            "float",
            "USD",
            "Mean cost of an attempt up to the round.",
            "a cost is unknown",
            "cost so far",
        ),
        FEW_ITEMS,
    ),
    Column(
        "per_point_usd",
        "float",
        "USD",
        "Extra cost per point (1 %) of accuracy gained over the round before; infinite "
        "where it costs and gains nothing.",
        "the first answer, a cost unknown, or not dearer",
        "cost per point gained",
    ),
)
_TOTALS = (
    *ends(
        Column(
            "change_rate",
            "float",
            "0..1",
            "Share of the rounds that changed the answer (revision rate).",
            _NO_ANSWERS,
            "answers changed",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "success_rate",
            "float",
            "0..1",
            "Share of the changed answers that are right.",
            _NO_ANSWERS,
            "changed answers right",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "harmful_share",
            "float",
            "0..1",
            "Share of the changes that made a right answer wrong.",
            _NO_ANSWERS,
            "harmful changes",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "mended",
            "float",
            "0..1",
            "Share of all rounds in which a wrong answer became right.",
            KEY_NULL,
            "mended, per round",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "broken",
            "float",
            "0..1",
            "Share of all rounds in which a right answer became wrong.",
            KEY_NULL,
            "broken, per round",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "slope",
            "float",
            "0..1",
            "Least squares slope of accuracy on the round.",
            KEY_NULL,
            "improvement per round",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "whole_gain",
            "float",
            "0..1",
            "Accuracy after the last round minus that of the first answer.",
            KEY_NULL,
            "gain by all rounds",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "extra_usd",
            "float",
            "USD",
            "What all rounds cost beyond the first answer.",
            "a cost is unknown",
            "cost of the rounds",
        ),
        FEW_ITEMS,
    ),
    Column(
        "best_round",
        "int",
        "count",
        "The round of the highest accuracy, the earliest of equal ones.",
        KEY_NULL,
        "best round",
    ),
    Column(
        "source", "text", doc="Rounds noted in the traces, or levels of a parameter.", null=KEY_NULL
    ),
)
_COUNTED = ("right", "made", "wrong", "mended", "held", "broken", "changed", "landed", "harmed")


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    """One group's rounds, averaged within items: by name, (n_items, n_rounds)."""

    names: pl.DataFrame
    rounds: list[int]
    n: int
    values: dict[str, Floats]
    clusters: pl.Series
    source: str


@analysis(
    name="refinement",
    title="Refinement",
    question="What does each round of revision mend, what does it break, and what does it cost?",
    source="AdvGameBench (revision rate, success of revisions, improvement slope; from its code, "
    "read by changes of the answer in place of changes of the cost)",
    needs=("item_id",),
    measures=("cost_usd",),
    options=(
        Option(
            "parameter",
            "text",
            "rounds",
            "the parameter of the strategy that counts rounds, where traces note none",
        ),
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_TOTALS),
    rows="trace_details",
    chart=ChartSpec("lines", x="round", y="rate"),
    settles=Settles("whole_gain", 0.0, table="totals"),
)
def refinement(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Follow answers through rounds of revision: accuracy, what is mended and broken, cost.

    Grain: one row per group and round; `more["totals"]`: one row per group. Rounds are read from
    the metadata of traces, where strategies of several rounds note the answer after each
    (`self_refine`, `sequential_refinement`, `parallel_distill_refine`); failed traces and such with
    an unscored round are left out; without any, a group has one row, its answers. An attempt that
    ends early keeps its last answer: accuracy is of all attempts in every round, and what a round
    mends and breaks of those that made it. Trials weigh within their item.

    A group whose traces note no rounds is followed over the levels of the strategy's parameter
    `parameter`, if `by` leaves it out (as model, strategy): on the items that all levels were tried
    on, mended = (1 − a) · b and broken = a · (1 − b) with a item's rates a before and b after.
    Those are attempts of their own, so chance alone mends and breaks; only the difference of the
    two is the rounds' doing.

    Correction rate: right after given wrong before. Overcorrection: wrong after given right before.
    Changes: rounds that gave another answer; of them those that are right (success), and those that
    made a right answer wrong (harmful). Slope: least squares of accuracy on the round. An attempt's
    cost is shared out over its rounds by their tokens at listed prices, without regard to caches.
    Intervals: expanded percentile bootstrap of item clusters, the same resample for all rounds of a
    group.
    """
    noted = rounds.read(frame, by)
    groups = [_noted(noted, names, at) for names, at in noted.groups(by)]
    dropped = dict(noted.dropped)
    notes = []
    if groups:
        all_groups = frame.select(*by).unique().select(nw.len().alias("n")).collect("polars")
        dropped["groups whose traces note no rounds"] = int(all_groups["n"][0]) - len(groups)
    else:
        groups, left_out, group_notes = _unnoted(frame, by, options)
        dropped |= left_out
        notes += group_notes
    rows = []
    totals = []
    for group, bootstrap in zip(groups, _draw(groups, rng, options), strict=True):
        rows.append(_rows(group, bootstrap))
        totals.append(_totals(group, bootstrap))
        notes += _verdict(group, totals[-1])
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    more = {"totals": pl.concat(totals)} if totals else {}
    return Answer(table, more=more, dropped=dropped, notes=tuple(notes))


def _unnoted(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[list[_Group], dict[str, int], list[str]]:
    """Take the levels of a parameter for rounds; without any, every group has its one answer."""
    parameter = options["parameter"]
    wrong = options["errors_as_wrong"]
    rungs = parameter_levels.level_counts(frame, by, parameter, errors_as_wrong=wrong)
    # Levels are looked for before anything is reduced twice.
    if (rungs["n_levels"] > 1).any():
        ladder = parameter_levels.levelled_groups(frame, by, parameter, ("cost_usd",), options)
        group_notes = [
            "rounds are told apart by configuration, each with attempts of its own: chance alone"
            " mends and breaks; look at the gain"
        ]
        if ladder.several:
            group_notes += _missing(ladder.single, parameter)
            return [_levels(each) for each in ladder.several], ladder.dropped, group_notes
    single = rungs.filter(pl.col("n_levels") == 1).drop("n_levels")
    flat = parameter_levels.single_level_groups(frame, by, ("cost_usd",), options)
    group_notes = _missing(list(single.iter_slices(1)), parameter) or [
        f"no trace notes its rounds, and no strategy has a parameter {parameter}"
    ]
    return [_levels(each) for each in flat.several], flat.dropped, group_notes


def _noted(noted: rounds.RecordedRounds, names: pl.DataFrame, at: Ints) -> _Group:
    """Average one group's attempts within their items."""
    right = noted.right[at]
    is_round = noted.is_round[at].astype(float)
    changed = noted.changed[at]
    before = np.concatenate([right[:, :1], right[:, :-1]], axis=1)
    revised = is_round.copy()
    revised[:, 0] = 0.0
    facts = {
        "right": right,
        "made": is_round,
        "wrong": revised * (1 - before),
        "held": revised * before,
        "mended": revised * (1 - before) * right,
        "broken": revised * before * (1 - right),
        "changed": changed,
        "landed": changed * right,
        "harmed": changed * before * (1 - right),
        "cost": noted.cost[at],
    }
    last = int(noted.is_round[at].sum(axis=1).max())
    place, codes = rounds.items(noted, at)
    n = np.bincount(place)[:, None]
    values = {name: rounds.added(value[:, :last], place) / n for name, value in facts.items()}
    return _Group(names, list(range(last)), len(at), values, codes, "noted in traces")


def _levels(ladder: parameter_levels.LevelledGroup) -> _Group:
    """Take levels of a parameter for rounds; what changes is expected, not seen."""
    right = ladder.panel.outcome()
    before = np.concatenate([right[:, :1], right[:, :-1]], axis=1)
    revised = np.ones_like(right)
    revised[:, 0] = 0.0
    unseen = np.full_like(right, np.nan)
    values = {
        "right": right,
        "made": np.ones_like(right),
        "wrong": revised * (1 - before),
        "held": revised * before,
        "mended": revised * (1 - before) * right,
        "broken": revised * before * (1 - right),
        "changed": unseen,
        "landed": unseen,
        "harmed": unseen,
        "cost": ladder.panel.measure("cost_usd"),
    }
    n = int(np.nansum(ladder.panel.matrix("n")))
    levels = [round(level) for level in ladder.levels]
    return _Group(
        ladder.names, levels, n, values, ladder.panel.items["_cluster"], "levels of a parameter"
    )


def _draw(
    groups: Sequence[_Group], rng: np.random.Generator, options: dict[str, Any]
) -> list[Sample]:
    """Average over items, and over resamples of their clusters, with rounds in place of groups."""
    names = (*_COUNTED, "cost")
    parts = [
        joint_resampling.Part(
            joint_resampling.batch(g.names), g.clusters, np.hstack([g.values[n] for n in names])
        )
        for g in groups
    ]
    out = []
    for group, bootstrap in zip(
        groups, joint_resampling.resample_jointly(parts, options["resamples"], rng), strict=True
    ):
        whole = dict(zip(names, np.split(bootstrap.mean, len(names)), strict=True))
        draws = None
        if bootstrap.draws is not None:
            draws = dict(zip(names, np.split(bootstrap.draws, len(names), axis=1), strict=True))
        counts = np.full(len(group.rounds), float(bootstrap.n_clusters))
        out.append(Sample(whole, draws, counts, options["level"]))
    return out


def _rows(group: _Group, bootstrap: Sample) -> pl.DataFrame:
    k = len(group.rounds)
    first = np.arange(k) == 0
    cost = bootstrap.means["cost"]
    rate = bootstrap.means["right"]
    return pl.concat([group.names] * k).with_columns(
        pl.Series("round", group.rounds, pl.Int64),
        pl.Series("n_items", [len(group.values["right"])] * k, pl.Int64),
        pl.Series("n", [group.n] * k, pl.Int64),
        *bootstrap.series("rate", lambda m: m["right"]),
        *bootstrap.series(
            "gain", lambda m: np.where(first, np.nan, m["right"] - m["right"][..., :1])
        ),
        pl.Series("made_rate", bootstrap.means["made"]),
        *bootstrap.series("correction_rate", lambda m: divide(m["mended"], m["wrong"])),
        *bootstrap.series("overcorrection_rate", lambda m: divide(m["broken"], m["held"])),
        *bootstrap.series("cost_usd", lambda m: m["cost"]),
        pl.Series("per_point_usd", _per_point(cost, rate)).fill_nan(None),
    )


def _per_point(cost: Floats, rate: Floats) -> Floats:
    """Extra cost per point over the round before; NaN for the first, or without extra cost."""
    more = np.diff(cost, prepend=np.nan)
    gain = 100 * np.diff(rate, prepend=np.nan)
    rises = gain > 1e-9
    price: Floats = np.where(rises, divide(more, np.where(rises, gain, 1.0)), np.inf)
    return np.where(more > 0, price, np.nan)


def _as_column(figure: Callable[[Means], Floats], means: Means) -> Floats:
    """Compute a figure of all rounds together, (…,), as one of a single column, (…, 1)."""
    return np.asarray(figure(means))[..., None]


def _totals(group: _Group, bootstrap: Sample) -> pl.DataFrame:
    """Sum one group's rounds up."""
    x = np.array(group.rounds, float)
    away = x - x.mean()
    spread = (away**2).sum()

    def ratio(top: str, bottom: tuple[str, ...]) -> Callable[[Means], Floats]:
        return lambda m: divide(
            m[top].sum(axis=-1), np.asarray(sum(m[b].sum(axis=-1) for b in bottom))
        )

    figures: dict[str, Callable[[Means], Floats]] = {
        "change_rate": ratio("changed", ("wrong", "held")),
        "success_rate": ratio("landed", ("changed",)),
        "harmful_share": ratio("harmed", ("changed",)),
        "mended": ratio("mended", ("wrong", "held")),
        "broken": ratio("broken", ("wrong", "held")),
        "slope": lambda m: divide(m["right"] @ away, np.asarray(spread)),
        "whole_gain": lambda m: np.asarray(m["right"][..., -1] - m["right"][..., 0]),
        "extra_usd": lambda m: np.asarray(m["cost"][..., -1] - m["cost"][..., 0]),
    }
    one = dataclasses.replace(bootstrap, clusters=bootstrap.clusters[:1])
    columns = [
        s
        for name, figure in figures.items()
        for s in one.series(name, functools.partial(_as_column, figure))
    ]
    best = group.rounds[
        int(np.argmax(bootstrap.means["right"] > bootstrap.means["right"].max() - 1e-12))
    ]
    return group.names.with_columns(
        *columns, pl.Series("best_round", [best], pl.Int64), pl.Series("source", [group.source])
    )


def _verdict(group: _Group, totals: pl.DataFrame) -> list[str]:
    """Write a note on whether the rounds helped, where an interval decides it."""
    if len(group.rounds) < 2:
        return []
    low, high = totals.select("whole_gain_low", "whole_gain_high").row(0)
    if low is None or (low <= 0 <= high and high > low):
        return []
    verdict = "helps" if low > 0 else "does harm" if high < 0 else "changes nothing"
    return [
        (
            f"{label(group.names.row(0))}: revising {verdict}, {100 * low:+.1f} to "
            f"{100 * high:+.1f} points"
        )
    ]


def _missing(single: Sequence[pl.DataFrame], parameter: str) -> list[str]:
    if not single:
        return []
    names = "; ".join(label(names.row(0)) for names in single[:5])
    return [f"only one level of {parameter}: {names}; group by what stays the same, as model"]
