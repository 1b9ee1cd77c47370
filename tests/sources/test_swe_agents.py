"""Trajectories of mini-swe-agent and SWE-agent, with the verdicts of SWE-bench's reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Run, Trace
from workbench.sources.report import FileReport
from workbench.store import open_store

INSTANCE = "django__django-10924"
START = 1_780_000_000.0


def answer(n: int, command: str, at: float, **extra: Any) -> dict[str, Any]:
    """An answer of a chat model that calls the shell."""
    usage = {
        "prompt_tokens": 100 + n,
        "completion_tokens": 20 + n,
        "total_tokens": 120 + 2 * n,
        "prompt_tokens_details": {"cached_tokens": 60 + n},
    }
    response = {
        "id": f"resp-{n}",
        "model": "deepseek-chat-v3",
        "choices": [{"finish_reason": "tool_calls"}],
        "usage": usage,
    }
    return {
        "role": "assistant",
        "content": f"thought {n}",
        "reasoning_content": f"reasons {n}",
        "tool_calls": [{"id": f"call_{n}", "function": {"name": "bash", "arguments": "{}"}}],
        "extra": {
            "actions": [{"command": command, "tool_call_id": f"call_{n}"}],
            "response": response,
            "cost": 0.25 + n,
            "timestamp": START + at,
        }
        | extra,
    }


def observation(n: int, at: float, code: int = 0, **extra: Any) -> dict[str, Any]:
    """The result of a command."""
    return {
        "role": "tool",
        "tool_call_id": f"call_{n}",
        "content": f"output {n}",
        "extra": {"returncode": code, "timestamp": START + at} | extra,
    }


def mini(**info: Any) -> dict[str, Any]:
    """A trajectory of two commands, the second of which fails."""
    config = {
        "agent": {"step_limit": 250, "cost_limit": 3.0, "output_path": "x"},
        "agent_type": "minisweagent.agents.default.DefaultAgent",
        "model": {
            "model_name": "deepseek/deepseek-chat",
            "model_kwargs": {"temperature": 0.5, "api_key": "sk-0123456789", "drop_params": True},
        },
    }
    messages = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Mend the bug."},
        answer(0, "ls", 10.0),
        observation(0, 12.0),
        answer(1, "make test", 20.0),
        observation(1, 50.0, code=2),
        {"role": "exit", "content": "patch", "extra": {"exit_status": "Submitted"}},
    ]
    stats = {"instance_cost": 1.5, "api_calls": 2}
    about = {
        "model_stats": stats,
        "config": config,
        "mini_version": "2.4.6",
        "exit_status": "Submitted",
        "submission": "the patch",
    }
    return {
        "info": about | info,
        "instance_id": INSTANCE,
        "messages": messages,
        "trajectory_format": "mini-swe-agent-1.1",
    }


def write(folder: Path, document: Any, name: str = f"{INSTANCE}.traj.json") -> Path:
    """A file in a folder of a batch."""
    path = folder / "output" / "batch" / INSTANCE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1))
    return path


def read(path: Path, source: str = "mini-swe-agent") -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == source
    return list(sources.read(path, report=report)), report


def of(kind: type, records: list[AnyRecord]) -> Any:
    """The one record of a kind."""
    [record] = [record for record in records if isinstance(record, kind)]
    return record


def test_a_trajectory_of_mini_swe_agent(tmp_path: Path) -> None:
    records, report = read(write(tmp_path, mini()))
    run, configuration = of(Run, records), of(Configuration, records)
    assert json.loads(run.versions) == {"mini-swe-agent": "2.4.6"}
    assert (configuration.provider, configuration.model) == ("deepseek", "deepseek-chat")
    assert (configuration.strategy, configuration.temperature) == ("mini-swe-agent", 0.5)
    assert json.loads(configuration.strategy_params) == {"cost_limit": 3.0, "step_limit": 250}
    assert "sk-0123456789" not in configuration.settings
    item, trace = of(Item, records), of(Trace, records)
    assert (item.item, item.input) == (INSTANCE, "Mend the bug.")
    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens, first.output_tokens) == (100, 60, 20)
    assert (first.billed_cost_usd, first.e2e_s, first.response_id) == (0.25, None, "resp-0")
    assert (second.input_tokens, second.billed_cost_usd, second.e2e_s) == (101, 1.25, 8.0)
    assert second.response_model == "deepseek-chat-v3"
    listed, tested = trace.tool_calls
    assert (listed.tool, listed.arguments) == ("bash", '{"command":"ls"}')
    assert (listed.e2e_s, listed.error_type, listed.call_ordinal) == (2.0, None, 0)
    assert (tested.e2e_s, tested.error_message) == (30.0, "exit code 2")
    assert [(m.role, m.kind, m.text) for m in trace.messages] == [
        ("system", "text", "You are helpful."),
        ("user", "text", "Mend the bug."),
        ("assistant", "thinking", "reasons 0"),
        ("assistant", "text", "thought 0"),
        ("assistant", "tool_call", 'bash({"command":"ls"})'),
        ("tool", "tool_result", "output 0"),
        ("assistant", "thinking", "reasons 1"),
        ("assistant", "text", "thought 1"),
        ("assistant", "tool_call", 'bash({"command":"make test"})'),
        ("tool", "tool_result", "output 1"),
    ]
    assert (trace.answer, trace.n_turns, trace.e2e_s) == ("the patch", 2, 38.0)
    assert (trace.score, trace.scores) == (None, ())
    assert [(t.name, t.agrees) for t in report.totals] == [
        ("calls of the instance", True),
        ("cost of the instance in USD", True),
    ]


REPORTS = {
    "beside": ("output/batch/report.json", {"resolved_ids": [INSTANCE], "unresolved_ids": []}),
    "harness": (
        f"logs/run_evaluation/run/deepseek__deepseek-chat/{INSTANCE}/report.json",
        {INSTANCE: {"resolved": True, "patch_exists": True}},
    ),
    "summary": (
        "deepseek__deepseek-chat.run-1.json",
        {"total_instances": 1, "resolved_ids": [INSTANCE]},
    ),
    "sb-cli": ("sb-cli-reports/x__deepseek__deepseek-chat.json", {"resolved_ids": [INSTANCE]}),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_says_whether_the_instance_is_resolved(tmp_path: Path, kind: str) -> None:
    name, report = REPORTS[kind]
    path = write(tmp_path, mini())
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(report))
    trace = of(Trace, read(path)[0])
    assert (trace.score, trace.passed) == (1.0, True)
    assert [(s.scorer, s.score) for s in trace.scores] == [("resolved", 1.0)]


def test_a_report_of_another_model_says_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, mini())
    (tmp_path / "openai__gpt-5.run.json").write_text(json.dumps({"resolved_ids": [INSTANCE]}))
    other = tmp_path / "logs" / "run_evaluation" / "r" / "openai__gpt-5" / INSTANCE
    other.mkdir(parents=True)
    (other / "report.json").write_text(json.dumps({INSTANCE: {"resolved": True}}))
    assert of(Trace, read(path)[0]).passed is None


def test_reports_that_contradict_each_other_say_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, mini())
    for name, verdict in (("a", "resolved_ids"), ("b", "unresolved_ids")):
        text = json.dumps({"resolved_ids": [], verdict: [INSTANCE]})
        (path.parent / f"{name}.json").write_text(text)
    assert of(Trace, read(path)[0]).passed is None


def test_an_unresolved_instance_is_scored_0(tmp_path: Path) -> None:
    path = write(tmp_path, mini(exit_status="LimitsExceeded"))
    text = json.dumps({"resolved_ids": [], "unresolved_ids": [INSTANCE]})
    (path.parent.parent / "report.json").write_text(text)
    trace = of(Trace, read(path)[0])
    assert (trace.score, trace.passed, trace.limit_type) == (0.0, False, "cost or steps")
    assert trace.error_type is None


def test_a_cost_of_0_is_unknown(tmp_path: Path) -> None:
    document = mini()
    for message in document["messages"]:
        if "cost" in message.get("extra", {}):
            message["extra"]["cost"] = 0.0
    trace = of(Trace, read(write(tmp_path, document))[0])
    assert [call.billed_cost_usd for call in trace.calls] == [None, None]


def test_an_answer_that_could_not_be_parsed_was_paid_for(tmp_path: Path) -> None:
    document = mini()
    broken = answer(5, "x", 60.0)["extra"]
    broken.pop("actions")
    document["messages"].insert(6, {"role": "user", "content": "Format error", "extra": broken})
    trace = of(Trace, read(write(tmp_path, document))[0])
    assert [call.input_tokens for call in trace.calls] == [100, 101, 105]
    assert trace.calls[2].billed_cost_usd == 5.25


def test_answers_in_the_form_of_responses(tmp_path: Path) -> None:
    usage = {"input_tokens": 70, "output_tokens": 9, "total_tokens": 79}
    message = {
        "object": "response",
        "id": "resp_1",
        "model": "gpt-5",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "I look."}]}],
        "usage": usage,
        "extra": {"actions": [{"command": "ls"}], "cost": 0.5, "timestamp": START},
    }
    result = {
        "type": "function_call_output",
        "output": "a.txt",
        "extra": {"returncode": 0, "timestamp": START + 1},
    }
    document = mini() | {"messages": [message, result]}
    trace = of(Trace, read(write(tmp_path, document))[0])
    [call] = trace.calls
    assert (call.input_tokens, call.output_tokens, call.response_id) == (70, 9, "resp_1")
    assert [m.text for m in trace.messages] == ["I look.", 'bash({"command":"ls"})', "a.txt"]


def test_a_trajectory_that_grows_is_one_trace(tmp_path: Path) -> None:
    """The agent saves it after every step."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    whole = mini()
    part = whole | {"messages": whole["messages"][:4]}
    for document in (part, whole, whole):
        report = store.ingest(read(write(tmp_path, document))[0])
    assert store.sql("SELECT n_calls FROM traces").rows() == [(2,)]
    assert not any(report.rows_new.values())


