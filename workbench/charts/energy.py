"""Energy: joules per trace, per token and per right answer, stacked."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel

_FIGURES = ("energy_j", "energy_per_token", "energy_per_pass_j", "carbon_per_pass_g")


def defaults(result: Result) -> dict[str, Any]:
    """Every figure that is known; another column of the result by `x`."""
    return {"x": "energy_j"}


def draw(panel: Panel) -> Any:
    """Draw each figure on its own scale, the groups in the order of the table."""
    column = panel.axes["x"]
    return bands.draw(panel, _FIGURES if column == "energy_j" else (column,), column)
