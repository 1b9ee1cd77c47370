"""The limits as a user meets them: a collection that is held back, stopped, or told that it may go
on."""

import asyncio
import datetime as dt
import re

import pytest

from tests.support import sums
from tests.support.launches import answer, number
from tests.support.runner_stub import Stub, data, fixed
from workbench import scoring, spool
from workbench.datasets import TaskItem, TaskSet
from workbench.errors import ConfigError
from workbench.records import Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.execution import launch
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter


def run(folder, url, n=20, *, strategies=("direct",), run_id="r1", options=None, **settings):
    """Collect sums once; returns the report and the traces."""
    task = sums.task_set(n)
    given = {"models": ("m",), "concurrency": 4, "retries": 0, "seed": 1, "energy": "off"}
    plan = Plan(tasks=("sums",), base_url=url, strategies=strategies, **given | settings)
    work = Work(plan, [task], [strategy(s) for s in strategies])
    with SpoolWriter(folder, run_id) as writer:
        report = asyncio.run(collect(plan, spool=writer, work=work, **(options or {})))
    records = [r for s in spool.segments(folder) for r in spool.read_segment(s.path).records]
    return report, [r for r in records if isinstance(r, Trace) and r.run_id == run_id]


def test_items_that_are_too_long_fail_alone(tmp_path):
    """Half of the items pass the model's context: they fail, the others are answered, nothing is
    stopped."""
    said = {"error": {"message": "This model's maximum context length is 8192 tokens"}}

    def respond(seen):
        if number(seen) >= 20:
            return fixed(400, data(said)[6:].strip())
        return answer(seen)

    with Stub(respond) as stub:
        report, traces = run(tmp_path, stub.url, 40)

    assert (report.status, report.collected, report.failed, report.notes) == ("done", 20, 20, ())
    assert sum(t.passed is True for t in traces) == 20


def test_a_budget_of_tokens_stops_the_run(tmp_path):
    """660 tokens are thirty answers; the next is never asked for, and the note says so."""
    with Stub(answer) as stub:
        report, traces = run(tmp_path, stub.url, 50, budget_tokens=660, max_tokens=4)

    assert (report.status, len(traces), stub.n) == ("cancelled", 30, 30)
    assert report.input_tokens + report.output_tokens == 660
    assert report.notes == ("the budget is used up: 660 of 660 tokens spent; raise it to go on",)


def test_a_budget_too_small_for_one_call_asks_nothing(tmp_path):
    """A prompt of ordinary size would pass it."""
    with Stub(answer) as stub:
        report, traces = run(tmp_path, stub.url, budget_tokens=220, max_tokens=4)

    assert (report.status, traces, stub.n) == ("cancelled", [], 0)
    assert "no room for one call: it may take 504 tokens" in report.notes[0]


def test_a_long_attempt_is_cut_by_the_budget_and_gone_on_with(tmp_path):
    """Thirty calls with room for 25: no trace, and the replies are kept; with room the next run
    asks five more."""

    class Long:
        name, params, most_calls = "long", {}, 30

        async def run(self, session, item):
            for _ in range(30):
                reply = await session.generate([{"role": "user", "content": item.input}])
            return type(self).end(reply)

        @staticmethod
        def end(reply):
            from workbench.runner.attempts.session import Outcome

            return Outcome(reply.text)

    def long_run(url, run_id, **settings):
        items = [TaskItem(task="s", item="1", input="1 + 1", target="2", scorer="numeric")]
        task = TaskSet(Task(task="s"), items, scoring.get("numeric"), "Answer.")
        plan = Plan(
            models=("m",), tasks=("s",), base_url=url, retries=0, seed=1, energy="off", **settings
        )
        with SpoolWriter(tmp_path, run_id) as writer:
            report = asyncio.run(collect(plan, spool=writer, work=Work(plan, [task], [Long()])))
        records = [r for s in spool.segments(tmp_path) for r in spool.read_segment(s.path).records]
        return report, [r for r in records if isinstance(r, Trace) and r.run_id == run_id]

    with Stub(answer) as stub:
        report, cut = long_run(stub.url, "r1", budget_tokens=22 * 25, max_tokens=2)
        n_first = stub.n
        again, (whole,) = long_run(stub.url, "r2", max_tokens=2)

    assert (cut, n_first) == ([], 25)
    assert (report.status, report.collected, report.failed, report.left) == ("cancelled", 0, 0, 1)
    assert report.notes == ("the budget is used up: 550 of 550 tokens spent; raise it to go on",)
    assert (report.input_tokens, report.output_tokens) == (500, 50)
    assert (again.status, again.collected, again.failed, again.repeated) == ("done", 1, 0, 1)
    assert "1 attempt was under way when an earlier run ended, and is made again" in str(again)
    assert (again.input_tokens, stub.n) == (5 * 20, 30)  # of this launch; nothing is paid twice
    assert (len(whole.calls), whole.limit_type, whole.passed) == (30, None, True)
    assert sum(call.input_tokens for call in whole.calls) == 30 * 20
    assert (whole.e2e_s, whole.working_s) == (None, None)  # most of it was in another run


def test_a_budget_of_joules_needs_a_meter(tmp_path):
    """Refused before anything is asked."""
    with Stub(answer) as stub, pytest.raises(ConfigError, match="no meter reads the energy"):
        run(tmp_path, stub.url, budget_j=100.0)
    assert stub.n == 0


def test_a_budget_of_time_stops_the_run(tmp_path):
    """What is in flight ends; nothing begins after the limit."""

    def slow(seen):
        return [0.1, *answer(seen)]

    with Stub(slow) as stub:
        report, traces = run(tmp_path, stub.url, 100, budget_time_s=0.35)

    assert report.status == "cancelled"
    assert 8 <= len(traces) <= 16
    assert all(t.error_type is None for t in traces)
    assert "of 0.35 s spent" in report.notes[0]


def test_a_collection_that_only_retries_says_so(tmp_path, monkeypatch):
    """While one waits and nothing ends it tells again and again: how many retry, since when, and
    why."""
    monkeypatch.setattr(launch, "_PROGRESS_S", 0.02)
    told = []

    def respond(seen):
        return fixed(429, b"{}", retry_after="1.5") if not seen.number else answer(seen)

    def note(progress):
        told.append((progress.done, progress.trouble(dt.datetime.now(dt.UTC))))

    with Stub(respond) as stub:
        report, _ = run(tmp_path, stub.url, 4, retries=3, options={"on_progress": note})

    waiting = re.compile(
        r"m: 1 retrying since \d+ s \(http_429\), paused \d s,"
        r" \d of 2 at once \(cap 4: (halved after http_429|growing)\)"  # as answers come in
    )
    done = [n for n, said in told if waiting.fullmatch(said)]
    assert report.status == "done"
    assert len(done) > len(set(done)), told  # twice at one count: nothing had ended between
    assert told[-1] == (4, "")


def test_the_window_of_a_model_is_told(tmp_path):
    """On this machine it begins at the plan's cap; after an overload it says what it did."""
    seen_states = []

    def respond(seen):
        return fixed(503, b"{}") if seen.number == 20 else [0.01, *answer(seen)]

    def note(progress):
        seen_states.extend((s.limit, s.cap, s.why) for s in progress.models)

    with Stub(respond) as stub:
        run(tmp_path, stub.url, 30, concurrency=8, retries=3, options={"on_progress": note})

    assert seen_states[0] == (8, 8, "at the plan's cap")
    assert (4, 8, "halved after http_503") in seen_states
