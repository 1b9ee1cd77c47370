"""A bad day: 429 storms, 5xx, hangs, resets, and a collector that is killed again and again.

Every attempt is there exactly once at the end, and no answer that arrived was paid for twice. The
stub logs every answer that it sent to its last byte; the recorded calls are compared with that log,
request by request.
"""

import random
import time
from collections import Counter

import pytest

from tests.support.storm import IN_FLIGHT, TOKENS, Bench, books
from workbench.records import Call, Trace, content_id
from workbench.runner.planning.plan import seed_of
from workbench.store import open_store


def request_of(trace: Trace, call: Call, questions: dict[str, str]) -> tuple[str, int]:
    """The question and the seed that a recorded call was asked with."""
    seed = seed_of(1, trace.item_id, trace.trial)
    if call.ordinal:
        seed = int(content_id(seed, call.ordinal)[:8], 16) & 0x7FFFFFFF
    said = [m.text for m in trace.messages if m.role == "user"]
    assert questions[trace.item_id] in said[-1]
    return said[-1], seed


def weather(bench: Bench, n_attempts: int, kills: int, within_s: float, seed: int) -> dict:
    """Collect through the storm with kills, and check what came of it; returns the last big
    launch's report."""
    rng = random.Random(seed)
    begun = time.perf_counter()
    for n in range(kills):
        bench.kill(f"run{n:02d}", rng.uniform(0.05, within_s))
    reports = [bench.finish("last0")]
    while reports[-1]["failed"] or reports[-1]["left"]:
        assert len(reports) < 5, reports
        reports.append(bench.finish(f"last{len(reports)}"))
    took = time.perf_counter() - begun
    traces, questions = bench.traces()
    settled = [t for t in traces if t.error_type is None]
    keys = Counter((t.configuration_id, t.item_id, t.trial) for t in settled)
    assert len(settled) == len(keys) == n_attempts
    recorded: Counter = Counter()
    for trace in traces:
        for call in trace.calls:
            if call.error_type is None:
                recorded[request_of(trace, call, questions)] += 1
    answered = bench.answered()
    assert not recorded - answered, "a call was recorded that nobody answered"
    again = (answered - recorded).total()
    assert again <= kills * IN_FLIGHT, "more was paid for again than was in flight"
    print(
        f"{n_attempts:,} attempts, {answered.total():,} answers in {took:.1f} s;"
        f" {again} were in flight at"
        f" {kills} kills; {len(traces) - len(settled)} failed and made again;"
        f" RSS {reports[0]['rss']} MiB"
    )
    return reports[0]


def test_a_thousand_attempts_survive_a_storm_and_three_kills(tmp_path):
    """Each is there once; what arrived was not asked again; calls of long attempts among them.

    With one retry some attempts fail: those of two calls go on from the one that had its answer.
    """
    with Bench(tmp_path, 500, retries=1) as bench:
        weather(bench, 1000, kills=3, within_s=0.5, seed=20261122)


@pytest.mark.slow
def test_four_thousand_attempts_survive_a_storm_and_eight_kills(tmp_path):
    """As above, and at the end in the store as well; the collector's memory does not grow with the
    run."""
    with Bench(tmp_path, 2000) as bench:
        report = weather(bench, 4000, kills=8, within_s=1.0, seed=7)
    store = open_store(bench.path, create=True, take_in=False)
    store.ingest_spool()
    rows = store.sql(
        "SELECT count(*) AS n, count(DISTINCT (configuration_id, item_id, trial)) AS n_keys"
        " FROM traces WHERE error_type IS NULL"
    )

    assert rows.row(0) == (4000, 4000)
    assert report["rss"]["0.95"] - report["rss"]["0.2"] < 12


def test_the_ledger_is_the_servers_own_count_in_a_storm(tmp_path):
    """Replies that broke off had told their usage: they are billed, and stand in every book."""
    found = books(tmp_path, 250)

    assert len(set(found.values())) == 1


def test_a_budget_holds_in_a_storm(tmp_path):
    """Tokens are enough for a third; tries that broke off count, so no more is ever answered than
    that."""
    with Bench(tmp_path, 300, budget_tokens=5000, concurrency=16) as bench:
        report = bench.finish("only")
    answered = bench.answered().total()

    assert report["status"] == "cancelled"
    assert "budget is used up" in report["notes"][0]
    # what hung or broke off without a word counts as its prompt, at three bytes a token, and the
    # longest reply
    assert 3000 <= report["tokens"] <= 5000
    assert answered * TOKENS <= 5000
