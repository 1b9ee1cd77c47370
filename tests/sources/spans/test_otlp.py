"""Spans of OpenTelemetry, in each encoding and each convention, become the same records."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import span_files
from tests.support.span_files import agent_run, lines, request, span
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Run, Trace
from workbench.sources.report import FileReport
from workbench.sources.spans import otlp
from workbench.store import open_store


def read(path: Path, data: bytes | Any) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == "otlp"
    return list(sources.read(path, report=report)), report


def trace_of(path: Path, *spans: dict[str, Any]) -> Trace:
    """The one trace of some spans."""
    records, _ = read(path, request(*spans))
    [trace] = [record for record in records if isinstance(record, Trace)]
    return trace


def protobuf(spans: list[dict[str, Any]]) -> bytes:
    """A request in protobuf, made by protobuf's own reader of JSON."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    written = span_files.base64_ids(request(*spans))
    return ParseDict(written, ExportTraceServiceRequest()).SerializeToString()


def snake(written: Any) -> Any:
    """Field names as protobuf has them."""
    if isinstance(written, list):
        return [snake(v) for v in written]
    if not isinstance(written, dict):
        return written
    return {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in name): snake(v)
        for name, v in written.items()
    }


FILES = {
    "lines": ("a.jsonl", lambda: lines(*agent_run())),
    "document": ("a.json", lambda: json.dumps(request(*agent_run())).encode()),
    "indented": ("a.json", lambda: json.dumps(request(*agent_run()), indent=1).encode()),
    "list": ("a.json", lambda: json.dumps([request(s) for s in agent_run()]).encode()),
    "base64": (
        "a.json",
        lambda: json.dumps(span_files.base64_ids(request(*agent_run()))).encode(),
    ),
    "snake": ("a.json", lambda: json.dumps(snake(request(*agent_run()))).encode()),
    "protobuf": ("a.pb", lambda: protobuf(agent_run())),
}


@pytest.mark.parametrize("encoding", FILES)
def test_an_agents_run_is_one_trace_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    name, make = FILES[encoding]
    records, report = read(tmp_path / name, make())
    kinds = [type(record).__name__ for record in records]
    assert kinds == ["Run", "Task", "Configuration", "Item", "Trace"]
    run, task, configuration, item, trace = records
    assert isinstance(run, Run)
    assert isinstance(configuration, Configuration)
    assert isinstance(item, Item)
    assert isinstance(trace, Trace)

    assert task.task == "helpdesk"
    assert json.loads(run.versions or "") == {"service.version": "1.2"}
    assert (configuration.model, configuration.provider) == ("gpt-4o", "openai")
    assert (configuration.strategy, configuration.temperature) == ("answer", 0.5)
    assert configuration.max_tokens == 300
    assert item.input == "List the files."
    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens) == (100, 40)
    assert (first.output_tokens, first.reasoning_tokens, first.total_tokens) == (20, 8, 120)
    assert (first.stop_reason, first.e2e_s) == ("tool_calls", 2.0)
    assert (second.input_tokens, second.cache_read_tokens) == (150, 90)
    assert (second.stop_reason, second.e2e_s) == ("stop", 3.0)
    [tool] = trace.tool_calls
    assert (tool.tool, tool.arguments) == ("ls", '{"all":true,"path":"/"}')
    assert (tool.call_ordinal, tool.e2e_s, tool.result_bytes) == (0, 2.0, 5)
    assert [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages] == [
        ("system", "text", "You are a clerk.", 0),
        ("user", "text", "List the files.", 0),
        ("assistant", "tool_call", 'ls({"all":true,"path":"/"})', 0),
        ("tool", "tool_result", "a.txt", 1),
        ("assistant", "text", "There is a.txt.", 1),
    ]
    assert (trace.answer, trace.score, trace.passed) == ("There is a.txt.", 1.0, True)
    assert trace.scores[0].explanation == "It is."
    assert trace.e2e_s == 10.0
    metadata = json.loads(trace.metadata or "")
    assert metadata == {
        "session": "s-17",
        "user": "u-5",
        "name": "answer",
        "trace": span_files.TRACE,
    }
    assert (report.rows_in, report.rows_out) == (1, 1)


