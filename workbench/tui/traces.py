"""The traces of a slice: a table of any length, fetched as it comes into view."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from workbench import formats
from workbench.safe import one_line
from workbench.schema import TRACE_FACTS
from workbench.tui.outcomes import outcome
from workbench.tui.sliced import SlicedScreen
from workbench.tui.widgets.grid import Cell, Grid, GridColumn
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import PAGE, PagedRows, Row, Rows
from workbench.tui.widgets.slice_bar import SliceBar
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store

OUTCOMES = ("right", "wrong", "failed")


def _outcome(row: Row) -> Cell:
    return [outcome(row)]


def _text(key: str, width: int = 60) -> Any:
    return lambda row: formats.UNKNOWN if row[key] is None else one_line(row[key], width)


def _number(key: str) -> Any:
    column = TRACE_FACTS[key]
    return lambda row: formats.value_text(row[key], column)


def _answer(row: Row) -> Cell:
    if row["error_type"] is not None:
        return [(one_line(row["error_type"], 40), "warn")]
    shown: Cell = _text("answer")(row)
    return shown


COLUMNS = (
    GridColumn("passed", "", _outcome, most=2),
    GridColumn("task", "task", _text("task"), most=24),
    GridColumn("item", "item", _text("item"), most=20),
    GridColumn("trial", "trial", _number("trial"), right=True, rank=3),
    GridColumn("configuration", "configuration", _text("configuration"), most=36, rank=4),
    GridColumn("answer", "answer", _answer, wide=True, most=40),
    GridColumn("cost_usd", "$", _number("cost_usd"), right=True),
    GridColumn("e2e_s", "s", _number("e2e_s"), right=True),
    GridColumn("input_tokens", "in", _number("input_tokens"), right=True, rank=5),
    GridColumn("output_tokens", "out", _number("output_tokens"), right=True),
    GridColumn("reasoning_tokens", "think", _number("reasoning_tokens"), right=True),
    GridColumn("n_turns", "turns", _number("n_turns"), right=True, rank=6),
    GridColumn("n_tool_calls", "tools", _number("n_tool_calls"), right=True, rank=6),
    GridColumn("energy_j", "J", _number("energy_j"), right=True, rank=7),
    GridColumn("stop_reason", "stop", _text("stop_reason"), most=14, rank=7),
    GridColumn("started_at", "started (UTC)", _number("started_at"), rank=7),
)
FETCHED = ("trace_id", "error_type", "score", *(c.key for c in COLUMNS))


class TracesScreen(SlicedScreen):
    """All traces of a slice, one a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "trace", show=True),
        Binding("r", "only('right')", "right"),
        Binding("w", "only('wrong')", "wrong"),
        Binding("e", "only('failed')", "failed"),
        Binding("less_than_sign,greater_than_sign", "none", "sort", key_display="< >"),
        Binding("y", "copy", "copy as…"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

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
        self.grid.focus()
        self.refresh_view()

    # -- rows --------------------------------------------------------------------------------------

    def refresh_view(self) -> None:
        """Count, and fetch the first page."""
        self.ask("traces", self._listing().first, self._show)

    def _listing(self) -> "Listing":
        grid = self.grid
        return Listing(self.app.store, self.bar.text, grid.sort_key, grid.descending)

    def _show(self, found: tuple[int, int, list[Row]]) -> None:
        self.n, self.total, first = found
        rows = PagedRows(self.n)
        rows.put(0, first)
        self.grid.empty_text = "no trace matches this slice"
        self.grid.show(rows)
        self.bar.show_fault(None)
        self.say_count()

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
