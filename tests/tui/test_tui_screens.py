"""What the screens do, key by key, on a small real store."""

import asyncio
import csv
import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.support.screens import opened, press, settle, shown, until, write
from tests.support.tui_records import everything
from workbench.errors import QueryCancelled
from workbench.store import open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.catalogue import CatalogueScreen
from workbench.tui.compare import CompareScreen
from workbench.tui.copying import CopyScreen
from workbench.tui.empty import EmptyScreen
from workbench.tui.explore import ExploreScreen
from workbench.tui.help import HelpScreen
from workbench.tui.queries import always_current
from workbench.tui.saved_slices import NameScreen
from workbench.tui.sql import SqlScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.traces import TracesScreen
from workbench.tui.widgets.facets import Facets
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.scatter import Scatter

# -- the first screen ------------------------------------------------------------------------------


async def test_explore_lists_configurations_and_marks_the_frontier(app: WorkbenchApp) -> None:
    """A row per configuration, the best first, with its cost of a right answer; the chart
    agrees."""
    async with opened(app):
        rows = [app.screen.grid.rows.get(i) for i in range(app.screen.grid.rows.n)]
        points = {p.key: p for p in app.screen.query_one(Scatter).points}

    assert len(rows) == 6
    rates = [row["pass_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert all(row["cost_of_pass_usd"] > 0 for row in rows)
    assert any(row["on_frontier"] for row in rows)
    for row in rows:
        assert bool(row["on_frontier"]) == (row["dominated_by"] is None)
        assert points[row["configuration"]].on_frontier == row["on_frontier"]


async def test_sorting_by_key_and_by_click_keeps_the_cursor_on_its_row(app: WorkbenchApp) -> None:
    """The row under the cursor stays, wherever it goes."""
    async with opened(app) as pilot:
        grid = app.screen.grid
        await press(pilot, "down", "down")
        held = grid.current["configuration"]

        await press(pilot, ">")
        assert grid.sort_key == "cost_of_pass_usd"
        assert grid.current["configuration"] == held
        await press(pilot, "o")
        costs = [grid.rows.get(i)["cost_of_pass_usd"] for i in range(6)]
        assert costs == sorted(costs)
        await pilot.click(Grid, offset=(3, 0))
        assert grid.sort_key == "configuration"


async def test_the_axis_keys_change_what_the_chart_shows(app: WorkbenchApp) -> None:
    """x goes through costs, X through outcomes; the frontier is asked again."""
    async with opened(app) as pilot:
        await press(pilot, "x")
        assert app.screen.query_one(Scatter).x_axis.title == "seconds per trace"
        assert app.screen.query_one(Scatter).points
        await press(pilot, "x", "x", "x")
        assert app.screen.query_one(Scatter).points == []  # nobody measured energy
        await press(pilot, "X")
        assert app.screen.query_one(Scatter).y_axis.title == "mean score %"


async def test_a_filter_is_counted_while_typed_and_applied_with_enter(app: WorkbenchApp) -> None:
    """The count follows the typing, the table follows Enter, u takes it back."""
    async with opened(app) as pilot:
        await press(pilot, "slash", *"task:logic")
        assert "97 of 289" in shown(app.screen.query_one("#slice-count", Static))
        assert app.screen.n == 289

        await press(pilot, "enter")
        assert app.screen.n == 97
        assert app.focused is app.screen.grid
        await press(pilot, "u")
        assert app.screen.n == 289
        await press(pilot, "U")
        assert app.screen.bar.text == "task:logic"


async def test_a_faulty_filter_is_explained_and_not_applied(app: WorkbenchApp) -> None:
    """The reason stands beside the line; the view stays."""
    async with opened(app) as pilot:
        await write(pilot, "cost>abc", "enter")

        assert app.screen.bar.fault is not None
        assert app.screen.query_one("#slice-count").has_class("-fault")
        assert app.screen.n == 289
        await press(pilot, "escape", "escape")
        assert app.screen.bar.fault is None


async def test_completion_offers_values_and_tab_takes_one(app: WorkbenchApp) -> None:
    """After a field and a colon come its values from the store."""
    async with opened(app) as pilot:
        await write(pilot, "task:ar")
        assert app.screen.bar.suggestions.display
        await press(pilot, "tab")

        assert app.screen.bar.input.value == "task:arithmetic"
        assert not app.screen.bar.suggestions.display


async def test_facets_edit_the_slice_and_several_may_be_chosen(app: WorkbenchApp) -> None:
    """Choosing two models asks for both; dropping both asks for all."""
    async with opened(app, (120, 40)) as pilot:
        facets = app.screen.query_one(Facets)
        places = [i for i, f in enumerate(facets._shown) if f is not None and f.field == "task"]
        facets.focus()
        for place in places[:2]:
            facets.highlighted = place
            await press(pilot, "space")
        assert app.screen.bar.text == "task=arithmetic,logic"
        assert app.screen.n == 193
        listed = [f.value for f in facets._shown if f is not None and f.field == "task"]
        assert sorted(listed) == ["arithmetic", "logic", "strings"]  # the others stay on offer


async def test_a_slice_is_saved_and_found_again(tmp_path: Path) -> None:
    """s asks for a name, S lists the names."""
    path = tmp_path / "own.duckdb"
    open_store(path, create=True).ingest(everything(3))
    app = WorkbenchApp(path)
    async with opened(app) as pilot:
        await write(pilot, "wrong", "enter", "s")
        assert isinstance(app.screen, NameScreen)
        await press(pilot, *"bad", "enter", "u", "S")
        await press(pilot, "enter")

        assert app.screen.bar.text == "wrong"
    assert open_store(path).saved_slices() == {"bad": "wrong"}


async def test_new_traces_appear_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen looks at the store's stamp and asks again when it changed."""
    monkeypatch.setattr("workbench.tui.explore.POLL_EVERY_S", 0.1)
    path = tmp_path / "live.duckdb"
    records = list(everything(3))
    store = open_store(path, create=True)
    store.ingest(r for r in records[:60])
    app = WorkbenchApp(path)
    async with opened(app) as pilot:
        before = app.screen.n
        store.ingest(records)
        for _ in range(400):
            await pilot.pause(0.05)
            if app.screen.n == 289:
                break
        await settle(pilot)

        assert before is not None
        assert before < 289 == app.screen.n


async def test_escape_cancels_a_long_query(app: WorkbenchApp) -> None:
    """A query that runs says so, and stops when told."""
    stopped = threading.Event()

    def slow(_, cancel) -> None:
        store = app.store
        try:
            store.sql(
                "SELECT count(*) AS n FROM range(100000000000) AS r(i) WHERE i % 7 = 3",
                cancel=cancel,
            )
        except QueryCancelled:
            stopped.set()
            raise

    async with opened(app) as pilot:
        app.screen.run_query("configurations", always_current, slow, lambda _: None)
        count = app.screen.query_one("#slice-count", Static)
        await until(pilot, lambda: "esc cancels" in shown(count))
        await pilot.press("escape")
        await settle(pilot)

        assert await asyncio.to_thread(stopped.wait, 60)
        assert "289 of 289" in shown(app.screen.query_one("#slice-count", Static))


async def test_a_newer_question_replaces_an_older(app: WorkbenchApp) -> None:
    """The older answer never arrives, even where it was computed."""
    seen: list[int] = []
    gate = threading.Event()
    async with opened(app) as pilot:
        app.screen.run_query("x", always_current, lambda *_: gate.wait(60) and 1, seen.append)
        app.screen.run_query("x", always_current, lambda *_: 2, seen.append)
        await pilot.pause(0.1)
        gate.set()
        await settle(pilot)
        await pilot.pause(0.1)

    assert seen == [2]


async def test_a_fault_of_ours_is_shown_and_the_app_goes_on(app: WorkbenchApp) -> None:
    """An error that nobody foresaw neither kills the app nor leaves it waiting."""
    async with opened(app) as pilot:
        app.screen.run_query("anything", always_current, lambda *_: 1 / 0, lambda _: None)
        await settle(pilot)

        assert not app.screen._queries
        assert [n.message for n in app._notifications] == ["division by zero"]


# -- traces and one trace --------------------------------------------------------------------------


async def test_enter_opens_the_traces_of_a_configuration_and_back(app: WorkbenchApp) -> None:
    """The slice narrows to the configuration; wrong ones by w; escape goes back."""
    async with opened(app) as pilot:
        name = app.screen.grid.current["configuration"]
        await press(pilot, "enter")
        assert isinstance(app.screen, TracesScreen)
        assert f'"{name}"' in app.screen.bar.text
        assert {app.screen.grid.rows.get(i)["configuration"] for i in range(5)} == {name}

        n = app.screen.n
        await press(pilot, "w")
        assert 0 < app.screen.n < n
        assert not app.screen.grid.rows.get(0)["passed"]
        await press(pilot, "w")
        assert app.screen.n == n
        await press(pilot, "escape")
        assert isinstance(app.screen, ExploreScreen)


async def test_rows_far_down_are_fetched_when_seen(app: WorkbenchApp) -> None:
    """Going to the end fetches the last page, not those between."""
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        await press(pilot, "G")

        grid = app.screen.grid
        assert grid.cursor == 288
        assert grid.current is not None
        assert sorted(grid.rows._pages) == [0, 1]


async def test_traces_sort_in_the_store(app: WorkbenchApp) -> None:
    """Sorting by cost asks the store, unknown last."""
    async with opened(app) as pilot:
        app.push_screen(TracesScreen(""))
        await settle(pilot)
        app.screen.grid.sort_by("cost_usd", descending=True)
        await settle(pilot)

        costs = [app.screen.grid.rows.get(i)["cost_usd"] for i in range(50)]
        assert costs == sorted(costs, reverse=True)


async def agent_screen(app: WorkbenchApp, pilot: Pilot[None]) -> TraceScreen:
    """Open the agent's trace."""
    trace_id = app.store.page("failed", columns=["trace_id"])["trace_id"][0]
    screen = TraceScreen(trace_id)
    app.push_screen(screen)
    await settle(pilot)
    return screen


async def test_a_trace_shows_its_messages_with_thinking_folded(app: WorkbenchApp) -> None:
    """All messages come in order; thinking is folded; every call's time and cost stands once."""
    async with opened(app) as pilot:
        screen = await agent_screen(app, pilot)
        entries = screen.conversation.entries

        assert [e.kind for e in entries[:3]] == ["thinking", "tool", "result"]
        assert [e.ordinal for e in entries] == list(range(91))
        assert all(e.folded for e in entries if e.kind == "thinking")
        assert entries[0].margin[:3] == ("40 tok", "67 %", "0.700 s")
        assert entries[-1].is_error
        assert "too many turns" in entries[-1].text
        await press(pilot, "f")
        assert not any(e.folded for e in entries if e.kind == "thinking")


async def test_jumping_to_messages_tools_and_errors(app: WorkbenchApp) -> None:
    """n, t and e go to the next of a kind, and say so where there is none."""
    async with opened(app) as pilot:
        talk = (await agent_screen(app, pilot)).conversation
        await press(pilot, "n")
        assert talk.current.kind == "tool"
        await press(pilot, "t")
        assert talk.current.ordinal == 4
        await press(pilot, "e")
        assert talk.current.text == "no such file"
        await press(pilot, "e", "e")
        assert talk.current.ordinal == 90
        await press(pilot, "E", "g")
        assert talk.cursor == 0


# -- copying, help, palette ------------------------------------------------------------------------


async def test_what_is_copied_runs_and_says_where_it_is(
    app: WorkbenchApp, store_path: Path
) -> None:
    """The SQL of the view gives the view's rows; the copy is also a file."""
    async with opened(app) as pilot:
        await write(pilot, "task:logic", "enter", "y")
        assert isinstance(app.screen, CopyScreen)
        texts = app.screen.texts
        await press(pilot, "enter")

        assert isinstance(app.screen, ExploreScreen)
        assert app.clipboard == texts["SQL"][0]
    found = open_store(store_path).sql(texts["SQL"][0])
    assert found.height == 6
    assert found["n"].sum() == 96
    header = next(csv.reader(io.StringIO(texts["this row as CSV"][0])))
    assert "pass_rate" in header
    copied = list(Path.home().glob(".cache/workbench/copied/*")) or list(
        Path.home().glob("**/copied/*")
    )
    assert copied[0].read_text() == texts["SQL"][0]


@pytest.mark.parametrize("form", ["Polars", "notebook cell"])
async def test_copied_code_runs(app: WorkbenchApp, form: str) -> None:
    """Polars code and cells are complete: they run in an empty namespace."""
    async with opened(app) as pilot:
        app.push_screen(TracesScreen("task:logic right"))
        await settle(pilot)
        await press(pilot, "y")
        code = app.screen.texts[form][0]
        n = app.screen_stack[-2].n
    if form == "notebook cell":
        *lines, last = code.strip().split("\n")
        code = "\n".join([*lines, f"traces = {last}"])
    space: dict[str, object] = {}
    exec(code, space)

    assert space["traces"].lazy().collect().height == n


async def test_help_palette_and_themes_know_the_screen(app: WorkbenchApp) -> None:
    """? shows every key with its meaning, the palette has a command for it; colours follow the
    theme."""
    async with opened(app) as pilot:
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Compare", "Theme", "Save slice", "Sql"} <= titles
        dark = app.screen.grid.tone("grid--accent")
        app.theme = "workbench-light"
        await until(pilot, lambda: app.screen.grid.tone("grid--accent") != dark)

        await press(pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        keys = [what for _, what in app.screen._rows(app.screen_stack[-2])]
        assert "save slice" in keys
        await press(pilot, "escape")
        assert isinstance(app.screen, ExploreScreen)


# -- SQL, catalogue, compare -----------------------------------------------------------------------


async def test_sql_shows_rows_and_errors_and_changes_nothing(app: WorkbenchApp) -> None:
    """A result is a table; an error is in the engine's words; history recalls; writing is
    refused."""
    async with opened(app) as pilot:
        await press(pilot, "colon")
        screen = app.screen
        assert isinstance(screen, SqlScreen)
        screen.editor.text = "SELECT 1 AS one, NULL AS nothing, 'a\x1b[31m' AS text"
        await press(pilot, "f5")
        assert screen.frame.rows() == [(1, None, "a\x1b[31m")]
        screen.editor.text = "SELECT no_such_column FROM trace_facts"
        await press(pilot, "f5")
        assert "no_such_column" in shown(screen.query_one("#status", Static))
        assert screen.query_one("#status").has_class("-fault")
        await press(pilot, "f7", "f7")
        assert screen.editor.text.startswith("SELECT 1")
        screen.editor.text = "DELETE FROM traces"
        await press(pilot, "f5")
        assert screen.query_one("#status").has_class("-fault")
    assert app.store.count() == 289


async def test_the_catalogue_runs_an_analysis_with_typed_options(app: WorkbenchApp) -> None:
    """The form is made from the declaration; a bad option is explained."""
    async with opened(app) as pilot:
        await press(pilot, "a")
        screen = app.screen
        assert isinstance(screen, CatalogueScreen)
        screen.analyses.choose("summary")
        await settle(pilot)
        fields = {field.name: field for field in screen.query_one("#form").query(Input)}
        fields["by"].value = "model"
        await press(pilot, "f5")
        assert screen.result.frame["model"].to_list() == ["smol-135m", "gemma-270m"]
        fields["level"].value = "7"
        await press(pilot, "f5")
        assert "level" in shown(screen.query_one("#status", Static))


async def test_an_analysis_is_found_by_its_words(app: WorkbenchApp) -> None:
    """The slash leads to the line; the list keeps what has all words, under its family; enter
    runs."""
    async with opened(app) as pilot:
        await press(pilot, "a")
        screen = app.screen
        assert isinstance(screen, CatalogueScreen)
        assert screen.analysis.name == "compare"  # the first of the first family, below its heading
        listing = screen.analyses.listing
        await press(pilot, "slash", *"dollars")
        assert listing.get_option_at_index(0).disabled  # the family's heading
        assert "cost-of-pass" in [o.id for o in listing.options]
        assert listing.option_count < 20
        await press(pilot, "space", *"zebra")
        assert [o.id for o in listing.options] == [None]
        await press(pilot, "ctrl+u", *"really", "enter", "enter")
        assert screen.result.name == screen.analysis.name == "compare"


async def test_two_marked_configurations_are_compared_in_words(app: WorkbenchApp) -> None:
    """m marks, c compares, enter on an item shows both sides' traces of it."""
    async with opened(app) as pilot:
        await press(pilot, "c")
        assert isinstance(app.screen, ExploreScreen)  # nothing is marked yet
        await press(pilot, "m", "G", "c")
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        assert "better" in screen.result.frame["verdict"][0]
        await press(pilot, "enter")
        assert isinstance(app.screen, TracesScreen)
        assert app.screen.n == 4


# -- nothing to look at ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prepare", [None, lambda p: open_store(p, create=True)], ids=["missing", "empty"]
)
async def test_no_traces_say_what_to_do_next(
    tmp_path: Path, prepare: Callable[[Path], object] | None
) -> None:
    """The commands name the store; r looks again."""
    path = tmp_path / "here.duckdb"
    if prepare:
        prepare(path)
    app = WorkbenchApp(path)
    async with opened(app) as pilot:
        await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
        page = app.screen._page().plain
        assert f"workbench import LOGS… --store {path}" in page

        open_store(path, create=True).ingest(everything(3))
        await pilot.press("r")
        await settle(pilot)
        await settle(pilot)
        assert isinstance(app.screen, ExploreScreen)
        assert app.screen.n == 289


async def test_a_file_that_is_no_store_is_explained(tmp_path: Path) -> None:
    """The app opens all the same, and says what is wrong."""
    path = tmp_path / "notes.duckdb"
    path.write_text("these are notes, and no database of any kind\n" * 200)
    app = WorkbenchApp(path)
    async with opened(app) as pilot:
        await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
        assert str(path) in app.screen._page().plain
