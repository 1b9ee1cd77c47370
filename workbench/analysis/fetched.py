"""Traces one by one, for what no sum per item can give: quantiles, and fits of a distribution.

Only the columns asked for are fetched, with an underscore before their names.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis import engine
from workbench.analysis.reduce import cluster

_GROUPS = 200  # more are quicker sorted


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
    rows = engine.collect(selected)
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {} if "_cluster" in rows.columns else {"_cluster": pl.String}
    rows = rows.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
    return engine.spelled(rows.with_columns(_code=_codes(rows)).drop("_cluster"))


def _codes(rows: pl.DataFrame) -> pl.Series:
    """Number the clusters, in the order of their names; items that stand alone below 0."""
    alone = -engine.ranks(rows["_item"])
    if not rows["_cluster"].count():
        return alone
    named = engine.ranks(rows["_cluster"])
    return pl.select(pl.when(named.is_null()).then(alone).otherwise(named)).to_series()


def parts(rows: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Give the names and the rows of each group, in order of the names; null last.

    One group is taken out at a time: sorting would double what many rows hold.
    """
    names = rows.select(by).unique().sort(by, nulls_last=True)
    if names.height > _GROUPS:
        yield from rows.sort(by, nulls_last=True).group_by(by, maintain_order=True)
        return
    numbered = names.with_row_index("_group")
    place = rows.select(by).join(
        numbered, on=list(by), how="left", nulls_equal=True, maintain_order="left"
    )["_group"]  # fmt: skip
    for number, key in enumerate(names.iter_rows()):
        yield key, rows.filter(place == number)
