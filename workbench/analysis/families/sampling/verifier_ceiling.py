"""Verifier ceiling: accuracy of trying until an imperfect verifier accepts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, SHARED
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import attempt_counts, clustered_means
from workbench.analysis.inputs.attempt_counts import SHORT, Attempts, attempts
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import Items, reduce_items, scored_rows
from workbench.analysis.stats import pass_at_k, trial_patterns
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.schema import KEY_NULL, Column

_MOST = 1000  # attempts of one curve
_NONE = "no verifier scores"
_NULL_IF_FEW = "no verifier scores, or fewer than two items"
_ROWS = (
    Column("k", "int", "count", "Most attempts at an item.", KEY_NULL, "attempts"),
    Column(
        "n_items",
        "int",
        "count",
        "Items with enough verified trials for the whole curve.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Verified traces on them.", KEY_NULL, "traces"),
    Column(
        "accepted_rate",
        "float",
        "0..1",
        "Chance that the first accepted of k attempts is right.",
        _NONE,
        "accepted and right",
    ),
    Column(
        "accepted_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        _NULL_IF_FEW,
        "accepted and right, low",
    ),
    Column(
        "accepted_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _NULL_IF_FEW,
        "accepted and right, high",
    ),
    Column(
        "wrong_rate",
        "float",
        "0..1",
        "Chance that the first accepted of k attempts is wrong.",
        _NONE,
        "accepted but wrong",
    ),
    Column(
        "abstain_rate",
        "float",
        "0..1",
        "Chance that none of k attempts is accepted.",
        _NONE,
        "none accepted",
    ),
    Column(
        "best_rate",
        "float",
        "0..1",
        "Chance that the best scored of k attempts is right, ties by lot.",
        _NONE,
        "best scored right",
    ),
    Column(
        "oracle_rate",
        "float",
        "0..1",
        "Chance that at least one of k attempts is right.",
        _NONE,
        "pass@k (oracle)",
    ),
    Column(
        "value",
        "float",
        "",
        "Right answers minus the penalty for wrong ones, per item.",
        _NONE,
        "value per item",
    ),
    Column(
        "value_low",
        "float",
        "",
        "Lower end of its interval.",
        "no spread, or too few items",
        "value per item, low",
    ),
    Column(
        "value_high",
        "float",
        "",
        "Upper end of its interval.",
        "no spread, or too few items",
        "value per item, high",
    ),
    Column(
        "mean_attempts",
        "float",
        "count",
        "Mean attempts until one is accepted, k at most.",
        _NONE,
        "attempts made",
    ),
    Column("cost_usd", "float", "USD", "What they cost.", "no cost known", "cost per item"),
    Column(
        "relative_compute",
        "float",
        "",
        "Compute of k attempts, each checked: k (1 + λ V), of one unchecked attempt.",
        KEY_NULL,
        "compute, relative",
    ),
)
_TOTALS = (
    Column(
        "completeness",
        "float",
        "0..1",
        "Share of the right traces that the verifier accepts.",
        "nothing right",
    ),
    Column(
        "soundness", "float", "0..1", "Share of the wrong traces that it rejects.", "nothing wrong"
    ),
    Column(
        "precision",
        "float",
        "0..1",
        "Share of the accepted traces that are right.",
        "nothing accepted",
    ),
    Column(
        "ceiling_rate",
        "float",
        "0..1",
        "What endless attempts reach: mean over items of the precision, 0 where nothing is "
        "accepted.",
        KEY_NULL,
        "ceiling",
    ),
    Column(
        "ceiling_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "fewer than two items",
        "ceiling, low",
    ),
    Column(
        "ceiling_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "fewer than two items",
        "ceiling, high",
    ),
    Column(
        "conditional_rate",
        "float",
        "0..1",
        "The same over the items of which something was accepted.",
        "nothing accepted",
        "ceiling where accepted",
    ),
    Column(
        "n_never",
        "int",
        "count",
        "Items of which nothing was accepted.",
        KEY_NULL,
        "items never accepted",
    ),
    Column(
        "best_k",
        "int",
        "count",
        "Attempts of the highest value; 0 where it is best not to answer.",
        "no curve",
        "best number of attempts",
    ),
    Column("best_value", "float", "", "The value there.", "no curve", "best value per item"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Verdicts:
    """Verdicts of the verifier.

    Attributes:
        right, wrong: (n_items, n_groups) accepted traces that are right, and wrong.
        place: (n_items, n_groups) the item's pattern, −1 where it has none.
        pattern: (m,) of each block of equally scored traces of an item of each pattern.
        n, above, size, share: (m,) the traces of the item, those with a higher score, those in the
            block, and how many of the block are right.
    """

    right: Floats
    wrong: Floats
    place: Ints
    pattern: Ints
    n: Floats
    above: Floats
    size: Floats
    share: Floats

    def best(self, k: int) -> Floats:
        """Chance that the best scored of k is right, (n_items, n_groups); NaN below k trials.

        Σ over blocks of share · [C(n − above, k) − C(n − above − size, k)] / C(n, k).
        """
        first = pass_at_k.all_marked(self.n - self.above, self.n, k)
        after = pass_at_k.all_marked(self.n - self.above - self.size, self.n, k)
        chance = np.bincount(self.pattern, self.share * (first - after))
        return np.append(chance, np.nan)[self.place]


def first_accepted(
    right: npt.ArrayLike, wrong: npt.ArrayLike, n: npt.ArrayLike, k: int
) -> tuple[Floats, Floats]:
    """Chances that the first accepted of k draws is right, and that it is wrong.

    a / (a + b) · [1 − C(n − a − b, k) / C(n, k)] with a right and b wrong ones accepted of n; 0
    where nothing is accepted.
    """
    a, b, size = (np.asarray(x, float) for x in (right, wrong, n))
    some = 1.0 - pass_at_k.all_marked(size - a - b, size, k)
    first = [np.nan_to_num(divide(x, a + b)) * some for x in (a, b)]
    return first[0], first[1]


@analysis(
    name="verifier-ceiling",
    title="Verifier ceiling",
    question="How far does trying until a verifier accepts go, and when "
    "do further attempts do harm?",
    source="Stroebl, Kapoor & Narayanan 2024, arXiv 2411.17501 (value of k attempts); best of k: "
    "Singhi et al. 2025, arXiv 2504.01005",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    require=("verifier_score",),
    options=(
        Option("threshold", "float", 0.5, "a verifier's score from which on it accepts"),
        Option(
            "penalty", "float", 1.0, "what accepting a wrong answer costs, in right answers", low=0
        ),
        Option("checks", "int", 1, "V: verifications of an attempt", low=0),
        Option(
            "check_compute",
            "float",
            1.0,
            "λ: compute of a verification over that of an attempt, as tokens over tokens",
            low=0,
        ),
        Option(
            "k",
            "int",
            None,
            "most attempts; items with fewer trials are left out. If open, what nine in ten "
            "items have",
            low=1,
            high=_MOST,
        ),
        SHARED,
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_TOTALS),
    by_hand={
        "where": "model:made-up-terse",
        "worked": "Terse is right in 4, 4, 4, 2, 2 and 0 of four trials; "
        "the verifier accepts these, "
        "and of the wrong ones"
        " 0, 0, 0, 1, 1 and 2. One attempt: 16/24 − 4/24 = 0.5. As many as there are: (1 + "
        "1 + 1 + 2/3 + 2/3 + 0) / 6"
        " = 0.722 accepted and right, but 5/18 = 0.278 accepted and wrong: more attempts do harm.",
    },
    chart=ChartSpec("verifier_ceiling", x="k", y="accepted_rate"),
    settles=Settles("value", 0.0),
)
def verifier_ceiling(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute the accuracy of k attempts when the first that a verifier accepts is taken.

    Grain: one row per group and k (per task if `by` names it); `more["totals"]`: one row per group.
    Only scored traces with a `verifier_score` count; the verifier accepts from `threshold` on. A
    group without any has one row of nulls.

    Estimators: expectations over subsets of an item's n trials without replacement, exact. With a
    right and b wrong ones accepted, the first accepted of k is right with chance a / (a + b) ·
    [1 − C(n − a − b, k) / C(n, k)]; value: a − penalty · b in place of a; none accepted: 0. The
    published figures draw permutations, which come to the same. `best_rate` takes the highest score
    of k instead, ties by lot. `mean_attempts` stops at the first accepted.

    The ceiling is the mean over items of a / (a + b): an item whose wrong answers pass the verifier
    stays wrong however often it is tried. `best_k` is the k of the curve with the highest value, 0
    if all are below 0. Per item the best is always none or all; a number between comes from items
    that differ.

    `relative_compute` is S (1 + λ V) for S = k attempts with V verifications each (Singhi et al.):
    at that many votes the analysis `voting` answers whether solving or verifying is the better use
    of it.

    Intervals: Wilson's with the effective number of items that the clustered standard error
    implies; of the value mean ± t · SE. Null with fewer than two items (clusters).
    """
    frame = _with_numbers(frame)
    items = reduce_items(
        frame,
        by,
        ("cost_usd",),
        errors_as_wrong=options["errors_as_wrong"],
        require=("verifier_score",),
    )
    items, blocks = _blocks(frame, items, options["threshold"])
    panels = build(items, shared=options["shared"])
    rows = []
    totals = []
    notes = panels.notes
    short = 0
    for task, panel in panels.parts:
        tries = attempts(panel, options["k"], cap=_MOST)
        short += tries.n_short
        marks = _marks(blocks, panel)
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        table = _rows(tries, marks, options)
        rows.append(table.with_columns(where))
        totals.append(_totals(panel, marks, table, options).with_columns(where))
        notes += tries.notes(task)
    dropped = panels.dropped | {
        SHORT: short,
        attempt_counts.UNPRICED: attempt_counts.unpriced(panels.parts),
    }
    silent = _silent(items)
    parts = [table.select(*by, *(c.name for c in _ROWS)) for table in (*rows, *silent)]
    more = {"totals": pl.concat(totals).select(*by, *(c.name for c in _TOTALS))} if totals else {}
    table = pl.concat(parts) if parts else empty(by, _ROWS)
    return Answer(table, more=more, dropped=dropped, notes=notes)


