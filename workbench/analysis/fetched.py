"""Traces one by one, for what no sum per item can give: quantiles, and fits of a distribution.

Only the columns asked for are fetched, with an underscore before their names.
"""

from collections.abc import Sequence
from typing import Any

import duckdb
import narwhals as nw
import polars as pl

from workbench.analysis.reduce import cluster

_PIECE = 500_000  # rows


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
    rows = _collected(selected, (*by, "_item"))
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {} if "_cluster" in rows.columns else {"_cluster": pl.String}
    rows = rows.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
    return rows.with_columns(_code=_codes(rows)).drop("_cluster")


def _collected(selected: "nw.LazyFrame[Any]", keys: Sequence[str]) -> pl.DataFrame:
    """Fetch rows; of an engine piece by piece, the few words of the keys held once each."""
    native = selected.to_native()
    if not isinstance(native, duckdb.DuckDBPyRelation):
        frame: pl.DataFrame = selected.collect("polars").to_native()
        return frame
    reader = native.to_arrow_reader(_PIECE)
    nothing = pl.DataFrame(pl.from_arrow(reader.schema.empty_table()))
    words = [c for c in dict.fromkeys(keys) if nothing.schema[c] == pl.String]
    held = [nothing.with_columns(pl.col(words).cast(pl.Categorical))]
    for piece in reader:
        held.append(
            pl.DataFrame(pl.from_arrow(piece)).with_columns(pl.col(words).cast(pl.Categorical))
        )
    return pl.concat(held).with_columns(pl.col(words).cast(pl.String))


def _codes(rows: pl.DataFrame) -> pl.Series:
    """Number the clusters, in the order of their names; items that stand alone below 0."""
    alone, named = _ranks(rows["_item"].cast(pl.String)), _ranks(rows["_cluster"])
    return pl.select(pl.when(named.is_null()).then(-alone).otherwise(named)).to_series()


def _ranks(words: pl.Series) -> pl.Series:
    """Rank words from 1, equal ones alike; of many rows with few words no rows are sorted."""
    known = pl.Enum(words.unique().drop_nulls().sort())
    return words.cast(known).to_physical().cast(pl.Int64) + 1
