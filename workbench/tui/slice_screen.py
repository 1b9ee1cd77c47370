"""Base of screens with a slice bar: counts and completions while typing, apply, undo."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.timer import Timer

from workbench.errors import QueryError, SliceError
from workbench.tui.queries import Query, QueryScreen
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.slice_bar import SliceBar

if TYPE_CHECKING:
    from workbench.slice import Completion
    from workbench.store import Cancel, Store

TYPING_PAUSE_S = 0.12  # before a line that is typed is counted


class SliceScreen(QueryScreen):
    """A slice bar over a grid; `refresh_view` runs all queries for the slice in force."""

    SLICED: ClassVar[frozenset[str]]  # groups of queries whose errors are errors of the slice
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter"),
        Binding("u", "undo", "slice before", show=False),
        Binding("U", "redo", "slice after", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.n: int | None = None  # traces of the slice in force
        self.total: int | None = None  # traces of the store
        self._counts: dict[str, tuple[int, int]] = {}  # by the line that was typed last
        self._pause: Timer | None = None

    @property
    def grid(self) -> Grid:
        """The table."""
        return self.query_one(Grid)

    @property
    def bar(self) -> SliceBar:
        """The slice bar."""
        return self.query_one(SliceBar)

    @property
    def is_busy(self) -> bool:
        """Whether any query runs, or will run when the typing pauses."""
        return self._pause is not None or super().is_busy

    @property
    def shown_slice(self) -> str | None:
        """The slice that the table shows; None before the first result."""
        raise NotImplementedError

    def refresh_view(self) -> None:
        """Run all queries again."""
        raise NotImplementedError

    def say_count(self) -> None:
        """Show how many traces the slice selects; while the user types, those of the typed line.

        A slice without a result yet, or with an error, has no count.
        """
        line = self._line()
        if line == self.bar.text:
            if self.shown_slice in {line, None}:
                self.bar.show_count(self.n, self.total)
        elif line in self._counts:
            self.bar.show_count(*self._counts[line])

    def has_changed(self) -> None:
        """Update the counts after the store changed: of the slice and of the typed line."""
        self.say_count()
        if self._line() != self.bar.text:
            self._count_line()

    def running_changed(self, *, running: bool) -> None:
        """Show it in the slice bar."""
        if running:
            self.bar.show_running(self.running_text)
        else:
            self.say_count()

    def has_failed(self, group: str, error: Exception) -> None:
        """Show an error of the slice beside the slice bar."""
        if isinstance(error, SliceError):
            self.bar.show_fault(error)
        elif isinstance(error, QueryError) and group in {*self.SLICED, "count", "complete"}:
            self.bar.show_refusal(str(error))
        else:
            super().has_failed(group, error)

    def on_slice_bar_typed(self, message: SliceBar.Typed) -> None:
        """Count and complete when the typing pauses."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(
            TYPING_PAUSE_S, partial(self._typed, message.text, message.cursor)
        )

    def _typed(self, text: str, cursor: int) -> None:
        from workbench.tui import slice_edits

        self._pause = None
        if self.app.opened is None:
            return
        fault = slice_edits.fault(text)
        unfinished = fault is not None and fault.column >= text.rfind(" ", 0, max(cursor, 0)) + 1
        self.bar.show_fault(None if unfinished else fault)
        if fault is None:
            self._count_line()
        if cursor >= 0:
            work = partial(_suggestions, self.app.store, cursor)
            self.run_query("complete", self._line, work, self.bar.suggest, quiet=True)

    def _line(self) -> str:
        """Return the typed line, the question of counts and completions."""
        return self.bar.input.value

    def _count_line(self) -> None:
        from workbench.tui import slice_edits

        if slice_edits.fault(self._line()) is None:
            work = partial(_count, self.app.store)
            self.run_query("count", self._line, work, self._counted, quiet=True)

    def _counted(self, counts: tuple[int, int]) -> None:
        self._counts = {self._line(): counts}
        self.bar.show_count(*counts)

    def was_overtaken(self, query: Query) -> None:
        """Leave counts and completions to the next typing pause."""
        if query.group not in {"count", "complete"}:
            super().was_overtaken(query)

    def on_slice_bar_applied(self, message: SliceBar.Applied) -> None:
        """Run the queries of the new slice, or show its error."""
        from workbench.tui import slice_edits

        fault = slice_edits.fault(message.text)
        self.bar.show_fault(fault)
        if fault is None and self.app.opened is not None:
            if self.bar.has_focus_within:
                self.grid.focus()
            self.refresh_view()

    def on_slice_bar_left(self) -> None:
        """Go back to the table."""
        self.say_count()
        self.grid.focus()

    def action_filter(self) -> None:
        """Go to the slice bar."""
        self.bar.input.focus()

    def action_undo(self) -> None:
        """Go back to the slice before."""
        self.bar.undo()

    def action_redo(self) -> None:
        """Go forward again."""
        self.bar.redo()

    def action_open(self) -> None:
        """Open the row under the cursor."""
        self.grid.action_open()


def _count(store: "Store", text: str, cancel: "Cancel") -> tuple[int, int]:
    """Count the traces of a line and of the store, in one snapshot."""
    with store.snapshot(cancel=cancel) as snapshot:
        return snapshot.count(text, cancel=cancel), snapshot.count(cancel=cancel)


def _suggestions(store: "Store", cursor: int, text: str, _: "Cancel") -> "list[Completion]":
    from workbench.tui import slice_edits

    return slice_edits.suggestions(store, text, cursor)
