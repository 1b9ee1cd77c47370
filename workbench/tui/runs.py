"""The runs of the store, those that are being collected on top: watched, steered, and opened as a slice."""

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
from workbench.tui import run_text, slices
from workbench.tui.asking import StatusScreen, once
from workbench.tui.looking import LOOK_EVERY, newer
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.page import Page
from workbench.tui.widgets.rows import ListRows, Row
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.runner.control.protocol import AnyCommand, CommandResult, Retune, RunState
    from workbench.store import Cancel, Store

WATCH_EVERY = 1.0  # seconds; a run says as often how it stands
GONE = "gone"  # no store's stamp: what a run left behind is taken in, so that the store knows how it ended
LOST = "lost its collector; the same collect command goes on where it was"
EMPTY = "nothing was collected or imported yet; in a shell: workbench collect PLAN.toml"
HOW = "a collection begins in a shell: workbench collect PLAN.toml --store {}"


class RunsScreen(StatusScreen):
    """A line per run, and a page about the one under the cursor."""

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
        """Show runs; `chosen` takes the slice of the one that is opened."""
        super().__init__()
        self._chosen = chosen
        self._stored: Sequence[Row] = ()
        self._live: Mapping[str, RunState] = {}
        self._ended: dict[str, RunState] = {}  # the last words of those that lived a moment ago
        self._stamp, self._is_new = "", True
        self._about = ""  # the run that the page is about
        self._told_of = (
            "",
            "",
        )  # the run that is over and was asked for, and the store's stamp then

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
        """What is said of the run under the cursor."""
        return self.query_one(Page)

    @property
    def state(self) -> "RunState | None":
        """What the run under the cursor says of itself; None where it is over."""
        row = self.grid.current
        return None if row is None else self._live.get(str(row["run_id"]))

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self.grid.identity = lambda row: str(row["run_id"])
        self.grid.empty_text = "looking…"
        self.grid.focus()
        self.say(HOW.format(safe(self.app.store.path)))
        self._look()
        self._watch()
        self.set_interval(WATCH_EVERY, self._watch)
        self.set_interval(LOOK_EVERY, self._look)

    # -- what there is -----------------------------------------------------------------------------

    def _watch(self) -> None:
        if self.is_on_top and not self.is_open("live"):
            folder = self.app.store.spool_dir
            known = tuple(self._live.values())
            self.ask("live", once, lambda *_: _lives(folder, known), self._watched, quiet=True)

    def _watched(self, found: "tuple[list[RunState], list[tuple[RunState, str]]]") -> None:
        live, ended = found
        self._live = {state.run_id: state for state in live}
        for last, said in ended:
            self.say(said)
            self._ended[last.run_id] = last
            self._stamp = GONE
            self._ask_runs()
        self._show()

    def _look(self) -> None:
        if self.is_on_top and not self.is_open("runs"):
            self._ask_runs()

    def _ask_runs(self) -> None:
        first = self.app.stamp if self._is_new else None
        work = partial(_summaries, self.app.store, first)
        self.ask("runs", lambda: self._stamp, work, self._looked, quiet=True)

    def _looked(self, found: tuple[str, list[Row]] | None) -> None:
        self.has_looked()
        if found is not None:
            self._stamp, summaries = found
            self._is_new = False
            self._stored = [run_text.stored_row(summary) for summary in summaries]
            self._show()

    def has_failed(self, group: str, error: Exception) -> None:
        """A look that failed is made again; whoever told a run something gets the reason."""
        if group in {"runs", "live", "run"}:
            self.warn(error)
        else:
            super().has_failed(group, error)

    def running_changed(self, *, running: bool) -> None:
        """Say that a run is being asked; its answer says the rest."""
        if running:
            self.say("the run is asked…")

    def _show(self) -> None:
        """Draw the list and the page again; the cursor stays on its run."""
        live = [run_text.live_row(state) for state in reversed([*self._live.values()])]
        stored = [row for row in self._stored if row["run_id"] not in self._live]
        known = {row["run_id"] for row in self._stored} | self._live.keys()
        rest = [run_text.ended_row(s) for s in self._ended.values() if s.run_id not in known]
        rows = live + rest + stored
        grid = self.grid
        grid.empty_text = "looking…" if self._is_new else EMPTY
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
            self._told_of = ("", "")
            self.page.show(run_text.live_page(state, now, colours, self.size.width))
        elif self._told_of != (wanted := (self._about, self._stamp)):
            self._told_of = wanted
            work = partial(_records, self.app.store)
            self.ask("run", lambda: self._told_of, work, partial(self._tell, row), quiet=True)

    def _tell(self, summary: Row, found: "Found") -> None:
        if found is not None:
            self.page.show(run_text.stored_page(summary, *found))

    def on_grid_highlighted(self) -> None:
        """Tell of another run, from its beginning."""
        row = self.grid.current
        if row is not None and row["run_id"] != self._about:
            self.page.scroll_home(animate=False)
            self._show_page()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Go back to the first screen, with the run's traces as the slice."""
        self._chosen(slices.narrowed("", run_id=str(message.row["run_id"])))
        self.dismiss()

    # -- keys --------------------------------------------------------------------------------------

    def _steered(self) -> "RunState | None":
        state = self.state
        if state is None:
            row = self.grid.current
            what = f"{row['run_id']} is over" if row is not None else "there is no run"
            self.say(f"{what}; only a run that is being collected can be steered")
        return state

    def _send(self, run_id: str, command: "AnyCommand") -> None:
        from workbench.runner.control import protocol

        folder = self.app.store.spool_dir
        self.ask(
            "tell",
            once,
            lambda *_: protocol.send(folder, run_id, command),
            partial(self._taken, run_id),
        )

    def _taken(self, run_id: str, taken: "CommandResult") -> None:
        if run_id not in self._live:
            return  # how it ended has been said already
        status = "" if taken.status == "done" else f"{taken.status}: "
        self.say(f"{run_id}: {status}{taken.said}", is_fault=taken.status == "refused")
        self._watch()

    def action_pause(self) -> None:
        """Begin no new attempts, or begin them again."""
        from workbench.runner.control.protocol import Pause, Resume

        if (state := self._steered()) is not None:
            self._send(state.run_id, Pause() if state.paused_since is None else Resume())

    def action_stop(self, now: bool = False) -> None:
        """End the run after what is in flight, or at once; ask before."""
        from workbench.runner.control.protocol import Stop
        from workbench.tui.steering import AskScreen

        state = self._steered()
        if state is None:
            return
        n = formats.count(state.in_flight)
        how = f"at once, without the {n} in flight" if now else f"after what is in flight ({n})"
        question = f"End {state.run_id} {how}?\n\nThe same collect command goes on where it ends."
        self.app.push_screen(
            AskScreen("stop now" if now else "stop", question),
            lambda yes: self._send(state.run_id, Stop(now=now)) if yes else None,
        )

    def action_retune(self) -> None:
        """Change the limits of the run."""
        from workbench.tui.steering import RetuneScreen

        if (state := self._steered()) is not None:
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
        """Copy what finds the run elsewhere."""
        from workbench.tui.copying import CopyScreen, run_texts

        if (row := self.grid.current) is not None:
            self.app.push_screen(CopyScreen(run_texts(self.app.store.path, row)))

    def action_back(self) -> None:
        """Go back; what a run was told it has been told."""
        self.dismiss()


