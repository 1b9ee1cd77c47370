"""Calibration: observed rates over confidence, a line per group, and the diagonal."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import curves, dots, theme
from workbench.charts.drawing import Panel, finite

SPREAD = "bands"
_SAID = "mean_signal"
_TRUE = "pass_rate"


def defaults(result: Result) -> dict[str, Any]:
    """The pass rate over the mean confidence of each bin."""
    return {"x": _SAID, "y": _TRUE}


def draw(panel: Panel) -> Any:
    """Draw the reliability; any other column as a dot per group with its interval."""
    column = panel.axes["x"]
    if column != _SAID:
        at = dots.across(dots.scale(panel, column), panel.axis(column, tickCount=6))
        order = panel.rows["group"].to_list()
        parts = dots.layers(dots.frame(panel, column), at, dots.rows(order))
        return alt.layer(*parts, width=panel.width, height=dots.ROW * len(order))
    # A group without bins keeps its name in the legend.
    bins = panel.rows.select("group").join(panel.more["bins"], on="group", how="left")
    bins_panel = Panel(panel.result, bins, panel.more, {**panel.axes, "log_x": False})
    shared = curves.axes(bins_panel, _SAID, _TRUE)
    parts = [*_diagonal(bins_panel, shared), *curves.layers(bins_panel, _SAID, _TRUE, shared)]
    return alt.layer(*parts, width=panel.width, height=curves.HEIGHT)


def _diagonal(panel: Panel, shared: curves.Axes) -> list[Any]:
    """Make the diagonal, where confidence and rate are equal, as far as both axes reach."""
    values = finite(panel.rows, _SAID)
    top = finite(panel.rows, _TRUE, f"{_TRUE}_high")
    if not values or min(values) < 0 or max(values) > 1:
        return []
    ends = [min(values), min(max(values), max(top))]
    line = alt.Chart(pl.DataFrame({"x": ends, "y": ends})).mark_line(
        color=theme.MUTED, strokeDash=[3, 3], strokeWidth=1.2
    )
    return [line.encode(x=shared.x, y=shared.y("y:Q"))]
