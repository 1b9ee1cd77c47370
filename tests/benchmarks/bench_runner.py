"""CPU of a streamed request, and how true the measured times are, against a stub in another
process.

    python tests/benchmarks/bench_runner.py [--requests 3000] [--no-inspect] [--no-pace]

Prints CPU milliseconds per request of 20 chunks, and requests per second, with 10, 100 and 1,000 in
flight: our full path (strategy, session, provider, limits, retries, score, spool with fsync) beside
httpx over aiohttp and bare aiohttp reading the same stream, and beside inspect-ai; then a stream of
true 2.0 s with 200 in flight. The stub has a core of its own where there are two; 1,000 in flight
need 2,100 open files.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workbench import scoring, spool
from workbench.datasets import TaskSet
from workbench.records import Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.providers.transport import make_client
from workbench.runner.strategies import get as strategy
from workbench.scoring import TaskItem

BODY = b'{"model":"stub","stream":true,"messages":[{"role":"user","content":"What is 1 + 1?"}]}'


@contextlib.contextmanager
def stub(*options: str) -> Iterator[str]:
    """Serve in another process."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "runner_stub.py"), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        _apart(server.pid)
        port = int(server.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.stdin.close()


def _apart(stub_pid: int) -> None:
    """Give the stub the last core and keep the others, where the system lets us."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(stub_pid))
        if len(cores) > 1:
            os.sched_setaffinity(stub_pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1])


def task_set(n: int) -> TaskSet:
    """Sums, as many as asked."""
    items = [
        TaskItem(
            task="sums", item=str(i), input=f"What is {i} + 1?", target=str(i + 1), scorer="numeric"
        )
        for i in range(n)
    ]
    return TaskSet(Task(task="sums"), items, scoring.get("numeric"), "Answer the question.")


def ours(url: str, n: int, in_flight: int) -> tuple[float, float, list[Trace]]:
    """Collect n attempts; returns CPU seconds, wall seconds and the traces."""
    plan = Plan(
        models=("stub",), tasks=("sums",), base_url=url, concurrency=in_flight, max_tokens=64
    )
    work = Work(plan, [task_set(n)], [strategy("direct")])
    with (
        tempfile.TemporaryDirectory() as folder,
        spool.SpoolWriter(Path(folder), "bench") as writer,
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        report = asyncio.run(collect(plan, spool=writer, work=work))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        assert (report.status, report.failed) == ("done", 0), report
        writer.close()
        records = [
            r for s in spool.segments(Path(folder)) for r in spool.read_segment(s.path).records
        ]
    return cpu, wall, [r for r in records if isinstance(r, Trace)]


def bare(url: str, n: int, in_flight: int) -> tuple[float, float]:
    """Read the same streams with the transport alone: no parsing, no record."""

    async def run() -> None:
        client = make_client(url, {}, concurrency=in_flight, timeout_s=60.0)
        left = iter(range(n))

        async def worker() -> None:
            for _ in left:
                async with client.stream(
                    "POST", f"{url}/chat/completions", content=BODY
                ) as response:
                    async for _data in response.aiter_raw():
                        pass

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        await client.aclose()

    cpu, wall = time.process_time(), time.perf_counter()
    asyncio.run(run())
    return time.process_time() - cpu, time.perf_counter() - wall


def bare_aiohttp(url: str, n: int, in_flight: int) -> tuple[float, float]:
    """Read the same streams with aiohttp alone."""
    import aiohttp

    async def run() -> None:
        left = iter(range(n))
        connector = aiohttp.TCPConnector(limit=in_flight)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def worker() -> None:
                for _ in left:
                    async with session.post(f"{url}/chat/completions", data=BODY) as response:
                        async for _data in response.content.iter_any():
                            pass

            await asyncio.gather(*(worker() for _ in range(in_flight)))

    cpu, wall = time.process_time(), time.perf_counter()
    asyncio.run(run())
    return time.process_time() - cpu, time.perf_counter() - wall


_INSPECT = """
import sys, time
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
n, in_flight, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
samples = [Sample(input=f"What is {i} + 1?", target=str(i + 1)) for i in range(n)]
task = Task(dataset=samples, solver=generate(), scorer=includes())
cpu, wall = time.process_time(), time.perf_counter()
(log,) = eval(task, model="openai-api/stub/stub", model_args={"stream": True}, display="none",
              log_dir=folder, max_connections=in_flight, max_samples=in_flight)
assert log.status == "success", log.error
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def inspect_ai(url: str, n: int, in_flight: int) -> tuple[float, float]:
    """Run the same questions with inspect-ai in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {
            "STUB_BASE_URL": url,
            "STUB_API_KEY": "none",
            "INSPECT_TRACE_FILE": f"{folder}/t.log",
        }
        command = [sys.executable, "-c", _INSPECT, str(n), str(in_flight), folder]
        out = subprocess.run(
            command, env=environ, check=True, capture_output=True, text=True
        ).stdout
    cpu, wall = map(float, out.split()[-2:])
    return cpu, wall


def paced() -> None:
    """Read streams that the server spreads over 2.0 s, and print beside ours how long it took to
    write them."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "answered.jsonl"
        with stub("--chunks", "20", "--gap-s", str(2.0 / 22), "--log", str(log)) as url:
            _, _, traces = ours(url, 600, 200)
        written = [json.loads(line)["took_s"] for line in log.read_text().splitlines()]
    read = [t.calls[0].e2e_s or math.nan for t in traces]
    for name, times in (("read by us", sorted(read)), ("written by the server", sorted(written))):
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"true 2.0 s streams, 200 in flight, {name:21}: p50 {p50:.3f} s, p99 {p99:.3f} s")
    print("(goal: p99 as read within 2.0 to 2.2 s)")


def beside(url: str, n: int, in_flight: int, *, inspect: bool) -> None:
    """Print one line for each client, medians of three turns; inspect-ai takes one, of fewer
    requests."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(3):
        cpu, wall, traces = ours(url, n, in_flight)
        assert all(t.calls[0].n_chunks == 20 for t in traces)
        assert len(traces) == n
        found.setdefault("workbench", []).append((cpu / n, wall / n))
        for name, client in (("httpx over aiohttp", bare), ("aiohttp", bare_aiohttp)):
            cpu, wall = client(url, n, in_flight)
            found.setdefault(name, []).append((cpu / n, wall / n))
    if inspect:
        k = min(n, max(200, in_flight))
        cpu, wall = inspect_ai(url, k, in_flight)
        found["inspect-ai"] = [(cpu / k, wall / k)]
    mine = statistics.median(cpu for cpu, _ in found["workbench"])
    print(f"{in_flight:,} in flight, streams of 20 chunks:")
    for name, turns in found.items():
        cpu, wall = (statistics.median(t[i] for t in turns) for i in (0, 1))
        goal = "  (goal ≤ 1 ms)" if name == "workbench" else f"  {cpu / mine:5.2f} × ours"
        print(f"  {name:20} {cpu * 1e3:7.3f} ms CPU per request, {1 / wall:6.0f}/s{goal}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--no-inspect", action="store_true")
    parser.add_argument("--no-pace", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with stub("--chunks", "20") as url:
        ours(url, 300, 100)  # warm
        for in_flight in (10, 100, 1000):
            beside(url, options.requests, in_flight, inspect=not options.no_inspect)
    if not options.no_pace:
        paced()


if __name__ == "__main__":
    main()
