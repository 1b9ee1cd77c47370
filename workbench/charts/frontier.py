"""Pareto frontier: gain against cost, with steps between the non-dominated points."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import theme
from workbench.charts.drawing import Panel, finite
from workbench.charts.labels import place

HEIGHT = 300
MOST = 1000  # points of one panel
_ON = "on the frontier"
_OFF = "dominated"
Span = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Axes:
    """Both axes of a panel: what is drawn on them, and where a value lies in pixels."""

    x: Callable[[str], alt.X]
    y: Callable[[str], alt.Y]
    x_span: Span
    y_span: Span
    log: bool
    width: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the top left."""
        across = (
            _share(math.log10(x), *map(math.log10, self.x_span))
            if self.log
            else _share(x, *self.x_span)
        )
        return self.width * across, HEIGHT * (1 - _share(y, *self.y_span))


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def defaults(result: Result) -> dict[str, Any]:
    """The axes that were analysed."""
    return {"x": result.options["x"], "y": result.options["y"]}


def draw(panel: Panel) -> Any:
    """Draw points with intervals, the steps of the frontier and, on a linear axis, the hull."""
    names = {"x": panel.axes["x"], "y": panel.axes["y"]}
    columns = {
        f"{axis}{end}": f"{name}{end}"
        for axis, name in names.items()
        for end in ("", "_low", "_high")
    }
    point_columns = ("group", "on_frontier", "on_hull", "p_on_frontier", "dominated_by")
    data = panel.rows.select(
        *point_columns,
        *[
            (pl.col(c) if c in panel.rows.columns else pl.lit(None, pl.Float64)).alias(axis)
            for axis, c in columns.items()
        ],
        state=pl.when("on_frontier").then(pl.lit(_ON)).otherwise(pl.lit(_OFF)),
    ).drop_nulls(["x", "y"])
    axes = _axes(panel, data, **names)
    if axes.log:
        data = data.filter(pl.col("x") > 0)
    # Dominated points are drawn first, so that they do not cover the frontier.
    data = data.sort("on_frontier", maintain_order=True)
    parts = [*_lines(panel, data, axes), *_points(data, axes), *_names(data, axes)]
    return alt.layer(*parts, width=panel.width, height=HEIGHT)


def _axes(panel: Panel, data: pl.DataFrame, x: str, y: str) -> _Axes:
    log_x = panel.result.options["log_x"] and panel.axes.get("log_x") is not False
    log = panel.log(x) or bool(log_x and min(finite(data, "x"), default=0.0) > 0)
    xs = _span(data, "x", log=log)
    ys = _span(data, "y", share=panel.percent(y))
    across = alt.Scale(type="log" if log else "linear", domain=list(xs), nice=False, clamp=True)
    up = alt.Scale(domain=list(ys), nice=False, clamp=True)
    form = {} if panel.percent(x) else {"format": "~g"}
    return _Axes(
        lambda field: alt.X(field, scale=across, axis=panel.axis(x, tickCount=5, **form)),
        lambda field: alt.Y(field, scale=up, axis=panel.axis(y, tickCount=6)),
        xs,
        ys,
        log,
        panel.width,
    )


def _span(data: pl.DataFrame, axis: str, *, log: bool = False, share: bool = False) -> Span:
    values = finite(data, axis, f"{axis}_low", f"{axis}_high") or [0.0, 1.0]
    if log:
        positive = [v for v in values if v > 0]
        return min(positive) / 1.35, max(positive) * 1.35
    low = min(values)
    high = max(values)
    pad = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    bottom = max(0.0, low - pad) if low >= 0 else low - pad
    return bottom, min(1.09, high + 1.5 * pad) if share else high + pad


