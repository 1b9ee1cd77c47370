"""Efficiency scores: a small dot plot per score that is known, side by side."""

from typing import Any

import altair as alt

from workbench.analysis.result import Result
from workbench.charts import dots
from workbench.charts.drawing import Panel, finite

_SCORES = ("e3", "rate_per_ktok", "rate_per_dollar", "rate_per_joule", "rate_per_watt")


def defaults(result: Result) -> dict[str, Any]:
    """Every score that is known; another column of the result by `x`."""
    return {"x": "e3"}


def draw(panel: Panel) -> Any:
    """Draw a stack of dot plots, each on its own scale, the groups in the order of the table."""
    column = panel.axes["x"]
    known = [c for c in _SCORES if finite(panel.rows, c)] or ["rate"]
    shown = known if column == "e3" else [column]
    bands = [_band(panel, c) for c in shown]
    return bands[0] if len(bands) == 1 else alt.vconcat(*bands, spacing=14)


def _band(panel: Panel, column: str) -> Any:
    data = dots.frame(panel, column)
    form = {} if panel.percent(column) else {"format": "~g"}
    at = dots.across(dots.scale(panel, column), panel.axis(column, tickCount=5, **form))
    y = dots.rows(data["group"].to_list())
    height = dots.ROW * data.height
    return alt.layer(*dots.layers(data, at, y)).properties(width=panel.width, height=height)
