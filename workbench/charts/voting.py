"""Voting: the majority's rate as a line with its band, the oracle's as a dashed one."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

MOST = 2000  # points of one panel
SPREAD = "bands"


def defaults(result: Result) -> dict[str, Any]:
    """The majority's rate over the number of votes."""
    return {"x": "k", "y": "vote_rate"}


def draw(panel: Panel) -> Any:
    """Draw vote and oracle per group; another column alone, or over the cost, if that is asked."""
    return curves.against(
        panel, "vote_rate", "oracle_rate", "Majority right (line), best of k by an oracle (dashed)"
    )
