"""Frontier chart with a brush: an interval drawn on the page selects configurations in Python."""

import functools
import html
from collections.abc import Mapping
from typing import Any

import ipywidgets
import polars as pl
import traitlets

from workbench import charts
from workbench.analysis.core.result import Result

BRUSH, PICKED = "brush", "picked"
_WAIT_MS = 60  # time that the mouse rests before the page sends the brushed interval
_WIDTH = 680
_PALE = 0.25  # factor on the opacity of points that are not selected


class FrontierChart(traitlets.HasTraits):
    """A frontier of configurations.

    Attributes:
        selected: the configurations brushed or set from Python; () if none are.
        panel: the widget to display.
        chart: the Altair chart; None if there is nothing to draw.
    """

    selected = traitlets.Tuple()

    def __init__(self) -> None:
        super().__init__()
        self._result: Result | None = None
        self._places = pl.DataFrame(schema=["configuration", "group"])
        self._note = ipywidgets.HTML()
        self._chart: Any = None
        self.chart: Any = None
        self.panel = ipywidgets.VBox([self._note])

    def show(self, result: Result) -> None:
        """Draw a result of the frontier analysis, by configuration, unless it is drawn already."""
        if self._result is not None and _same(self._result, result):
            return
        self._result = result
        notes = list(result.notes)
        if result.frame.is_empty():
            axes = " and ".join(result[result.options[a]].heading for a in ("y", "x"))
            notes = [f"no configuration of this view has both {axes}"]
        self._note.value = "<br>".join(html.escape(note) for note in notes)
        if result.frame.is_empty():
            self.chart, self.panel.children = None, (self._note,)
            return
        with _unchecked():
            chart = charts.chart(result, width=_WIDTH)
            self._places = _places(result, chart)
            self.chart = brushable(chart)
            self._draw(self.chart)
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
        """Reduce the opacity of points that are not selected."""
        if self._chart is not None:
            selected_points = self._places.filter(pl.col("configuration").is_in(self.selected))
            setattr(self._chart.params, PICKED, selected_points["group"].unique().to_list())


def inside(result: Result, interval: Mapping[str, Any]) -> tuple[str, ...]:
    """List the configurations of a frontier that lie in an interval of both axes, ends included.

    Args:
        result: a frontier by configuration.
        interval: (low, high) by axis, "x" and "y", as the page sends it; empty if none is drawn.
    """
    if {"x", "y"} - set(interval):
        return ()
    within = [
        pl.col(result.options[axis]).is_between(min(interval[axis]), max(interval[axis]))
        for axis in ("x", "y")
    ]
    return tuple(result.frame.filter(*within)["configuration"].to_list())


def brushable(chart: Any) -> Any:
    """Add an interval selection and a list of emphasised points to a frontier chart, in place."""
    import altair as alt

    among = f"length({PICKED}) == 0 || indexof({PICKED}, datum.group) >= 0"
    for layer in chart.layer:
        if layer.mark.type != "line":
            full = 1.0 if layer.mark.opacity is alt.Undefined else float(layer.mark.opacity)
            pale = alt.value(full * _PALE)
            layer.encoding.opacity = alt.condition(among, alt.value(full), pale)
    mark = alt.BrushConfig(fill="#0072B2", fillOpacity=0.08, stroke="#0072B2", cursor="move")
    interval = alt.selection_interval(name=BRUSH, encodings=["x", "y"], mark=mark)
    return chart.add_params(interval, alt.param(name=PICKED, value=[]))


def _same(one: Result, other: Result) -> bool:
    return one.frame.equals(other.frame) and (one.options, one.notes, one.dropped) == (
        other.options,
        other.notes,
        other.dropped,
    )


def _places(result: Result, chart: Any) -> pl.DataFrame:
    """Find the label of each configuration in the chart; those at one position share a label.

    Returns:
        One row per configuration drawn and label at its position: configuration, group.
    """
    points = next(layer for layer in chart.layer if layer.mark.type == "point").data
    axes = {axis: pl.col(result.options[axis]) for axis in ("x", "y")}
    configurations = result.frame.select("configuration", **axes)
    return configurations.join(points.select("group", "x", "y"), on=["x", "y"])


def _unchecked() -> Any:
    """Turn off Altair's validation, which takes longer than the query behind the chart."""
    from altair.utils import schemapi

    return schemapi.debug_mode(False)


@functools.cache
def _offline() -> Any:
    """Return Altair's widget with its scripts bundled, so that it needs no network."""
    import altair as alt

    alt.JupyterChart.enable_offline()
    return alt.JupyterChart
