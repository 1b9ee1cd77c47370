"""Blocks of lines in a column, with a cursor on a line; only lines in view are built."""

import bisect
import itertools
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.tui.widgets.tones import Toned


class Blocks(Toned, ScrollView, can_focus=True):
    """A column of blocks; a subclass counts the blocks and their lines, and draws them."""

    CURSOR: ClassVar[str]  # component class of the line under the cursor
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "line down", show=False),
        Binding("up,k", "move(-1)", "line up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False),
        Binding("home,g", "edge(-1)", "first line", show=False),
        Binding("end,G", "edge(1)", "last line", show=False),
    ]
    cursor: reactive[int] = reactive(0, repaint=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._starts: list[int] = []  # line on which each block begins
        self._height = 0
        self._made_for = 0

    # -- methods of the subclass -----------------------------------------------------------------

    def n_blocks(self) -> int:
        """Count the blocks."""
        raise NotImplementedError

    def n_lines(self, index: int) -> int:
        """Count the lines of a block, at least one."""
        raise NotImplementedError

    def draw(self, index: int, within: int, ground: Style) -> list[Segment]:
        """Draw one line of a block."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the lines that were wrapped at another width."""
        raise NotImplementedError

    def open_current(self) -> None:
        """Fold or unfold the block under the cursor."""
        raise NotImplementedError

    # -- places ----------------------------------------------------------------------------------

    @property
    def view(self) -> Size:
        """The size inside the scrollbars."""
        return self.scrollable_content_region.size

    @property
    def height(self) -> int:
        """The lines of all blocks."""
        return self._height

    def place(self, *, hold: bool = False) -> None:
        """Compute the first line of each block; `hold` keeps the cursor on its block."""
        if not self.view.width:
            return
        block = self.block_at(self.cursor) if hold and self._starts else None
        self._made_for = self.view.width
        sizes = [self.n_lines(i) for i in range(self.n_blocks())]
        self._starts = [0, *itertools.accumulate(sizes)][: len(sizes)]
        self._height = sum(sizes)
        self.virtual_size = Size(self.view.width, self._height)
        if block is not None:
            self.cursor = self._starts[block]
        self.refresh()

    def block_at(self, line: int) -> int:
        """Return the index of the block that contains a line."""
        return max(0, bisect.bisect_right(self._starts, line) - 1)

    def start_of(self, index: int) -> int:
        """Return the first line of a block."""
        return self._starts[index]

    def go_to(self, index: int, *, above: int = 1) -> None:
        """Put the cursor on a block and scroll it to the top, `above` lines below the edge."""
        self.scroll_to(y=max(0, self._starts[index] - above), animate=False)
        self.cursor = self._starts[index]

    def on_resize(self) -> None:
        """Wrap the lines again."""
        if self._made_for != self.view.width:
            self.forget()
            self.place(hold=True)

    def render_line(self, y: int) -> Strip:
        """Draw one line of one block."""
        line = y + self.scroll_offset.y
        width = self.view.width
        ground = self.rich_style
        if line == self.cursor and self._height and self.has_focus:
            ground = self.get_component_rich_style(self.CURSOR)
        if line >= self._height:
            return Strip.blank(width, self.rich_style)
        index = self.block_at(line)
        segments = self.draw(index, line - self._starts[index], ground)
        return Strip(segments).adjust_cell_length(width, ground)

    # -- moving ----------------------------------------------------------------------------------

    def validate_cursor(self, value: int) -> int:
        """Clamp the cursor to the lines."""
        return max(0, min(value, self._height - 1))

    def watch_cursor(self) -> None:
        """Scroll the line into view."""
        top, height = round(self.scroll_y), max(1, self.view.height)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move by lines."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """Move by screens."""
        self.cursor += by * max(1, self.view.height - 1)

    def action_edge(self, end: int) -> None:
        """Go to the first or the last line."""
        self.cursor = 0 if end < 0 else self._height - 1

    def action_open(self) -> None:
        """Fold or unfold the block."""
        self.open_current()

    def on_click(self, event: events.Click) -> None:
        """Go to a line; a click on the first line of a block folds it."""
        line = event.y + self.scroll_offset.y
        if line < self._height:
            self.cursor = line
            if line in self._starts:
                self.open_current()
