"""The traces of a slice: a table of any length, fetched as it comes into view."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from workbench import formats
from workbench.tui.asking import once
from workbench.tui.looking import LOOK_EVERY, newer
from workbench.tui.sliced import SlicedScreen
from workbench.tui.trace_columns import COLUMNS, FETCHED
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import PAGE, PagedRows, Row
from workbench.tui.widgets.slice_bar import SliceBar
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Snapshot, Store

Pages = dict[int, list[Row]]  # rows by the number of the page
OUTCOMES = ("right", "wrong", "failed")


class TracesScreen(SlicedScreen):
    """All traces of a slice, one a row."""

    SLICED = frozenset({"traces"})
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
        self.listing: Listing | None = None  # that the table shows …
        self.moment = ""  # … of which state of the store

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

    @property
    def shown_slice(self) -> str | None:
        """The slice that the table shows."""
        return None if self.listing is None else self.listing.text

    def wanted(self) -> "Listing":
        """The question of the table: which traces, in which order."""
        return Listing(self.bar.text, self.grid.sort_key, self.grid.descending)

    def refresh_view(self) -> None:
        """Count, and fetch the first page."""
        store, stamp = self.app.store, self.app.stamp
        self.ask("traces", self.wanted, partial(_first, store), partial(self._show, stamp))

    def _show(self, stamp: str, found: "Listed") -> None:
        self._stamp = stamp
        self.grid.empty_text = "no trace matches this slice"
        self.bar.show_fault(None)
        self._put(found)

    def _put(self, found: "Listed", *, keep: bool = False) -> None:
        """Show a list."""
        self.listing, self.moment = found.listing, found.moment
        self.n, self.total = found.n, found.total
        rows = PagedRows(found.n)
        for page, held in found.pages.items():
            rows.put(page, held)
        self.grid.show(rows, keep=keep, place=found.place)
        self.has_changed()

    def _follow(self, found: "Listed") -> bool:
        """Show a list of a newer store; not where the cursor has moved to a trace that it cannot place."""
        held = self._held()
        if held is not None and not found.knows(held):
            self._ask_look()
            return False
        self._put(found, keep=True)
        return True

    def _held(self) -> str | None:
        row = self.grid.current
        return None if row is None else str(row["trace_id"])

    def _shown(self) -> "tuple[Listing | None, str]":
        return self.listing, self.moment

    def _look(self) -> None:
        """Show what was collected meanwhile; the cursor stays on its trace."""
        if self.listing is not None and self.is_on_top and not self.is_busy:
            self._ask_look()

    def _ask_look(self) -> None:
        grid = self.grid
        top = round(grid.scroll_y)
        pages = {0, grid.cursor // PAGE, top // PAGE, (top + grid.size.height) // PAGE}
        view = View(self._stamp, sorted(pages), self._held())
        work = partial(_newer, self.app.store, view)
        self.ask("look", lambda: (self.wanted(), self.moment), work, self._looked, quiet=True)

    def _looked(self, found: "tuple[str, Listed] | None") -> None:
        self.has_looked()
        if found is not None and self._follow(found[1]):
            self.app.stamp = self._stamp = found[0]

    def has_failed(self, group: str, error: Exception) -> None:
        """Say what went wrong; a look that failed is made again."""
        if group == "look":
            self.warn(error)
        else:
            super().has_failed(group, error)

    def was_cancelled(self, group: str) -> None:
        """Say so; the arrow in the head is that of the rows that are there."""
        super().was_cancelled(group)
        if group == "traces" and (shown := self.listing) is not None:
            self.grid.sort_key, self.grid.descending = shown.key, shown.descending
            self.grid.refresh()

    def say_count(self) -> None:
        """Show how many there are, and where one is."""
        super().say_count()
        place = f"{formats.count(self.grid.cursor + 1)} / {formats.count(self.n)}" if self.n else ""
        self.query_one(TopBar).show(right=[(place, "")])

    def on_grid_pages_wanted(self, message: Grid.PagesWanted) -> None:
        """Fetch what came into view; an older wish that is out of view by now is dropped."""
        if self.listing is not None:
            view = View(self._stamp, message.pages, self._held())
            self.ask("rows", self._shown, partial(_pages, self.app.store, view), self._arrived)

    def _arrived(self, found: "tuple[Listed | None, Pages]") -> None:
        anew, pages = found
        rows = self.grid.rows
        if anew is not None:
            self._follow(anew)
        elif isinstance(rows, PagedRows):
            for page, held in pages.items():
                rows.put(page, held)
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
            self.ask("diff", once, lambda *_: store.detail(trace_id).facts, partial(compare, self))

    def action_copy(self) -> None:
        """Copy the list as SQL, Polars, a notebook cell, a command, or the row."""
        from workbench.tui.copying import CopyScreen, listing_texts, row_texts

        if (shown := self.listing) is not None:
            texts = listing_texts(
                self.app.store.path, shown.text, shown.key, descending=shown.descending
            )
            self.app.push_screen(CopyScreen(texts | row_texts(self.grid.current)))

    def action_back(self) -> None:
        """Cancel what runs; else go back."""
        if not self.stop_asking():
            self.app.pop_screen()


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What of a listing is looked at.

    Attributes:
        stamp: of the store, as far as it is shown.
        pages: those in view.
        trace_id: of the trace under the cursor.
    """

    stamp: str
    pages: Sequence[int]
    trace_id: str | None


