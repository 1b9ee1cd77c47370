"""Sessions of Claude Code and Codex: each call once, whoever repeats it, in whatever order files
come."""

import datetime as dt
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.records import AnyRecord, Trace
from workbench.sources import FileReport
from workbench.store import IngestReport, Store, open_store

Line = dict[str, Any]
START = dt.datetime(2026, 9, 1, 8, tzinfo=dt.UTC)


def at(second: float) -> str:
    """A time of a line."""
    return (START + dt.timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def write(path: Path, lines: Iterable[Line]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def only_trace(path: Path) -> tuple[Trace, FileReport]:
    """Read the one trace of a file."""
    records, report = read(path)
    (trace,) = [r for r in records if isinstance(r, Trace)]
    return trace, report


def imported(store: Store, paths: Iterable[Path]) -> list[IngestReport]:
    """Import files one by one."""
    return [store.ingest(sources.read(path)) for path in paths]


# -- Claude Code ---------------------------------------------------------------------------------


def usage(
    given: int = 6, output: int = 1, read: int = 1000, short: int = 0, long: int = 200
) -> Line:
    """A usage object of Anthropic's."""
    return {
        "input_tokens": given,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "service_tier": "standard",
    }


def user(uuid: str, second: float, content: object, parent: str | None = None, **more: Any) -> Line:
    """A line of a user, or one that carries the result of a tool."""
    line = {
        "type": "user",
        "uuid": uuid,
        "parentUuid": parent,
        "sessionId": "s1",
        "timestamp": at(second),
    }
    line |= {"cwd": "/repo", "version": "2.1.0", "isSidechain": False}
    return line | {"message": {"role": "user", "content": content}} | more


def answer(
    uuid: str,
    second: float,
    id: str,
    block: Line,
    counts: Line,
    /,
    *,
    parent: str = "u1",
    **more: Any,
) -> Line:
    """One line of an answer: one block of its content."""
    message = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-5-20251101",
    }
    message |= {"content": [block], "stop_reason": more.pop("stop", None), "usage": counts}
    line = {"type": "assistant", "uuid": uuid, "parentUuid": parent, "sessionId": "s1"}
    line |= {"timestamp": at(second), "requestId": f"req_{id}", "cwd": "/repo", "version": "2.1.0"}
    return line | {"message": message} | more


def said(words: str) -> Line:
    """A block of text."""
    return {"type": "text", "text": words}


def session() -> list[Line]:
    """A session of two calls: a tool is asked for, and its result answered."""
    asks = {"type": "tool_use", "id": "toolu_0001", "name": "Bash", "input": {"command": "ls"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_0001",
        "is_error": True,
        "content": "no such file",
    }
    return [
        {"type": "summary", "summary": "Listing", "leafUuid": "x"},
        user("u0", 0, "<system-reminder>be kind</system-reminder>", isMeta=True),
        user("u1", 0, "what is here?"),
        answer(
            "a1",
            2,
            "msg_0000000000000001",
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            usage(),
        ),
        answer("a2", 3, "msg_0000000000000001", said("I will"), usage()),
        answer("a3", 4, "msg_0000000000000001", asks, usage(output=185), stop="tool_use"),
        user("u2", 9, [result], parent="a3"),
        answer(
            "a4",
            12,
            "msg_0000000000000002",
            said("nothing"),
            usage(output=300),
            parent="u2",
            stop="end_turn",
        ),
    ]


def test_a_call_is_a_message_not_a_line(tmp_path: Path) -> None:
    """Its usage is that of the line with the most output, its time from the line that it
    answers."""
    trace, report = only_trace(write(tmp_path / "s1.jsonl", session()))

    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens) == (1206, 1000)
    assert (first.cache_write_5m_tokens, first.cache_write_1h_tokens) == (0, 200)
    assert [c.output_tokens for c in trace.calls] == [185, 300]
    assert [c.stop_reason for c in trace.calls] == ["tool_calls", "stop"]
    assert [c.e2e_s for c in trace.calls] == [4.0, 3.0]
    assert [c.provider for c in trace.calls] == ["anthropic", "anthropic"]
    assert first.request_id == "req_msg_0000000000000001"
    assert first.response_id == "msg_0000000000000001"
    assert second.started_at == START + dt.timedelta(seconds=9)
    assert trace.e2e_s == 12.0
    assert trace.answer == "nothing"
    assert report.notes["8 lines are 2 calls"] == 1
    assert report.is_accounted_for


def test_messages_and_tools_are_told_apart(tmp_path: Path) -> None:
    """Thinking from text, the user's words from injected ones, a failed tool from one that
    worked."""
    trace, _ = only_trace(write(tmp_path / "s1.jsonl", session()))

    assert [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages] == [
        ("system", "text", "<system-reminder>be kind</system-reminder>", None),
        ("user", "text", "what is here?", None),
        ("assistant", "thinking", "hm", 0),
        ("assistant", "text", "I will", 0),
        ("assistant", "tool_call", 'Bash({"command":"ls"})', 0),
        ("tool", "tool_result", "no such file", None),
        ("assistant", "text", "nothing", 1),
    ]
    (tool,) = trace.tool_calls
    assert (tool.tool, tool.call_ordinal, tool.e2e_s) == ("Bash", 0, 5.0)
    assert (tool.error_type, tool.error_message, tool.result_bytes) == (
        "failed",
        "no such file",
        12,
    )


def test_the_last_usage_of_equal_ones_and_a_growing_text_count(tmp_path: Path) -> None:
    """Lines of one message may be snapshots that grow."""
    id = "msg_0000000000000001"
    lines = [
        user("u1", 0, "x"),
        *(answer(f"a{n}", n, id, said("abc"[:n]), usage(output=n)) for n in (1, 2, 3)),
    ]
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [m.text for m in trace.messages] == ["x", "abc"]
    assert [c.output_tokens for c in trace.calls] == [3]


def test_what_the_program_writes_in_the_models_place_is_no_call(tmp_path: Path) -> None:
    """An error of the API at the end is the session's; one that was got over is not."""
    broken = answer(
        "a9", 20, "x", said("API Error: overloaded"), usage(0, 0, 0, 0, 0), isApiErrorMessage=True
    )
    broken["message"]["model"] = "<synthetic>"
    failed, _ = only_trace(write(tmp_path / "a.jsonl", [*session(), broken]))
    mended, report = only_trace(write(tmp_path / "b.jsonl", [broken, *session()]))

    assert (len(failed.calls), failed.error_type, failed.error_message) == (
        2,
        "api_error",
        "API Error: overloaded",
    )
    assert (len(mended.calls), mended.error_type) == (2, None)
    assert report.notes["messages written by Claude Code itself: no calls"] == 1


def test_a_usage_of_zeros_is_not_known(tmp_path: Path) -> None:
    """Some builds wrote zeros for answers of other services."""
    line = answer("a1", 1, "msg_0000000000000001", said("hello"), usage(0, 0, 0, 0, 0))
    trace, report = only_trace(write(tmp_path / "s.jsonl", [user("u1", 0, "x"), line]))

    assert trace.calls[0].input_tokens is None
    assert trace.calls[0].output_tokens is None
    assert report.notes["calls whose usage is all zeros: treated as unknown"] == 1


def test_every_call_keeps_its_own_model_and_the_session_has_the_busiest(tmp_path: Path) -> None:
    """A session may change its model; foreign models and Bedrock's are told by what they say."""
    lines = session()
    lines[7]["message"]["model"] = "claude-haiku-4-5-20251001"
    lines[7]["message"]["id"] = "msg_bdrk_000000000001"
    trace, _ = only_trace(write(tmp_path / "s.jsonl", lines))

    assert [c.model for c in trace.calls] == [
        "claude-opus-4-5-20251101",
        "claude-haiku-4-5-20251001",
    ]
    assert [c.provider for c in trace.calls] == ["anthropic", "bedrock"]


def test_a_fast_answer_is_of_a_tier_of_its_own(tmp_path: Path) -> None:
    """It costs a multiple, which the ordinary price would hide."""
    line = answer("a1", 1, "msg_0000000000000001", said("hello"), usage() | {"speed": "fast"})
    trace, _ = only_trace(write(tmp_path / "s.jsonl", [user("u1", 0, "x"), line]))

    assert trace.calls[0].service_tier == "fast"


def test_a_torn_last_line_is_left_for_the_next_import(tmp_path: Path) -> None:
    """A live session is read up to there; a broken line within is named."""
    path = write(tmp_path / "s.jsonl", session())
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    torn, report = only_trace(path)
    path.write_bytes(whole.replace(b'{"type": "user", "uuid": "u0"', b'{"type": "user", "uu'))
    broken, named = only_trace(path)

    assert len(torn.calls) == 1
    assert any("still running" in note for note in report.notes)
    assert report.is_whole
    assert len(broken.calls) == 2
    assert named.incomplete.texts[0].startswith("line 2 is not JSON")
    assert not named.is_whole
    assert named.is_accounted_for


def test_a_session_that_grew_replaces_what_was_imported(tmp_path: Path) -> None:
    """And a shorter copy of it, imported later, changes nothing."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    short = write(tmp_path / "old" / "s1.jsonl", session()[:6])
    long = write(tmp_path / "new" / "s1.jsonl", session())

    reports = imported(store, [short, long, short, long])

    rows = store.sql("SELECT n_calls, output_tokens, n_messages, n_tool_errors FROM traces").rows()
    assert rows == [(2, 485, 7, 1)]
    assert any("had grown" in note for note in reports[1].notes)
    assert not any(report.rows_new.get("traces") for report in reports[2:])


def _family(folder: Path) -> list[Path]:
    """A session, one that was resumed from it, one that was forked, a sub-agent, and each half
    written."""
    first = session()
    resumed = [line | {"sessionId": "s2"} for line in first]
    resumed += [
        user("u5", 50, "go on", sessionId="s2"),
        answer(
            "a5",
            51,
            "msg_0000000000000005",
            said("five"),
            usage(output=50),
            parent="u5",
            sessionId="s2",
        ),
    ]
    forked = [line | {"sessionId": "s3"} for line in first[:7]]
    forked += [
        answer(
            "a6",
            60,
            "msg_0000000000000006",
            said("six"),
            usage(output=60),
            parent="u2",
            sessionId="s3",
        )
    ]
    agent = [
        user("g1", 5, "look", agentId="a77", isSidechain=True),
        answer(
            "g2",
            6,
            "msg_0000000000000077",
            said("seen"),
            usage(output=7),
            parent="g1",
            agentId="a77",
            isSidechain=True,
        ),
    ]
    paths = [
        write(folder / "s1.jsonl", first),
        write(folder / "s2.jsonl", resumed),
        write(folder / "s3.jsonl", forked),
        write(folder / "agent-a77.jsonl", agent),
    ]
    return [*paths, write(folder / "part" / "s2.jsonl", resumed[:-1])]


def _whole(store: Store) -> list[Any]:
    """All that the store holds of sessions, without what only says how it came."""
    traces = "SELECT * EXCLUDE (origin) FROM trace_facts ORDER BY trace_id"
    tables = ("FROM calls", "FROM tool_calls", "FROM call_copies", "FROM messages")
    return [store.sql(q).rows() for q in (traces, *(f"{t} ORDER BY ALL" for t in tables))]


def test_resumed_and_forked_sessions_count_each_call_once_in_any_order(tmp_path: Path) -> None:
    """The shorter half of a file before or after the whole one, parents before or after their
    forks."""
    paths = _family(tmp_path / "files")
    found = []
    for number, order in enumerate([paths, paths[::-1], paths[2:] + paths[:2]]):
        store = open_store(tmp_path / f"{number}.duckdb", create=True)
        imported(store, [*order, order[0]])
        found.append(_whole(store))

    assert all(one == found[0] for one in found)
    store = open_store(tmp_path / "0.duckdb")
    rows = store.sql(
        "SELECT item, n_calls, output_tokens, n_tool_calls FROM trace_facts ORDER BY item"
    ).rows()
    assert rows == [("s1", 2, 485, 1), ("s1/a77", 1, 7, 0), ("s2", 1, 50, 0), ("s3", 1, 60, 0)]
    assert store.sql(
        "SELECT count(*), count(DISTINCT call_id), sum(output_tokens) FROM calls"
    ).rows() == [(5, 5, 602)]


def test_a_sub_agents_file_may_not_name_it(tmp_path: Path) -> None:
    """It bears the id of its session, and is a trace beside it all the same."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    lines = [
        user("g1", 5, "look", isSidechain=True),
        answer(
            "g2",
            6,
            "msg_0000000000000077",
            said("seen"),
            usage(output=7),
            parent="g1",
            isSidechain=True,
        ),
    ]
    paths = [write(tmp_path / "s1.jsonl", session()), write(tmp_path / "agent-7.jsonl", lines)]

    imported(store, [*paths, paths[1]])

    rows = store.sql("SELECT item, n_calls, output_tokens FROM trace_facts ORDER BY item").rows()
    assert rows == [("s1", 2, 485), ("s1/g1", 1, 7)]
    spenders = store.sql("SELECT spender, sum(output_tokens) FROM call_costs GROUP BY 1").rows()
    assert sorted(spenders) == [("main", 485), ("sub-agent", 7)]


