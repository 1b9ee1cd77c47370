"""What a majority vote over several answers is worth, against one answer and against an oracle."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import curves, subsets
from workbench.analysis.options import ERRORS, LEVEL, SHARED
from workbench.analysis.panel import Floats, Panel, build
from workbench.analysis.reduce import Items, reduce_items
from workbench.analysis.registry import ChartSpec, Option, analysis
from workbench.analysis.result import Answer, empty
from workbench.analysis.subsets import SHORT, Attempts, attempts
from workbench.schema import KEY_NULL, Column

C = Column
_MOST = 100  # votes: the work grows with their third power
_NONE = "no answers recorded"
_FEW = "no answers recorded, or fewer than two items"
_ROWS = (
    C("k", "int", "count", "Answers that vote.", KEY_NULL, "votes"),
    C("n_items", "int", "count", "Items with enough trials for the whole curve.", KEY_NULL, "items"),
    C("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    C("vote_rate", "float", "0..1", "Chance that the commonest of k answers is right, ties by lot.", _NONE, "majority of k right"),
    C("vote_rate_low", "float", "0..1", "Lower end of its interval.", _FEW, "majority right, low"),
    C("vote_rate_high", "float", "0..1", "Upper end of its interval.", _FEW, "majority right, high"),
    C("single_rate", "float", "0..1", "Chance that one answer is right.", KEY_NULL, "single answer right"),
    C("gain", "float", "0..1", "Majority minus single answer.", _NONE, "gain by voting"),
    C("gain_low", "float", "0..1", "Lower end of its interval.", "no spread, or too few items", "gain, low"),
    C("gain_high", "float", "0..1", "Upper end of its interval.", "no spread, or too few items", "gain, high"),
    C("oracle_rate", "float", "0..1", "Chance that at least one of k is right: the best of k, chosen by an oracle.", KEY_NULL, "best of k (oracle)"),
    C("tie_rate", "float", "0..1", "Chance that several answers share the most votes.", _NONE, "ties"),
    C("cost_usd", "float", "USD", "Mean cost of k answers to an item.", "no cost known", "cost of k answers"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Ballots:
    """The answers of every item.

    Attributes:
        place: (n_items, n_groups) which pattern the item has; −1 where there is none.
        patterns: one row per pattern: counts and rights of the answers, and how many gave none.
    """

    place: npt.NDArray[np.int64]
    patterns: pl.DataFrame

    def votes(self, sizes: Sequence[int]) -> tuple[Floats, Floats]:
        """Evaluate every pattern: chances to be right and to be tied, (n_patterns, n_sizes)."""
        rows = self.patterns.iter_rows(named=True)
        found = [vote(r["counts"], r["rights"], int(r["none"]), sizes) for r in rows]
        shape = (len(found), len(sizes))
        right, tied = (np.reshape([f[i] for f in found], shape) for i in (0, 1))
        return right, tied


@analysis(
    name="voting",
    title="Voting",
    question="What is a majority vote over k answers worth, against one answer and the best of k?",
    source="Wang et al. 2022, arXiv 2203.11171 (self-consistency); Brown et al. 2024, arXiv 2407.21787 (§4); expectation over subsets exact",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option("k", "int", None, "most votes; items with fewer trials are left out. If open, what nine in ten items have, up to 100", low=1, high=_MOST),
        SHARED, ERRORS, LEVEL,
    ),
    columns=_ROWS,
    chart=ChartSpec("voting", x="k", y="vote_rate"),
)  # fmt: skip
def voting(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Give the rate at which the commonest of k recorded answers is right, and what they cost.

    Grain: one row per group and k (per task if `by` names it), the group with the best single
    answer first. Only scored traces count. Two answers are the same if their text is, but for space
    around it. A trace without an answer has its place among the k but no vote: it cannot win, and
    where nobody votes the outcome is wrong.

    Estimator: the expectation over all subsets of k of an item's trials, without replacement, and
    over ties broken by lot; exact, not drawn. An answer is as right as its traces are on average,
    should the scorer disagree with itself. `oracle_rate` is pass@k, the bound of any way to choose;
    `single_rate` the pass rate. `tie_rate` says how often the lot decides. The cost is k times the
    mean cost of an attempt, over the traces of known cost.

    Items of which a right trace has no recorded answer are left out and told; in a group without
    any answer the vote is null. Intervals: Wilson's with the effective number of items that the
    clustered standard error implies; of the gain, paired by item, mean ± t · SE. Null with fewer
    than two items (clusters).
    """
    items = reduce_items(frame, by, ("cost_usd",), errors_as_wrong=options["errors_as_wrong"])
    items, patterns, lost = _with_answers(frame, items)
    panels = build(items, shared=options["shared"])
    rows, notes, short = [], panels.notes, 0
    for task, panel in panels.parts:
        tries = attempts(panel, options["k"], cap=_MOST)
        short += tries.n_short
        table, silent = _rows(tries, _ballots(panel, patterns), options["level"])
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(table.with_columns(where))
        on = f" on {task}" if task else ""
        notes += tries.notes(task) + tuple(f"no answers of {name} recorded{on}" for name in silent)
    dropped = panels.dropped | {
        SHORT: short,
        "items with a right trace whose answer is not recorded": lost,
        subsets.UNPRICED: subsets.unpriced(panels.parts),
    }
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    return Answer(table, dropped=dropped, notes=notes)


