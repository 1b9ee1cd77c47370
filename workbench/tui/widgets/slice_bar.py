"""Slice bar: the filter of the traces that the screen shows."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.highlighter import Highlighter
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from workbench.errors import SliceError
from workbench.formats import count
from workbench.safe import masked, one_line

if TYPE_CHECKING:
    from workbench.slice import Completion

_WORDS = re.compile(r'(?P<text>"[^"]*"?)|(?P<minus>-?)(?P<field>[a-z_0-9]+)(?P<op>[:<>=!]+)')


class SliceHighlighter(Highlighter):
    """Colours fields, operators and quoted text; underlines from where a filter goes wrong."""

    def __init__(self, bar: "SliceBar") -> None:
        self._bar = bar

    def __call__(self, text: Any) -> Text:
        """Return the line as it may be drawn: hostile characters masked, one cell each."""
        line = Text(masked(str(text)), no_wrap=True, end="")
        self.highlight(line)
        return line

    def highlight(self, text: Text) -> None:
        """Style a text in place."""
        colours = self._bar.app.theme_variables
        for match in _WORDS.finditer(text.plain):
            text.stylize(colours["success"], *match.span("text"))
            text.stylize(colours["error"], *match.span("minus"))
            text.stylize(colours["accent"], *match.span("field"))
            text.stylize(colours["primary"], *match.span("op"))
        if (fault := self._bar.fault) is not None and len(fault.text) == len(text.plain):
            end = text.plain.find(" ", fault.column)
            end = len(text.plain) if end < 0 else end
            text.stylize(f"{colours['error']} underline", fault.column, max(end, fault.column + 1))


class SliceInput(Input):
    """The line to type in; it leaves what the keys mean to the bar."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "apply"),
        Binding("tab", "complete", "complete"),
        Binding("down,ctrl+n", "suggestion(1)", "next suggestion", show=False),
        Binding("up,ctrl+p", "suggestion(-1)", "suggestion before", show=False),
        Binding("ctrl+z", "undo", "undo"),
        Binding("ctrl+y", "redo", "redo", show=False),
        Binding("escape", "leave", "leave"),
    ]

    def __init__(self, bar: "SliceBar", text: str) -> None:
        super().__init__(
            text,
            id="slice-input",
            compact=True,
            select_on_focus=False,
            highlighter=SliceHighlighter(bar),
            placeholder='all traces   / to filter:  task:gsm8k wrong thinking>2k "text"',
        )
        self._bar = bar

    def action_complete(self) -> None:
        """Take the suggestion."""
        self._bar.complete()

    def action_suggestion(self, by: int) -> None:
        """Go through the suggestions."""
        self._bar.step(by)

    def action_leave(self) -> None:
        """Leave the line."""
        self._bar.leave()

    def action_undo(self) -> None:
        """Go back to the slice before."""
        self._bar.undo()

    def action_redo(self) -> None:
        """Go forward again."""
        self._bar.redo()


