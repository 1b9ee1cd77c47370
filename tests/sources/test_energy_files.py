"""Files with energy: ML.ENERGY, CodeCarbon, Zeus, Intelligence Per Watt."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, EnergyBalance, Item, Result, Run, Trace
from workbench.sources import FileReport
from workbench.store import open_store

Fields = dict[str, Any]


def read(path: Path, **options: object) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path, **options)  # type: ignore[arg-type]  # a test's own options
    return list(sources.read(path, report=report)), report


def of(records: list[AnyRecord], kind: type) -> list[Any]:
    """The records of one type."""
    return [record for record in records if isinstance(record, kind)]


def imported_twice(folder: Path, path: Path) -> bool:
    """Whether a second import changes nothing."""
    store = open_store(folder / "s.duckdb", create=True)
    store.ingest(sources.read(path))
    return not any(store.ingest(sources.read(path)).rows_new.values())


# -- ML.ENERGY -----------------------------------------------------------------------------------


def ml_energy(**changes: object) -> Fields:
    """Three requests on two GPUs, of which the last failed."""
    answered = {"success": True, "error": "", "dataset_output_len": 99}
    results = [
        answered
        | {"prompt": "why?", "output_text": "so", "reasoning_output_text": "hm", "input_len": 11}
        | {"output_len": 40, "ttft": 0.5, "itl": [0.1, 0.3], "latency": 2.5, "energy": 20.0},
        answered
        | {"prompt": "why?", "output_text": "", "reasoning_output_text": None, "input_len": 11}
        | {"output_len": 50, "ttft": 0.6, "itl": [0.2], "latency": 3.5, "energy": 25.0},
        {"prompt": "who?", "output_text": "", "input_len": 12, "output_len": 0, "ttft": 0.0}
        | {"itl": [], "latency": 0.0, "energy": 0.0, "success": False, "error": "Bad Request"},
    ]
    measurement = {"time": 70.0, "gpu_energy": {"0": 9000.0, "1": 8000.0}}
    return {
        "date": "20260101-000000",
        "endpoint_type": "openai-chat",
        "model_id": "org/m",
        "num_prompts": 3,
        "gpu_model": "H100",
        "num_gpus": 2,
        "max_num_seqs": 128,
        "max_output_tokens": 4096,
        "request_rate": "inf",
        "duration": 60.0,
        "completed": 2,
        "steady_state_duration": 40.0,
        "steady_state_energy": 10_000.0,
        "steady_state_energy_per_token": 0.5,
        "total_input_tokens": 22,
        "total_output_tokens": 90,
        "output_throughput": 500.0,
        "median_itl_ms": 15.0,
        "entire_benchmark_measurement": measurement,
        "timeline": {"benchmark_start_time": 1_796_000_000.0},
        "results": results,
    } | changes


def write(path: Path, fields: Fields) -> Path:
    """Write a document with indents, as the tools do."""
    path.write_text(json.dumps(fields, indent=2))
    return path


def test_energy_of_a_request_is_that_which_the_file_reports(tmp_path: Path) -> None:
    """With its method, and where it comes from; a failed request has none."""
    records, report = read(write(tmp_path / "r.json", ml_energy()))
    first, second, failed = of(records, Trace)
    (reading,) = first.energy

    assert report.format == "ml-energy"
    assert (reading.energy_j, reading.method, reading.device) == (20.0, "reported", "gpu")
    assert "steady state" in reading.note
    assert (first.calls[0].ttft_s, first.calls[0].e2e_s) == (0.5, 2.5)
    assert (first.calls[0].gap_p50_s, first.calls[0].gap_max_s) == (pytest.approx(0.2), 0.3)
    assert (first.calls[0].input_tokens, first.calls[0].output_tokens) == (11, 40)
    assert [(m.role, m.kind, m.text) for m in first.messages] == [
        ("user", "text", "why?"),
        ("assistant", "thinking", "hm"),
        ("assistant", "text", "so"),
    ]
    assert (failed.error_type, failed.energy, failed.calls[0].ttft_s) == ("bad_request", (), None)
    assert (first.trial, second.trial) == (0, 1)
    assert [item.input for item in of(records, Item)] == ["why?", "who?"]


def test_each_gpu_has_its_meter_and_the_batch_is_part_of_the_configuration(tmp_path: Path) -> None:
    """Joules at another max_num_seqs are another configuration's."""
    records, report = read(write(tmp_path / "r.json", ml_energy()))
    meters = {b.device: (b.meter_j, b.duration_s) for b in of(records, EnergyBalance)}
    (configuration,) = of(records, Configuration)
    figures = {r.metric: (r.value, r.unit) for r in of(records, Result)}

    assert meters == {"gpu0": (9000.0, 70.0), "gpu1": (8000.0, 70.0)}
    assert json.loads(configuration.settings) == {
        "gpu_model": "H100",
        "num_gpus": 2,
        "max_num_seqs": 128,
        "request_rate": "inf",
    }
    assert (of(records, Run)[0].accelerator, configuration.max_tokens) == ("2 × H100", 4096)
    assert figures["energy_per_token_j"] == (0.5, "J")
    assert figures["power_w"] == (250.0, "W")
    assert figures["itl_p50_s"] == (0.015, "s")
    assert {t.name: t.agrees for t in report.totals} == {
        "completed": True,
        "total_input_tokens": True,
        "total_output_tokens": True,
    }


