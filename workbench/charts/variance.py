"""Variance between items and between trials, a bar per group."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel, finite

SPREAD = ""  # no intervals are drawn
_PARTS = {"between": "between items", "within": "between trials"}


def defaults(result: Result) -> dict[str, Any]:
    """Both parts side by side."""
    return {"x": "within"}


def draw(panel: Panel) -> Any:
    """Draw the parts end to end; any other column as a dot with its interval."""
    column = panel.axes["x"]
    order = panel.rows["group"].to_list()
    height = dots.ROW * len(order)
    if column != "within":
        at = dots.across(dots.scale(panel, column), panel.axis(column, tickCount=6))
        parts = dots.layers(dots.frame(panel, column), at, dots.rows(order))
        return alt.layer(*parts, width=panel.width, height=height)
    data = pl.concat(
        [
            panel.rows.select(
                "group", part=pl.lit(_PARTS["between"]), start=pl.lit(0.0), end="between"
            ),
            panel.rows.select(
                "group",
                part=pl.lit(_PARTS["within"]),
                start="between",
                end=pl.col("between") + pl.col("within"),
            ),
        ]
    )
    top = max(finite(data, "end"), default=0.25) * 1.05 or 0.25
    at = dots.across(
        alt.Scale(domain=[0, top], nice=False),
        alt.Axis(title="Variance of an outcome", tickCount=6),
    )
    return _bars(data, at, order).properties(width=panel.width, height=height)


def _bars(data: pl.DataFrame, at: dots.At, order: list[str]) -> Any:
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=list(_PARTS.values()), range=[theme.BLUE, theme.ORANGE]),
        legend=theme.legend(),
    )
    tooltip = [alt.Tooltip("group:N"), alt.Tooltip("part:N"), alt.Tooltip("end:Q", format=".4g")]
    bars = alt.Chart(data).mark_bar(size=14)
    return bars.encode(
        x=at("start:Q"), x2="end:Q", y=dots.rows(order), color=colour, tooltip=tooltip
    )
