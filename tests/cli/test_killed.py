"""`workbench collect` under kill −9: nothing that was answered is lost, nothing is there twice."""

import os
import random
import re
import signal
import subprocess
import sys
import time

from tests.support import ROOT
from tests.support import runner_stub as stub
from workbench.store import open_store

N_ITEMS, TRIALS, CONCURRENCY = 12, 4, 4
PLANNED = N_ITEMS * TRIALS


def slow_answer(_seen):
    """Answer in about 40 ms, in pieces."""
    pieces = [stub.delta("Answer: "), 0.02, stub.delta("4"), 0.02, stub.delta(finish="stop")]
    return stub.stream(*pieces, stub.usage(prompt_tokens=20, completion_tokens=3), stub.DONE)


def command(store, url):
    """The same command every time."""
    return [
        sys.executable,
        "-m",
        "workbench",
        "collect",
        "--store",
        str(store),
        "--base-url",
        url,
        "--model",
        "m",
        "--task",
        "arithmetic",
        "--limit",
        str(N_ITEMS),
        "--trials",
        str(TRIALS),
        "--concurrency",
        str(CONCURRENCY),
    ]


def test_kill_and_again_loses_nothing_and_repeats_at_most_what_was_in_flight(tmp_path):
    """Two kills at random moments, then the command to its end."""
    rng = random.Random(20261001)
    store = tmp_path / "s.duckdb"
    with stub.Stub(slow_answer) as server:
        kills = 0
        for _ in range(2):
            process = subprocess.Popen(
                command(store, server.url),
                cwd=ROOT,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            before = len(server.requests)
            while len(server.requests) == before and process.poll() is None:
                time.sleep(0.005)  # until the first call is made
            time.sleep(rng.uniform(0.0, 0.25))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        done = subprocess.run(
            command(store, server.url), cwd=ROOT, capture_output=True, text=True, check=False
        )
        asked = len(server.requests)

    assert done.returncode == 0, done.stderr
    assert kills
    opened = open_store(store)
    counts = opened.sql(
        "SELECT count(*) AS n, count(DISTINCT (item_id, trial)) AS distinct_n FROM traces"
    )
    assert counts.row(0) == (PLANNED, PLANNED)
    assert PLANNED <= asked <= PLANNED + kills * CONCURRENCY
    assert not list(opened.spool_dir.glob("*.jsonl"))
    repeated = re.search(r"(\d+) calls? (?:was|were) in flight", done.stderr)
    assert repeated is None or int(repeated[1]) <= CONCURRENCY
