"""Law chart: the fitted curve of each family with its band, and the groups as named points."""

import math
from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import theme
from workbench.charts.drawing import Panel, clean, finite
from workbench.charts.labels import place

MOST = 400
SPREAD = "bands"
_HEIGHT = 300


def defaults(result: Result) -> dict[str, Any]:
    """The score over the resource."""
    return {}


def draw(panel: Panel) -> Any:
    """Draw the curves, their bands, and the points with their intervals and names."""
    x = panel.axes["x"]
    y = panel.axes["y"]
    points = panel.rows.with_columns(pl.col("family").map_elements(clean, pl.String))
    points = points.with_columns(at=pl.col(x), value=pl.col(y)).drop_nulls(["at", "value"])
    is_law = (x, y) == ("x", "rate") and "curve" in panel.more
    curve = (
        panel.more["curve"]
        if is_law
        else pl.DataFrame(schema={"family": pl.String, "x": pl.Float64})
    )
    curve = curve.with_columns(pl.col("family").map_elements(clean, pl.String))
    spots = [*finite(points, "at"), *finite(curve, "x")] or [0.0, 1.0]
    ends = [min(spots), max(spots)] if min(spots) < max(spots) else [0.0, 2 * max(spots) or 1.0]
    log_x = panel.axes.get("log_x")
    log = ends[0] > 0 and (bool(log_x) if log_x is not None else ends[1] > 10 * ends[0])
    heights = finite(points, "value", f"{y}_low", f"{y}_high") + finite(curve, "curve")
    tall = [min(0.0, *heights), max(heights) * 1.08 or 1.0] if heights else [0.0, 1.0]
    across = alt.X(
        "x:Q",
        scale=alt.Scale(type="log" if log else "linear", domain=ends, nice=False, clamp=True),
        axis=_axis(panel, x),
    )
    up = alt.Scale(domain=tall, nice=False, clamp=True)
    names = points["family"].unique(maintain_order=True).to_list()
    legend = theme.legend() if len(names) > 1 else None
    shown = [theme.SERIES[k] if k < len(theme.SERIES) else theme.FAINT for k in range(len(names))]
    colour = alt.Color("family:N", scale=alt.Scale(domain=names, range=shown), legend=legend)
    parts = _curves(curve, across, up, colour) if curve.height else []
    data = points.select(
        "group",
        "family",
        x="at",
        value="value",
        low=pl.col(f"{y}_low") if f"{y}_low" in points.columns else pl.lit(None, pl.Float64),
        high=pl.col(f"{y}_high") if f"{y}_high" in points.columns else pl.lit(None, pl.Float64),
    )
    base = alt.Chart(data).encode(x=across, color=colour)
    axis = panel.axis(y, tickCount=6)
    parts.append(
        base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_rule(opacity=0.45)
        .encode(y=alt.Y("low:Q", scale=up, axis=axis), y2="high:Q")
    )
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("x:Q", title=panel.heading(x), format=".4g"),
        alt.Tooltip("value:Q", title=panel.heading(y), format=".4g"),
    ]
    parts.append(
        base.mark_point(filled=True, size=60, opacity=1).encode(
            y=alt.Y("value:Q", scale=up, axis=axis), tooltip=tooltip
        )
    )
    parts += _names(data, (ends, tall, log), panel.width, across, alt.Y("value:Q", scale=up))
    return alt.layer(*parts, width=panel.width, height=_HEIGHT)


def _axis(panel: Panel, x: str) -> alt.Axis:
    resource = panel.result.options.get(x, "") if x in {"x", "x2"} else ""
    title = f"{panel.heading(x)}: {clean(resource)}" if resource else panel.heading(x)
    return alt.Axis(title=title, tickCount=6, format="~s")


def _curves(curve: pl.DataFrame, across: alt.X, up: alt.Scale, colour: alt.Color) -> list[Any]:
    base = alt.Chart(curve).encode(x=across, color=colour)
    band = base.transform_filter("isValid(datum.curve_low) && isValid(datum.curve_high)")
    return [
        band.mark_area(opacity=0.13).encode(y=alt.Y("curve_low:Q", scale=up), y2="curve_high:Q"),
        base.mark_line(strokeWidth=2).encode(y=alt.Y("curve:Q", scale=up)),
    ]


def _names(
    data: pl.DataFrame, spans: tuple[list[float], list[float], bool], width: int, x: alt.X, y: alt.Y
) -> list[Any]:
    """Name the points where there is room."""
    (low, high), (bottom, top), log = spans
    form = math.log if log else float
    spots = [
        (
            name,
            width * (form(a) - form(low)) / (form(high) - form(low)),
            _HEIGHT * (top - b) / (top - bottom),
            False,
        )
        for name, a, b in data.select("group", "x", "value").iter_rows()
    ]
    placed = place(spots, width, _HEIGHT)
    marks = []
    for spot in sorted(set(placed.values())):
        chosen = alt.Chart(
            data.filter(pl.col("group").is_in([n for n, w in placed.items() if w == spot]))
        )
        text = chosen.mark_text(
            align=spot.align,
            dx=spot.dx,
            dy=spot.dy,
            fontSize=11,
            baseline="middle",
            color=theme.MUTED,
        )
        marks.append(text.encode(x=x, y=y, text="group:N"))
    return marks