Found = tuple[Mapping[str, Any], list[Mapping[str, Any]], list[tuple[str, str]]] | None


def _lives(
    spool_dir: Path, known: "Sequence[RunState]"
) -> "tuple[list[RunState], list[tuple[RunState, str]]]":
    """List the runs that live, and say what became of those that did: their last state, a sentence."""
    from workbench.runner.control import protocol

    live = protocol.live_runs(spool_dir)
    names, told = {state.run_id for state in live}, []
    for before in known:
        if before.run_id not in names:
            last = protocol.state_of(spool_dir, before.run_id) or before
            said = f"has ended: {last.status}" if last.ended else LOST
            told.append((last, f"{last.run_id} {said}"))
    return live, told


def _summaries(
    store: "Store", first: str | None, stamp: str, cancel: "Cancel"
) -> tuple[str, list[Row]] | None:
    """Return the store's runs, the newest first, and the stamp that they stand for; None where nothing changed.

    With `first`, a stamp, they are those that are there, whatever waits in the spool.
    """
    found = newer(store, stamp) if first is None else first
    if found is None:
        return None
    with store.facts("", "run_summary", cancel=cancel) as frame:
        rows = frame.collect("polars").to_native()
    return found, rows.sort("started_at", "run_id", descending=True, nulls_last=True).rows(
        named=True
    )


def _records(store: "Store", asked: tuple[str, str], cancel: "Cancel") -> Found:
    """Return a run's record, its energy balances, and what was asked for; None where there is no such run."""
    import narwhals as nw

    found = []
    with store.snapshot(cancel=cancel) as held:
        for table in ("runs", "energy_balances"):
            with held.facts("", table) as frame:
                rows = frame.filter(nw.col("run_id") == asked[0]).collect("polars").to_native()
                found.append(rows.rows(named=True))
    records, balances = found
    return (records[0], balances, _asked_for(records[0]["plan"])) if records else None


def _asked_for(plan: str | None) -> list[tuple[str, str]]:
    """Write a plan's settings that are not as by default."""
    import msgspec

    from workbench.runner import Plan

    return [
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for name, value in Plan.special(plan or "null").items()
    ]
