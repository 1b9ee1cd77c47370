"""Figures per group as dots with intervals, a band per figure of the analysis."""

import dataclasses
from typing import Any

import polars as pl

from workbench import analysis
from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel, clean


def defaults(result: Result) -> dict[str, Any]:
    """Use the figures of the analysis, or the column that `x` names."""
    return {}


def draw(panel: Panel) -> Any:
    """Draw the figures that are known, the groups in the order of the table."""
    spec = analysis.get(panel.result.name).chart
    if "group" not in panel.rows.columns:  # the rows are of something else than groups
        rows = panel.rows.with_columns(group=pl.col(spec.y).map_elements(clean, pl.String))
        panel = dataclasses.replace(panel, rows=rows)
    column = panel.axes["x"]
    columns = (spec.x, *spec.also) if column == spec.x else (column,)
    return bands.draw(panel, columns, column)
