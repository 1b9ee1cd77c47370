"""Conversation of any length: messages in a column, long ones folded, lines built on demand."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message

from workbench.safe import one_line
from workbench.tui.widgets.blocks import Blocks
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


class Conversation(Blocks):
    """Messages with a line cursor; draws only what is in view."""

    CURSOR = "conversation--cursor"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "conversation--cursor",
        "conversation--margin",
        "conversation--ordinal",
        "conversation--body",
        "conversation--more",
        *(f"conversation--{kind}" for kind in KINDS),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open"),
        Binding("space", "open", "open", show=False),
        Binding("n", "jump('any', 1)", "next"),
        Binding("N", "jump('any', -1)", "before", show=False),
        Binding("t", "jump('tool', 1)", "tool"),
        Binding("T", "jump('tool', -1)", "tool before", show=False),
        Binding("e", "jump('error', 1)", "error"),
        Binding("E", "jump('error', -1)", "error before", show=False),
        Binding("f", "fold_all", "fold"),
        Binding("r", "raw", "as recorded, all unfolded", show=False),
    ]

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

    # -- messages --------------------------------------------------------------------------------

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add messages at the end."""
        self.entries.extend(entries)
        self.place()

    def changed(self, entry: Entry) -> None:
        """Draw a message again after its text changed."""
        self._lines.pop(self.entries.index(entry), None)
        self.place()

    @property
    def current(self) -> Entry | None:
        """The message under the cursor."""
        return self.entries[self.block_at(self.cursor)] if self.entries else None

    def forget(self) -> None:
        """Drop the lines that were wrapped at another width."""
        self._lines.clear()

    def n_blocks(self) -> int:
        """Count the messages."""
        return len(self.entries)

    def _body(self, index: int) -> list[str]:
        """Return the lines of a message, wrapped and cached until the width changes."""
        if index not in self._lines:
            width = self.view.width - INDENT - 2
            self._lines[index] = wrap(self.entries[index].text, width)
        return self._lines[index]

    def _fits(self, index: int) -> bool:
        """Whether a message fits on its first line."""
        entry = self.entries[index]
        room = self.view.width - INDENT - LABEL - cell_len(self._margin(entry)) - 6
        short = "\n" not in entry.text.strip() and len(entry.text) <= room
        return short and not entry.more and not self.is_raw

    def n_lines(self, index: int) -> int:
        """Count the lines of a message."""
        entry = self.entries[index]
        if entry.folded or self._fits(index):
            return 1
        return 1 + len(self._body(index)) + bool(entry.more)

    # -- drawing ---------------------------------------------------------------------------------

    def _tone(self, name: str) -> Style:
        return self.tone(f"conversation--{name}")

    def draw(self, index: int, within: int, ground: Style) -> list[Segment]:
        """Draw one line of one message."""
        return self._first(index, ground) if not within else self._rest(index, within - 1, ground)

    def _first(self, index: int, ground: Style) -> list[Segment]:
        entry = self.entries[index]
        alone = self._fits(index)
        arrow = "  " if alone else "▸ " if entry.folded else "▾ "
        tone = self._tone("error" if entry.is_error else entry.kind)
        margin = self._margin(entry)
        room = max(0, self.view.width - INDENT - LABEL - 2 - cell_len(margin) - 3)
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
        """Align the figures; a narrow screen omits shares and costs."""
        widths = MARGIN if self.view.width >= 100 else (10, 0, 9, 0)
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

    def action_jump(self, what: Literal["any", "tool", "error"], by: int) -> None:
        """Go to the next or previous message of a kind, and scroll it to the top."""
        here = self.block_at(self.cursor)
        places = range(here + 1, len(self.entries)) if by > 0 else range(here - 1, -1, -1)
        for place in places:
            entry = self.entries[place]
            if what == "any" or (entry.is_error if what == "error" else entry.kind == what):
                self.go_to(place)
                return
        self.post_message(self.NothingThere("message" if what == "any" else what))

    # -- folding ---------------------------------------------------------------------------------

    def open_current(self) -> None:
        """Fold or unfold the message; below its head, ask for more of a long one."""
        entry = self.current
        if entry is None:
            return
        index = self.block_at(self.cursor)
        if entry.more and not entry.folded and self.cursor > self.start_of(index):
            self.post_message(self.MoreWanted(entry))
            return
        entry.folded = not entry.folded
        self.place(hold=True)

    def action_fold_all(self) -> None:
        """Fold all thinking, or unfold it if all is folded."""
        thinking = [entry for entry in self.entries if entry.kind == "thinking"]
        fold = any(not entry.folded for entry in thinking)
        for entry in thinking:
            entry.folded = fold
        self.place(hold=True)

    def action_raw(self) -> None:
        """Unfold all messages, or restore the folds."""
        self.is_raw = not self.is_raw
        for entry in self.entries:
            entry.folded = not self.is_raw and is_long(entry)
        self.place(hold=True)


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
