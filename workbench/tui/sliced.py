"""What the screens with a slice bar share: counting and suggesting while typing, applying, undoing."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.timer import Timer

from workbench.errors import QueryError, SliceError
from workbench.tui.asking import AskingScreen, Ticket
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.slice_bar import SliceBar

if TYPE_CHECKING:
    from workbench.slice import Completion
    from workbench.store import Cancel, Store

PAUSE = 0.12  # seconds of typing pause before counting


class SlicedScreen(AskingScreen):
    """A slice bar over a grid; `refresh_view` asks everything again for the slice in force."""

    SLICED: ClassVar[frozenset[str]]  # groups of questions that hang on the slice alone
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
        """Whether any question is open, or about to be asked when the typing pauses."""
        return self._pause is not None or super().is_busy

    @property
    def shown_slice(self) -> str | None:
        """The slice that the table shows; None where it shows nothing yet."""
        raise NotImplementedError

    def refresh_view(self) -> None:
        """Ask everything again."""
        raise NotImplementedError

    def say_count(self) -> None:
        """Show how many traces the slice selects; while somebody types, how many the line does.

        A slice that has no answer yet, or was refused, has no count.
        """
        line = self._line()
        if line == self.bar.text:
            if self.shown_slice in {line, None}:
                self.bar.show_count(self.n, self.total)
        elif line in self._counts:
            self.bar.show_count(*self._counts[line])

    def has_changed(self) -> None:
        """Count anew after the store changed: the slice, and the line that is being typed."""
        self.say_count()
        if self._line() != self.bar.text:
            self._count_line()

    def running_changed(self, *, running: bool) -> None:
        """Say so in the slice bar."""
        if running:
            self.bar.show_running(self.running_text)
        else:
            self.say_count()

    def has_failed(self, group: str, error: Exception) -> None:
        """Show what is wrong with the slice beside it."""
        if isinstance(error, SliceError):
            self.bar.show_fault(error)
        elif isinstance(error, QueryError) and group in {*self.SLICED, "count", "complete"}:
            self.bar.show_refusal(str(error))
        else:
            super().has_failed(group, error)

    def on_slice_bar_typed(self, message: SliceBar.Typed) -> None:
        """Count and suggest once the typing pauses."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(PAUSE, partial(self._typed, message.text, message.cursor))

    def _typed(self, text: str, cursor: int) -> None:
        from workbench.tui import slices

        self._pause = None
        if self.app.opened is None:
            return
        fault = slices.fault(text)
        unfinished = fault is not None and fault.column >= text.rfind(" ", 0, max(cursor, 0)) + 1
        self.bar.show_fault(None if unfinished else fault)
        if fault is None:
            self._count_line()
        if cursor >= 0:
            work = partial(_suggestions, self.app.store, cursor)
            self.ask("complete", self._line, work, self.bar.suggest, quiet=True)

    def _line(self) -> str:
        """The question while somebody types: the line as it stands."""
        return self.bar.input.value

    def _count_line(self) -> None:
        from workbench.tui import slices

        if slices.fault(self._line()) is None:
            work = partial(_count, self.app.store)
            self.ask("count", self._line, work, self._counted, quiet=True)

    def _counted(self, counts: tuple[int, int]) -> None:
        self._counts = {self._line(): counts}
        self.bar.show_count(*counts)

    def was_overtaken(self, ticket: Ticket) -> None:
        """What was typed meanwhile is asked when the typing pauses, if it can be."""
        if ticket.group not in {"count", "complete"}:
            super().was_overtaken(ticket)

    def on_slice_bar_applied(self, message: SliceBar.Applied) -> None:
        """Ask for the new slice, unless it is none."""
        from workbench.tui import slices

        fault = slices.fault(message.text)
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
    """Count what a line selects, and the store, at one moment."""
    with store.snapshot(cancel=cancel) as held:
        return held.count(text, cancel=cancel), held.count(cancel=cancel)


def _suggestions(store: "Store", cursor: int, text: str, _: "Cancel") -> "list[Completion]":
    from workbench.tui import slices

    return slices.suggestions(store, text, cursor)
