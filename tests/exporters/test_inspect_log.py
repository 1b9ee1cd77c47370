"""Logs for Inspect: its own reader takes them, and ours finds the same figures in them."""

import itertools
import json
from pathlib import Path

import msgspec
import pytest
from inspect_ai.log import read_eval_log

from tests.support import making
from workbench import sources
from workbench.cli import main
from workbench.errors import StoreError
from workbench.exporters import inspect_log
from workbench.records import Task, Trace
from workbench.store import Store, demo_store, open_store

SUMS = """SELECT count(*), sum(score), count(passed), sum(n_calls), sum(input_tokens),
    sum(cache_read_tokens), sum(output_tokens), sum(reasoning_tokens), sum(e2e_s),
    sum(n_tool_calls), sum(n_tool_errors), count(error_type) FROM trace_facts"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The sample traces, with tools, judges, thinking and failures."""
    folder = tmp_path_factory.mktemp("samples")
    demo_store(folder / "traces.duckdb")
    return open_store(folder / "traces.duckdb")


@pytest.fixture(scope="module")
def logs(samples: Store, tmp_path_factory: pytest.TempPathFactory) -> list[inspect_log.LogFile]:
    """The logs of a slice with several tasks, runs and strategies."""
    folder = tmp_path_factory.mktemp("exported") / "logs"
    return inspect_log.write_logs(samples, folder, "task:lookup,ledger,facts")


def test_inspects_own_reader_takes_every_log(logs: list[inspect_log.LogFile]) -> None:
    n_samples = 0
    for file in logs:
        log = read_eval_log(str(file.path))
        assert log.version == 2
        assert log.status == "success"
        assert log.samples is not None
        assert len(log.samples) == file.n_samples == log.results.total_samples
        n_samples += file.n_samples
    assert n_samples > 500


def test_a_sample_has_the_conversation_the_calls_and_the_scores(
    samples: Store, logs: list[inspect_log.LogFile]
) -> None:
    """As Inspect reads it: prompts of calls are resolved."""
    seen = 0
    for file in logs:
        for sample in read_eval_log(str(file.path), resolve_attachments=True).samples or ():
            models = [event for event in sample.events if event.event == "model"]
            tools = [event for event in sample.events if event.event == "tool"]
            if len(models) < 3 or len(tools) < 2:
                continue
            seen += 1
            [row] = samples.sql(
                """SELECT input_tokens, output_tokens, n_calls, n_tool_calls, score
                FROM trace_facts WHERE trace_id = $id""",
                {"id": sample.uuid},
            ).to_dicts()
            assert (len(models), len(tools)) == (row["n_calls"], row["n_tool_calls"])
            usages = [event.output.usage for event in models if event.output.usage]
            assert sum(u.total_tokens for u in usages) == row["input_tokens"] + row["output_tokens"]
            lengths = [len(event.input) for event in models if event.role is None]
            assert lengths == sorted(lengths)
            assert models[0].input[-1].role == "user"
    assert seen >= 5


def test_what_is_read_back_adds_up_to_the_same(samples: Store, tmp_path: Path) -> None:
    inspect_log.write_logs(samples, tmp_path / "logs")
    back = open_store(tmp_path / "back.duckdb", create=True)
    paths = sorted((tmp_path / "logs").iterdir())
    back.ingest(itertools.chain.from_iterable(map(sources.read, paths)))
    found, expected = back.sql(SUMS).row(0), samples.sql(SUMS).row(0)
    assert found == pytest.approx(expected)


def test_a_trace_with_everything_is_read_back(tmp_path: Path) -> None:
    store = making.small_store(tmp_path)
    trace = making.rich_trace()
    trace = msgspec.structs.replace(trace, trace_id="rich", run_id="run-rich")
    store.ingest([making.run("run-rich"), trace])
    [file] = inspect_log.write_logs(store, tmp_path / "logs", "run:run-rich")
    [read] = [r for r in sources.read(file.path) if isinstance(r, Trace)]

    assert [(c.model, c.input_tokens, c.output_tokens, c.reasoning_tokens) for c in read.calls] == [
        (c.model, c.input_tokens, c.output_tokens, c.reasoning_tokens) for c in trace.calls
    ]
    assert [(t.tool, t.error_type is None) for t in read.tool_calls] == [
        (t.tool, t.error_type is None) for t in trace.tool_calls
    ]
    texts = [m.text for m in read.messages]
    assert all(m.text in texts for m in trace.messages if m.kind in {"text", "thinking"})
    assert (read.trial, read.e2e_s, read.passed) == (trace.trial, trace.e2e_s, trace.passed)


@pytest.mark.parametrize("name", ["../../evil", "a/b\\c", "\x1b[31m", "日本", "x" * 300, "."])
def test_names_of_tasks_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    store = making.small_store(tmp_path)
    task = Task(task=name)
    item = msgspec.structs.replace(making.ITEMS[0], task_id=task.task_id, item_id="")
    trace = making.trace(making.CONFIGURATIONS[0], item)
    store.ingest([task, item, msgspec.structs.replace(trace, task_id=task.task_id, trace_id="")])
    folder = tmp_path / "out" / "logs"
    files = inspect_log.write_logs(store, folder)
    assert {path.parent for path in map(Path.resolve, folder.iterdir())} == {folder.resolve()}
    assert name in {json.loads(file.path.read_bytes())["eval"]["task"] for file in files}


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    store = making.small_store(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine").write_text("mine")
    with pytest.raises(StoreError, match="is there and not empty; name a new folder"):
        inspect_log.write_logs(store, tmp_path / "logs")
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["mine"]


def test_the_command_writes_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = making.small_store(tmp_path)
    folder = tmp_path / "logs"
    words = ["export", "--as", "inspect", "--folder", str(folder), "--store", str(store.path)]
    assert main(words) == 0
    n = sum(len(read_eval_log(str(path)).samples or ()) for path in folder.iterdir())
    assert f"wrote {n} samples in {len(list(folder.iterdir()))} logs" in capsys.readouterr().err
    assert main([*words[:3], "-o", "x.csv"]) == 2