def _with_numbers(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Make a verifier's score that is not a number unknown, or it would sort above all."""
    if "verifier_score" not in frame.collect_schema().names():
        return frame
    score = nw.col("verifier_score").cast(nw.Float64)
    return frame.with_columns(verifier_score=nw.when(~score.is_nan()).then(score))


def _silent(items: Items) -> list[pl.DataFrame]:
    """One row of nulls for each group that no verifier looked at."""
    seen = pl.col("n").sum()
    groups = items.frame.group_by(items.by, maintain_order=True).agg(seen).filter(pl.col("n") == 0)
    if groups.is_empty():
        return []
    nothing = empty((), _ROWS).schema
    row = groups.select(items.by).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in nothing.items()
    )
    return [
        row.with_columns(k=pl.lit(1, pl.Int64), n_items=pl.lit(0, pl.Int64), n=pl.lit(0, pl.Int64))
    ]


def _blocks(
    frame: "nw.LazyFrame[Any]", items: Items, threshold: float
) -> tuple[Items, pl.DataFrame]:
    """Add each item's accepted trials, `_right` and `_wrong`, and its `_pattern` of scores.

    Also gives the blocks of equally scored traces of each pattern, the highest score first.
    """
    present = "verifier_score" in frame.collect_schema().names()
    score = nw.col("verifier_score") if present else nw.lit(None)
    judged = frame.with_columns(_verdict=score.cast(nw.Float64))
    judged = judged.filter(~nw.col("_verdict").is_null())
    rows = scored_rows(judged, items, ("_verdict",))
    order = best_first(rows["_at"].to_numpy(), rows["_verdict"].to_numpy())
    at, verdict, passed = (
        rows.drop_in_place(c).gather(order).to_numpy() for c in ("_at", "_verdict", "outcome")
    )
    item = np.append(True, at[1:] != at[:-1])[: len(at)]
    start = np.flatnonzero(item | np.append(True, verdict[1:] != verdict[:-1])[: len(at)])
    size = np.diff(np.append(start, len(at)))
    above = start - np.flatnonzero(item)[np.cumsum(item)[start] - 1]
    right = np.add.reduceat(passed, start) if len(start) else np.empty(0)
    wrong = size - right
    at, accepted = at[start], verdict[start] >= threshold
    kind, kind_parts = trial_patterns.kinds(above, size, right.astype(np.int64))
    place, example = trial_patterns.alike(at, kind, items.frame.height)
    shown = np.full(items.frame.height, -1)
    shown[example] = np.arange(len(example))
    of = shown[at] >= 0
    above, size, right_of = kind_parts[kind[of]].T
    pattern = shown[at][of]
    n = np.bincount(pattern, size, len(example))[pattern]
    blocks = pl.DataFrame(
        {"pattern": pattern, "n": n, "above": above, "size": size, "share": right_of / size}
    )
    known = np.bincount(at, minlength=items.frame.height) > 0
    frame_ = items.frame.with_columns(
        _right=np.bincount(at, right * accepted, len(place)),
        _wrong=np.bincount(at, wrong * accepted, len(place)),
        _pattern=np.where(known, place, -1),
    )
    return dataclasses.replace(items, frame=frame_), blocks


