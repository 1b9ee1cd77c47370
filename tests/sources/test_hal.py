"""Uploads of HAL."""

import json
from pathlib import Path

import pytest

from tests.support.trajectory_files import hal_log, hal_upload, weave_call, write
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Result, Run, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file, and the report."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def traces(records: list[AnyRecord]) -> list[Trace]:
    """The traces among records."""
    return [record for record in records if isinstance(record, Trace)]


def test_each_fact_of_an_upload_has_its_column(tmp_path: Path) -> None:
    """The verdict is the benchmark's; a task that broke off is not wrong."""
    records, report = read(write(tmp_path / "x_UPLOAD.json", hal_upload({"a": hal_log()})))

    run, task, configuration, item = records[:4]
    assert isinstance(run, Run)
    assert str(run.started_at) == "2026-05-01 00:00:00+00:00"
    assert isinstance(task, Task)
    assert task.task == "taubench_airline"
    assert isinstance(configuration, Configuration)
    assert (configuration.provider, configuration.model) == ("openai", "m")
    assert configuration.strategy == "Tool Agent"
    assert json.loads(configuration.strategy_params or "") == {"max_steps": 9}
    assert "sk-secret" not in str(records)
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("a", "do a")
    first, second, third = traces(records)
    assert [(c.model, c.input_tokens, c.output_tokens, c.e2e_s) for c in first.calls] == [
        ("m-2026", 10, 5, 2.0),
        ("m-2026", 20, 7, 4.0),
    ]
    assert [(m.kind, m.call_ordinal) for m in first.messages] == [
        ("text", None),
        ("tool_call", 0),
        ("tool_result", None),
        ("text", 1),
    ]
    assert (first.passed, first.score, first.confidence) == (True, 1.0, 0.875)
    assert (first.answer, first.n_turns, first.e2e_s) == ("done", 2, 9.0)
    assert json.loads(first.metadata or "") == {"stated_cost_usd": 0.5}
    assert (second.passed, second.score, second.calls) == (False, 0.25, ())
    assert (third.passed, third.error_type, third.error_message) == (None, "error", "it broke")
    assert [(r.metric, r.value, r.n) for r in records if isinstance(r, Result)] == [
        ("accuracy", 0.5, 3),
        ("total_cost_usd", 0.75, 3),
    ]
    assert [(t.name, t.agrees) for t in report.totals] == [("output tokens", True)]
    assert report.is_whole


def test_parents_in_weave_do_not_count_twice(tmp_path: Path) -> None:
    """The longest call has the messages; calls are sorted by their start."""
    logged = [
        weave_call("p", None, 1, own=False),
        weave_call("c2", "p", 4, own=True),
        weave_call("c1", "p", 2, own=True, exception="timed out"),
    ]

    records, report = read(write(tmp_path / "x.json", hal_upload(logged)))

    trace = traces(records)[0]
    assert [(c.input_tokens, c.error_message) for c in trace.calls] == [
        (12, "timed out"),
        (14, None),
    ]
    assert [m.text for m in trace.messages] == ["hi"] * 4 + ["say 4"]
    assert report.notes["Weave calls without usage of their own: no calls of a model"] == 1


def test_usage_of_the_summary_is_taken_where_nothing_else_is(tmp_path: Path) -> None:
    """Of leaves only."""
    logged = [weave_call("p", None, 1, own=False), weave_call("c", "p", 2, own=False)]

    (trace, *_) = traces(read(write(tmp_path / "x.json", hal_upload(logged)))[0])

    assert [c.input_tokens for c in trace.calls] == [12]


def test_variants_of_a_prompt_have_their_mean(tmp_path: Path) -> None:
    """As HAL takes it; without lists of tasks the score is the verdict."""
    evaluated = {"a": [{"score": 1.0}, {"score": 0.0}], "b": True, "d": 1}
    upload = hal_upload({}, raw_eval_results=evaluated, results={"latencies": {"a": 1.5}})

    found = traces(read(write(tmp_path / "x.json", upload))[0])

    assert [(t.score, t.passed, t.e2e_s) for t in found] == [
        (0.5, False, 1.5),
        (1.0, True, None),
        (1.0, True, None),
    ]


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """And a count of calls that is another is named."""
    path = write(tmp_path / "x.json", hal_upload({"a": hal_log() | {"call_count": 3}}))
    store = open_store(tmp_path / "s.duckdb", create=True)

    store.ingest(sources.read(path))
    again = store.ingest(sources.read(path))

    assert not any(again.rows_new.values())
    assert "call_count is 3" in read(path)[1].mismatches.texts[0]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """With its name."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(hal_upload({}))[:-9])

    with pytest.raises(ImportFormatError, match=r"x\.json"):
        read(path)
