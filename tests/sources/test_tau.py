"""tau-bench and tau2-bench: an agent and a simulated user."""

import json
from pathlib import Path

import pytest

from tests.support.trajectory_files import (
    Fields,
    tau2_results,
    tau2_simulation,
    tau_result,
    write,
)
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Run, Task, Trace
from workbench.sources import FileReport
from workbench.store import open_store


def read(path: Path, **options: bool) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file, and the report."""
    report = FileReport(path, **options)
    return list(sources.read(path, report=report)), report


def traces(path: Path) -> list[Trace]:
    """The traces of a file."""
    return [record for record in read(path)[0] if isinstance(record, Trace)]


def test_each_fact_of_a_conversation_has_its_column(tmp_path: Path) -> None:
    """What the user cost is one call of the user."""
    name = "tool-calling-gpt-x-0.5_range_0--1_user-gpt-u-llm_0430101010.json"
    records, report = read(write(tmp_path / name, [tau_result()]))

    run, configuration, task, item, trace = records
    assert isinstance(run, Run)
    assert isinstance(configuration, Configuration)
    assert (configuration.model, configuration.strategy) == ("gpt-x", "tool-calling")
    assert configuration.temperature == 0.5
    assert json.loads(configuration.settings or "") == {
        "user": {"model": "gpt-u", "strategy": "llm"}
    }
    assert isinstance(task, Task)
    assert task.task == "tau-bench airline"
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("3", "book")
    assert json.loads(item.target or "") == {"actions": [{"name": "book"}]}
    assert isinstance(trace, Trace)
    assert (trace.trial, trace.score, trace.passed) == (1, 1.0, True)
    assert (trace.answer, trace.n_turns, trace.error_type) == ("done", 2, None)
    assert [(c.role, c.n_requests, c.billed_cost_usd) for c in trace.calls] == [
        ("subject", 1, None),
        ("subject", 1, None),
        ("user", 2, 0.125),
    ]
    assert [(t.tool, t.call_ordinal, t.error_type) for t in trace.tool_calls] == [
        ("get_user", 0, None),
        ("book", 0, "failed"),
    ]
    assert trace.tool_calls[1].error_message == "Error: no such flight"
    assert [m.role for m in trace.messages] == [
        *("system", "user", "assistant", "assistant", "assistant", "tool", "tool"),
        *("assistant", "user"),
    ]
    assert report.is_whole


def test_a_conversation_that_broke_off_is_an_error(tmp_path: Path) -> None:
    """Its reward of 0 is beside it; the name of an old file is the model."""
    broken = tau_result(reward=0.0, error="no key", traceback="…")

    records, _ = read(write(tmp_path / "gpt-4o-retail.json", [broken]))

    configuration, trace = (r for r in records if isinstance(r, (Configuration, Trace)))
    assert isinstance(trace, Trace)
    assert (trace.error_type, trace.error_message, trace.passed) == ("error", "no key", False)
    assert isinstance(configuration, Configuration)
    assert configuration.model == "gpt-4o"


def test_ids_of_tools_that_are_used_again(tmp_path: Path) -> None:
    """A service may give an id twice in one conversation: each result has its own request."""
    result = tau_result()
    answered = result["traj"][2:5]
    again = [dict(message) for message in answered]
    again[2]["content"] = "Error: gone"
    result["traj"] = [*result["traj"][:2], *answered, *again]

    (trace,) = traces(write(tmp_path / "m.json", [result]))

    assert [(t.tool, t.call_ordinal, t.error_message) for t in trace.tool_calls] == [
        ("get_user", 0, None),
        ("book", 0, "Error: no such flight"),
        ("get_user", 1, "Error: gone"),
        ("book", 1, "Error: no such flight"),
    ]


def test_a_file_that_grew_adds_what_is_new(tmp_path: Path) -> None:
    """And a copy under another name is the same run."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    path = write(tmp_path / "m.json", [tau_result(1)])

    store.ingest(sources.read(path))
    write(path, [tau_result(1), tau_result(2)])
    report = store.ingest(sources.read(path))
    again = store.ingest(sources.read(path))

    assert (report.rows_new["traces"], report.rows_new["runs"]) == (1, 0)
    assert not any(again.rows_new.values())


