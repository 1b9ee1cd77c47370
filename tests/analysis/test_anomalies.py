"""Anomalies: traces that are far above their group, and agents that go round in circles."""

import math
from pathlib import Path
from typing import Any

import pytest

from workbench import analysis
from workbench.records import Call, Configuration, Item, Run, Task, ToolCall, Trace
from workbench.store import Store, open_store

# Natural logarithms of 100 … 190 around their median; worked out below.
OUTPUTS = (100, 110, 120, 130, 140, 150, 160, 170, 190)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "anomalies.duckdb", create=True)


def add(store: Store, id: str, *tools: ToolCall, model: str = "m", **fields: Any) -> None:
    """Add a trace of one call with these tool calls."""
    task = Task(task="sessions")
    item = Item(task_id=task.task_id, item=id)
    configuration = Configuration(model=model)
    counts = {c: fields.pop(c) for c in ("output_tokens", "reasoning_tokens") if c in fields}
    trace = Trace(
        **{
            "run_id": "r",
            "configuration_id": configuration.configuration_id,
            "task_id": task.task_id,
            "item_id": item.item_id,
            "trace_id": id,
            "answer": "done",
            "calls": (Call(model=model, **counts),),
            "tool_calls": tools,
        }
        | fields
    )
    store.ingest([Run(run_id="r", kind="import", source="test"), task, item, configuration, trace])


def tool(ordinal: int, name: str, arguments: str, *, failed: bool = False) -> ToolCall:
    """A call of a tool."""
    error = "failed" if failed else None
    return ToolCall(ordinal=ordinal, tool=name, arguments=arguments, error_type=error)


def flags(store: Store, **options: Any) -> list[tuple[str, str, float, str | None]]:
    """The flagged traces: kind, trace, value, what."""
    listed = analysis.anomalies(store, by="model", **options).more["traces"]
    return listed.select("kind", "trace_id", "value", "what").rows()


def test_a_trace_far_above_its_group_is_flagged(store: Store) -> None:
    """The z is of logarithms, over 1.4826 times the median absolute deviation."""
    for n, tokens in enumerate((*OUTPUTS, 2000)):
        add(store, f"t{n}", output_tokens=tokens)

    result = analysis.anomalies(store, by="model")

    logs = sorted(math.log(v) for v in (*OUTPUTS, 2000))
    median = (logs[4] + logs[5]) / 2
    deviations = sorted(abs(x - median) for x in logs)
    scale = 1.482602 * (deviations[4] + deviations[5]) / 2
    row = result.more["traces"].row(0, named=True)
    assert (row["kind"], row["trace_id"], row["value"]) == ("output", "t9", 2000.0)
    assert row["robust_z"] == pytest.approx((math.log(2000) - median) / scale)
    assert row["times_median"] == pytest.approx(2000 / math.exp(median))
    assert row["n_reference"] == 10
    of_group = {r["kind"]: r for r in result.frame.rows(named=True)}["output"]
    assert (of_group["n"], of_group["n_flagged"]) == (10, 1)
    assert of_group["limit"] == pytest.approx(math.exp(median + 3.5 * scale))


def test_twice_the_median_is_the_least_that_is_far(store: Store) -> None:
    """In a group without much spread a small difference has a large z, and is none to look at."""
    for n in range(20):
        add(store, f"t{n}", output_tokens=1000 + n % 2)
    add(store, "above", output_tokens=1500)
    add(store, "far", output_tokens=2100)

    assert [f[:3] for f in flags(store)] == [("output", "far", 2100.0)]


def test_equal_values_have_a_scale_by_their_mean_deviation(store: Store) -> None:
    """The median deviation is 0 where most traces are alike."""
    for n in range(20):
        add(store, f"t{n}", output_tokens=1000)
    add(store, "far", output_tokens=9000)

    assert [f[:3] for f in flags(store)] == [("output", "far", 9000.0)]


def test_small_groups_are_not_judged(store: Store) -> None:
    """And the notes say so."""
    for n in range(4):
        add(store, f"t{n}", output_tokens=10)
    add(store, "far", output_tokens=9000)

    result = analysis.anomalies(store, by="model")

    assert result.more["traces"].is_empty()
    assert any(note.startswith("1 groups have fewer than 8 traces") for note in result.notes)


def test_groups_are_judged_by_their_own(store: Store) -> None:
    """What is ordinary for one model is not for another."""
    for n in range(10):
        add(store, f"small{n}", output_tokens=100 + n)
        add(store, f"large{n}", output_tokens=10_000 + n, model="large")
    add(store, "far", output_tokens=10_000)

    assert [f[1] for f in flags(store)] == ["far"]


def test_one_question_asked_three_times_is_a_loop(store: Store) -> None:
    """Other words are another question."""
    same = [tool(n, "search", '{"q": "a"}') for n in range(3)]
    add(store, "loop", *same)
    add(store, "busy", *(tool(n, "search", f'{{"q": {n}}}') for n in range(3)))

    assert flags(store) == [("loop", "loop", 3.0, "search")]
    assert flags(store, repeats=4) == []


def test_failures_in_a_row_are_counted_tool_by_tool(store: Store) -> None:
    """A success, or another tool, ends the row."""
    fails = [tool(n, "bash", str(n), failed=True) for n in range(3)]
    add(store, "stuck", *fails, tool(3, "bash", "x"))
    mixed = (
        tool(0, "bash", "0", failed=True),
        tool(1, "bash", "1", failed=True),
        tool(2, "bash", "2"),
        tool(3, "bash", "3", failed=True),
        tool(4, "edit", "4", failed=True),
        tool(5, "edit", "5", failed=True),
    )
    add(store, "tries", *mixed)

    assert flags(store) == [("repeated error", "stuck", 3.0, "bash")]
    assert ("repeated error", "tries", 2.0, "bash") in flags(store, errors=2)


def test_a_file_read_again_without_a_write(store: Store) -> None:
    """Reading other parts of it counts; a write in between is a reason to read it again."""
    reads = [tool(n, "Read", f'{{"file_path": "/a.py", "offset": {n}}}') for n in range(3)]
    add(store, "again", *reads)
    edit = tool(2, "Edit", '{"file_path": "/a.py", "new": "x"}')
    last = tool(3, "Read", '{"file_path": "/a.py", "offset": 9}')
    add(store, "edited", reads[0], reads[1], edit, last)

    assert flags(store) == [("read again", "again", 3.0, "Read: /a.py")]


def test_thinking_without_an_answer(store: Store) -> None:
    """A failure explains itself, an answer is one."""
    add(store, "silent", reasoning_tokens=70, output_tokens=70, answer="  ")
    add(store, "failed", reasoning_tokens=70, output_tokens=70, answer=None, error_type="timeout")
    add(store, "fine", reasoning_tokens=70, output_tokens=90)

    assert flags(store) == [("no answer", "silent", 70.0, None)]


def test_only_the_first_are_listed_and_the_rest_is_said(store: Store) -> None:
    """No silent cut."""
    for n in range(5):
        add(store, f"t{n}", *(tool(k, "search", "same") for k in range(3 + n)))

    result = analysis.anomalies(store, by="model", most=2)

    assert result.more["traces"]["trace_id"].to_list() == ["t4", "t3"]
    assert "5 flags, of which the first 2 are listed" in result.notes
    counted = {r["kind"]: r["n_flagged"] for r in result.frame.rows(named=True)}
    assert counted["loop"] == 5


def test_an_empty_slice_has_empty_tables(store: Store) -> None:
    """Nothing is an answer too."""
    result = analysis.anomalies(store, by="model")

    assert result.frame.is_empty()
    assert result.more["traces"].is_empty()
