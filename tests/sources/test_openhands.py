"""Output of OpenHands' benchmarks: events, metrics joined by response, attempts of critics."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.records import AnyRecord, Configuration, Item, Task, Trace
from workbench.sources.report import FileReport
from workbench.store import open_store

INSTANCE = "django__django-10924"


def at(second: float) -> str:
    """A time of an event, without a zone as the SDK writes it."""
    return f"2026-03-01T12:00:{second:09.6f}"


def action(n: int, second: float, **fields: Any) -> dict[str, Any]:
    """An action of the SDK."""
    return {
        "kind": "ActionEvent",
        "id": f"event-{n}",
        "timestamp": at(second),
        "source": "agent",
        "thought": [{"type": "text", "text": f"thought {n}"}],
        "reasoning_content": f"reasons {n}",
        "action": {"kind": "ExecuteBashAction", "command": f"command {n}"},
        "tool_name": "execute_bash",
        "tool_call_id": f"call_{n}",
        "tool_call": {"id": f"call_{n}", "arguments": json.dumps({"command": f"command {n}"})},
        "llm_response_id": f"resp-{n}",
    } | fields


def observation(n: int, second: float, **fields: Any) -> dict[str, Any]:
    """The result of an action."""
    return {
        "kind": "ObservationEvent",
        "timestamp": at(second),
        "tool_call_id": f"call_{n}",
        "observation": {"output": f"output {n}", "metadata": {"exit_code": 0}},
    } | fields


def metrics() -> dict[str, Any]:
    """Metrics of two calls, in another order than the latencies."""
    usages = [
        {
            "model": "anthropic/claude-x",
            "prompt_tokens": 100 + n,
            "completion_tokens": 20 + n,
            "cache_read_tokens": 60 + n,
            "cache_write_tokens": 5 + n,
            "reasoning_tokens": 3 + n,
            "response_id": f"resp-{n}",
        }
        for n in (0, 1)
    ]
    return {
        "accumulated_cost": 0.75,
        "accumulated_token_usage": {"prompt_tokens": 201, "completion_tokens": 41},
        "costs": [{"cost": 0.5}, {"cost": 0.25}],
        "response_latencies": [
            {"response_id": "resp-1", "latency": 2.5},
            {"response_id": "resp-0", "latency": 1.5},
        ],
        "token_usages": usages,
    }


def row(**fields: Any) -> dict[str, Any]:
    """A line of the output."""
    llm = {
        "model": "litellm_proxy/anthropic/claude-x",
        "temperature": 0.5,
        "reasoning_effort": "high",
        "api_key": "sk-0123456789",
    }
    message = {"role": "user", "content": [{"type": "text", "text": "Mend the bug."}]}
    return {
        "instance_id": INSTANCE,
        "test_result": {"git_patch": "the patch"},
        "instruction": "Mend the bug.",
        "metadata": {"llm": llm, "dataset": "org/bench", "max_iterations": 100},
        "history": [
            {
                "kind": "SystemPromptEvent",
                "timestamp": at(0),
                "system_prompt": {"text": "Good."},
            },
            {"kind": "MessageEvent", "timestamp": at(1), "llm_message": message},
            action(0, 5),
            observation(0, 7),
            action(1, 10),
            observation(1, 14, observation={"output": "no", "metadata": {"exit_code": 2}}),
        ],
        "metrics": metrics(),
        "error": None,
    } | fields


def write(folder: Path, *rows: dict[str, Any], name: str = "output.jsonl") -> Path:
    """A file of output."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == "openhands"
    return list(sources.read(path, report=report)), report


def of(kind: type, records: list[AnyRecord]) -> Any:
    """The one record of a kind."""
    [record] = [record for record in records if isinstance(record, kind)]
    return record


def test_an_instance_of_the_sdk(tmp_path: Path) -> None:
    records, report = read(write(tmp_path, row()))
    configuration, item = of(Configuration, records), of(Item, records)
    assert of(Task, records).task == "org/bench"
    assert (configuration.provider, configuration.model) == ("anthropic", "claude-x")
    assert (configuration.effort, configuration.temperature) == ("high", 0.5)
    assert "sk-0123456789" not in str(records)
    assert (item.item, item.input) == (INSTANCE, "Mend the bug.")
    trace = of(Trace, records)
    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens, first.cache_write_5m_tokens) == (
        100,
        60,
        5,
    )
    assert (first.output_tokens, first.reasoning_tokens) == (20, 3)
    assert (first.e2e_s, first.billed_cost_usd) == (1.5, 0.5)
    assert (second.e2e_s, second.billed_cost_usd) == (2.5, 0.25)
    ran, failed = trace.tool_calls
    assert (ran.tool, ran.arguments) == ("execute_bash", '{"command": "command 0"}')
    assert (ran.call_ordinal, ran.e2e_s, ran.error_type) == (0, 2.0, None)
    assert (failed.call_ordinal, failed.e2e_s, failed.error_message) == (1, 4.0, "exit code 2")
    assert [(m.role, m.kind, m.text) for m in trace.messages][:5] == [
        ("system", "text", "Good."),
        ("user", "text", "Mend the bug."),
        ("assistant", "thinking", "reasons 0"),
        ("assistant", "text", "thought 0"),
        ("assistant", "tool_call", 'execute_bash({"command": "command 0"})'),
    ]
    assert (trace.answer, trace.e2e_s, trace.passed) == ("the patch", 14.0, None)
    assert [(t.name.partition(": ")[2], t.agrees) for t in report.totals] == [
        ("input tokens", True),
        ("output tokens", True),
        ("cost in USD", True),
    ]


