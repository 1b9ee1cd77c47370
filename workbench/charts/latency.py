"""Latency: median, 90th and 99th percentile of every time, a band of rows per measure."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel, finite
from workbench.schema import columns_by_name

MOST = 240  # rows are group × measure
_SHOWN = {"p50_s": theme.BLUE, "p90_s": theme.ORANGE, "p99_s": theme.PURPLE}


def defaults(result: Result) -> dict[str, Any]:
    """The three percentiles; another column of the result by `x`."""
    return {"x": "p50_s"}


def draw(panel: Panel) -> Any:
    """Draw a stack of dot plots, one per measure, each on its own scale."""
    column = panel.axes["x"]
    shown = list(_SHOWN) if column == "p50_s" else [column]
    measures = panel.rows["measure"].unique(maintain_order=True).to_list()
    bands = [_band(panel, measure, shown) for measure in measures]
    return bands[0] if len(bands) == 1 else alt.vconcat(*bands, spacing=14)


def _band(panel: Panel, measure: str, shown: list[str]) -> Any:
    """One measure: a row per group, a dot and interval per percentile."""
    rows = panel.rows.filter(pl.col("measure") == measure)
    here = Panel(panel.result, rows, panel.more, panel.axes)
    values = [v for c in shown for v in finite(rows, c, f"{c}_low", f"{c}_high")]
    positive = [v for v in values if v > 0]
    wide = bool(positive) and max(values) > 20 * min(positive)
    log_x = panel.axes.get("log_x")
    log = (wide if log_x is None else bool(log_x)) and positive and len(positive) == len(values)
    scale = (
        alt.Scale(type="log", domain=[min(positive) / 1.3, max(positive) * 1.3], clamp=True)
        if log
        else alt.Scale(domain=[0, max(values, default=1.0) * 1.05 or 1.0], clamp=True)
    )
    title = _title(measure) if len(shown) > 1 else f"{panel.heading(shown[0])}: {_title(measure)}"
    at = dots.across(scale, alt.Axis(title=title, tickCount=5))
    order = rows["group"].to_list()
    colour = alt.Color(
        "percentile:N",
        scale=alt.Scale(
            domain=[_name(panel, c) for c in shown],
            range=[_SHOWN.get(c, theme.BLUE) for c in shown],
        ),
        legend=theme.legend() if len(shown) > 1 else None,
    )
    marks: list[Any] = []
    for column in shown:
        data = dots.frame(here, column).with_columns(percentile=pl.lit(_name(panel, column)))
        marks += dots.layers(data, at, dots.rows(order), colour=colour)
    return alt.layer(*marks, width=panel.width, height=dots.ROW * max(len(order), 1))


def _name(panel: Panel, column: str) -> str:
    return panel.result[column].title or column


def _title(measure: str) -> str:
    column = columns_by_name().get(measure)
    text = column.heading if column is not None else measure
    return text[:1].upper() + text[1:]
