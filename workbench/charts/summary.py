"""Summary: quality of each group with its interval; another column by `x`."""

from typing import Any

import altair as alt

from workbench.analysis.core.result import Result
from workbench.charts import dots
from workbench.charts.drawing import Panel


def defaults(result: Result) -> dict[str, Any]:
    """The pass rate, or the score or the metric where that was averaged; else as declared."""
    named = (str(result.options.get("outcome")), "score", "pass_rate")
    columns = [column for column in named if column in result.frame.columns]
    return {"x": columns[0]} if columns else {}


def draw(panel: Panel) -> Any:
    """Draw a dot and an interval per group, in the order of the table."""
    column = panel.axes["x"]
    data = dots.frame(panel, column)
    at = dots.across(dots.scale(panel, column), panel.axis(column, tickCount=6))
    y = dots.rows(data["group"].to_list())
    height = dots.ROW * data.height
    return alt.layer(*dots.layers(data, at, y), width=panel.width, height=height)
