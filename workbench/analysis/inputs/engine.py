"""Engine results as Polars frames, fetched in small pieces.

Repeated texts (names of groups, items) are held as categories while there are many rows.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import polars as pl

_PIECE_ROWS = 500_000  # rows fetched at once
_TEXT_ROWS = 50_000  # the same with a transform: the rows may have long texts
_MIN_ROWS = 20_000  # from this many rows categories save memory
PieceTransform = Callable[[pl.DataFrame], pl.DataFrame]


def collect(lazy: "nw.LazyFrame[Any]", transform: PieceTransform | None = None) -> pl.DataFrame:
    """Fetch rows; of DuckDB piece by piece, with repeated words as categories (see `spelled`).

    Args:
        lazy: the rows.
        transform: reduces each piece, so that long texts do not accumulate.
    """
    if lazy.implementation is not nw.Implementation.DUCKDB:
        frame: pl.DataFrame = lazy.collect("polars").to_native()
        return frame if transform is None else transform(frame)
    reader = lazy.to_native().to_arrow_reader(_TEXT_ROWS if transform else _PIECE_ROWS)
    pieces: list[pl.DataFrame] = []
    repeated: list[str] = []
    for table in reader:
        piece = pl.DataFrame(pl.from_arrow(table))
        piece = transform(piece) if transform else piece
        if not pieces and piece.height >= _MIN_ROWS:
            texts = [c for c, dtype in piece.schema.items() if dtype == pl.String]
            repeated = [c for c in texts if piece[c].n_unique() < piece.height / 4]
        pieces.append(_copied(piece.with_columns(pl.col(repeated).cast(pl.Categorical))))
    if not pieces:
        nothing = pl.DataFrame(pl.from_arrow(reader.read_all()))  # no rows, but the columns
        return transform(nothing) if transform else nothing
    whole = pl.concat(pieces)
    pieces.clear()
    # Joined column by column, or Polars would join all at once, beside the pieces.
    return pl.DataFrame([whole.drop_in_place(c).rechunk() for c in whole.columns])


def _copied(piece: pl.DataFrame) -> pl.DataFrame:
    """Copy every column: an uncopied one would keep the memory of all columns of its piece."""
    others = pl.exclude(pl.String).gather(pl.int_range(pl.len()))
    return piece.with_columns(pl.col(pl.String) + "", others)


def spelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Write categories out as text again, one column at a time."""
    for name, dtype in frame.schema.items():
        if dtype == pl.Categorical:
            words, places = _placed(frame[name])
            frame = frame.with_columns(words.gather(places).alias(name))
    return frame


def ranks(words: pl.Series) -> pl.Series:
    """Rank words from 1, equal ones alike, null stays null; the rows themselves are not sorted."""
    return _placed(words)[1].cast(pl.Int64) + 1


def _placed(words: pl.Series) -> tuple[pl.Series, pl.Series]:
    """List the words in order, and the place of every row's word in the list."""
    words = words if words.dtype == pl.Categorical else words.cast(pl.String)
    listed = words.unique().drop_nulls().cast(pl.String).sort()
    return listed, words.cast(pl.Enum(listed)).to_physical()


def sort(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Sort by columns, null last; categories by their words. The frame given is used up.

    One column at a time is copied: many rows would not fit twice.
    """
    order = _order(frame.select(keys))
    return pl.DataFrame([frame.drop_in_place(c).gather(order) for c in frame.columns])


def _order(places: pl.DataFrame) -> pl.Series:
    """Row numbers in order of the columns; for texts alone their ranks form one number per row."""
    words = [c for c, dtype in places.schema.items() if dtype == pl.Categorical]
    places = places.with_columns(ranks(places[c]).alias(c) for c in words)
    # the columns are ranks, so that their maximum is an integer
    most = [int(places[c].max() or 0) + 1 for c in words]  # type: ignore[arg-type]
    if len(words) < places.width or math.prod(m + 1 for m in most) >= 2**63:
        return places.select(pl.arg_sort_by(places.columns, nulls_last=True)).to_series()
    number = pl.lit(0, pl.Int64)
    for name, last in zip(words, most, strict=True):
        number = number * (last + 1) + pl.col(name).fill_null(last)
    return places.select(number.arg_sort()).to_series()
