"""Charts of results: a frame in, an `alt.Chart` out, without aggregation; only `save` does I/O.

The chart of an analysis is a module of this package, named by `ChartSpec.kind`.
"""

from typing import TYPE_CHECKING, Any

from workbench.charts.saving import SUFFIXES, save, svg

if TYPE_CHECKING:
    from workbench.analysis.core.result import Result

__all__ = ["SUFFIXES", "chart", "save", "svg"]


def chart(result: "Result", **axes: Any) -> Any:
    """Draw a result with the chart of its analysis; `axes` override `x`, `y`, `log_x`, `width`.

    An empty result gives a chart with the text "no rows". Notebooks show charts offline.

    Raises:
        AnalysisError: the chart has no such axis, or the result no such column.
    """
    from workbench.charts import drawing, notebook

    notebook.draw_offline()
    return drawing.draw(result, axes)
