"""Difference of two conversations, pair by pair: side by side if there is room, else stacked.

A pair that is the same is one line; the words of another are compared when the pair comes into
view.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message

from workbench import formats
from workbench.safe import one_line
from workbench.tui.widgets import message_diff
from workbench.tui.widgets.blocks import Blocks
from workbench.tui.widgets.conversation import Entry
from workbench.tui.widgets.message_diff import Marks, Pair
from workbench.tui.wrapping import wrap

BESIDE = 120  # cells from which on the two stand side by side
LONG = 1500  # characters from which on a message that differs is folded at first
LABEL = 9
BETWEEN = " │ "
FAR = 60  # characters before the first difference from which on a folded message begins later
Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
Line = tuple[Side | None, int]  # whose line of the pair, and which: 0 is the head; None is both


class Difference(Blocks):
    """Pairs of messages; `n` goes to the next that differs."""

    CURSOR = "difference--cursor"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "difference--cursor",
        "difference--same",
        "difference--head",
        "difference--body",
        "difference--a",
        "difference--b",
        "difference--mark-a",
        "difference--mark-b",
        "difference--note",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open"),
        Binding("space", "open", "open", show=False),
        Binding("n", "jump(1)", "next difference"),
        Binding("N", "jump(-1)", "difference before", show=False),
        Binding("f", "fold_all", "fold"),
    ]

    class NothingThere(Message):
        """There is no further difference."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.pairs: Sequence[Pair] = ()
        self.folded: list[bool] = []
        self.empty_text = ""
        self._bodies: dict[tuple[int, Side], tuple[list[str], list[int]]] = {}
        self._marks = lru_cache(maxsize=200)(self._compared)
        self._note = lru_cache(maxsize=None)(self._remark)

    # -- pairs -----------------------------------------------------------------------------------

    def show(self, pairs: Sequence[Pair]) -> None:
        """Show pairs, and go to the first that differs."""
        self.pairs = pairs
        self.folded = [pair.is_same or _size(pair) > LONG for pair in pairs]
        self._marks.cache_clear()
        self._note.cache_clear()
        self.forget()
        self.place()
        first = message_diff.first_difference(pairs)
        if first is not None and self.height:
            self.go_to(first, above=2)

    @property
    def is_beside(self) -> bool:
        """Whether there is room for both side by side."""
        return self.size.width >= BESIDE

    def forget(self) -> None:
        """Drop the lines that were wrapped at another width."""
        self._bodies.clear()

    def n_blocks(self) -> int:
        """Count the pairs."""
        return len(self.pairs)

    def n_lines(self, index: int) -> int:
        """Count the lines of a pair."""
        return len(self._lines(index))

    def _compared(self, index: int) -> Marks:
        pair = self.pairs[index]
        if pair.is_same or pair.a is None or pair.b is None:
            return Marks()
        return message_diff.marks(pair.a.text, pair.b.text)

    def _column(self) -> int:
        """The width of a side in cells."""
        return (self.view.width - len(BETWEEN)) // 2 if self.is_beside else self.view.width

    def _body(self, index: int, side: Side) -> tuple[list[str], list[int]]:
        """Return the lines of one side, and how many characters of its text stand before each."""
        if (index, side) not in self._bodies:
            entry = getattr(self.pairs[index], side)
            lines = [] if entry is None else wrap(entry.text, self._column() - 2)
            before = [0, *accumulate(message_diff.length(line) for line in lines)]
            self._bodies[index, side] = (lines, before)
        return self._bodies[index, side]

    def _lines(self, index: int) -> list[Line]:
        """List the lines of a pair: of both at once, or of one after the other."""
        pair = self.pairs[index]
        sides = [side for side in SIDES if getattr(pair, side) is not None]
        both: tuple[Side | None, ...] = (None,)
        shown = both if self.is_beside or pair.is_same else tuple(sides)
        if self.folded[index]:
            return [(side, 0) for side in shown]
        sizes: dict[Side | None, int] = {s: len(self._body(index, s)[0]) for s in sides}
        sizes[None] = max(sizes.values())
        lines: list[Line] = [(side, n) for side in shown for n in range(sizes[side] + 1)]
        return [*lines, (None, -1)] if self._note(index) else lines

    def _remark(self, index: int) -> str:
        """Write which part of a pair was not fetched or not compared."""
        a, b = self.pairs[index].a, self.pairs[index].b
        remarks = [
            f"{side.upper()} goes on: {e.more}" for side, e in (("a", a), ("b", b)) if e and e.more
        ]
        if a is None or b is None:
            return "; ".join(remarks)
        if self.pairs[index].is_same:
            return f"{a.more}, the same in both" if a.more else ""
        differs, unread = message_diff.unlike(a.text, b.text)
        if unread:
            remarks.append(f"{formats.count(unread)} words were not compared")
        elif not differs:
            remarks.append(
                "they differ in text that was not fetched"
                if remarks
                else "they differ in spaces alone"
            )
        return "; ".join(remarks)

    # -- drawing ---------------------------------------------------------------------------------

    def _tone(self, name: str) -> Style:
        return self.tone(f"difference--{name}")

    def draw(self, index: int, within: int, ground: Style) -> list[Segment]:
        """Draw one line of a pair."""
        side, line = self._lines(index)[within]
        if line < 0:
            return [Segment(f"  … {self._note(index)}", ground + self._tone("note"))]
        pair, width = self.pairs[index], self._column()
        if self.is_beside:
            left = self._side(index, "a", line, width, ground)
            return [
                *left,
                Segment(BETWEEN, ground + self._tone("same")),
                *self._side(index, "b", line, width, ground),
            ]
        shown = side or ("a" if pair.a is not None else "b")
        return self._side(index, shown, line, width, ground, is_both=side is None)

    def _side(
        self, index: int, side: Side, line: int, width: int, ground: Style, *, is_both: bool = False
    ) -> list[Segment]:
        entry = getattr(self.pairs[index], side)
        if entry is None:
            return [Segment(" " * width, ground)]
        if line == 0:
            return self._head(index, side, entry, width, ground, is_both=is_both)
        lines, before = self._body(index, side)
        edge = Segment("│ ", ground + self._tone("same" if self.pairs[index].is_same else side))
        if line > len(lines):
            return [Segment(" " * width, ground)]
        text = lines[line - 1]
        segments = [edge, *self._marked(index, side, text, before[line - 1], ground)]
        return [*segments, Segment(" " * max(0, width - 2 - cell_len(text)), ground)]

    def _marked(
        self, index: int, side: Side, text: str, before: int, ground: Style
    ) -> list[Segment]:
        """Draw a line of text with the words that the other side lacks emphasised."""
        pair = self.pairs[index]
        plain = ground + self._tone("same" if pair.is_same else "body")
        if pair.a is None or pair.b is None:
            return [
                Segment(text, ground + self.get_component_rich_style(f"difference--mark-{side}"))
            ]
        mark = ground + self.get_component_rich_style(f"difference--mark-{side}")
        spans = getattr(self._marks(index), side)
        cut = message_diff.stretches(text, before, spans)
        return [Segment(part, mark if is_marked else plain) for part, is_marked in cut]

    def _head(
        self, index: int, side: Side, entry: Entry, width: int, ground: Style, *, is_both: bool
    ) -> list[Segment]:
        pair, folded = self.pairs[index], self.folded[index]
        name = "=" if pair.is_same else side.upper()
        number = str(entry.ordinal + 1)
        if is_both and pair.b is not None and pair.b.ordinal != entry.ordinal:
            number += f"/{pair.b.ordinal + 1}"
        figures = " ".join(part for part in (entry.margin[0], entry.margin[2]) if part)
        label = f"{name} {number.rjust(4)}  {entry.kind.ljust(LABEL)}{'▸' if folded else '▾'} "
        room = max(0, width - cell_len(label) - cell_len(figures) - 2)
        text = self._begin(index, side, entry, room) if folded else one_line(entry.title, room)
        tone = self._tone("same" if pair.is_same else side)
        return [
            Segment(label, ground + tone),
            Segment(
                set_cell_size(text, room), ground + self._tone("same" if pair.is_same else "body")
            ),
            Segment(f" {figures} ", ground + self._tone("same")),
        ]

    def _begin(self, index: int, side: Side, entry: Entry, room: int) -> str:
        """Return a line of a folded message, from its first difference if that is far."""
        pair = self.pairs[index]
        text, skipped = entry.text, 0
        if not pair.is_same and pair.a is not None and pair.b is not None:
            skipped = _same_until(pair.a.text, pair.b.text)
        start = skipped - FAR // 3 if skipped > FAR else 0
        words = " ".join(text[start : start + room * 4].split())
        title = f"{entry.title}  " if entry.title else ""
        return one_line(f"{title}{'… ' if start else ''}{words}", room)

    # -- moving and folding ----------------------------------------------------------------------

    def action_jump(self, by: int) -> None:
        """Go to the next pair that differs, or the one before."""
        here = self.block_at(self.cursor)
        places = range(here + 1, len(self.pairs)) if by > 0 else range(here - 1, -1, -1)
        for place in places:
            if not self.pairs[place].is_same:
                self.go_to(place)
                return
        self.post_message(self.NothingThere())

    def open_current(self) -> None:
        """Fold or unfold the pair under the cursor."""
        if self.pairs:
            index = self.block_at(self.cursor)
            self.folded[index] = not self.folded[index]
            self.place(hold=True)

    def action_fold_all(self) -> None:
        """Fold all pairs that differ, or unfold them if all are folded."""
        differ = [i for i, pair in enumerate(self.pairs) if not pair.is_same]
        fold = any(not self.folded[i] for i in differ)
        for index in differ:
            self.folded[index] = fold
        self.place(hold=True)


def _size(pair: Pair) -> int:
    return max(len(entry.text) for entry in (pair.a, pair.b) if entry is not None)


def _same_until(a: str, b: str) -> int:
    """Return the length of the common prefix of two texts."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
