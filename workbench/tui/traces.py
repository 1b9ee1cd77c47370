"""Traces screen: the traces of a slice as a table that fetches the rows in view."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from workbench import formats
from workbench.tui.queries import always_current
from workbench.tui.slice_screen import SliceScreen
from workbench.tui.store_watch import POLL_EVERY_S, updated_stamp
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


class TracesScreen(SliceScreen):
    """All traces of a slice, one per row."""

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
        self.listing: Listing | None = None  # the listing that the table shows
        self.moment = ""  # the snapshot that it is read from

    def compose(self) -> ComposeResult:
        """Build the bar and the table."""
        yield TopBar(
            [("workbench", "primary"), ("  ", ""), (self.app.store_name, ""), (" › traces", "")]
        )
        yield SliceBar(self._text, id="slice")
        yield Grid(COLUMNS, id="traces")
        yield KeyBar()

    def on_mount(self) -> None:
        """Query the first rows."""
        self.grid.identity = lambda row: str(row["trace_id"])
        self.grid.sort_key = "started_at"
        self.grid.marked = self.app.marked
        self.grid.focus()
        self.refresh_view()
        self.set_interval(POLL_EVERY_S, self._poll)

    def on_screen_resume(self) -> None:
        """Show traces that were marked on other screens."""
        self.grid.refresh()

    # -- rows --------------------------------------------------------------------------------------

    @property
    def shown_slice(self) -> str | None:
        """The slice that the table shows."""
        return None if self.listing is None else self.listing.text

    def wanted(self) -> "Listing":
        """Return the question of the table: slice and order."""
        return Listing(self.bar.text, self.grid.sort_key, self.grid.descending)

    def refresh_view(self) -> None:
        """Query the counts and the first page."""
        store, stamp = self.app.store, self.app.stamp
        self.run_query("traces", self.wanted, partial(_first, store), partial(self._show, stamp))

    def _show(self, stamp: str, listed: "Listed") -> None:
        self._stamp = stamp
        self.grid.empty_text = "no trace matches this slice"
        self.bar.show_fault(None)
        self._show_listing(listed)

    def _show_listing(self, listed: "Listed", *, keep: bool = False) -> None:
        """Show a listing."""
        self.listing, self.moment = listed.listing, listed.moment
        self.n, self.total = listed.n, listed.total
        rows = PagedRows(listed.n)
        for page, page_rows in listed.pages.items():
            rows.put(page, page_rows)
        self.grid.show(rows, keep=keep, place=listed.place)
        self.has_changed()

    def _follow(self, listed: "Listed") -> bool:
        """Show a newer listing, unless it does not contain the trace that the cursor is on now."""
        current = self._current_id()
        if current is not None and not listed.knows(current):
            self._query_newer()
            return False
        self._show_listing(listed, keep=True)
        return True

    def _current_id(self) -> str | None:
        row = self.grid.current
        return None if row is None else str(row["trace_id"])

    def _shown(self) -> "tuple[Listing | None, str]":
        return self.listing, self.moment

    def _poll(self) -> None:
        """Query the traces collected meanwhile; the cursor stays on its trace."""
        if self.listing is not None and self.is_on_top and not self.is_busy:
            self._query_newer()

    def _query_newer(self) -> None:
        grid = self.grid
        top = round(grid.scroll_y)
        pages = {0, grid.cursor // PAGE, top // PAGE, (top + grid.size.height) // PAGE}
        view = View(self._stamp, sorted(pages), self._current_id())
        work = partial(_newer, self.app.store, view)
        self.run_query(
            "look", lambda: (self.wanted(), self.moment), work, self._on_newer, quiet=True
        )

    def _on_newer(self, newer: "tuple[str, Listed] | None") -> None:
        self.has_looked()
        if newer is not None and self._follow(newer[1]):
            self.app.stamp = self._stamp = newer[0]

    def has_failed(self, group: str, error: Exception) -> None:
        """Warn of a failed poll, which is repeated; show any other error."""
        if group == "look":
            self.warn(error)
        else:
            super().has_failed(group, error)

    def was_cancelled(self, group: str) -> None:
        """Notify it, and restore the sort column of the rows on screen."""
        super().was_cancelled(group)
        if group == "traces" and (shown := self.listing) is not None:
            self.grid.sort_key, self.grid.descending = shown.key, shown.descending
            self.grid.refresh()

    def say_count(self) -> None:
        """Show the counts, and the position of the cursor."""
        super().say_count()
        place = f"{formats.count(self.grid.cursor + 1)} / {formats.count(self.n)}" if self.n else ""
        self.query_one(TopBar).show(right=[(place, "")])

    def on_grid_pages_wanted(self, message: Grid.PagesWanted) -> None:
        """Fetch the pages in view; an older request is replaced."""
        if self.listing is not None:
            view = View(self._stamp, message.pages, self._current_id())
            self.run_query(
                "rows", self._shown, partial(_pages, self.app.store, view), self._on_pages
            )

    def _on_pages(self, answer: "tuple[Listed | None, Pages]") -> None:
        anew, pages = answer
        rows = self.grid.rows
        if anew is not None:
            self._follow(anew)
        elif isinstance(rows, PagedRows):
            for page, page_rows in pages.items():
                rows.put(page, page_rows)
            self.grid.arrived()

    def on_grid_sorted(self) -> None:
        """Query the rows in the new order."""
        self.refresh_view()

    def on_grid_highlighted(self) -> None:
        """Show the position of the cursor."""
        if self.total is not None:
            self.say_count()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Open the trace."""
        from workbench.tui.trace import TraceScreen

        self.app.push_screen(TraceScreen(str(message.row["trace_id"])))

    # -- keys --------------------------------------------------------------------------------------

    def action_only(self, flag: str) -> None:
        """Show only right, wrong or failed traces, or all again."""
        from workbench.tui import slice_edits

        others = tuple(o for o in OUTCOMES if o != flag)
        self.bar.apply(slice_edits.flagged(self.bar.text, flag, others))

    def action_mark(self) -> None:
        """Mark or unmark the trace for comparison."""
        self.grid.toggle_mark()

    def action_diff(self) -> None:
        """Compare the trace with the marked one, or with one of the same item."""
        from workbench.tui.trace_choice import compare

        row, store = self.grid.current, self.app.store
        if row is not None:
            trace_id = str(row["trace_id"])
            self.run_query(
                "diff",
                always_current,
                lambda *_: store.detail(trace_id).facts,
                partial(compare, self),
            )

    def action_copy(self) -> None:
        """Copy the list as SQL, Polars, a notebook cell, a command, or the row."""
        from workbench.tui.copying import CopyScreen, listing_texts, row_texts

        if (shown := self.listing) is not None:
            texts = listing_texts(
                self.app.store.path, shown.text, shown.key, descending=shown.descending
            )
            self.app.push_screen(CopyScreen(texts | row_texts(self.grid.current)))

    def action_back(self) -> None:
        """Cancel the running query; else go back."""
        if not self.cancel_queries():
            self.app.pop_screen()


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """The part of a listing that is on screen.

    Attributes:
        stamp: stamp of the store's state that is shown.
        pages: numbers of the pages in view.
        trace_id: id of the trace under the cursor.
    """

    stamp: str
    pages: Sequence[int]
    trace_id: str | None