def step(n: int) -> dict[str, Any]:
    """A step of SWE-agent."""
    return {
        "action": f"open file{n}.py\n",
        "observation": f"content {n}",
        "response": f"full response {n}",
        "thought": f"thought {n}",
        "execution_time": 0.5 + n,
        "state": {},
    }


def swe(**changes: Any) -> dict[str, Any]:
    """A trajectory of SWE-agent 1.x."""
    model = {"name": "anthropic/claude-x", "temperature": 0.25, "per_instance_cost_limit": 3.0}
    document = {
        "trajectory": [step(0), step(1)],
        "history": [
            {"role": "system", "content": "You are a programmer.", "message_type": "system_prompt"},
            {"role": "user", "content": "a demonstration", "is_demo": True},
            {"role": "user", "content": "Mend the bug.", "message_type": "observation"},
            {"role": "assistant", "content": "thought 0", "action": "open file0.py"},
        ],
        "info": {
            "exit_status": "submitted (exit_cost)",
            "submission": "the patch",
            "model_stats": {
                "instance_cost": 0.75,
                "tokens_sent": 5000,
                "tokens_received": 300,
                "api_calls": 3,
            },
            "swe_agent_version": "1.1.0",
            "swe_agent_hash": "abc123",
            "edited_files30": "[File: a.py]",
        },
        "replay_config": json.dumps({"agent": {"model": model}}),
        "environment": "main",
    }
    return document | changes