def test_merged_stores_and_exports_count_each_call_once(tmp_path: Path) -> None:
    """The parent in one store, what was resumed from it in another."""
    paths = _family(tmp_path / "files")
    one, other, whole = (open_store(tmp_path / f"{n}.duckdb", create=True) for n in "abc")
    imported(one, paths[:1])
    imported(other, paths[1:4])
    imported(whole, paths)

    one.merge(other.path)
    again = open_store(tmp_path / "d.duckdb", create=True)
    one.export(tmp_path / "export")
    again.merge(tmp_path / "export")

    assert _whole(one) == _whole(whole)
    assert _whole(again) == _whole(whole)


def test_a_folder_of_sessions_is_read_as_such(tmp_path: Path) -> None:
    """By content: the name does not matter, and other JSON lines are not taken for one."""
    path = write(tmp_path / "x.txt", session())
    other = write(tmp_path / "y.jsonl", [{"type": "user", "message": "hello"}])

    found = sources.detect(path)

    assert found is not None
    assert found.name == "claude-code"
    assert sources.detect(other) is None


@pytest.mark.parametrize(
    "line",
    [
        {"type": "assistant", "message": "text"},
        {"type": "assistant", "message": {"content": 3, "usage": []}},
        {"type": "assistant", "message": {"id": 7, "content": [{"type": "tool_use"}, 5, None]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": {"a": 1}}, 7]}},
        {"type": "user", "message": None, "timestamp": "yesterday"},
        {"type": ["x"], "sessionId": {"a": "b"}, "uuid": 5},
        {"type": "assistant", "message": {"id": "\ud800", "model": "\x1b[2J", "content": "\x00"}},
    ],
)
def test_a_line_of_another_shape_ends_nothing(tmp_path: Path, line: Line) -> None:
    """Files of others hold anything."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    path = write(tmp_path / "s.jsonl", [*session(), line])

    imported(store, [path])

    assert store.sql("SELECT n_calls >= 2 AS whole FROM traces")["whole"].to_list() == [True]


def test_a_long_session_is_not_held_in_memory_more_than_once(tmp_path: Path) -> None:
    """300 turns of 160 kB each, repeated tool results within, need a fraction of ten times their
    size."""
    path = tmp_path / "s.jsonl"
    with path.open("w") as file:
        for n in range(300):
            id = f"msg_{n:016d}"
            asks = {"type": "tool_use", "id": f"toolu_{n:06d}", "name": "Read", "input": {"n": n}}
            result = {
                "type": "tool_result",
                "tool_use_id": f"toolu_{n:06d}",
                "content": f"{n}" * 40_000,
            }
            for line in (
                answer(f"a{n}", n, id, asks, usage(output=n)),
                user(f"u{n}", n + 0.5, [result], toolUseResult={"stdout": f"{n}" * 20_000}),
            ):
                file.write(json.dumps(line) + "\n")
    size = path.stat().st_size

    tracemalloc.start()
    trace, _ = only_trace(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size > 40 << 20
    assert len(trace.calls) == 300
    assert peak < 2 * size


# -- Codex ---------------------------------------------------------------------------------------


def line(second: float, kind: str, /, **payload: Any) -> Line:
    """A line of a rollout."""
    return {"timestamp": at(second), "type": kind, "payload": payload}


def counters(given: int, cached: int, output: int, thought: int) -> Line:
    """A usage object of Codex's."""
    return {
        "input_tokens": given,
        "cached_input_tokens": cached,
        "output_tokens": output,
        "reasoning_output_tokens": thought,
        "total_tokens": given + output,
    }


def told(second: float, last: Line, total: int, **info: Any) -> Line:
    """A token_count: the last answer, and the whole thread."""
    known = {"last_token_usage": last, "total_token_usage": {"total_tokens": total}, **info}
    return line(second, "event_msg", type="token_count", info=known)


FIRST, SECOND, THIRD = (
    counters(1000, 0, 100, 50),
    counters(2000, 900, 200, 80),
    counters(3000, 2000, 300, 90),
)


def parent(thread: str | None = None, turns: bool = False) -> list[Line]:
    """A thread of two answers, the first of which is told twice."""
    meta = [line(0, "session_meta", id=thread, timestamp=at(0), cwd="/r")] if thread else []
    turn = [
        [line(0, "turn_context", turn_id=f"k{n}", model="gpt-5.3-codex")] if turns else []
        for n in (1, 2)
    ]
    model = {"model": "gpt-5.3-codex"}
    return [
        *meta,
        *turn[0],
        told(0, FIRST, 1100, **model),
        told(1, FIRST, 1100, **model),
        *turn[1],
        told(60, SECOND, 3300, **model),
    ]


def fork(thread: str | None = None, of: str | None = None, turns: bool = False) -> list[Line]:
    """What was forked from it: its lines again, at another time, then an answer of its own."""
    meta = (
        [line(3600, "session_meta", id=thread, timestamp=at(3600), forked_from_id=of)]
        if thread
        else []
    )
    turn = [line(3610, "turn_context", turn_id="k3", model="gpt-5.3-codex")] if turns else []
    again = told(1, FIRST, 1100, model="gpt-5.3-codex")
    copied = [was | {"timestamp": at(3600)} for was in parent(of, turns) if was != again]
    return [*meta, *copied, *turn, told(3720, THIRD, 6600)]


KINDS = {
    "bare": (parent(), fork()),
    "threads": (parent("t1"), fork("t2", "t1")),
    "turns": (parent("t1", turns=True), fork("t2", "t1", turns=True)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1)])
def test_a_fork_that_replays_its_parent_counts_once(
    tmp_path: Path, kind: str, order: tuple[int, ...]
) -> None:
    """6,600 tokens in all, of which the fork has its own answer; in either order, and again."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    paths = [write(tmp_path / f"{n}.jsonl", lines) for n, lines in enumerate(KINDS[kind])]

    imported(store, [paths[n] for n in order])

    rows = store.sql(
        "SELECT n_calls, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens,"
        " cost_usd > 0 "
        "FROM traces ORDER BY started_at"
    ).rows()
    assert rows == [(2, 3000, 300, 130, 900, True), (1, 3000, 300, 90, 2000, True)]


def test_threads_of_their_own_may_begin_alike(tmp_path: Path) -> None:
    """Two threads whose first answers have the same counters are two spends."""
    store = open_store(tmp_path / "s.duckdb", create=True)

    imported(store, [write(tmp_path / f"{n}.jsonl", parent(f"t{n}")) for n in range(2)])

    assert store.sql("SELECT count(*), sum(total_tokens) FROM calls").rows() == [(4, 6600)]


def test_the_counter_of_the_thread_is_checked(tmp_path: Path) -> None:
    """What the answers add up to, beside what the file says last."""
    _, right = only_trace(write(tmp_path / "a.jsonl", parent("t")))
    _, wrong = only_trace(write(tmp_path / "b.jsonl", [*parent("t"), told(70, THIRD, 9999)]))

    assert [(t.stated, t.computed, t.agrees) for t in right.totals] == [(3300, 3300, True)]
    assert [(t.stated, t.computed, t.agrees) for t in wrong.totals] == [(9999, 6600, False)]
    assert right.notes["repeated counts, counted once"] == 1


def rollout() -> list[Line]:
    """A turn with records, whose counts are told by token_count too."""
    result = json.dumps({"output": "a", "metadata": {"exit_code": 1}})
    return [
        line(
            0,
            "session_meta",
            id="t9",
            timestamp=at(0),
            cwd="/r",
            cli_version="0.154.0",
            git={"commit_hash": "abc"},
        ),
        line(1, "turn_context", turn_id="k1", model="gpt-5.6-sol", effort="high"),
        line(
            1,
            "response_item",
            type="message",
            role="user",
            content=[{"type": "input_text", "text": "<env/>"}],
        ),
        line(
            2,
            "response_item",
            type="message",
            role="user",
            content=[{"type": "input_text", "text": "list"}],
        ),
        line(2, "event_msg", type="user_message", message="list"),
        line(
            4, "response_item", type="reasoning", summary=[{"type": "summary_text", "text": "hm"}]
        ),
        line(
            4,
            "response_item",
            type="function_call",
            name="shell",
            arguments='{"command":["ls"]}',
            call_id="c1",
        ),
        line(
            5,
            "token_usage_record",
            response_id="r1",
            thread_id="t9",
            turn_id="k1",
            usage=FIRST,
            service_tier="flex",
        ),
        told(5, FIRST, 1100),
        line(8, "response_item", type="function_call_output", call_id="c1", output=result),
        line(
            9,
            "response_item",
            type="message",
            role="assistant",
            content=[{"type": "output_text", "text": "a"}],
        ),
        line(9, "event_msg", type="agent_message", message="a"),
        line(9, "token_usage_record", response_id="r2", thread_id="t9", turn_id="k1", usage=SECOND),
        told(9, SECOND, 3300),
        line(
            10,
            "compacted",
            message="…",
            latest_token_usage_record={"response_id": "r2", "usage": SECOND},
        ),
        line(11, "event_msg", type="token_count", info=None, rate_limits={}),
    ]


def test_records_of_usage_win_over_counters(tmp_path: Path) -> None:
    """One call a response; its tier, its turn's model and effort, its time from what it answers."""
    trace, report = only_trace(write(tmp_path / "r.jsonl", rollout()))

    assert [c.request_id for c in trace.calls] == ["r1", "r2"]
    assert [c.response_id for c in trace.calls] == ["r1", "r2"]
    assert [c.total_tokens for c in trace.calls] == [1100, 2200]
    assert [c.service_tier for c in trace.calls] == ["flex", None]
    assert {(c.model, c.effort_sent) for c in trace.calls} == {("gpt-5.6-sol", "high")}
    assert [c.e2e_s for c in trace.calls] == [3.0, 1.0]
    assert report.notes["16 lines are 2 calls"] == 1


def test_items_of_a_rollout_are_messages_and_tools(tmp_path: Path) -> None:
    """Events repeat them and are not read twice; an exit code other than 0 is a failure."""
    trace, _ = only_trace(write(tmp_path / "r.jsonl", rollout()))

    assert [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages] == [
        ("system", "text", "<env/>", None),
        ("user", "text", "list", None),
        ("assistant", "thinking", "hm", 0),
        ("assistant", "tool_call", 'shell({"command":["ls"]})', 0),
        ("tool", "tool_result", "a", None),
        ("assistant", "text", "a", 1),
    ]
    (tool,) = trace.tool_calls
    assert (tool.tool, tool.call_ordinal, tool.e2e_s, tool.error_message) == (
        "shell",
        0,
        4.0,
        "exit code 1",
    )
    assert trace.answer == "a"


def test_thinking_beside_the_output_is_told_by_the_total(tmp_path: Path) -> None:
    """Where the parts add up only with it."""
    beside = {
        "input_tokens": 1000,
        "output_tokens": 125,
        "reasoning_output_tokens": 75,
        "total_tokens": 1200,
    }
    trace, _ = only_trace(
        write(tmp_path / "r.jsonl", [line(0, "session_meta", id="t"), told(1, beside, 1200)])
    )

    assert (trace.calls[0].output_tokens, trace.calls[0].reasoning_tokens) == (200, 75)


def test_a_counter_that_falls_is_a_new_beginning(tmp_path: Path) -> None:
    """After a rollback the last answer counts still."""
    lines = [*parent("t"), told(70, THIRD, 3000), told(80, FIRST, 4100)]
    trace, report = only_trace(write(tmp_path / "r.jsonl", lines))

    assert [c.total_tokens for c in trace.calls] == [1100, 2200, 3300, 1100]
    assert not report.totals
    assert report.notes["decreases of the thread's counter"] == 1


@pytest.mark.parametrize(
    "payload", [None, 5, [], {"type": "token_count", "info": 7}, {"type": {}, "info": []}]
)
def test_a_payload_of_another_shape_ends_nothing(tmp_path: Path, payload: object) -> None:
    """Files of others hold anything."""
    extra = [
        {"timestamp": 5, "type": t, "payload": payload}
        for t in ("event_msg", "response_item", "session_meta")
    ]
    trace, _ = only_trace(write(tmp_path / "r.jsonl", [*rollout(), *extra]))

    assert len(trace.calls) == 2


@pytest.mark.parametrize(
    "lines",
    [[user("u1", 0, "hello")], [line(0, "session_meta", id="t", timestamp=at(0))]],
    ids=["claude-code", "codex"],
)
def test_a_session_in_which_no_model_was_called_holds_nothing(
    tmp_path: Path, lines: list[Line]
) -> None:
    """A folder of sessions has such; they are passed over, and all else may be whole."""
    from workbench.cli.app import main

    write(tmp_path / "files" / "a.jsonl", lines)
    write(tmp_path / "files" / "b.jsonl", session())
    store = str(tmp_path / "s.duckdb")

    assert read(tmp_path / "files" / "a.jsonl")[1].why_empty
    assert main(["import", str(tmp_path / "files"), "--store", store]) == 0