def _with_answers(frame: "nw.LazyFrame[Any]", items: Items) -> tuple[Items, pl.DataFrame, int]:
    """Add each item's pattern of answers as `_pattern`; also list the patterns, count lost items."""
    present = "answer" in frame.collect_schema().names()
    answer = nw.col("answer").cast(nw.String).str.strip_chars() if present else nw.lit(None)
    told = frame.with_columns(_answer=answer.cast(nw.String))
    votes = reduce_items(told, (*items.by, "_answer"), errors_as_wrong=items.errors_as_wrong).frame
    keys = list(dict.fromkeys((*items.by, "item_id")))
    valid = pl.col("_answer").fill_null("") != ""
    share = pl.col("outcome") / pl.col("n_scored")
    per_item = (
        votes.filter(pl.col("n_scored") > 0)
        .with_columns(_share=share)
        .sort("n_scored", "_share")
        .group_by(keys, maintain_order=True)
        .agg(
            counts=pl.col("n_scored").filter(valid),
            rights=pl.col("_share").filter(valid),
            none=pl.col("n_scored").filter(~valid).sum(),
            _lost=pl.col("outcome").filter(~valid).sum(),
        )
    )
    spoilt = (pl.col("_lost") > 0) & (pl.col("counts").list.len().sum().over(items.by) > 0)
    lost = per_item.filter(spoilt)
    patterns, placed = _patterns(per_item.filter(~spoilt), items.by)
    own = items.frame.join(lost, on=keys, how="anti", nulls_equal=True)
    own = own.join(placed.select(*keys, "_pattern"), on=keys, how="left", nulls_equal=True)
    return dataclasses.replace(items, frame=own.sort(*keys, nulls_last=True)), patterns, lost.height


