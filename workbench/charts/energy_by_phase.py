"""Energy by phase: a dot with its interval per group, phase, device and method."""

from typing import Any

import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel, clean

MOST = 60
_PARTS = ("phase", "device", "method")


def defaults(result: Result) -> dict[str, Any]:
    """Energy per token; another column of the result by `x`."""
    return {"x": "energy_per_token"}


def draw(panel: Panel) -> Any:
    """Name each row by its group, then by phase, device and method, and draw one figure."""
    part_columns = [c for c in _PARTS if c not in panel.result.by and panel.rows[c].count()]
    names = [
        " · ".join([str(row[0]), *(clean(v) for v in row[1:] if v is not None)])
        for row in panel.rows.select("group", *part_columns).iter_rows()
    ]
    named = panel.rows.with_columns(group=pl.Series(names, dtype=pl.String))
    return bands.band(Panel(panel.result, named, panel.more, panel.axes), panel.axes["x"])
