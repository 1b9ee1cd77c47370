"""Latency that `workbench record` adds to a call, against a stub in another process.

    python tests/benchmarks/bench_record.py [--calls 400] [--turns 300]

Prints the median and the 90th percentile of the time of a call, direct and through the proxy, one
after the other in turn, for a short reply, for the first chunk of a stream, and for a prompt of
1 MB. Each is posted on kept connections by aiohttp. Then the processor time that a conversation of
`--turns` turns takes to be recorded, per call.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workbench import spool
from workbench.recorder.conversations import Recording
from workbench.recorder.proxy import ForwardedCall, Keys, Proxy, Upstream
from workbench.recorder.recorder import Recorder
from workbench.recorder.requests import RawRequest
from workbench.records import Call, Run
from workbench.runner.providers.protocol import Reply

STUB = [sys.executable, str(ROOT / "tests" / "support" / "runner_stub.py")]


@contextlib.contextmanager
def stub(*options: str) -> Iterator[str]:
    """Serve in another process."""
    with subprocess.Popen(
        [*STUB, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        port = int(server.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.stdin.close()


@contextlib.contextmanager
def recorder() -> Iterator[Recorder]:
    """Record to a spool that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(run_id="bench", kind="import", source="record")
        recording = Recording("bench", task="t", strategy="agent", metadata={})
        writer = spool.SpoolWriter(Path(folder) / "spool", "bench")
        with writer, Recorder(recording, writer, run) as one:
            yield one


async def serve(upstream: str) -> None:
    """Be the proxy, in a process of its own: print the address, and end with standard input."""
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    with recorder() as one:
        async with Proxy([Upstream("openai", upstream, ())], one.take, keys=Keys()) as proxy:
            print(proxy.url_of("openai"), flush=True)
            await ended


@contextlib.contextmanager
def proxied(upstream: str) -> Iterator[str]:
    """Start the proxy in another process, as `workbench record` is."""
    command = [sys.executable, __file__, "--serve", upstream]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        try:
            yield one.stdout.readline().strip()
        finally:
            one.stdin.close()


async def call(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[float, float]:
    """Return seconds to the first bytes of the reply, and to its end."""
    start = time.perf_counter()
    async with session.post(url + "/chat/completions", data=body) as reply:
        await reply.content.readany()
        first = time.perf_counter()
        await reply.read()
    return first - start, time.perf_counter() - start


async def compare(direct: str, through: str, body: bytes, n_calls: int) -> None:
    """Print both, and the difference of the medians, in milliseconds."""
    async with aiohttp.ClientSession() as session:
        times: dict[str, list[tuple[float, float]]] = {direct: [], through: []}
        for url in times:
            await call(session, url, body)
        for _ in range(n_calls):
            for url, taken in times.items():
                taken.append(await call(session, url, body))
    for place, what in enumerate(("first bytes", "end")):
        of = {url: sorted(1e3 * t[place] for t in taken) for url, taken in times.items()}
        medians = [statistics.median(of[url]) for url in (direct, through)]
        p90 = [of[url][int(0.9 * n_calls)] for url in (direct, through)]
        print(
            f"  {what:12} direct {medians[0]:7.2f} ms (p90 {p90[0]:.2f}), through the proxy"
            f" {medians[1]:7.2f} ms (p90 {p90[1]:.2f}): added {medians[1] - medians[0]:.2f} ms"
        )


def turn(n: int, chat: list[dict[str, str]]) -> ForwardedCall:
    """The nth call of one conversation."""
    body = json.dumps({"model": "m", "messages": chat}).encode()
    at = dt.datetime.now(dt.UTC)
    reply = Reply(text=f"answer {n} " + "word " * 100)
    return ForwardedCall(RawRequest("chat", "/chat/completions", body), reply, Call(), at)


def record(n_turns: int) -> None:
    """Print the processor time of a long conversation."""
    chat = [{"role": "user", "content": "start"}]
    calls = []
    for n in range(n_turns):
        calls.append(turn(n, chat))
        chat += [
            {"role": "assistant", "content": calls[-1].reply.text},
            {"role": "user", "content": f"result {n} " + "line " * 400},
        ]
    size = sum(len(c.request.body) for c in calls)
    start = time.process_time()
    with recorder() as one:
        for forwarded in calls:
            one.take(forwarded)
    taken = time.process_time() - start
    print(
        f"a conversation of {n_turns} turns, {size / 1e6:.0f} MB of requests:"
        f" {1e3 * taken / n_turns:.2f} ms of processor time a call, {size / 1e6 / taken:.0f} MB/s"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--serve", metavar="URL")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    print(f"{os.cpu_count()} cores, {options.calls} calls each way")
    short, long = (
        json.dumps(
            {"model": "m", "stream": True, "messages": [{"role": "user", "content": content}]}
        ).encode()
        for content in ("Hi", "x" * 10**6)
    )
    for what, body, chunks in (
        ("a short reply", short, ("--chunks", "2", "--gap-s", "0")),
        ("a stream of 20 chunks, 5 ms apart", short, ("--chunks", "20", "--gap-s", "0.005")),
        ("a prompt of 1 MB", long, ("--chunks", "2", "--gap-s", "0")),
    ):
        with stub(*chunks) as direct, proxied(direct) as through:
            print(what)
            asyncio.run(compare(direct, through, body, options.calls))
    record(options.turns)


if __name__ == "__main__":
    main()
