"""What an engine computed, as a Polars frame that is held small on the way.

Words that occur again and again (names of groups, items) are held once each while rows are many.
"""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

_PIECE = 500_000  # rows asked for at once
_MANY = 50_000  # rows from which it is worth the trouble


def collect(lazy: "nw.LazyFrame[Any]") -> pl.DataFrame:
    """Fetch rows; of DuckDB piece by piece, with repeated words as categories (see `spelled`)."""
    if lazy.implementation is not nw.Implementation.DUCKDB:
        frame: pl.DataFrame = lazy.collect("polars").to_native()
        return frame
    reader = lazy.to_native().to_arrow_reader(_PIECE)
    pieces: list[pl.DataFrame] = []
    repeated: list[str] = []
    for table in reader:
        piece = pl.DataFrame(pl.from_arrow(table))
        if not pieces and piece.height >= _MANY:
            texts = [c for c, dtype in piece.schema.items() if dtype == pl.String]
            repeated = [c for c in texts if piece[c].n_unique() < piece.height / 4]
        pieces.append(piece.with_columns(pl.col(repeated).cast(pl.Categorical)))
    if not pieces:
        return pl.DataFrame(pl.from_arrow(reader.read_all()))  # no rows, but the columns
    whole = pl.concat(pieces)
    pieces.clear()
    # Joined column by column, or Polars would join all at once, beside the pieces.
    return pl.DataFrame([whole.drop_in_place(c).rechunk() for c in whole.columns])


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
    """Sort by columns, null last; categories by their words."""
    places = frame.select(keys)
    places = places.with_columns(
        ranks(places[c]).alias(c) for c, dtype in places.schema.items() if dtype == pl.Categorical
    )
    return frame[places.select(pl.arg_sort_by(keys, nulls_last=True)).to_series()]
