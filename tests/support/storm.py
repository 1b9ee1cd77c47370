"""Collections through a storm of faults and kills, checked by the books of a server."""

import json
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

from tests.support import ROOT, sums
from tests.support.stub_process import StubProcess
from workbench import spool
from workbench.records import Item, Trace
from workbench.store import open_store

IN_FLIGHT = 32


TOKENS = 12 + 3  # of each answer


# Imports once and then forks a collector per line it reads; the collector tells its memory early
# and late.
LAUNCHER = """
import asyncio, json, os, sys
from pathlib import Path
from workbench import runner, spool
from workbench.runner.limits import Backoff
from workbench.runner.providers import openai_chat
from workbench.store import open_store
plan = runner.Plan.from_mapping(json.loads(sys.argv[1]))
runner.Plan.backoff = Backoff(retries=plan.retries, base_s=0.2)
folder = Path(sys.argv[2])

def rss_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        seen = {}
        def watch(p):
            share = p.done / max(p.planned - p.before, 1)
            for mark in (0.2, 0.95):
                if share >= mark:
                    seen.setdefault(str(mark), rss_mib())
        with spool.SpoolWriter(folder, line.strip()) as writer:
            report = asyncio.run(runner.collect(plan, spool=writer, on_progress=watch))
        told = {"status": report.status, "failed": report.failed, "left": report.left, "rss": seen,
                "tokens": report.input_tokens + report.output_tokens, "notes": report.notes}
        print("report " + json.dumps(told), flush=True)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


class Bench:
    """A stub in a storm, a launcher, and the store's folder."""

    def __init__(
        self, tmp_path: Path, n_items: int, *, tells: bool = False, **settings: object
    ) -> None:
        self.log, self.path = tmp_path / "answered.jsonl", tmp_path / "traces.duckdb"
        self.folder = tmp_path / "traces.spool"
        options = ["--chunks", "3", "--storm", "7", *(["--tells"] if tells else [])]
        self.stub = StubProcess(self.log, *options)
        plan = {
            "models": ["m"],
            "tasks": [str(sums.write(tmp_path / "sums.jsonl", n_items))],
            "seed": 1,
            "energy": "off",
            "strategies": ["direct", {"name": "self_consistency", "samples": 2, "shots": 0}],
            "base_url": self.stub.url,
            "concurrency": IN_FLIGHT,
            "timeout_s": 1.0,
            "retries": 8,
            **settings,
        }
        command = [sys.executable, "-c", textwrap.dedent(LAUNCHER), json.dumps(plan), self.folder]
        self.launcher = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self.launcher.stdin.close()
        self.launcher.wait(60)
        self.launcher.stdout.close()
        self.stub.close()

    def start(self, run_id: str) -> int:
        """Begin a launch; returns the collector's process id."""
        self.launcher.stdin.write(run_id + "\n")
        self.launcher.stdin.flush()
        return int(self.launcher.stdout.readline())

    def kill(self, run_id: str, after_s: float) -> None:
        """Begin a launch and kill it so long after its first line."""
        pid = self.start(run_id)
        while not (self.folder / f"{run_id}-000000.jsonl").exists():
            time.sleep(0.005)
        time.sleep(after_s)
        subprocess.run(["kill", "-9", str(pid)], check=True)
        assert self.launcher.stdout.readline() == "ended\n", "it was over before the kill"

    def finish(self, run_id: str) -> dict:
        """Launch without a kill; returns what the collector reported."""
        self.start(run_id)
        report = json.loads(self.launcher.stdout.readline().removeprefix("report "))
        assert self.launcher.stdout.readline() == "ended\n"
        return report

    def traces(self) -> tuple[list[Trace], dict[str, str]]:
        """The traces in the spool, of those of one id the last, and the question of each item."""
        records = [
            r for s in spool.segments(self.folder) for r in spool.read_segment(s.path).records
        ]
        questions = {r.item_id: r.input for r in records if isinstance(r, Item)}
        last: dict[str, Trace] = {}
        for trace in (r for r in records if isinstance(r, Trace)):
            known = last.get(trace.trace_id)
            if known is None or spool.supersedes(trace, known):
                last[trace.trace_id] = trace
        return list(last.values()), questions

    def answered(self) -> Counter:
        """How often each request, told by its question and seed, was answered to the last byte."""
        found: Counter = Counter()
        for line in self.log.read_text().splitlines():
            request = json.loads(line)["request"]
            said = [m["content"] for m in request["messages"] if m["role"] == "user"]
            found[said[-1], request["seed"]] += 1
        return found

    def billed(self) -> tuple[int, int]:
        """Tokens that the server billed: of whole answers, and of replies that broke off."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        broken = sum(line.get("broken_tokens", 0) for line in lines)
        return TOKENS * sum("took_s" in line for line in lines), broken


def ledger(bench: Bench, report: dict) -> dict[str, int]:
    """Tokens of the same storm in four books: the server's, the report's, the spool's and the
    store's."""
    traces, _ = bench.traces()
    in_spool = sum((c.input_tokens or 0) + (c.output_tokens or 0) for t in traces for c in t.calls)
    store = open_store(bench.path, create=True, take_in=False)
    store.ingest_spool()
    own, broken = store.sql(
        "SELECT sum(input_tokens + output_tokens)::BIGINT, sum(broken_tokens)::BIGINT FROM traces"
    ).row(0)
    whole, lost = bench.billed()
    return {
        "server": whole + lost,
        "report": report["tokens"],
        "spool": in_spool,
        "store": own + broken,
    }


def books(tmp_path: Path, n_items: int) -> dict[str, int]:
    """Collect two strategies' answers to each item through a storm, and close the books."""
    with Bench(tmp_path, n_items, tells=True, timeout_s=120.0, retries=20) as bench:
        report = bench.finish("only")
        found = ledger(bench, report)
        whole, lost = bench.billed()
    print(f"{2 * n_items:,} attempts: {whole:,} tokens answered, {lost:,} broken off; {found}")
    # a request that meets the same 500 three times while others are answered is given up
    assert (report["failed"] <= n_items / 500, report["left"]) == (True, 0)
    assert lost > 0
    return found
