"""Hostile and huge content: nothing acts on the terminal, nothing takes long."""

import datetime as dt
import time
from pathlib import Path

import pytest

from tests.support.screens import cells, opened, press, settle
from workbench import records as r
from workbench.store import open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.compare import CompareScreen
from workbench.tui.diff import DiffScreen
from workbench.tui.runs import RunsScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.trace_choice import ChoiceScreen
from workbench.tui.traces import TracesScreen
from workbench.tui.widgets.facets import Facets

EVIL = (
    "[red]\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202egnp\u200b\r\n\x9b31m[/]\U000e0041 ' \" \\ % $x {y} 🇬🇧é"
)
MEGABYTES = 10


def evil(n: int) -> str:
    """A hostile text, one of its kind."""
    return f"{EVIL}{n}"


def hostile() -> list[r.AnyRecord]:
    """Records with hostile text in every field that takes text; of each two, to compare."""
    at = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    run = r.Run(run_id=evil(0), kind="import", source=evil(1), origin=evil(2), status=evil(3))
    task = r.Task(task=evil(4), version=evil(5), description=evil(6), scorer=evil(7))
    found: list[r.AnyRecord] = [run, task]
    for i in range(2):
        config = r.Configuration(
            model=evil(i), provider=evil(8), strategy=evil(9 + i), effort=evil(11)
        )
        found.append(config)
        for j in range(3):
            item = r.Item(
                task_id=task.task_id, item=evil(j), input=evil(12), target=evil(13), cluster=evil(j)
            )
            call = r.Call(
                provider=evil(8),
                model=evil(i),
                started_at=at,
                ttft_s=0.1,
                e2e_s=0.5,
                output_tokens=9,
                input_tokens=5,
                billed_cost_usd=0.1,
                stop_reason=evil(14),
                error_type=evil(15) if j else None,
                error_message=evil(16) if j else None,
            )
            tool = r.ToolCall(
                ordinal=0, tool=evil(17), call_ordinal=0, arguments=evil(18), error_type=evil(19)
            )
            kinds = (
                ("system", "text"),
                ("user", "text"),
                ("assistant", "thinking"),
                ("assistant", "text"),
                ("assistant", "tool_call"),
                ("tool", "tool_result"),
            )
            messages = tuple(
                r.Message(
                    ordinal=k,
                    role=role,
                    kind=kind,
                    text=evil(20) * 3,
                    call_ordinal=0,
                    tool_call_ordinal=0,
                )
                for k, (role, kind) in enumerate(kinds)
            )
            failed = j == 2
            found += [
                item,
                r.Trace(
                    run_id=run.run_id,
                    configuration_id=config.configuration_id,
                    task_id=task.task_id,
                    item_id=item.item_id,
                    started_at=at,
                    e2e_s=0.5,
                    answer=evil(21),
                    score=float(i),
                    passed=bool(i),
                    stop_reason=evil(14),
                    error_type=evil(22) if failed else None,
                    error_message=evil(23) if failed else None,
                    calls=(call,),
                    tool_calls=(tool,),
                    messages=messages,
                    scores=(r.Score(scorer=evil(24), score=float(i), explanation=evil(25)),),
                ),
            ]
    return found


def assert_harmless(app: WorkbenchApp) -> str:
    """No control, direction or invisible character is on the screen."""
    seen = cells(app)
    bad = {
        c
        for c in seen
        if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200b\U000e0041"
    }
    assert not bad
    return seen


