"""Small files of agents' trajectories, as their tools write them; every count is distinct."""

import json
from pathlib import Path
from typing import Any

Fields = dict[str, Any]
AT = "2026-05-01T10:00:0{}Z"


def step(number: int, source: str, message: str, **more: object) -> Fields:
    """A step of an ATIF trajectory."""
    at = AT.format(number)
    return {"step_id": number, "timestamp": at, "source": source, "message": message} | more


def metrics(prompt: int, cached: int, completion: int, **more: object) -> Fields:
    """The metrics of a step."""
    counts = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}
    return counts | more


def tool(id: str, name: str, **arguments: object) -> Fields:
    """A request of an ATIF step."""
    return {"tool_call_id": id, "function_name": name, "arguments": arguments}


def results(*pairs: tuple[str | None, str], **extra: object) -> Fields:
    """An observation with (id of the tool call, result) pairs."""
    found = [{"source_call_id": id, "content": content} for id, content in pairs]
    return {"results": [r | ({"extra": extra} if extra else {}) for r in found]}


def atif(**changes: object) -> Fields:
    """A trajectory with a failed tool, a thought and a step that no model wrote."""
    details = {"reasoning_tokens": 7, "cache_creation_input_tokens": 9}
    steps = [
        step(1, "system", "rules"),
        step(2, "user", "fix it"),
        step(
            3,
            "agent",
            "looking",
            reasoning_content="hm",
            reasoning_effort="high",
            tool_calls=[tool("t1", "bash", command="ls"), tool("t2", "read", path="a")],
            observation=results(("t2", "no such file"), is_error=True)
            | {
                "results": [
                    {"source_call_id": "t2", "content": "gone", "extra": {"is_error": True}},
                    {"source_call_id": "t1", "content": "a.py"},
                ]
            },
            metrics=metrics(100, 40, 20, cost_usd=0.25, extra=details, logprobs=[-0.5]),
            llm_call_count=1,
            extra={"stop_reason": "tool_use"},
        ),
        step(4, "agent", "automatic", llm_call_count=0),
        step(5, "agent", "done", metrics=metrics(130, 110, 5, cost_usd=0.5), model_name="openai/n"),
    ]
    totals = {"total_prompt_tokens": 230, "total_completion_tokens": 25, "total_cached_tokens": 150}
    whole = {
        "schema_version": "ATIF-v1.8",
        "session_id": "s-1",
        "agent": {"name": "terminus-2", "version": "2.1", "model_name": "openai/m"},
        "steps": steps,
        "final_metrics": totals | {"total_cost_usd": 0.75},
    }
    return whole | changes


def trial(name: str, reward: float | None = 1.0, **changes: object) -> Fields:
    """The result of a trial of Harbor."""
    whole = {
        "id": f"id-{name}",
        "task_name": "task-a",
        "trial_name": name,
        "task_checksum": "c0ffee",
        "source": "bench",
        "config": {
            "job_id": "job-1",
            "timeout_multiplier": 2.0,
            "agent": {
                "name": "terminus-2",
                "model_name": "openai/m",
                "kwargs": {"reasoning_effort": "high", "temperature": 0.5, "api_key": "sk-secret"},
            },
        },
        "agent_info": {
            "name": "terminus-2",
            "version": "2.1",
            "model_info": {"name": "m", "provider": "openai"},
        },
        "agent_result": {
            "n_input_tokens": 230,
            "n_cache_tokens": 150,
            "n_output_tokens": 25,
            "cost_usd": 0.75,
        },
        "verifier_result": None if reward is None else {"rewards": {"reward": reward}},
        "exception_info": None,
        "started_at": "2026-05-01T09:59:00",
        "finished_at": "2026-05-01T10:05:00",
        "agent_setup": {
            "started_at": "2026-05-01T09:59:10",
            "finished_at": "2026-05-01T09:59:40",
        },
        "agent_execution": {
            "started_at": "2026-05-01T10:00:00",
            "finished_at": "2026-05-01T10:02:00",
        },
    }
    return whole | changes


