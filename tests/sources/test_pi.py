"""Sessions of pi: tokens beside each other, true latencies, every branch, copies counted once."""

import json
from pathlib import Path

import pytest

from tests.support.session_files import (
    START,
    Line,
    at,
    pi_answer,
    pi_message,
    pi_session,
    pi_usage,
    write,
)
from workbench import sources
from workbench.records import AnyRecord, Configuration, Item, Run, Trace
from workbench.sources import FileReport
from workbench.store import open_store


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def only_trace(path: Path) -> tuple[Trace, FileReport]:
    """Read the one trace of a file."""
    records, report = read(path)
    (trace,) = [r for r in records if isinstance(r, Trace)]
    return trace, report


def test_each_call_has_its_tokens_and_times(tmp_path: Path) -> None:
    """Input excludes cached tokens in the file; an answer runs from its begin to its entry."""
    trace, report = only_trace(write(tmp_path / "s.jsonl", pi_session()))

    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens, first.output_tokens) == (4507, 4000, 90)
    assert (first.cache_write_5m_tokens, first.total_tokens) == (500, 4597)
    assert (second.input_tokens, second.cache_read_tokens, second.output_tokens) == (4565, 4500, 30)
    assert [c.e2e_s for c in trace.calls] == [4.0, 3.0]
    assert [c.stop_reason for c in trace.calls] == ["tool_calls", "stop"]
    assert {(c.provider, c.model, c.effort_sent) for c in trace.calls} == {
        ("anthropic", "claude-sonnet-4-5", "high")
    }
    assert json.loads(first.usage or "")["cacheWrite"] == 500
    assert report.adds_up
    assert report.is_accounted_for
    assert report.notes["8 lines are 2 calls"] == 1


def test_a_session_fills_the_other_columns(tmp_path: Path) -> None:
    """The stated cost is that of pi's own prices: it is noted, and not taken for a bill."""
    run, _, item, configuration, trace = read(write(tmp_path / "s.jsonl", pi_session()))[0]

    assert isinstance(run, Run)
    assert isinstance(item, Item)
    assert isinstance(configuration, Configuration)
    assert isinstance(trace, Trace)
    assert (run.source, run.started_at) == ("pi", START)
    assert (item.item, item.input, item.cluster) == ("p1", "read a", "/r")
    assert (configuration.model, configuration.strategy) == ("claude-sonnet-4-5", "pi")
    assert configuration.effort == "high"
    assert (trace.e2e_s, trace.answer) == (14.0, "There is none.")
    assert json.loads(trace.metadata or "") == {
        "session": "p1",
        "cwd": "/r",
        "title": "Reading",
        "n_compactions": 1,
        "stated_cost_usd": 0.75,
    }


def test_messages_and_tools_are_told_apart(tmp_path: Path) -> None:
    """A summary is of the system; a tool that failed says why."""
    trace, _ = only_trace(write(tmp_path / "s.jsonl", pi_session()))

    assert [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages] == [
        ("user", "text", "read a", None),
        ("assistant", "thinking", "hm", 0),
        ("assistant", "text", "I look.", 0),
        ("assistant", "tool_call", 'read({"path":"a"})', 0),
        ("tool", "tool_result", "no such file", None),
        ("assistant", "text", "There is none.", 1),
        ("system", "text", "They looked.", None),
    ]
    (tool,) = trace.tool_calls
    assert (tool.tool, tool.e2e_s, tool.result_bytes) == ("read", 2.0, 12)
    assert (tool.error_type, tool.error_message) == ("failed", "no such file")


def test_a_fork_that_copies_entries_counts_them_once(tmp_path: Path) -> None:
    """In either order, and again."""
    own = pi_answer(8, 60, 58, usage=pi_usage(3, 11, 5000, 20, 0.1), stopReason="stop")
    forked = [*pi_session("p2")[:6], own]
    forked[0] = forked[0] | {"timestamp": at(50), "parentSession": "/x/p1.jsonl"}
    paths = [
        write(tmp_path / "a.jsonl", pi_session()),
        write(tmp_path / "b.jsonl", forked),
    ]
    for number, order in enumerate((paths, paths[::-1])):
        store = open_store(tmp_path / f"{number}.duckdb", create=True)
        for path in (*order, order[0]):
            store.ingest(sources.read(path))
        assert store.sql("SELECT count(*), sum(output_tokens) FROM calls").rows() == [(3, 131)]
        assert store.sql("SELECT sum(n_calls) FROM traces").rows() == [(3,)]


