"""Reports of GuideLLM."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Result, Run, Trace
from workbench.sources import FileReport
from workbench.store import open_store

Fields = dict[str, Any]
BEGIN = 1_796_000_000.0


def request(number: int, *, at: float = 1.0, prompt: str = "hi", **changes: object) -> Fields:
    """A request that was answered; its times are distinct."""
    start = BEGIN + at
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    timings = {
        "request_start": start,
        "first_token_iteration": start + 0.25,
        "first_output_token_iteration": start + 0.5,
        "last_token_iteration": start + 1.5,
        "request_end": start + 2.0,
        "token_iterations": 12,
    }
    fields: Fields = {
        "request_id": f"req-{number}",
        "response_id": f"chatcmpl-{number}",
        "request_args": json.dumps({"headers": {"authorization": "sk-x"}, "body": body}),
        "output": f"answer {number}",
        "reasoning_output": "hm",
        "tool_calls": None,
        "info": {"conversation_id": f"conv-{number}", "timings": timings, "error": None},
        "input_metrics": {"total_tokens": 40 + number, "cached_tokens": 16},
        "output_metrics": {"total_tokens": 20 + number},
        "response_metrics": None,
        "output_tokens": 20 + number,
    }
    return fields | changes


def report_of(*benchmarks: Fields, **changes: object) -> Fields:
    """A report with a key in its configuration, which must not be imported."""
    backend = {
        "kind": "openai_http",
        "model": "org/m",
        "api_key": "sk-secret",
        "target": "http://x",
    }
    labels = {"machine": "h200", "team": "a"}
    config = {"metadata": {"labels": labels}, "spec": {"backend": backend}}
    metadata = {"version": 2, "guidellm_version": "0.8.1", "platform": "Linux-6"}
    return {"metadata": metadata, "config": config, "benchmarks": list(benchmarks)} | changes


def benchmark(
    name: str, successful: list[Fields], errored: tuple[Fields, ...] = (), **changes: object
) -> Fields:
    """A benchmark of a sweep."""
    latency = {
        "successful": {"mean": 250.0, "count": 2, "percentiles": {"p50": 240.0, "p999": 99.0}}
    }
    totals = {"successful": len(successful), "errored": len(errored), "incomplete": 0}
    return {
        "type_": "generative_benchmark",
        "config": {"id_": name, "strategy": {"type_": "constant", "rate": 2.5}},
        "start_time": BEGIN,
        "end_time": BEGIN + 60,
        "duration": 60.0,
        "warmup_duration": 0.0,
        "scheduler_metrics": {},
        "metrics": {
            "request_totals": totals,
            "time_to_first_token_ms": latency,
            "request_latency": {"successful": {"mean": 2.0, "count": 2}},
            "output_tokens_per_second": {"successful": {"mean": 77.5}},
        },
        "requests": {"successful": successful, "errored": list(errored), "incomplete": []},
    } | changes


def read(path: Path, document: Fields) -> tuple[list[AnyRecord], FileReport]:
    """Write and read a report."""
    path.write_text(json.dumps(document))
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def of(records: list[AnyRecord], kind: type) -> list[Any]:
    """The records of one type."""
    return [record for record in records if isinstance(record, kind)]


def test_each_request_is_a_call_in_seconds(tmp_path: Path) -> None:
    """The first token of any kind and the first visible one are apart; thinking too."""
    records, report = read(tmp_path / "x.json", report_of(benchmark("b", [request(1), request(2)])))
    (trace, _) = of(records, Trace)
    call = trace.calls[0]

    assert report.format == "guidellm"
    assert call.started_at == dt.datetime.fromtimestamp(BEGIN + 1, dt.UTC)
    assert (call.ttft_s, call.answer_start_s, call.e2e_s) == (0.25, 0.5, 2.0)
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (41, 16, 21)
    assert (call.n_chunks, call.tokens_source, call.reasoning_tokens) == (12, "reported", None)
    assert (call.request_id, call.response_id) == ("req-1", "chatcmpl-1")
    assert [(m.role, m.kind, m.text) for m in trace.messages] == [
        ("user", "text", "hi"),
        ("assistant", "thinking", "hm"),
        ("assistant", "text", "answer 1"),
    ]
    assert trace.answer == "answer 1"


def test_equal_prompts_are_trials_of_one_item(tmp_path: Path) -> None:
    """In the order in which they were sent."""
    later = request(1, at=5.0)
    records, _ = read(tmp_path / "x.json", report_of(benchmark("b", [later, request(2)])))

    assert [item.input for item in of(records, Item)] == ["hi"]
    assert [(t.calls[0].request_id, t.trial) for t in of(records, Trace)] == [
        ("req-2", 0),
        ("req-1", 1),
    ]


def test_a_conversation_is_one_trace(tmp_path: Path) -> None:
    """Its turns are calls in order, whose tool calls are kept."""
    info = request(1)["info"]
    asked = [{"id": "t", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}]
    second = request(2, at=4.0, prompt="and then?", tool_calls=asked)
    second["info"]["conversation_id"] = info["conversation_id"]
    (trace,) = of(
        read(tmp_path / "x.json", report_of(benchmark("b", [second, request(1)])))[0], Trace
    )

    assert [(c.ordinal, c.request_id) for c in trace.calls] == [(0, "req-1"), (1, "req-2")]
    assert (trace.n_turns, trace.e2e_s) == (2, 5.0)
    assert [(t.tool, t.arguments, t.call_ordinal) for t in trace.tool_calls] == [
        ("look", '{"a":1}', 1)
    ]


def test_failed_and_unfinished_requests_are_no_answers(tmp_path: Path) -> None:
    """One cut off at the end of the benchmark is cancelled."""
    failed = request(1, output=None, request_args=None, output_tokens=None)
    failed["info"] |= {"error": "HTTPStatusError(\"Server error '500 X'\")"}
    failed["output_metrics"] = {}
    cut = request(2, at=3.0, output_metrics={})
    one = benchmark("b", [], (failed,))
    one["requests"]["incomplete"] = [cut]
    one["metrics"]["request_totals"]["incomplete"] = 1
    records, report = read(tmp_path / "x.json", report_of(one))
    errored, incomplete = of(records, Trace)

    assert (errored.error_type, errored.n_turns) == ("server_error", 0)
    assert (errored.calls[0].e2e_s, errored.calls[0].output_tokens) == (None, None)
    assert (incomplete.error_type, incomplete.answer) == ("cancelled", "answer 2")
    assert incomplete.calls[0].output_tokens is None
    assert not [total for total in report.totals if not total.agrees]


def test_warm_up_is_left_out_and_counted(tmp_path: Path) -> None:
    """A request sent before the measurement began belongs to the warm-up."""
    measure = {"measure_start_time": BEGIN + 2.0, "measure_end_time": BEGIN + 60.0}
    one = benchmark("b", [request(1), request(2, at=3.0)])
    one |= {"warmup_duration": 2.0, "scheduler_metrics": measure}
    records, report = read(tmp_path / "x.json", report_of(one))

    assert [t.calls[0].request_id for t in of(records, Trace)] == ["req-2"]
    assert report.notes["requests of the warm-up, left out"] == 1
    assert report.is_whole


def test_a_sweep_is_not_pooled(tmp_path: Path) -> None:
    """Each benchmark is a run with the figures of its own."""
    other = benchmark("c", [request(3)], duration=30.0)
    other["config"]["strategy"]["rate"] = 5.0
    records, _ = read(tmp_path / "x.json", report_of(benchmark("b", [request(1)]), other))
    configurations = of(records, Configuration)

    assert len(of(records, Run)) == 2
    assert [json.loads(c.settings)["rate"] for c in configurations] == [2.5, 5.0]
    assert {(c.model, c.machine) for c in configurations} == {("org/m", "h200")}
    assert {r.value for r in of(records, Result) if r.metric == "duration_s"} == {60.0, 30.0}


def test_figures_are_in_seconds_with_their_percentiles(tmp_path: Path) -> None:
    """`p999` is 99.9; the latency of a request is in seconds already."""
    records, _ = read(tmp_path / "x.json", report_of(benchmark("b", [request(1)])))
    figures = {r.metric: (r.value, r.unit, r.n) for r in of(records, Result)}

    assert figures["ttft_mean_s"] == (0.25, "s", 2)
    assert figures["ttft_p99.9_s"] == (pytest.approx(0.099), "s", 2)
    assert figures["e2e_mean_s"] == (2.0, "s", 2)
    assert figures["output_tokens_per_s"] == (77.5, "tokens/s", None)


def test_counted_chunks_are_no_reported_tokens(tmp_path: Path) -> None:
    """Where the server reported no usage, the report has the number of chunks."""
    one = request(1, output_metrics={"total_tokens": None}, output_tokens=12)
    records, report = read(tmp_path / "x.json", report_of(benchmark("b", [one])))
    (trace,) = of(records, Trace)

    assert (trace.calls[0].output_tokens, trace.calls[0].tokens_source) == (12, "derived")
    assert report.notes["output tokens that the server did not report: chunks counted"] == 1


def test_a_sample_of_the_requests_is_told(tmp_path: Path) -> None:
    """The stated number of all is compared with the requests in the file."""
    one = benchmark("b", [request(1)])
    one["metrics"]["request_totals"]["successful"] = 9
    _, report = read(tmp_path / "x.json", report_of(one))

    assert [(t.name, t.stated, t.computed) for t in report.totals if not t.agrees] == [
        ("successful requests", 9, 1)
    ]


def test_no_key_reaches_the_store_and_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """Neither that of the backend, nor a request's header."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(report_of(benchmark("b", [request(1), request(2)]))))
    store = open_store(tmp_path / "s.duckdb", create=True)
    records = list(sources.read(path))
    store.ingest(iter(records))

    again = store.ingest(sources.read(path))

    assert "sk-" not in str(records)
    assert not any(again.rows_new.values())


def test_a_torn_report_is_refused(tmp_path: Path) -> None:
    """Nothing of it is imported."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(report_of(benchmark("b", [request(1)])))[:-40])

    with pytest.raises(ImportFormatError):
        list(sources.read(path))
