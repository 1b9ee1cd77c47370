"""ATIF trajectories, and jobs of Harbor."""

import json
from pathlib import Path

import pytest

from tests.support.trajectory_files import (
    Fields,
    atif,
    job,
    metrics,
    results,
    step,
    tool,
    trial,
    write,
)
from workbench import sources
from workbench.cli import import_files
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Run, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store


def read(path: Path, **options: bool) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file, and the report."""
    report = FileReport(path, **options)
    return list(sources.read(path, report=report)), report


def trace_of(path: Path) -> Trace:
    """The only trace of a file."""
    (trace,) = (record for record in read(path)[0] if isinstance(record, Trace))
    return trace


def one(records: list[AnyRecord], kind: type) -> AnyRecord:
    """The only record of a kind."""
    (record,) = (record for record in records if isinstance(record, kind))
    return record


def test_each_fact_of_a_trajectory_has_its_column(tmp_path: Path) -> None:
    """Steps of the agent are calls; a step without a model is none."""
    records, report = read(write(tmp_path / "trajectory.json", atif()))

    trace = one(records, Trace)
    assert isinstance(trace, Trace)
    first, second = trace.calls
    assert report.format == "atif"
    assert (first.provider, first.model) == ("openai", "m")  # as prices name them
    assert (first.input_tokens, first.cache_read_tokens) == (100, 40)
    assert (first.output_tokens, first.reasoning_tokens) == (20, 7)
    assert (first.cache_write_5m_tokens, first.billed_cost_usd) == (9, 0.25)
    assert (first.effort_sent, first.stop_reason) == ("high", "tool_calls")
    assert str(first.started_at) == "2026-05-01 10:00:03+00:00"
    assert json.loads(first.usage or "")["prompt_tokens"] == 100
    assert "logprobs" not in (first.usage or "")
    assert (second.model, second.input_tokens, second.ordinal) == ("n", 130, 1)
    assert [(t.tool, t.arguments, t.call_ordinal) for t in trace.tool_calls] == [
        ("bash", '{"command":"ls"}', 0),
        ("read", '{"path":"a"}', 0),
    ]
    assert [(t.error_type, t.error_message, t.result_bytes) for t in trace.tool_calls] == [
        (None, None, 4),
        ("failed", "gone", 4),
    ]
    assert [(m.role, m.kind, m.text, m.call_ordinal, m.tool_call_ordinal) for m in trace.messages][
        :4
    ] == [
        ("system", "text", "rules", None, None),
        ("user", "text", "fix it", None, None),
        ("assistant", "thinking", "hm", 0, None),
        ("assistant", "text", "looking", 0, None),
    ]
    assert (trace.answer, trace.n_turns, trace.e2e_s) == ("done", 2, 4.0)
    assert json.loads(trace.metadata or "") == {"session": "s-1", "stated_cost_usd": 0.75}
    run, item, configuration = (one(records, kind) for kind in (Run, Item, Configuration))
    assert isinstance(run, Run)
    assert json.loads(run.versions or "") == {"terminus-2": "2.1"}
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("s-1", "fix it")
    assert isinstance(configuration, Configuration)
    assert (configuration.provider, configuration.model) == ("openai", "m")
    assert (configuration.strategy, configuration.effort) == ("terminus-2", "high")
    assert [t.agrees for t in report.totals] == [True, True, True]
    assert report.is_whole


def test_a_call_that_old_files_write_as_several_steps_is_counted_once(tmp_path: Path) -> None:
    """Each repeats the tokens; the prompt of such files lacks what was written to the cache."""
    counts = metrics(14978, 14976, 121, extra={"cache_creation_input_tokens": 465})
    steps = [
        step(1, "user", "go"),
        step(2, "agent", "I will look", metrics=counts),
        step(
            3,
            "agent",
            "Executed Read t1",
            metrics=counts,
            tool_calls=[tool("t1", "Read")],
            observation=results(("t1", "text")),
            extra={"tool_result_is_error": True},
        ),
        step(4, "user", "again"),
        step(5, "agent", "ok", metrics=counts),
    ]
    totals = {"total_prompt_tokens": 3 * 14978, "total_completion_tokens": 363}
    path = write(
        tmp_path / "t.json",
        atif(schema_version="ATIF-v1.2", steps=steps, final_metrics=totals),
    )

    records, report = read(path)

    trace = one(records, Trace)
    assert isinstance(trace, Trace)
    assert [c.input_tokens for c in trace.calls] == [14978 + 465] * 2
    assert trace.tool_calls[0].call_ordinal == 0
    assert trace.tool_calls[0].error_type == "failed"
    assert "Executed Read t1" not in [m.text for m in trace.messages]
    assert report.notes["steps that repeat the tokens of their call, counted once"] == 1
    assert all(t.agrees for t in report.totals)


def test_zeros_are_unknown_and_several_requests_are_one_sum(tmp_path: Path) -> None:
    """An agent that does not know its tokens writes 0."""
    steps = [
        step(1, "agent", "a", metrics=metrics(0, 0, 0)),
        step(2, "agent", "b", metrics=metrics(50, 0, 6), llm_call_count=3),
    ]

    first, second = trace_of(write(tmp_path / "t.json", atif(steps=steps))).calls

    assert (first.input_tokens, first.output_tokens, first.tokens_source) == (None, None, None)
    assert (second.input_tokens, second.cache_read_tokens, second.n_requests) == (50, 0, 3)


def test_sub_agents_and_continuations_belong_to_the_trace(tmp_path: Path) -> None:
    """Copied steps were counted in the first file."""
    sub = atif(
        trajectory_id="sub",
        steps=[step(1, "agent", "sub", metrics=metrics(11, 0, 2))],
        final_metrics=None,
    )
    write(
        tmp_path / "trajectory.json",
        atif(subagent_trajectories=[sub], continued_trajectory_ref="trajectory.cont-1.json"),
    )
    copied = step(1, "agent", "done", metrics=metrics(130, 110, 5), is_copied_context=True)
    rest = [copied, step(2, "agent", "end", metrics=metrics(140, 130, 3))]
    totals = {"total_prompt_tokens": 230 + 11 + 140}
    write(tmp_path / "trajectory.cont-1.json", atif(steps=rest, final_metrics=totals))
    write(
        tmp_path / "trajectory.summarization-1-summary.json",
        atif(steps=[step(1, "agent", "sum", metrics=metrics(9, 0, 1))], final_metrics=None),
    )

    (file, *others) = sources.detect_files(tmp_path)[::-1]
    records, report = read(tmp_path / "trajectory.json")

    trace = one(records, Trace)
    assert isinstance(trace, Trace)
    assert [c.input_tokens for c in trace.calls] == [100, 130, 11, 140, 9]
    assert report.totals[0].agrees
    found = {f.path.name: f.read_with for f in [file, *others]}
    assert [found.pop("trajectory.json"), *found.values()] == [
        None,
        *[tmp_path / "trajectory.json"] * 2,
    ]


def folder(path: Path, *trials: Fields, **stats: object) -> Path:
    """A job's folder with trials, each with its trajectory."""
    for fields in trials:
        name = fields["trial_name"]
        write(path / name / "result.json", fields)
        write(path / name / "agent" / "trajectory.json", atif(session_id=name))
    return write(path / "result.json", job(len(trials), **stats))


