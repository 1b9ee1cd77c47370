"""What a majority vote over several answers is worth, against one answer and against an oracle."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
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

    place: np.typing.NDArray[np.int64]
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
        Option("k", "int", None, "most votes; items with fewer trials are left out. If open, what every item has", low=1, high=1000),
        SHARED, ERRORS, LEVEL,
    ),
    columns=_ROWS,
    chart=ChartSpec("voting", x="k", y="vote_rate"),
)  # fmt: skip
def voting(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Give the rate at which the commonest of k recorded answers is right, for k = 1, 2, …

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
        tries = attempts(panel, options["k"])
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


def _with_answers(
    frame: "nw.LazyFrame[Any]", items: Items
) -> tuple[Items, pl.DataFrame, int]:
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
    silent = pl.col("counts").list.len().sum().over(items.by) == 0
    spoilt = (pl.col("_lost") > 0) & ~silent
    lost = int(per_item.select(spoilt.sum()).item())
    per_item = per_item.with_columns(counts=pl.when(~silent).then("counts")).filter(~spoilt)
    shape = ["counts", "rights", "none"]
    patterns = per_item.drop_nulls("counts").select(shape).unique(maintain_order=True)
    patterns = patterns.with_row_index("_pattern")
    placed = per_item.join(patterns, on=shape, how="left").select(*keys, "_pattern")
    # An inner join: a spoilt item leaves the single answer and the oracle, too.
    told_items = items.frame.join(
        placed, on=keys, how="left" if placed.is_empty() else "left", nulls_equal=True
    )
    return dataclasses.replace(items, frame=told_items), patterns, lost