def job(n_trials: int = 2, **stats: object) -> Fields:
    """The result of a job of Harbor."""
    sums = {"n_completed_trials": n_trials, "n_errored_trials": 0}
    return {
        "id": "job-1",
        "started_at": "2026-05-01T09:58:00",
        "finished_at": "2026-05-01T10:06:00",
        "n_total_trials": n_trials,
        "stats": sums | stats,
    }


def tb_trial(
    task: str = "hello", k: int = 1, resolved: bool | None = True, **changes: object
) -> Fields:
    """A trial of Terminal-Bench."""
    name = f"{task}.{k}-of-2.night"
    times = {
        f"{part}_{end}_at": f"2026-05-01T10:{minute:02}:00+00:00"
        for part, begin in (("trial", 0), ("agent", 2), ("test", 30))
        for end, minute in (("started", begin), ("ended", begin + 9))
    }
    whole = {
        "id": f"id-{name}",
        "trial_name": name,
        "task_id": task,
        "instruction": f"do {task}",
        "is_resolved": resolved,
        "failure_mode": "unset",
        "parser_results": {"test_a": "passed", "test_b": "failed", "test_c": "passed"},
        "recording_path": f"night/{task}/{name}/sessions/agent.cast",
        "total_input_tokens": 900,
        "total_output_tokens": 80,
    }
    return whole | times | changes


def tb_run(*trials: Fields, **changes: object) -> Fields:
    """The results of a run of Terminal-Bench; its sums are those of its trials."""
    resolved = sum(bool(trial["is_resolved"]) for trial in trials)
    sums = {"n_resolved": resolved, "accuracy": resolved / len(trials)}
    return {"id": "run", "results": list(trials)} | sums | changes


