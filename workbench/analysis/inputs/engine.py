"""What an engine computed, as a Polars frame that is held small on the way.

Words that occur again and again (names of groups, items) are held once each while rows are many.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import polars as pl

_PIECE = 500_000  # rows asked for at once
_READ = 50_000  # of rows that are read one by one, whose texts may be long
_MANY = 20_000  # rows from which it is worth the trouble
Each = Callable[[pl.DataFrame], pl.DataFrame]


def collect(lazy: "nw.LazyFrame[Any]", each: Each | None = None) -> pl.DataFrame:
    """Fetch rows; of DuckDB piece by piece, with repeated words as categories (see `spelled`).

    Args:
        lazy: the rows.
        each: makes of a piece what is kept of it, so that no texts pile up that are only read once.
    """
    if lazy.implementation is not nw.Implementation.DUCKDB:
        frame: pl.DataFrame = lazy.collect("polars").to_native()
        return frame if each is None else each(frame)
    reader = lazy.to_native().to_arrow_reader(_READ if each else _PIECE)
    pieces: list[pl.DataFrame] = []
    repeated: list[str] = []
    for table in reader:
        piece = pl.DataFrame(pl.from_arrow(table))
        piece = each(piece) if each else piece
        if not pieces and piece.height >= _MANY:
            texts = [c for c, dtype in piece.schema.items() if dtype == pl.String]
            repeated = [c for c in texts if piece[c].n_unique() < piece.height / 4]
        pieces.append(_own(piece.with_columns(pl.col(repeated).cast(pl.Categorical))))
    if not pieces:
        nothing = pl.DataFrame(pl.from_arrow(reader.read_all()))  # no rows, but the columns
        return each(nothing) if each else nothing
    whole = pl.concat(pieces)
    pieces.clear()
    # Joined column by column, or Polars would join all at once, beside the pieces.
    return pl.DataFrame([whole.drop_in_place(c).rechunk() for c in whole.columns])


def _own(piece: pl.DataFrame) -> pl.DataFrame:
    """Copy every column: one that is left as it came holds on to all columns that came with it."""
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
    """The numbers of the rows, in order; of words alone by one number each, their ranks together."""
    words = [c for c, dtype in places.schema.items() if dtype == pl.Categorical]
    places = places.with_columns(ranks(places[c]).alias(c) for c in words)
    most = [int(places[c].max() or 0) + 1 for c in words]  # type: ignore[arg-type]  # they are ranks
    if len(words) < places.width or math.prod(m + 1 for m in most) >= 2**63:
        return places.select(pl.arg_sort_by(places.columns, nulls_last=True)).to_series()
    number = pl.lit(0, pl.Int64)
    for name, last in zip(words, most, strict=True):
        number = number * (last + 1) + pl.col(name).fill_null(last)
    return places.select(number.arg_sort()).to_series()
