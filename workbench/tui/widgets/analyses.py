"""List of analyses by family, with a line above it to search by words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from workbench.safe import one_line, safe

if TYPE_CHECKING:
    from workbench.analysis import Analysis


class _Found(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "down", show=False),
        Binding("k", "cursor_up", "up", show=False),
        Binding("g", "first", "first", show=False),
        Binding("G", "last", "last", show=False),
    ]


class Analyses(Vertical):
    """List of analyses with a search line."""

    class Highlighted(Message):
        """The cursor is on an analysis."""

        def __init__(self, analysis: "Analysis") -> None:
            self.analysis = analysis
            super().__init__()

    class Chosen(Message):
        """Enter was pressed on the analysis under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._families: Mapping[str, Sequence[Analysis]] = {}
        self._by_name: dict[str, Analysis] = {}

    def compose(self) -> ComposeResult:
        """Build the line and the list."""
        yield Input(placeholder="/ find", id="find", compact=True)
        yield _Found(markup=False, compact=True)

    @property
    def listing(self) -> OptionList:
        """The list below the line."""
        return self.query_one(OptionList)

    def show(self, families: "Mapping[str, Sequence[Analysis]]") -> None:
        """List analyses by the titles of their families."""
        self._families = families
        self._by_name = {a.name: a for found in families.values() for a in found}
        self._list("")

    def choose(self, name: str) -> None:
        """Put the cursor on an analysis that is listed."""
        self.listing.highlighted = self.listing.get_option_index(name)

    def find(self) -> None:
        """Focus the search line."""
        self.query_one(Input).focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        """List the analyses that contain all typed words."""
        message.stop()
        self._list(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Focus the list."""
        message.stop()
        self.listing.focus()

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Post the analysis under the cursor."""
        message.stop()
        self.post_message(self.Highlighted(self._by_name[message.option_id or ""]))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Post the analysis that was selected."""
        message.stop()
        self.post_message(self.Chosen())

    def _list(self, typed: str) -> None:
        words, options = typed.casefold().split(), []
        width = max(16, self.size.width - 3)
        for title, analyses in self._families.items():
            matches = [a for a in analyses if all(w in _words(title, a) for w in words)]
            if matches:
                options.append(Option(Text(title.upper(), "dim"), disabled=True))
            options += [Option(_line(a, width), id=a.name) for a in matches]
        if not options:
            options.append(Option(Text("no analysis has these words", "dim"), disabled=True))
        self.listing.clear_options()
        self.listing.add_options(options)
        self.listing.action_first()


def _words(title: str, analysis: "Analysis") -> str:
    return " ".join((title, analysis.name, analysis.title, analysis.question)).casefold()


def _line(analysis: "Analysis", width: int) -> Text:
    line = Text(one_line(analysis.title, width) + "\n", "bold")
    return line.append(safe(analysis.question), "not bold dim")
