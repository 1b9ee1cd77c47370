"""Bands: dot plots of several figures of the same groups, stacked, each on its own scale."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from workbench.charts import dots, empty_charts, theme
from workbench.charts.drawing import Panel, finite


def draw(panel: Panel, columns: Sequence[str], otherwise: str) -> Any:
    """Draw a band per column that is known of some group; of `otherwise` if none is."""
    known = [c for c in columns if panel.rows[c].count()] or [otherwise]
    stack = [band(panel, c) for c in known]
    return stack[0] if len(stack) == 1 else alt.vconcat(*stack, spacing=14)


def band(panel: Panel, column: str) -> Any:
    """Draw one figure: dots with intervals, ∞ at the edge, a text where it is unknown."""
    data = dots.frame(panel, column)
    at = dots.across(_scale(panel, column), panel.axis(column, tickCount=5))
    y = dots.rows(data["group"].to_list())
    bounded = data.with_columns(
        pl.when(pl.col(c).cast(pl.Float64).is_finite()).then(pl.col(c)).alias(c)
        for c in ("value", "low", "high")
    )
    marks = dots.layers(bounded, at, y) + empty_charts.layers(data, "value", y)
    endless = data.filter(pl.col("value").cast(pl.Float64).is_infinite()).select("group")
    if endless.height:
        text = alt.Chart(endless).mark_text(align="left", dx=5, fontSize=16, fontWeight="bold")
        edge = alt.value(panel.width)
        marks.append(text.encode(x=edge, y=y, text=alt.value("∞"), color=alt.value(theme.BLUE)))
    height = dots.ROW * data.height
    return alt.layer(*marks, width=panel.width, height=height)


def _scale(panel: Panel, column: str) -> alt.Scale:
    """Return the scale of dots; 0 to 1 where no value is finite."""
    if not finite(panel.rows, column):
        return alt.Scale(domain=[0, 1])
    return dots.scale(panel, column)
