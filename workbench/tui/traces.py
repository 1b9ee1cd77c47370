"""The traces of a slice: a table of any length, fetched as it comes into view."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from workbench import formats
from workbench.tui.looking import LOOK_EVERY, newer
from workbench.tui.sliced import SlicedScreen
from workbench.tui.trace_columns import COLUMNS, FETCHED
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import PAGE, PagedRows, Row, Rows
from workbench.tui.widgets.slice_bar import SliceBar
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store

OUTCOMES = ("right", "wrong", "failed")


class TracesScreen(SlicedScreen):
    """All traces of a slice, one a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "trace", show=True),
        Binding("r", "only('right')", "right"),
        Binding("w", "only('wrong')", "wrong"),
        Binding("e", "only('failed')", "failed"),
        Binding("m,space", "mark", "mark for comparing", show=False),
        Binding("d", "diff", "diff with the marked trace, or another", show=False),
        Binding("less_than_sign,greater_than_sign", "none", "sort", key_display="< >"),
        Binding("y", "copy", "copy as…"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._stamp = ""

    def compose(self) -> ComposeResult:
        """Build the bar and the table."""
        yield TopBar(
            [("workbench", "primary"), ("  ", ""), (self.app.store_name, ""), (" › traces", "")]
        )
        yield SliceBar(self._text, id="slice")
        yield Grid(COLUMNS, id="traces")
        yield KeyBar()

    def on_mount(self) -> None:
        """Ask for the first rows."""
        self.grid.identity = lambda row: str(row["trace_id"])
        self.grid.sort_key = "started_at"
        self.grid.marked = self.app.marked
        self.grid.focus()
        self.refresh_view()
        self.set_interval(LOOK_EVERY, self._look)

    def on_screen_resume(self) -> None:
        """Show what was marked elsewhere."""
        self.grid.refresh()

    # -- rows --------------------------------------------------------------------------------------

    def refresh_view(self) -> None:
        """Count, and fetch the first page."""
        self.ask("traces", self._listing().first, partial(self._show, self.app.stamp))

    def _listing(self) -> "Listing":
        grid = self.grid
        return Listing(self.app.store, self.bar.text, grid.sort_key, grid.descending)

    def _show(self, stamp: str, found: tuple[int, int, list[Row]]) -> None:
        self._stamp = stamp
        self.n, self.total, first = found
        rows = PagedRows(self.n)
        rows.put(0, first)
        self.grid.empty_text = "no trace matches this slice"
        self.grid.show(rows)
        self.bar.show_fault(None)
        self.say_count()

    def _look(self) -> None:
        """Show what was collected meanwhile; the cursor stays on its trace."""
        if self.n is not None and self.is_on_top and not self.is_busy:
            grid = self.grid
            top = round(grid.scroll_y)
            pages = {0, grid.cursor // PAGE, top // PAGE, (top + grid.size.height) // PAGE}
            work = partial(self._listing().newer, self._stamp, sorted(pages))
            self.ask("look", work, self._looked, quiet=True)

    def _looked(self, found: tuple[str, int, int, dict[int, list[Row]]] | None) -> None:
        if found is None:
            return
        self.app.stamp = self._stamp = found[0]
        _, self.n, self.total, pages = found
        rows = PagedRows(self.n)
        for page, held in pages.items():
            rows.put(page, held)
        self.grid.show(rows, keep=True)
        self.say_count()

    def has_failed(self, group: str, error: Exception) -> None:
        """Say what went wrong; a look that failed is made again."""
        if group != "look":
            super().has_failed(group, error)

    def say_count(self) -> None:
        """Show how many there are, and where one is."""
        super().say_count()
        place = f"{formats.count(self.grid.cursor + 1)} / {formats.count(self.n)}" if self.n else ""
        self.query_one(TopBar).show(right=[(place, "")])

    def on_grid_pages_wanted(self, message: Grid.PagesWanted) -> None:
        """Fetch what came into view; an older wish that is out of view by now is dropped."""
        work = partial(self._listing().pages, message.pages)
        self.ask("rows", work, partial(self._arrived, self.grid.rows))

    def _arrived(self, rows: Rows, pages: dict[int, list[Row]]) -> None:
        if isinstance(rows, PagedRows) and rows is self.grid.rows:
            for page, found in pages.items():
                rows.put(page, found)
            self.grid.arrived()

    def on_grid_sorted(self) -> None:
        """Ask in the new order."""
        self.refresh_view()

    def on_grid_highlighted(self) -> None:
        """Say where one is."""
        if self.total is not None:
            self.say_count()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Show one trace."""
        from workbench.tui.trace import TraceScreen

        self.app.push_screen(TraceScreen(str(message.row["trace_id"])))

    # -- keys --------------------------------------------------------------------------------------

    def action_only(self, flag: str) -> None:
        """Switch to the right, the wrong or the failed ones, or back to all."""
        from workbench.tui import slices

        others = tuple(o for o in OUTCOMES if o != flag)
        self.bar.apply(slices.flagged(self.bar.text, flag, others))

    def action_mark(self) -> None:
        """Mark the trace for comparing, or take the mark away."""
        self.grid.toggle_mark()

    def action_diff(self) -> None:
        """Compare the trace with the marked one, or with one of the same item."""
        from workbench.tui.choosing import compare

        row, store = self.grid.current, self.app.store
        if row is not None:
            trace_id = str(row["trace_id"])
            self.ask("diff", lambda _: store.detail(trace_id).facts, partial(compare, self))

    def action_copy(self) -> None:
        """Copy the slice as SQL, Polars, a notebook cell, or the row."""
        from workbench.tui.copying import CopyScreen, view_texts

        self.app.push_screen(
            CopyScreen(view_texts(self.app.store.path, self.bar.text, None, self.grid.current))
        )

    def action_back(self) -> None:
        """Cancel what runs; else go back."""
        if not self.stop_asking():
            self.app.pop_screen()


@dataclasses.dataclass(frozen=True)
class Listing:
    """Which traces, in which order."""

    store: "Store"
    text: str
    key: str
    descending: bool

    def first(self, cancel: "Cancel") -> tuple[int, int, list[Row]]:
        """Count the slice and the store, and fetch the first page."""
        n, total = self.store.count(self.text, cancel=cancel), self.store.count(cancel=cancel)
        return n, total, self.pages([0], cancel)[0]

    def newer(
        self, stamp: str, pages: Sequence[int], cancel: "Cancel"
    ) -> tuple[str, int, int, dict[int, list[Row]]] | None:
        """Count again and fetch some pages, each by itself; None where nothing changed since a stamp."""
        found = newer(self.store, stamp)
        if found is None:
            return None
        n, total = self.store.count(self.text, cancel=cancel), self.store.count(cancel=cancel)
        return found, n, total, {page: self.pages([page], cancel)[page] for page in pages}

    def pages(self, pages: Sequence[int], cancel: "Cancel") -> dict[int, list[Row]]:
        """Fetch neighbouring pages with one query."""
        frame = self.store.page(
            self.text,
            columns=FETCHED,
            order_by=self.key,
            descending=self.descending,
            offset=pages[0] * PAGE,
            limit=len(pages) * PAGE,
            cancel=cancel,
        )
        rows: list[Row] = [*frame.iter_rows(named=True)]
        return {page: rows[i * PAGE : (i + 1) * PAGE] for i, page in enumerate(pages)}