def test_ml_energy_twice_changes_nothing(tmp_path: Path) -> None:
    """The content identifies a run."""
    assert imported_twice(tmp_path, write(tmp_path / "r.json", ml_energy()))


def test_broken_ml_energy_is_refused(tmp_path: Path) -> None:
    """With what stood there."""
    with pytest.raises(ImportFormatError, match="results is not a list of requests"):
        read(write(tmp_path / "r.json", ml_energy(results={"a": 1})))


# -- CodeCarbon ----------------------------------------------------------------------------------

HEAD = (
    "timestamp,project_name,run_id,duration,emissions,cpu_energy,gpu_energy,ram_energy,"
    "energy_consumed,os,codecarbon_version,gpu_count,gpu_model,tracking_mode"
)


def row(run: str, *, cpu: float = 1e-5, gpu: float = 0.0, gpus: str = "0,") -> str:
    """A row; energies are kWh."""
    total = cpu + gpu + 2e-5
    return (
        f"2026-12-01T07:18:47,p,{run},3.5,7e-6,{cpu},{gpu},2e-5,{total},Linux,3.3.2,{gpus},machine"
    )


def table(path: Path, *rows: str, head: str = HEAD) -> Path:
    """Write a CSV file."""
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_kilowatt_hours_of_each_device_become_joules(tmp_path: Path) -> None:
    """Without a GPU the file's 0 is no measurement."""
    with_gpu = row("b", gpu=5e-5, gpus="1,H100")
    records, report = read(table(tmp_path / "x.csv", row("a"), with_gpu))
    meters = [(b.device, b.meter, b.meter_j) for b in of(records, EnergyBalance)]

    assert report.format == "codecarbon"
    assert meters == [
        ("cpu", "codecarbon", pytest.approx(36.0)),
        ("ram", "codecarbon", pytest.approx(72.0)),
        ("cpu", "codecarbon", pytest.approx(36.0)),
        ("gpu", "codecarbon", pytest.approx(180.0)),
        ("ram", "codecarbon", pytest.approx(72.0)),
    ]
    assert all(total.agrees for total in report.totals)
    assert [run.accelerator for run in of(records, Run)] == [None, "H100"]
    assert json.loads(of(records, Run)[0].metadata)["emissions"] == "7e-6"


def test_of_cumulative_rows_the_last_counts(tmp_path: Path) -> None:
    """A tracker that flushes writes its run several times."""
    records, report = read(table(tmp_path / "x.csv", row("a"), row("a", cpu=3e-5)))

    assert [b.meter_j for b in of(records, EnergyBalance)] == pytest.approx([108.0, 72.0])
    assert (report.rows_in, report.rows_out, report.duplicates.n) == (2, 1, 1)
    assert report.is_whole


def test_each_task_of_a_tracker_is_a_run(tmp_path: Path) -> None:
    """Its file has the task's name in place of the experiment's."""
    path = table(
        tmp_path / "x.csv", f"q1,{row('a')}", f"q2,{row('a', cpu=3e-5)}", head=f"task_name,{HEAD}"
    )
    records, _ = read(path)

    assert [json.loads(r.metadata)["task_name"] for r in of(records, Run)] == ["q1", "q2"]
    assert len(of(records, EnergyBalance)) == 4
    assert imported_twice(tmp_path, path)


def test_a_row_without_energy_is_bad(tmp_path: Path) -> None:
    """Such a row is refused, or skipped and counted."""
    path = table(tmp_path / "x.csv", row("a"), row(""))

    with pytest.raises(ImportFormatError, match="line 3 has no run_id or energy"):
        read(path)
    _, report = read(path, skip_bad_rows=True)
    assert (report.rows_in, report.rows_out, report.bad_rows.n) == (2, 1, 1)


# -- Zeus ----------------------------------------------------------------------------------------


def test_each_window_is_a_run_with_the_meter_of_each_gpu(tmp_path: Path) -> None:
    """A comma in a window's name does not shift the values."""
    head = "start_time,window_name,elapsed_time,gpu0_energy,gpu3_energy"
    path = table(
        tmp_path / "z", "1796000000.5,a, b,2.5,100.25,90.5", "1796000003.0,c,1.5,7.0,0.0", head=head
    )
    records, report = read(path)
    runs = of(records, Run)

    assert report.format == "zeus"
    assert [json.loads(run.metadata)["window"] for run in runs] == ["a, b", "c"]
    assert [(b.device, b.meter_j, b.duration_s) for b in of(records, EnergyBalance)] == [
        ("gpu0", 100.25, 2.5),
        ("gpu3", 90.5, 2.5),
        ("gpu0", 7.0, 1.5),
        ("gpu3", 0.0, 1.5),
    ]
    assert (runs[0].ended_at - runs[0].started_at).total_seconds() == 2.5
    assert imported_twice(tmp_path, path)


