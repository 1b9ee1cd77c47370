"""Curve chart: one line per group from the table `curve` or the main one, and a dashed bound."""

import dataclasses
from typing import Any

import altair as alt
import polars as pl

from workbench import analysis
from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel, clean

MOST = 4000  # rows of one panel
SPREAD = "bands"
_KEYS = ("router", "pair")  # columns that identify lines which are not groups


def defaults(result: Result) -> dict[str, Any]:
    """Use the axes of the analysis."""
    return {}


def draw(panel: Panel) -> Any:
    """Draw the declared figure with its band, or only the column that `y` names."""
    spec = analysis.get(panel.result.name).chart
    rows = panel.more.get("curve", panel.rows)
    if "group" not in rows.columns:
        key = next((pl.col(k) for k in _KEYS if k in rows.columns), pl.lit(panel.heading(spec.y)))
        rows = rows.with_columns(group=key.map_elements(clean, pl.String))
    panel = dataclasses.replace(panel, rows=rows)
    bound = next(iter(spec.also), None)
    if bound is None or panel.axes["y"] != spec.y:
        shared = curves.axes(panel, panel.axes["x"], panel.axes["y"])
        parts = curves.layers(panel, panel.axes["x"], panel.axes["y"], shared)
        return alt.layer(*parts, width=panel.width, height=curves.HEIGHT)
    against = panel.result[bound].title or bound.replace("_", " ")
    title = f"{panel.heading(spec.y)} (line), {against} (dashed)"
    return curves.against(panel, spec.y, bound, title)
