"""Tokens, seconds and dollars stand beside the message that a call produced, whatever it was told
before."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.screens import opened, settle
from tests.support.tui_records import agent
from workbench import records as r
from workbench.store import open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.conversation_entries import EntryBuilder
from workbench.tui.diff import DiffScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.widgets.conversation import Entry

Said = tuple[str, str, str, int | None, int | None]  # role, kind, text, call, tool call
EXAMPLES: list[Said] = [
    ("system", "text", "You answer briefly.", 0, None),
    ("user", "text", "2 + 2?", 0, None),
    ("assistant", "text", "4", 0, None),
    ("user", "text", "3 + 3?", 0, None),
    ("assistant", "thinking", "three and three", 0, None),
    ("assistant", "text", "6", 0, None),
    ("user", "text", "5 + 5?", 0, None),
]


def record(
    said: Sequence[Said], calls: Sequence[r.Call], tools: Sequence[r.ToolCall] = ()
) -> list[r.AnyRecord]:
    """A run with one trace of these messages."""
    task, config = r.Task(task="sums"), r.Configuration(model="m", provider="p", strategy="s")
    item = r.Item(task_id=task.task_id, item="0")
    price = r.Price(
        model="m", provider="p", sheet="t", input_usd_per_mtok=1.0, output_usd_per_mtok=10.0
    )
    messages = tuple(
        r.Message(
            ordinal=i, role=role, kind=kind, text=text, call_ordinal=call, tool_call_ordinal=tool
        )
        for i, (role, kind, text, call, tool) in enumerate(said)
    )
    trace = r.Trace(
        run_id="r",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        messages=messages,
        calls=tuple(calls),
        tool_calls=tuple(tools),
    )
    return [r.Run(run_id="r", kind="collect", source="t"), price, task, config, item, trace]


def call(ordinal: int, output: int, thinking: int | None = None) -> r.Call:
    """A call that took a second before its answer and two in all."""
    return r.Call(
        ordinal=ordinal,
        provider="p",
        model="m",
        ttft_s=0.5,
        answer_start_s=1.0 if thinking else 0.5,
        e2e_s=2.0,
        input_tokens=100,
        output_tokens=output,
        reasoning_tokens=thinking,
    )


def entries(path: Path, records: Sequence[r.AnyRecord]) -> list[Entry]:
    """Store the records, and make the entries of their trace."""
    store = open_store(path / "t.duckdb", create=True)
    store.ingest(records)
    detail = store.detail(store.page()["trace_id"][0])
    talk = EntryBuilder(detail.calls.rows(named=True), detail.tool_calls.rows(named=True))
    return [talk.entry(m) for m in store.messages(detail.facts["trace_id"]).rows(named=True)]


def test_worked_examples_carry_no_figures(tmp_path: Path) -> None:
    """The model wrote the last answer, not those that it was shown."""
    said = [*EXAMPLES, ("assistant", "text", "10", 0, None)]

    found = entries(tmp_path, record(said, [call(0, 7)]))

    assert [e.margin for e in found[:-1]] == [("", "", "", "")] * len(EXAMPLES)
    assert found[-1].margin == ("7 tok", "", "1.50 s", "$0.000170")


def test_thinking_and_answer_carry_their_own_part(tmp_path: Path) -> None:
    """Also where an example held a thought: its tokens are those of the model's own."""
    said = [
        *EXAMPLES,
        ("assistant", "thinking", "five and five", 0, None),
        ("assistant", "text", "10", 0, None),
    ]

    found = entries(tmp_path, record(said, [call(0, 50, thinking=40)]))

    assert [bool(e.margin[0]) for e in found] == [False] * 7 + [True, True]
    assert found[7].margin[:3] == ("40 tok", "80 %", "0.500 s")
    assert found[8].margin[:3] == ("10 tok", "", "1.00 s")


@pytest.mark.parametrize("answered_by", [0, 1], ids=["the call that asked", "the call that read"])
def test_a_call_that_only_asks_for_tools_stands_beside_the_first(
    tmp_path: Path, answered_by: int
) -> None:
    """Whichever call a source counts a tool's answer to."""
    said: list[Said] = [
        *EXAMPLES,
        ("assistant", "tool_call", "add(5, 5)", 0, 0),
        ("assistant", "tool_call", "add(1, 1)", 0, 1),
        ("tool", "tool_result", "10", answered_by, 0),
        ("tool", "tool_result", "2", answered_by, 1),
        ("assistant", "text", "10", 1, None),
    ]
    tools = [r.ToolCall(ordinal=i, tool="add", call_ordinal=0) for i in range(2)]

    found = entries(tmp_path, record(said, [call(0, 20), call(1, 3)], tools))

    assert [e.margin[0] for e in found] == [""] * 7 + ["20 tok", "", "", "", "3 tok"]


def test_a_long_run_says_every_token_once(tmp_path: Path) -> None:
    """300 turns: the tokens and dollars in the margin add up to those of the trace."""
    task, config = r.Task(task="logic"), r.Configuration(model="m", provider="local", strategy="s")
    item = r.Item(task_id=task.task_id, item="0")
    run = agent("r", config, task, item, 300)
    records = [r.Run(run_id="r", kind="collect", source="t"), task, config, item, run]
    store = open_store(tmp_path / "t.duckdb", create=True)
    store.ingest(records)
    detail = store.detail(store.page()["trace_id"][0])
    talk = EntryBuilder(detail.calls.rows(named=True), detail.tool_calls.rows(named=True))

    windows = [store.messages(run.trace_id, start, 137) for start in range(0, 900, 137)]
    margins = [talk.entry(m).margin[0] for w in windows for m in w.rows(named=True)]

    assert margins == ["40 tok", "20 tok", ""] * 300
    assert detail.facts["output_tokens"] == 300 * 60


async def test_the_trace_and_the_difference_show_the_same_figures(tmp_path: Path) -> None:
    """Both screens read the messages in one way."""
    said = [*EXAMPLES, ("assistant", "text", "10", 0, None)]
    store = open_store(tmp_path / "t.duckdb", create=True)
    store.ingest(record(said, [call(0, 7)]))
    trace_id = store.page()["trace_id"][0]
    app = WorkbenchApp(store.path)
    async with opened(app) as pilot:
        app.push_screen(TraceScreen(trace_id))
        await settle(pilot)
        shown = [e.margin[0] for e in app.screen.conversation.entries]
        app.push_screen(DiffScreen(trace_id, trace_id))
        await settle(pilot)
        pairs = app.screen.difference.pairs

    assert shown == [""] * 7 + ["7 tok"]
    assert [pair.a.margin[0] for pair in pairs] == shown
