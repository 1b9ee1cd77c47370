"""Efficiency scores: a dot plot per known score, stacked."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel

_SCORES = ("e3", "rate_per_ktok", "rate_per_dollar", "rate_per_joule", "rate_per_watt")


def defaults(result: Result) -> dict[str, Any]:
    """Every score that is known; another column of the result by `x`."""
    return {"x": "e3"}


def draw(panel: Panel) -> Any:
    """Draw each score on its own scale, the groups in the order of the table."""
    column = panel.axes["x"]
    return bands.draw(panel, _SCORES if column == "e3" else (column,), "rate")
