"""Spend: a bar per group, as long as its cost, taken apart into what was paid for."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.analysis.families.cost.spend import PARTS
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel

_MOST_GROUPS = 20
_COLOURS = (*theme.SERIES, theme.MUTED, "#000000", theme.FAINT)


def defaults(result: Result) -> dict[str, Any]:
    """The cost of each part."""
    return {"x": "cost_usd"}


def draw(panel: Panel) -> Any:
    """Draw the most expensive groups, their parts side by side in one order of colours."""
    column = panel.axes["x"]
    groups = panel.rows["group"].unique(maintain_order=True).to_list()[:_MOST_GROUPS]
    data = panel.rows.filter(pl.col("group").is_in(groups)).select(
        "group",
        "part",
        pl.col("part").replace_strict(list(PARTS), list(range(len(PARTS)))).alias("place"),
        pl.col(column).alias("value"),
        "share",
    )
    present = [part for part in PARTS if part in set(data["part"])]
    colours = [_COLOURS[PARTS.index(part) % len(_COLOURS)] for part in present]
    bars = alt.Chart(data).mark_bar(height=0.7 * dots.ROW)
    return bars.encode(
        x=alt.X("value:Q", stack="zero", axis=panel.axis(column, tickCount=6)),
        y=dots.rows(groups),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=present, range=colours),
            legend=alt.Legend(title=None, orient="top", columns=4),
        ),
        order=alt.Order("place:Q"),
        tooltip=[
            alt.Tooltip("group:N", title="group"),
            alt.Tooltip("part:N", title="part"),
            alt.Tooltip("value:Q", title=panel.heading(column), format=".4~g"),
            alt.Tooltip("share:Q", title="share", format=".1%"),
        ],
    ).properties(width=panel.width, height=dots.ROW * max(len(groups), 1))
