"""A claim on work: collectors at the same time make each attempt once, share a budget, and take
over from the dead."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from tests.support import ROOT, sums
from tests.support.launches import answer, make, records, task_set
from tests.support.runner_stub import Stub
from tests.support.stub_process import StubProcess
from workbench import spool
from workbench.records import Call, Trace
from workbench.runner import StopSignal, collect
from workbench.runner.attempts.journal import Journal
from workbench.runner.execution.controller import Pilot
from workbench.runner.limits import Amounts
from workbench.runner.planning import claims
from workbench.runner.planning.plan_budget import Spending
from workbench.runner.providers.protocol import Reply
from workbench.spool import SpoolWriter
from workbench.store import open_store

KEY = ("c", "i", 0)


def joined(folder, run_id):
    return asyncio.run(claims.Claims.open(folder, run_id, configurations=["c"], items=["i", "j"]))


def takes(one, key=KEY, amounts=Amounts()):  # noqa: B008  # frozen
    """Claim an attempt, if it is free."""

    def act():
        if key in one.taken:
            return False
        one.append("begin", key, amounts)
        return True

    return asyncio.run(one.exclusively(act))


# -- claims --------------------------------------------------------------------------------------


def test_an_attempt_has_one_owner(tmp_path):
    """Whoever asks second is told so, whether it came before or after the claim."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        first, second = takes(a), takes(b)
        with joined(tmp_path, "c-1") as c:
            late = takes(c)

    assert (first, second, late) == (True, False, False)


def test_what_is_given_back_is_free(tmp_path):
    """And what it took until then counts on."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        takes(a, amounts=Amounts(2.0, 20.0))
        a.append("back", KEY, Amounts(1.0, 10.0))

        assert takes(b)
        assert b.spent == Amounts(1.0, 10.0)


def test_an_ended_attempt_is_nobodys_for_those_who_were_there(tmp_path):
    """Who comes later finds in the spool whether it is settled."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        takes(a)
        a.append("fail", KEY, Amounts(1.0, 10.0))
        with joined(tmp_path, "c-1") as c:
            assert not takes(b)
            assert takes(c)


def test_amounts_are_what_was_said_last_of_attempts_that_are_meant(tmp_path):
    """Reserved 5, grown to 7, ended at 6; another plan's items are no matter of this budget."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        heard = []
        takes(a, amounts=Amounts(5.0, 50.0))
        takes(a, ("c", "other", 0), Amounts(9.0, 90.0))
        for kind, usd in (("take", 7.0), ("end", 6.0)):
            b.update()
            heard.append(b.spent.usd)
            a.append(kind, KEY, Amounts(usd, 10 * usd))
        b.update()

    assert (heard, b.spent) == ([5.0, 7.0], Amounts(6.0, 60.0))


def test_what_each_try_of_an_attempt_took_counts(tmp_path):
    """Whoever gave an attempt back and takes it up again has paid twice for it, not once."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        heard = []
        for kind, usd in (
            ("begin", 3.0),
            ("back", 1.0),
            ("begin", 3.0),
            ("take", 4.0),
            ("end", 2.0),
        ):
            a.append(kind, KEY, Amounts(usd, 10 * usd))
            b.update()
            heard.append(b.spent.usd)

    assert heard == [3.0, 1.0, 4.0, 5.0, 3.0]


def test_a_collector_that_joins_within_one_tick_of_the_clock_is_seen(tmp_path):
    """The folder's time may stay as it was when a file appears."""
    with joined(tmp_path, "a-1") as a:
        a.update()
        about = (tmp_path / claims.FOLDER).stat()
        with joined(tmp_path, "b-1") as b:
            takes(b)
            os.utime(tmp_path / claims.FOLDER, ns=(about.st_atime_ns, about.st_mtime_ns))

            assert not takes(a)


