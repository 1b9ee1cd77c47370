"""Theme of charts: a colour-blind-safe palette, fonts, and axes."""

from typing import Any

# Palette of Okabe & Ito: distinct with any common colour blindness, and in grey.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
INK = "#222222"
MUTED = "#767676"
FAINT = "#D9D9D9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", INK)  # colours of groups, in order
WIDTH = 460
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"


def configured(chart: Any) -> Any:
    """Set the theme of a finished chart in place; Altair's `configure_…` would copy it."""
    import altair as alt

    chart.config = alt.Config(
        background="white",
        font=FONT,
        padding=12,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            gridColor="#EEEEEE",
            domainColor="#999999",
            tickColor="#999999",
            labelColor=INK,
            titleColor=INK,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=300,
            labelPadding=5,
            titlePadding=8,
            labelSeparation=8,
        ),
        title=alt.TitleConfig(
            anchor="start",
            fontSize=15,
            fontWeight="bold",
            color=INK,
            subtitleColor=MUTED,
            subtitleFontSize=12,
            offset=10,
            frame="group",
        ),
        legend=alt.LegendConfig(
            labelFontSize=12, titleFontSize=12, symbolStrokeWidth=2, labelLimit=300
        ),
    )
    return chart


def legend() -> Any:
    """Make a legend above the drawing, in the full colours of the marks."""
    import altair as alt

    return alt.Legend(title=None, orient="top", symbolOpacity=1, symbolStrokeWidth=0)
