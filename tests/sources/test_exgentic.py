"""Sessions of Exgentic."""

import json
from pathlib import Path

import pytest

from tests.support.trajectory_files import (
    exgentic_lines,
    exgentic_results,
    write,
    write_lines,
)
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store

MANIFEST = {
    "task": "help the user",
    "context": {},
    "actions": [{"name": "message", "is_message": True}, {"name": "find", "is_message": False}],
}
CONFIG = {"benchmark": "tau2", "agent": "tool_agent", "run_id": "run-1", "subset": "airline"}


def session(folder: Path) -> Path:
    """The folder of a session; returns its results."""
    write_lines(folder / "trajectory.jsonl", exgentic_lines())
    write(folder / "session.json", MANIFEST)
    write(folder / "config.json", CONFIG)
    return write(folder / "results.json", exgentic_results())


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file, and the report."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def test_each_fact_of_a_session_has_its_column(tmp_path: Path) -> None:
    """The cost so far is taken apart, and two actions of one answer are one call."""
    records, report = read(session(tmp_path))

    _, task, item, configuration, trace = records
    assert isinstance(task, Task)
    assert task.task == "tau2"
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("t-5", "help the user")
    assert isinstance(configuration, Configuration)
    assert (configuration.provider, configuration.model) == ("openai", "m")
    assert configuration.strategy == "tool_agent"
    assert json.loads(configuration.settings or "") == {
        "benchmark_model": "azure/u",
        "subset": "airline",
    }
    assert isinstance(trace, Trace)
    assert [(c.role, c.model, c.billed_cost_usd) for c in trace.calls] == [
        ("subject", "m", 0.25),
        ("subject", "m", 0.5),
        ("subject", "m", 0.25),
        ("subject", "m", 0.125),
        ("user", "u", 0.5),
    ]
    assert [(t.tool, t.call_ordinal, t.error_message) for t in trace.tool_calls] == [
        ("find", 1, "exit code 2"),
        ("book", 1, "no such field"),
        ("finish", 2, None),
    ]
    assert [(m.role, m.kind, m.text) for m in trace.messages][:3] == [
        ("user", "text", "hello"),
        ("assistant", "text", "which one?"),
        ("user", "text", "that one"),
    ]
    assert (trace.score, trace.passed, trace.e2e_s, trace.n_turns) == (1.0, True, 46.5, 4)
    assert [(s.scorer, s.score, s.metric) for s in trace.scores] == [
        ("score", 1.0, None),
        ("recall", None, 0.75),
        ("db_match", 1.0, None),
    ]
    assert [(t.name, t.agrees) for t in report.totals] == [
        ("steps", True),
        ("action count", True),
        ("invalid action count", True),
    ]
    assert report.is_whole


def test_a_trajectory_and_its_results_are_one_trace(tmp_path: Path) -> None:
    """Whichever is named, and a second import changes nothing."""
    path = session(tmp_path)
    store = open_store(tmp_path / "s.duckdb", create=True)

    store.ingest(sources.read(path))
    again = store.ingest(sources.read(tmp_path / "trajectory.jsonl"))

    assert store.count() == 1
    assert not any(again.rows_new.values())
    found = {f.path.name: f.read_with for f in sources.detect_files(tmp_path)}
    assert (found["results.json"], found["trajectory.jsonl"]) == (None, path)


def test_a_trajectory_alone_is_not_scored(tmp_path: Path) -> None:
    """A last line that was being written is left out; a cost that began again is noted."""
    rows = exgentic_lines()
    path = write_lines(tmp_path / "t.jsonl", [*rows, {**rows[3], "agent_cost": 0.125}])
    with path.open("a") as file:
        file.write('{"event": "act')

    records, report = read(path)

    trace = records[-1]
    assert isinstance(trace, Trace)
    assert (trace.score, trace.passed, trace.scores) == (None, None, ())
    assert [c.billed_cost_usd for c in trace.calls] == [0.25, 0.5, 0.25, 0.125, 0.5]
    assert report.notes["decreases of the cost so far, which began again"] == 1
    assert any("incomplete" in note for note in report.notes)


def test_results_alone_have_one_call_with_the_sum(tmp_path: Path) -> None:
    """Without a cost there is none; limits and errors are told apart."""
    path = write(tmp_path / "r.json", exgentic_results(llm_call_count=7, status="limit_reached"))
    free = write(
        tmp_path / "f.json", exgentic_results(agent_cost=0.0, benchmark_cost=0, status="error")
    )

    traces = [read(file)[0][-1] for file in (path, free)]

    first, second = traces
    assert isinstance(first, Trace)
    assert isinstance(second, Trace)
    assert [(c.role, c.n_requests, c.billed_cost_usd) for c in first.calls] == [
        ("subject", 7, 1.125),
        ("judge", None, 0.5),
    ]
    assert (first.limit_type, second.error_type, second.calls) == ("turns", "error", ())


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """With its name."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps(exgentic_results())[:-9])

    with pytest.raises(ImportFormatError, match=r"results\.json"):
        read(path)