def best_first(at: Ints, verdict: Floats) -> Ints:
    """Order traces by item, the highest score first: (n,) items and scores → (n,) places.

    One number is sorted many times quicker than two: the item, and as much of the score as has room
    beside it.
    """
    bits = (verdict + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    falling = np.where(negative, bits, ~bits & np.uint64((1 << 63) - 1))
    room = 63 - int(at.max(initial=0)).bit_length()
    key = (at.astype(np.uint64) << np.uint64(room)) | (falling >> np.uint64(64 - room))
    order = np.argsort(key)
    item = at[order]
    score = verdict[order]
    if ((item[1:] == item[:-1]) & (score[1:] > score[:-1])).any():
        order = np.lexsort((-verdict, at))
    return order


def _marks(blocks: pl.DataFrame, panel: Panel) -> _Verdicts:
    """Place the blocks in a panel."""
    right, wrong = (np.where(panel.tried, panel.matrix(c), np.nan) for c in ("_right", "_wrong"))
    place = np.nan_to_num(panel.matrix("_pattern"), nan=-1.0).astype(np.int64)
    counts = (blocks[c].cast(pl.Float64).to_numpy() for c in ("n", "above", "size", "share"))
    return _Verdicts(right, wrong, place, blocks["pattern"].cast(pl.Int64).to_numpy(), *counts)


def _rows(tries: Attempts, marks: _Verdicts, options: dict[str, Any]) -> pl.DataFrame:
    panel = tries.panel
    level = options["level"]
    penalty = options["penalty"]
    accepted = marks.right + marks.wrong
    waiting = np.zeros_like(tries.n)
    parts = []
    done = 0
    for k in tries.sizes:
        for j in range(done, k):
            waiting = waiting + pass_at_k.all_marked(tries.n - accepted, tries.n, j)
        done = k
        right, wrong = (
            tries.within(x, k) for x in first_accepted(marks.right, marks.wrong, tries.n, k)
        )
        best = tries.within(marks.best(k), k)
        gain = clustered_means.difference(
            panel, tries.within(waiting, k), level, low=0.0, high=float(k)
        ).value
        cost = pl.Series("cost_usd", gain * tries.cost).fill_nan(None)
        relative = k * (1 + options["check_compute"] * options["checks"])
        parts.append(
            tries.rows(k).with_columns(
                *clustered_means.share(panel, right, level).series("accepted_rate"),
                *clustered_means.share(panel, wrong, level).series("wrong_rate")[:1],
                *clustered_means.share(panel, (1.0 - right - wrong).round(12), level).series(
                    "abstain_rate"
                )[:1],
                *clustered_means.share(
                    panel, np.where(np.isnan(right), np.nan, best), level
                ).series("best_rate")[:1],
                *clustered_means.share(panel, tries.at_least_one(k), level).series("oracle_rate")[
                    :1
                ],
                *clustered_means.difference(
                    panel, right - penalty * wrong, level, low=-penalty
                ).series("value"),
                pl.Series("mean_attempts", gain).fill_nan(None),
                cost,
                pl.lit(relative, pl.Float64).alias("relative_compute"),
            )
        )
    return attempt_counts.ordered(parts, "accepted_rate", panel, _ROWS)


def _totals(
    panel: Panel, marks: _Verdicts, curve: pl.DataFrame, options: dict[str, Any]
) -> pl.DataFrame:
    """Sum up the verifier and the ceiling over all verified items."""
    n = panel.matrix("n_scored")
    passed = panel.matrix("outcome")
    right = marks.right
    wrong = marks.wrong
    precise = divide(right, right + wrong)
    ceiling = np.where(panel.tried, np.nan_to_num(precise), np.nan)
    a, b, all_right, all_n = (np.nansum(x, axis=0) for x in (right, wrong, passed, n))
    figures = {
        "completeness": divide(a, all_right),
        "soundness": 1 - divide(b, all_n - all_right),
        "precision": divide(a, a + b),
        "conditional_rate": clustered_means.share(panel, precise, options["level"]).value,
    }
    keys = panel.groups.columns
    best = curve.sort("value", "k", descending=[True, False], nulls_last=True)
    best = best.group_by(keys, maintain_order=True).agg(pl.col("k", "value").first())
    harmful = pl.col("value") < 0
    best = best.select(
        *keys,
        best_k=pl.when(harmful).then(0).otherwise("k").cast(pl.Int64),
        best_value=pl.when(harmful).then(0.0).otherwise("value"),
    )
    return panel.groups.with_columns(
        *clustered_means.share(panel, ceiling, options["level"]).series("ceiling_rate"),
        *(pl.Series(name, values).fill_nan(None) for name, values in figures.items()),
        pl.Series("n_never", (panel.tried & np.isnan(precise)).sum(axis=0)).cast(pl.Int64),
    ).join(best, on=keys, how="left", nulls_equal=True, maintain_order="left")