def test_a_failed_answer_has_no_tokens(tmp_path: Path) -> None:
    """Zeros are no measurement; an answer that was stopped says so."""
    zero = pi_usage(0, 0, 0, 0, 0.0)
    lines = [
        *pi_session(),
        pi_answer(8, 20, 19, usage=zero, stopReason="aborted"),
        pi_answer(9, 22, 21, usage=zero, stopReason="error", errorMessage="529 overloaded"),
    ]
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [c.output_tokens for c in trace.calls] == [90, 30, None, None]
    assert [c.error_type for c in trace.calls] == [None, None, "cancelled", "api_error"]
    assert (trace.error_type, trace.error_message) == ("api_error", "529 overloaded")


def test_the_first_version_has_no_ids_and_its_level_in_the_header(tmp_path: Path) -> None:
    """Calls are told apart by time and usage."""
    lines = [{k: v for k, v in e.items() if k not in {"id", "parentId"}} for e in pi_session()]
    header = pi_session()[0] | {"thinkingLevel": "low"}
    trace, _ = only_trace(write(tmp_path / "s.jsonl", [header, *lines[2:6]]))

    assert [c.effort_sent for c in trace.calls] == ["low", "low"]
    assert len({c.call_id for c in trace.calls}) == 2


def test_counts_that_do_not_add_up_are_named(tmp_path: Path) -> None:
    """By the number of the answer."""
    wrong = pi_usage(1, 2, 3, 4, 0.0) | {"totalTokens": 99}
    lines = [*pi_session(), pi_answer(8, 20, 19, usage=wrong)]
    _, report = only_trace(write(tmp_path / "s.jsonl", lines))

    assert report.mismatches.texts == ["answer 3: its tokens do not add up to their total"]


def test_a_session_without_an_answer_says_so(tmp_path: Path) -> None:
    """And a file of another tool is not claimed."""
    _, report = read(write(tmp_path / "s.jsonl", pi_session()[:3]))
    other = write(tmp_path / "o.jsonl", [{"type": "session", "id": "x"}, *pi_session()[1:]])

    assert report.why_empty == "a session in which no model was called"
    assert sources.detect(other) is None


@pytest.mark.parametrize(
    "line",
    [
        {"type": "message", "message": None},
        {"type": ["message"], "timestamp": {}},
        {"type": "message", "message": {"role": ["assistant"], "content": {"a": 1}}},
        {"type": "message", "message": {"role": "assistant", "content": [5, {"type": "toolCall"}]}},
        {"type": "message", "message": {"role": "assistant", "usage": [1], "timestamp": 1e300}},
        {"type": "message", "message": {"role": "toolResult", "toolCallId": {}, "content": 7}},
        {"type": "message", "message": {"role": "bashExecution", "command": 7}},
        {"type": "compaction", "summary": 7},
        {"type": "session", "id": 5},
    ],
)
def test_a_line_of_another_shape_ends_nothing(tmp_path: Path, line: Line) -> None:
    """Files of others hold anything."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    path = write(tmp_path / "s.jsonl", [*pi_session(), line])

    store.ingest(sources.read(path))

    assert store.sql("SELECT n_calls >= 2 AS whole FROM traces")["whole"].to_list() == [True]


def test_what_the_user_runs_and_extensions_say_is_kept(tmp_path: Path) -> None:
    """A command of the user with its output; an injected text is of the system."""
    lines = [
        *pi_session(),
        pi_message(8, 20, 20, "bashExecution", command="ls", output="a"),
        pi_message(9, 21, 21, "custom", content="injected"),
    ]
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [(m.role, m.text) for m in trace.messages[-2:]] == [
        ("user", "ls\na"),
        ("system", "injected"),
    ]
