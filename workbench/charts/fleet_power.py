"""Fleet power: megawatts for a day's queries, a dot with its interval per group."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import bands
from workbench.charts.drawing import Panel


def defaults(result: Result) -> dict[str, Any]:
    """The power; another column of the result by `x`."""
    return {"x": "power_mw"}


def draw(panel: Panel) -> Any:
    """Draw one figure, the groups in the order of the table."""
    return bands.band(panel, panel.axes["x"])
