"""Prefill-token equivalents (PTE): per trace and per right answer, stacked."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel

_FIGURES = ("pte", "prefill_pte", "decode_pte", "pte_per_pass")


def defaults(result: Result) -> dict[str, Any]:
    """Every figure that is known; another column of the result by `x`."""
    return {"x": "pte"}


def draw(panel: Panel) -> Any:
    """Draw each figure on its own scale, the groups in the order of the table."""
    column = panel.axes["x"]
    return bands.draw(panel, _FIGURES if column == "pte" else (column,), column)
