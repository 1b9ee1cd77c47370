"""Grid widget: a table that draws only the rows in view, so that its length costs nothing.

The grid knows nothing of queries. It is given columns and `Rows`; for a row that is not here yet it
posts `PagesWanted` and draws a placeholder. Cells are plain text or (text, tone) pairs, never
markup.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.safe import both_ends, distinct_ends, one_line
from workbench.tui.widgets.rows import ListRows, Row, Rows
from workbench.tui.widgets.tones import Toned

Cell = str | Sequence[tuple[str, str]]
TONES = ("plain", "dim", "good", "bad", "warn", "accent")
MEASURED = 200  # rows that widths are computed from
GAP = 2  # cells between columns
NARROW = 22  # cells that the wide column keeps


@dataclasses.dataclass(frozen=True, slots=True)
class GridColumn:
    """How one column is shown.

    Attributes:
        key: name of the column, also what sorting asks for.
        cell: a row → what to draw.
        wide: takes the room that is left.
        rank: columns of the highest rank are left out first where there is no room; 0 stays.
        most: cells at most.
    """

    key: str
    title: str
    cell: Callable[[Row], Cell]
    right: bool = False
    wide: bool = False
    rank: int = 0
    most: int = 40
    sortable: bool = True


def cell_width(cell: Cell) -> int:
    """Return the width of a cell in terminal cells."""
    return cell_len(cell) if isinstance(cell, str) else sum(cell_len(text) for text, _ in cell)


def _whole(cell: Cell) -> str:
    return cell if isinstance(cell, str) else "".join(text for text, _ in cell)


class Grid(Toned, ScrollView, can_focus=True):
    """Rows under a fixed head, with a cursor, marks and a sorted column."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--head",
        "grid--sorted",
        "grid--cursor",
        "grid--cursor-blur",
        "grid--mark",
        *(f"grid--{tone}" for tone in TONES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "down", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False),
        Binding("home,g", "edge(-1)", "first row", show=False),
        Binding("end,G", "edge(1)", "last row", show=False),
        Binding("left,h", "shift(-1)", "scroll left", show=False),
        Binding("right,l", "shift(1)", "scroll right", show=False),
        Binding("less_than_sign", "sort(-1)", "sort by the column before", show=False),
        Binding("greater_than_sign", "sort(1)", "sort by the next column", show=False),
        Binding("o", "reverse", "turn the order around", show=False),
    ]
    cursor: reactive[int] = reactive(0, repaint=False)

    class Highlighted(Message):
        """The cursor is on another row."""

        def __init__(self, grid: "Grid", index: int, row: Row | None) -> None:
            self.grid, self.index, self.row = grid, index, row
            super().__init__()

    class Opened(Message):
        """Enter, or a second click, on a row."""

        def __init__(self, grid: "Grid", row: Row) -> None:
            self.grid, self.row = grid, row
            super().__init__()

    class Sorted(Message):
        """Another column, or the other direction, was chosen."""

        def __init__(self, grid: "Grid", key: str, *, descending: bool) -> None:
            self.grid, self.key, self.descending = grid, key, descending
            super().__init__()

    class PagesWanted(Message):
        """Rows came into view that are not here."""

        def __init__(self, grid: "Grid", pages: list[int]) -> None:
            self.grid, self.pages = grid, pages
            super().__init__()

        def can_replace(self, message: Message) -> bool:
            """Only the newest view matters."""
            return isinstance(message, Grid.PagesWanted)

    def __init__(self, columns: Sequence[GridColumn] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._widths: list[tuple[GridColumn, int]] = []
        self.rows: Rows = ListRows()
        self.sort_key, self.descending = "", False
        self.identity: Callable[[Row], str] | None = None
        self.is_dim: Callable[[Row], bool] | None = None
        self.marked: set[str] = set()
        self.empty_text = ""
        self._cuts: dict[str, dict[str, str]] = {}  # of names that would look alike, by column

    # -- rows ------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[GridColumn, ...]:
        """The columns, those without room included."""
        return self._columns

    @property
    def current(self) -> Row | None:
        """The row under the cursor, or None where there is none yet."""
        return self.rows.get(self.cursor)

    def show(
        self,
        rows: Rows,
        columns: Sequence[GridColumn] | None = None,
        *,
        keep: bool = False,
        place: int | None = None,
    ) -> None:
        """Show other rows.

        Args:
            rows: what to show.
            columns: as what; None leaves those that there are.
            keep: keep the cursor on the row with the same identity, and that row where it is on the
                screen.
            place: where that row is, if it is not among those that are here.
        """
        held, before = self.current if keep else None, self.cursor
        self.rows = rows
        if columns is not None:
            self._columns = tuple(columns)
        self._measure()
        self.set_reactive(Grid.cursor, self._find(held, place) if keep else 0)
        top = self.scroll_y + self.cursor - before if keep else 0
        if top != self.scroll_y:
            self.scroll_to(0 if not keep else None, max(0, top), animate=False)
        self._cursor_moved()

    def arrived(self) -> None:
        """Draw again after pages came; widths are taken from the first ones."""
        self._measure()
        self._cursor_moved()

    def _find(self, current: Row | None, place: int | None) -> int:
        index = place
        if current is not None and self.identity is not None:
            name = self.identity(current)
            index = next((i for i, row in self.rows.here() if self.identity(row) == name), place)
        return max(0, min(self.cursor if index is None else index, self.rows.n - 1))

    def _measure(self) -> None:
        sample = [
            r for i in range(min(self.rows.n, MEASURED)) if (r := self.rows.get(i)) is not None
        ]
        widths = []
        for column in self._columns:
            wanted = max(
                [cell_len(column.title) + 2, *(cell_width(column.cell(r)) for r in sample)]
            )
            widths.append((column, min(wanted, column.most)))
        self._widths = self._fitted(widths) if self._view.width else widths
        self._cuts = {
            column.key: distinct_ends({_whole(column.cell(r)) for r in sample}, width)
            for column, width in self._widths
            if self._names(column)
        }
        self.virtual_size = Size(self._total(self._widths), self.rows.n + 1)
        self.refresh()

    @staticmethod
    def _total(widths: Sequence[tuple[GridColumn, int]]) -> int:
        return sum(width + GAP for _, width in widths) + 1

    def _fitted(self, widths: list[tuple[GridColumn, int]]) -> list[tuple[GridColumn, int]]:
        """Leave out what ranks last until the rest fits; the wide column gives or takes the rest.

        Without a wide one, no text takes more than half of the room, so that a figure is beside the
        name.
        """
        room = self._view.width
        wide = next((column for column, _ in widths if column.wide), None)
        slack = sum(width - min(width, NARROW) for column, width in widths if column is wide)
        while self._total(widths) - slack > room and (
            last := max((c.rank for c, _ in widths), default=0)
        ):
            widths = [(column, width) for column, width in widths if column.rank != last]
        spare = room - self._total(widths)
        if spare < 0 and wide is None:
            half = max(NARROW, room // 2)
            return [(c, w if c.right else min(w, half)) for c, w in widths]
        return [(c, max(min(w, NARROW), w + spare) if c is wide else w) for c, w in widths]

    def on_mount(self) -> None:
        """Have a head for the first frame."""
        self._measure()

    def on_resize(self) -> None:
        """Choose the columns that fit."""
        self._measure()
        self._want()

    @property
    def _view(self) -> Size:
        """The size inside the scrollbars."""
        return self.scrollable_content_region.size

    # -- drawing ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw the head, or a row."""
        x, top = self.scroll_offset
        width = self._view.width
        index = y - 1 + top
        strip = self._head() if y == 0 else self._line(index)
        rest = self._ground(index) if y else self.get_component_rich_style("grid--head")
        return strip.crop_extend(x, x + width, rest)

    def _tone(self, name: str) -> Style:
        return self.tone(f"grid--{name}")

    def _head(self) -> Strip:
        style, chosen = self.get_component_rich_style("grid--head"), self._tone("sorted")
        segments = [Segment(" ", style)]
        for column, width in self._widths:
            arrow = ("↓" if self.descending else "↑") if column.key == self.sort_key else ""
            title = f"{column.title} {arrow}".strip()
            text = self._fit(title, width, right=column.right)
            segments.append(Segment(text, style + chosen if arrow else style))
            segments.append(Segment(" " * GAP, style))
        return Strip(segments)

    def _ground(self, index: int) -> Style:
        if index == self.cursor and index < self.rows.n:
            name = "cursor" if self.has_focus else "cursor-blur"
            return self.get_component_rich_style(f"grid--{name}")
        return self.rich_style

    def _line(self, index: int) -> Strip:
        ground = self._ground(index)
        if index >= self.rows.n:
            lines = [] if self.rows.n else self.empty_text.splitlines()
            text = one_line(lines[index], self._view.width - 1) if index < len(lines) else ""
            return Strip([Segment(f" {text}", ground + self._tone("dim"))])
        row = self.rows.get(index)
        if row is None:
            return Strip([Segment(" ···", ground + self._tone("dim"))])
        if self.is_dim is not None and self.is_dim(row):
            ground += self._tone("dim")
        marked = self.identity is not None and self.identity(row) in self.marked
        segments = [Segment("▌" if marked else " ", ground + self._tone("mark"))]
        for column, width in self._widths:
            segments.extend(self._cell(column, column.cell(row), width, ground))
            segments.append(Segment(" " * GAP, ground))
        return Strip(segments)

    def _cell(self, column: GridColumn, cell: Cell, width: int, ground: Style) -> list[Segment]:
        right = column.right
        spare = width - cell_width(cell)
        if isinstance(cell, str) or spare < 0:
            whole = _whole(cell)
            if self._names(column):
                whole = self._cuts.get(column.key, {}).get(whole) or both_ends(whole, width)
            return [Segment(self._fit(whole, width, right=right), ground)]
        parts = [Segment(text, ground + self._tone(tone)) for text, tone in cell]
        pad = Segment(" " * spare, ground)
        return [pad, *parts] if right else [*parts, pad]

    def _names(self, column: GridColumn) -> bool:
        """Whether a column holds the names of the rows."""
        return column.wide or column is self._columns[0]

    @staticmethod
    def _fit(text: str, width: int, *, right: bool) -> str:
        text = one_line(text, width)
        return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)

    # -- moving ----------------------------------------------------------------------------------

    def validate_cursor(self, value: int) -> int:
        """Keep the cursor on a row."""
        return max(0, min(value, self.rows.n - 1))

    def watch_cursor(self) -> None:
        """Scroll the row into view, and post the message."""
        self._cursor_moved()

    def _cursor_moved(self) -> None:
        height = max(1, self._view.height - 1)
        top = round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)
        self.refresh()
        self._want()
        self.post_message(self.Highlighted(self, self.cursor, self.current))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Request the rows that came into view."""
        super().watch_scroll_y(old_value, new_value)
        self._want()

    def _want(self) -> None:
        top = round(self.scroll_y)
        pages = self.rows.missing(top, top + self._view.height) if self._view.height else []
        if pages:
            self.post_message(self.PagesWanted(self, pages))

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """Move the cursor by screens."""
        self.cursor += by * max(1, self._view.height - 2)

    def action_edge(self, end: int) -> None:
        """Go to the first or the last row."""
        self.cursor = 0 if end < 0 else self.rows.n - 1

    def action_shift(self, by: int) -> None:
        """Scroll sideways."""
        self.scroll_to(x=self.scroll_x + by * 8, animate=False)

    def action_open(self) -> None:
        """Open the row under the cursor."""
        if (row := self.current) is not None:
            self.post_message(self.Opened(self, row))

    # -- sorting ---------------------------------------------------------------------------------

    def sort_by(self, key: str, *, descending: bool) -> None:
        """Mark the sorted column and post the message; the screen sorts the rows."""
        self.sort_key, self.descending = key, descending
        self.refresh()
        self.post_message(self.Sorted(self, key, descending=descending))

    def action_sort(self, by: int) -> None:
        """Sort by the neighbouring column."""
        keys = [c.key for c, _ in self._widths if c.sortable]
        if keys:
            start = -1 if by > 0 else 0
            place = keys.index(self.sort_key) if self.sort_key in keys else start
            self.sort_by(keys[(place + by) % len(keys)], descending=self.descending)

    def action_reverse(self) -> None:
        """Reverse the order."""
        if self.sort_key:
            self.sort_by(self.sort_key, descending=not self.descending)

    def on_click(self, event: events.Click) -> None:
        """Sort by a head; choose a row; open it with a second click."""
        if event.y == 0:
            left = 1 - self.scroll_offset.x
            for column, width in self._widths:
                if left <= event.x < left + width + GAP and column.sortable:
                    turn = column.key == self.sort_key
                    self.sort_by(
                        column.key, descending=not self.descending if turn else column.right
                    )
                left += width + GAP
            return
        index = event.y - 1 + self.scroll_offset.y
        if index < self.rows.n:
            self.cursor = index
            if event.chain == 2:
                self.action_open()

    def toggle_mark(self) -> str | None:
        """Mark or unmark the row under the cursor; return its name, or None where there is none."""
        row = self.current
        if row is None or self.identity is None:
            return None
        name = self.identity(row)
        self.marked ^= {name}
        self.refresh(Region(0, 0, *self.size))
        return name
