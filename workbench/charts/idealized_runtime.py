"""Idealized runtime: seconds from token counts beside measured ones, and the slowdown."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel

_FIGURES = ("runtime_s", "measured_s", "slowdown", "runtime_cost_usd", "runtime_energy_j")


def defaults(result: Result) -> dict[str, Any]:
    """Every figure that is known; another column of the result by `x`."""
    return {"x": "runtime_s"}


def draw(panel: Panel) -> Any:
    """Draw each figure on its own scale, the groups in the order of the table."""
    column = panel.axes["x"]
    return bands.draw(panel, _FIGURES if column == "runtime_s" else (column,), column)
