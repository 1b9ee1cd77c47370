"""Weighted votes: chances of a right majority where answers are weighted by a verifier's score."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.inputs.reduce import Items, scored_rows
from workbench.analysis.stats.arrays import Bools, Floats, Ints

_WORK = 5_000_000  # sums of votes that a panel takes, about
MOST_TRACES = 2_000_000  # they are fetched one by one, in 1 µs each
_LISTED = 14  # trials up to which all subsets of an item may be listed
_FEWEST, _MOST = 1, 1000  # subsets of each size that are drawn
_AT_ONCE = 1_000_000
_SAME = 1e-9  # sums that differ by less of themselves are tied


@dataclasses.dataclass(frozen=True, eq=False)
class Weighed:
    """The votes of every reduced item, one after the other.

    Attributes:
        start: (n_rows + 1,) where the votes of each row of the reduced frame begin.
        answer: (m,) which answer of its item, from 0; −1 for none.
        weight: (m,) its score; 0 where it has none.
        right: (m,) how right that answer is, 0..1.
        known: (n_rows,) whether any of the item's traces has a score.
    """

    start: Ints
    answer: Ints
    weight: Floats
    right: Floats
    known: Bools

    def votes(
        self, rows: Ints, sizes: Sequence[int], rng: np.random.Generator
    ) -> tuple[Floats, bool]:
        """Compute the chance that the heaviest of k answers is right, and whether it is exact.

        Over all subsets where there is time for it: with up to 14 trials of not too many items;
        else over drawn ones, 1 to 1,000 of every size and item.

        Returns:
            (len(rows), n_sizes); NaN where an item has fewer than k trials, or no score.
        """
        requested = np.asarray(sizes)
        chances = np.full((len(rows), len(requested)), np.nan)
        exact = True
        counts = np.where(self.known[rows], np.diff(self.start)[rows], 0)
        for n in np.unique(counts[counts >= requested.min(initial=1)]).tolist():
            at = np.flatnonzero(counts == n)
            ks = requested[requested <= n]
            places = self.start[rows[at]][:, None] + np.arange(n)
            width = int(self.answer[places].max()) + 1
            if width == 0:
                chances[at[:, None], np.flatnonzero(requested <= n)] = 0.0
                continue
            room = min(int(_WORK * n / (counts.sum() * width)), 2 * _WORK // n)
            listed = sum(math.comb(n, k) for k in ks.tolist())
            if n <= _LISTED and listed <= room:
                masks = _all(n, ks)
            else:
                exact = False
                masks = _drawn(n, ks, min(max(room // len(ks), _FEWEST), _MOST), rng)
                places = rng.permuted(places, axis=1)  # or all items would have the same luck
            chances[at[:, None], np.flatnonzero(requested <= n)] = self._mean(places, masks, width)
        return chances, exact

    def _mean(self, places: Ints, masks: Floats, width: int) -> Floats:
        """Average over subsets by size: places (m, n), masks (subsets, n) → (m, n_sizes)."""
        first = np.flatnonzero(np.diff(masks.sum(axis=1), prepend=0))
        subset_counts = np.diff(np.append(first, len(masks)))[:, None]
        step = max(_AT_ONCE // (max(masks.shape) * width), 1)
        parts = [
            np.add.reduceat(self._won(places[i : i + step], masks, width), first, axis=0)
            / subset_counts
            for i in range(0, len(places), step)
        ]
        return np.concatenate(parts, axis=1).T

    def _won(self, places: Ints, masks: Floats, width: int) -> Floats:
        """Hold every vote: mean score of the answers of the largest weight, (n_subsets, m)."""
        m, n = places.shape
        answer = self.answer[places]
        weight = self.weight[places]
        item, trial = np.nonzero(answer >= 0)
        of = answer[item, trial]
        votes = np.zeros((n, width, m))
        right = np.zeros((width, m))
        votes[trial, of, item] = weight[item, trial]
        right[of, item] = self.right[places][item, trial]
        sums = (masks @ votes.reshape(n, -1)).reshape(-1, width, m)
        if weight[item, trial].min(initial=1.0) <= 0:  # or what got no vote has the lowest sum
            voted = np.zeros_like(votes)
            voted[trial, of, item] = 1.0
            sums = np.where((masks @ voted.reshape(n, -1)).reshape(sums.shape) > 0, sums, -np.inf)
        else:
            sums[sums == 0] = -np.inf
        top = sums.max(axis=1)
        least = np.where(np.isinf(top), np.inf, top - _SAME * np.abs(top))
        won = np.zeros_like(top)
        tied = np.zeros_like(top)
        for a in range(width):  # answers are few, items many
            best = sums[:, a] >= least
            won += best * right[a]
            tied += best
        share: Floats = won / np.maximum(tied, 1.0)
        return share


def _all(n: int, sizes: Ints) -> Floats:
    """List the subsets of n trials of each size, (n_subsets, n) of 0 and 1, the smallest first."""
    chosen = [c for k in sizes.tolist() for c in itertools.combinations(range(n), k)]
    masks = np.zeros((len(chosen), n))
    for mask, c in zip(masks, chosen, strict=True):
        mask[list(c)] = 1.0
    return masks


def _drawn(n: int, sizes: Ints, n_subsets: int, rng: np.random.Generator) -> Floats:
    """Draw so many subsets of each size; as `_all`."""
    rank = rng.permuted(np.tile(np.arange(n), (n_subsets, 1)), axis=1)
    return np.concatenate([(rank < k).astype(float) for k in sizes.tolist()])


def too_many(items: Items) -> bool:
    """Whether there are more scored traces than are weighed one by one: 2,000,000."""
    return int(items.frame["n_scored"].sum()) > MOST_TRACES


def _any(frame: "nw.LazyFrame[Any]", score: str) -> bool:
    """Whether any trace has the score, and answers are known."""
    if not {score, "answer"} <= set(frame.collect_schema().names()):
        return False
    counted = frame.select(nw.col(score).count().alias("n")).collect("polars")
    return int(counted["n"][0]) > 0


def weighed(frame: "nw.LazyFrame[Any]", items: Items, score: str) -> Weighed | None:
    """Fetch the votes of reduced items with their scores.

    None where no trace has a score, or `too_many` are scored.

    Args:
        frame: rows of `trace_facts`.
        items: the same traces, reduced.
        score: the column that says how much a vote counts.
    """
    if too_many(items) or not _any(frame, score):
        return None
    answer = nw.col("answer").cast(nw.String).str.strip_chars().fill_null("")
    selected = frame.with_columns(_answer=answer, _weight=nw.col(score).cast(nw.Float64))
    rows = scored_rows(selected, items, ("_answer", "_weight"))
    words = rows["_answer"].unique().cast(pl.String).sort()
    code = rows["_answer"].cast(pl.Categorical).cast(pl.Enum(words)).to_physical().cast(pl.Int64)
    key = rows["_at"] * len(words) + code  # one key sorts faster than two
    rows = rows.select("outcome", _key=key, _weight=pl.col("_weight").fill_nan(None))
    rows = rows.sort("_key", "_weight")
    key_ = rows["_key"].to_numpy()
    outcome = rows["outcome"].to_numpy()
    at, code_ = np.divmod(key_, len(words))
    start = np.searchsorted(at, np.arange(items.frame.height + 1))
    new = np.append(True, key_[1:] != key_[:-1])[: len(at)]
    run = np.cumsum(new) - 1
    # "" sorts first: where it is among an item's answers it has the number −1.
    none = code_ == 0 if "" in words[:1] else np.zeros(len(at), bool)
    answer_number = run - run[start[at]] - none[start[at]]
    right = (np.bincount(run, outcome) / np.bincount(run))[run]
    known = np.bincount(at, rows["_weight"].is_not_null().to_numpy(), items.frame.height) > 0
    return Weighed(start, answer_number, rows["_weight"].fill_null(0.0).to_numpy(), right, known)