def test_every_encoding_gives_the_same_ids(tmp_path: Path) -> None:
    """So that a trace that comes by two routes is one."""
    ids = set()
    for name, make in FILES.values():
        records, _ = read(tmp_path / name, make())
        trace = records[-1]
        assert isinstance(trace, Trace)
        ids.add((trace.trace_id, trace.run_id, trace.item_id, *(c.call_id for c in trace.calls)))
    assert len(ids) == 1


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.duckdb", create=True)
    for name, make in (FILES["lines"], FILES["protobuf"]):
        records, _ = read(tmp_path / name, make())
        report = store.ingest(records)
    assert not any(report.rows_new.values())


SEMCONV = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.request.temperature": 0.25,
    "gen_ai.request.max_tokens": 77,
    "gen_ai.response.id": "chatcmpl-9",
    "gen_ai.response.finish_reasons": ["length"],
    "gen_ai.response.time_to_first_chunk": 0.125,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.cache_read.input_tokens": 60,
    "gen_ai.usage.cache_creation.input_tokens": 15,
    "gen_ai.usage.reasoning.output_tokens": 7,
    "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "2 + 2?"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm."},
                    {"type": "text", "content": "4"},
                ],
                "finish_reason": "length",
            }
        ]
    ),
}
OLD_SEMCONV = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 20,
}
OPENLLMETRY = {
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 20,
    "llm.usage.total_tokens": 120,
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "2 + 2?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "4",
    "gen_ai.completion.0.finish_reason": "stop",
}
VERCEL = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.id": "gpt-4o",
    "ai.model.provider": "openai.chat",
    "ai.usage.promptTokens": 100,
    "ai.usage.completionTokens": 20,
    "ai.response.text": "4",
    "ai.response.finishReason": "stop",
    "ai.response.msToFirstChunk": 250.0,
    "ai.prompt.messages": json.dumps(
        [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}]
    ),
}
CONVENTIONS = {"new": SEMCONV, "old": OLD_SEMCONV, "openllmetry": OPENLLMETRY, "vercel": VERCEL}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_call_is_read_in_every_convention(tmp_path: Path, convention: str) -> None:
    trace = trace_of(tmp_path / "a.json", span(1, "chat gpt-4o", CONVENTIONS[convention]))
    [call] = trace.calls
    assert (call.model, call.provider) == ("gpt-4o", "openai")
    assert (call.input_tokens, call.output_tokens) == (100, 20)
    if convention != "old":
        texts = [(m.role, m.text) for m in trace.messages if m.kind == "text"]
        assert texts[-2:] == [("user", "2 + 2?"), ("assistant", "4")]


def test_all_facts_of_the_newest_convention(tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "a.json", span(1, "chat gpt-4o", SEMCONV))
    [call] = trace.calls
    assert call.response_model == "gpt-4o-2024-08-06"
    assert (call.cache_read_tokens, call.cache_write_5m_tokens) == (60, 15)
    assert (call.reasoning_tokens, call.ttft_s) == (7, 0.125)
    assert (call.response_id, call.stop_reason) == ("chatcmpl-9", "max_tokens")
    assert [(m.role, m.kind, m.text) for m in trace.messages] == [
        ("system", "text", "Be brief."),
        ("user", "text", "2 + 2?"),
        ("assistant", "thinking", "Hm."),
        ("assistant", "text", "4"),
    ]