def test_a_job_is_a_run_and_its_trials_are_traces(tmp_path: Path) -> None:
    """Results and trajectories are joined, and the job's sums compared."""
    path = folder(
        tmp_path,
        trial("task-a__2", 0.0, started_at="2026-05-01T10:00:01"),
        trial("task-a__1"),
        n_input_tokens=460,
        n_output_tokens=50,
        cost_usd=1.5,
    )

    records, report = read(path)

    traces = [r for r in records if isinstance(r, Trace)]
    assert [(t.trial, t.passed, t.score) for t in traces] == [(0, True, 1.0), (1, False, 0.0)]
    assert {t.run_id for t in traces} == {r.run_id for r in records if isinstance(r, Run)}
    trace = traces[0]
    assert [c.input_tokens for c in trace.calls] == [100, 130]
    assert [(s.scorer, s.score) for s in trace.scores] == [("reward", 1.0)]
    assert (trace.e2e_s, trace.n_turns, trace.error_type) == (120.0, 2, None)
    assert json.loads(trace.metadata or "") == {"trial_name": "task-a__1", "agent_setup_s": 30.0}
    run = one(records, Run)
    assert isinstance(run, Run)
    assert (run.n_planned, run.status) == (2, "done")
    configurations = {r.configuration_id: r for r in records if isinstance(r, Configuration)}
    (configuration,) = configurations.values()
    assert (configuration.provider, configuration.model) == ("openai", "m")
    assert (configuration.effort, configuration.temperature) == ("high", 0.5)
    assert json.loads(configuration.strategy_params or "") == {"version": "2.1"}
    assert json.loads(configuration.settings or "") == {"timeout_multiplier": 2.0}
    tasks = {r.task for r in records if isinstance(r, Task)}
    items = {r.item for r in records if isinstance(r, Item)}
    assert (tasks, items) == ({"bench"}, {"task-a"})
    assert [t.name for t in report.totals if not t.agrees] == []
    assert report.is_whole


