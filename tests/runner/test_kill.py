"""kill -9 at random moments: no answered call is lost, and only what was in flight is made
again."""

import json
import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support import ROOT, sums
from tests.support.stub_process import StubProcess
from workbench import spool
from workbench.records import Attempt, Item, Run, Trace
from workbench.runner.planning.plan import seed_of

N_KILLS = 20
IN_FLIGHT = 8

# Imports once and then forks a collector per line it reads, so that 21 launches take seconds.
LAUNCHER = """
import asyncio, os, sys
from pathlib import Path
from workbench import runner, spool
from workbench.runner.providers import openai_chat
plan = runner.Plan.from_mapping(__import__("json").loads(sys.argv[1]))
folder = Path(sys.argv[2])
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        with spool.SpoolWriter(folder, line.strip()) as writer:
            report = asyncio.run(runner.collect(plan, spool=writer))
        print(
            f"report {report.status} {report.collected} {report.failed} {report.repeated}",
            flush=True,
        )
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


@pytest.fixture
def server(tmp_path):
    """A stub in another process that logs every reply whose last byte it wrote."""
    with StubProcess(tmp_path / "answered.jsonl", "--chunks", "4", "--gap-s", "0.005") as stub:
        yield stub


def begun_by(folder: Path, run_id: str) -> set:
    """The attempts of a run that the spool shows as begun and not ended."""
    begun, ended = set(), set()
    for segment in spool.segments(folder):
        for r in spool.read_segment(segment.path).records:
            if isinstance(r, Attempt | Trace) and r.run_id == run_id:
                key = (r.configuration_id, r.item_id, r.trial)
                (begun if isinstance(r, Attempt) else ended).add(key)
    return begun - ended


def key_of(request: dict, records: list) -> tuple[str, int]:
    """The item and the trial that a request was about, told by its question and its seed."""
    question = next(m["content"] for m in request["messages"] if m["role"] == "user")
    item_id = next(r.item_id for r in records if isinstance(r, Item) and r.input == question)
    return item_id, next(t for t in range(4) if seed_of(1, item_id, t) == request["seed"])


def settled(folder: Path) -> set:
    """The attempts that some run has ended."""
    records = [r for s in spool.segments(folder) for r in spool.read_segment(s.path).records]
    return {(r.configuration_id, r.item_id, r.trial) for r in records if isinstance(r, Trace)}


def test_kill_9_at_twenty_moments_loses_no_answer(tmp_path, server):
    """The same command after each kill; at the end each attempt is there exactly once."""
    settings = {
        "models": ["m"],
        "tasks": [str(sums.write(tmp_path / "sums.jsonl", 300))],
        "trials": 4,
        "seed": 1,
        "base_url": server.url,
        "concurrency": IN_FLIGHT,
    }
    folder, rng = tmp_path / "traces.spool", random.Random(20261122)
    command = [sys.executable, "-c", textwrap.dedent(LAUNCHER), json.dumps(settings), str(folder)]
    launcher = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    in_flight = []
    for n in range(N_KILLS):
        launcher.stdin.write(f"run{n:02d}\n")
        launcher.stdin.flush()
        pid = int(launcher.stdout.readline())
        while not (folder / f"run{n:02d}-000000.jsonl").exists():
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
        subprocess.run(["kill", "-9", str(pid)], check=True)
        assert launcher.stdout.readline() == "ended\n", "the collection was over before the kill"
        in_flight.append(begun_by(folder, f"run{n:02d}"))
    lost = set().union(*in_flight)
    pending = lost - settled(folder)
    launcher.stdin.write("last\n")
    launcher.stdin.flush()
    launcher.stdout.readline()
    status, collected, failed, repeated = launcher.stdout.readline().split()[1:]
    launcher.communicate()

    records = [r for s in spool.segments(folder) for r in spool.read_segment(s.path).records]
    traces = [r for r in records if isinstance(r, Trace)]
    keys = [(t.configuration_id, t.item_id, t.trial) for t in traces]
    answered = Counter(key_of(json.loads(line)["request"], records) for line in server.log.open())
    n_again = answered.total() - len(answered)
    n_flying = sum(map(len, in_flight))
    print(f"{answered.total()} answers, {n_again} again, {n_flying} in flight at the kills")
    assert (status, failed) == ("done", "0")
    assert len(traces) == len(set(keys)) == len(answered) == 1200
    assert all(len(flying) <= IN_FLIGHT for flying in in_flight)
    assert n_again <= n_flying
    assert {k for k, n in answered.items() if n > 1} <= {(i, t) for _, i, t in lost}
    assert int(repeated) == len(pending)
    assert 0 < int(collected) < 1200
    ends = {r.run_id: r.status for r in records if isinstance(r, Run)}
    begun = {r.run_id for r in records if isinstance(r, Attempt)}
    assert ends.pop("last") == "done"
    assert set(ends.values()) == {"interrupted"}
    assert begun - {"last"} <= set(ends)
