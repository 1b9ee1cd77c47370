"""What an answer says where energy was never read: whose is missing, and what to do next."""

from collections.abc import Sequence

import polars as pl

from workbench.analysis.core.result import label

_NAMED = 5
NEXT = (
    "collect on a machine with a meter (workbench doctor names those it finds), or import energy_j"
)
ELSEWHERE = "what was estimated of APIs stands in energy-by-phase"


def notes(table: pl.DataFrame, by: Sequence[str], metered: str = "n_metered") -> tuple[str, ...]:
    """Say which rows have no energy.

    Args:
        table: one row per group.
        by: the columns that name the group.
        metered: the column that counts what was read.

    >>> rows = pl.DataFrame({"model": ["a", "b"], "n_metered": [0, 2]})
    >>> notes(rows, ["model"])[0].partition(":")[0], notes(rows.filter(pl.col("n_metered") > 0), ["model"])
    ('no energy was measured of a', ())
    """
    silent = table.filter(pl.col(metered) == 0)
    if silent.is_empty():
        return ()
    named = [label(row) for row in silent.head(_NAMED).select(*by).iter_rows()]
    more = silent.height - len(named)
    names = "; ".join(named) + (f" and {more:,} more" if more else "")
    whose = "these traces" if silent.height == table.height else names
    return (f"no energy was measured of {whose}: {NEXT}; {ELSEWHERE}",)