def test_each_fact_of_a_simulation_has_its_column(tmp_path: Path) -> None:
    """Agent, user and reviewer are told apart; a greeting is no call."""
    records, report = read(write(tmp_path / "results.json", tau2_results(tau2_simulation())))

    run, task, configuration, item, trace = records
    assert isinstance(run, Run)
    assert run.commit_sha == "abc"
    assert isinstance(task, Task)
    assert task.task == "tau2-bench telecom"
    assert isinstance(configuration, Configuration)
    assert (configuration.provider, configuration.model) == ("openai", "m")
    assert (configuration.strategy, configuration.temperature) == ("llm_agent", 0.25)
    assert json.loads(configuration.settings or "")["user"]["model"] == "openai/u"
    assert "sk-secret" not in str(records)
    assert isinstance(item, Item)
    assert (item.item, item.input) == ("t1", '{"instructions":"fix"}')
    assert isinstance(trace, Trace)
    assert [(c.role, c.model, c.input_tokens, c.output_tokens) for c in trace.calls] == [
        ("user", "u", 50, 5),
        ("subject", "m", 100, 10),
        ("user", "u", 60, 6),
        ("subject", "m", 300, 30),
        ("judge", None, None, None),
    ]
    last = trace.calls[3]
    assert (last.cache_read_tokens, last.reasoning_tokens) == (200, 12)
    assert (last.response_model, last.billed_cost_usd, last.e2e_s) == ("m-2026", 0.3, 1.5)
    assert str(last.started_at) == "2026-05-01 10:00:10.500000+00:00"
    assert trace.calls[4].billed_cost_usd == 0.03
    assert [(t.tool, t.error_type, t.call_ordinal) for t in trace.tool_calls] == [
        ("find", "failed", 1)
    ]
    assert [(m.role, m.kind, m.call_ordinal) for m in trace.messages] == [
        ("assistant", "text", None),
        ("user", "text", 0),
        ("assistant", "tool_call", 1),
        ("tool", "tool_result", None),
        ("user", "tool_call", 2),
        ("user", "tool_result", None),
        ("assistant", "text", 3),
    ]
    assert [(s.scorer, s.score, s.value) for s in trace.scores] == [
        ("reward", 1.0, None),
        ("DB", 1.0, None),
        ("action_checks", 0.5, "1 of 2"),
    ]
    assert (trace.trial, trace.e2e_s, trace.n_turns, trace.passed) == (2, 19.5, 2, True)
    assert [(t.name, t.agrees) for t in report.totals] == [
        ("agent's cost", True),
        ("user's cost", True),
    ]
    assert report.is_whole


def test_the_users_tokens_are_not_the_agents(tmp_path: Path) -> None:
    """The trace has the agent's alone; `spend` finds the user's among the calls."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(sources.read(write(tmp_path / "results.json", tau2_results(tau2_simulation()))))

    row = store.sql("SELECT n_calls, input_tokens, output_tokens FROM traces").rows()
    spenders = store.sql(
        "SELECT spender, sum(input_tokens) FROM call_costs GROUP BY 1 ORDER BY 1"
    ).rows()

    assert row == [(2, 400, 40)]
    assert spenders == [("judge", None), ("main", 400), ("user", 110)]


@pytest.mark.parametrize(
    ("end", "reward", "outcome"),
    [
        ("max_steps", {"reward": 0.0}, (False, "turns", None)),
        ("timeout", {"reward": 0.0}, (False, "time", None)),
        ("too_many_errors", {"reward": 0.0}, (False, None, None)),
        ("infrastructure_error", {"reward": 0.0}, (False, None, "infrastructure_error")),
        ("user_stop", None, (None, None, None)),
        ("user_stop", {"reward": 0.9999999}, (True, None, None)),
        ("user_stop", {"reward": 0.5}, (False, None, None)),
    ],
)
def test_how_a_simulation_ended(
    tmp_path: Path,
    end: str,
    reward: Fields | None,
    outcome: tuple[bool | None, str | None, str | None],
) -> None:
    """A limit is scored, a fault of the machinery is none of the agent's, no reward is no score."""
    simulation = tau2_simulation(termination_reason=end, reward_info=reward)

    (trace,) = traces(write(tmp_path / "results.json", tau2_results(simulation)))

    assert (trace.passed, trace.limit_type, trace.error_type) == outcome


def test_simulations_in_a_folder_are_read_with_their_results(tmp_path: Path) -> None:
    """Those that its index names and that are not there are missing."""
    index = [{"id": "sim-1"}, {"id": "sim-2"}]
    whole = tau2_results(simulation_index=index)
    del whole["simulations"]
    path = write(tmp_path / "results.json", whole)
    part = write(tmp_path / "simulations" / "sim-1.json", tau2_simulation())

    records, report = read(path)

    assert len([r for r in records if isinstance(r, Trace)]) == 1
    assert "1 simulations of its index" in report.incomplete.texts[0]
    assert {f.path: f.read_with for f in sources.detect_files(tmp_path)}[part] == path


def test_speech_and_unpriced_models(tmp_path: Path) -> None:
    """Of speech only the cost is read; a cost of 0 beside tokens is unknown."""
    free = tau2_simulation()
    free["messages"][2]["cost"] = 0.0
    voice = tau2_simulation(id="v", messages=None, ticks=[{}], review=None)

    first, second = traces(write(tmp_path / "results.json", tau2_results(free, voice)))

    assert first.calls[1].billed_cost_usd is None
    assert [(c.role, c.billed_cost_usd, c.n_requests) for c in second.calls] == [
        ("subject", 0.4, None),
        ("user", 0.11, None),
    ]


@pytest.mark.parametrize(
    "document", [[tau_result(), 7], tau2_results(tau2_simulation(), {"id": "x"})]
)
def test_bad_files_are_refused_or_skipped(tmp_path: Path, document: object) -> None:
    """With their place."""
    path = write(tmp_path / "x.json", document)
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(document)[:-30])

    with pytest.raises(ImportFormatError, match=r"(result|simulation) 2"):
        read(path)
    _, report = read(path, skip_bad_rows=True)
    assert (report.bad_rows.n, report.is_accounted_for) == (1, True)
    with pytest.raises(ImportFormatError, match=r"cut\.json"):
        read(cut)
