"""Coverage: one of k right as a line with its band, all of k right as a dashed one."""

from typing import Any

import altair as alt

from workbench.analysis.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

MOST = 2000  # points of one panel
SPREAD = "bands"
_ONE, _ALL = "pass_at_k", "pass_all_k"


def defaults(result: Result) -> dict[str, Any]:
    """Both rates over the number of attempts."""
    return {"x": "k", "y": _ONE}


def draw(panel: Panel) -> Any:
    """Draw the envelope per group; another column alone, or over the cost, where that is asked."""
    x, y = panel.axes["x"], panel.axes["y"]
    both = y == _ONE
    shared = curves.axes(panel, x, y, *([_ALL] if both else []))
    if both:
        shared.y_axis.title = "Pass@k (line) and pass^k (dashed)"
    parts = curves.layers(panel, x, y, shared)
    if both:
        parts += curves.layers(panel, x, _ALL, shared, dashed=True, band=False)
    return alt.layer(*parts).properties(width=panel.width, height=curves.HEIGHT)