@pytest.fixture(scope="module")
def hostile_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of hostile records."""
    path = tmp_path_factory.mktemp("hostile") / "evil.duckdb"
    open_store(path, create=True).ingest(hostile())
    return path


async def test_hostile_text_is_harmless_on_every_screen(hostile_path: Path) -> None:
    """Names, filters, answers, messages, results: all are shown, none acts."""
    app = WorkbenchApp(hostile_path)
    async with opened(app, (120, 40)) as pilot:
        assert "[red]␛" in assert_harmless(app)

        await press(pilot, "r")
        assert isinstance(app.screen, RunsScreen)
        await settle(pilot)
        assert "[red]␛" in assert_harmless(app)
        await press(pilot, "p", "escape")
        facets = app.screen.query_one(Facets)
        facets.focus()
        facets.highlighted = 1
        await press(pilot, "space")  # the value goes into the slice and back out of it
        assert app.screen.n == 6
        assert_harmless(app)
        app.screen.grid.focus()
        await press(pilot, "m", "G", "c")
        assert isinstance(app.screen, CompareScreen)
        assert_harmless(app)
        await press(pilot, "escape", "enter")
        assert isinstance(app.screen, TracesScreen)
        assert app.screen.n == 3
        assert_harmless(app)
        await press(pilot, "G", "enter")
        assert isinstance(app.screen, TraceScreen)
        assert len(app.screen.conversation.entries) >= 6
        assert "␛" in assert_harmless(app)
        await press(pilot, "r")
        assert_harmless(app)
        await press(pilot, "y")
        assert_harmless(app)
        await press(pilot, "escape", "d")
        assert isinstance(app.screen, ChoiceScreen)
        assert_harmless(app)
        await press(pilot, "enter")
        assert isinstance(app.screen, DiffScreen)
        assert "␛" in assert_harmless(app)
        await press(pilot, "escape", "colon")
        app.screen.editor.text = "SELECT *, 'x'::BLOB AS bytes FROM trace_facts"
        await press(pilot, "f5")
        assert app.screen.frame.height == 6
        assert_harmless(app)
        app.screen.editor.text = f"SELECT '{EVIL}"
        await press(pilot, "f5")
        assert_harmless(app)


@pytest.fixture(scope="module")
def huge_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one trace: 300 turns, the last tool result of 10 MB."""
    path = tmp_path_factory.mktemp("huge") / "huge.duckdb"
    task, config = r.Task(task="agent"), r.Configuration(model="m", strategy="react")
    item = r.Item(task_id=task.task_id, item="0")
    messages = []
    for turn in range(300):
        for role, kind in (
            ("assistant", "thinking"),
            ("assistant", "tool_call"),
            ("tool", "tool_result"),
        ):
            text = f"{kind} {turn} " * 40 + "\n"
            messages.append(r.Message(ordinal=len(messages), role=role, kind=kind, text=text))
    long = r.Message(
        ordinal=900,
        role="assistant",
        kind="text",
        text="0123456789 " * (MEGABYTES * 1_000_000 // 11),
    )
    trace = r.Trace(
        run_id="r",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        messages=(*messages, long),
    )
    run = r.Run(run_id="r", kind="collect", source="test")
    open_store(path, create=True).ingest([run, task, config, item, trace])
    return path


async def test_a_long_agent_with_a_huge_message_opens_at_once(huge_path: Path) -> None:
    """The first messages are there before the last; the huge one comes in stretches."""
    app = WorkbenchApp(huge_path)
    async with opened(app) as pilot:
        trace_id = app.store.page(columns=["trace_id"])["trace_id"][0]
        screen = TraceScreen(trace_id)
        began = time.process_time()
        app.push_screen(screen)
        while screen.detail is None:
            await pilot.pause(0.005)
        assert time.process_time() - began < 5  # of the processor; bench_tui has the figure
        await settle(pilot)

        talk = screen.conversation
        assert len(talk.entries) == 901
        last = talk.entries[-1]
        assert len(last.text) == 4000
        assert last.more == "10.00 MB more" or last.more.startswith(("9.9", "10.0"))
        await press(pilot, "G")
        assert talk.current is last
        await press(pilot, "enter")
        assert len(last.text) == 44_000
        await press(pilot, "G", "enter")
        assert len(last.text) == 84_000
        assert "enter shows next" in assert_harmless(app) or talk.cursor < talk._height - 1


async def test_a_store_without_scores_or_costs_shows_dashes(tmp_path: Path) -> None:
    """Unknown is a dash everywhere, and the chart says what is missing."""
    path = tmp_path / "bare.duckdb"
    task, config = r.Task(task="t"), r.Configuration(model="m")
    item = r.Item(task_id=task.task_id, item="0")
    trace = r.Trace(
        run_id="r",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
    )
    run = r.Run(run_id="r", kind="collect", source="test")
    open_store(path, create=True).ingest([run, task, config, item, trace])
    app = WorkbenchApp(path)
    async with opened(app) as pilot:
        seen = cells(app)
        assert "no configuration has both" in seen
        assert "$0" not in seen
        await press(pilot, "enter", "enter")
        assert "no times were recorded" in cells(app)
