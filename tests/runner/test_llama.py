"""The real thing: llama.cpp's server with a real small model, streamed, counted and collected."""

import asyncio
import json
import math

import pytest

from tests.support.chat import CHAT
from workbench import scoring, spool
from workbench.datasets import TaskSet
from workbench.records import Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts.session import CallRefused, Request
from workbench.runner.providers.openai_chat import OpenAIChat
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter


def ask(url, *requests):
    async def run():
        provider = OpenAIChat(url, name="llama.cpp", timeout_s=60.0)
        try:
            return [await provider.generate(r) for r in requests]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def test_usage_equals_the_server_s_own_timings(llama):
    """Prompt fresh + cached, output, first token: as the server counted them."""
    cold, warm = ask(llama, CHAT, CHAT)

    for reply in (cold, warm):
        call, timings = reply.call, json.loads(reply.call.usage)["timings"]
        assert "Paris" in reply.text
        assert call.input_tokens == timings["prompt_n"] + timings["cache_n"]
        assert call.cache_read_tokens == timings["cache_n"]
        assert call.output_tokens == timings["predicted_n"]
        assert call.n_chunks <= call.output_tokens
        assert call.ttft_s * 1e3 >= timings["prompt_ms"]
        assert call.e2e_s * 1e3 >= timings["prompt_ms"] + timings["predicted_ms"] * 0.9
        assert (call.reasoning_tokens, call.stop_reason) == (None, "stop")
        assert not call.response_model.startswith("/")
    assert warm.call.cache_read_tokens > 0
    assert warm.text == cold.text


def test_a_base_model_s_completion_stops_at_its_cap(llama):
    """Completions, cut by max_tokens, deterministic at temperature 0."""
    request = Request(
        model="smollm2", prompt="One, two, three,", sampling={"max_tokens": 5, "temperature": 0.0}
    )

    first, second = ask(llama, request, request)

    assert (first.call.output_tokens, first.stop_reason) == (5, "max_tokens")
    assert first.text == second.text != ""


def test_a_prompt_that_is_too_long_is_refused_with_the_reason(llama):
    """The server's words are kept."""
    request = Request(model="m", messages=({"role": "user", "content": "a b c " * 3000},))

    with pytest.raises(CallRefused, match=r"exceeds the available context size"):
        ask(llama, request)


def test_the_server_s_tokenizer_counts(llama):
    """More text, more tokens; none for nothing."""

    async def run():
        provider = OpenAIChat(llama, timeout_s=60.0)
        counts = [await provider.count_tokens(t) for t in ("", "one", "one two three")]
        await provider.aclose()
        return counts

    none, one, three = asyncio.run(run())

    assert none == 0 < one < three


def test_a_collection_of_three_strategies(llama, tmp_path):
    """Direct, cot and think: scored, timed, thinking counted, machine time conserved."""
    items = [
        scoring.TaskItem(task="capitals", item=c, input=f"What is the capital of {c}?", target=t)
        for c, t in (("France", "Paris"),)
    ]
    task = TaskSet(Task(task="capitals"), items, scoring.get("exact"), "Answer the question.")
    plan = Plan(
        models=("smollm2",),
        tasks=("capitals",),
        base_url=llama,
        concurrency=2,
        max_tokens=12,
        temperature=0.0,
        seed=1,
        machine="box",
    )
    strategies = [
        strategy("direct"),
        strategy("cot"),
        strategy("think", max_thinking_tokens=8, max_answer_tokens=4),
    ]
    with SpoolWriter(tmp_path, "r1") as writer:
        report = asyncio.run(collect(plan, spool=writer, work=Work(plan, [task], strategies)))

    records = [r for s in spool.segments(tmp_path) for r in spool.read_segment(s.path).records]
    traces = [r for r in records if isinstance(r, Trace)]
    calls = [c for t in traces for c in t.calls]
    assert (report.status, report.collected, report.failed) == ("done", 3, 0)
    assert all(t.passed is not None for t in traces)
    assert any(c.reasoning_tokens for c in calls)
    assert all(0 < c.ttft_s <= c.e2e_s for c in calls if c.n_chunks)
    assert sum(c.machine_s for c in calls) <= report.elapsed_s
    assert sum(c.machine_s for c in calls) >= max(c.e2e_s for c in calls)


@pytest.mark.parametrize(
    ("name", "params", "extra"),
    [
        ("self_consistency", {"samples": 3, "temperature": 1.5}, {}),
        ("best_of_n", {"samples": 2, "temperature": 1.5}, {"logprobs": True}),
        ("self_refine", {"rounds": 1}, {}),
    ],
)
def test_a_strategy_of_several_calls_can_be_had_again(llama, tmp_path, name, params, extra):
    """Samples differ, a second collection with the same seed gets the same ones, every call is paid
    for."""
    item = scoring.TaskItem(
        task="sums", item="1", input="What is 2 + 3?", target="5", scorer="numeric"
    )
    task = TaskSet(Task(task="sums"), [item], scoring.get("numeric"), "Answer the question.")
    plan = Plan(
        models=("smollm2",),
        tasks=("sums",),
        base_url=llama,
        concurrency=1,
        max_tokens=8,
        seed=1,
        extra_body={"cache_prompt": False, **extra},
    )
    found = []
    for run_id in ("r1", "r2"):
        with SpoolWriter(tmp_path / run_id, run_id) as writer:
            work = Work(plan, [task], [strategy(name, **params)])
            report = asyncio.run(collect(plan, spool=writer, work=work))
        (trace,) = [
            r
            for s in spool.segments(tmp_path / run_id)
            for r in spool.read_segment(s.path).records
            if isinstance(r, Trace)
        ]
        assert (report.status, report.failed) == ("done", 0)
        assert report.output_tokens == sum(c.output_tokens for c in trace.calls) > 0
        found.append(trace)

    first, again = ([m.text for m in t.messages if m.role == "assistant"] for t in found)
    assert first == again
    assert len(first) == len(found[0].calls) >= 2
    assert len(set(first)) == len(first) or "samples" not in params
    if name == "self_consistency":
        votes = [a for a in (task.score(item, text).answer for text in first) if a is not None]
        share = max(votes.count(a) for a in votes) / 3 if votes else None
        assert found[0].confidence == share
    if name == "best_of_n":  # no verifier was asked
        assert {c.role for c in found[0].calls} == {"subject"}
        assert found[0].verifier_score == max(
            math.exp(c.logprob_sum / c.output_tokens) for c in found[0].calls
        )