def chat_tool(id: str, name: str, arguments: str) -> Fields:
    """A request of a chat message."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tau_result(task: int = 3, trial: int = 1, reward: float = 1.0, **info: object) -> Fields:
    """A conversation of tau-bench in which a tool failed."""
    asked = [chat_tool("c1", "get_user", '{"id": "u"}'), chat_tool("c2", "book", "{}")]
    messages = [
        {"role": "system", "content": "# Airline Agent Policy"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "looking", "tool_calls": asked},
        {"role": "tool", "tool_call_id": "c2", "name": "book", "content": "Error: no such flight"},
        {"role": "tool", "tool_call_id": "c1", "name": "get_user", "content": "{}"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "###STOP###"},
    ]
    about = {"user_id": "u", "instruction": "book", "actions": [{"name": "book"}], "outputs": []}
    checks = {"reward": reward, "info": {"r_actions": reward}}
    whole = {"task": about, "user_cost": 0.125, "reward_info": checks}
    return {
        "task_id": task,
        "reward": reward,
        "info": whole | info,
        "traj": messages,
        "trial": trial,
    }


def tau2_message(role: str, content: str | None, second: int, **more: object) -> Fields:
    """A message of tau2-bench."""
    return {"role": role, "content": content, "timestamp": f"2026-05-01T10:00:{second:02}"} | more


def tau2_said(
    role: str, content: str, second: int, tokens: tuple[int, int], **more: object
) -> Fields:
    """A message that a model wrote, with its tokens, its cost and its time."""
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    measured = {"usage": usage, "cost": tokens[0] / 1000, "generation_time_seconds": 1.5}
    return tau2_message(role, content, second, **(measured | more))


def tau2_simulation(**changes: object) -> Fields:
    """A simulation in which agent and user both run a tool."""
    asked = [{"id": "c1", "name": "find", "arguments": {"q": 1}, "requestor": "assistant"}]
    own = [{"id": "u1", "name": "reboot", "arguments": {}, "requestor": "user"}]
    cached = {
        "model": "m-2026",
        "usage": {
            "prompt_tokens": 300,
            "completion_tokens": 30,
            "total_tokens": 330,
            "prompt_tokens_details": {"cached_tokens": 200},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
    }
    messages = [
        tau2_message("assistant", "Hi! How can I help you?", 1, cost=0.0, usage=None),
        tau2_said("user", "it is broken", 3, (50, 5)),
        tau2_said("assistant", "", 6, (100, 10), tool_calls=asked),
        tau2_message("tool", "not found", 7, id="c1", requestor="assistant", error=True),
        tau2_said("user", "", 9, (60, 6), tool_calls=own),
        tau2_message("tool", "rebooted", 10, id="u1", requestor="user", error=False),
        tau2_said("assistant", "done", 12, (300, 30), raw_data=cached),
    ]
    reward = {
        "reward": 1.0,
        "reward_breakdown": {"DB": 1.0},
        "action_checks": [{"action_match": True}, {"action_match": False}],
    }
    whole = {
        "id": "sim-1",
        "task_id": "t1",
        "trial": 2,
        "seed": 7,
        "start_time": "2026-05-01T10:00:00",
        "end_time": "2026-05-01T10:00:20",
        "duration": 19.5,
        "termination_reason": "user_stop",
        "agent_cost": 0.4,
        "user_cost": 0.11,
        "reward_info": reward,
        "review": {"cost": 0.03},
        "messages": messages,
    }
    return whole | changes


def tau2_results(*simulations: Fields, **changes: object) -> Fields:
    """Results of tau2-bench."""
    info = {
        "git_commit": "abc",
        "num_trials": 4,
        "max_steps": 200,
        "user_info": {"implementation": "user_simulator", "llm": "openai/u", "llm_args": {}},
        "agent_info": {
            "implementation": "llm_agent",
            "llm": "openai/m",
            "llm_args": {"temperature": 0.25, "api_key": "sk-secret"},
        },
        "environment_info": {"domain_name": "telecom", "policy": "long"},
    }
    tasks = [
        {
            "id": "t1",
            "user_scenario": {"instructions": "fix"},
            "evaluation_criteria": {"actions": []},
        }
    ]
    whole = {"timestamp": "2026-05-01T09:00:00", "info": info, "tasks": tasks}
    return whole | {"simulations": list(simulations)} | changes


def exgentic_lines(*more: Fields) -> list[Fields]:
    """A trajectory of Exgentic: a greeting, then two tools asked for in one answer."""
    head = {"run_id": "run-1", "session_id": "s-9", "task_id": "t-5", "benchmark_cost": 0.5}

    def action(
        step: int, cost: float, name: str, error: str | None = None, **arguments: object
    ) -> Fields:
        validation = {"valid": error is None, "error": error}
        asked = {"name": name, "arguments": arguments, "id": f"a{step}", "validation": validation}
        return {"event": "action", **head, "step": step, "action": asked, "agent_cost": cost}

    def observation(step: int, cost: float, result: object) -> Fields:
        seen = {"result": result, "invoking_actions": [{"id": f"a{step}"}] if step else []}
        return {
            "event": "observation",
            **head,
            "step": step,
            "observation": seen,
            "agent_cost": cost,
        }

    return [
        observation(0, 0, {"sender": "user", "message": "hello"}),
        action(1, 0.25, "message", content="which one?"),
        observation(1, 0.25, {"sender": "user", "message": "that one"}),
        action(2, 0.75, "find", q=1),
        observation(2, 0.75, {"output": "x", "returncode": 2}),
        action(3, 0.75, "book", "no such field", q=2),
        observation(3, 0.75, "refused"),
        action(4, 1.0, "finish"),
        {"event": "observation", **head, "step": 4, "observation": None, "agent_cost": 1.0},
        *more,
    ]


def exgentic_results(**changes: object) -> Fields:
    """The results of the session."""
    whole = {
        "session_id": "9b03",
        "success": True,
        "score": 1.0,
        "is_finished": True,
        "status": "success",
        "steps": 4,
        "action_count": 4,
        "invalid_action_count": 1,
        "agent_cost": 1.125,
        "benchmark_cost": 0.5,
        "execution_time": 46.5,
        "details": {"session_metrics": {"recall": 0.75, "db_match": True}},
        "cost_reports": {
            "agent": {"model_name": "openai/m"},
            "benchmark": {"model_name": "azure/u"},
        },
        "task_id": "t-5",
    }
    return whole | changes


def hal_upload(logged: object, **changes: object) -> Fields:
    """An upload of HAL with a task that passed, one that failed and one that broke off."""
    config = {
        "agent_name": "Tool Agent",
        "benchmark_name": "taubench_airline",
        "date": "2026-05-01",
        "run_id": "run-7",
        "agent_args": {"model_name": "openai/m", "api_key": "sk-secret", "max_steps": 9},
        "run_command": "hal-eval --key sk-secret",
    }
    whole = {
        "config": config,
        "results": {
            "accuracy": 0.5,
            "total_cost": 0.75,
            "successful_tasks": ["a"],
            "failed_tasks": ["b", "c"],
            "latencies": {"a": {"total_time": 1.0}, "b": {"total_time": 0.0}},
        },
        "raw_eval_results": {
            "a": {"reward": 1.0, "cost": 0.5, "confidence": 0.875},
            "b": {"reward": 0.25},
            "c": "it broke",
        },
        "raw_logging_results": logged,
        "task_prompts": {"a": "do a"},
        "total_usage": {"m": {"prompt_tokens": 30, "completion_tokens": 12}},
        "total_cost": 0.75,
    }
    return whole | changes


def hal_log() -> Fields:
    """The log of a task in the new layout."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    times = {"started_at": "2026-05-01T10:00:00+00:00", "ended_at": "2026-05-01T10:00:02+00:00"}
    later = {"started_at": "2026-05-01T10:00:05+00:00", "ended_at": "2026-05-01T10:00:09+00:00"}
    second = usage | {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
    return {
        "messages": [
            {"role": "user", "content": "do a"},
            {"role": "assistant", "content": None, "tool_calls": [chat_tool("c", "look", "{}")]},
            {"role": "tool", "tool_call_id": "c", "content": "seen"},
            {"role": "assistant", "content": "done"},
        ],
        "call_metadata": [times | {"usage": usage}, later | {"usage": second}],
        "model": "m-2026",
        "call_count": 2,
    }


def weave_call(id: str, parent: str | None, second: int, *, own: bool, **more: object) -> Fields:
    """A call as Weave recorded it; a parent has the usage of its children in its summary only."""
    usage = {"prompt_tokens": 10 + second, "completion_tokens": 2, "total_tokens": 12 + second}
    reply = {"choices": [{"message": {"role": "assistant", "content": f"say {second}"}}]}
    whole = {
        "id": id,
        "parent_id": parent,
        "weave_task_id": "a",
        "started_at": f"2026-05-01T10:00:{second:02}+00:00",
        "ended_at": f"2026-05-01T10:00:{second + 1:02}+00:00",
        "inputs": {"model": "m", "messages": [{"role": "user", "content": "hi"}] * second},
        "output": reply | {"usage": usage, "model": "m-2026"} if own else None,
        "summary": {"usage": {"m": usage}},
    }
    return whole | more


def write_lines(path: Path, rows: list[Fields]) -> Path:
    """Write JSON lines, and the folders above them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(path: Path, document: object) -> Path:
    """Write a document as JSON, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


EXAMPLES: tuple[bytes, ...] = tuple(
    json.dumps(document).encode()
    for document in (
        atif(),
        atif(subagent_trajectories=[atif(trajectory_id="sub")]),
        trial("task-a__x"),
        job() | {"trial_results": [trial("task-a__y", 0.25)]},
        tb_run(tb_trial(), tb_trial("b", 2, None), pass_at_k={"1": 0.5}),
        tb_trial("c"),
        [tau_result(), tau_result(4, 0, 0.0)],
        tau2_results(tau2_simulation(), tau2_simulation(id="sim-2", messages=None, ticks=[{}])),
    )
)
EXAMPLES += (
    json.dumps(hal_upload({"a": hal_log()})).encode(),
    json.dumps(hal_upload([weave_call("p", None, 1, own=True)])).encode(),
    json.dumps(exgentic_results()).encode(),
    "".join(json.dumps(line) + "\n" for line in exgentic_lines()).encode(),
)
