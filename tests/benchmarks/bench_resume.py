"""Seconds from `collect` to its first request, over a plan of which 200,000 attempts are done.

    python tests/benchmarks/bench_resume.py [--done 200000]

Twice: with all of it in the store, and with all of it still in the spool, never taken in. The plan
has one attempt more than is done; the clock stops when its request reaches the provider. Goal: 2 s.
"""

import argparse
import asyncio
import datetime as dt
import functools
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workbench import scoring, spool
from workbench.datasets import TaskItem, TaskSet
from workbench.records import (
    Attempt,
    Call,
    Message,
    Run,
    Score,
    Task,
    Trace,
)
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts.session import Reply, Request
from workbench.runner.strategies import get as strategy
from workbench.store import open_store

TRIALS = 10
NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


def work_of(n_done: int) -> Work:
    """Items × two configurations × ten trials: as many attempts as are done, and those of one item
    more."""
    items = [
        TaskItem(
            task="sums", item=str(i), input=f"What is {i} + 1?", target=str(i + 1), scorer="numeric"
        )
        for i in range(n_done // (2 * TRIALS))
    ]
    task = TaskSet(Task(task="sums"), items, scoring.get("numeric"), "Answer the question.")
    plan = Plan(
        models=("a", "b"),
        tasks=("sums",),
        trials=TRIALS,
        base_url="http://127.0.0.1:9/v1",
        concurrency=1,
        energy="off",
    )
    return Work(plan, [task], [strategy("direct")])


def fill(folder: Path, work: Work, n_done: int) -> None:
    """Write what a collection wrote that was killed before its last attempt."""
    with spool.SpoolWriter(folder, "earlier") as writer:
        run = Run(
            run_id="earlier", kind="collect", source="runner", status="running", started_at=NOW
        )
        writer.append(run)
        for record in (*work.tasks, *work.items, *(c for c, _, _ in work.configurations)):
            writer.append(record)
        for planned, _ in zip(work, range(n_done - 1), strict=False):
            configuration_id, item_id, trial = planned.key
            key = {
                "run_id": "earlier",
                "configuration_id": configuration_id,
                "item_id": item_id,
                "trial": trial,
                "started_at": NOW,
            }
            call = Call(
                provider="p",
                model="a",
                started_at=NOW,
                ttft_s=0.2,
                e2e_s=1.0,
                input_tokens=40,
                output_tokens=20,
                n_chunks=20,
                stop_reason="stop",
                usage='{"prompt_tokens":40,"completion_tokens":20,"total_tokens":60}',
            )
            said = (
                Message(ordinal=0, role="user", kind="text", text=planned.item.input),
                Message(ordinal=1, role="assistant", kind="text", text="It is easy. Answer: 4"),
            )
            score = Score(scorer="numeric", score=1.0, passed=True, answer="4")
            writer.append(Attempt(**key))
            writer.append(
                Trace(
                    **key,
                    task_id=work.tasks[0].task_id,
                    e2e_s=1.0,
                    answer="4",
                    score=1.0,
                    passed=True,
                    scores=(score,),
                    calls=(call,),
                    messages=said,
                    n_turns=1,
                )
            )


class First:
    """A provider that notes when it was asked."""

    name = "p"
    asked_s: float | None = None
    cpu_s = 0.0

    async def generate(self, request: Request, on_chunk: object = None) -> Reply:
        """Answer at once."""
        self.asked_s, self.cpu_s = time.perf_counter(), time.process_time()
        return Reply(text="Answer: 4", call=Call(provider="p", model=request.model))

    async def count_tokens(self, text: str) -> int | None:
        """Know nothing."""
        return None

    async def aclose(self) -> None:
        """Hold nothing."""


def resume(path: Path, n_done: int, run_id: str) -> float:
    """Collect what is missing; returns the seconds to the first request, the expansion of the plan
    included."""
    store, first = open_store(path, take_in=False), First()
    with spool.SpoolWriter(store.spool_dir, run_id) as writer:
        begun, cpu = time.perf_counter(), time.process_time()
        work = work_of(n_done)
        expanded = time.perf_counter()
        report = asyncio.run(
            collect(
                work.plan,
                spool=writer,
                work=work,
                provider=first,
                done=functools.partial(store.done, in_spool=False),
            )
        )
    assert (report.status, report.before, report.collected) == ("done", n_done - 1, 1), report
    assert first.asked_s is not None
    print(
        f"  {first.cpu_s - cpu:.2f} s of CPU; {expanded - begun:.2f} s of it all to expand the plan"
    )
    return first.asked_s - begun


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--done", type=int, default=200_000)
    n_done = parser.parse_args().done
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces.duckdb"
        store, work = open_store(path, create=True), work_of(n_done)
        fill(store.spool_dir, work, n_done)
        size = sum(s.size for s in spool.segments(store.spool_dir))
        taken = resume(path, n_done, "again-spool")
        print(
            f"{n_done:,} done, all in the spool ({size / 1e6:.0f} MB): {taken:.2f} s to the first"
            " request (goal ≤ 2 s)"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces.duckdb"
        store = open_store(path, create=True)
        fill(store.spool_dir, work, n_done)
        begun = time.perf_counter()
        store.ingest_spool()
        print(f"(taken into the store in {time.perf_counter() - begun:.0f} s)")
        taken = resume(path, n_done, "again-store")
        print(f"{n_done:,} done, all in the store: {taken:.2f} s to the first request (goal ≤ 2 s)")


if __name__ == "__main__":
    main()
