"""Price reversal: ranks by list price on the left, by bill on the right."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import theme
from workbench.charts.drawing import Panel

_DEARER = "dearer than listed"
_CHEAPER = "cheaper than listed"
_SAME = "as listed"


def defaults(result: Result) -> dict[str, Any]:
    """The two orders."""
    return {"x": "list_rank", "y": "cost_rank"}


def draw(panel: Panel) -> Any:
    """Draw a line per group; a reversal is a crossing."""
    left = panel.axes["x"]
    right = panel.axes["y"]
    groups = panel.more["groups"]
    data = groups.select(
        "group",
        pl.col(left).alias("from"),
        pl.col(right).alias("to"),
        "list_usd_per_mtok",
        "cost_usd",
        move=pl.when(pl.col(right) > pl.col(left))
        .then(pl.lit(_DEARER))
        .when(pl.col(right) < pl.col(left))
        .then(pl.lit(_CHEAPER))
        .otherwise(pl.lit(_SAME)),
        listed=pl.format(
            "{}  ${}", "group", pl.col("list_usd_per_mtok").map_elements(_short, pl.String)
        ),
        paid=pl.format("${}  {}", pl.col("cost_usd").map_elements(_short, pl.String), "group"),
    )
    ends = pl.concat(
        [
            data.select("group", "move", place="from", side=pl.lit("l"), text="listed"),
            data.select("group", "move", place="to", side=pl.lit("r"), text="paid"),
        ]
    )
    return alt.layer(*_marks(panel, ends), width=180, height=26 * groups.height + 20)


def _marks(panel: Panel, ends: pl.DataFrame) -> list[Any]:
    title = f"{panel.heading('list_usd_per_mtok')} → {panel.heading('cost_usd')}"
    across = alt.X(
        "side:N",
        axis=alt.Axis(title=title, labels=False, ticks=False, domain=False),
        scale=alt.Scale(domain=["l", "r"], padding=0.05),
    )
    up = alt.Y("place:Q", axis=None, scale=alt.Scale(reverse=False, zero=False, padding=12))
    colour = alt.Color(
        "move:N",
        scale=alt.Scale(
            domain=[_DEARER, _CHEAPER, _SAME], range=[theme.ORANGE, theme.BLUE, theme.MUTED]
        ),
        legend=theme.legend(),
    )
    base = alt.Chart(ends).encode(x=across, y=up, color=colour)
    marks = [
        base.mark_line(strokeWidth=2).encode(detail="group:N"),
        base.mark_point(filled=True, size=70, opacity=1),
    ]
    left, right = (base.transform_filter(alt.datum.side == side) for side in ("l", "r"))
    marks.append(left.mark_text(align="right", dx=-10, fontSize=12).encode(text="text:N"))
    marks.append(right.mark_text(align="left", dx=10, fontSize=12).encode(text="text:N"))
    return marks


def _short(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