def test_messages_of_events_are_read(tmp_path: Path) -> None:
    """The convention of 2024: a message an event."""
    events = (
        ("gen_ai.user.message", {"content": "2 + 2?"}),
        ("gen_ai.choice", {"message": '{"role": "assistant", "content": "4"}', "index": 0}),
    )
    trace = trace_of(tmp_path / "a.json", span(1, "chat", OLD_SEMCONV, events=events))
    assert [(m.role, m.text) for m in trace.messages] == [("user", "2 + 2?"), ("assistant", "4")]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt": 10, "completion": 5, "total": 115, "read": 100}, (110, 5)),  # beside
        ({"prompt": 110, "completion": 5, "total": 115, "read": 100}, (110, 5)),  # within
        ({"prompt": 10, "completion": 5, "read": 100}, (110, 5)),  # cannot be within
        ({"prompt": 10, "completion": 5, "total": 35, "thinking": 20}, (10, 25)),
        ({"prompt": 10, "completion": 25, "total": 35, "thinking": 20}, (10, 25)),
        ({"prompt": 0, "completion": 0, "total": 0}, (0, 0)),
        ({}, (None, None)),
    ],
)
def test_the_total_tells_what_the_counts_include(
    tmp_path: Path, counts: dict[str, int], expected: tuple[int | None, int | None]
) -> None:
    names = {
        "prompt": "llm.token_count.prompt",
        "completion": "llm.token_count.completion",
        "total": "llm.token_count.total",
        "read": "llm.token_count.prompt_details.cache_read",
        "thinking": "llm.token_count.completion_details.reasoning",
    }
    plain = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
    plain |= {names[name]: n for name, n in counts.items()}
    [call] = trace_of(tmp_path / "a.json", span(1, "llm", plain)).calls
    assert (call.input_tokens, call.output_tokens) == expected


def test_a_span_around_another_one_of_the_same_call_counts_once(tmp_path: Path) -> None:
    """LangChain's span encloses that of the client library; both state the tokens."""
    outer = span(1, "ChatOpenAI", OPENLLMETRY, end_s=3.0)
    records, report = read(tmp_path / "a.json", request(outer, span(2, "openai.chat", SEMCONV)))
    trace = records[-1]
    assert isinstance(trace, Trace)
    assert [call.response_id for call in trace.calls] == ["chatcmpl-9"]
    assert report.notes["spans of calls around another span of the same call: counted once"] == 1


def test_a_call_within_a_tool_is_a_call_of_its_own(tmp_path: Path) -> None:
    """A tool that asks a model, within a call that is still open."""
    spans = [
        span(1, "chat", OLD_SEMCONV, end_s=9.0),
        span(2, "tool", {"openinference.span.kind": "TOOL", "tool.name": "ask"}),
        span(3, "chat", OLD_SEMCONV, parent=2),
    ]
    assert len(trace_of(tmp_path / "a.json", *spans).calls) == 2


def test_embeddings_and_retrievers_are_no_calls(tmp_path: Path) -> None:
    spans = [
        span(1, "chat", OLD_SEMCONV),
        span(2, "embeddings", OLD_SEMCONV | {"gen_ai.operation.name": "embeddings"}),
        span(3, "search", {"openinference.span.kind": "RETRIEVER"}),
    ]
    trace = trace_of(tmp_path / "a.json", *spans)
    assert (len(trace.calls), len(trace.tool_calls)) == (1, 0)


def test_errors_of_calls_and_tools(tmp_path: Path) -> None:
    exception = {"exception.type": "openai.RateLimitError", "exception.message": "slow down"}
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "ls",
        "gen_ai.tool.call.id": "call_1234567",
        "gen_ai.tool.call.arguments": '{"path": "/"}',
        "error.type": "timeout",
    }
    spans = [
        span(1, "chat", OLD_SEMCONV, error="429", events=(("exception", exception),)),
        span(2, "execute_tool ls", tool, error="it took too long", start_s=2.0, end_s=4.0),
    ]
    trace = trace_of(tmp_path / "a.json", *spans)
    assert (trace.calls[0].error_type, trace.calls[0].error_message) == ("RateLimitError", "429")
    assert trace.calls[0].stop_reason == "error"
    [called] = trace.tool_calls
    assert (called.error_type, called.error_message) == ("timeout", "it took too long")
    assert (called.arguments, called.e2e_s, called.call_ordinal) == ('{"path":"/"}', 2.0, 0)