def test_the_report_beside_it_says_what_is_resolved(tmp_path: Path) -> None:
    path = write(tmp_path, row())
    report = {"resolved_ids": [INSTANCE], "unresolved_ids": []}
    (tmp_path / "output.report.json").write_text(json.dumps(report))
    trace = of(Trace, read(path)[0])
    assert (trace.score, trace.passed) == (1.0, True)


def test_scores_of_the_result_itself(tmp_path: Path) -> None:
    result = {"final_score": {"total": 4, "result": 3}}
    trace = of(Trace, read(write(tmp_path, row(test_result=result)))[0])
    assert [(s.scorer, s.score, s.passed) for s in trace.scores] == [("final_score", 0.75, False)]
    result = {"final_score": {"total": 0, "result": 0}, "report": {"resolved": False}}
    trace = of(Trace, read(write(tmp_path, row(test_result=result)))[0])
    assert [(s.scorer, s.score) for s in trace.scores] == [("resolved", 0.0)]


def test_sums_without_calls_are_one_call(tmp_path: Path) -> None:
    sums = {
        "accumulated_cost": 0.75,
        "accumulated_token_usage": {"prompt_tokens": 201, "completion_tokens": 41},
    }
    trace = of(Trace, read(write(tmp_path, row(metrics=sums)))[0])
    [call] = trace.calls
    assert (call.n_requests, call.input_tokens, call.billed_cost_usd) == (2, 201, 0.75)


def test_without_metrics_the_calls_are_those_of_the_events(tmp_path: Path) -> None:
    trace = of(Trace, read(write(tmp_path, row(metrics={})))[0])
    assert [(c.response_id, c.input_tokens) for c in trace.calls] == [
        ("resp-0", None),
        ("resp-1", None),
    ]


def test_two_tools_of_one_response_are_of_one_call(tmp_path: Path) -> None:
    history = [action(0, 5), action(1, 5, llm_response_id="resp-0"), observation(0, 7)]
    trace = of(Trace, read(write(tmp_path, row(history=history, metrics={})))[0])
    assert len(trace.calls) == 1
    assert [tool.call_ordinal for tool in trace.tool_calls] == [0, 0]


def test_attempts_of_critics_and_the_best_of_them_are_counted_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.duckdb", create=True)
    second = row(history=[action(7, 3), observation(7, 4)], metrics={})
    for rows, name in (
        ([second], "output.jsonl"),
        ([row()], "output.critic_attempt_1.jsonl"),
        ([second], "output.critic_attempt_2.jsonl"),
    ):
        store.ingest(read(write(tmp_path, *rows, name=name))[0])
    assert store.sql("SELECT count(*) FROM traces").rows() == [(2,)]


def test_errors_refusals_and_failed_tools(tmp_path: Path) -> None:
    history = [
        action(0, 1),
        {"kind": "AgentErrorEvent", "tool_call_id": "call_0", "error": "no such tool"},
        action(1, 2),
        {"kind": "UserRejectObservation", "tool_call_id": "call_1", "rejection_reason": "unsafe"},
    ]
    trace = of(Trace, read(write(tmp_path, row(history=history, error="it stopped")))[0])
    assert [tool.error_message for tool in trace.tool_calls] == ["no such tool", "unsafe"]
    assert (trace.error_type, trace.error_message) == ("error", "it stopped")


def test_the_older_events(tmp_path: Path) -> None:
    about = {"tool_call_id": "call_1", "function_name": "bash", "model_response": {"id": "resp-0"}}
    history = [
        {"action": "system", "source": "agent", "args": {"content": "Be good."}},
        {"action": "message", "source": "user", "args": {"content": "Mend it."}},
        {
            "action": "run",
            "timestamp": at(2),
            "args": {"command": "ls", "thought": "I look."},
            "tool_call_metadata": about,
        },
        {
            "observation": "run",
            "timestamp": at(5),
            "content": "a.txt",
            "extras": {"metadata": {"exit_code": 1}},
            "tool_call_metadata": about,
        },
    ]
    trace = of(Trace, read(write(tmp_path, row(history=history)))[0])
    [tool] = trace.tool_calls
    assert (tool.tool, tool.arguments, tool.e2e_s) == ("bash", '{"command":"ls"}', 3.0)
    assert (tool.error_message, tool.call_ordinal) == ("exit code 1", 0)
    assert [m.text for m in trace.messages] == [
        "Be good.",
        "Mend it.",
        "I look.",
        'bash({"command":"ls"})',
        "a.txt",
    ]


@pytest.mark.parametrize("field", ["history", "metrics", "metadata", "test_result", "error"])
@pytest.mark.parametrize("value", [None, 3, "x", [], [3], {"token_usages": [3], "llm": 3}])
def test_fields_of_another_type_are_read_as_far_as_they_go(
    tmp_path: Path, field: str, value: Any
) -> None:
    path = write(tmp_path, row(**{field: value}))
    assert of(Trace, list(sources.get("openhands").read(path, report=FileReport(path))))
