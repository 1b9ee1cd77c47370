"""Comparisons: differences with intervals, and how many items favour each side."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import dots, theme
from workbench.charts.drawing import Panel, clean, finite

_A = "A better"
_B = "B better"
_TIED = "tied"
ROW = 66
_POINTS = "datum.value == 0 ? '0' : format(datum.value, '+.0%')"


def defaults(result: Result) -> dict[str, Any]:
    """The difference of the outcomes."""
    return {"x": "difference"}


def draw(panel: Panel) -> Any:
    """Draw a dot with its interval per comparison around no difference, with its verdict above."""
    column = panel.axes["x"]
    ends = (
        "joint_difference" if column == "difference" else column
    )  # as the colours: of all comparisons
    level = panel.result.options["level"]
    better = pl.when(pl.col("difference") > 0).then(pl.lit(_A)).otherwise(pl.lit(_B))
    data = panel.rows.with_row_index("place").select(
        pl.format("{}", "place").alias("place"),
        pl.col(column).alias("value"),
        *[
            (
                pl.col(f"{ends}_{e}")
                if f"{ends}_{e}" in panel.rows.columns
                else pl.lit(None, pl.Float64)
            ).alias(e)
            for e in ("low", "high")
        ],
        finding=pl.when(pl.col("p_holm") < 1 - level).then(better).otherwise(pl.lit(_TIED)),
        names=pl.struct("a", "b").map_elements(_names, pl.String),
        tips=pl.format(
            "A does better on {} items, B on {}, the same on {}",
            "n_a_better",
            "n_b_better",
            "n_same",
        ),
    )
    reach = max([abs(v) for v in finite(data, "value", "low", "high")], default=1.0) * 1.1 or 1.0
    one = 1.0 if column == "cost_ratio" else 0.0
    scale = alt.Scale(domain=[min(0.0, one - reach), reach] if one else [-reach, reach])
    form: dict[str, Any] = {"format": "~g"} if one else {"labelExpr": _POINTS}
    at = dots.across(scale, panel.axis(column, tickCount=7, **form))
    parts = _marks(data, at, one)
    return alt.layer(*parts, width=panel.width + 60, height=ROW * max(data.height, 1))


def _names(pair: dict[str, str]) -> str:
    return f"A {clean(pair['a'])}  vs  B {clean(pair['b'])}".replace("  ", "\u00a0" * 2)


def _marks(data: pl.DataFrame, at: dots.At, zero: float) -> list[Any]:
    order = data["place"].to_list()
    y = alt.Y("place:N", sort=order, axis=None)
    colour = alt.Color(
        "finding:N",
        scale=alt.Scale(domain=[_A, _B, _TIED], range=[theme.BLUE, theme.ORANGE, theme.MUTED]),
        legend=theme.legend(),
    )
    base = alt.Chart(data)
    spread = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    heads: dict[str, Any] = {"baseline": "middle", "align": "left"}
    left_edge: dict[str, Any] = {"x": alt.value(0), "y": y}
    return [
        alt.Chart(pl.DataFrame({"value": [zero]}))
        .mark_rule(color="#999999")
        .encode(x=at("value:Q")),
        spread.mark_rule(strokeWidth=2.5, opacity=0.5).encode(
            y=y, x=at("low:Q"), x2="high:Q", color=colour
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(y=y, x=at("value:Q"), color=colour),
        base.mark_text(dy=-19, fontSize=12, color=theme.INK, **heads).encode(
            text="names:N", **left_edge
        ),
        base.mark_text(dy=17, fontSize=11, color=theme.MUTED, **heads).encode(
            text="tips:N", **left_edge
        ),
    ]
