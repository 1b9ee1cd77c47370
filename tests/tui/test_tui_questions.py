"""An answer is shown only while its question is the one on screen, and all of a screen is of one
moment."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from tests.support.screens import opened, press, settle, shown, until, write
from workbench import records as r
from workbench.errors import StoreError
from workbench.store import Cancel, Store, open_store
from workbench.tui import catalogue, explore, overview, traces
from workbench.tui.app import WorkbenchApp
from workbench.tui.catalogue import CatalogueScreen
from workbench.tui.compare import CompareScreen
from workbench.tui.copying import CopyScreen
from workbench.tui.empty import EmptyScreen
from workbench.tui.explore import ExploreScreen
from workbench.tui.queries import always_current
from workbench.tui.traces import TracesScreen
from workbench.tui.widgets.facets import Facet, Facets
from workbench.tui.widgets.rows import PAGE
from workbench.tui.widgets.scatter import Scatter

ITEMS = 20


class Gate:
    """Holds a call back after it has its answer, until the test lets it go."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, held back."""

        def held(*args: Any, **options: Any) -> Any:
            found = work(*args, **options)
            self.began.set()
            assert self.open.wait(60)
            return found

        return held

    async def reached(self) -> None:
        """Wait until somebody is held back."""
        assert await asyncio.to_thread(self.began.wait, 60)


