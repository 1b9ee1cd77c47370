"""Exports to OTLP: protobuf's classes take each line, and our own reader finds the same figures."""

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import making
from workbench import sources
from workbench.cli import main
from workbench.errors import StoreError
from workbench.exporters import otlp
from workbench.records import Call, Message, Task, Trace
from workbench.store import Store, demo_store, open_store

SUMS = """SELECT count(*), sum(score), count(passed), sum(n_calls), sum(input_tokens),
    sum(cache_read_tokens), sum(output_tokens), sum(reasoning_tokens), sum(e2e_s), count(e2e_s),
    sum(n_tool_calls), sum(n_tool_errors), count(error_type),
    (SELECT count(*) FROM messages), (SELECT sum(hash(content_id)) FROM messages)
    FROM trace_facts"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The sample traces, with tools, judges, thinking, examples and failures."""
    folder = tmp_path_factory.mktemp("samples")
    demo_store(folder / "traces.duckdb")
    return open_store(folder / "traces.duckdb")


@pytest.fixture(scope="module")
def spans(samples: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of all sample traces."""
    file = tmp_path_factory.mktemp("exported") / "spans.jsonl"
    n_traces, n_spans = otlp.write_spans(samples, file)
    n_calls, n_tools = samples.sql("SELECT sum(n_calls), sum(n_tool_calls) FROM trace_facts").row(0)
    assert (n_traces, n_spans) == (5265, 5265 + n_calls + n_tools)
    return file


def test_what_is_read_back_adds_up_to_the_same(samples: Store, spans: Path, tmp_path: Path) -> None:
    back = open_store(tmp_path / "back.duckdb", create=True)
    back.ingest(sources.read(spans))
    assert back.sql(SUMS).row(0) == pytest.approx(samples.sql(SUMS).row(0))


def in_base64(request: dict[str, Any]) -> dict[str, Any]:
    """Write the ids as protobuf's own JSON does; OTLP has them in hexadecimal digits."""
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return request


def test_every_line_is_a_request_of_the_protocol(spans: Path) -> None:
    """Names of fields, types of values and nesting are those of OpenTelemetry's own classes."""
    seen = set()
    for line in spans.read_text("utf-8").splitlines()[:300]:
        request = json_format.ParseDict(in_base64(json.loads(line)), ExportTraceServiceRequest())
        [scope] = request.resource_spans[0].scope_spans
        root, *others = scope.spans
        assert not root.parent_span_id
        assert {span.parent_span_id for span in others} == {root.span_id}
        assert {span.trace_id for span in others} == {root.trace_id}
        assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in scope.spans)
        seen |= {span.name.split()[0] for span in others}
    assert seen == {"chat", "execute_tool"}


def test_a_trace_with_everything(tmp_path: Path) -> None:
    store = making.small_store(tmp_path)
    trace = msgspec.structs.replace(
        making.rich_trace(), trace_id="rich", run_id="run-rich", answer="1"
    )
    store.ingest([making.run("run-rich"), trace])
    otlp.write_spans(store, tmp_path / "rich.jsonl", "run:run-rich")
    [read] = [r for r in sources.read(tmp_path / "rich.jsonl") if isinstance(r, Trace)]

    def of_call(call: Call) -> tuple[Any, ...]:
        return (
            call.role,
            call.model,
            call.provider,
            call.input_tokens,
            call.cache_read_tokens,
            call.output_tokens,
            call.reasoning_tokens,
            call.ttft_s,
            call.error_type,
        )

    assert [*map(of_call, read.calls)] == [*map(of_call, trace.calls)]
    assert [(t.tool, t.arguments, t.error_type) for t in read.tool_calls] == [
        (t.tool, t.arguments, t.error_type) for t in trace.tool_calls
    ]
    texts = [m.text for m in read.messages]
    assert all(m.text in texts for m in trace.messages if m.kind in {"text", "thinking"})
    assert (read.e2e_s, read.answer) == (trace.e2e_s, trace.answer)


def call(ordinal: int = 0, **fields: Any) -> Call:
    """A call of a second, each after the one before."""
    start = making.START + dt.timedelta(seconds=ordinal)
    return Call(**({"ordinal": ordinal, "model": "m", "started_at": start, "e2e_s": 0.5} | fields))


