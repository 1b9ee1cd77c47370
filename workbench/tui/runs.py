"""Runs screen: the store's runs, live ones on top, with keys that control them."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.safe import safe
from workbench.tui import run_text, slice_edits
from workbench.tui.queries import StatusScreen, always_current
from workbench.tui.store_watch import POLL_EVERY_S, updated_stamp
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.page import Page
from workbench.tui.widgets.rows import ListRows, Row
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.runner.control.protocol import AnyCommand, CommandResult, Retune, RunState
    from workbench.store import Cancel, Store

WATCH_EVERY_S = 1.0  # a live run writes its state as often
# stamp of no store: it makes the next poll ingest the spool of a run that has ended
RUN_ENDED = "gone"
LOST = "lost its process; to continue it, run the same collect command"
EMPTY = "nothing was collected or imported yet; in a shell, run: workbench collect PLAN.toml"
HOW = "to start a collection, run in a shell: workbench collect PLAN.toml --store {}"


class RunsScreen(StatusScreen):
    """Table of runs, with a page about the run under the cursor."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "its traces", show=True),
        Binding("p", "pause", "pause, resume"),
        Binding("s", "stop", "stop"),
        Binding("S", "stop(True)", "stop now"),
        Binding("t", "retune", "limits"),
        Binding("y", "copy", "copy"),
        Binding("J", "page(1)", "page about it down", show=False),
        Binding("K", "page(-1)", "page about it up", show=False),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, chosen: Callable[[str], object]) -> None:
        """Make the screen; `chosen` receives the slice of the run that is opened."""
        super().__init__()
        self._chosen = chosen
        self._stored: Sequence[Row] = ()
        self._live: Mapping[str, RunState] = {}
        self._ended: dict[str, RunState] = {}  # last states of runs that ended while shown
        self._stamp = ""
        self._is_new = True
        self._about = ""  # id of the run that the page is about
        self._page_of = ("", "")  # id of the finished run on the page, and the store's stamp

    def compose(self) -> ComposeResult:
        """Build the frame."""
        name = self.app.store_name
        yield TopBar([("workbench", "primary"), ("  ", ""), (name, ""), (" › runs", "")])
        yield Grid(run_text.COLUMNS, id="runs")
        yield Static(id="status", markup=False)
        yield Page(id="run")
        yield KeyBar()

    @property
    def grid(self) -> Grid:
        """The list."""
        return self.query_one(Grid)

    @property
    def page(self) -> Page:
        """The page about the run under the cursor."""
        return self.query_one(Page)

    @property
    def state(self) -> "RunState | None":
        """The state of the run under the cursor; None if it has ended."""
        row = self.grid.current
        return None if row is None else self._live.get(str(row["run_id"]))

    def on_mount(self) -> None:
        """Read the runs, and poll them from now on."""
        self.grid.identity = lambda row: str(row["run_id"])
        self.grid.empty_text = "reading…"
        self.grid.focus()
        self.say(HOW.format(safe(self.app.store.path)))
        self._poll()
        self._watch()
        self.set_interval(WATCH_EVERY_S, self._watch)
        self.set_interval(POLL_EVERY_S, self._poll)

    # -- runs of the store ------------------------------------------------------------------------

    def _watch(self) -> None:
        if self.is_on_top and not self.is_open("live"):
            folder = self.app.store.spool_dir
            known = tuple(self._live.values())
            self.run_query(
                "live", always_current, lambda *_: _lives(folder, known), self._watched, quiet=True
            )

    def _watched(self, states: "tuple[list[RunState], list[tuple[RunState, str]]]") -> None:
        live, ended = states
        self._live = {state.run_id: state for state in live}
        for last, sentence in ended:
            self.say(sentence)
            self._ended[last.run_id] = last
            self._stamp = RUN_ENDED
            self._query_runs()
        self._show()

    def _poll(self) -> None:
        if self.is_on_top and not self.is_open("runs"):
            self._query_runs()

    def _query_runs(self) -> None:
        first = self.app.stamp if self._is_new else None
        work = partial(_summaries, self.app.store, first)
        self.run_query("runs", lambda: self._stamp, work, self._on_runs, quiet=True)

    def _on_runs(self, result: tuple[str, list[Row]] | None) -> None:
        self.has_looked()
        if result is not None:
            self._stamp, summaries = result
            self._is_new = False
            self._stored = [run_text.stored_row(summary) for summary in summaries]
            self._show()

    def has_failed(self, group: str, error: Exception) -> None:
        """Warn of a failed poll, which is repeated; show the error of a command."""
        if group in {"runs", "live", "run"}:
            self.warn(error)
        else:
            super().has_failed(group, error)

    def running_changed(self, *, running: bool) -> None:
        """Show that a command was sent."""
        if running:
            self.say("waiting for the run…")

    def _show(self) -> None:
        """Update the list and the page; the cursor stays on its run."""
        live = [run_text.live_row(state) for state in reversed([*self._live.values()])]
        stored = [row for row in self._stored if row["run_id"] not in self._live]
        known = {row["run_id"] for row in self._stored} | self._live.keys()
        rest = [run_text.ended_row(s) for s in self._ended.values() if s.run_id not in known]
        rows = live + rest + stored
        grid = self.grid
        grid.empty_text = "reading…" if self._is_new else EMPTY
        grid.show(ListRows(rows), keep=True)
        running = f" · {len(live)} being collected" if live else ""
        self.query_one(TopBar).show(right=[(f"{formats.counted(len(rows), 'run')}{running}", "")])
        self._show_page()

    def _show_page(self) -> None:
        row, state = self.grid.current, self.state
        self._about = "" if row is None else str(row["run_id"])
        if row is None:
            self.page.show("")
        elif state is not None:
            now, colours = dt.datetime.now(dt.UTC), self.app.theme_variables
            self._page_of = ("", "")
            self.page.show(run_text.live_page(state, now, colours, self.size.width))
        elif self._page_of != (wanted := (self._about, self._stamp)):
            self._page_of = wanted
            work = partial(_records, self.app.store)
            self.run_query(
                "run", lambda: self._page_of, work, partial(self._show_record, row), quiet=True
            )

    def _show_record(self, summary: Row, record: "RunRecord") -> None:
        if record is not None:
            self.page.show(run_text.stored_page(summary, *record))

    def on_grid_highlighted(self) -> None:
        """Show the page about another run, from its top."""
        row = self.grid.current
        if row is not None and row["run_id"] != self._about:
            self.page.scroll_home(animate=False)
            self._show_page()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Go back to the first screen, with the run's traces as the slice."""
        self._chosen(slice_edits.narrowed("", run_id=str(message.row["run_id"])))
        self.dismiss()

    # -- keys --------------------------------------------------------------------------------------

    def _live_state(self) -> "RunState | None":
        state = self.state
        if state is None:
            row = self.grid.current
            what = f"{row['run_id']} has ended" if row is not None else "there is no run"
            self.say(f"{what}; only a live run can be controlled")
        return state

    def _send(self, run_id: str, command: "AnyCommand") -> None:
        from workbench.runner.control import protocol

        folder = self.app.store.spool_dir
        self.run_query(
            "tell",
            always_current,
            lambda *_: protocol.send(folder, run_id, command),
            partial(self._on_reply, run_id),
        )

    def _on_reply(self, run_id: str, reply: "CommandResult") -> None:
        if run_id not in self._live:
            return  # the status line shows how it ended
        status = "" if reply.status == "done" else f"{reply.status}: "
        self.say(f"{run_id}: {status}{reply.said}", is_fault=reply.status == "refused")
        self._watch()

    def action_pause(self) -> None:
        """Pause the run, or resume it."""
        from workbench.runner.control.protocol import Pause, Resume

        if (state := self._live_state()) is not None:
            self._send(state.run_id, Pause() if state.paused_since is None else Resume())

    def action_stop(self, now: bool = False) -> None:
        """Stop the run after the attempts in flight, or at once, if the user confirms."""
        from workbench.runner.control.protocol import Stop
        from workbench.tui.run_controls import ConfirmScreen

        state = self._live_state()
        if state is None:
            return
        n = formats.count(state.in_flight)
        how = f"at once, without the {n} in flight" if now else f"after the {n} in flight"
        hint = "To continue it later, run the same collect command."
        question = f"Stop {state.run_id} {how}?\n\n{hint}"
        self.app.push_screen(
            ConfirmScreen("stop now" if now else "stop", question),
            lambda yes: self._send(state.run_id, Stop(now=now)) if yes else None,
        )

    def action_retune(self) -> None:
        """Change the limits of the run."""
        from workbench.tui.run_controls import RetuneScreen

        if (state := self._live_state()) is not None:
            self.app.push_screen(RetuneScreen(state), partial(self._retune, state.run_id))

    def _retune(self, run_id: str, command: "Retune | None") -> None:
        if command is not None:
            self._send(run_id, command)

    def action_page(self, by: int) -> None:
        """Scroll the page."""
        self.page.scroll_relative(y=by * max(1, self.page.size.height - 1), animate=False)

    def action_open(self) -> None:
        """Open the run under the cursor."""
        self.grid.action_open()

    def action_copy(self) -> None:
        """Copy the run's id, plan, SQL, filter or row."""
        from workbench.tui.copying import CopyScreen, run_texts

        if (row := self.grid.current) is not None:
            self.app.push_screen(CopyScreen(run_texts(self.app.store.path, row)))

    def action_back(self) -> None:
        """Go back; a command that was sent stays sent."""
        self.dismiss()