def test_scores_outside_of_0_to_1_are_metrics(tmp_path: Path) -> None:
    def event(name: str, field: str, value: Any) -> tuple[str, dict[str, Any]]:
        named = {"gen_ai.evaluation.name": name, f"gen_ai.evaluation.{field}": value}
        return "gen_ai.evaluation.result", named

    events = (
        event("rubric", "score.value", 7.0),
        event("fluent", "score.label", "yes"),
        event("right", "score.value", 0.5),
    )
    trace = trace_of(tmp_path / "a.json", span(1, "chat", OLD_SEMCONV, events=events))
    scores = {s.scorer: (s.score, s.passed, s.metric, s.value) for s in trace.scores}
    assert scores == {
        "fluent": (None, None, None, "yes"),
        "right": (0.5, False, None, "0.5"),
        "rubric": (None, None, 7.0, "7"),
    }
    assert trace.score == 0.5


def test_traces_that_are_spread_over_lines_are_whole(tmp_path: Path) -> None:
    """Interleaved, root last; each is built once."""
    others = [f"{n:032x}" for n in range(1, 30)]
    spans = []
    for number in (3, 2, 1):
        spans += [
            span(number, "chat", OLD_SEMCONV, trace=trace) for trace in (*others, *others[:3])
        ]
    data = b"".join(json.dumps(request(s)).encode() + b"\n" for s in spans)
    records, _ = read(tmp_path / "a.jsonl", data)
    traces = [record for record in records if isinstance(record, Trace)]
    assert len(traces) == len({t.trace_id for t in traces}) == 29
    # of the three nested calls the innermost counts: 2 and 3 lie beside each other
    assert {len(trace.calls) for trace in traces} == {2}


def test_a_trace_without_a_call_is_left_out_and_said(tmp_path: Path) -> None:
    data = request(span(1, "GET /", {"http.method": "GET"}))
    records, report = read(tmp_path / "a.json", data)
    assert records == []
    assert report.skipped["traces without a call of a model or a tool"] == 1


def test_a_trace_that_grows_is_replaced(tmp_path: Path) -> None:
    """A file that is imported while the program runs, and again later."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    run = agent_run()
    store.ingest(read(tmp_path / "a.jsonl", lines(*run[1:3]))[0])
    store.ingest(read(tmp_path / "a.jsonl", lines(*run))[0])
    rows = store.sql("SELECT n_calls, n_tool_calls, score FROM trace_facts").rows()
    assert rows == [(2, 1, 1.0)]


@pytest.mark.parametrize(
    "data",
    [
        lines(*agent_run())[:-40],
        json.dumps(request(*agent_run())).encode()[:-40],
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":3}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":3}]}',
        b'{"resourceSpans":{"scopeSpans":[]}}',
    ],
)
def test_what_is_broken_is_an_error_that_names_the_place(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ImportFormatError, match=r"a\.json"):
        list(otlp.SOURCE.read(path, report=FileReport(path)))


def test_circles_deep_values_and_odd_times_are_read(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    spans = [
        span(1, "root", {"openinference.span.kind": "AGENT"}),
        span(2, "chat", OLD_SEMCONV | {"deep": deep}, parent=3, start_s=5.0, end_s=1.0),
        span(3, "chain", {}, parent=2),
    ]
    spans[2]["startTimeUnixNano"] = "99999999999999999999"
    spans[2]["endTimeUnixNano"] = "no time"
    trace = trace_of(tmp_path / "a.json", *spans)
    assert len(trace.calls) == 1
    assert trace.calls[0].e2e_s is None
    assert msgspec.json.encode(trace)
