"""Facets: the tasks, models and strategies in the store; selecting values edits the slice."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.formats import UNKNOWN, bar, count
from workbench.safe import one_line

BAR = 5  # cells


@dataclasses.dataclass(frozen=True, slots=True)
class Facet:
    """One value of one field: how many traces of the slice have it and how many of them pass."""

    field: str
    value: str | None
    n: int
    pass_rate: float | None


class Facets(OptionList):
    """A list with a section per field; several values may be selected."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "down", show=False),
        Binding("k", "cursor_up", "up", show=False),
        Binding("g", "first", "first", show=False),
        Binding("G", "last", "last", show=False),
        Binding("space", "select", "choose or drop the value", show=False),
    ]

    class Toggled(Message):
        """A value was selected or deselected."""

        def __init__(self, field: str, value: str | None) -> None:
            self.field, self.value = field, value
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._facets: Sequence[Facet] = ()
        self._chosen: Mapping[str, set[str | None]] = {}
        self._shown: list[Facet | None] = []

    def on_mount(self) -> None:
        """Draw the values again in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())

    def show(self, facets: Sequence[Facet], chosen: Mapping[str, set[str | None]]) -> None:
        """List the values; selected ones have a dot, and the cursor stays on its value."""
        self._facets, self._chosen = facets, chosen
        self.redraw()

    def redraw(self) -> None:
        """List the values again, in the present width and theme."""
        place = self.highlighted
        current = self._shown[place] if place is not None and place < len(self._shown) else None
        width = max(20, self.scrollable_content_region.width or 30)
        self.clear_options()
        self._shown = []
        section = ""
        for facet in self._facets:
            if facet.field != section:
                section = facet.field
                if self._shown:
                    self._add(None, Text(""))
                self._add(None, self._title(section, width))
            is_chosen = facet.value in self._chosen.get(section, set())
            self._add(facet, self._line(facet, is_chosen, width))
        names = [None if f is None else (f.field, f.value) for f in self._shown]
        if current is not None and (current.field, current.value) in names:
            self.highlighted = names.index((current.field, current.value))
        elif place is not None and place < len(self._shown):
            self.highlighted = place

    def _add(self, facet: Facet | None, line: Text) -> None:
        self._shown.append(facet)
        self.add_option(Option(line, disabled=facet is None))

    def _title(self, field: str, width: int) -> Text:
        plural = "strategies" if field == "strategy" else f"{field}s"
        return Text(plural.ljust(width - BAR - 9) + "n".rjust(7) + "  pass"[: BAR + 1], "bold")

    def _line(self, facet: Facet, is_chosen: bool, width: int) -> Text:
        colours = self.app.theme_variables
        room = width - BAR - 9 - 2
        line = Text(no_wrap=True)
        line.append("● " if is_chosen else "  ", colours["accent"])
        line.append(
            one_line(UNKNOWN if facet.value is None else facet.value, room).ljust(room),
            "bold" if is_chosen else "",
        )
        line.append(count(facet.n).rjust(7) + " ", "dim")
        line.append(bar(facet.pass_rate, BAR), colours["success"])
        return line

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Post the value that was selected or deselected."""
        message.stop()
        facet = self._shown[message.option_index]
        if facet is not None:
            self.post_message(self.Toggled(facet.field, facet.value))
