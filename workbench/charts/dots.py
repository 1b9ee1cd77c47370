"""Dot plots: one row per group, a dot with its interval."""

from collections.abc import Callable
from typing import Any

import altair as alt
import polars as pl

from workbench.charts import theme
from workbench.charts.drawing import Panel, finite

ROW = 26
At = Callable[[str], alt.X]  # a field on the shared x axis


def frame(panel: Panel, column: str) -> pl.DataFrame:
    """Return a column with its interval as `value`, `low`, `high`, in the result's order."""
    ends = [
        pl.col(f"{column}_{end}")
        if f"{column}_{end}" in panel.rows.columns
        else pl.lit(None, pl.Float64)
        for end in ("low", "high")
    ]
    return panel.rows.select(
        "group", pl.col(column).alias("value"), ends[0].alias("low"), ends[1].alias("high")
    )


def scale(panel: Panel, column: str, *extra: float) -> alt.Scale:
    """Make a scale for dots and intervals: linear ones from 0, shares from 0 to 1."""
    values = [*finite(panel.rows, column, f"{column}_low", f"{column}_high"), *extra]
    if panel.percent(column):
        return alt.Scale(domain=[0, 1], clamp=True)
    if panel.log(column):
        positive = [v for v in values if v > 0]
        return alt.Scale(type="log", domain=[min(positive) / 1.3, max(positive) * 1.3], clamp=True)
    top = max(values, default=1.0)
    return alt.Scale(domain=[min(0.0, *values) if values else 0.0, top * 1.05 or 1.0], clamp=True)


def across(scale: alt.Scale, axis: alt.Axis) -> At:
    """Share a scale and an axis among the fields drawn on it."""
    return lambda field: alt.X(field, scale=scale, axis=axis)


def rows(order: list[str], **settings: Any) -> alt.Y:
    """Make the axis of the groups, from the top in the result's order."""
    axis = alt.Axis(title=None, domain=False, ticks=False, grid=True, **settings)
    return alt.Y("group:N", sort=order, axis=axis)


def layers(
    data: pl.DataFrame, at: At, y: alt.Y, *, colour: Any = theme.BLUE, shape: str = "circle"
) -> list[Any]:
    """Make a line for the interval and a dot for the value; unknown values are not drawn."""
    base = alt.Chart(data)
    line = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    dot = base.transform_filter("isValid(datum.value)")
    tooltip = [
        alt.Tooltip("group:N", title="group"),
        *[alt.Tooltip(f"{c}:Q", title=c, format=".4g") for c in ("value", "low", "high")],
    ]
    fill = colour if isinstance(colour, str) else theme.BLUE
    rule = line.mark_rule(strokeWidth=2.5, opacity=0.45, color=fill)
    point = dot.mark_point(filled=True, size=80, opacity=1, color=fill, shape=shape)
    encoding = {} if isinstance(colour, str) else {"color": colour}
    return [
        rule.encode(y=y, x=at("low:Q"), x2="high:Q", **encoding),
        point.encode(y=y, x=at("value:Q"), tooltip=tooltip, **encoding),
    ]