@dataclasses.dataclass(frozen=True)
class Listing:
    """A slice and an order of its traces; the methods run in a thread."""

    text: str
    key: str
    descending: bool

    def first(self, store: "Store", cancel: "Cancel") -> "Listed":
        """Count the slice and the store, and fetch the first page."""
        with store.snapshot(cancel=cancel) as snapshot:
            return self._read(snapshot, [0])

    def newer(self, store: "Store", view: View, cancel: "Cancel") -> "tuple[str, Listed] | None":
        """Return the store's new stamp and the listing read again; None if nothing changed."""
        stamp = updated_stamp(store, view.stamp)
        if stamp is None:
            return None
        with store.snapshot(cancel=cancel) as snapshot:
            return stamp, self._reread(snapshot, view)

    def pages(
        self, store: "Store", view: View, moment: str, cancel: "Cancel"
    ) -> "tuple[Listed | None, Pages]":
        """Fetch neighbouring pages; if the store has changed since `moment`, reread the listing."""
        with store.snapshot(cancel=cancel) as snapshot:
            if snapshot.moment != moment:
                return self._reread(snapshot, view), {}
            return None, self._rows(snapshot, view.pages)

    def _reread(self, snapshot: "Snapshot", view: View) -> "Listed":
        """Read the pages in view and the page of the trace under the cursor, which may move."""
        place = None
        if view.trace_id is not None:
            place = snapshot.place(
                view.trace_id, self.text, order_by=self.key, descending=self.descending
            )
        pages = {*view.pages} if place is None else {*view.pages, place // PAGE}
        listed = self._read(snapshot, sorted(pages))
        return dataclasses.replace(listed, trace_id=view.trace_id, place=place)

    def _read(self, snapshot: "Snapshot", pages: Sequence[int]) -> "Listed":
        n = snapshot.count(self.text)
        total = snapshot.count()
        rows = {page: self._rows(snapshot, [page])[page] for page in pages}
        return Listed(self, snapshot.moment, n, total, rows)

    def _rows(self, snapshot: "Snapshot", pages: Sequence[int]) -> Pages:
        """Fetch neighbouring pages with one query."""
        frame = snapshot.page(
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
    """Pages of a listing with its counts, all from one snapshot of the store.

    Attributes:
        listing: slice and order.
        moment: moment of the snapshot.
        n, total: number of traces in the slice and in the store.
        pages: rows by page number.
        trace_id: id of the trace that was located.
        place: its index in the listing; None if the slice lacks it.
    """

    listing: Listing
    moment: str
    n: int
    total: int
    pages: Pages
    trace_id: str | None = None
    place: int | None = None

    def knows(self, trace_id: str) -> bool:
        """Whether the pages contain a trace, or `place` locates it."""
        here = (row["trace_id"] for rows in self.pages.values() for row in rows)
        return trace_id == self.trace_id or trace_id in here


def _first(store: "Store", listing: Listing, cancel: "Cancel") -> Listed:
    return listing.first(store, cancel)


def _newer(
    store: "Store", view: View, question: tuple[Listing, str], cancel: "Cancel"
) -> tuple[str, Listed] | None:
    return question[0].newer(store, view, cancel)


def _pages(
    store: "Store", view: View, shown: tuple[Listing | None, str], cancel: "Cancel"
) -> tuple[Listed | None, Pages]:
    listing, moment = shown
    assert listing is not None
    return listing.pages(store, view, moment, cancel)
