"""Ranking: a dot per group for its strength, with its interval, the strongest on top."""

from typing import Any

import altair as alt

from workbench.analysis.core.result import Result
from workbench.charts import dots
from workbench.charts.drawing import Panel, finite


def defaults(result: Result) -> dict[str, Any]:
    """The strengths."""
    return {"x": "strength"}


def draw(panel: Panel) -> Any:
    """Draw any column as a dot with its interval; strengths around 0."""
    column = panel.axes["x"]
    data = dots.frame(panel, column)
    scale = dots.scale(panel, column)
    if column in {"strength", "elo"}:
        values = finite(panel.rows, column, f"{column}_low", f"{column}_high")
        reach = max([abs(v) for v in values], default=1.0) * 1.08 or 1.0
        scale = alt.Scale(domain=[-reach, reach], nice=False, clamp=True)
    at = dots.across(scale, panel.axis(column, tickCount=6))
    y = dots.rows(data["group"].to_list())
    height = dots.ROW * data.height
    return alt.layer(*dots.layers(data, at, y), width=panel.width, height=height)
