"""Voting: accuracy of a majority of several answers, against one answer and an oracle."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, SHARED
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import attempt_counts, clustered_means
from workbench.analysis.inputs.attempt_counts import SHORT, Attempts, attempts
from workbench.analysis.inputs.panel import build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.votes import ItemVotes, item_votes, with_answers
from workbench.analysis.inputs.weighted_votes import MOST_TRACES, Weighed, too_many, weighed
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_MOST = 100  # votes: the work grows with their third power
_NONE = "no answers recorded"
_NULL_IF_FEW = "no answers recorded, or fewer than two items"
_UNWEIGHED = "no answers or no scores of them recorded, or over two million traces"
_FEW_WEIGHED = "no weighted vote, fewer than two items, or no spread"
_ROWS = (
    Column("k", "int", "count", "Answers that vote.", KEY_NULL, "votes"),
    Column(
        "n_items",
        "int",
        "count",
        "Items with enough trials for the whole curve.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    Column(
        "vote_rate",
        "float",
        "0..1",
        "Chance that the commonest of k answers is right, ties by lot.",
        _NONE,
        "majority of k right",
    ),
    Column(
        "vote_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        _NULL_IF_FEW,
        "majority right, low",
    ),
    Column(
        "vote_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _NULL_IF_FEW,
        "majority right, high",
    ),
    Column(
        "single_rate",
        "float",
        "0..1",
        "Chance that one answer is right.",
        KEY_NULL,
        "single answer right",
    ),
    Column("gain", "float", "0..1", "Majority minus single answer.", _NONE, "gain by voting"),
    Column(
        "gain_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "no spread, or too few items",
        "gain, low",
    ),
    Column(
        "gain_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "no spread, or too few items",
        "gain, high",
    ),
    Column(
        "weighted_rate",
        "float",
        "0..1",
        "Chance that the answer of the greatest sum of scores is right.",
        _UNWEIGHED,
        "weighted vote right",
    ),
    Column(
        "weighted_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        _FEW_WEIGHED,
        "weighted vote right, low",
    ),
    Column(
        "weighted_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _FEW_WEIGHED,
        "weighted vote right, high",
    ),
    Column(
        "weighted_gain",
        "float",
        "0..1",
        "Weighted vote minus majority, on the items of the former.",
        _UNWEIGHED,
        "gain by weights",
    ),
    Column(
        "weighted_gain_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        _FEW_WEIGHED,
        "gain by weights, low",
    ),
    Column(
        "weighted_gain_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _FEW_WEIGHED,
        "gain by weights, high",
    ),
    Column(
        "oracle_rate",
        "float",
        "0..1",
        "Chance that at least one of k is right: the best of k, chosen by an oracle.",
        KEY_NULL,
        "best of k (oracle)",
    ),
    Column(
        "tie_rate",
        "float",
        "0..1",
        "Chance that several answers share the most votes.",
        _NONE,
        "ties",
    ),
    Column(
        "cost_usd",
        "float",
        "USD",
        "Mean cost of k answers to an item.",
        "no cost known",
        "cost of k answers",
    ),
)
_WEIGHTED = tuple(c.name for c in _ROWS if c.name.startswith("weighted_"))


@analysis(
    name="voting",
    title="Voting",
    question="What is a majority vote over k answers worth, against one answer and the best of k?",
    source="Wang et al. 2022, arXiv 2203.11171 (self-consistency); Brown et al. 2024, arXiv "
    "2407.21787 (§4); expectation over subsets exact",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option(
            "k",
            "int",
            None,
            "most votes; items with fewer trials are left out. If open, what nine in ten "
            "items have, up to 100",
            low=1,
            high=_MOST,
        ),
        Option(
            "weight",
            "choice",
            "verifier_score",
            "how much a vote counts in the weighted one",
            choices=("verifier_score", "confidence"),
        ),
        SHARED,
        ERRORS,
        LEVEL,
    ),
    columns=_ROWS,
    example={"by": ("model",), "where": "strategy:direct"},
    chart=ChartSpec("voting", x="k", y="vote_rate"),
)
def voting(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute the rate at which the commonest of k recorded answers is right, and their cost.

    Grain: one row per group and k (per task if `by` names it), the group with the best single
    answer first. Only scored traces count. Two answers are the same if their text is, but for space
    around it. A trace without an answer has its place among the k but no vote: it cannot win, and
    where no answer gets a vote the outcome is wrong.

    Estimator: the expectation over all subsets of k of an item's trials, without replacement, and
    over ties broken by lot; exact, not drawn. An answer is as right as its traces are on average,
    should the scorer disagree with itself. `oracle_rate` is pass@k, the bound of any way to choose;
    `single_rate` the pass rate. `tie_rate` says how often the lot decides. The cost is k times the
    mean cost of an attempt, over the traces of known cost.

    The weighted vote is won by the answer whose traces' scores add up to the most (Singhi et al.
    2025, arXiv 2504.01005, code); a trace without a score adds 0, a tie is broken by lot, and an
    item of which no trace has a score is left out of it. It is the expectation over all subsets
    where there is time to list them (few items, at most 14 trials), else over drawn ones, which the
    notes tell. Of more than two million scored traces there is none.

    Items of which a right trace has no recorded answer are left out and reported; in a group
    without any answer the vote is null. Intervals: Wilson's with the effective number of items that
    the clustered standard error implies; of the gain, paired by item, mean ± t · SE. Null with
    fewer than two items (clusters).
    """
    items = reduce_items(frame, by, ("cost_usd",), errors_as_wrong=options["errors_as_wrong"])
    heavy = weighed(frame, items, options["weight"])
    crowded = too_many(items)
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("_row_of")
    items = dataclasses.replace(items, frame=items.frame.with_columns(row))
    items, patterns, lost = with_answers(frame, items)
    panels = build(items, shared=options["shared"])
    rows = []
    notes = panels.notes
    short = 0
    sampled = False
    for task, panel in panels.parts:
        tries = attempts(panel, options["k"], cap=_MOST)
        short += tries.n_short
        weights, exact = _weights(tries, heavy, rng)
        sampled |= not exact
        table, silent = _rows(tries, item_votes(panel, patterns), weights, options["level"])
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(table.with_columns(where))
        on = f" on {task}" if task else ""
        notes += tries.notes(task) + tuple(f"no answers of {name} recorded{on}" for name in silent)
    if crowded:
        notes += (f"no weighted votes: over {MOST_TRACES:,} scored traces; narrow the slice",)
    if sampled:
        notes += ("weighted votes are of drawn subsets: another seed gives slightly other figures",)
    dropped = panels.dropped | {
        SHORT: short,
        "items with a right trace whose answer is not recorded": lost,
        attempt_counts.UNPRICED: attempt_counts.unpriced(panels.parts),
    }
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    return Answer(table, dropped=dropped, notes=notes)