def _lines(panel: Panel, data: pl.DataFrame, axes: _Axes) -> list[Any]:
    """Steps along the frontier; the hull, which is straight only on a linear axis.

    A frontier of three axes is no line in two of them.
    """
    if panel.result.options["z"]:
        return []
    step: Any = "step-before" if panel.result.options["maximise_x"] else "step-after"
    base = alt.Chart(data.filter("on_frontier"))
    order = alt.Order("x:Q")
    steps = base.mark_line(interpolate=step, color=theme.BLUE, strokeWidth=1.5, opacity=0.8)
    lines = [steps.encode(x=axes.x("x:Q"), y=axes.y("y:Q"), order=order)]
    if not axes.log and data["on_hull"].sum() > 1:
        hull = alt.Chart(data.filter("on_hull")).mark_line(
            color=theme.ORANGE, strokeDash=[5, 4], strokeWidth=1.2
        )
        lines.append(hull.encode(x=axes.x("x:Q"), y=axes.y("y:Q"), order=order))
    return lines


def _points(data: pl.DataFrame, axes: _Axes) -> list[Any]:
    base = alt.Chart(data)
    colour = alt.Color(
        "state:N",
        scale=alt.Scale(domain=[_ON, _OFF], range=[theme.BLUE, theme.MUTED]),
        legend=theme.legend(),
    )
    shape = alt.Shape("state:N", scale=alt.Scale(domain=[_ON, _OFF], range=["diamond", "circle"]))
    tooltip = [
        alt.Tooltip("group:N"),
        *[alt.Tooltip(f"{axis}:Q", format=".4g") for axis in ("x", "y")],
        alt.Tooltip("p_on_frontier:Q", title="probability", format=".2f"),
        alt.Tooltip("dominated_by:N", title="dominated by"),
    ]
    wide = base.transform_filter("isValid(datum.x_low) && isValid(datum.x_high)")
    tall = base.transform_filter("isValid(datum.y_low) && isValid(datum.y_high)")
    x = axes.x("x:Q")
    y = axes.y("y:Q")
    return [
        wide.mark_rule(strokeWidth=1.2, opacity=0.4).encode(
            x=axes.x("x_low:Q"), x2="x_high:Q", y=y, color=colour
        ),
        tall.mark_rule(strokeWidth=1.2, opacity=0.4).encode(
            y=axes.y("y_low:Q"), y2="y_high:Q", x=x, color=colour
        ),
        base.mark_point(filled=True, size=90 if data.height < 25 else 45, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
    ]


def _names(data: pl.DataFrame, axes: _Axes) -> list[Any]:
    """Make labels beside their points, where there is room; those of the frontier first."""
    spots = [
        (row["group"], *axes.at(row["x"], row["y"]), row["on_frontier"])
        for row in data.iter_rows(named=True)
    ]
    placed = place(spots, axes.width, HEIGHT, _strokes([s[1:3] for s in spots if s[3]]))
    marks = []
    for spot in sorted(set(placed.values())):
        names = [name for name, where in placed.items() if where == spot]
        chosen = alt.Chart(data.filter(pl.col("group").is_in(names)))
        text = chosen.mark_text(
            align=spot.align, dx=spot.dx, dy=spot.dy, fontSize=11, baseline="middle"
        )
        halo = chosen.mark_text(
            align=spot.align,
            dx=spot.dx,
            dy=spot.dy,
            fontSize=11,
            baseline="middle",
            stroke="white",
            strokeWidth=3,
            strokeJoin="round",
        )
        marks.append(halo.encode(x=axes.x("x:Q"), y=axes.y("y:Q"), text="group:N"))
        colour = alt.condition("datum.on_frontier", alt.value(theme.INK), alt.value(theme.MUTED))
        marks.append(text.encode(x=axes.x("x:Q"), y=axes.y("y:Q"), text="group:N", color=colour))
    return marks


def _strokes(points: list[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """The steps between points of the frontier as thin boxes."""
    boxes = []
    along = sorted(points)
    for (x0, y0), (x1, y1) in itertools.pairwise(along):
        boxes.append((x0, y0 - 1, x1, y0 + 1))
        boxes.append((x1 - 1, min(y0, y1), x1 + 1, max(y0, y1)))
    return boxes
