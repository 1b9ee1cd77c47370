"""Anomalies: flagged traces as dots, by how many times the median of their group they are."""

from typing import Any

import altair as alt
import polars as pl

from workbench.analysis.core.result import Result
from workbench.charts import bands, dots, theme
from workbench.charts.drawing import Panel, clean


def defaults(result: Result) -> dict[str, Any]:
    """The multiple of the median."""
    return {"x": "times_median"}


def draw(panel: Panel) -> Any:
    """Draw a dot per flagged trace and measure; how many are flagged where none is measured."""
    flagged = panel.more["traces"].filter(pl.col("times_median").is_not_null())
    if flagged.is_empty():
        named = panel.rows.with_columns(
            group=pl.Series([f"{g} · {clean(k)}" for g, k in panel.rows["group", "kind"].rows()])
        )
        return bands.band(Panel(panel.result, named, panel.more, panel.axes), "n_flagged")
    by = [c for c in panel.result.by if c in flagged.columns]
    data = flagged.select(
        "kind",
        "times_median",
        pl.col("trace_id").map_elements(clean, pl.String).alias("trace"),
        pl.concat_str(
            [pl.col(c).cast(pl.String).fill_null("—") for c in by] or [pl.lit("all")],
            separator=" · ",
        )
        .map_elements(clean, pl.String)
        .alias("group"),
    )
    present = list(dict.fromkeys(data["kind"]))
    return (
        alt.Chart(data)
        .mark_circle(size=60, opacity=0.7, color=theme.ORANGE)
        .encode(
            x=alt.X(
                "times_median:Q",
                scale=alt.Scale(type="log"),
                axis=panel.axis("times_median", tickCount=6),
            ),
            y=alt.Y("kind:N", sort=present, axis=alt.Axis(title=None, domain=False, grid=True)),
            tooltip=[
                alt.Tooltip("trace:N", title="trace"),
                alt.Tooltip("group:N", title="group"),
                alt.Tooltip("times_median:Q", title="times the median", format=".3~g"),
            ],
        )
        .properties(width=panel.width, height=dots.ROW * max(len(present), 1))
    )
