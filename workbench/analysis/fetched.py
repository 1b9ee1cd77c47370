"""Traces one by one, for what no sum per item can give: quantiles, and fits of a distribution.

Only the columns asked for are fetched, with an underscore before their names.
"""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis.reduce import cluster

_PIECE = 500_000  # rows
_FEW = 100  # different words among the first rows: surely few in all


def fetch(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    numbers: Sequence[str],
    *,
    texts: Sequence[str] = (),
    flags: Sequence[str] = (),
    times: Sequence[str] = (),
) -> pl.DataFrame:
    """Fetch some columns of `trace_facts` or `call_facts`; absent ones are unknown throughout.

    Returns:
        One row per trace (or call): the `by` columns; `_` and the name for each column asked for;
        `_item`, its item; `_failed`, whether it failed; `_code`, the number of its item's cluster.
    """
    present = set(frame.collect_schema().names())
    dtypes: dict[str, Any] = dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(texts, pl.String)
    dtypes |= dict.fromkeys(flags, pl.Boolean) | dict.fromkeys(times, pl.Datetime("us"))
    names = {f"_{c}": c for c in dtypes if c in present} | {"_item": "item_id"}
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    selected = frame.select(
        *by,
        *[
            (nw.col(c).cast(nw.Float64) if c in numbers else nw.col(c)).alias(alias)
            for alias, c in names.items()
        ],
        *([cluster(present)] if "cluster" in present else []),
        _failed=failed,
    )
    rows = _collected(selected)
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {} if "_cluster" in rows.columns else {"_cluster": pl.String}
    rows = rows.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
    rows = rows.with_columns(_code=_codes(rows)).drop("_cluster")
    for name, dtype in rows.schema.items():
        if dtype == pl.Categorical:
            rows = rows.with_columns(pl.col(name).cast(pl.String))
    return rows


def _collected(selected: "nw.LazyFrame[Any]") -> pl.DataFrame:
    """Fetch rows; of an engine piece by piece, words that occur again and again held once each."""
    if selected.implementation is not nw.Implementation.DUCKDB:
        frame: pl.DataFrame = selected.collect("polars").to_native()
        return frame
    reader = selected.to_native().to_arrow_reader(_PIECE)
    pieces = [pl.DataFrame(pl.from_arrow(reader.schema.empty_table()))]
    few: list[str] = []
    for table in reader:
        piece = pl.DataFrame(pl.from_arrow(table))
        if len(pieces) == 1:
            texts = [c for c, t in piece.schema.items() if t == pl.String]
            few = [c for c in texts if c == "_item" or piece[c].n_unique() < _FEW]
            pieces[0] = pieces[0].with_columns(pl.col(few).cast(pl.Categorical))
        pieces.append(piece.with_columns(pl.col(few).cast(pl.Categorical)))
    return pl.concat(pieces)


def _codes(rows: pl.DataFrame) -> pl.Series:
    """Number the clusters, in the order of their names; items that stand alone below 0."""
    alone = -_ranks(rows["_item"])
    if not rows["_cluster"].count():
        return alone
    named = _ranks(rows["_cluster"])
    return pl.select(pl.when(named.is_null()).then(alone).otherwise(named)).to_series()


def _ranks(words: pl.Series) -> pl.Series:
    """Rank words from 1, equal ones alike; of many rows with few words no rows are sorted."""
    words = words if words.dtype == pl.Categorical else words.cast(pl.String)
    known = pl.Enum(words.unique().drop_nulls().cast(pl.String).sort())
    return words.cast(known).to_physical().cast(pl.Int64) + 1
