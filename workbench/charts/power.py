"""Power: present and needed items, a line between them per pair."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel, clean, finite

SPREAD = ""  # no intervals are drawn
_HAVE = "recorded"
_NEED = "needed"


def defaults(result: Result) -> dict[str, Any]:
    """Items recorded and items needed."""
    return {"x": "items_needed"}


def draw(panel: Panel) -> Any:
    """Draw both numbers of every pair; any other column as a dot with its interval."""
    column = panel.axes["x"]
    names = [f"{clean(a)} vs {clean(b)}" for a, b in panel.rows.select("a", "b").iter_rows()]
    rows = panel.rows.with_columns(group=pl.Series(names, dtype=pl.String))
    named = Panel(panel.result, rows, panel.more, panel.axes)
    height = dots.ROW * len(names)
    y = dots.rows(names)
    if column != "items_needed":
        at = dots.across(dots.scale(named, column), named.axis(column, tickCount=6))
        parts = dots.layers(dots.frame(named, column), at, y)
    else:
        parts = _numbers(named, y)
    return alt.layer(*parts, width=panel.width, height=height)


def _numbers(panel: Panel, y: alt.Y) -> list[Any]:
    """A grey dot for what there is, a coloured one for what it takes."""
    both = finite(panel.rows, "n_items", "items_needed")
    low = min([v for v in both if v > 0], default=1.0)
    high = max(both, default=1.0)
    scale = alt.Scale(type="log", domain=[low / 1.5, high * 1.5], clamp=True)
    wanted = 100 * panel.result.options["difference"]
    title = f"Shared items, to see a difference of {wanted:g} points"
    at = dots.across(scale, alt.Axis(title=title, format="~s", tickCount=5))
    data = pl.concat(
        [
            panel.rows.select(
                "group", number=pl.col(column).cast(pl.Float64), what=pl.lit(what), tip="verdict"
            )
            for what, column in ((_HAVE, "n_items"), (_NEED, "items_needed"))
        ]
    ).filter(pl.col("number") > 0)
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=[_HAVE, _NEED], range=[theme.MUTED, theme.BLUE]),
        legend=theme.legend(),
    )
    span = alt.Chart(
        panel.rows.select("group", "n_items", "items_needed")
        .drop_nulls()
        .filter(pl.col("n_items") > 0)
    )
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("number:Q"),
        alt.Tooltip("tip:N", title="verdict"),
    ]
    return [
        span.mark_rule(color=theme.FAINT, strokeWidth=3).encode(
            x=at("n_items:Q"), x2="items_needed:Q", y=y
        ),
        alt.Chart(data)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(x=at("number:Q"), y=y, color=colour, tooltip=tooltip),
    ]
