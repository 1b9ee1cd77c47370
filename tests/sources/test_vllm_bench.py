"""Results of `vllm bench serve`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Result, Run, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store

Fields = dict[str, Any]
AGGREGATES = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts")


def result(**changes: object) -> Fields:
    """A run of three requests, of which the last failed."""
    return {
        "date": "20261130-101112",
        "endpoint_type": "vllm",
        "backend": "vllm",
        "label": "vllm",
        "model_id": "org/model-7b",
        "tokenizer_id": "org/model-7b",
        "num_prompts": 3,
        "machine": "h200",
        "tensor_parallel": "2",
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 4,
        "duration": 5.5,
        "completed": 2,
        "failed": 1,
        "total_input_tokens": 230,
        "total_output_tokens": 7,
        "request_throughput": 0.36,
        "request_goodput": None,
        "output_throughput": 1.27,
        "total_token_throughput": 43.1,
        "input_lens": [110, 120, 130],
        "output_lens": [4, 3, 0],
        "ttfts": [0.25, 0.5, 0.0],
        "itls": [[0.1, 0.2, 0.4], [0.3], []],
        "latencies": [0.95, 0.8, 0.0],
        "start_times": [100.0, 100.5, 101.0],
        "queue_times": [0.01, 0.02, 0.03],
        "generated_texts": ["four words are here", "three", ""],
        "errors": [
            "",
            "",
            "Traceback (most recent call last):\n  File\naiohttp.ServerError: disconnected",
        ],
        "mean_ttft_ms": 375.0,
        "p99_ttft_ms": 497.5,
        "std_itl_ms": math.nan,
        "spec_decode_acceptance_rate": 62.5,
    } | changes


def write(path: Path, *runs: Fields) -> Path:
    """Write runs as --append-result does: one line each."""
    path.write_text("\n".join(json.dumps(run) for run in runs))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def of(records: list[AnyRecord], kind: type) -> list[Any]:
    """The records of one type."""
    return [record for record in records if isinstance(record, kind)]


def test_each_request_is_a_call_in_seconds(tmp_path: Path) -> None:
    """The gaps between chunks are quantiles; the wait for a slot is part of the trace only."""
    records, report = read(write(tmp_path / "any.json", result()))
    first, second, _ = of(records, Trace)
    call = first.calls[0]

    assert report.format == "vllm-bench"
    assert (call.model, call.provider) == ("org/model-7b", "vllm")
    assert (call.input_tokens, call.output_tokens, call.tokens_source) == (110, 4, "counted")
    assert (call.reasoning_tokens, call.cache_read_tokens) == (None, None)
    assert (call.ttft_s, call.e2e_s, call.queue_s) == (0.25, 0.95, 0.01)
    assert (call.gap_p50_s, call.gap_max_s, call.n_chunks) == (0.2, 0.4, 4)
    assert call.gap_p90_s == pytest.approx(0.36)
    assert (first.e2e_s, first.working_s) == (pytest.approx(0.96), 0.95)
    assert (first.answer, first.score, first.passed) == ("four words are here", None, None)
    assert json.loads(second.metadata) == {"start_offset_s": 0.5}
    assert [m.text for m in first.messages] == ["four words are here"]


def test_a_failed_request_has_an_error_and_no_times(tmp_path: Path) -> None:
    """Its zeros are unknown, not measured."""
    failed = of(read(write(tmp_path / "a.json", result()))[0], Trace)[2]

    assert failed.error_type == "connection"
    assert failed.error_message == "aiohttp.ServerError: disconnected"
    assert (failed.calls[0].ttft_s, failed.calls[0].e2e_s) == (None, None)
    assert (failed.calls[0].output_tokens, failed.calls[0].input_tokens) == (None, 130)
    assert (failed.stop_reason, failed.passed) == ("error", None)


def test_busy_time_of_the_machine_is_divided_among_concurrent_requests(tmp_path: Path) -> None:
    """[100, 100.95) and [100.5, 101.3) overlap for 0.45 s; the shares add up to 1.3 s."""
    traces = of(read(write(tmp_path / "a.json", result()))[0], Trace)

    assert traces[0].calls[0].machine == "h200"
    assert traces[0].calls[0].machine_s == pytest.approx(0.5 + 0.225)
    assert traces[1].calls[0].machine_s == pytest.approx(0.225 + 0.35)
    assert traces[2].calls[0].machine_s is None


def test_the_configuration_has_traffic_and_the_users_own_metadata(tmp_path: Path) -> None:
    """`--metadata machine=…` names the machine of the price sheet."""
    (configuration,) = of(read(write(tmp_path / "a.json", result()))[0], Configuration)

    assert configuration.machine == "h200"
    assert json.loads(configuration.settings) == {
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 4,
        "tensor_parallel": "2",
    }


def test_stated_totals_are_compared_and_figures_kept(tmp_path: Path) -> None:
    """Milliseconds become seconds, a percentage a share; NaN is unknown."""
    records, report = read(write(tmp_path / "a.json", result()))
    figures = {r.metric: (r.value, r.unit, r.direction) for r in of(records, Result)}

    assert {t.name: (t.stated, t.computed) for t in report.totals} == {
        "completed": (2, 2),
        "total_input_tokens": (230, 230),
        "total_output_tokens": (7, 7),
    }
    assert figures["ttft_mean_s"] == (0.375, "s", "lower")
    assert figures["ttft_p99_s"] == (pytest.approx(0.4975), "s", "lower")
    assert figures["output_tokens_per_s"] == (1.27, "tokens/s", "higher")
    assert figures["draft_acceptance_rate"] == (0.625, "0..1", "higher")
    assert "itl_sd_s" not in figures
    assert "goodput_requests_per_s" not in figures


def test_a_total_that_differs_is_told(tmp_path: Path) -> None:
    """The rows are imported, and the report says which total they do not reach."""
    _, report = read(write(tmp_path / "a.json", result(total_output_tokens=8)))

    assert [t.name for t in report.totals if not t.agrees] == ["total_output_tokens"]


def test_without_details_a_run_is_its_figures(tmp_path: Path) -> None:
    """Lists that remain without --save-detailed make no requests."""
    aggregate = {k: v for k, v in result().items() if k not in {*AGGREGATES, "errors"}}
    records, report = read(write(tmp_path / "a.json", aggregate))

    assert not of(records, Trace)
    assert {r.metric for r in of(records, Result)} >= {"requests_per_s", "ttft_mean_s"}
    assert (report.rows_in, report.rows_out, report.is_whole) == (1, 1, True)


def test_files_of_older_versions_have_no_latencies(tmp_path: Path) -> None:
    """The end is then the first token and the sum of the gaps."""
    old = {k: v for k, v in result().items() if k not in {"latencies", "queue_times"}}
    first = of(read(write(tmp_path / "a.json", old))[0], Trace)[0]

    assert first.calls[0].e2e_s == pytest.approx(0.95)
    assert first.calls[0].queue_s is None


def test_appended_runs_are_runs_of_their_own(tmp_path: Path) -> None:
    """The same workload at another rate has the same items; another workload has others."""
    other = result(request_rate=2.0)
    larger = result(input_lens=[111, 120, 130], total_input_tokens=231)
    records, report = read(write(tmp_path / "a.json", result(), other, larger))

    assert len({r.run_id for r in of(records, Run)}) == 3
    assert len({t.task_id for t in of(records, Task)}) == 2
    assert report.rows_out == 9
    assert not [t for t in report.totals if not t.agrees]


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """Neither under another name, nor indented by hand."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(sources.read(write(tmp_path / "a.json", result())))
    (tmp_path / "b.txt").write_text(json.dumps(result(), indent=2))

    report = store.ingest(sources.read(tmp_path / "b.txt"))

    assert not any(report.rows_new.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ttfts": [0.25]}, "different numbers of requests.*ttfts 1"),
        ({"errors": "none"}, "errors is str, not a list"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, changes: Fields, words: str) -> None:
    """A shifted list would give a request the times of another one."""
    with pytest.raises(ImportFormatError, match=words):
        read(write(tmp_path / "a.json", result(**changes)))


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    """With the place where it ends."""
    path = write(tmp_path / "a.json", result(), result(request_rate=2.0))
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(ImportFormatError, match="line 2"):
        read(path)
