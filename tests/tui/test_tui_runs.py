"""The screen of runs: a real collection watched and steered by keys, and what is said of one that
is over."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.support import control
from tests.support.control import Launch
from tests.support.screens import Begun, opened, press, shown, until
from workbench import records as r
from workbench.runner.control.protocol import Retune, RunState
from workbench.runner.execution import controller as collector
from workbench.runner.limits.progress import ModelState
from workbench.store import open_store
from workbench.tui import run_controls, run_text, runs
from workbench.tui.app import WorkbenchApp
from workbench.tui.empty import EmptyScreen
from workbench.tui.explore import ExploreScreen
from workbench.tui.run_controls import ConfirmScreen, RetuneScreen
from workbench.tui.runs import RunsScreen
from workbench.tui.traces import TracesScreen

NOW = dt.datetime(2026, 10, 1, 12, 0, 10, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for the next look."""
    monkeypatch.setattr(collector, "POLL_S", 0.05)
    monkeypatch.setattr(collector, "PUBLISH_S", 0.1)
    monkeypatch.setattr(runs, "WATCH_EVERY_S", 0.1)
    monkeypatch.setattr(runs, "POLL_EVERY_S", 0.2)


class Server(control.Server):
    """Waits in longer breaths: it shares the processor with the app."""

    def steps(self, number: int) -> Iterator[object]:
        while not self.gate.is_set() and self.allowed <= 0:
            yield 0.04
        yield from super().steps(number)


@pytest.fixture
def path(store_path: Path, tmp_path: Path) -> Path:
    """The sample in a store of the test's own."""
    return Path(shutil.copy(store_path, tmp_path / "own.duckdb"))


async def hit(pilot: Pilot[None], *keys: str) -> None:
    """Press keys without waiting for answers: a screen that watches always waits for one."""
    for key in keys:
        await pilot.press(key)


async def on_runs(app: WorkbenchApp, pilot: Pilot[None]) -> RunsScreen:
    """Press the key that shows the runs."""
    await hit(pilot, "r")
    assert isinstance(app.screen, RunsScreen)
    screen = app.screen
    await until(pilot, lambda: screen.grid.rows.n and not screen._is_new)
    return screen


def said(screen: RunsScreen) -> str:
    """What the line below the list says."""
    return shown(screen.query_one("#status", Static))


def written(page: Any, width: int = 100) -> str:
    """A page as lines of text."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(page)
    return capture.get()


def page_of(screen: RunsScreen) -> str:
    """The page about the run under the cursor."""
    return screen.page.text.plain


# -- a collection that runs ------------------------------------------------------------------------


async def test_a_running_collection_is_watched_paused_retuned_and_seen_to_its_end(
    path: Path,
) -> None:
    """Its line is on top and moves; every key's answer is told; then enter opens its traces."""
    app = WorkbenchApp(path)
    spool = path.with_name(path.name + ".spool")
    with Server() as server, Launch(spool, server.url, concurrency=2, trials=4) as launch:
        async with opened(app, (80, 24)) as pilot:
            screen = await on_runs(app, pilot)
            await until(pilot, lambda: screen.state and screen.state.in_flight == 2)
            assert [screen.grid.rows.get(i)["run_id"] for i in range(2)] == ["r1", "run-1"]

            await hit(pilot, "p")
            await until(pilot, lambda: "no new attempts" in said(screen))
            await until(pilot, lambda: screen.state.status == "paused")
            assert launch.state.status == "paused"

            await hit(pilot, "t")
            assert isinstance(app.screen, RetuneScreen)
            field = app.screen.query(Input).first()
            field.value = "many"
            await hit(pilot, "enter")
            assert "'many' is not valid" in shown(app.screen.query_one("#status", Static))
            field.value = "5"
            await hit(pilot, "enter")
            await until(pilot, lambda: said(screen) == "r1: concurrency = 5")
            await hit(pilot, "p")
            await until(pilot, lambda: screen.state.in_flight == 5)
            server.allowed = 3
            await until(pilot, lambda: screen.grid.current["n_made"] == 3)

            server.gate.set()
            await until(pilot, lambda: said(screen) == "r1 has ended: done")
            await until(pilot, lambda: screen.grid.current["n_made"] == 12)
            await until(pilot, lambda: "12 traces" in page_of(screen))
            await press(pilot, "enter")
            assert isinstance(app.screen, ExploreScreen)
            assert (app.screen.bar.text, app.screen.n) == ("run=r1", 12)