@dataclasses.dataclass(frozen=True)
class Listing:
    """Which traces, in which order; its methods run in a thread."""

    text: str
    key: str
    descending: bool

    def first(self, store: "Store", cancel: "Cancel") -> "Listed":
        """Count the slice and the store, and fetch the first page."""
        with store.snapshot(cancel=cancel) as held:
            return self._read(held, [0])

    def newer(self, store: "Store", view: View, cancel: "Cancel") -> "tuple[str, Listed] | None":
        """Read the list anew, and the store's new stamp; None where nothing changed since the old one."""
        found = newer(store, view.stamp)
        if found is None:
            return None
        with store.snapshot(cancel=cancel) as held:
            return found, self._anew(held, view)

    def pages(
        self, store: "Store", view: View, moment: str, cancel: "Cancel"
    ) -> "tuple[Listed | None, Pages]":
        """Fetch neighbouring pages of the list of a moment; of a store that changed, the list anew."""
        with store.snapshot(cancel=cancel) as held:
            if held.moment != moment:
                return self._anew(held, view), {}
            return None, self._rows(held, view.pages)

    def _anew(self, held: "Snapshot", view: View) -> "Listed":
        """Read the pages in view, and those around the trace under the cursor, which may have moved."""
        place = None
        if view.trace_id is not None:
            place = held.place(
                view.trace_id, self.text, order_by=self.key, descending=self.descending
            )
        pages = {*view.pages} if place is None else {*view.pages, place // PAGE}
        found = self._read(held, sorted(pages))
        return dataclasses.replace(found, trace_id=view.trace_id, place=place)

    def _read(self, held: "Snapshot", pages: Sequence[int]) -> "Listed":
        n, total = held.count(self.text), held.count()
        rows = {page: self._rows(held, [page])[page] for page in pages}
        return Listed(self, held.moment, n, total, rows)

    def _rows(self, held: "Snapshot", pages: Sequence[int]) -> Pages:
        """Fetch neighbouring pages with one query."""
        frame = held.page(
            self.text,
            columns=FETCHED,
            order_by=self.key,
            descending=self.descending,
            offset=pages[0] * PAGE,
            limit=len(pages) * PAGE,
        )
        rows: list[Row] = [*frame.iter_rows(named=True)]
        return {page: rows[i * PAGE : (i + 1) * PAGE] for i, page in enumerate(pages)}


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """Pages of a list with its counts, all of one moment of the store.

    Attributes:
        moment: of the snapshot that all of it was read from.
        n, total: traces of the slice, and of the store.
        pages: rows by the number of the page.
        trace_id: of the trace that was asked for.
        place: where it is; None where the slice lacks it.
    """

    listing: Listing
    moment: str
    n: int
    total: int
    pages: Pages
    trace_id: str | None = None
    place: int | None = None

    def knows(self, trace_id: str) -> bool:
        """Whether it says where a trace is, or that the slice lacks it."""
        here = (row["trace_id"] for rows in self.pages.values() for row in rows)
        return trace_id == self.trace_id or trace_id in here


def _first(store: "Store", listing: Listing, cancel: "Cancel") -> Listed:
    return listing.first(store, cancel)


def _newer(
    store: "Store", view: View, asked: tuple[Listing, str], cancel: "Cancel"
) -> tuple[str, Listed] | None:
    return asked[0].newer(store, view, cancel)


def _pages(
    store: "Store", view: View, shown: tuple[Listing | None, str], cancel: "Cancel"
) -> tuple[Listed | None, Pages]:
    listing, moment = shown
    assert listing is not None
    return listing.pages(store, view, moment, cancel)
