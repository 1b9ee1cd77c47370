"""Votes of an item's trials: exact chances that a plurality of k answers is right."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.reduce import Items, reduce_counts
from workbench.analysis.stats import trial_patterns
from workbench.analysis.stats.arrays import Floats, Ints


@dataclasses.dataclass(frozen=True, eq=False)
class ItemVotes:
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
        chances = [vote(r["counts"], r["rights"], int(r["none"]), sizes) for r in rows]
        shape = (len(chances), len(sizes))
        right, tied = (np.reshape([f[i] for f in chances], shape) for i in (0, 1))
        return right, tied


def with_answers(frame: "nw.LazyFrame[Any]", items: Items) -> tuple[Items, pl.DataFrame, int]:
    """Add each item's pattern of answers as `_pattern`; also list the patterns, count lost items.

    The pattern is null where no scored trace is, and in a group without any answer.
    """
    present = "answer" in frame.collect_schema().names()
    answer = nw.col("answer").cast(nw.String).str.strip_chars() if present else nw.lit(None)
    answer = answer.cast(nw.String).fill_null("")
    answered = frame.with_columns(_answer=answer, _given=answer != "")
    votes = reduce_counts(answered, items, ("_answer", "_given"), fetched=("_given",))
    at, n, right = (votes[c].to_numpy() for c in ("_at", "n_scored", "outcome"))
    given = votes["_given"].to_numpy()
    rows = items.frame.height
    first = items.frame.select(pl.struct(items.by).rle_id())
    group = first.to_series().cast(pl.Int64).to_numpy()
    heard = (np.bincount(group[at], given, int(group.max(initial=0)) + 1) > 0)[group]
    lost = (np.bincount(at, right * ~given, rows) > 0) & heard
    told_of = (np.bincount(at, minlength=rows) > 0) & heard & ~lost
    # Kinds of answers by how many gave it and how many of these are right; those not given are one.
    kind, kind_parts = trial_patterns.kinds(
        n, np.where(given, right, 0).astype(np.int64), given.astype(np.int64)
    )
    place, example = trial_patterns.alike(at, kind, rows)
    used, number = np.unique(place[told_of], return_inverse=True)
    shown = np.full(rows, -1)
    shown[example[used]] = np.arange(len(used))
    listed = _listed(shown[at], kind, kind_parts, len(used))
    pattern = np.full(rows, -1)
    pattern[told_of] = number
    column = pl.Series("_pattern", pattern, pl.Int64).replace(-1, None)
    kept_rows = items.frame.with_columns(column).filter(pl.Series(~lost))
    return dataclasses.replace(items, frame=kept_rows), listed, int(lost.sum())


def _listed(pattern: Ints, kind: Ints, kind_parts: Ints, n_patterns: int) -> pl.DataFrame:
    """Write patterns out from the votes of an item of each; −1 marks votes of other items."""
    at = np.flatnonzero(pattern >= 0)
    order = at[np.lexsort((kind[at], pattern[at]))]
    columns: dict[str, list[Any]] = {
        name: [[] for _ in range(n_patterns)] for name in ("counts", "rights")
    }
    none = [0] * n_patterns
    for p, k in zip(pattern[order].tolist(), kind[order].tolist(), strict=True):
        n, right, given = kind_parts[k].tolist()
        if given:
            columns["counts"][p].append(n)
            columns["rights"][p].append(right / n)
        else:
            none[p] += n
    return pl.DataFrame(
        [
            pl.Series("counts", columns["counts"], pl.List(pl.Int64)),
            pl.Series("rights", columns["rights"], pl.List(pl.Float64)),
            pl.Series("none", none, pl.Int64),
        ]
    )


def item_votes(panel: Panel, listed: pl.DataFrame) -> ItemVotes:
    """Place the patterns of a reduced frame, as `with_answers` numbers them, in a panel."""
    place = np.nan_to_num(panel.matrix("_pattern"), nan=-1.0).astype(np.int64)
    used = np.unique(place[place >= 0])
    used_patterns = listed[used]
    renumber = np.full(listed.height + 1, -1)  # the last one is for −1
    renumber[used] = np.arange(len(used))
    return ItemVotes(renumber[place], used_patterns)


def vote(
    counts: Sequence[int], rights: Sequence[float], none: int, sizes: Sequence[int]
) -> tuple[Floats, Floats]:
    """Compute the chances that a plurality of k drawn answers is right, and that it is tied.

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
    requested = np.asarray(sizes, dtype=np.int64)
    at = requested[requested <= n]
    most = int(at.max(initial=1))
    tilt = most / n  # binomials times tilt^s stay within range for any n
    # The last u is 0: what no other answer ties with.
    right = np.zeros(most + 1)
    alone = np.zeros(most + 1)
    for t in range(1, min(max(counts, default=0), most) + 1):
        rivals = [(m, r) for m, r in zip(counts, rights, strict=True) if m >= t]
        u, weight = _nodes(min(len(rivals), most // t))
        others = _binomials(n - sum(m for m, _ in rivals), most, tilt)
        product = np.tile(others, (len(u), 1))
        won = np.zeros_like(product)
        single = np.zeros_like(product)
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
    no_answer = _binomials(none, most, tilt)[at] / total
    chance_rows = np.full((2, len(requested)), np.nan)
    chance_rows[:, requested <= n] = right[at] / total, 1.0 - no_answer - alone[at] / total
    chances = np.clip(np.where(chance_rows < 1e-12, 0.0, chance_rows), 0.0, 1.0)  # less is rounding
    return chances[0], chances[1]


def _nodes(degree: int) -> tuple[Floats, Floats]:
    """Return Gauss–Legendre points and weights on 0..1; a point 0 of weight 0 is added."""
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
