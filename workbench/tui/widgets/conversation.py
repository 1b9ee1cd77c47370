"""A conversation of any length: messages under each other, long ones folded, lines made when seen."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.tui.safe import one_line
from workbench.tui.widgets.tones import Toned
from workbench.tui.wrapping import wrap

KINDS = ("system", "user", "thinking", "answer", "tool", "result", "error")
INDENT = 6
LABEL = 9
SHORT = 3  # lines that are never folded away
MARGIN = (10, 6, 9, 12)  # cells of tokens, share, time, cost


@dataclasses.dataclass(slots=True)
class Entry:
    """One message.

    Attributes:
        kind: one of `KINDS`; what it looks like.
        text: as much of it as was fetched.
        more: what is known to follow, in words; "" when all is here.
        margin: figures at the right end: tokens, share of the output, time, cost.
        content_id: where the rest of the text is.
    """

    ordinal: int
    kind: str
    text: str
    margin: tuple[str, str, str, str] = ("", "", "", "")
    more: str = ""
    content_id: str = ""
    title: str = ""
    is_error: bool = False
    folded: bool = False


class Conversation(Toned, ScrollView, can_focus=True):
    """Messages with a line cursor; draws only what is in view."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "talk--cursor", "talk--margin", "talk--ordinal", "talk--body", "talk--more",
        *(f"talk--{kind}" for kind in KINDS),
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "line down", show=False),
        Binding("up,k", "move(-1)", "line up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False),
        Binding("home,g", "edge(-1)", "first line", show=False),
        Binding("end,G", "edge(1)", "last line", show=False),
        Binding("enter,space", "open", "open"),
        Binding("n", "jump('any', 1)", "next message"),
        Binding("N", "jump('any', -1)", "message before", show=False),
        Binding("t", "jump('tool', 1)", "tool"),
        Binding("T", "jump('tool', -1)", "tool before", show=False),
        Binding("e", "jump('error', 1)", "error"),
        Binding("E", "jump('error', -1)", "error before", show=False),
        Binding("f", "fold_all", "fold"),
        Binding("r", "raw", "raw"),
    ]
    cursor: reactive[int] = reactive(0, repaint=False)

    class MoreWanted(Message):
        """The user asked for more of a message's text."""

        def __init__(self, entry: Entry) -> None:
            self.entry = entry
            super().__init__()

    class NothingThere(Message):
        """There is no further message of the kind that was asked for."""

        def __init__(self, what: str) -> None:
            self.what = what
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.entries: list[Entry] = []
        self.is_raw = False
        self._lines: dict[int, list[str]] = {}
        self._starts: list[int] = []  # line on which each entry begins
        self._height = 0
        self._made_for = 0

    # -- what it shows ---------------------------------------------------------------------------

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add messages at the end."""
        self.entries.extend(entries)
        self._place()

    def changed(self, entry: Entry) -> None:
        """Draw a message again after its text changed."""
        self._lines.pop(self.entries.index(entry), None)
        self._place()

    @property
    def current(self) -> Entry | None:
        """The message under the cursor."""
        return self.entries[self._entry_at(self.cursor)] if self.entries else None

    def on_resize(self) -> None:
        """Break the lines anew."""
        if self._made_for != self._view.width:
            self._lines.clear()
            self._place(hold=True)

    def _body(self, index: int) -> list[str]:
        """Return the lines of a message, broken at the width; kept until the width changes."""
        if index not in self._lines:
            width = self._view.width - INDENT - 2
            self._lines[index] = wrap(self.entries[index].text, width)
        return self._lines[index]

    def _fits(self, index: int) -> bool:
        """Whether a message goes on its first line."""
        entry = self.entries[index]
        room = self._view.width - INDENT - LABEL - cell_len(self._margin(entry)) - 6
        short = "\n" not in entry.text.strip() and len(entry.text) <= room
        return short and not entry.more and not self.is_raw

    def _n_lines(self, index: int) -> int:
        entry = self.entries[index]
        if entry.folded or self._fits(index):
            return 1
        return 1 + len(self._body(index)) + bool(entry.more)

    def _place(self, *, hold: bool = False) -> None:
        if not self._view.width:
            return
        held = self._entry_at(self.cursor) if hold and self._starts else None
        self._made_for = self._view.width
        sizes = [self._n_lines(i) for i in range(len(self.entries))]
        self._starts = [0, *itertools.accumulate(sizes)][: len(sizes)]
        self._height = sum(sizes)
        self.virtual_size = Size(self._view.width, self._height)
        if held is not None:
            self.cursor = self._starts[held]
        self.refresh()

    def _entry_at(self, line: int) -> int:
        return max(0, bisect.bisect_right(self._starts, line) - 1)

    @property
    def _view(self) -> Size:
        """The room inside the scrollbars."""
        return self.scrollable_content_region.size

    # -- drawing ---------------------------------------------------------------------------------

    def _tone(self, name: str) -> Style:
        return self.tone(f"talk--{name}")

    def render_line(self, y: int) -> Strip:
        """Draw one line of one message."""
        line = y + self.scroll_offset.y
        width = self._view.width
        ground = self.rich_style
        if line == self.cursor and self.entries and self.has_focus:
            ground = self.get_component_rich_style("talk--cursor")
        if line >= self._height:
            return Strip.blank(width, self.rich_style)
        index = self._entry_at(line)
        within = line - self._starts[index]
        segments = (
            self._first(index, ground) if within == 0 else self._rest(index, within - 1, ground)
        )
        return Strip(segments).adjust_cell_length(width, ground)

    def _first(self, index: int, ground: Style) -> list[Segment]:
        entry = self.entries[index]
        alone = self._fits(index)
        arrow = "  " if alone else "▸ " if entry.folded else "▾ "
        tone = self._tone("error" if entry.is_error else entry.kind)
        margin = self._margin(entry)
        room = max(0, self._view.width - INDENT - LABEL - 2 - cell_len(margin) - 3)
        text = _summary(entry, room) if alone or entry.folded else one_line(entry.title, room)
        body = tone if entry.kind == "thinking" or entry.is_error else self._tone("body")
        return [
            Segment(
                str(entry.ordinal + 1).rjust(INDENT - 2) + "  ", ground + self._tone("ordinal")
            ),
            Segment(entry.kind.ljust(LABEL), ground + tone),
            Segment(arrow, ground + self._tone("ordinal")),
            Segment(set_cell_size(text, room), ground + body),
            Segment(f"  {margin} ", ground + self._tone("margin")),
        ]

    def _margin(self, entry: Entry) -> str:
        """Line the figures up; a narrow screen has no room for shares and costs."""
        widths = MARGIN if self._view.width >= 100 else (10, 0, 9, 0)
        parts = zip(entry.margin, widths, strict=True)
        return "".join(text.rjust(width) for text, width in parts if width)

    def _rest(self, index: int, place: int, ground: Style) -> list[Segment]:
        entry, body = self.entries[index], self._body(index)
        if place >= len(body):
            return [
                Segment(
                    " " * INDENT + f"… {entry.more}, enter shows next", ground + self._tone("more")
                )
            ]
        tone = self._tone("thinking" if entry.kind == "thinking" else "body")
        edge = self._tone("error" if entry.is_error else entry.kind)
        pad = " " * (INDENT - 2)
        return [
            Segment(pad, ground),
            Segment("│ ", ground + edge),
            Segment(body[place], ground + tone),
        ]

    # -- moving ----------------------------------------------------------------------------------

    def validate_cursor(self, value: int) -> int:
        """Keep the cursor on a line."""
        return max(0, min(value, self._height - 1))

    def watch_cursor(self) -> None:
        """Bring the line into view."""
        top, height = round(self.scroll_y), max(1, self._view.height)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move by lines."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """Move by screens."""
        self.cursor += by * max(1, self._view.height - 1)

    def action_edge(self, end: int) -> None:
        """Go to the first or the last line."""
        self.cursor = 0 if end < 0 else self._height - 1

    def action_jump(self, what: Literal["any", "tool", "error"], by: int) -> None:
        """Go to the next message of a kind, or the one before, and put it on top."""
        here = self._entry_at(self.cursor)
        places = range(here + 1, len(self.entries)) if by > 0 else range(here - 1, -1, -1)
        for place in places:
            entry = self.entries[place]
            if what == "any" or (entry.is_error if what == "error" else entry.kind == what):
                self.scroll_to(y=max(0, self._starts[place] - 1), animate=False)
                self.cursor = self._starts[place]
                return
        self.post_message(self.NothingThere("message" if what == "any" else what))

    def on_click(self, event: events.Click) -> None:
        """Go to a line; a click on a head folds it."""
        line = event.y + self.scroll_offset.y
        if line < self._height:
            self.cursor = line
            if line in self._starts:
                self.open_current()

    # -- folding ---------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Fold or unfold the message; below its head, ask for more of a long one."""
        self.open_current()

    def open_current(self) -> None:
        """Do what the open key does."""
        entry = self.current
        if entry is None:
            return
        index = self._entry_at(self.cursor)
        if entry.more and not entry.folded and self.cursor > self._starts[index]:
            self.post_message(self.MoreWanted(entry))
            return
        entry.folded = not entry.folded
        self._place(hold=True)

    def action_fold_all(self) -> None:
        """Fold all thinking, or unfold it where all is folded."""
        thinking = [entry for entry in self.entries if entry.kind == "thinking"]
        fold = any(not entry.folded for entry in thinking)
        for entry in thinking:
            entry.folded = fold
        self._place(hold=True)

    def action_raw(self) -> None:
        """Show everything unfolded as recorded, or as it was."""
        self.is_raw = not self.is_raw
        for entry in self.entries:
            entry.folded = not self.is_raw and is_long(entry)
        self._place(hold=True)


def _summary(entry: Entry, room: int) -> str:
    """Return a message's title and first line, and how many lines follow."""
    first, _, rest = entry.text.strip().partition("\n")
    lines = rest.count("\n") + 1 if rest else 0
    tail = (
        f" … {entry.more or f'{lines} more line' + 's' * (lines > 1)}"
        if lines or entry.more
        else ""
    )
    head = f"{entry.title}  {first}" if entry.title else first
    return one_line(head, max(0, room - cell_len(tail))) + tail


def is_long(entry: Entry) -> bool:
    """Whether a message is folded at first: thinking, and long instructions and tool results."""
    lines = entry.text.count("\n") + len(entry.text) // 100
    return entry.kind == "thinking" or (
        entry.kind in {"system", "result", "tool"} and lines > SHORT
    )
