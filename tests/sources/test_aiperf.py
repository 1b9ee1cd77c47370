"""Exports of NVIDIA AIPerf."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.records import AnyRecord, Configuration, Item, Result, Run, Trace
from workbench.sources import FileReport
from workbench.store import open_store

Fields = dict[str, Any]
BEGIN_NS = 1_796_000_000_000_000_000


def line(number: int, *, phase: str = "profiling", turn: int = 0, **changes: object) -> Fields:
    """A measured request; the client's and the server's counts of tokens differ."""
    start = BEGIN_NS + number * 1_000_000_000
    metadata = {
        "session_num": number,
        "x_request_id": f"req-{number}-{turn}",
        "conversation_id": f"conv-{number}",
        "turn_index": turn,
        "credit_issued_ns": start - 3_000_000,
        "request_start_ns": start + turn * 10_000_000,
        "request_end_ns": start + 80_000_000 + turn * 10_000_000,
        "benchmark_phase": phase,
        "was_cancelled": False,
        "context_overflow_skip": False,
    }
    values = {
        "request_latency": (75.5, "ms"),
        "time_to_first_token": (21500.0, "us"),
        "time_to_first_output_token": (0.0425, "sec"),
        "inter_chunk_latency": ([10.0, 5.0, 20.0], "ms"),
        "input_sequence_length": (550, "tokens"),
        "output_sequence_length": (27, "tokens"),
        "reasoning_token_count": (6, "tokens"),
        "usage_prompt_tokens": (40 + number, "tokens"),
        "usage_completion_tokens": (9, "tokens"),
        "usage_reasoning_tokens": (2, "tokens"),
        "usage_prompt_cache_read_tokens": (16, "tokens"),
        "usage_total_tokens": (49 + number, "tokens"),
    }
    metrics = {name: {"value": value, "unit": unit} for name, (value, unit) in values.items()}
    return {"metadata": metadata, "metrics": metrics} | changes


def figures(**changes: object) -> Fields:
    """The figures of a run of one request."""
    config = {
        "models": {"items": [{"name": "org/m"}]},
        "endpoint": {"urls": ["http://u:sk-secret@x"]},
        "phases": [
            {"name": "w", "kind": "warmup", "concurrency": 9},
            {"name": "p", "kind": "profiling", "type": "concurrency", "concurrency": 3},
        ],
    }
    return {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "benchmark_id": "bench-1",
        "request_throughput": {"unit": "requests/sec", "avg": 31.5},
        "time_to_first_token": {"unit": "ms", "avg": 21.5, "p99": 23.5, "count": 1},
        "request_count": {"unit": "requests", "avg": 1.0},
        "total_usage_completion_tokens": {"unit": "tokens", "avg": 9.0},
        "total_usage_prompt_tokens": {"unit": "tokens", "avg": 41.0},
        "total_gpu_energy": {"unit": "MJ", "avg": 0.002, "count": 1},
        "input_config": config,
        "start_time": "2026-12-01T07:10:08+00:00",
        "end_time": "2026-12-01T07:10:09+00:00",
        "was_cancelled": False,
    } | changes


def write(folder: Path, *requests: Fields, **beside: object) -> Path:
    """Write requests and the files beside them."""
    folder.mkdir(exist_ok=True)
    names = {"figures": "profile_export_aiperf.json", "inputs": "inputs.json"}
    for name, value in beside.items():
        (folder / names[name]).write_text(json.dumps(value, indent=1))
    path = folder / "profile_export.jsonl"
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def of(records: list[AnyRecord], kind: type) -> list[Any]:
    """The records of one type."""
    return [record for record in records if isinstance(record, kind)]


def test_each_value_is_read_in_its_own_unit(tmp_path: Path) -> None:
    """Milliseconds, microseconds and seconds become seconds; the server's tokens count."""
    records, report = read(write(tmp_path / "a", line(1), figures=figures()))
    (trace,) = of(records, Trace)
    call = trace.calls[0]

    assert report.format == "aiperf"
    assert (call.e2e_s, call.ttft_s, call.answer_start_s) == pytest.approx((0.0755, 0.0215, 0.0425))
    assert (call.gap_p50_s, call.gap_max_s) == pytest.approx((0.01, 0.02))
    assert (call.n_chunks, call.queue_s) == (4, pytest.approx(0.003, abs=1e-6))
    assert (call.input_tokens, call.output_tokens, call.reasoning_tokens) == (41, 9, 2)
    assert (call.cache_read_tokens, call.total_tokens, call.tokens_source) == (16, 50, "reported")
    assert call.request_id == "req-1-0"
    assert call.started_at is not None
    assert call.started_at.isoformat() == "2026-11-30T00:53:21+00:00"


def test_without_the_servers_usage_the_clients_tokenizer_counts(tmp_path: Path) -> None:
    """And the row says so."""
    request = line(1)
    for name in [name for name in request["metrics"] if name.startswith("usage_")]:
        del request["metrics"][name]
    (trace,) = of(read(write(tmp_path / "a", request, figures=figures()))[0], Trace)
    call = trace.calls[0]

    assert (call.input_tokens, call.output_tokens, call.reasoning_tokens) == (550, 27, 6)
    assert (call.tokens_source, call.total_tokens) == ("counted", None)


def test_warm_up_is_left_out_and_counted(tmp_path: Path) -> None:
    """It is in no total either."""
    path = write(tmp_path / "a", line(7, phase="warmup"), line(1), figures=figures())
    records, report = read(path)

    assert [t.calls[0].request_id for t in of(records, Trace)] == ["req-1-0"]
    assert report.notes["requests of the warm-up, left out"] == 1
    assert {t.name: t.agrees for t in report.totals} == {
        "requests answered": True,
        "output tokens": True,
        "input tokens": True,
    }