class SliceBar(Widget):
    """Input, live count and suggestions; keeps the history of slices."""

    class Typed(Message):
        """The line changed: count it, and suggest what could follow at the cursor (−1: nothing)."""

        def __init__(self, text: str, cursor: int) -> None:
            self.text, self.cursor = text, cursor
            super().__init__()

        def can_replace(self, message: Message) -> bool:
            """Only the newest line matters."""
            return isinstance(message, SliceBar.Typed)

    class Applied(Message):
        """Another slice is in force."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    class Left(Message):
        """The user is done typing."""

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = text  # in force
        self.fault: SliceError | None = None
        self._back: list[str] = []
        self._forth: list[str] = []
        self._completions: Sequence[Completion] = ()
        self._expected = text  # what the line was set to, not typed

    def compose(self) -> ComposeResult:
        """Build the line and the count; the list of suggestions comes when there are some."""
        with Horizontal():
            yield SliceInput(self, self.text)
            yield Static(id="slice-count")

    @property
    def input(self) -> SliceInput:
        """The line."""
        return self.query_one(SliceInput)

    @property
    def suggestions(self) -> OptionList:
        """The list of suggestions."""
        for listing in self.query(OptionList):
            return listing
        listing = OptionList(id="suggestions", markup=False, compact=True)
        listing.can_focus = False
        listing.display = False
        self.mount(listing)
        return listing

    # -- the count, or what is wrong ---------------------------------------------------------------

    def show_count(self, n: int | None, total: int | None) -> None:
        """Show how many traces the line selects."""
        arrows = ("↶" if self._back else " ") + ("↷" if self._forth else " ")
        shown = "" if n is None or total is None else f"{count(n)} of {count(total)}"
        self._say(f"{shown}  {arrows}".rstrip(), is_fault=False)

    def show_running(self, text: str) -> None:
        """Show that a query is slow."""
        self._say(text, is_fault=False)

    def show_fault(self, fault: SliceError | None) -> None:
        """Mark where the line goes wrong, and say what to type instead."""
        self.fault = fault
        self.input.refresh()
        if fault is not None:
            self._say(" — ".join(t for t in (fault.reason, fault.hint) if t), is_fault=True)

    def show_refusal(self, text: str) -> None:
        """Show why the store cannot answer the line, for example an unknown column."""
        self._say(text, is_fault=True)

    def _say(self, text: str, *, is_fault: bool) -> None:
        shown = self.query_one("#slice-count", Static)
        shown.set_class(is_fault, "-fault")
        shown.update(Text(one_line(text, max(20, self.size.width // 2)), no_wrap=True))

    # -- suggestions -------------------------------------------------------------------------------

    def suggest(self, completions: Sequence["Completion"]) -> None:
        """Offer what could follow."""
        self.close_suggestions()
        if not completions or not self.input.has_focus:
            return
        self._completions = completions
        listing = self.suggestions
        listing.clear_options()
        listing.display = True
        room = max(len(c.text) for c in self._completions) + 2
        for completion in self._completions:
            line = Text(one_line(completion.text, 40).ljust(min(room, 42)))
            line.append(one_line(completion.detail, 50), "dim")
            listing.add_option(Option(line))
        listing.highlighted = 0
        shift = min(self._completions[0].start + 1, max(0, self.size.width - 64))
        listing.styles.offset = (shift, 0)

    def close_suggestions(self) -> None:
        """Put the suggestions away."""
        self._completions = ()
        for listing in self.query(OptionList):
            listing.display = False

    def _take(self, index: int) -> None:
        completion = self._completions[index]
        value = self.input.value
        value = value[: completion.start] + completion.text + value[completion.end :]
        cursor = completion.start + len(completion.text)
        self._expected = self.input.value = value
        self.input.cursor_position = cursor
        self.close_suggestions()
        wants_more = completion.text.endswith((":", ">"))
        self.post_message(self.Typed(value, cursor if wants_more else -1))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Take the suggestion that was clicked."""
        message.stop()
        self._take(message.option_index)

    # -- keys and history --------------------------------------------------------------------------

    def on_input_changed(self, message: Input.Changed) -> None:
        """Post that the line changed, unless this widget changed it."""
        message.stop()
        if message.value != self._expected:
            self._expected = message.value
            self.post_message(self.Typed(message.value, self.input.cursor_position))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Put the line in force."""
        message.stop()
        self.close_suggestions()
        self.apply(message.value)

    def complete(self) -> None:
        """Take the suggestion that is highlighted."""
        if self._completions:
            self._take(self.suggestions.highlighted or 0)

    def step(self, by: int) -> None:
        """Highlight another suggestion; go down to the table where there is none."""
        if self._completions:
            place = ((self.suggestions.highlighted or 0) + by) % len(self._completions)
            self.suggestions.highlighted = place
        elif by > 0:
            self.post_message(self.Left())

    def leave(self) -> None:
        """Put the suggestions away; without any, give the line up for the slice in force."""
        if self._completions:
            self.close_suggestions()
            return
        self.set_line(self.text)
        self.show_fault(None)
        self.post_message(self.Left())

    def set_line(self, text: str) -> None:
        """Write into the line without asking for suggestions."""
        self._expected = text
        self.input.value = text
        self.input.cursor_position = len(text)

    def apply(self, text: str) -> None:
        """Put a slice in force and remember the one before."""
        if text != self.text:
            self._back.append(self.text)
            self._forth.clear()
        self._force(text)

    def undo(self) -> None:
        """Go back to the slice before."""
        if self._back:
            self._forth.append(self.text)
            self._force(self._back.pop())

    def redo(self) -> None:
        """Go forward again."""
        if self._forth:
            self._back.append(self.text)
            self._force(self._forth.pop())

    def _force(self, text: str) -> None:
        self.text = text
        self.set_line(text)
        self.post_message(self.Applied(text))
