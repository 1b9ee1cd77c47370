"""The real thing: llama.cpp's server through its Responses and Messages, against its own counts."""

import asyncio
import json
import re
import urllib.request

import pytest

from tests.support.chat import CHAT
from workbench import scoring, spool
from workbench.datasets import TaskSet
from workbench.records import Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts.session import CallRefused, Request
from workbench.runner.providers import registry
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter


def ask(url, endpoint, *requests):
    async def run():
        provider = registry.make(endpoint, url, name="llama.cpp", timeout_s=60.0)
        try:
            return [await provider.generate(r) for r in requests]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def totals(url):
    """The server's own sums so far: fresh prompt tokens, and output tokens."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as answer:
        text = answer.read().decode()
    names = ("prompt_tokens_total", "tokens_predicted_total")
    return [int(float(re.search(rf"^llamacpp:{n} (\S+)", text, re.MULTILINE)[1])) for n in names]


def test_both_endpoints_count_as_the_server_does(llama):
    """Fresh and cached prompt, output: equal to the timings where they are sent, and to the
    metrics."""
    for endpoint in ("responses", "messages"):
        before = totals(llama)
        replies = ask(llama, endpoint, CHAT, CHAT)
        after = totals(llama)

        calls = [r.call for r in replies]
        assert all("Paris" in r.text for r in replies)
        assert replies[0].text == replies[1].text
        fresh = sum(c.input_tokens - c.cache_read_tokens for c in calls)
        assert [fresh, sum(c.output_tokens for c in calls)] == [
            b - a for a, b in zip(before, after, strict=True)
        ]
        assert calls[1].cache_read_tokens > 0
        for call in calls:
            assert 0 < call.ttft_s <= call.answer_start_s <= call.e2e_s
            assert call.n_chunks <= call.output_tokens
            assert (call.reasoning_tokens, call.stop_reason) == (None, "stop")
            assert call.request_id
            assert not call.response_model.startswith("/")
            timings = json.loads(call.usage).get("timings")
            assert (timings is not None) == (endpoint == "responses")
            if timings:
                assert call.input_tokens == timings["prompt_n"] + timings["cache_n"]
                assert call.cache_read_tokens == timings["cache_n"]
                assert call.output_tokens == timings["predicted_n"]
                assert call.ttft_s * 1e3 >= timings["prompt_ms"]


def test_messages_say_that_a_cap_cut_the_answer(llama):
    """Cut after three tokens; a stop word ends an answer in the ordinary way."""
    cut, stopped = ask(
        llama,
        "messages",
        Request(model="m", messages=CHAT.messages, sampling={"max_tokens": 3, "temperature": 0.0}),
        Request(
            model="m",
            messages=CHAT.messages,
            sampling={"max_tokens": 8, "temperature": 0.0, "stop": ["France"]},
        ),
    )

    assert (cut.call.output_tokens, cut.stop_reason) == (3, "max_tokens")
    assert (stopped.text.strip(), stopped.stop_reason) == ("The capital of", "stop")


@pytest.mark.parametrize("endpoint", ["responses", "messages"])
def test_a_prompt_that_is_too_long_is_refused_with_the_reason(llama, endpoint):
    """The server's words are kept."""
    messages = ({"role": "user", "content": "a b c " * 3000},)

    with pytest.raises(CallRefused, match=r"exceeds the available context size"):
        ask(llama, endpoint, Request(model="m", messages=messages, sampling={"max_tokens": 8}))


def test_a_plan_collects_through_messages(llama, tmp_path):
    """From the plan's endpoint to the trace's counts."""
    items = [
        scoring.TaskItem(task="capitals", item=c, input=f"What is the capital of {c}?", target=t)
        for c, t in (("France", "Paris"), ("Italy", "Rome"))
    ]
    task = TaskSet(Task(task="capitals"), items, scoring.get("exact"), "Answer the question.")
    plan = Plan(
        models=("smollm2",),
        tasks=("capitals",),
        base_url=llama,
        provider="llama.cpp",
        endpoint="messages",
        concurrency=2,
        max_tokens=12,
        temperature=0.0,
    )
    with SpoolWriter(tmp_path, "r1") as writer:
        work = Work(plan, [task], [strategy("direct")])
        report = asyncio.run(collect(plan, spool=writer, work=work))

    records = [r for s in spool.segments(tmp_path) for r in spool.read_segment(s.path).records]
    calls = [c for r in records if isinstance(r, Trace) for c in r.calls]
    assert (report.status, report.collected, report.failed) == ("done", 2, 0)
    assert all(c.provider == "llama.cpp" and c.input_tokens and c.output_tokens for c in calls)
    assert json.loads(work.configurations[0][0].settings) == {"endpoint": "messages"}
