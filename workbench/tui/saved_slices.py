"""Windows for saved slices: one to name a slice, one to select a saved slice."""

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from workbench.safe import one_line

NONE_YET = "no slice is saved yet; s saves the present one"


class NameScreen(ModalScreen[str | None]):
    """Window that asks for a name."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "close", show=False)]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Build the window."""
        with Vertical(classes="window") as window:
            window.border_title = "save slice"
            yield Static(one_line(self._text or "all traces", 70), markup=False)
            yield Input(placeholder="name", max_length=80)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Return the name."""
        self.dismiss(message.value.strip() or None)

    def action_leave(self) -> None:
        """Close the window without a result."""
        self.dismiss(None)


class SavedScreen(ModalScreen[str | None]):
    """Window that lists the saved slices."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "close", show=False),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, slices: Mapping[str, str]) -> None:
        super().__init__()
        self._slices = slices

    def compose(self) -> ComposeResult:
        """List names and filters."""
        with Vertical(classes="window") as window:
            window.border_title = "saved slices"
            if not self._slices:
                yield Static(NONE_YET, markup=False)
                return
            listing = OptionList(markup=False, compact=True)
            for name, text in self._slices.items():
                line = Text(one_line(name, 28).ljust(30), no_wrap=True)
                line.append(one_line(text or "all traces", 44), "dim")
                listing.add_option(Option(line))
            listing.highlighted = 0
            yield listing

    def action_move(self, by: int) -> None:
        """Move in the list."""
        for listing in self.query(OptionList):
            listing.action_cursor_down() if by > 0 else listing.action_cursor_up()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Return the filter."""
        self.dismiss(list(self._slices.values())[message.option_index])

    def action_leave(self) -> None:
        """Close the window without a result."""
        self.dismiss(None)
