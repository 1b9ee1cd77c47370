"""Notebook renderer: charts as SVG, without the scripts that Altair loads from the network."""

from typing import Any

from workbench.charts.saving import svg_of

NAME = "workbench"


def draw_offline() -> None:
    """Make Altair show charts as SVG, unless a renderer has been chosen.

    `altair.renderers.enable("html")`, or another name, chooses one.
    """
    import altair as alt

    if alt.renderers.active == "default":
        alt.renderers.register(NAME, _svg_bundle)
        alt.renderers.enable(NAME)


def _svg_bundle(specification: dict[str, Any], **_: Any) -> dict[str, str]:
    return {"image/svg+xml": svg_of(specification), "text/plain": "a chart"}
