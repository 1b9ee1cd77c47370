"""The answers that an attempt gave round by round, as its strategy noted them in the metadata."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.fetched import fetch

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_MOST = 100  # rounds of an attempt
UNREADABLE = "traces whose rounds cannot be read"
UNSCORED = "traces with a round without a score"
_PRICES = ("input_usd_per_mtok", "output_usd_per_mtok")


class _Round(msgspec.Struct):
    answer: str | None = None
    passed: bool | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Facts(msgspec.Struct):
    """A list is rounds as `self_refine` notes them; a number only says how many there were."""

    rounds: list[_Round] | int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """Attempts whose every round was scored, r rounds at most; the first answer is round 0.

    Attributes:
        traces: one row per attempt: the `by` columns, `_item`, `_code` (its cluster).
        right: (n, r) whether the answer that stands after a round is right; the last one stands on.
        made: (n, r) whether the round was made.
        changed: (n, r) whether it was made and gave another answer than the round before.
        cost: (n, r) cost up to a round; NaN where the attempt's is unknown.
        dropped: what was left out, by reason in words.
    """

    traces: pl.DataFrame
    right: Floats
    made: Bools
    changed: Bools
    cost: Floats
    dropped: dict[str, int]

    def groups(self, by: Sequence[str]) -> Iterator[tuple[pl.DataFrame, Ints]]:
        """Give each group's names, a frame of one row, and the places of its attempts, in order."""
        placed = self.traces.with_row_index("_at").group_by(by).agg("_at")
        for row in placed.sort(by, nulls_last=True).iter_slices(1):
            yield row.select(by), row["_at"][0].cast(pl.Int64).to_numpy()


def read(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> Recorded:
    """Read the rounds of the traces that have any; failed traces are left out.

    What an attempt cost is known as a whole; it is shared out over the rounds by their tokens at the
    listed prices, or by their output tokens alone where no price per token is known.
    """
    present = frame.collect_schema().names()
    if "metadata" not in present:
        frame = frame.with_columns(nw.lit(None, nw.String).alias("metadata"))
    noted = frame.filter(nw.col("metadata").cast(nw.String).str.contains('"rounds"', literal=True))
    rows = fetch(noted, by, ("cost_usd", *_PRICES), texts=("metadata",)).filter(~pl.col("_failed"))
    kept, found, dropped = [], [], {UNREADABLE: 0, UNSCORED: 0}
    for at, text in enumerate(rows["_metadata"].to_list()):
        try:
            rounds = msgspec.json.decode(text, type=_Facts).rounds
        except msgspec.DecodeError:
            dropped[UNREADABLE] += 1
            continue
        if not isinstance(rounds, list) or not rounds:
            continue
        if any(r.passed is None for r in rounds):
            dropped[UNSCORED] += 1
            continue
        kept.append(at)
        found.append(rounds[:_MOST])
    return _recorded(rows[kept], by, found, dropped)


def _recorded(
    traces: pl.DataFrame, by: Sequence[str], found: list[list[_Round]], dropped: dict[str, int]
) -> Recorded:
    shape = len(found), max(map(len, found), default=0)
    right, spent = np.zeros(shape), np.zeros(shape)
    made, changed = np.zeros(shape, bool), np.zeros(shape, bool)
    prices = traces.select(f"_{p}" for p in _PRICES).rows()
    for at, rounds in enumerate(found):
        n = len(rounds)
        answers = [(r.answer or "").strip() for r in rounds]
        right[at, :n] = [bool(r.passed) for r in rounds]
        right[at, n:] = right[at, n - 1]
        made[at, :n] = True
        changed[at, 1:n] = [a != b for a, b in itertools.pairwise(answers)]
        spent[at, :n] = _shares(rounds, prices[at])
    cost = traces["_cost_usd"].fill_null(np.nan).to_numpy()[:, None] * np.cumsum(spent, axis=1)
    return Recorded(traces.select(*by, "_item", "_code"), right, made, changed, cost, dropped)


def _shares(rounds: list[_Round], prices: tuple[float | None, float | None]) -> Floats:
    """Share an attempt's cost out; NaN where the tokens are unknown, or none were used."""
    paid, made = prices
    if paid is None or made is None:
        paid, made = 0.0, 1.0
    work = np.array([
        np.nan if r.output_tokens is None or (paid and r.input_tokens is None)
        else paid * (r.input_tokens or 0) + made * r.output_tokens
        for r in rounds
    ])  # fmt: skip
    total = work.sum()
    return work / total if total > 0 else np.full(len(rounds), np.nan)