def _patterns(per_item: pl.DataFrame, by: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the distinct patterns; null in a group where nobody gave an answer."""
    lists = [pl.col(c).cast(pl.List(pl.String)).list.join(" ") for c in ("counts", "rights")]
    heard = pl.col("counts").list.len().sum().over(by) > 0
    keyed = per_item.with_columns(
        _key=pl.when(heard).then(pl.concat_str(*lists, "none", separator="|"))
    )
    patterns = (
        keyed.drop_nulls("_key")
        .unique("_key", keep="first", maintain_order=True)
        .select("_key", "counts", "rights", "none")
        .with_row_index("_pattern")
    )
    placed = keyed.join(patterns.select("_key", "_pattern"), on="_key", how="left")
    return patterns.drop("_key"), placed


def _ballots(panel: Panel, patterns: pl.DataFrame) -> _Ballots:
    place = np.nan_to_num(panel.matrix("_pattern"), nan=-1.0).astype(np.int64)
    used = np.unique(place[place >= 0])
    kept = patterns[used]
    renumber = np.full(patterns.height + 1, -1)  # the last one is for −1
    renumber[used] = np.arange(len(used))
    return _Ballots(renumber[place], kept)


def _rows(tries: Attempts, ballots: _Ballots, level: float) -> tuple[pl.DataFrame, list[str]]:
    """Average the items' curves; also name the groups without answers."""
    panel, place = tries.panel, ballots.place
    right, tied = ballots.votes(tries.sizes)
    single = tries.at_least_one(1)
    parts = []
    for at, k in enumerate(tries.sizes):
        voted, split = (
            tries.within(np.where(place >= 0, np.append(x[:, at], np.nan)[place], np.nan), k)
            for x in (right, tied)
        )
        voted, split = (np.where(np.isnan(tries.n), np.nan, x) for x in (voted, split))
        part = tries.rows(k).with_columns(
            *curves.share(panel, voted, level).series("vote_rate"),
            *curves.share(panel, single, level).series("single_rate")[:1],
            *curves.difference(panel, voted - single, level).series("gain"),
            *curves.share(panel, tries.at_least_one(k), level).series("oracle_rate")[:1],
            *curves.share(panel, split, level).series("tie_rate")[:1],
        )
        parts.append(part)
    silent = [name for g, name in enumerate(panel.labels) if (place[:, g] < 0).all()]
    table = subsets.ordered(parts, "single_rate", panel, _ROWS)
    return table, silent


def vote(
    counts: Sequence[int], rights: Sequence[float], none: int, sizes: Sequence[int]
) -> tuple[Floats, Floats]:
    """Give the chances that a plurality of k drawn answers is right, and that it is tied.

    A winner with t votes beats answers with fewer; with j others that also have t it wins with
    chance 1 / (j + 1) = ∫₀¹ u^j du. So answers are multiplied as polynomials in x, the number
    drawn, with u on the term x^t, for a few u at once (Gauss–Legendre, exact for polynomials).

    Args:
        counts: (a,) how many trials gave each distinct answer.
        rights: (a,) how right each answer is, 0..1.
        none: how many trials gave no answer.
        sizes: (s,) the k.

    Returns:
        (s,) and (s,) chances; NaN where k is more than the number of trials.
    """
    n = sum(counts) + none
    asked = np.asarray(sizes, dtype=np.int64)
    at = asked[asked <= n]
    most = int(at.max(initial=1))
    tilt = most / n  # binomials times tilt^s stay within range for any n
    # The last u is 0: what no other answer ties with.
    right, alone = np.zeros(most + 1), np.zeros(most + 1)
    for t in range(1, min(max(counts, default=0), most) + 1):
        rivals = [(m, r) for m, r in zip(counts, rights, strict=True) if m >= t]
        u, weight = _nodes(min(len(rivals), most // t))
        others = _binomials(n - sum(m for m, _ in rivals), most, tilt)
        product = np.tile(others, (len(u), 1))
        won, single = np.zeros_like(product), np.zeros_like(product)
        for m, r in rivals:
            terms = _binomials(m, t, tilt)
            best = _shifted(product, t) * terms[t]
            terms = np.tile(terms, (len(u), 1))
            terms[:, t] *= u
            won = _times(won, terms) + r * best
            single = _times(single, terms) + best
            product = _times(product, terms)
        right += weight @ won
        alone += single[-1]
    total = _binomials(n, most, tilt)[at]
    nobody = _binomials(none, most, tilt)[at] / total
    found = np.full((2, len(asked)), np.nan)
    found[:, asked <= n] = right[at] / total, 1.0 - nobody - alone[at] / total
    chances = np.clip(found, 0.0, 1.0)
    return chances[0], chances[1]


def _nodes(degree: int) -> tuple[Floats, Floats]:
    """Points and weights on 0..1 that integrate polynomials of a degree; 0 is added, of weight 0."""
    x, w = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return np.append((x + 1) / 2, 0.0), np.append(w / 2, 0.0)


def _binomials(n: int, most: int, tilt: float) -> Floats:
    """C(n, s) tilt^s for s = 0 … most, (most + 1,)."""
    s = np.arange(most)
    return np.append(1.0, np.cumprod(np.maximum(n - s, 0) / (s + 1) * tilt))


def _shifted(rows: Floats, by: int) -> Floats:
    out = np.zeros_like(rows)
    out[:, by:] = rows[:, : rows.shape[1] - by]
    return out


def _times(rows: Floats, terms: Floats) -> Floats:
    """Multiply polynomials row by row; (u, most + 1) and (u, few), cut to (u, most + 1)."""
    out = rows * terms[:, :1]
    for s in range(1, terms.shape[1]):
        out[:, s:] += rows[:, : rows.shape[1] - s] * terms[:, s : s + 1]
    return out
