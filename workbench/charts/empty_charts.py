"""Empty charts: text for groups whose figure is unknown, so that they stay on the chart."""

from typing import Any

import altair as alt
import polars as pl

from workbench.charts import theme


def layers(rows: pl.DataFrame, column: str, y: alt.Y, text: str = "— not known") -> list[Any]:
    """Write a text at the left edge of every group whose column is unknown."""
    blank = rows.filter(pl.col(column).is_null()).select("group", text=pl.lit(text))
    if blank.is_empty():
        return []
    mark = alt.Chart(blank).mark_text(align="left", dx=4, color=theme.MUTED, fontSize=11)
    return [mark.encode(x=alt.value(0), y=y, text="text:N")]
