"""Every strategy of many calls on llama.cpp's server with a real small model: collected, counted,
had again."""

import asyncio
import json

from tests.support.launches import records
from workbench import datasets, scoring
from workbench.datasets import TaskSet
from workbench.records import Configuration, Task
from workbench.runner import Plan, Work, collect
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter

TINY = {
    "effort": {"level": "low"},
    "relative_effort": {"pilot": 1},
    "budgeted": {
        "thinking_tokens": 8,
        "answer_tokens": 4,
        "min_thinking_tokens": 6,
        "extensions": 1,
    },
    "diverse_prompts": {"prompts": ["", "You are a teacher."]},
    "best_of_n": {"samples": 1, "verifier": "judge"},
    "sequential_refinement": {"rounds": 1},
    "parallel_distill_refine": {"drafts": 1, "workspace_tokens": 6},
    "plan_and_budget": {"parts": 2, "total_tokens": 8, "answer_tokens": 4},
    "iterative_agent_decoding": {"rounds": 1, "samples": 1},
    "speculative_steps": {"max_steps": 1, "step_tokens": 6, "threshold": 0.5},
    "cascade": {"samples": 2, "threshold": 1.0},
    "tree_search": {"branches": 2, "width": 1, "depth": 1, "nodes": 2, "step_tokens": 6},
}


def sums():
    """Two items; the second is there for a pilot."""
    items = [
        scoring.TaskItem(
            task="sums", item=str(n), input=f"What is {n} + 3?", target=str(n + 3), scorer="numeric"
        )
        for n in (2, 4)
    ]
    example = datasets.Example(input="What is 1 + 1?", target="2", thought="1 + 1 = 2.")
    return TaskSet(Task(task="sums"), items, scoring.get("numeric"), "Solve it.", (example,))


def test_every_strategy_runs_on_a_real_model(llama, tmp_path):
    """All calls are answered, priced in tokens, within the bound; what was sent and found is on
    record."""
    helper = {"model": "smollm2-helper", "provider": "llama.cpp", "base_url": llama}
    plan = Plan(
        models=("smollm2",),
        tasks=("sums",),
        strategies=tuple(TINY),
        strategy_params=TINY,
        limit=1,
        helpers=dict.fromkeys(("judge", "small", "large"), helper),
        base_url=llama,
        provider="llama.cpp",
        concurrency=2,
        max_tokens=4,
        seed=1,
    )
    strategies = {name: strategy(name, shots=0, **params) for name, params in TINY.items()}
    work = Work(plan, [sums()], list(strategies.values()))
    with SpoolWriter(tmp_path, "r1") as writer:
        report = asyncio.run(collect(plan, spool=writer, work=work))

    names = {c.configuration_id: c.strategy for c in records(tmp_path, Configuration)}
    traces = {names[t.configuration_id]: t for t in records(tmp_path, run_id="r1")}
    assert (report.status, report.failed, set(traces)) == ("done", 0, set(TINY))
    for name, trace in traces.items():
        assert 1 <= len(trace.calls) <= getattr(strategies[name], "most_calls", 1), name
        assert all(c.output_tokens and c.error_type is None for c in trace.calls), name
        assert trace.passed is not None, name
        assert [c.ordinal for c in trace.calls] == list(range(len(trace.calls))), name
    assert traces["effort"].calls[0].effort_sent.startswith("reasoning_effort=low")
    thought = traces["budgeted"].calls[:-1]
    assert 0 < sum(c.output_tokens for c in thought) <= 8 + len(thought)
    assert traces["budgeted"].calls[-1].output_tokens <= 4
    assert json.loads(traces["relative_effort"].metadata)["mean"] > 0
    asked = {c.model for c in traces["speculative_steps"].calls}
    assert asked == {"smollm2", "smollm2-helper"}
