"""What the screens with a slice bar share: counting and suggesting while typing, applying, undoing."""

from functools import partial
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.timer import Timer

from workbench.errors import SliceError
from workbench.tui.asking import AskingScreen
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.slice_bar import SliceBar

PAUSE = 0.12  # seconds of typing pause before counting


class SlicedScreen(AskingScreen):
    """A slice bar over a grid; `refresh_view` asks everything again for the slice in force."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter"),
        Binding("u", "undo", "slice before", show=False),
        Binding("U", "redo", "slice after", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.n: int | None = None  # traces of the slice in force
        self.total: int | None = None  # traces of the store
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

    def refresh_view(self) -> None:
        """Ask everything again."""
        raise NotImplementedError

    def say_count(self) -> None:
        """Show how many traces the slice selects."""
        self.bar.show_count(self.n, self.total)

    def running_changed(self, *, running: bool) -> None:
        """Say so in the slice bar."""
        if running:
            self.bar.show_running()
        else:
            self.say_count()

    def has_failed(self, group: str, error: Exception) -> None:
        """Show what is wrong with the slice beside it."""
        if isinstance(error, SliceError):
            self.bar.show_fault(error)
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
        fault, store = slices.fault(text), self.app.store
        unfinished = fault is not None and fault.column >= text.rfind(" ", 0, max(cursor, 0)) + 1
        self.bar.show_fault(None if unfinished else fault)
        if fault is None:
            self.ask("count", lambda c: store.count(text, cancel=c), self._counted, quiet=True)
        if cursor >= 0:
            work = partial(slices.suggestions, store, text, cursor)
            self.ask("complete", lambda _: work(), self.bar.suggest, quiet=True)

    def _counted(self, n: int) -> None:
        self.bar.show_count(n, self.total)

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