def test_a_torn_window_is_bad(tmp_path: Path) -> None:
    """With its line."""
    head = "start_time,window_name,elapsed_time,gpu0_energy"
    path = table(tmp_path / "z", "1796000000.5,a,2.5,100.25", "1796000000.5,a", head=head)

    with pytest.raises(ImportFormatError, match="line 3 has 2 values for 4 columns"):
        read(path)


# -- Intelligence Per Watt -----------------------------------------------------------------------


def metrics(joules: float | None, **changes: object) -> Fields:
    """What the profile has of an answer."""
    return {
        "energy_metrics": {"per_query_joules": joules, "total_joules": joules},
        "latency_metrics": {"time_to_first_token_seconds": 0.25, "total_query_seconds": 1.5},
        "token_metrics": {"input": 20, "output": 30, "total": 50},
        "lm_correctness": False,
        "lm_response": "4",
        "evaluation": {"is_correct": None},
    } | changes


def profile(folder: Path, rows: list[Fields], n: int = 2) -> Path:
    """Write a profile as Hugging Face's datasets do: an Arrow stream."""
    folder.mkdir()
    arrow = pa.Table.from_pylist(rows)
    stream = pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), arrow.schema)
    with stream as writer:
        writer.write_table(arrow)
    (folder / "state.json").write_text("{}")
    summary = {
        "model": "org/m",
        "dataset": "ipw",
        "dataset_name": "IPW mixed",
        "hardware_label": "H100",
        "generated_at": 1_796_000_000.0,
        "total_queries": n,
        "gpu_info": {"name": "NVIDIA H100"},
        "output_dir": str(folder),
    }
    return write(folder / "summary.json", summary)


def ipw_rows() -> list[Fields]:
    """One answer, and one whose counter was reset and whose tokens were not reported."""
    none = {"input": 0, "output": 0, "total": 0}
    graded = {"is_correct": True}
    each = {"subject": "math", "dataset_metadata": {"k": 1}}
    return [
        each | {"problem": "2+2?", "answer": "4", "model_metrics": {"org/m": metrics(55.5)}},
        each
        | {"problem": "3+3?", "answer": "6"}
        | {"model_metrics": {"org/m": metrics(None, token_metrics=none, evaluation=graded)}},
    ]


def test_a_profile_is_answers_with_their_joules(tmp_path: Path) -> None:
    """It scores nothing by itself; what a later grading added counts."""
    records, report = read(profile(tmp_path / "profile_H100_m", ipw_rows()))
    first, second = of(records, Trace)
    (reading,) = first.energy

    assert report.format == "intelligence-per-watt"
    assert (reading.energy_j, reading.method) == (55.5, "reported")
    assert "idle" in reading.note
    assert (first.calls[0].ttft_s, first.calls[0].e2e_s) == (0.25, 1.5)
    assert (first.calls[0].input_tokens, first.calls[0].output_tokens) == (20, 30)
    assert (first.passed, first.answer) == (None, "4")
    assert (second.energy, second.calls[0].output_tokens) == ((), None)
    assert (second.passed, second.scores[0].scorer) == (True, "intelligence-per-watt")
    assert [(i.input, i.target, i.tags) for i in of(records, Item)] == [
        ("2+2?", "4", '["math"]'),
        ("3+3?", "6", '["math"]'),
    ]
    assert of(records, Run)[0].accelerator == "NVIDIA H100"


def test_a_profile_is_read_with_its_data(tmp_path: Path) -> None:
    """The folder may lie anywhere."""
    path = profile(tmp_path / "p", ipw_rows())
    files = {f.path.name: f.read_with for f in sources.detect_files(tmp_path / "p")}

    assert files == {"data-00000-of-00001.arrow": path, "state.json": path, "summary.json": None}
    assert imported_twice(tmp_path, path)


def test_a_profile_that_lacks_answers_is_told(tmp_path: Path) -> None:
    """Missing data is an error, a missing row a total that differs."""
    path = profile(tmp_path / "p", ipw_rows(), n=3)
    _, report = read(path)
    data = path.with_name("data-00000-of-00001.arrow")
    data.write_bytes(data.read_bytes()[:-700])

    assert [(t.stated, t.computed, t.agrees) for t in report.totals] == [(3, 2, False)]
    with pytest.raises(ImportFormatError, match="no whole Arrow stream"):
        read(path)
    data.unlink()
    with pytest.raises(ImportFormatError, match="has no data-"):
        read(path)
