"""Charts in notebooks: drawn here, where Altair's usual page would fetch its scripts from the network."""

from typing import Any

from workbench.charts.saving import svg_of

NAME = "workbench"


def draw_offline() -> None:
    """Make Altair show charts as drawings, unless somebody has chosen how they are shown.

    `altair.renderers.enable("html")`, or any other name, chooses.
    """
    import altair as alt

    if alt.renderers.active == "default":
        alt.renderers.register(NAME, _drawn)
        alt.renderers.enable(NAME)


def _drawn(specification: dict[str, Any], **_: Any) -> dict[str, str]:
    return {"image/svg+xml": svg_of(specification), "text/plain": "a chart"}
