"""Energy coverage: notes on groups whose energy was never measured."""

from collections.abc import Sequence

import polars as pl

from workbench.analysis.core.result import label

_NAMED = 5
NEXT = (
    "collect on a machine with a meter (workbench doctor names those it finds), or import energy_j"
)
ELSEWHERE = "what was estimated of APIs stands in energy-by-phase"


def notes(table: pl.DataFrame, by: Sequence[str], metered: str = "n_metered") -> tuple[str, ...]:
    """Write a note that names the rows without energy.

    Args:
        table: one row per group.
        by: the columns that name the group.
        metered: the column that counts what was read.

    >>> rows = pl.DataFrame({"model": ["a", "b"], "n_metered": [0, 2]})
    >>> notes(rows, ["model"])[0].partition(":")[0]
    'no energy was measured of a'
    >>> notes(rows.filter(pl.col("n_metered") > 0), ["model"])
    ()
    """
    silent = table.filter(pl.col(metered) == 0)
    if silent.is_empty():
        return ()
    named = [label(row) for row in silent.head(_NAMED).select(*by).iter_rows()]
    more = silent.height - len(named)
    names = "; ".join(named) + (f" and {more:,} more" if more else "")
    missing = "these traces" if silent.height == table.height else names
    return (f"no energy was measured of {missing}: {NEXT}; {ELSEWHERE}",)
