"""Coverage: pass@k as a line with its band, pass^k as a dashed one."""

from typing import Any

from workbench.analysis.core.result import Result
from workbench.charts import curves
from workbench.charts.drawing import Panel

MOST = 2000  # points of one panel
SPREAD = "bands"


def defaults(result: Result) -> dict[str, Any]:
    """Both rates over the number of attempts."""
    return {"x": "k", "y": "pass_at_k"}


def draw(panel: Panel) -> Any:
    """Draw the envelope per group; another column alone, or over the cost, where that is asked."""
    return curves.against(panel, "pass_at_k", "pass_all_k", "Pass@k (line) and pass^k (dashed)")
