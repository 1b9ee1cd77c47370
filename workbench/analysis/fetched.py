"""Traces one by one, for what no sum per item can give: quantiles, and fits of a distribution.

Only the columns asked for are fetched, with an underscore before their names.
"""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl


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
    names = {f"_{c}": c for c in dtypes if c in present}
    names |= {"_item": "item_id"}
    names |= {f"_{c}": c for c in ("cluster", "task_id") if c in present}
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    selected = frame.select(
        *by,
        *[
            (nw.col(c).cast(nw.Float64) if c in numbers else nw.col(c)).alias(alias)
            for alias, c in names.items()
        ],
        _failed=failed,
    )
    rows: pl.DataFrame = selected.collect("polars").to_native()
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {f"_{c}": pl.String for c in ("cluster", "task_id") if f"_{c}" not in names}
    return rows.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items()).with_columns(
        _code=_clusters()
    )


def _clusters() -> pl.Expr:
    """Number the clusters; a cluster's name is only unique within its task."""
    named = pl.struct("_task_id", "_cluster").rank("dense").cast(pl.Int64)
    alone = pl.col("_item").cast(pl.String).rank("dense").cast(pl.Int64)
    return pl.when(pl.col("_cluster").is_null()).then(-alone).otherwise(named)
