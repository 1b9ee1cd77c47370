"""Results drawn: a frame in, an `alt.Chart` out; no I/O but `save`, and no aggregation.

A chart of an analysis is a module here, named by the `kind` of the analysis' chart.
"""

from typing import TYPE_CHECKING, Any

from workbench.charts.saving import SUFFIXES, save, svg

if TYPE_CHECKING:
    from workbench.analysis.core.result import Result

__all__ = ["SUFFIXES", "chart", "save", "svg"]


def chart(result: "Result", **axes: Any) -> Any:
    """Draw a result as its analysis says; `axes` change that: `x`, `y`, `log_x`, `width`.

    An empty result gives a chart that says "no rows". A notebook shows it without the network.

    Raises:
        AnalysisError: an axis that the chart does not have, or a column that the result has not.
    """
    from workbench.charts import drawing, notebook

    notebook.draw_offline()
    return drawing.draw(result, axes)