async def test_stopping_asks_first_and_a_refusal_is_told(path: Path) -> None:
    """No budget in dollars without a price; esc and n leave the run alone, y ends it."""
    app = Begun(path, lambda: RunsScreen(print))
    spool = path.with_name(path.name + ".spool")
    with Server() as server, Launch(spool, server.url, concurrency=2, trials=4) as launch:
        async with opened(app) as pilot:
            screen = app.screen
            await until(pilot, lambda: screen.state and screen.state.in_flight == 2)
            await hit(pilot, "t")
            app.screen.query(Input)[1].value = "3"
            await hit(pilot, "enter")
            await until(
                pilot, lambda: "refused: a budget in dollars cannot be kept" in said(screen)
            )

            await hit(pilot, "S")
            assert isinstance(app.screen, ConfirmScreen)
            await hit(pilot, "escape", "s", "n")
            assert app.screen is screen
            assert launch.state.status == "running"
            await hit(pilot, "s", "y")
            await until(pilot, lambda: screen.state.status == "stopping")
            await hit(pilot, "S", "y")
            await until(pilot, lambda: said(screen) == "r1 has ended: cancelled")
        assert launch.end().status == "cancelled"


async def test_traces_that_are_collected_meanwhile_appear_in_the_list(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor stays on its trace."""
    monkeypatch.setattr("workbench.tui.traces.POLL_EVERY_S", 0.1)
    app = Begun(path, lambda: TracesScreen(""))
    with Server() as server, Launch(path.with_name(path.name + ".spool"), server.url):
        async with opened(app) as pilot:
            screen = app.screen
            await press(pilot, "down", "down")
            held = screen.grid.current
            server.gate.set()
            await until(pilot, lambda: screen.n == 292)

            assert screen.grid.rows.n == 292
            assert screen.grid.current == held


async def test_the_first_traces_of_an_empty_store_bring_the_first_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens the app before the first answer need press nothing."""
    monkeypatch.setattr("workbench.tui.explore.POLL_EVERY_S", 0.1)
    path = tmp_path / "own.duckdb"
    open_store(path, create=True)
    app = WorkbenchApp(path)
    with Server() as server, Launch(path.with_name(path.name + ".spool"), server.url):
        async with opened(app) as pilot:
            await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
            server.gate.set()
            await until(pilot, lambda: isinstance(app.screen, ExploreScreen) and app.screen.n == 3)


def test_a_run_that_went_away_is_told(tmp_path: Path) -> None:
    """Who did not say how it ended is gone."""
    live, told = runs._lives(tmp_path, [state(run_id="x")])

    assert (live, [last.run_id for last, _ in told]) == ([], ["x"])
    assert told[0][1] == "x lost its process; to continue it, run the same collect command"


def state(**fields: Any) -> RunState:
    """A state with little in it."""
    usual = {
        "run_id": "r1",
        "pid": 7,
        "host": "here",
        "status": "running",
        "plan": "{}",
        "planned": 10,
        "before": 2,
        "done": 3,
        "failed": 1,
        "in_flight": 2,
        "left": 5,
        "n_items": 5,
        "elapsed_s": 61.0,
        "concurrency": 2,
        "concurrency_cap": 4,
        "retries": 0,
        "timeout_s": 60.0,
        "at": NOW,
        "started_at": NOW,
    }
    return RunState(**usual | fields)


def live(**fields: Any) -> str:
    """What the page says of a state."""
    return written(run_text.live_page(state(**fields), NOW + dt.timedelta(seconds=1), COLOURS, 100))


COLOURS = dict.fromkeys(("primary", "warning", "success", "error"), "red")


def test_the_page_of_a_run_says_what_was_spent_of_what_may_be() -> None:
    """Counts hold what earlier launches made; what nobody knows is a dash; no budget is no bar."""
    page = live(spent_tokens=500, budget_tokens=1000.0, rate_per_s=0.5, eta_s=3700.0)

    assert "5 of 10 · 1 failed · 2 in flight · 0.500 per s · 1:01:40 to go" in page
    lines = {line.split()[0]: line.split() for line in page.splitlines() if line.strip()}
    assert lines["tokens"] == ["tokens", "500", "1,000", "█" * 10]
    assert lines["dollars"] == ["dollars", "—", "no", "budget"]
    assert lines["time"][:2] == ["time", "1:01"]


def test_the_page_of_a_run_says_what_holds_it_back() -> None:
    """A pause, a model that waits at the server's wish, silence."""
    model = ModelState(
        "p",
        "m",
        cap=4,
        limit=2,
        in_flight=1,
        waiting=3,
        n_overloads=5,
        last_error="http_429",
        last_error_at=NOW,
        paused_until=NOW + dt.timedelta(seconds=31),
        why="halved",
    )

    page = live(models=(model,), status="paused", paused_since=NOW - dt.timedelta(seconds=4))
    assert "paused for 0:05" in page
    assert "m: paused 30 s, 1 of 2 at once (cap 4: halved)" in page
    assert "http_429, 0:01 ago" in page
    assert "none for now" in page
    assert "no news for 0:11" in live(at=NOW - dt.timedelta(seconds=10))


# -- the form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ({}, None),
        ({"concurrency": "8"}, Retune(concurrency=8)),
        ({"budget_tokens": "none"}, Retune(lift=("budget_tokens",))),
        ({"budget_usd": "0.5", "retries": "2"}, Retune(budget_usd=0.5, retries=2)),
    ],
    ids=["nothing", "more at once", "lifted", "two"],
)
def test_only_what_was_changed_is_sent(typed: dict[str, str], command: Retune | None) -> None:
    """What holds already is not told again; none lifts a budget."""
    held = run_controls.limits_of(state(budget_tokens=1e6))
    assert held["budget_tokens"] == "1000000"
    assert held["budget_usd"] == "none"

    found = run_controls.changed(held, held | typed)

    if command is None:
        assert found is None
    else:
        assert found is not None
        assert msgspec.to_builtins(found) == msgspec.to_builtins(command)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("concurrency", "0", "at once: '0' is not valid; write a whole number, 1 to 10,000"),
        ("concurrency", "2.5", "a whole number"),
        ("budget_usd", "-1", "dollars: '-1' is not valid; write a number, from 0 on, or none"),
        ("budget_usd", "1,5", "'1,5'"),
        ("timeout_s", "0", "above 0"),
        ("timeout_s", "nan", "'nan'"),
        ("retries", "none", "0 to 100"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_can(name: str, text: str, told: str) -> None:
    """The bounds are those of the command itself."""
    held = run_controls.limits_of(state())

    with pytest.raises(ValueError, match="is not valid") as caught:
        run_controls.changed(held, held | {name: text})

    assert told in str(caught.value)


# -- a run that is over ----------------------------------------------------------------------------


async def test_a_run_that_is_over_tells_its_plan_and_its_energy_and_cannot_be_steered(
    tmp_path: Path,
) -> None:
    """Settings as by default are left out; the balance says whether it holds; p explains itself."""
    path = tmp_path / "own.duckdb"
    plan = {"models": ["m"], "tasks": ["t"], "trials": 1, "seed": 9, "base_url": None}
    run = r.Run(
        run_id="r1",
        kind="collect",
        source="runner",
        status="done",
        started_at=NOW,
        n_planned=4,
        ended_at=NOW + dt.timedelta(seconds=90),
        plan=json.dumps(plan),
    )
    task, config = r.Task(task="t"), r.Configuration(model="m")
    item = r.Item(task_id=task.task_id, item="0")
    trace = r.Trace(
        run_id="r1",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        passed=True,
        score=1.0,
    )
    balance = r.EnergyBalance(
        run_id="r1",
        device="gpu0",
        meter="nvml",
        meter_j=2000.0,
        calls_j=1200.0,
        idle_j=700.0,
        unattributed_j=100.0,
        mismatch=0.0,
        is_conserved=True,
    )
    open_store(path, create=True).ingest([run, task, config, item, trace, balance])
    app = Begun(path, lambda: RunsScreen(print))
    async with opened(app) as pilot:
        screen = app.screen
        await until(pilot, lambda: "gpu0" in page_of(screen))
        await hit(pilot, "p")
        assert "r1 has ended; only a live run can be controlled" in said(screen)
        page = page_of(screen)

    assert "4 planned, 1 trace, 0 failed, 1 right of 1 scored" in page
    assert "1:30 from 2026-10-01 12:00:10" in page
    assert "$0" not in page  # nobody knows what it cost
    assert ["gpu0", "2.00", "kJ", "1.20", "kJ", "700", "J", "100", "J", "holds"] in [
        line.split() for line in page.splitlines()
    ]
    assert ["models", '["m"]'] in [line.split() for line in page.splitlines()]
    assert "trials" not in page
    assert "workbench runs show r1 > plan.toml" in page


def test_a_run_that_another_tool_made_offers_no_plan(tmp_path):
    """What it asked for is shown, but `collect` cannot read it."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest([r.Run(run_id="r2", kind="import", source="inspect", started_at=NOW)])
    (summary,) = store.sql("FROM run_summary").rows(named=True)
    (record,) = store.sql("FROM runs").rows(named=True)
    page = written(run_text.stored_page(summary, record, (), [("solvers", "generate")]))
    assert "solvers" in page
    assert "plan.toml" not in page
