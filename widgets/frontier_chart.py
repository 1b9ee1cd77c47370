"""The frontier as a chart that can be brushed: an interval on the page becomes configurations here."""

import functools
import html
from collections.abc import Mapping
from typing import Any

import ipywidgets
import polars as pl
import traitlets

from workbench import charts
from workbench.analysis.result import Result

BRUSH, PICKED = "brush", "picked"
_WAIT_MS = 60  # the page waits until the mouse rests that long before it says what is brushed
_WIDTH = 680


class FrontierChart(traitlets.HasTraits):
    """A frontier of configurations.

    Attributes:
        selected: the configurations brushed, or set from outside; () where none are.
        panel: what is shown.
        drawn: the chart itself, without brush; None where there is nothing to draw.
    """

    selected = traitlets.Tuple()

    def __init__(self) -> None:
        super().__init__()
        self._result: Result | None = None
        self._names: dict[str, str] = {}  # configuration → its label in the chart
        self._note = ipywidgets.HTML()
        self._chart: Any = None
        self.drawn: Any = None
        self.panel = ipywidgets.VBox([self._note])

    def show(self, result: Result) -> None:
        """Draw a result of the frontier analysis, grouped by configuration."""
        self._result = result
        notes = list(result.notes)
        if result.frame.is_empty():
            axes = " and ".join(result[result.options[a]].heading for a in ("y", "x"))
            notes = [f"no configuration of this view has both {axes}"]
        self._note.value = "<br>".join(html.escape(note) for note in notes)
        if result.frame.is_empty():
            self.drawn, self.panel.children = None, (self._note,)
            return
        self.drawn = charts.chart(result, width=_WIDTH)
        labels = _points(self.drawn).data["group"].to_list()
        # a crowded chart leaves out the last rows, and so has fewer labels than there are rows
        self._names = dict(zip(result.frame["configuration"].to_list(), labels, strict=False))
        self._draw(brushable(self.drawn))
        self.panel.children = (self._chart, self._note)

    def _draw(self, chart: Any) -> None:
        if self._chart is None:
            self._chart = _offline()(
                chart, debounce_wait=_WAIT_MS, max_wait=False, embed_options={"actions": False}
            )
        else:
            self._chart.chart = chart
        self._chart.selections.observe(self._on_brush, BRUSH)
        self._mark()

    def _on_brush(self, change: Mapping[str, Any]) -> None:
        assert self._result is not None
        self.selected = inside(self._result, change["new"].value)

    @traitlets.observe("selected")
    def _mark(self, _: object = None) -> None:
        """Pale what is not selected."""
        if self._chart is not None:
            labels = [self._names[c] for c in self.selected if c in self._names]
            setattr(self._chart.params, PICKED, labels)


def inside(result: Result, interval: Mapping[str, Any]) -> tuple[str, ...]:
    """List the configurations of a frontier that lie in an interval of both axes, ends included.

    Args:
        result: a frontier by configuration.
        interval: (low, high) by axis, "x" and "y", as the page sends it; empty where none is drawn.
    """
    if {"x", "y"} - set(interval):
        return ()
    within = [
        pl.col(result.options[axis]).is_between(min(interval[axis]), max(interval[axis]))
        for axis in ("x", "y")
    ]
    return tuple(result.frame.filter(*within)["configuration"].to_list())


def brushable(chart: Any) -> Any:
    """Give a frontier chart an interval to drag, and a list of points that stand out."""
    import altair as alt

    chart = chart.copy(deep=True)
    among = f"length({PICKED}) == 0 || indexof({PICKED}, datum.group) >= 0"
    for layer in chart.layer:
        if layer.mark.type != "line":
            shown = alt.condition(among, alt.value(1.0), alt.value(0.25))
            layer.encoding.opacity = shown
    mark = alt.BrushConfig(fill="#0072B2", fillOpacity=0.08, stroke="#0072B2", cursor="move")
    interval = alt.selection_interval(name=BRUSH, encodings=["x", "y"], mark=mark)
    return chart.add_params(interval, alt.param(name=PICKED, value=[]))


def _points(chart: Any) -> Any:
    """The layer of the points themselves."""
    return next(layer for layer in chart.layer if layer.mark.type == "point")


@functools.cache
def _offline() -> Any:
    """Altair's widget with everything it needs inside; it would ask the network otherwise."""
    import altair as alt

    alt.JupyterChart.enable_offline()
    return alt.JupyterChart