def test_a_trial_is_the_same_by_itself_and_in_its_job(tmp_path: Path) -> None:
    """And a second import changes nothing."""
    path = folder(tmp_path / "job", trial("task-a__1"))
    store = open_store(tmp_path / "s.duckdb", create=True)

    store.ingest(sources.read(tmp_path / "job" / "task-a__1" / "result.json"))
    store.ingest(sources.read(path))  # the job ended: its traces replace those seen before
    again = store.ingest(sources.read(path))

    assert store.count() == 1
    assert not any(again.rows_new.values())


@pytest.mark.parametrize(
    ("kind", "reward", "more", "outcome"),
    [
        ("AgentTimeoutError", 1.0, {}, (True, "time", None)),
        ("AgentTimeoutError", 0.0, {}, (False, "time", None)),
        ("AgentTimeoutError", None, {}, (None, "time", "AgentTimeoutError")),
        ("ContextWindowExceededError", 0.0, {}, (False, "tokens", None)),
        ("NonZeroAgentExitCodeError", 0.0, {}, (False, None, None)),
        ("ApiRateLimitError", 0.0, {}, (False, None, "ApiRateLimitError")),
        ("ApiRateLimitError", 1.0, {"reward_valid": True}, (True, None, None)),
        (
            "AgentTimeoutError",
            0.0,
            {"reward_valid": False},
            (False, "time", "AgentTimeoutError"),
        ),
    ],
)
def test_a_verified_time_out_counts_and_a_fault_of_others_does_not(
    tmp_path: Path,
    kind: str,
    reward: float | None,
    more: Fields,
    outcome: tuple[bool | None, str | None, str | None],
) -> None:
    """What Harbor says of the reward decides, if it says it."""
    info = {"exception_type": kind, "exception_message": "why"}
    fields = trial("task-a__1", reward, exception_info=info) | more

    trace = trace_of(write(tmp_path / "result.json", fields))

    assert (trace.passed, trace.limit_type, trace.error_type) == outcome
    assert trace.error_message == (None if outcome[2] is None else "why")


def test_without_a_trajectory_the_sums_are_one_call(tmp_path: Path) -> None:
    """Of how many requests nobody says; zeros are unknown."""
    trace = trace_of(write(tmp_path / "a" / "result.json", trial("task-a__1")))
    zeros = {"n_input_tokens": 0, "n_cache_tokens": 0, "n_output_tokens": 0}
    unknown = trace_of(write(tmp_path / "b" / "result.json", trial("x", agent_result=zeros)))

    (call,) = trace.calls
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (230, 150, 25)
    assert (call.billed_cost_usd, call.n_requests, trace.n_turns) == (0.75, None, None)
    assert unknown.calls == ()


def test_several_rewards_and_steps_are_scores_of_their_own(tmp_path: Path) -> None:
    """Without one named reward no score is the trial's; one outside 0..1 is a metric."""
    steps = [
        {
            "step_name": "build",
            "agent_result": {"n_input_tokens": 5, "n_output_tokens": 3},
            "verifier_result": {"rewards": {"reward": 0.5}},
        }
    ]
    rewards = {"rewards": {"speed": 12.5, "right": 1}}
    fields = trial("x", agent_result=None, verifier_result=rewards, step_results=steps)

    trace = trace_of(write(tmp_path / "result.json", fields))

    assert [(s.scorer, s.score, s.passed, s.metric) for s in trace.scores] == [
        ("speed", None, None, 12.5),
        ("right", 1.0, True, None),
        ("build/reward", 0.5, False, None),
    ]
    assert (trace.score, trace.passed) == (None, None)
    assert (trace.calls[0].input_tokens, trace.calls[0].output_tokens) == (5, 3)