def attempts(first: int, last: int, configuration: str = "direct") -> Iterator[r.AnyRecord]:
    """Traces of 20 items, every other one right; their numbers grow with time."""
    task = r.Task(task="t")
    config = r.Configuration(model="m", strategy=configuration)
    items = [r.Item(task_id=task.task_id, item=str(i)) for i in range(ITEMS)]
    yield from (r.Run(run_id="run", kind="collect", source="x"), task, config, *items)
    for i in range(first, last):
        right = i % 2 == 0
        yield r.Trace(
            run_id="run",
            configuration_id=config.configuration_id,
            task_id=task.task_id,
            item_id=items[i % ITEMS].item_id,
            trial=i // ITEMS,
            passed=right,
            score=float(right),
            answer=f"{'right' if right else 'wrong'} {i}",
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own, with 20 traces."""
    found = open_store(tmp_path / "own.duckdb", create=True)
    found.ingest(attempts(0, 20))
    return found


def answers(screen: TracesScreen) -> list[str]:
    """The answers in the table."""
    return [(screen.grid.rows.get(i) or {}).get("answer", "") for i in range(screen.grid.rows.n)]


async def test_a_late_look_does_not_overwrite_a_newer_slice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that began under all traces arrives after `wrong` was applied: the wrong ones stay."""
    gate = Gate()
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        screen = app.screen
        monkeypatch.setattr(traces.Listing, "newer", gate.around(traces.Listing.newer))
        store.ingest(attempts(20, 40))
        screen._poll()
        await gate.reached()
        await pilot.press("w")
        await until(pilot, lambda: screen.listing.text == "wrong")
        gate.open.set()
        await settle(pilot)

        assert screen.n == screen.grid.rows.n == 20
        assert all(answer.startswith("wrong") for answer in answers(screen))
        assert screen.total == 40


async def test_rows_of_an_older_order_do_not_come_into_a_newer_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was asked for in one order arrives after another was chosen: no row stands
    twice."""
    store.ingest(attempts(20, 3 * PAGE))
    gate = Gate()
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        screen = app.screen
        with monkeypatch.context() as held:
            held.setattr(traces.Listing, "pages", gate.around(traces.Listing.pages))
            await pilot.press("G")
            await gate.reached()
        screen.grid.sort_by("trial", descending=True)
        await until(pilot, lambda: screen.listing.key == "trial")
        gate.open.set()
        await settle(pilot)
        await press(pilot, *["pagedown"] * 30)
        await settle(pilot)

        trials = [row["trial"] for _, row in sorted(screen.grid.rows.here(), key=lambda x: x[0])]
        assert trials == sorted(trials, reverse=True)


async def test_pages_of_a_store_that_changed_meanwhile_bring_a_whole_new_list(
    store: Store,
) -> None:
    """Rows of two moments never stand in one list: all that was pushed down is seen once."""
    store.ingest(attempts(20, 2 * PAGE))
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        screen = app.screen
        screen.grid.sort_by("trial", descending=True)
        await settle(pilot)
        store.ingest(attempts(2 * PAGE, 2 * PAGE + 40))
        await press(pilot, "G")

        assert screen.n == screen.total == 2 * PAGE + 40
        ids = [row["trace_id"] for _, row in screen.grid.rows.here()]
        assert len(set(ids)) == len(ids)


async def test_the_cursor_stays_on_its_trace_when_many_come_before_it(store: Store) -> None:
    """The trace under the cursor is known by what it is, also where it moves to a page not fetched
    yet."""
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        screen = app.screen
        screen.grid.sort_by("trial", descending=True)
        await settle(pilot)
        await press(pilot, *["down"] * 7)
        held = screen.grid.current["trace_id"]
        store.ingest(attempts(20, 4 * PAGE))
        screen._poll()
        await settle(pilot)

        assert screen.n == 4 * PAGE
        assert screen.grid.cursor > PAGE
        assert screen.grid.current["trace_id"] == held


async def test_counts_while_typing_are_of_one_moment(store: Store) -> None:
    """The store grew since the screen was drawn: what a line selects is never more than there
    is."""
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        store.ingest(attempts(20, 200))
        await press(pilot, "slash", *"right")

        assert "100 of 200" in shown(app.screen.query_one("#slice-count", Static))


async def test_all_parts_of_the_first_screen_are_of_one_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frontier of other axes is read after the store changed: the table follows at once."""
    monkeypatch.setattr(explore, "POLL_EVERY_S", 1e9)
    app = WorkbenchApp(store.path)
    async with opened(app, (130, 40)) as pilot:
        store.ingest(attempts(0, 60, "cot"))
        await press(pilot, "x")
        screen = app.screen

        names = {row["configuration"] for row in screen.rows}
        assert names == {"m direct", "m cot"}
        assert screen.n == screen.total == screen.overview.n_traces == 80
        facets = [f for f in screen.query_one(Facets)._shown if f is not None]
        assert sum(f.n for f in facets if f.field == "strategy") == 80


async def test_a_late_frontier_is_not_drawn_on_other_axes(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds were asked for, then tokens: the seconds never stand under the title of the
    tokens."""
    gate = Gate()
    async with opened(app) as pilot:
        with monkeypatch.context() as held:
            held.setattr(overview, "frontier", gate.around(overview.frontier))
            await pilot.press("x")
            await gate.reached()
        await press(pilot, "x")
        gate.open.set()
        await settle(pilot)

        chart = app.screen.query_one(Scatter)
        assert chart.x_axis.title == "output tokens per trace"
        assert all(p.x > 10 for p in chart.points)
        assert "over output tokens per trace" in shown(app.screen.query_one("#notes", Static))


async def test_the_answer_of_one_analysis_is_not_shown_under_another(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While `summary` runs the cursor goes on: its table does not appear as that of the next
    one."""
    gate = Gate()
    async with opened(app) as pilot:
        await press(pilot, "a")
        screen = app.screen
        assert isinstance(screen, CatalogueScreen)
        screen.analyses.choose("summary")
        await settle(pilot)
        monkeypatch.setattr(catalogue, "_run", gate.around(catalogue._run))
        await pilot.press("f5")
        await gate.reached()
        screen.analyses.choose("frontier")
        await until(pilot, lambda: screen.analysis.name == "frontier")
        gate.open.set()
        await settle(pilot)

        assert screen.result is None
        assert screen.query_one("#answer").rows.n == 0
        assert "changed" in shown(screen.query_one("#status", Static))


async def test_a_table_says_that_it_is_no_answer_to_other_options(app: WorkbenchApp) -> None:
    """The form was changed after the answer came: the line above the table says so, until it is
    changed back."""
    async with opened(app) as pilot:
        await press(pilot, "a")
        screen = app.screen
        screen.analyses.choose("summary")
        await settle(pilot)
        await press(pilot, "f5")
        status, by = screen.query_one("#status", Static), screen.query_one("#form").query(Input)[0]
        assert shown(status) == "6 rows"
        by.value = "model"
        await pilot.pause()
        assert "changed" in shown(status)
        by.value = "configuration"
        await pilot.pause()

        assert shown(status) == "6 rows"


async def test_a_sorted_table_stays_sorted_when_it_is_asked_again(app: WorkbenchApp) -> None:
    """The arrow in the head tells the truth; another analysis begins without one."""
    async with opened(app) as pilot:
        await press(pilot, "a")
        screen = app.screen
        grid = screen.query_one("#answer")
        screen.analyses.choose("summary")
        await settle(pilot)
        await press(pilot, "f5")
        grid.sort_by("output_tokens", descending=True)
        await settle(pilot)
        await press(pilot, "f5")
        tokens = [grid.rows.get(i)["output_tokens"] for i in range(6)]
        assert grid.sort_key == "output_tokens"
        assert tokens == sorted(tokens, reverse=True)
        screen.analyses.choose("frontier")
        await settle(pilot)
        await press(pilot, "f5")

        assert grid.sort_key == ""


async def test_a_facet_under_the_cursor_is_known_by_its_value(app: WorkbenchApp) -> None:
    """Others come before it: space still chooses what one looked at."""
    async with opened(app, (120, 40)) as pilot:
        facets = app.screen.query_one(Facets)
        place = next(i for i, f in enumerate(facets._shown) if f is not None and f.value == "logic")
        facets.highlighted = place
        known = [f for f in facets._shown if f is not None]
        facets.show([Facet("task", "zebra", 999, 0.5), *known], {})
        await pilot.pause()

        held = facets._shown[facets.highlighted]
        assert (held.field, held.value) == ("task", "logic")


async def test_escape_gives_up_an_answer_that_no_query_holds_back(app: WorkbenchApp) -> None:
    """An estimate cannot be interrupted: its answer is dropped all the same, and the screen is free
    at once."""
    gate, seen = threading.Event(), []
    async with opened(app) as pilot:
        app.screen.run_query(
            "estimate", always_current, lambda *_: gate.wait(60) and 1, seen.append
        )
        await pilot.pause(0.2)
        await pilot.press("escape")
        await pilot.pause()
        assert not app.screen.is_busy
        gate.set()
        await settle(pilot)
        await pilot.pause(0.1)

    assert seen == []


async def test_a_look_that_fails_is_told_once(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on screen is not followed any more: the reason is said, not every two seconds."""

    def fails(*_: object) -> str:
        raise StoreError("the disk is gone")

    async with opened(app) as pilot:
        monkeypatch.setattr(explore, "updated_stamp", fails)
        for _ in range(3):
            app.screen._poll()
            await settle(pilot)
        told = [n.message for n in app._notifications if "the disk is gone" in n.message]

        assert isinstance(app.screen, ExploreScreen)
        assert len(told) == 1


async def test_escape_leaves_a_way_on_while_a_store_is_opened(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening takes forever: Esc gives up at once, the page says what can be done, and r tries
    again."""
    gate = Gate()
    app = WorkbenchApp(store.path)
    monkeypatch.setattr(explore, "_open", gate.around(explore._open))
    async with app.run_test(size=(100, 30)) as pilot:
        await gate.reached()
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
        assert "press r to try again" in app.screen._page().plain
        gate.open.set()
        await pilot.press("r")
        await until(pilot, lambda: getattr(app.screen, "n", None) == 20)


async def test_whoever_is_waited_for_is_named(app: WorkbenchApp) -> None:
    """A query that waits for the store says who has it."""
    gate = threading.Event()

    def waits(_: None, cancel: Cancel) -> None:
        cancel.waiting_for = "workbench, process 4711"
        assert gate.wait(60)

    async with opened(app) as pilot:
        app.screen.run_query("configurations", always_current, waits, lambda _: None)
        count = app.screen.query_one("#slice-count", Static)
        await until(pilot, lambda: "process 4711" in shown(count))
        gate.set()
        await settle(pilot)
        assert "289 of 289" in shown(count)


@contextmanager
def stranger(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that has a store for itself until it reads a line."""
    code = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


async def test_a_store_that_a_stranger_keeps_open_names_it(store: Store) -> None:
    """Another program has the file for itself: within seconds the page names its process."""
    app = WorkbenchApp(store.path)
    async with app.run_test(size=(100, 30)) as pilot:
        with stranger(store.path) as holder:
            await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
            assert str(holder.pid) in app.screen._page().plain
        await pilot.press("r")
        await until(pilot, lambda: getattr(app.screen, "n", None) == 20)


async def test_a_folder_that_cannot_be_written_does_not_end_the_app(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The copy is in the clipboard all the same; which file could not be written is said."""
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with opened(app) as pilot:
        await press(pilot, "y", "enter")
        told = [n.message for n in app._notifications]

        assert isinstance(app.screen, ExploreScreen)
        assert "SELECT" in app.clipboard
        assert "SQL copied" in told[-1]
        assert "cannot be written" in told[-1]


async def test_a_terminal_that_refuses_the_clipboard_does_not_end_the_app(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is in its file, and that is said."""

    def refuses(*_: object) -> None:
        raise OSError(5, "Input/output error")

    async with opened(app) as pilot:
        monkeypatch.setattr(app, "copy_to_clipboard", refuses)
        await press(pilot, "y", "enter")
        told = [n.message for n in app._notifications]

        assert isinstance(app.screen, ExploreScreen)
        assert "the terminal refused SQL" in told[-1]
        assert "it is in" in told[-1]


async def test_a_long_message_that_cannot_be_fetched_says_why(app: WorkbenchApp) -> None:
    """What was to be copied is gone from the store: the window stays and the reason is shown."""

    def gone() -> str:
        raise StoreError("there is no text any more")

    async with opened(app) as pilot:
        app.push_screen(CopyScreen({"this message": ("beginning", "txt")}, {"this message": gone}))
        await press(pilot, "enter")

        assert isinstance(app.screen, CopyScreen)
        assert "no text any more" in [n.message for n in app._notifications][-1]


async def test_a_line_that_names_what_the_store_lacks_is_explained_where_it_is_typed(
    app: WorkbenchApp,
) -> None:
    """No window pops up at every key of an unfinished name."""
    async with opened(app) as pilot:
        await press(pilot, "slash", *"params.do>1")

        assert not app._notifications
        count = app.screen.query_one("#slice-count", Static)
        assert count.has_class("-fault")
        assert "params" in shown(count)
        await press(pilot, "enter")
        assert app.screen.n == 289
        assert count.has_class("-fault")


async def test_an_order_that_was_given_up_is_not_claimed(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Esc while the rows are sorted: the arrow stays at the column that they are sorted by."""
    gate = Gate()
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        screen = app.screen
        with monkeypatch.context() as held:
            held.setattr(traces.Listing, "first", gate.around(traces.Listing.first))
            screen.grid.sort_by("cost_usd", descending=True)
            await gate.reached()
            await pilot.press("escape")
            await settle(pilot)
        gate.open.set()

        assert app.screen is screen
        assert (screen.grid.sort_key, screen.grid.descending) == ("started_at", False)
        await press(pilot, "G")
        times = [
            row["started_at"] for _, row in sorted(screen.grid.rows.here(), key=lambda x: x[0])
        ]
        assert times == sorted(times)


async def test_a_mark_on_a_configuration_that_is_filtered_away_does_not_count(
    app: WorkbenchApp,
) -> None:
    """Otherwise it could neither be compared with nor taken away."""
    async with opened(app) as pilot:
        await press(pilot, "m")
        gone = next(iter(app.screen.grid.marked))
        await write(pilot, f'-configuration="{gone}"', "enter", "m", "down", "m", "c")

        assert isinstance(app.screen, CompareScreen)
        assert gone not in {app.screen.a, app.screen.b}
