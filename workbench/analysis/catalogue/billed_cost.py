"""Billed cost: the provider's amount, used where none can be computed from tokens and prices."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis.core.result import label
from workbench.analysis.inputs import engine

_MOST_NAMED = 5  # groups that a note names


def fill_unknown_costs(
    rows: "nw.LazyFrame[Any]", by: Sequence[str]
) -> tuple["nw.LazyFrame[Any]", str]:
    """Use the billed cost of a row where its computed cost is unknown.

    Args:
        rows: rows of a view; those without a column `billed_cost_usd` are left as they are.
        by: the columns that name a group.

    Returns:
        The rows, and a note: how many costs are billed ones, and which groups mix them with
        computed ones; "" where none is billed.
    """
    present = rows.collect_schema().names()
    if "billed_cost_usd" not in present:
        return rows, ""
    computed = nw.col("cost_usd") if "cost_usd" in present else nw.lit(None, nw.Float64)
    billed = nw.col("billed_cost_usd")
    stands_in = computed.is_null() & ~billed.is_null()
    if not engine.collect(rows.filter(stands_in).select(nw.len()))["len"][0]:
        return rows, ""
    grouped = rows.with_columns(
        _billed=nw.when(stands_in).then(nw.lit(1)).otherwise(nw.lit(0)),
        _computed=nw.when(~computed.is_null()).then(nw.lit(1)).otherwise(nw.lit(0)),
    ).group_by(*by)
    counts = engine.collect(grouped.agg(nw.col("_billed").sum(), nw.col("_computed").sum()))
    counts = counts.sort(by, nulls_last=True)
    mixed = counts.filter(pl.col("_billed") > 0, pl.col("_computed") > 0)
    names = [
        f"{label(row[:-2])} ({row[-2]:,} of {row[-2] + row[-1]:,})" for row in mixed.iter_rows()
    ]
    note = f"billed dollars stand in where none can be computed: {counts['_billed'].sum():,} costs"
    if names:
        rest = f" and {len(names) - _MOST_NAMED} more groups" if len(names) > _MOST_NAMED else ""
        note += f"; beside computed ones in {', '.join(names[:_MOST_NAMED])}{rest}"
    filled_in = nw.when(stands_in).then(billed).otherwise(computed)
    return rows.with_columns(cost_usd=filled_in), note
