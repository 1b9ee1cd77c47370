"""Lines over an ordered axis, one with its band per group, and a dashed bound."""

from typing import Any

import altair as alt

from workbench import analysis
from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

MOST = 4000  # points of one panel
SPREAD = "bands"


def defaults(result: Result) -> dict[str, Any]:
    """Use the axes of the analysis."""
    return {}


def draw(panel: Panel) -> Any:
    """Draw the line, and the dashed bound to compare."""
    spec = analysis.get(panel.result.name).chart
    y = panel.result[spec.y]
    bound = next(iter(spec.also), None)
    if bound is None or panel.axes["y"] != spec.y:
        shared = curves.axes(panel, panel.axes["x"], panel.axes["y"])
        parts = curves.layers(panel, panel.axes["x"], panel.axes["y"], shared)
        return alt.layer(*parts, width=panel.width, height=curves.HEIGHT)
    against = panel.result[bound]
    title = f"{panel.heading(spec.y)} (line), {against.title or y.name} (dashed)"
    return curves.against(panel, spec.y, bound, title)