RunRecord = tuple[Mapping[str, Any], list[Mapping[str, Any]], list[tuple[str, str]]] | None


def _lives(
    spool_dir: Path, known: "Sequence[RunState]"
) -> "tuple[list[RunState], list[tuple[RunState, str]]]":
    """Return the states of live runs, and of those that ended their last state and a sentence."""
    from workbench.runner.control import protocol

    live = protocol.live_runs(spool_dir)
    names = {state.run_id for state in live}
    ended = []
    for before in known:
        if before.run_id not in names:
            last = protocol.state_of(spool_dir, before.run_id) or before
            outcome = f"has ended: {last.status}" if last.ended else LOST
            ended.append((last, f"{last.run_id} {outcome}"))
    return live, ended


def _summaries(
    store: "Store", first: str | None, stamp: str, cancel: "Cancel"
) -> tuple[str, list[Row]] | None:
    """Return the store's stamp and its runs, the newest first; None if nothing changed.

    With `first`, a stamp, the runs are read without ingesting the spool.
    """
    current = updated_stamp(store, stamp) if first is None else first
    if current is None:
        return None
    with store.facts("", "run_summary", cancel=cancel) as frame:
        rows = frame.collect("polars").to_native()
    rows = rows.sort("started_at", "run_id", descending=True, nulls_last=True)
    return current, rows.rows(named=True)


def _records(store: "Store", question: tuple[str, str], cancel: "Cancel") -> RunRecord:
    """Return a run's record, its energy balances and its plan; None if there is no such run."""
    import narwhals as nw

    run_id, _ = question
    tables = []
    with store.snapshot(cancel=cancel) as snapshot:
        for table in ("runs", "energy_balances"):
            with snapshot.facts("", table) as frame:
                rows = frame.filter(nw.col("run_id") == run_id).collect("polars").to_native()
                tables.append(rows.rows(named=True))
    records, balances = tables
    return (records[0], balances, _plan_settings(records[0]["plan"])) if records else None


def _plan_settings(plan: str | None) -> list[tuple[str, str]]:
    """Write the settings of a plan that differ from their defaults."""
    import msgspec

    from workbench.runner import Plan

    return [
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for name, value in Plan.special(plan or "null").items()
    ]