def test_calls_of_a_simulated_user_are_not_the_agents(tmp_path: Path) -> None:
    """They have the role `user`; its messages are the agent's too."""
    path = folder(tmp_path, trial("task-a__1"))
    user = atif(steps=[step(1, "agent", "please", metrics=metrics(31, 0, 4))], final_metrics=None)
    log = write(tmp_path / "task-a__1" / "user-agent" / "trajectory.json", user)

    trace = trace_of(path)

    assert [(c.ordinal, c.role, c.input_tokens) for c in trace.calls] == [
        (0, "subject", 100),
        (1, "subject", 130),
        (2, "user", 31),
    ]
    assert "please" not in [m.text for m in trace.messages]
    assert trace.n_turns == 2
    assert {f.path: f.read_with for f in sources.detect_files(tmp_path)}[log] == path


def test_a_job_without_its_trials_says_so(tmp_path: Path) -> None:
    """And what to import."""
    records, report = read(write(tmp_path / "result.json", job()))

    assert [type(r) for r in records] == [Run]
    assert "whole folder" in report.incomplete.texts[0]


def test_logs_of_an_agent_are_read_with_its_trial(tmp_path: Path) -> None:
    """So that a session is not counted beside the trajectory that was made of it."""
    folder(tmp_path, trial("task-a__1"))
    log = write(tmp_path / "task-a__1/agent/sessions/a.jsonl", {})

    found = {f.path: f.read_with for f in sources.detect_files(tmp_path)}

    assert found[log] == tmp_path / "result.json"
    assert found[tmp_path / "task-a__1/result.json"] == tmp_path / "result.json"


@pytest.mark.parametrize("cut", [30, 400])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    """With its name; nothing of it is imported."""
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(atif())[:-cut])

    with pytest.raises(ImportFormatError, match=r"trajectory\.json"):
        read(path)


def test_broken_files_of_a_job_are_refused_or_skipped(tmp_path: Path) -> None:
    """A trial without its result is skipped, one without its trajectory has its sums."""
    path = folder(tmp_path, trial("task-a__1"), trial("task-a__2"))
    broken = tmp_path / "task-a__1" / "agent" / "trajectory.json"
    broken.write_text(broken.read_text()[:-50])

    with pytest.raises(ImportFormatError, match="task-a__1"):
        read(path)
    records, report = read(path, skip_bad_rows=True)
    traces = [r for r in records if isinstance(r, Trace)]
    assert [len(t.calls) for t in traces] == [1, 2]
    assert "without its trajectory" in report.incomplete.texts[0]
    result = tmp_path / "task-a__2" / "result.json"
    result.write_text(result.read_text()[:-5])
    with pytest.raises(ImportFormatError, match="task-a__2"):
        read(path)
    records, report = read(path, skip_bad_rows=True)
    assert len([r for r in records if isinstance(r, Trace)]) == 1
    assert (report.bad_rows.n, report.is_accounted_for) == (1, True)


def test_a_job_is_as_large_as_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own file is small; what is large goes to the store as it is read, not as one of many."""
    path = folder(tmp_path / "job", trial("task-a__1"))
    monkeypatch.setattr(import_files, "SMALL_BYTES", path.stat().st_size)
    store = open_store(tmp_path / "s.duckdb", create=True)
    single: list[object] = []
    ingest = store.ingest
    monkeypatch.setattr(store, "ingest", lambda records: single.append(records) or ingest(records))

    outcomes = list(import_files.FileImporter(store).files(sources.detect_files(tmp_path / "job")))

    assert len(single) == 1
    assert not isinstance(single[0], list)
    assert [o.ingest.rows_new["traces"] for o in outcomes if o.ingest] == [1]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    """Of a trial or a trajectory that lies elsewhere nothing is read."""
    folder(tmp_path / "other", trial("task-a__2"))
    path = folder(tmp_path / "job", trial("task-a__1"))
    (tmp_path / "job" / "task-a__2").symlink_to(tmp_path / "other" / "task-a__2")
    own = tmp_path / "job" / "task-a__1" / "agent" / "trajectory.json"
    own.unlink()
    own.symlink_to(tmp_path / "other" / "task-a__2" / "agent" / "trajectory.json")

    trace = trace_of(path)

    assert json.loads(trace.metadata or "")["trial_name"] == "task-a__1"
    assert trace.messages == ()