def dies_with(folder, *lines):
    """Let a process of its own claim, and die without a word."""
    pid = os.fork()
    if not pid:
        one = joined(folder, "dead-1")
        for key in lines:
            takes(one, key, Amounts(1.0, 10.0))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_what_the_dead_held_is_free_once_somebody_has_looked(tmp_path):
    """At once, by no clock; what it may have cost is remembered, also by those who come later."""
    with joined(tmp_path, "a-1") as a:
        dies_with(tmp_path, KEY, ("c", "j", 0))
        a.update()
        before = takes(a)
        orphans = a.find_dead()
        for key in orphans:
            a.free(key)

        assert (before, orphans) == (False, {KEY, ("c", "j", 0)})
        assert takes(a)
        assert a.spent == Amounts(2.0, 20.0)
    left = {(run, key): amounts for run, key, amounts in claims.unfinished(tmp_path)}
    assert left[("dead-1", ("c", "j", 0))] == Amounts(1.0, 10.0)


def test_clocks_are_no_matter(tmp_path):
    """Files of the far past and future: who lives holds on, who is dead does not."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        takes(a)
        for path in (tmp_path / "claims").iterdir():
            os.utime(path, (0, 0))
        past = (b.find_dead(), takes(b))
        for path in (tmp_path / "claims").iterdir():
            os.utime(path, (2e10, 2e10))
        future = (b.find_dead(), takes(b))

    assert past == future == (set(), False)


def test_files_of_the_dead_go_when_nobody_needs_them(tmp_path):
    """One that left attempts open stays, for what they may have cost."""
    for n in range(3):
        with joined(tmp_path, f"a-{n}") as a:
            takes(a)
            a.append("end", KEY)
    dies_with(tmp_path, KEY)
    with joined(tmp_path, "last-1"):
        names = {path.name.rpartition("-")[0] for path in (tmp_path / "claims").glob("*.jsonl")}

    assert names == {"dead-1", "last-1"}


def test_a_torn_line_is_read_once_it_is_whole(tmp_path):
    """Whoever reads in the middle of a write sees nothing of it, and all of it later."""
    with joined(tmp_path, "a-1") as a, joined(tmp_path, "b-1") as b:
        whole = claims._encode(claims.Line("begin", *KEY)) + b"\n"
        os.write(a._fd, whole[:10])
        b.update()
        before = KEY in b.taken
        os.write(a._fd, whole[10:])
        b.update()

    assert (before, KEY in b.taken) == (False, True)


# -- collections, in one process -----------------------------------------------------------------


async def launches(folder, url, n, options=None, **settings):
    """Collect n times at once; returns the reports."""
    plan, work = make(url, **settings)

    async def one(number):
        with SpoolWriter(folder, f"r{number}") as writer:
            return await collect(plan, spool=writer, work=work, **(options or {}))

    return await asyncio.gather(*[one(number) for number in range(n)])


def slow(seen):
    return [0.02, *answer(seen)]


def test_two_launches_share_the_attempts_of_a_plan(tmp_path):
    """Each is made once, both say that all is done, and who made what adds up."""
    with Stub(slow) as stub:
        reports = asyncio.run(launches(tmp_path, stub.url, 2, tasks=[task_set(60)]))

    assert [r.status for r in reports] == ["done", "done"]
    assert (stub.n, len(records(tmp_path))) == (60, 60)
    assert [r.collected + r.elsewhere for r in reports] == [60, 60]
    assert all(r.collected for r in reports)
    assert not list(claims.unfinished(tmp_path))


def test_plans_that_only_overlap_share_what_they_have_in_common(tmp_path):
    """Same configuration, items and trials: another limit and more trials are no other work."""
    with Stub(slow) as stub:

        async def both():
            one = launches(tmp_path, stub.url, 1, tasks=[task_set(30)], trials=2)
            plan, work = make(stub.url, tasks=[task_set(30)], limit=20)

            async def other():
                with SpoolWriter(tmp_path, "x1") as writer:
                    return await collect(plan, spool=writer, work=work)

            return await asyncio.gather(one, other())

        (first,), second = asyncio.run(both())

    assert stub.n == 60
    assert (first.collected + first.elsewhere, second.collected + second.elsewhere) == (60, 20)


def test_a_budget_is_shared_by_launches_at_once(tmp_path):
    """660 tokens are thirty answers, whoever asks; what each has left, the other may take."""
    with Stub(slow) as stub:
        reports = asyncio.run(
            launches(tmp_path, stub.url, 3, tasks=[task_set(100)], max_tokens=4, budget_tokens=660)
        )

    assert stub.n == 30
    assert {r.status for r in reports} == {"cancelled"}
    assert sum(r.collected for r in reports) == 30
    assert all("budget is used up" in r.notes[-1] for r in reports)


def test_an_attempt_that_failed_elsewhere_is_not_made_again_at_once(tmp_path):
    """It is for the next launch, as if this one had made it."""
    from tests.support.runner_stub import fixed

    with Stub(lambda seen: [0.02, *fixed(500, b"{}")]) as stub:
        reports = asyncio.run(launches(tmp_path, stub.url, 2, tasks=[task_set(20)], concurrency=2))
        n_first = stub.n
        asyncio.run(launches(tmp_path, stub.url, 1, tasks=[task_set(20)], concurrency=2))

    assert n_first == sum(r.failed for r in reports)
    assert stub.n > n_first


def test_what_a_stopped_launch_gives_back_the_other_makes(tmp_path):
    """Ctrl-C twice in one of two: its attempts in flight are the other's then."""
    stop = StopSignal()
    with Stub(lambda seen: [0.1, *answer(seen)]) as stub:

        async def both():
            plan, work = make(stub.url, tasks=[task_set(24)], concurrency=4)

            async def one(name, **options):
                with SpoolWriter(tmp_path, name) as writer:
                    return await collect(plan, spool=writer, work=work, **options)

            async def end():
                while stub.n < 8:  # noqa: ASYNC110  # the stub counts in a thread of its own
                    await asyncio.sleep(0.01)
                stop()
                stop()

            return await asyncio.gather(one("r1", stop=stop), one("r2"), end())

        stopped, other, _ = asyncio.run(both())

    settled = [t for t in records(tmp_path) if t.error_type is None]
    assert (stopped.status, other.status) == ("cancelled", "done")
    assert len(settled) == len({(t.item_id, t.trial) for t in settled}) == 24