def test_a_session_is_one_trace_with_the_prompts_of_its_turns(tmp_path: Path) -> None:
    """Turns are in order of their start, whatever the order of the lines."""
    payloads = [
        {"messages": [{"role": "user", "content": text}], "model": "org/m"}
        for text in ("first?", "second?")
    ]
    inputs = {"data": [{"session_id": "conv-1", "payloads": payloads}]}
    path = write(tmp_path / "a", line(1, turn=1), line(1), inputs=inputs)
    records, _ = read(path)
    (trace,) = of(records, Trace)

    assert [c.request_id for c in trace.calls] == ["req-1-0", "req-1-1"]
    assert [m.text for m in trace.messages] == ["first?", "second?"]
    assert [(i.item, i.input) for i in of(records, Item)] == [("conv-1", "first?")]
    assert of(records, Configuration)[0].model == "org/m"
    assert trace.e2e_s == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"error": {"code": 500, "type": "X", "message": "boom"}}, "server_error"),
        ({"error": {"type": "TimeoutError", "message": "30 s"}}, "timeout"),
    ],
)
def test_failed_requests_are_no_answers(tmp_path: Path, changes: Fields, kind: str) -> None:
    """A stable word, and the message."""
    (trace,) = of(read(write(tmp_path / "a", line(1, **changes), figures=figures()))[0], Trace)

    assert (trace.error_type, trace.stop_reason, trace.n_turns) == (kind, "error", 0)
    assert trace.calls[0].output_tokens is None


def test_a_cancelled_request_is_cancelled(tmp_path: Path) -> None:
    """Not wrong, and not an error of the server."""
    request = line(1)
    request["metadata"]["was_cancelled"] = True
    (trace,) = of(read(write(tmp_path / "a", request, figures=figures()))[0], Trace)

    assert trace.error_type == "cancelled"


def test_graded_answers_are_scores_and_unparsed_ones_are_not_scored(tmp_path: Path) -> None:
    """They are joined by the request's id."""
    path = write(tmp_path / "a", line(1), line(2), figures=figures())
    grade = {"grader_name": "choice", "expected": "B", "explanation": "e", "model_thinking": "hm"}
    grades = [
        grade | {"x_request_id": "req-2-0", "passed": False, "unparsed": True, "actual": ""},
        grade | {"x_request_id": "req-1-0", "passed": True, "unparsed": False, "actual": "B"},
    ]
    text = "".join(json.dumps(g) + "\n" for g in grades)
    path.with_name("accuracy_export.jsonl").write_text(text)
    first, second = of(read(path)[0], Trace)

    assert (first.passed, first.score, first.answer) == (True, 1.0, "B")
    assert [(s.scorer, s.passed) for s in first.scores] == [("choice", True)]
    assert (second.passed, second.score) == (None, None)
    assert [(s.value, s.passed) for s in second.scores] == [("unparsed", None)]


def test_figures_are_converted_and_name_the_configuration(tmp_path: Path) -> None:
    """The traffic is that of the measurement; addresses and keys stay in the file."""
    records, _ = read(write(tmp_path / "a", line(1), figures=figures()))
    values = {r.metric: (r.value, r.unit) for r in of(records, Result)}
    (configuration,) = of(records, Configuration)
    (run,) = of(records, Run)

    assert values["ttft_mean_s"] == (pytest.approx(0.0215), "s")
    assert values["ttft_p99_s"] == (pytest.approx(0.0235), "s")
    assert values["requests_per_s"] == (31.5, "requests/s")
    assert values["total_gpu_energy_j"] == (2000.0, "J")
    assert configuration.model == "org/m"
    assert json.loads(configuration.settings) == {"type": "concurrency", "concurrency": 3}
    assert json.loads(run.versions) == {"aiperf": "0.13.0"}
    assert "sk-" not in str(records)


def test_a_folder_is_read_as_one(tmp_path: Path) -> None:
    """The files beside the requests are not imported by themselves."""
    write(tmp_path / "a", line(1), figures=figures(), inputs={"data": []})
    files = {f.path.name: f for f in sources.detect_files(tmp_path)}

    assert files["profile_export.jsonl"].source is not None
    assert files["inputs.json"].read_with == tmp_path / "a" / "profile_export.jsonl"
    assert files["profile_export_aiperf.json"].source is None


def test_figures_alone_are_results(tmp_path: Path) -> None:
    """As with --export-level summary."""
    path = write(tmp_path / "a", figures=figures())
    path.unlink()
    records, report = read(path.with_name("profile_export_aiperf.json"))

    assert not of(records, Trace)
    assert "requests_per_s" in {r.metric for r in of(records, Result)}
    assert report.is_whole


def test_without_a_name_the_model_is_unknown_and_the_import_incomplete(tmp_path: Path) -> None:
    """Requests alone do not say which model answered."""
    records, report = read(write(tmp_path / "a", line(1)))

    assert of(records, Configuration)[0].model == "unknown"
    assert not report.is_complete


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """A file that grew adds the new requests only."""
    path = write(tmp_path / "a", line(1), figures=figures())
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(sources.read(path))
    again = store.ingest(sources.read(path))
    path = write(tmp_path / "a", line(1), line(2), figures=figures())
    grown = store.ingest(sources.read(path))

    assert not any(again.rows_new.values())
    assert grown.rows_new["traces"] == 1
