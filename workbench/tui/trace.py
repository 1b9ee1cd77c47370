"""Trace screen: outcome, time by phase, and the whole conversation of one trace."""

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.safe import one_line
from workbench.tui.conversation_entries import EntryBuilder
from workbench.tui.outcomes import outcome_text
from workbench.tui.queries import QueryScreen, always_current
from workbench.tui.timeline import phases
from workbench.tui.widgets.conversation import Conversation, Entry
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.phase_bar import PhaseBar
from workbench.tui.widgets.top_bar import Parts, TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store, TraceDetail

FIRST = 60  # messages fetched before the first is shown
CHUNK = 400  # messages fetched at a time after that
CHARS = 4000  # characters of a message that are fetched with it
MORE = 40_000  # characters added each time that the user asks for more


class TraceScreen(QueryScreen):
    """Header, phases and conversation; further messages load while the user reads."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "diff", "diff"),
        Binding("m", "mark", "mark"),
        Binding("y", "copy", "copy"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, trace_id: str) -> None:
        super().__init__()
        self.trace_id = trace_id
        self.detail: TraceDetail | None = None
        self._builder: EntryBuilder | None = None
        self._whole: dict[str, str] = {}  # full text of the message that was extended last

    def compose(self) -> ComposeResult:
        """Build the frame."""
        yield TopBar([("trace ", "primary"), (self.trace_id[:8], "")])
        yield Static(id="facts")
        yield PhaseBar(id="phases")
        yield Conversation(id="talk")
        yield KeyBar()

    @property
    def conversation(self) -> Conversation:
        """The conversation."""
        return self.query_one(Conversation)

    def on_mount(self) -> None:
        """Fetch the trace and its first messages."""
        self.conversation.focus()
        work = partial(_read, self.app.store, self.trace_id)
        self.run_query("trace", always_current, work, self._show)

    def _show(self, part: "TraceDetail | Sequence[Mapping[str, Any]]") -> None:
        """Show the trace, then its messages as they are fetched."""
        from workbench.store import TraceDetail

        if not isinstance(part, TraceDetail):
            self._add_messages(part)
            return
        self.detail = part
        facts, calls = part.facts, part.calls.rows(named=True)
        tools = part.tool_calls.rows(named=True)
        self._builder = EntryBuilder(calls, tools)
        self._show_head(facts)
        self.query_one("#facts", Static).update(self._facts(facts))
        self.query_one(PhaseBar).show(phases(facts, calls, tools))

    def _add_messages(self, messages: Sequence[Mapping[str, Any]]) -> None:
        assert self._builder is not None
        assert self.detail is not None
        self.conversation.extend([self._builder.entry(message) for message in messages])
        have = len(self.conversation.entries)
        if have >= self.detail.n_messages:
            self.conversation.extend(self._builder.ending(self.detail.facts, have))

    def _show_head(self, facts: Mapping[str, Any]) -> None:
        is_marked = self.trace_id in self.app.marked
        left: Parts = [
            ("▌" if is_marked else "", "accent"),
            ("trace ", "primary"),
            (f"{self.trace_id[:8]}  ", ""),
            (one_line(facts["configuration"], 60), "accent"),
            (f" · {one_line(facts['task'], 40)}/{one_line(facts['item'], 40)}", ""),
            (f" · trial {facts['trial']}", ""),
        ]
        figures = [
            formats.usd(facts["cost_usd"]),
            f"{formats.seconds(facts['e2e_s'])} s",
            f"{formats.count(facts['output_tokens'])} tok",
        ]
        right: Parts = [outcome_text(facts), ("   " + "  ".join(figures), "")]
        self.query_one(TopBar).show(left, right)

    def _facts(self, facts: Mapping[str, Any]) -> Text:
        assert self.detail is not None
        parts = []
        if facts["error_type"] is not None:
            parts.append(f"{facts['error_type']}: {facts['error_message'] or ''}")
        elif facts["answer"] is not None:
            parts.append(f"answer {facts['answer']}")
            if self.detail.item.get("target") is not None:
                parts.append(f"target {self.detail.item['target']}")
        scores = self.detail.scores.iter_rows(named=True)
        parts += [f"{s['scorer']}: {s['explanation']}" for s in scores if s["explanation"]]
        known = {name: facts[name] for name in LABELS if facts[name]}
        parts += [f"{LABELS[name]} {formats.value_text(v)}" for name, v in known.items()]
        if facts["started_at"] is not None:
            parts.append(formats.when(facts["started_at"]))
        return Text(one_line("  ·  ".join(parts), max(60, self.size.width * 2 - 4)))

    # -- more of a long message
    # ----------------------------------------------------------------------

    def on_conversation_more_wanted(self, message: Conversation.MoreWanted) -> None:
        """Show the next part of a message's text."""
        entry, store = message.entry, self.app.store
        if entry.content_id in self._whole:
            self._lengthen(entry, self._whole[entry.content_id])
        else:
            self.run_query(
                "text",
                always_current,
                lambda *_: store.text(entry.content_id),
                partial(self._lengthen, entry),
            )

    def _lengthen(self, entry: Entry, whole: str) -> None:
        assert self._builder is not None
        self._whole = {entry.content_id: whole}
        self._builder.fill(entry, whole, len(entry.text) + MORE)
        self.conversation.changed(entry)

    def on_conversation_nothing_there(self, message: Conversation.NothingThere) -> None:
        """Notify that there is no further one."""
        self.app.notify(f"no further {message.what}", timeout=2, markup=False)

    # -- keys --------------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark or unmark the trace for comparison."""
        self.app.marked ^= {self.trace_id}
        if self.detail is not None:
            self._show_head(self.detail.facts)

    def action_diff(self) -> None:
        """Compare with the marked trace, or with one of the same item."""
        from workbench.tui.trace_choice import compare

        if self.detail is not None:
            compare(self, self.detail.facts)

    def action_copy(self) -> None:
        """Copy the message, or the trace's id, SQL, command or filter."""
        from workbench.tui.copying import CopyScreen, trace_texts

        if self.detail is None:
            return
        entry = self.conversation.current
        texts = trace_texts(self.app.store.path, self.detail.facts, entry.text if entry else None)
        store, content = self.app.store, entry.content_id if entry else ""
        fetch = (
            partial(store.text, content) if content and entry is not None and entry.more else None
        )
        self.app.push_screen(CopyScreen(texts, {"this message": fetch} if fetch else {}))

    def action_back(self) -> None:
        """Cancel the query if nothing is shown yet; else go back."""
        if self.detail is not None or not self.cancel_queries():
            self.app.pop_screen()


LABELS = {
    "input_tokens": "input",
    "reasoning_tokens": "thinking",
    "energy_j": "J",
    "n_turns": "turns",
    "n_tool_calls": "tool calls",
    "stop_reason": "stop:",
}


def _read(
    store: "Store", trace_id: str, _: None, cancel: "Cancel"
) -> "Generator[TraceDetail | list[dict[str, Any]], None, None]":
    """Read a trace and its messages from one snapshot, in chunks of which the first is short."""
    with store.snapshot(cancel=cancel) as snapshot:
        detail = snapshot.detail(trace_id)
        yield detail
        start, n = 0, FIRST
        while start < max(1, detail.n_messages):
            yield snapshot.messages(trace_id, start, n, CHARS).rows(named=True)
            start, n = start + n, CHUNK