def test_a_pilot_that_others_make_is_over(tmp_path):
    """What another launch makes of it is waited for by nobody; the question is asked all the
    same."""
    asked = []

    async def go_on():
        asked.append(len(records(tmp_path)))
        return True

    with Stub(slow) as stub:

        async def both():
            plan, work = make(stub.url, tasks=[task_set(30)], concurrency=2)

            async def one(name, **options):
                with SpoolWriter(tmp_path, name) as writer:
                    return await collect(plan, spool=writer, work=work, **options)

            return await asyncio.gather(one("r1"), one("r2", pilot=Pilot(10, go_on)))

        reports = asyncio.run(asyncio.wait_for(both(), 60))

    assert [r.status for r in reports] == ["done", "done"]
    assert stub.n == 30


# -- collectors, each a process ------------------------------------------------------------------

LAUNCHER = """
import asyncio, functools, json, sys
from pathlib import Path
from workbench import runner, spool
from workbench.cli.estimates import spent_of
from workbench.store import open_store
plan = runner.Plan.from_mapping(json.loads(sys.argv[1]))
store = open_store(Path(sys.argv[2]), take_in=False)
async def launch():
    async def ingest():
        while True:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(store.ingest_spool)
    beside = asyncio.create_task(ingest())
    with spool.SpoolWriter(store.spool_dir, sys.argv[3]) as writer:
        report = await runner.collect(
            plan, spool=writer, done=functools.partial(store.done, in_spool=False),
            spent=functools.partial(spent_of, store),
        )
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)
    return report
report = asyncio.run(launch())
print(json.dumps({"status": report.status, "collected": report.collected,
    "elsewhere": report.elsewhere,
    "left": report.left, "tokens": report.input_tokens + report.output_tokens}))
"""


