"""The answers of an item's trials, and what a plurality of some of them is: exact, not drawn."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.panel import Floats, Panel
from workbench.analysis.reduce import Items, reduce_counts


@dataclasses.dataclass(frozen=True, eq=False)
class Ballots:
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


def with_answers(frame: "nw.LazyFrame[Any]", items: Items) -> tuple[Items, pl.DataFrame, int]:
    """Add each item's pattern of answers as `_pattern`; also list the patterns, count lost items."""
    present = "answer" in frame.collect_schema().names()
    answer = nw.col("answer").cast(nw.String).str.strip_chars() if present else nw.lit(None)
    told = frame.with_columns(_answer=answer.cast(nw.String))
    votes = reduce_counts(told, (*items.by, "_answer"), errors_as_wrong=items.errors_as_wrong)
    keys = list(dict.fromkeys((*items.by, "item_id")))
    valid = pl.col("_answer").fill_null("") != ""
    share = pl.col("outcome") / pl.col("n_scored")
    per_item = (
        votes.with_columns(_share=share)
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


def ballots(panel: Panel, patterns: pl.DataFrame) -> Ballots:
    """Place the patterns of a reduced frame, as `with_answers` numbers them, in a panel."""
    place = np.nan_to_num(panel.matrix("_pattern"), nan=-1.0).astype(np.int64)
    used = np.unique(place[place >= 0])
    kept = patterns[used]
    renumber = np.full(patterns.height + 1, -1)  # the last one is for −1
    renumber[used] = np.arange(len(used))
    return Ballots(renumber[place], kept)


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
    chances = np.clip(np.where(found < 1e-12, 0.0, found), 0.0, 1.0)  # less is rounding
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
