"""Thinking length: bars from the 10th to the 90th percentile with the median, right and wrong."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, empty_charts, theme
from workbench.charts.drawing import Panel, finite

_RANGE = ("p10_tokens", "p90_tokens")
_DOTS = {
    "p50_tokens": ("median", theme.INK, "stroke"),
    "right_tokens": ("mean when right", theme.BLUE, "circle"),
    "wrong_tokens": ("mean when wrong", theme.ORANGE, "diamond"),
}


def defaults(result: Result) -> dict[str, Any]:
    """The distribution; another column of the result by `x`."""
    return {"x": "reasoning_tokens"}


def draw(panel: Panel) -> Any:
    """Draw a bar per group with its median, that one's interval, and both means on it."""
    column = panel.axes["x"]
    order = panel.rows["group"].to_list()
    size = {"width": panel.width, "height": dots.ROW * max(len(order), 1)}
    if column != "reasoning_tokens":
        data = dots.frame(panel, column)
        at = dots.across(dots.scale(panel, column), panel.axis(column, tickCount=6))
        marks = dots.layers(data, at, dots.rows(order))
        return alt.layer(*marks, *empty_charts.layers(data, "value", dots.rows(order)), **size)
    values = finite(panel.rows, *_RANGE, *_DOTS, "p50_tokens_high")
    domain = [0, max(values, default=1.0) * 1.05 or 1.0]
    axis = alt.Axis(title="Thinking tokens, bar from p10 to p90", tickCount=6, format="~s")
    at = dots.across(alt.Scale(domain=domain, clamp=True), axis)
    y = dots.rows(order)
    marks = _marks(panel.rows, at, y) + empty_charts.layers(panel.rows, "reasoning_tokens", y)
    return alt.layer(*marks, **size)


def _marks(rows: pl.DataFrame, at: dots.At, y: alt.Y) -> list[Any]:
    names = [name for name, _, _ in _DOTS.values()]
    colours = [colour for _, colour, _ in _DOTS.values()]
    colour = alt.Color(
        "what:N", scale=alt.Scale(domain=names, range=colours), legend=theme.legend()
    )
    span = rows.select("group", low="p10_tokens", high="p90_tokens")
    ends = rows.select("group", low="p50_tokens_low", high="p50_tokens_high")
    bar, line = (
        alt.Chart(data).transform_filter("isValid(datum.low) && isValid(datum.high)")
        for data in (span, ends)
    )
    marks = [
        bar.mark_bar(height=9, color=theme.FAINT).encode(y=y, x=at("low:Q"), x2="high:Q"),
        line.mark_rule(strokeWidth=2.5, color=theme.INK).encode(y=y, x=at("low:Q"), x2="high:Q"),
    ]
    for column, (name, _, shape) in _DOTS.items():
        data = rows.select("group", value=column, what=pl.lit(name))
        dot = alt.Chart(data).transform_filter("isValid(datum.value)")
        mark = (
            dot.mark_tick(thickness=3, height=16)
            if shape == "stroke"
            else dot.mark_point(filled=True, size=80, opacity=1, shape=shape)
        )
        tooltip = [alt.Tooltip("group:N"), alt.Tooltip("value:Q", title=name, format=",.0f")]
        marks.append(mark.encode(y=y, x=at("value:Q"), color=colour, tooltip=tooltip))
    return marks
