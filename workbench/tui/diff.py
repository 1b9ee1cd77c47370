"""Diff screen: two traces of an item side by side, with the first difference of their messages."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.safe import one_line
from workbench.tui.conversation_entries import EntryBuilder
from workbench.tui.outcomes import outcome_text
from workbench.tui.queries import StatusScreen
from workbench.tui.widgets import message_diff
from workbench.tui.widgets.difference import Difference
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.message_diff import Pair
from workbench.tui.widgets.painted import Painted
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store, TraceDetail
    from workbench.tui.widgets.conversation import Entry

CHARS = 4000  # characters of a message that are compared


class DiffScreen(StatusScreen):
    """Outcome, tokens, cost and time of both traces on top, their conversations below."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "swap", "swap sides"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, a: str, b: str) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.details: tuple[TraceDetail, TraceDetail] | None = None

    def compose(self) -> ComposeResult:
        """Build the frame."""
        yield TopBar([("diff  ", "primary"), (f"{self.a[:8]} {self.b[:8]}", "")])
        yield Painted(id="facts")
        yield Difference(id="difference")
        yield Static(id="status", markup=False)
        yield KeyBar()

    @property
    def difference(self) -> Difference:
        """The two conversations."""
        return self.query_one(Difference)

    def on_mount(self) -> None:
        """Fetch both."""
        self.difference.focus()
        self._query()

    def _query(self) -> None:
        self.run_query("traces", self._sides, partial(_fetch, self.app.store), self._show)

    def _sides(self) -> tuple[str, str]:
        return self.a, self.b

    def _show(self, result: "tuple[TraceDetail, TraceDetail, list[Pair]]") -> None:
        a, b, pairs = result
        self.details = (a, b)
        names = list(dict.fromkeys(_where(detail.facts) for detail in self.details))
        self.query_one(TopBar).show([("diff  ", "primary"), (" · ".join(names), "")])
        self.query_one("#facts", Painted).show(self._heads)
        self.difference.show(pairs)
        self.say(self._summary(pairs))

    def _heads(self) -> Table:
        """Write a line for each side."""
        colours = self.app.theme_variables
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for _ in range(3):
            table.add_column(no_wrap=True, justify="right")
        for side, detail in zip("AB", self.details or (), strict=False):
            facts = detail.facts
            word, colour = outcome_text(facts)
            of = one_line(f"{facts['configuration']} · trial {facts['trial']}", 80)
            table.add_row(
                Text(side, f"bold {colours['accent' if side == 'A' else 'primary']}"),
                Text(word, colours.get(colour, "")),
                Text(f"{of}{_answer(facts)}"),
                f"{formats.count(facts['output_tokens'])} tok",
                formats.usd(facts["cost_usd"]),
                f"{formats.seconds(facts['e2e_s'])} s",
            )
        return table

    def _summary(self, pairs: Sequence[Pair]) -> str:
        """Write where the conversations differ first, and which messages were not compared."""
        first = message_diff.first_difference(pairs)
        if first is None:
            text = "the same, message for message"
        else:
            n = formats.count(sum(not pair.is_same for pair in pairs))
            before = (
                f"the same up to message {first:,}, then" if first else "from the first message on"
            )
            text = f"{before} {n} of {formats.count(len(pairs))} pairs of messages differ"
        most = message_diff.MOST_MESSAGES
        for side, detail in zip("AB", self.details or (), strict=False):
            if detail.n_messages > most:
                compared = f"{most:,} of {detail.n_messages:,} messages"
                text += f"; of {side} the first {compared} were compared"
        return text

    def on_difference_nothing_there(self) -> None:
        """Report that there is no further difference."""
        self.app.notify("no further difference", timeout=2, markup=False)

    def action_swap(self) -> None:
        """Swap A and B."""
        self.a, self.b = self.b, self.a
        self._query()

    def action_back(self) -> None:
        """Cancel the running query; else go back."""
        if not self.cancel_queries():
            self.dismiss()


def _where(facts: Mapping[str, Any]) -> str:
    return f"{one_line(facts['task'], 40)}/{one_line(facts['item'], 40)}"


def _answer(facts: Mapping[str, Any]) -> str:
    if facts["error_type"] is not None:
        return f" · {one_line(facts['error_type'], 30)}"
    return "" if facts["answer"] is None else f" · answer {one_line(facts['answer'], 40)}"


def _fetch(
    store: "Store", sides: tuple[str, str], cancel: "Cancel"
) -> "tuple[TraceDetail, TraceDetail, list[Pair]]":
    """Fetch and match two traces; runs in a thread."""
    a, b = sides
    with store.snapshot(cancel=cancel) as snapshot:
        first, second = snapshot.detail(a), snapshot.detail(b)
        left, right = _entries(snapshot, a, first), _entries(snapshot, b, second)
    return first, second, message_diff.pairs(left, right)


def _entries(store: "Store", trace_id: str, detail: "TraceDetail") -> "list[Entry]":
    talk = EntryBuilder(detail.calls.rows(named=True), detail.tool_calls.rows(named=True))
    messages = store.messages(trace_id, 0, message_diff.MOST_MESSAGES, CHARS)
    entries = [talk.entry(message) for message in messages.iter_rows(named=True)]
    return entries + talk.ending(detail.facts, len(entries))