def conversation(tmp_path: Path, *calls: Call, messages: list[tuple[str, str, int | None]]) -> list:
    """The prompts and replies of the calls of a trace, as they are written."""
    store = making.small_store(tmp_path)
    written = [
        Message(ordinal=place, role=role, kind="text", text=text, call_ordinal=call)
        for place, (role, text, call) in enumerate(messages)
    ]
    trace = making.trace(making.CONFIGURATIONS[0], making.ITEMS[0])
    trace = msgspec.structs.replace(
        trace, trace_id="t", run_id="r", calls=calls, messages=written, tool_calls=()
    )
    store.ingest([making.run("r"), trace])
    otlp.write_spans(store, tmp_path / "x.jsonl", "run:r")
    [line] = (tmp_path / "x.jsonl").read_text("utf-8").splitlines()
    [scope] = json.loads(line)["resourceSpans"][0]["scopeSpans"]
    found = []
    for span in scope["spans"][1:]:
        values = {a["key"]: a["value"].get("stringValue") for a in span["attributes"]}
        found.append(
            tuple(
                " ".join(
                    part["content"]
                    for message in json.loads(values.get(f"gen_ai.{side}.messages") or "[]")
                    for part in message["parts"]
                )
                for side in ("input", "output")
            )
        )
    return found


TURNS = [("system", "s", 0), ("user", "u", 0), ("assistant", "a", 0), ("assistant", "b", 1)]


def test_examples_are_of_the_prompt(tmp_path: Path) -> None:
    turns = [("user", "1+1", 0), ("assistant", "2", 0), ("user", "2+2", 0), ("assistant", "4", 0)]
    [[prompt, reply]] = conversation(tmp_path, call(), messages=turns)
    assert (prompt, reply) == ("1+1 2 2+2", "4")


def test_a_reply_is_in_the_next_prompt(tmp_path: Path) -> None:
    calls = (call(0, input_tokens=10), call(1, input_tokens=15))
    turns = [*TURNS[:3], ("user", "v", 1), ("assistant", "b", 1)]
    assert conversation(tmp_path, *calls, messages=turns) == [("s u", "a"), ("s u a v", "b")]


def test_samples_of_one_prompt_do_not_read_each_other(tmp_path: Path) -> None:
    calls = (call(0, input_tokens=10), call(1, input_tokens=10))
    assert conversation(tmp_path, *calls, messages=TURNS) == [("s u", "a"), ("s u", "b")]


def test_calls_at_the_same_time_do_not_read_each_other(tmp_path: Path) -> None:
    calls = (call(0, input_tokens=10, e2e_s=2.0), call(1, input_tokens=15))
    assert conversation(tmp_path, *calls, messages=TURNS) == [("s u", "a"), ("s u", "b")]


def test_unknown_times_and_counts_rule_nothing_out(tmp_path: Path) -> None:
    calls = (call(0, started_at=None), call(1, started_at=None))
    assert conversation(tmp_path, *calls, messages=TURNS)[1] == ("s u a", "b")


def test_messages_without_a_call_come_before_the_next_one(tmp_path: Path) -> None:
    turns = [("system", "s", None), ("user", "u", None), ("assistant", "a", 0), ("user", "z", None)]
    [[prompt, reply]] = conversation(tmp_path, call(), messages=turns)
    assert f"{prompt} {reply}".split() == ["s", "u", "a", "z"]


@pytest.mark.parametrize("name", ['"}\n{', "\x1b[31m\x00", "日本", "x" * 300])
def test_hostile_names_stay_values(tmp_path: Path, name: str) -> None:
    store = making.small_store(tmp_path)
    task = Task(task=name)
    item = msgspec.structs.replace(making.ITEMS[0], task_id=task.task_id, item_id="")
    trace = making.trace(making.CONFIGURATIONS[0], item)
    trace = msgspec.structs.replace(trace, task_id=task.task_id, trace_id="", answer=name)
    store.ingest([task, item, trace])
    file = tmp_path / "x.jsonl"
    n_traces, _ = otlp.write_spans(store, file)
    lines = file.read_bytes().split(b"\n")
    assert len(lines) == n_traces + 1
    resources = [json.loads(line)["resourceSpans"][0]["resource"] for line in lines[:-1]]
    assert name in {r["attributes"][0]["value"]["stringValue"] for r in resources}


def test_a_slice_without_traces_is_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    assert otlp.write_spans(making.small_store(tmp_path), file, "trace:nothing") == (0, 0)
    assert file.read_bytes() == b""


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(StoreError, match=r"cannot write .*x\.jsonl"):
        otlp.write_spans(making.small_store(tmp_path), tmp_path / "taken" / "x.jsonl")


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "x.json"],
        [],
        ["--folder", "x"],
        ["--folder", "x", "-o", "x.jsonl"],
        ["calls", "-o", "x.jsonl"],
        ["-o", "x.jsonl", "--overwrite"],
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = making.small_store(tmp_path)
    before = set(tmp_path.iterdir())
    assert main(["export", "--as", "otlp", "--store", str(store.path), *words]) == 2
    assert set(tmp_path.iterdir()) == before


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = making.small_store(tmp_path)
    file = tmp_path / "spans.jsonl"
    assert main(["export", "--as", "otlp", "-o", str(file), "--store", str(store.path)]) == 0
    n_spans = sum(
        len(json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"])
        for line in file.read_bytes().splitlines()
    )
    assert f"{n_spans} spans of" in capsys.readouterr().err
    assert file.stat().st_mode & 0o777 == 0o600
