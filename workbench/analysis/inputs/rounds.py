"""Rounds of an attempt: its answers as the strategy recorded them in the metadata."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.inputs.per_trace import fetch
from workbench.analysis.stats.arrays import Bools, Floats, Ints
from workbench.decoding import UNDECODABLE

_MOST = 100  # rounds of an attempt
UNREADABLE = "traces whose rounds cannot be read"
UNSCORED = "traces with a round without a score"
_PRICES = ("input_usd_per_mtok", "output_usd_per_mtok")


class _Round(msgspec.Struct, gc=False):
    answer: str | None = None
    passed: bool | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Facts(msgspec.Struct, gc=False):
    """A sequence is rounds as `self_refine` notes them; a number only says how many there were."""

    rounds: tuple[_Round, ...] | int | None = None


_DECODER = msgspec.json.Decoder(_Facts)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordedRounds:
    """Attempts whose every round was scored, r rounds at most; the first answer is round 0.

    Attributes:
        traces: one row per attempt: the `by` columns, `_item`, `_code` (its cluster).
        right: (n, r) 0 or 1, whether the answer that stands after a round is right; the last one
            stands on.
        is_round: (n, r) whether the round took place.
        changed: (n, r) whether it took place and gave another answer than the round before.
        cost: (n, r) cost up to a round; NaN where the attempt's is unknown.
        dropped: what was left out, by reason in words.
    """

    traces: pl.DataFrame
    right: Floats
    is_round: Bools
    changed: Bools
    cost: Floats
    dropped: dict[str, int]

    def groups(self, by: Sequence[str]) -> Iterator[tuple[pl.DataFrame, Ints]]:
        """Yield each group's names, a frame of one row, and the places of its attempts."""
        placed = self.traces.with_row_index("_at").group_by(by).agg("_at")
        for row in placed.sort(by, nulls_last=True).iter_slices(1):
            yield row.select(by), row["_at"][0].cast(pl.Int64).to_numpy()


def items(noted: RecordedRounds, at: Ints) -> tuple[Ints, pl.Series]:
    """Number the items of some attempts from 0: (len(at),) places; and give each item's cluster."""
    attempt_items = noted.traces[at].select("_item", "_code")
    place = attempt_items["_item"].rank("dense").cast(pl.Int64).to_numpy() - 1
    _, first = np.unique(place, return_index=True)
    return place, attempt_items["_code"][first]


def added(values: npt.NDArray[Any], place: Ints) -> Floats:
    """Add up rows of one place: (n, k) → (n_places, k)."""
    return np.column_stack([np.bincount(place, column) for column in values.T])


