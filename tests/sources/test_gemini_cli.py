"""Sessions of Gemini CLI: versions of messages, tokens by kind, what a rewind removed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.session_files import (
    START,
    Line,
    at,
    gemini_answer,
    gemini_document,
    gemini_head,
    gemini_message,
    gemini_session,
    gemini_tokens,
    gemini_tool,
    write,
)
from workbench import sources
from workbench.errors import ImportFormatError
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


def changed(line: Line, **fields: Any) -> Line:
    """A line with other fields."""
    return line | fields


def test_tokens_of_each_kind_have_their_column(tmp_path: Path) -> None:
    """Input contains cached tokens, thoughts are beside the output, prompts of tools beside the
    input."""
    trace, report = only_trace(write(tmp_path / "s.jsonl", gemini_session()))

    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens) == (9011, 7000)
    assert (first.output_tokens, first.reasoning_tokens, first.total_tokens) == (380, 300, 9391)
    assert (second.input_tokens, second.cache_read_tokens) == (9500, 9100)
    assert (second.output_tokens, second.reasoning_tokens) == (50, 30)
    assert json.loads(first.usage or "")["tool"] == 11
    assert report.conventions == {"gemini": 2}
    assert report.adds_up
    assert report.is_accounted_for
    assert report.notes["10 lines are 2 calls"] == 1


def test_a_session_fills_the_other_columns(tmp_path: Path) -> None:
    """Times run from what a call answers; ids and the project are those of the file."""
    records, _ = read(write(tmp_path / "s.jsonl", gemini_session()))
    run, _, item, configuration, trace = records

    assert isinstance(run, Run)
    assert isinstance(item, Item)
    assert isinstance(configuration, Configuration)
    assert isinstance(trace, Trace)
    assert (run.source, run.started_at) == ("gemini-cli", START)
    assert (item.item, item.input, item.cluster) == ("g1", "what is here?", "ab12")
    assert (configuration.model, configuration.provider) == ("gemini-2.5-pro", "google")
    assert configuration.strategy == "gemini-cli"
    assert [(c.model, c.provider, c.e2e_s) for c in trace.calls] == [
        ("gemini-2.5-pro", "google", 4.0),
        ("gemini-2.5-pro", "google", 3.0),
    ]
    assert (trace.e2e_s, trace.answer, trace.n_turns) == (13.0, "One file.", 2)
    assert json.loads(trace.metadata or "") == {
        "session": "g1",
        "project": "ab12",
        "title": "Listing",
    }


def test_messages_and_tools_are_told_apart(tmp_path: Path) -> None:
    """Results stand in the tool call; the message that repeats them for the model is no prompt."""
    trace, _ = only_trace(write(tmp_path / "s.jsonl", gemini_session()))

    assert [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages] == [
        ("system", "text", "<session_context>today</session_context>", None),
        ("user", "text", "what is here?", None),
        ("assistant", "thinking", "Plan\nlook first", 0),
        ("assistant", "text", "I will look.", 0),
        ("assistant", "tool_call", 'ls({"path":"t1"})', 0),
        ("assistant", "tool_call", 'ls({"path":"t2"})', 0),
        ("tool", "tool_result", "a.py", None),
        ("tool", "tool_result", "no such folder", None),
        ("assistant", "text", "One file.", 1),
    ]
    assert [(t.tool, t.call_ordinal, t.e2e_s, t.result_bytes) for t in trace.tool_calls] == [
        ("ls", 0, 4.0, 4),
        ("ls", 0, 3.0, 14),
    ]
    assert [(t.error_type, t.error_message) for t in trace.tool_calls] == [
        (None, None),
        ("failed", "no such folder"),
    ]


def test_both_kinds_of_files_are_one_trace(tmp_path: Path) -> None:
    """An older session that a newer version continued stays beside its continuation."""
    old = tmp_path / "session-1.json"
    old.write_bytes(gemini_document())
    new = write(tmp_path / "session-1.jsonl", gemini_session())
    grown = write(
        tmp_path / "later" / "session-1.jsonl",
        [
            *gemini_session(),
            gemini_message(5, 20, "user", "and now?"),
            gemini_answer(6, 22, "Nothing.", tokens=gemini_tokens(9600, 7, 9500, 3)),
        ],
    )
    store = open_store(tmp_path / "s.duckdb", create=True)
    reports = [store.ingest(sources.read(path)) for path in (old, new, grown, old, grown)]

    assert [r.rows_new["traces"] for r in reports] == [1, 0, 1, 0, 0]
    rows = store.sql("SELECT n_calls, input_tokens, output_tokens, cost_usd > 0 FROM traces").rows()
    assert rows == [(3, 9011 + 9500 + 9600, 380 + 50 + 10, True)]


def test_calls_of_removed_messages_are_kept(tmp_path: Path) -> None:
    """A rewind and a compression take messages from the conversation, not from the bill."""
    again = gemini_answer(6, 30, "Again.", tokens=gemini_tokens(700, 5, 0, 0))
    summary = changed(gemini_message(7, 31, "gemini", [{"text": "summary"}]))
    lines = [
        *gemini_session(),
        {"$rewindTo": gemini_session()[8]["id"]},
        again,
        {"$set": {"messages": [summary, again]}},
    ]
    trace, report = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [c.output_tokens for c in trace.calls] == [380, 50, 5]
    about = json.loads(trace.metadata or "")
    assert (about["n_rewound_messages"], about["n_compactions"]) == (1, 1)
    removed = "messages that a rewind or a compression removed: kept, since they were paid for"
    assert report.notes[removed] == 5


def test_a_masked_copy_does_not_replace_a_message(tmp_path: Path) -> None:
    """A list of messages may have results shortened, to save context."""
    messages = [line for line in gemini_session() if "id" in line]
    masked = [changed(line, content="masked", tokens=None) for line in messages]
    trace, _ = only_trace(
        write(tmp_path / "s.jsonl", [*gemini_session(), {"$set": {"messages": masked}}])
    )

    assert [c.output_tokens for c in trace.calls] == [380, 50]
    assert trace.answer == "One file."


def test_a_message_without_tokens_belongs_to_its_neighbour(tmp_path: Path) -> None:
    """Older versions wrote the tools of an answer as a message of their own."""
    lines = [
        gemini_head(),
        gemini_message(1, 1, "user", "list"),
        gemini_answer(2, 2, "", toolCalls=[gemini_tool("t0", 3, "early")]),
        gemini_answer(3, 4, "I look.", tokens=gemini_tokens(100, 10, 0, 0)),
        gemini_answer(4, 5, "", toolCalls=[gemini_tool("t1", 6, "a")]),
    ]
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert len(trace.calls) == 1
    assert [t.call_ordinal for t in trace.tool_calls] == [0, 0]


def test_unknown_tokens_are_null(tmp_path: Path) -> None:
    """Gemini CLI writes zeros for counters that it did not get; an answer without any is a call."""
    zeros = gemini_tokens(0, 0, 0, 0)
    lines = [
        gemini_head(),
        gemini_message(1, 1, "user", "a"),
        gemini_answer(2, 2, "b", tokens=zeros),
        gemini_message(3, 3, "user", "c"),
        gemini_answer(4, 4, "d"),
    ]
    trace, report = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [(c.input_tokens, c.output_tokens) for c in trace.calls] == [(None, None)] * 2
    assert not report.conventions


def test_an_answer_of_an_early_version_has_no_model(tmp_path: Path) -> None:
    """It is a call of an unknown model."""
    lines = [gemini_head(), gemini_message(1, 1, "user", "a"), gemini_message(2, 2, "gemini", "b")]
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [(c.model, c.provider, c.e2e_s) for c in trace.calls] == [(None, None, 1.0)]


def test_input_without_cached_tokens_is_told_by_the_total(tmp_path: Path) -> None:
    """And counts that add up neither way are named."""
    net = {"input": 2000, "output": 80, "cached": 7000, "thoughts": 300, "tool": 0, "total": 9380}
    wrong = {"input": 10, "output": 20, "cached": 0, "thoughts": 0, "tool": 0, "total": 31}
    lines = [
        gemini_head(),
        gemini_answer(2, 2, "b", tokens=net),
        gemini_answer(3, 3, "c", tokens=wrong),
    ]
    trace, report = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [c.input_tokens for c in trace.calls] == [9000, 10]
    assert report.mismatches.texts == [
        "message 2 of the model: its tokens do not add up to their total"
    ]


def test_an_error_at_the_end_is_the_sessions(tmp_path: Path) -> None:
    """One that was got over is not."""
    error = gemini_message(8, 40, "error", "[API Error: quota]")
    failed, _ = only_trace(write(tmp_path / "a.jsonl", [*gemini_session(), error]))
    lines = gemini_session()
    mended, _ = only_trace(write(tmp_path / "b.jsonl", [*lines[:2], error, *lines[2:]]))

    assert (failed.error_type, failed.error_message) == ("api_error", "[API Error: quota]")
    assert mended.error_type is None


def test_a_sub_agent_is_named(tmp_path: Path) -> None:
    """Its session has the id of the agent."""
    lines = [gemini_head("investigator-7", kind="subagent"), *gemini_session()[1:]]
    trace, _ = only_trace(write(tmp_path / "g1" / "investigator-7.jsonl", lines))

    assert json.loads(trace.metadata or "")["agent"] == "investigator-7"


def test_files_without_calls_say_why(tmp_path: Path) -> None:
    """The log of prompts, and a session that was only begun."""
    prompt = {"sessionId": "g1", "messageId": 0, "timestamp": at(0), "type": "user"}
    log = tmp_path / "logs.json"
    log.write_text(json.dumps([prompt | {"message": "hello"}], indent=2))
    begun = write(tmp_path / "s.jsonl", gemini_session()[:4])

    assert read(log)[1].why_empty == "a log of prompts, which the files of the sessions repeat"
    assert read(begun)[1].why_empty == "a session in which no model was called"


def test_a_cut_document_is_an_error_and_a_cut_line_is_not(tmp_path: Path) -> None:
    """A running session is read up to its last whole line."""
    document = tmp_path / "s.json"
    document.write_bytes(gemini_document()[:-40])
    path = write(tmp_path / "s.jsonl", gemini_session()[:-1])
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(ImportFormatError, match=r"s\.json"):
        read(document)
    trace, report = only_trace(path)
    assert len(trace.calls) == 1
    assert any("still running" in note for note in report.notes)


@pytest.mark.parametrize(
    "line",
    [
        {"id": "x"},
        {"id": "x", "type": ["gemini"], "content": {"a": 1}},
        {"id": "x", "type": "gemini", "model": 7, "tokens": [1], "toolCalls": {"a": 1}},
        {"id": "x", "type": "gemini", "model": "m", "tokens": {"input": "9", "total": -1}},
        {"id": "x", "type": "gemini", "toolCalls": [None, {"args": 5, "result": 7}, {"id": []}]},
        {"id": "x", "type": "user", "content": [None, 7, {"functionResponse": {"id": {}}}]},
        {"$set": []},
        {"$set": {"messages": [None, {"id": 7}], "sessionId": 5}},
        {"$rewindTo": "nobody"},
        {"$rewindTo": 7},
        {"timestamp": "yesterday"},
    ],
)
def test_a_line_of_another_shape_ends_nothing(tmp_path: Path, line: Line) -> None:
    """Files of others hold anything."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    path = write(tmp_path / "s.jsonl", [*gemini_session(), line])

    store.ingest(sources.read(path))

    assert store.sql("SELECT n_calls >= 2 AS whole FROM traces")["whole"].to_list() == [True]


def test_other_files_are_not_claimed(tmp_path: Path) -> None:
    """By content: the name does not matter."""
    path = write(tmp_path / "x.txt", gemini_session())
    other = write(tmp_path / "session-1.jsonl", [{"type": "user", "message": "hello"}])

    found = sources.detect(path)

    assert found is not None
    assert found.name == "gemini-cli"
    assert sources.detect(other) is None