def _weights(
    tries: Attempts, heavy: Weighed | None, rng: np.random.Generator
) -> tuple[Floats | None, bool]:
    """Compute weighted votes, (n_sizes, n_items, n_groups), and whether they are exact."""
    if heavy is None or not tries.sizes:
        return None, True
    place = np.where(np.isnan(tries.n), np.nan, tries.panel.matrix("_row_of"))
    some = ~np.isnan(place)
    out = np.full((len(tries.sizes), *place.shape), np.nan)
    out_of, exact = heavy.votes(place[some].astype(np.int64), tries.sizes, rng)
    out[:, some] = out_of.T
    return out, exact


def _rows(
    tries: Attempts, cast: ItemVotes, weights: Floats | None, level: float
) -> tuple[pl.DataFrame, list[str]]:
    """Average the items' curves; also name the groups without answers."""
    panel = tries.panel
    place = cast.place
    right, tied = cast.votes(tries.sizes)
    single = tries.at_least_one(1)
    parts = []
    for at, k in enumerate(tries.sizes):
        voted, split = (
            tries.within(np.where(place >= 0, np.append(x[:, at], np.nan)[place], np.nan), k)
            for x in (right, tied)
        )
        voted, split = (np.where(np.isnan(tries.n), np.nan, x) for x in (voted, split))
        part = tries.rows(k).with_columns(
            *clustered_means.share(panel, voted, level).series("vote_rate"),
            *clustered_means.share(panel, single, level).series("single_rate")[:1],
            *clustered_means.difference(panel, voted - single, level).series("gain"),
            *clustered_means.share(panel, tries.at_least_one(k), level).series("oracle_rate")[:1],
            *clustered_means.share(panel, split, level).series("tie_rate")[:1],
        )
        if weights is not None:
            heavy = np.where(np.isnan(voted), np.nan, tries.within(weights[at], k))
            part = part.with_columns(
                *clustered_means.share(panel, heavy, level).series("weighted_rate"),
                *clustered_means.difference(panel, heavy - voted, level).series("weighted_gain"),
            )
        else:
            part = part.with_columns(pl.lit(None, pl.Float64).alias(c) for c in _WEIGHTED)
        parts.append(part)
    silent = [name for g, name in enumerate(panel.labels) if (place[:, g] < 0).all()]
    table = attempt_counts.ordered(parts, "single_rate", panel, _ROWS)
    return table, silent