def read(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> RecordedRounds:
    """Read the rounds of the traces that have any; failed traces are left out.

    What an attempt cost is known as a whole; it is shared out over the rounds by their tokens at
    the listed prices, or by their output tokens alone where no price per token is known.
    """
    present = frame.collect_schema().names()
    if "metadata" not in present:
        frame = frame.with_columns(nw.lit(None, nw.String).alias("metadata"))
    noted = frame.filter(nw.col("metadata").cast(nw.String).str.contains('"rounds"', literal=True))
    reader = _Reader()
    rows = fetch(noted, by, ("cost_usd", *_PRICES), texts=("metadata",), transform=reader)
    return _recorded(rows, by, reader)


class _Reader:
    """Reader of pieces of rows that replaces metadata by `_n`, the number of rounds.

    Attributes:
        flat: per piece, of all rounds of its rows: right, changed, share of the attempt's cost.
    """

    def __init__(self) -> None:
        self.flat: list[tuple[Bools, Bools, Floats]] = []
        self.dropped = {UNREADABLE: 0, UNSCORED: 0}

    def __call__(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Read one piece; a row without rounds that count has 0 of them."""
        texts = piece.select(pl.when(pl.col("_failed")).then(pl.lit("{}")).otherwise("_metadata"))
        rounds_per_text = self._read(texts.to_series().to_list())
        n = np.fromiter(map(len, rounds_per_text), np.int64, len(rounds_per_text))
        rounds = list(itertools.chain.from_iterable(rounds_per_text))
        passed = np.array([r.passed for r in rounds], float)  # None becomes NaN
        unscored = np.bincount(np.repeat(np.arange(len(n)), n), np.isnan(passed), len(n)) > 0
        self.dropped[UNSCORED] += int(unscored.sum())
        answers = pl.Series([r.answer for r in rounds], dtype=pl.String)
        answers = answers.str.strip_chars().fill_null("")
        changed = (answers != answers.shift(1, fill_value="")).to_numpy(writable=True)
        changed[(np.cumsum(n) - n)[n > 0]] = False
        prices = piece.select(f"_{p}" for p in _PRICES).cast(pl.Float64).fill_null(np.nan)
        share = _shares(rounds, n, *prices.to_numpy().T)
        is_scored = np.repeat(~unscored, n)
        self.flat.append((passed[is_scored] > 0, changed[is_scored], share[is_scored]))
        n_counted = pl.Series(np.where(unscored, 0, n))
        return piece.drop("_metadata", *(f"_{p}" for p in _PRICES)).with_columns(_n=n_counted)

    def _read(self, texts: list[str]) -> list[tuple[_Round, ...]]:
        """Read the rounds of every text: all at once, or one by one where any is no JSON."""
        try:
            facts = _DECODER.decode_lines("\n".join(texts))
        except UNDECODABLE:
            facts = []
        if len(facts) != len(texts):  # a line held two
            facts = [self._read_one(text) for text in texts]
        return [f.rounds[:_MOST] if isinstance(f.rounds, tuple) else () for f in facts]

    def _read_one(self, text: str) -> _Facts:
        try:
            return _DECODER.decode(text)
        except UNDECODABLE:
            self.dropped[UNREADABLE] += 1
            return _Facts()


def _recorded(rows: pl.DataFrame, by: Sequence[str], reader: _Reader) -> RecordedRounds:
    rows = rows.filter(pl.col("_n") > 0)
    n = rows["_n"].to_numpy()
    is_round = np.arange(n.max(initial=0)) < n[:, None]
    flat = [np.concatenate(part) for part in zip(*reader.flat, strict=True)]
    last = flat[0][np.cumsum(n) - 1].astype(float)
    right = np.repeat(last[:, None], is_round.shape[1], axis=1)
    spent = np.zeros(is_round.shape)
    changed = np.zeros(is_round.shape, bool)
    right[is_round], changed[is_round], spent[is_round] = flat
    spent = np.cumsum(spent, axis=1, out=spent)
    spent *= rows["_cost_usd"].fill_null(np.nan).to_numpy()[:, None]
    return RecordedRounds(
        rows.select(*by, "_item", "_code"), right, is_round, changed, spent, reader.dropped
    )


def _shares(rounds: list[_Round], n: Ints, input_price: Floats, output_price: Floats) -> Floats:
    """Share each attempt's cost out; NaN where the tokens are unknown, or none were used.

    Args:
        rounds: of all attempts, one after the other.
        n: (m,) how many each attempt has.
        input_price: (m,) NaN where unknown.
        output_price: (m,) NaN where unknown.
    """
    unknown = np.isnan(input_price) | np.isnan(output_price)
    input_price, output_price = (
        np.repeat(np.where(unknown, 0.0, input_price), n),
        np.repeat(np.where(unknown, 1.0, output_price), n),
    )
    read = np.array([r.input_tokens for r in rounds], float)  # None becomes NaN
    work = output_price * np.array([r.output_tokens for r in rounds], float)
    work += np.where(input_price > 0, input_price * read, 0.0)
    total = np.repeat(np.bincount(np.repeat(np.arange(len(n)), n), work, len(n)), n)
    share: Floats = np.divide(work, total, out=np.full(len(work), np.nan), where=total > 0)
    return share
