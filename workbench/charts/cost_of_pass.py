"""Cost of pass per group, overall and item by item with the expert, above the frontier's."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel, finite

_RATIO = "cost_of_pass_usd"
_ITEMS = "frontier_cost_of_pass_usd"
_NAMES = {_RATIO: "mean cost / pass rate", _ITEMS: "item by item, or the expert"}
_ALL = "all groups together"


def defaults(result: Result) -> dict[str, Any]:
    """One axis in dollars."""
    return {"x": _RATIO}


def draw(panel: Panel) -> Any:
    """Draw both forms per group; the infinite ones at the right edge."""
    column = panel.axes["x"]
    columns = (_RATIO, _ITEMS) if column == _RATIO else (column,)
    everything = [f"{c}{end}" for c in columns for end in ("", "_low", "_high")]
    totals = panel.more.get("totals", pl.DataFrame())
    extra = finite(totals, _ITEMS, "human_cost_usd") if column == _RATIO else []
    at = dots.across(
        _scale(panel, [*finite(panel.rows, *everything), *extra]),
        panel.axis(column, format="$~g", tickCount=5),
    )
    order = [*panel.rows["group"].to_list(), _ALL]
    parts: list[Any] = []
    for name in columns:
        data = dots.frame(panel, name)
        if name == _ITEMS:
            data = pl.concat([data, _together(totals)])
        data = data.with_columns(form=pl.lit(_NAMES.get(name, panel.heading(name))))
        parts += _form(data, at, dots.rows(order), several=len(columns) > 1, width=panel.width)
    parts += _expert(totals, at) if column == _RATIO else []
    return alt.layer(*parts, width=panel.width, height=dots.ROW * len(order) * 1.2)


def _scale(panel: Panel, values: list[float]) -> alt.Scale:
    positive = [v for v in values if v > 0]
    if panel.axes.get("log_x") is False or len(positive) < len(values) or not positive:
        return alt.Scale(domain=[0, max(values, default=1.0) * 1.05 or 1.0], clamp=True)
    return alt.Scale(type="log", domain=[min(positive) / 1.5, max(positive) * 1.6], clamp=True)


def _together(totals: pl.DataFrame) -> pl.DataFrame:
    ends = [
        pl.col(_ITEMS).alias("value"),
        *(pl.col(f"{_ITEMS}_{e}").alias(e) for e in ("low", "high")),
    ]
    return totals.head(1).select(pl.lit(_ALL).alias("group"), *ends)


def _form(data: pl.DataFrame, at: dots.At, y: alt.Y, *, several: bool, width: int) -> list[Any]:
    """One of the two forms: dots with intervals, ∞ at the edge for what is infinite."""
    legend = theme.legend() if several else None
    colour = alt.Color(
        "form:N",
        scale=alt.Scale(domain=list(_NAMES.values()), range=[theme.BLUE, theme.ORANGE]),
        legend=legend,
    )
    shape = "circle" if data["form"].first() == _NAMES[_RATIO] else "diamond"
    known = data.filter(pl.col("value").is_finite())
    bounded = known.with_columns(pl.when(pl.col("high").is_finite()).then("high").alias("high"))
    offset = alt.YOffset("form:N", sort=list(_NAMES.values())) if several else None
    marks = dots.layers(bounded, at, y, colour=colour, shape=shape)
    # What is infinite reaches from its lower bound, where there is one, to the edge.
    endless = data.filter(pl.col("value").is_infinite())
    floor = alt.Chart(endless.filter(pl.col("low").is_finite()).select("group", "form", "low"))
    edge = alt.value(width)
    marks.append(
        floor.mark_rule(strokeWidth=2.5, opacity=0.45).encode(
            x=at("low:Q"), x2=edge, y=y, color=colour
        )
    )
    text = alt.Chart(endless.select("group", "form")).mark_text(
        align="left", dx=5, fontSize=16, fontWeight="bold"
    )
    marks.append(text.encode(x=alt.value(width), y=y, text=alt.value("∞"), color=colour))
    return [m.encode(yOffset=offset) for m in marks] if offset is not None else marks


def _expert(totals: pl.DataFrame, at: dots.At) -> list[Any]:
    """A line where the expert stands."""
    if not finite(totals, "human_cost_usd"):
        return []
    data = alt.Chart(totals.head(1).select(value="human_cost_usd", text=pl.lit("expert")))
    rule = data.mark_rule(strokeDash=[4, 3], color=theme.MUTED).encode(x=at("value:Q"))
    text = data.mark_text(align="right", dx=-5, y=8, color=theme.MUTED, fontSize=12)
    return [rule, text.encode(x=at("value:Q"), text="text:N")]
