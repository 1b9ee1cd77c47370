"""Time to result: the profile of every group, a line with its band."""

from typing import Any

import altair as alt

from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

SPREAD = "bands"


def defaults(result: Result) -> dict[str, Any]:
    """The share of workloads over the ratio of times."""
    return {"x": "ratio", "y": "share"}


def draw(panel: Panel) -> Any:
    """Draw the profiles, which are a further table of the result."""
    profile_panel = Panel(panel.result, panel.more["profile"], panel.more, panel.axes)
    x = profile_panel.axes["x"]
    y = profile_panel.axes["y"]
    parts = curves.layers(profile_panel, x, y, curves.axes(profile_panel, x, y))
    return alt.layer(*parts, width=profile_panel.width, height=curves.HEIGHT)
