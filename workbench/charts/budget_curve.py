"""Budget curve: accuracy against spending, a line per group with its levels named."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import curves, theme
from workbench.charts.drawing import Panel, finite

HEIGHT = 300
MOST = 200  # rows are group × level


def defaults(result: Result) -> dict[str, Any]:
    """Tokens spent; places of the levels where those are unknown."""
    known = finite(result.frame, "output_tokens")
    return {"x": "output_tokens" if known else "place", "y": "rate"}


def draw(panel: Panel) -> Any:
    """Draw lines with intervals; what is known of one level alone is a point."""
    x = panel.axes["x"]
    y = panel.axes["y"]
    data = (
        panel.rows.select(
            "group",
            "place",
            "level",
            x=pl.col(x),
            y=pl.col(y),
            **{end: _end(panel, y, end) for end in ("low", "high")},
        )
        .drop_nulls(["x", "y"])
        .filter(pl.col("y").is_finite())
    )
    across, up = _scales(panel, data, x, y)
    marks = _marks(data, across, up, curves.colour(panel, x, y))
    return alt.layer(*marks, width=panel.width, height=HEIGHT)


def _end(panel: Panel, column: str, end: str) -> pl.Expr:
    name = f"{column}_{end}"
    if name not in panel.rows.columns:
        return pl.lit(None, pl.Float64)
    return pl.when(pl.col(name).is_finite()).then(pl.col(name))


def _scales(panel: Panel, data: pl.DataFrame, x: str, y: str) -> tuple[Any, Any]:
    log = panel.log(x)
    xs = finite(data, "x")
    span = [min(xs, default=1.0), max(xs, default=1.0)]
    pad = 0.06 * (span[1] - span[0]) or 0.5 * abs(span[0]) or 1.0
    domain = [span[0] / 1.2, span[1] * 1.2] if log else [max(0.0, span[0] - pad), span[1] + pad]
    ticks: dict[str, Any] = {"tickCount": 5} if x != "place" else {"values": sorted(set(xs))}
    across = alt.X(
        "x:Q",
        scale=alt.Scale(type="log" if log else "linear", domain=domain, nice=False),
        axis=panel.axis(x, format="~s" if x != "place" else "d", **ticks),
    )
    ys = finite(data, "y", "low", "high") or [0.0, 1.0]
    top = max(ys) + 0.08 * (max(ys) - min(ys) or abs(max(ys)) or 1.0)
    scale = alt.Scale(
        domain=[min(0.0, *ys), min(1.05, top) if panel.percent(y) else top], nice=False
    )
    form = {} if panel.percent(y) else {"format": "~g"}
    return across, (scale, panel.axis(y, tickCount=6, **form))


def _marks(data: pl.DataFrame, x: Any, up: Any, colour: Any) -> list[Any]:
    scale, axis = up

    def y(field: str) -> alt.Y:
        return alt.Y(field, scale=scale, axis=axis)

    base = alt.Chart(data)
    spread = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("level:N"),
        *[alt.Tooltip(f"{c}:Q", format=".4g") for c in ("x", "y", "low", "high")],
    ]
    return [
        spread.mark_rule(strokeWidth=2, opacity=0.35).encode(
            x=x, y=y("low:Q"), y2="high:Q", color=colour
        ),
        base.mark_line(strokeWidth=1.6, opacity=0.8).encode(
            x=x, y=y("y:Q"), color=colour, order=alt.Order("place:Q")
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, y=y("y:Q"), color=colour, tooltip=tooltip
        ),
        base.transform_filter("isValid(datum.level)")
        .mark_text(dy=-11, dx=4, align="left", fontSize=10, color=theme.MUTED)
        .encode(x=x, y=y("y:Q"), text="level:N"),
    ]
