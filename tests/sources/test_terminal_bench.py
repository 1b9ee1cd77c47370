"""Runs of Terminal-Bench 1.x."""

import json
from pathlib import Path

import pytest

from tests.support.trajectory_files import Fields, tb_run, tb_trial, write
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Run, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store

META = {
    "run_id": "night",
    "uuid": "u",
    "agent_name": "terminus",
    "model_name": "anthropic/m",
    "dataset_name": "core",
    "dataset_version": "0.1.1",
    "dataset_size": 2,
    "n_attempts": 2,
    "commit_hash": "abc",
    "start_time": "2026-05-01T09:00:00+00:00",
    "end_time": "2026-05-01T11:00:00+00:00",
}


def read(path: Path, **options: bool) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file, and the report."""
    report = FileReport(path, **options)
    return list(sources.read(path, report=report)), report


def traces(path: Path) -> list[Trace]:
    """The traces of a file."""
    return [record for record in read(path)[0] if isinstance(record, Trace)]


def test_each_fact_of_a_run_has_its_column(tmp_path: Path) -> None:
    """The metadata beside the results name agent, model and dataset."""
    trials = [tb_trial(), tb_trial(k=2, resolved=False), tb_trial("b"), tb_trial("b", 2)]
    path = write(tmp_path / "results.json", tb_run(*trials, pass_at_k={"1": 0.75, "2": 1.0}))
    write(tmp_path / "run_metadata.json", META)

    records, report = read(path)

    run, task, configuration, item, trace = records[:5]
    assert isinstance(run, Run)
    assert (run.n_planned, run.commit_sha) == (4, "abc")
    assert str(run.ended_at) == "2026-05-01 11:00:00+00:00"
    assert isinstance(task, Task)
    assert (task.task, task.version) == ("core", "0.1.1")
    assert isinstance(configuration, Configuration)
    assert (configuration.provider, configuration.model) == ("anthropic", "m")
    assert (configuration.strategy, configuration.settings) == ("terminus", None)
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("hello", "do hello")
    assert isinstance(trace, Trace)
    assert (trace.trial, trace.score, trace.passed) == (0, 1.0, True)
    assert [(s.scorer, s.value) for s in trace.scores] == [("resolved", None), ("tests", "2 of 3")]
    assert trace.scores[1].score == pytest.approx(2 / 3)
    assert (str(trace.started_at), trace.e2e_s) == ("2026-05-01 10:02:00+00:00", 540.0)
    assert json.loads(trace.metadata or "")["test_s"] == 540.0
    (call,) = trace.calls
    assert (call.input_tokens, call.output_tokens, call.n_requests) == (900, 80, None)
    assert [r.trial for r in records if isinstance(r, Trace)] == [0, 1, 0, 1]
    assert {t.name for t in report.totals} == {"resolved trials", "accuracy", "pass@1", "pass@2"}
    assert report.is_whole


@pytest.mark.parametrize(
    ("failure", "resolved", "outcome"),
    [
        ("unset", True, (True, None, None)),
        ("agent_timeout", True, (True, "time", None)),
        ("agent_timeout", False, (False, "time", None)),
        ("agent_timeout", None, (None, "time", "agent_timeout")),
        ("test_timeout", None, (None, None, "test_timeout")),
        ("unknown_agent_error", False, (False, None, None)),
        ("context_length_exceeded", False, (False, "tokens", None)),
        ("unset", None, (None, None, None)),
    ],
)
def test_a_verified_time_out_is_scored_and_no_verdict_is_not_wrong(
    tmp_path: Path,
    failure: str,
    resolved: bool | None,
    outcome: tuple[bool | None, str | None, str | None],
) -> None:
    """The stated accuracy counts what has no verdict as failed; so does the comparison."""
    trials = [tb_trial(resolved=resolved, failure_mode=failure), tb_trial("b", resolved=True)]

    records, report = read(write(tmp_path / "results.json", tb_run(*trials)))

    trace = next(r for r in records if isinstance(r, Trace))
    assert (trace.passed, trace.limit_type, trace.error_type) == outcome
    assert all(total.agrees for total in report.totals)
    assert bool(report.totals[0].nulls) == (resolved is None)


def test_zero_tokens_and_no_times_are_unknown(tmp_path: Path) -> None:
    """Agents in the container write 0; older files have a uuid and no times."""
    trial = {k: v for k, v in tb_trial().items() if not k.endswith("_at") and k != "id"}
    trial |= {"uuid": "u-1", "total_input_tokens": 0, "total_output_tokens": 0}

    (trace,) = traces(write(tmp_path / "results.json", {"results": [trial], "n_resolved": 1}))

    assert (trace.calls, trace.e2e_s, trace.started_at) == ((), None, None)


def test_runs_without_a_model_are_not_pooled(tmp_path: Path) -> None:
    """Each is a configuration of its own, named by its run."""
    settings = []
    for run in ("one", "two"):
        trial = tb_trial(recording_path=f"{run}/x.cast")
        records, report = read(write(tmp_path / f"{run}_results.json", tb_run(trial)))
        (configuration,) = (r for r in records if isinstance(r, Configuration))
        settings.append((configuration.model, configuration.settings))
        assert any("model is not stated" in note for note in report.notes)

    assert settings == [("unknown", '{"run":"one"}'), ("unknown", '{"run":"two"}')]


def test_a_trial_is_read_with_its_run_and_is_the_same_by_itself(tmp_path: Path) -> None:
    """A second import changes nothing."""
    trial = tb_trial()
    own = write(tmp_path / "hello" / trial["trial_name"] / "results.json", trial)
    path = write(tmp_path / "results.json", tb_run(trial))
    metadata = write(tmp_path / "run_metadata.json", META)
    store = open_store(tmp_path / "s.duckdb", create=True)

    store.ingest(sources.read(path))
    again = store.ingest(sources.read(own))

    assert store.count() == 1
    assert not any(again.rows_new.values())
    found = {f.path: f.read_with for f in sources.detect_files(tmp_path)}
    assert (found[own], found[metadata], found[path]) == (path, path, None)


def test_episodes_of_terminus_are_calls(tmp_path: Path) -> None:
    """In the order of their numbers; usage is in the provider's reply."""
    trial = tb_trial()
    path = write(tmp_path / "results.json", tb_run(trial))
    logs = tmp_path / "hello" / trial["trial_name"] / "agent-logs"
    usage = {"prompt_tokens": 70, "completion_tokens": 5, "total_tokens": 75}
    for number in (10, 2):
        reply = {"usage": usage | {"prompt_tokens": number, "total_tokens": number + 5}}
        logged = reply if number == 2 else json.dumps(reply)  # services differ
        write(logs / f"episode-{number}" / "debug.json", {"original_response": logged})
        (logs / f"episode-{number}" / "prompt.txt").write_text(f"ask {number}")
        (logs / f"episode-{number}" / "response.txt").write_text(f"say {number}")

    (trace,) = traces(path)

    assert [(c.input_tokens, c.output_tokens) for c in trace.calls] == [(2, 5), (10, 5)]
    assert [(m.role, m.text, m.call_ordinal) for m in trace.messages] == [
        ("user", "ask 2", None),
        ("assistant", "say 2", 0),
        ("user", "ask 10", None),
        ("assistant", "say 10", 1),
    ]
    assert (trace.answer, trace.n_turns) == ("say 10", 2)


@pytest.mark.parametrize("name", ["..", "../..", "/etc"])
def test_names_of_a_file_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    """A trial's folder is beside the file."""
    (tmp_path / "agent-logs" / "episode-0").mkdir(parents=True)
    (tmp_path / "agent-logs" / "episode-0" / "prompt.txt").write_text("outside")
    trial: Fields = tb_trial(task_id=name, trial_name="..")

    (trace,) = traces(write(tmp_path / "run" / "results.json", tb_run(trial)))

    assert trace.messages == ()


def test_bad_files_are_refused_or_skipped(tmp_path: Path) -> None:
    """With their place; a trial that is none is counted where bad rows are skipped."""
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(tb_run(tb_trial()))[:-20])
    odd = write(tmp_path / "results.json", tb_run(tb_trial()) | {"results": [tb_trial(), 7]})

    with pytest.raises(ImportFormatError, match=r"cut\.json"):
        read(cut)
    with pytest.raises(ImportFormatError, match="result 2"):
        read(odd)
    _, report = read(odd, skip_bad_rows=True)
    assert report.bad_rows.n == 1
    assert report.is_accounted_for
