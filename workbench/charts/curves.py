"""Curves: one line per group over an ordered axis, with a band for the interval."""

import dataclasses
from typing import Any

import altair as alt
import polars as pl

from workbench.charts import theme
from workbench.charts.drawing import Panel, finite

HEIGHT = 280
# The rest of Okabe & Ito's palette follows the theme's; groups beyond it are drawn in grey.


@dataclasses.dataclass(frozen=True)
class Axes:
    """Scales, axes and colours shared by all lines of a panel."""

    x: alt.X
    y_scale: alt.Scale
    y_axis: alt.Axis
    colour: alt.Color

    def y(self, field: str) -> alt.Y:
        """A field on the y axis."""
        return alt.Y(field, scale=self.y_scale, axis=self.y_axis)


def axes(panel: Panel, x: str, y: str, *more: str) -> Axes:
    """Make the axes for y over x, wide enough for further columns on the same y axis."""
    xs = finite(panel.rows, x) or [1.0]
    span = [min(xs), max(xs)] if min(xs) < max(xs) else [0.0, 2 * max(xs) or 1.0]
    log = panel.log(x) and span[0] > 0
    across = alt.Scale(type="log" if log else "linear", domain=span, nice=False, clamp=True)
    form = {} if panel.percent(x) else {"format": "~g"}
    step = {"tickMinStep": 1} if panel.result[x].type == "int" and not log else {}
    columns = [f"{c}{end}" for c in (y, *more) for end in ("", "_low", "_high")]
    ys = finite(panel.rows, *columns) or [0.0, 1.0]
    top = max(ys) + 0.05 * (max(ys) - min(0.0, *ys)) or 1.0
    domain = [min(0.0, *ys), min(top, 1.0) if panel.percent(y) else top]
    return Axes(
        alt.X("x:Q", scale=across, axis=panel.axis(x, tickCount=7, **form, **step)),
        alt.Scale(domain=domain, nice=False, clamp=True),
        panel.axis(y, tickCount=6),
        colour(panel, x, y),
    )


def colour(panel: Panel, x: str, y: str) -> alt.Color:
    """Give the first groups a colour and a legend, those with a curve before those with a point."""
    is_drawn = pl.col(x).is_not_null() & pl.col(y).is_not_null()
    points = panel.rows.group_by("group", maintain_order=True).agg(n=is_drawn.sum().clip(0, 2))
    points = points.sort("n", descending=True, maintain_order=True)  # curves before single points
    order = points["group"].to_list()
    shown = (points.filter(pl.col("n") > 0)["group"].to_list() or order)[: len(theme.SERIES)]
    grey = [theme.FAINT] * (len(order) - len(shown))
    legend = theme.legend()
    legend["values"] = shown
    widest = max((len(name) for name in shown), default=0)
    legend["columns"] = max(1, panel.width // (7 * widest + 24))
    return alt.Color(
        "group:N",
        scale=alt.Scale(domain=order, range=[*theme.SERIES[: len(shown)], *grey]),
        legend=legend,
    )


def layers(
    panel: Panel, x: str, y: str, shared: Axes, *, dashed: bool = False, band: bool = True
) -> list[Any]:
    """Make the lines of one column, with bands for intervals; unknown values are gaps."""
    ends = [
        (
            pl.col(f"{y}_{e}") if f"{y}_{e}" in panel.rows.columns else pl.lit(None, pl.Float64)
        ).alias(e)
        for e in ("low", "high")
    ]
    data = panel.rows.select(
        "group", pl.col(x).alias("x"), pl.col(y).alias("value"), *ends
    ).drop_nulls(["x", "value"])
    dash = [5, 3] if dashed else [1, 0]
    base = alt.Chart(data).encode(x=shared.x, color=shared.colour)
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("x:Q", title=panel.heading(x), format=".4g"),
        *[
            alt.Tooltip(f"{c}:Q", title=t, format=".4g")
            for c, t in (("value", panel.heading(y)), ("low", "low"), ("high", "high"))
        ],
    ]
    marks = [
        base.mark_line(strokeWidth=2, strokeDash=dash).encode(y=shared.y("value:Q")),
        base.mark_point(filled=True, size=40, opacity=1).encode(
            y=shared.y("value:Q"), tooltip=tooltip
        ),
    ]
    if band:
        area = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        # A single point has no area: its interval is a line.
        form = (
            area.mark_rule(strokeWidth=2.5, opacity=0.45)
            if data["x"].n_unique() < 2
            else area.mark_area(opacity=0.13)
        )
        marks.insert(0, form.encode(y=shared.y("low:Q"), y2="high:Q"))
    return marks


def against(panel: Panel, first: str, bound: str, title: str) -> Any:
    """Draw a column as lines with bands and a second, dashed one to compare.

    If `y` names another column than the first, only that one is drawn.
    """
    x = panel.axes["x"]
    y = panel.axes["y"]
    both = y == first
    shared = axes(panel, x, y, *([bound] if both else []))
    if both:
        shared.y_axis.title = title
    parts = layers(panel, x, y, shared)
    if both:
        parts += layers(panel, x, bound, shared, dashed=True, band=False)
    return alt.layer(*parts, width=panel.width, height=HEIGHT)
