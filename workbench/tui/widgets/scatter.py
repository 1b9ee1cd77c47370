"""Scatter chart of configurations by cost and outcome, with the frontier."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from workbench.safe import one_line
from workbench.tui.widgets.canvas import Canvas
from workbench.tui.widgets.scales import Scale, fit
from workbench.tui.widgets.tones import Toned

TONES = ("axis", "title", "frontier", "dominated", "whisker", "line", "chosen")
LABEL = 28  # cells at most


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One configuration on the chart; whiskers only where both ends are known."""

    key: str
    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    on_frontier: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows and how its numbers are written."""

    title: str
    text: Callable[[float], str]
    is_log: bool = False
    low: float | None = None
    high: float | None = None


class Scatter(Toned, Widget):
    """Points, whiskers, the frontier as steps; the chosen point stands out."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"scatter--{tone}" for tone in TONES}

    class Chosen(Message):
        """A point was clicked."""

        def __init__(self, key: str) -> None:
            self.key = key
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.points: Sequence[Point] = ()
        self.x_axis = self.y_axis = Axis("", str)
        self.chosen = ""
        self.empty_text = ""
        self._canvas: Canvas | None = None
        self._places: dict[str, tuple[int, int]] = {}

    def show(self, points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> None:
        """Draw other points."""
        self.points, self.x_axis, self.y_axis = points, x_axis, y_axis
        self._redraw()

    def choose(self, key: str) -> None:
        """Make one point stand out."""
        if key != self.chosen:
            self.chosen = key
            self._redraw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._redraw()

    def _redraw(self) -> None:
        self._canvas = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one row of the drawing."""
        if self._canvas is None:
            self._canvas = self._draw(*self.size)
        tones = {t: self.tone(f"scatter--{t}") for t in TONES}
        return self._canvas.strip(y, self.rich_style, tones)

    def on_click(self, event: events.Click) -> None:
        """Choose the nearest point within two cells."""
        near = {
            k: max(abs(x - event.x) / 2, abs(y - event.y)) for k, (x, y) in self._places.items()
        }
        key = min(near, key=lambda k: near[k], default="")
        if key and near[key] <= 1:
            self.post_message(self.Chosen(key))

    # -- the drawing -----------------------------------------------------------------------------

    def _draw(self, width: int, height: int) -> Canvas:
        canvas = Canvas(width, height)
        self._places = {}
        if not self.points or width < 24 or height < 5:
            canvas.write(2, height // 2, one_line(self.empty_text, max(0, width - 3)), "axis")
            return canvas
        ends = [v for p in self.points for v in (p.y, p.low, p.high) if v is not None]
        across = fit([p.x for p in self.points], is_log=self.x_axis.is_log, low=self.x_axis.low)
        up = fit(ends, is_log=False, low=self.y_axis.low, high=self.y_axis.high)
        ticks = [(v, self.y_axis.text(v)) for v in up.ticks(max(2, (height - 3) // 2))]
        left = max(cell_len(text) for _, text in ticks) + 2
        plot = _Plot(canvas, across, up, left, width - left, height - 3)
        self._draw_frame(plot, ticks)
        self._draw_frontier(plot)
        self._draw_points(plot)
        return canvas

    def _draw_frame(self, plot: "_Plot", ticks: list[tuple[float, str]]) -> None:
        canvas, bottom = plot.canvas, plot.height + 1
        canvas.write(1, 0, self.y_axis.title, "title")
        scale = f"{self.x_axis.title}{' (log)' if self.x_axis.is_log else ''} →"
        canvas.write(canvas.width - cell_len(scale) - 1, 0, scale, "title")
        for y in range(1, bottom):
            canvas.write(plot.left - 1, y, "│", "axis")
        canvas.write(plot.left - 1, bottom, "└" + "─" * plot.width, "axis")
        for value, text in ticks:
            y = int(plot.y(value))
            canvas.write(plot.left - 1 - cell_len(text), y, text, "axis")
            canvas.write(plot.left - 1, y, "┤", "axis")
        taken = 0
        for value in plot.across.ticks(max(2, plot.width // 11)):
            x, text = int(plot.x(value)), self.x_axis.text(value)
            start = min(x - cell_len(text) // 2, canvas.width - cell_len(text))
            if start > taken:
                canvas.write(x, bottom, "┬", "axis")
                canvas.write(start, bottom + 1, text, "axis")
                taken = start + cell_len(text)

    def _draw_frontier(self, plot: "_Plot") -> None:
        edge = sorted((p for p in self.points if p.on_frontier), key=lambda p: (p.x, p.y))
        for a, b in itertools.pairwise(edge):
            plot.canvas.line(plot.x(a.x), plot.y(a.y), plot.x(b.x), plot.y(a.y), "line")
            plot.canvas.line(plot.x(b.x), plot.y(a.y), plot.x(b.x), plot.y(b.y), "line")
        if edge:
            last = edge[-1]
            end = plot.left + plot.width - 0.1
            plot.canvas.line(plot.x(last.x), plot.y(last.y), end, plot.y(last.y), "line")

    def _draw_points(self, plot: "_Plot") -> None:
        ranked = sorted(self.points, key=lambda p: (p.key == self.chosen, p.on_frontier))
        for point in ranked:
            if point.low is not None and point.high is not None:
                x = plot.x(point.x)
                plot.canvas.line(x, plot.y(point.low), x, plot.y(point.high), "whisker")
        for point in ranked:
            place = int(plot.x(point.x)), int(plot.y(point.y))
            self._places[point.key] = place
            plot.canvas.write(*place, "◆" if point.on_frontier else "●", self._tone(point))
        for point in reversed(ranked):
            self._draw_label(plot.canvas, point)

    def _tone(self, point: Point) -> str:
        if point.key == self.chosen:
            return "chosen"
        return "frontier" if point.on_frontier else "dominated"

    def _draw_label(self, canvas: Canvas, point: Point) -> None:
        x, y = self._places[point.key]
        label = one_line(point.label + point.note, LABEL)
        width = cell_len(label)
        spots = [
            (x + 2, y),
            (x - 1 - width, y),
            (x - width // 2, y - 1),
            (x - width // 2, y + 1),
            (x + 2, y - 1),
            (x + 2, y + 1),
            (x - 1 - width, y - 1),
            (x - 1 - width, y + 1),
        ]
        bottom = canvas.height - 2
        free = [
            (canvas.dots_under(left, row, width), place)
            for place, (left, row) in enumerate(spots)
            if 0 < row < bottom and canvas.is_free(left, row, width)
            if place > 1 or canvas.is_free(left + 1 if place else left - 1, row, width)
        ]
        if free:
            left, row = spots[min(free)[1]]
            canvas.write(left, row, label, self._tone(point))


@dataclasses.dataclass(frozen=True, slots=True)
class _Plot:
    """The part of the canvas inside the axes: values → cells."""

    canvas: Canvas
    across: Scale
    up: Scale
    left: int
    width: int
    height: int

    def x(self, value: float) -> float:
        return self.left + 0.5 + self.across.place(value) * (self.width - 2)

    def y(self, value: float) -> float:
        return 1.5 + (1 - self.up.place(value)) * (self.height - 1)
