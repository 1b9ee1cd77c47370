"""Plans of sums against a stub: launched once, and the records that this leaves in the spool."""

import asyncio
import re

from tests.support.runner_stub import DONE, delta, stream, usage
from workbench import scoring, spool
from workbench.datasets import TaskSet
from workbench.records import Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter


def task_set(n=3, name="sums"):
    items = [
        TaskItem(
            task=name,
            item=str(i),
            input=f"What is {i} + 1?",
            target=str(i + 1),
            scorer="numeric",
            difficulty=float(i),
        )
        for i in range(n)
    ]
    return TaskSet(Task(task=name), items, scoring.get("numeric"), "Answer.")


TaskItem = scoring.TaskItem


def make(url, *, tasks=None, strategies=("direct",), **settings):
    tasks = tasks or [task_set()]
    settings = {"models": ("m",), "concurrency": 4, "retries": 0} | settings
    plan = Plan(tasks=tuple(t.name for t in tasks), strategies=strategies, base_url=url, **settings)
    return plan, Work(plan, tasks, [strategy(s) for s in strategies])


def run(folder, url, run_id="r1", options=None, **settings):
    """Collect once; returns the report."""
    plan, work = make(url, **settings)
    with SpoolWriter(folder, run_id) as writer:
        return asyncio.run(collect(plan, spool=writer, work=work, **(options or {})))


def records(folder, kind=Trace, run_id=None):
    found = [
        r
        for s in spool.segments(folder)
        for r in spool.read_segment(s.path).records
        if isinstance(r, kind)
    ]
    return [r for r in found if run_id in {None, getattr(r, "run_id", None)}]


def number(seen):
    """The number of the item that a request asks for."""
    return int(re.findall(r"(\d+) \+ 1", seen.body.decode())[-1])


def answer(seen):
    """Answer a sum rightly, with 20 tokens in and 2 out."""
    return stream(
        delta(f" {number(seen) + 1}"),
        delta(finish="stop"),
        usage(prompt_tokens=20, completion_tokens=2, total_tokens=22),
        DONE,
    )
