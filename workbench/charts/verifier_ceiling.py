"""Verifier ceiling: rate of accepted right answers as a line, the oracle's dashed."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

MOST = 2000  # points of one panel
SPREAD = "bands"


def defaults(result: Result) -> dict[str, Any]:
    """The rate at which an accepted answer is right, over the number of attempts."""
    return {"x": "k", "y": "accepted_rate"}


def draw(panel: Panel) -> Any:
    """Draw both rates per group; another column alone, the value for one, where that is asked."""
    return curves.against(
        panel,
        "accepted_rate",
        "oracle_rate",
        "First accepted right (line), pass@k by an oracle (dashed)",
    )
