"""Replies of an attempt of many calls outlive the run that got them, and are not paid for again."""

import asyncio
import random

import pytest

from tests.test_runner_collect import records, task_set
from workbench.records import Call, ToolCall, Trace
from workbench.runner import Plan, Work, collect, strategies
from workbench.runner.journal import Journal
from workbench.runner.session import Reply, Request
from workbench.spool import SpoolWriter

KEY = ("c" * 24, "i" * 24, 0)


class Killed(BaseException):
    """The end of a run, from outside."""


class Dies:
    """Answers with its count of answers; the program ends in the middle of a chosen request."""

    name = "stub"

    def __init__(self, at: int | None = None) -> None:
        self.at, self.asked = at, []

    async def generate(self, request, on_chunk=None):
        """Answer, or die."""
        if len(self.asked) == self.at:
            raise Killed
        self.asked.append(request.sampling["seed"])
        text = f"So.\nAnswer: {len(self.asked)}"
        return Reply(text=text, stop_reason="stop", call=Call(output_tokens=4, input_tokens=9))

    async def count_tokens(self, text):
        """Count nothing."""

    async def aclose(self):
        """Hold nothing."""


def launch(folder, run_id, provider, *, n=5):
    """Collect one item with n samples and a seed."""
    plan = Plan(models=("m",), tasks=("sums",), strategies=("self_consistency",), seed=7, retries=0)
    made = [strategies.get("self_consistency", samples=n)]
    with SpoolWriter(folder, run_id) as writer:
        return asyncio.run(
            collect(plan, spool=writer, work=Work(plan, [task_set(1)], made), provider=provider)
        )


def test_a_killed_attempt_asks_only_for_what_had_not_arrived(tmp_path):
    """Three of five samples had arrived; the next launch asks the other two, and the trace has all five."""
    first = Dies(at=3)
    with pytest.raises(Killed):
        launch(tmp_path, "r1", first)
    assert len(list((tmp_path / "arrived").iterdir())) == 1

    second = Dies()
    report = launch(tmp_path, "r2", second)

    assert report.collected == 1
    assert len(first.asked) == 3
    assert len(second.asked) == 2
    assert not set(first.asked) & set(second.asked)
    (trace,) = [r for r in records(tmp_path, run_id="r2") if isinstance(r, Trace)]
    assert len(trace.calls) == 5
    assert sum(c.output_tokens for c in trace.calls) == 20
    assert list((tmp_path / "arrived").iterdir()) == []


def test_a_torn_line_never_arrived(tmp_path):
    """A file cut at any byte gives whole replies only, and nothing is lost before the cut."""
    journal = Journal(tmp_path, "r1")
    attempt = journal.open(KEY)
    requests = [Request(model="m", prompt=f"question {n}") for n in range(3)]

    async def keep():
        for n, request in enumerate(requests):
            tools = (ToolCall(ordinal=0, tool="sum", arguments='{"a": 1}'),)
            asked = attempt.recall(request, "subject")
            reply = Reply(text=f"é{n}", tool_calls=tools, tool_ids=(f"t{n}",), state={"x": [n]})
            await attempt.keep(asked.request_id, reply)

    asyncio.run(keep())
    attempt.close()
    (path,) = (tmp_path / "arrived").iterdir()
    whole = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    for cut in (0, 1, *random.Random(3).sample(range(len(whole)), 40), len(whole)):
        path.write_bytes(whole[:cut])
        again = Journal(tmp_path, "r2").open(KEY)
        found = [again.recall(request, "subject").reply for request in requests]
        n_whole = sum(end - 1 <= cut for end in ends)
        assert [r is not None for r in found] == [n < n_whole for n in range(3)], cut
        assert [r.text for r in found if r] == [f"é{n}" for n in range(n_whole)]
        assert all(r.turn["state"] == {"x": [n]} for n, r in enumerate(found) if r)


def test_equal_requests_are_told_apart_by_their_order(tmp_path):
    """Two samples of one question without a seed are two replies; another role is another request."""
    journal = Journal(tmp_path, "r1")
    attempt, request = journal.open(KEY), Request(model="m", prompt="again")
    ids = [attempt.recall(request, role).request_id for role in ("subject", "subject", "judge")]
    assert len(set(ids)) == 3


def test_another_attempt_knows_nothing_of_it(tmp_path):
    """The file belongs to configuration, item and trial."""
    journal = Journal(tmp_path, "r1")
    attempt, request = journal.open(KEY), Request(model="m", prompt="x")
    asyncio.run(attempt.keep(attempt.recall(request, "subject").request_id, Reply(text="y")))
    later = Journal(tmp_path, "r2")
    assert later.open((*KEY[:2], 1)).recall(request, "subject").reply is None
    assert later.open(KEY).recall(request, "subject").reply == Reply(text="y")