class Server:
    """A stub in a process of its own that logs every answer, and a plan over it."""

    def __init__(self, tmp_path, n_items, **settings):
        self.log, self.store = tmp_path / "answered.jsonl", tmp_path / "s.duckdb"
        self.folder = tmp_path / "s.spool"
        self.stub = StubProcess(self.log, "--chunks", "3", "--gap-s", "0.01")
        plan = {
            "models": ["m"],
            "tasks": [str(sums.write(tmp_path / "sums.jsonl", n_items))],
            "seed": 1,
            "energy": "off",
            "base_url": self.stub.url,
            "concurrency": 4,
            "max_tokens": 3,
            **settings,
        }
        self.plan = json.dumps(plan)
        open_store(self.store, create=True, take_in=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stub.close()

    def launch(self, run_id):
        command = [sys.executable, "-c", textwrap.dedent(LAUNCHER), self.plan, self.store, run_id]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def requests(self):
        """How often each item was answered."""
        if not self.log.exists():
            return Counter()
        asked = [json.loads(line)["request"] for line in self.log.read_text().splitlines()]
        return Counter(r["messages"][-1]["content"] + str(r.get("seed")) for r in asked)

    def until(self, n):
        """Wait until so many were answered."""
        while self.requests().total() < n:
            time.sleep(0.05)

    def traces(self):
        store = open_store(self.store, take_in=False)
        store.ingest_spool()
        return store.sql("SELECT configuration_id, item_id, trial, error_type FROM traces")


def ended(process):
    said, _ = process.communicate(timeout=120)
    return json.loads(said) if said.strip() else None


def test_three_collectors_on_one_store_make_each_attempt_once(tmp_path):
    """By the server's own count; all three see the end of the plan, and the store has each once."""
    with Server(tmp_path, 150) as server:
        reports = [ended(p) for p in [server.launch(f"r{n}-x") for n in range(3)]]
        answered = server.requests()
        rows = server.traces()

    assert [r["status"] for r in reports] == ["done"] * 3
    assert sum(r["collected"] for r in reports) == 150
    assert (answered.total(), len(answered)) == (150, 150)
    assert (rows.height, rows.unique().height) == (150, 150)


def test_three_collectors_keep_a_budget_together(tmp_path):
    """15 tokens an answer: 900 are sixty, by the server's own count."""
    with Server(tmp_path, 200, budget_tokens=900) as server:
        reports = [ended(p) for p in [server.launch(f"r{n}-x") for n in range(3)]]
        answered = server.requests().total()

    assert answered * 15 <= 900
    assert answered >= 56  # a launch that begins last counts what ends meanwhile twice
    assert sum(r["tokens"] for r in reports) == answered * 15


def test_a_killed_collectors_attempts_are_made_by_the_others(tmp_path):
    """Kill -9 of one of three: the others end the plan; nothing that it had written is asked
    again."""
    with Server(tmp_path, 200) as server:
        processes = [server.launch(f"r{n}-x") for n in range(3)]
        server.until(60)
        victim = processes[random.Random(5).randrange(3)]
        victim.kill()
        victim.communicate()
        reports = [ended(p) for p in processes if p is not victim]
        answered, rows = server.requests(), server.traces()

    assert [(r["status"], r["left"]) for r in reports] == [("done", 0)] * 2
    assert len(answered) == 200
    assert answered.total() - 200 <= 4  # what it had in flight
    assert (rows.height, rows.unique().height) == (200, 200)


def test_a_budget_holds_over_a_kill(tmp_path):
    """What was in flight when a collector was killed counts as what it had reserved, in later
    launches too."""
    with Server(tmp_path, 300, budget_tokens=1500) as server:
        first = server.launch("r0-x")
        server.until(30)
        first.kill()
        first.communicate()
        second, third = (ended(server.launch(name)) for name in ("r1-x", "r2-x"))
        answered = server.requests().total()

    assert answered * 15 <= 1500
    assert answered >= 80
    assert (second["status"], third["collected"]) == ("cancelled", 0)


def test_a_segment_that_another_took_in_is_no_fault(tmp_path):
    """It vanishes between the look and the reading."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    with SpoolWriter(store.spool_dir, "r1") as writer:
        writer.append(Trace(run_id="r1", configuration_id="c", task_id="t", item_id="i"))
    from workbench.store import transfer
    from workbench.store.ingest import IngestReport

    (segment,) = spool.segments(store.spool_dir)
    segment.path.unlink()
    report = IngestReport()
    transfer._ingest_segment(store.path, segment, 0, report, last=True)

    assert report.rows_new == {}


def test_a_writer_looks_alive_while_it_begins_the_next_segment(tmp_path, monkeypatch):
    """At every moment one of its segments is locked: nobody takes its run for a dead one."""
    live = []
    begin = SpoolWriter._begin_segment

    def look(writer):
        live.append([s.live for s in spool.segments(tmp_path)])
        begin(writer)
        live.append([s.live for s in spool.segments(tmp_path)])

    monkeypatch.setattr(SpoolWriter, "_begin_segment", look)
    with SpoolWriter(tmp_path, "r1", segment_bytes=1) as writer:
        for item in "ab":
            writer.append(Trace(run_id="r1", configuration_id="c", task_id="t", item_id=item))

    assert all(any(one) for one in live[1:])


def test_spending_counts_what_was_in_flight_at_a_kill(tmp_path):
    """As what it had reserved, for the plans that mean it."""
    plan, work = make("http://127.0.0.1:9/v1", budget_tokens=100)
    first, second, *_ = [planned.key for planned in work]
    dies_with(tmp_path, first, second, ("another", "i", 0))

    assert Spending(work, tmp_path, None)._sum(set()).budget_tokens == 20
    assert plan.budget_tokens == 100


def kept_reply(folder, run_id, key, trace_id="t"):
    """Keep a reply of 4 tokens for an attempt, as a collector does; returns its file."""
    attempt = Journal(folder, run_id).open(key, trace_id)
    reply = Reply(call=Call(input_tokens=3, output_tokens=1))
    asyncio.run(attempt.keep("r", reply))
    attempt.close()
    return attempt


def test_what_was_in_flight_beside_a_kept_reply_counts_too(tmp_path):
    """Of 10 tokens that were reserved 4 are known: 6 more may have been spent in the moment of the
    kill."""
    _, work = make("http://127.0.0.1:9/v1", budget_tokens=100)
    first = next(iter(work)).key
    dies_with(tmp_path, first)
    kept_reply(tmp_path, "dead-1", first)

    assert Spending(work, tmp_path, None)._sum(set()).budget_tokens == 10


def test_of_a_reply_and_its_trace_the_larger_counts(tmp_path):
    """Files of replies are swept while somebody reads: what is left of them is not all that was
    paid."""
    _, work = make("http://127.0.0.1:9/v1", budget_tokens=100)
    planned = next(iter(work))
    configuration, item, trial = planned.key
    kept_reply(tmp_path, "r1-x", planned.key, "t1")
    calls = tuple(Call(ordinal=n, input_tokens=3, output_tokens=1) for n in range(2))
    with SpoolWriter(tmp_path, "r1-x") as writer:
        writer.append(
            Trace(
                trace_id="t1",
                run_id="r1-x",
                configuration_id=configuration,
                task_id="t",
                item_id=item,
                trial=trial,
                calls=calls,
            )
        )

    assert Spending(work, tmp_path, None)._sum(set()).budget_tokens == 8


@pytest.mark.parametrize("n", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_collectors_that_are_killed_at_random_lose_and_repeat_nothing_written(tmp_path, n):
    """As many launches at once as said, killed and begun again; each attempt is there once at the
    end."""
    rng = random.Random(n)
    with Server(tmp_path, 120, concurrency=3) as server:
        living = [server.launch(f"r{i}-x") for i in range(n)]
        for kill in range(3):
            server.until(20 * (kill + 1))
            place = rng.randrange(len(living))
            living[place].kill()
            living[place].communicate()
            living[place] = server.launch(f"k{kill}-x")
        reports = [ended(process) for process in living]
        answered, rows = server.requests(), server.traces()

    assert {r["left"] for r in reports} == {0}
    assert len(answered) == 120
    assert answered.total() - 120 <= 3 * 3
    assert (rows.height, rows.unique().height) == (120, 120)