def test_a_trajectory_of_swe_agent(tmp_path: Path) -> None:
    path = write(tmp_path, swe(), f"{INSTANCE}.traj")
    (path.parent.parent / "results.json").write_text(json.dumps({"resolved": [INSTANCE]}))
    records, _ = read(path, "swe-agent")
    run, configuration = of(Run, records), of(Configuration, records)
    assert (run.commit_sha, json.loads(run.versions)) == ("abc123", {"swe_agent_version": "1.1.0"})
    assert (configuration.provider, configuration.model) == ("anthropic", "claude-x")
    assert (configuration.temperature, configuration.strategy) == (0.25, "swe-agent")
    item, trace = of(Item, records), of(Trace, records)
    assert (item.item, item.input) == (INSTANCE, "Mend the bug.")
    [call] = trace.calls
    assert (call.n_requests, call.input_tokens, call.output_tokens) == (3, 5000, 300)
    assert call.billed_cost_usd == 0.75
    assert [(t.tool, t.e2e_s, t.arguments) for t in trace.tool_calls] == [
        ("open", 0.5, '{"command":"open file0.py"}'),
        ("open", 1.5, '{"command":"open file1.py"}'),
    ]
    assert [m.text for m in trace.messages][:5] == [
        "You are a programmer.",
        "a demonstration",
        "Mend the bug.",
        "thought 0",
        'open({"command":"open file0.py"})',
    ]
    assert (trace.passed, trace.limit_type, trace.error_type) == (True, "cost", None)
    assert trace.n_turns == 2


def test_a_replay_has_no_tokens_but_calls(tmp_path: Path) -> None:
    document = swe()
    document["info"]["model_stats"] = {
        "instance_cost": 0,
        "tokens_sent": 0,
        "tokens_received": 0,
        "api_calls": 2,
    }
    records, report = read(write(tmp_path, document, f"{INSTANCE}.traj"), "swe-agent")
    trace = of(Trace, records)
    assert [(c.input_tokens, c.billed_cost_usd) for c in trace.calls] == [(None, None)] * 2
    assert all(total.agrees for total in report.totals)


def test_without_settings_the_model_is_that_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "gpt4__SWE-bench_Lite__default" / f"{INSTANCE}.traj"
    path.parent.mkdir()
    path.write_text(json.dumps(swe(replay_config=None)))
    assert of(Configuration, read(path, "swe-agent")[0]).model == "gpt4"


@pytest.mark.parametrize("source", ["mini-swe-agent", "swe-agent"])
@pytest.mark.parametrize("text", ['{"info": {"mini', "[]", '{"info": 3}x'])
def test_what_is_broken_is_an_error(tmp_path: Path, source: str, text: str) -> None:
    path = tmp_path / "x.traj"
    path.write_text(text)
    with pytest.raises(ImportFormatError, match=r"x\.traj"):
        list(sources.get(source).read(path, report=FileReport(path)))


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [3], [None], float("nan")])
@pytest.mark.parametrize("field", ["info", "messages", "trajectory", "history", "replay_config"])
def test_fields_of_another_type_are_read_as_far_as_they_go(
    tmp_path: Path, field: str, value: Any
) -> None:
    for source, document in (("mini-swe-agent", mini()), ("swe-agent", swe())):
        path = tmp_path / f"{source}.traj"
        path.write_text(json.dumps(document | {field: value}))
        records = list(sources.get(source).read(path, report=FileReport(path)))
        assert sum(isinstance(record, Trace) for record in records) == 1
