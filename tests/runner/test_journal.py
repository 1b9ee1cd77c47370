"""Replies of an attempt of many calls outlive the run that got them, and are not paid for again."""

import asyncio
import random

import pytest

from tests.support.chains import Chain, Killed, Server
from tests.support.launches import records, task_set
from workbench import spool
from workbench.records import Call, EnergyReading, ToolCall, Trace
from workbench.runner import Plan, Work, collect, strategies
from workbench.runner.attempts.journal import Journal
from workbench.runner.attempts.session import Reply, Request
from workbench.runner.energy import windows
from workbench.runner.execution import collect as collect_module
from workbench.runner.execution.metering import Metering
from workbench.spool import SpoolWriter
from workbench.store import open_store

KEY = ("c" * 24, "i" * 24, 0)


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
    """Three of five samples had arrived; the next launch asks the other two, and the trace has all
    five."""
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
    """Two samples of one question without a seed are two replies; another role is another
    request."""
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


def chained(store, run_id, server, strategy=None, *, price=None):
    """Collect one item in five calls, and take the spool in unless told otherwise."""
    made = strategy or Chain()
    plan = Plan(models=("m",), tasks=("sums",), retries=0)
    with SpoolWriter(store.spool_dir, run_id) as writer:
        work = Work(plan, [task_set(1)], [made])
        return asyncio.run(collect(plan, spool=writer, work=work, provider=server, price=price))


def stored(store):
    """What the store holds, the spool taken in: traces and their calls."""
    store.ingest_spool()
    traces = store.sql(
        "SELECT error_type, run_id, n_calls, input_tokens, e2e_s FROM traces"
    ).to_dicts()
    calls = store.sql("SELECT error_type, input_tokens, ordinal FROM calls ORDER BY ordinal")
    return traces, calls.to_dicts()


@pytest.mark.parametrize("taken_in", [True, False])
def test_an_attempt_that_failed_goes_on_from_its_replies(tmp_path, taken_in):
    """Call 3 of 5 fails; the next launch asks 3 to 5 only, and its trace takes the place of the
    failed one."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    server = Server("part 2")
    first = chained(store, "r1", server)
    if taken_in:
        ((failed,), calls) = stored(store)
        assert (failed["error_type"], failed["input_tokens"], len(calls)) == ("http_503", 18, 3)
    server.fails = ""
    again = chained(store, "r2", server)

    ((trace,), calls) = stored(store)
    assert (first.failed, again.failed, again.before) == (1, 0, 0)
    assert server.answered == [f"What is 0 + 1? part {n}" for n in range(5)]
    assert (trace["error_type"], trace["run_id"], trace["input_tokens"]) == (None, "r2", 5 * 9)
    assert [c["error_type"] for c in calls] == [None] * 5 + ["http_503"]
    assert sum(c["input_tokens"] or 0 for c in calls) == 9 * len(server.answered)
    assert trace["e2e_s"] is None  # most of it was in another run
    assert (again.input_tokens, list((store.spool_dir / "arrived").iterdir())) == (27, [])


def test_an_attempt_that_fails_again_and_again_is_paid_once(tmp_path):
    """Three launches that get a call further each leave one trace, whose calls are those that were
    paid."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server()
    for n, fails in enumerate(("part 1", "part 2", "part 4")):
        server.fails = fails
        chained(store, f"r{n}", server)
        ((trace,), calls) = stored(store)
        assert (trace["error_type"], trace["run_id"]) == ("http_503", f"r{n}")
        assert trace["input_tokens"] == 9 * len(server.answered)
        assert sum(c["error_type"] is not None for c in calls) == n + 1
    assert len(server.answered) == 4


def test_a_kill_between_a_failed_trace_and_what_follows_counts_nothing_twice(tmp_path, monkeypatch):
    """The trace is in the spool and its journal is as it was: the next launch writes a trace of the
    same id."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server("part 2")
    append = SpoolWriter.append

    def killed(writer, record):
        append(writer, record)
        if isinstance(record, Trace):
            raise Killed

    monkeypatch.setattr(SpoolWriter, "append", killed)
    with pytest.raises(Killed):
        chained(store, "r1", server)
    monkeypatch.undo()
    server.fails = ""
    chained(store, "r2", server)

    ((trace,), calls) = stored(store)
    assert (trace["error_type"], trace["input_tokens"]) == (None, 45)
    assert sum(c["input_tokens"] or 0 for c in calls) == 9 * len(server.answered) == 45


def test_a_request_that_always_fails_does_not_keep_its_attempt_forever(tmp_path):
    """After three launches with the same fault the fourth begins anew, and what was paid stands in
    its trace."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server("part 2", "http_500")
    for n in range(3):
        chained(store, f"r{n}", server)
    assert len(server.answered) == 2
    server.fails = ""
    chained(store, "r3", server)

    ((trace,), calls) = stored(store)
    assert len(server.answered) == 2 + 5
    assert (trace["error_type"], trace["input_tokens"]) == (None, 7 * 9)
    assert [c["error_type"] for c in calls] == [None] * 5 + ["unused"] * 2 + ["http_500"] * 3


def test_a_server_that_is_away_for_long_costs_no_reply(tmp_path):
    """Five launches that find it overloaded, then one that does not: nothing is asked twice."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server("part 2")
    for n in range(5):
        chained(store, f"r{n}", server)
    server.fails = ""
    chained(store, "r9", server)
    assert len(server.answered) == 5


def test_what_an_earlier_try_paid_and_nobody_asks_for_stands_in_the_trace(tmp_path):
    """The second try asks in other words: its trace has its five calls, and the two that led
    nowhere."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server("part 2")
    chained(store, "r1", server)
    server.fails = ""
    chained(store, "r2", server, Chain(ask="piece {n}"))

    ((trace,), calls) = stored(store)
    assert (trace["error_type"], trace["input_tokens"]) == (None, 7 * 9)
    assert [c["error_type"] for c in calls] == [None] * 5 + ["unused", "unused", "http_503"]


def test_of_two_traces_of_one_id_the_later_try_stays(tmp_path):
    """In whichever order they come, once or twice: a settled one before a failed one, then the
    later one."""
    store, server = open_store(tmp_path / "s.duckdb", create=True), Server("part 2")
    for run_id, fails in (("r1", "part 2"), ("r2", "part 3"), ("r3", "")):
        server.fails = fails
        chained(store, run_id, server)
    every = [r for s in spool.segments(store.spool_dir) for r in spool.read_segment(s.path).records]
    tries = [r for r in every if isinstance(r, Trace)]
    rest = [r for r in every if not isinstance(r, Trace)]
    assert len(tries) == 3
    assert len({t.trace_id for t in tries}) == 1
    for n, order in enumerate([(2, 1, 0), (1, 0, 2, 1)]):
        apart = open_store(tmp_path / f"apart{n}.duckdb", create=True)
        at_once = open_store(tmp_path / f"at_once{n}.duckdb", create=True)
        at_once.ingest([*rest, *(tries[place] for place in order)])
        apart.ingest(rest)
        for place in order:
            apart.ingest([tries[place]])
        for found in (apart, at_once):
            ((trace,), calls) = stored(found)
            assert (trace["run_id"], trace["input_tokens"]) == ("r3", 45)
            assert len(calls) == 5 + 2


def test_merging_stores_keeps_the_later_try(tmp_path):
    """A colleague's copy from before gains the whole trace; mine does not go back to the failed
    one."""
    mine, theirs = (
        open_store(tmp_path / f"{name}.duckdb", create=True) for name in ("mine", "theirs")
    )
    server = Server("part 2")
    chained(mine, "r1", server)
    mine.ingest_spool()
    theirs.merge(mine.path)
    server.fails = ""
    chained(mine, "r2", server)
    mine.ingest_spool()

    mine.merge(theirs.path)
    theirs.merge(mine.path)
    for store in (mine, theirs):
        ((trace,), calls) = stored(store)
        assert (trace["run_id"], trace["input_tokens"], len(calls)) == ("r2", 45, 6)


class Meter(Metering):
    """Tells 2 J a call, when it is let."""

    def __init__(self):
        super().__init__()
        self.measures, self.told = True, asyncio.Event()

    @property
    def meter(self):
        """Two joules each."""

        async def told(call, made):
            await self.told.wait()
            return (
                EnergyReading(
                    call_ordinal=call.ordinal, device="gpu:0", method="measured", energy_j=2.0
                ),
            )

        return told


class Metered(Server):
    """A server whose requests are under a meter; it may let the meter tell, or end the program."""

    def __init__(self, meter, *, tells, dies=False):
        super().__init__()
        self.meter, self.tells, self.dies = meter, tells, dies

    async def generate(self, request, on_chunk=None):
        """Answer under the meter."""
        if len(self.answered) == 3 and self.dies:
            await asyncio.sleep(0.05)  # the meter has told of the first ones, if it is let
            raise Killed
        windows.collect(windows.Window(0.0, 1.0))
        if self.tells:
            self.meter.told.set()
        return await super().generate(request, on_chunk)


@pytest.mark.parametrize(("tells", "joules"), [(True, 10.0), (False, None)])
def test_the_energy_of_calls_from_before_a_kill_is_known_or_said_to_be_unknown(
    tmp_path, monkeypatch, tells, joules
):
    """Three of five calls were made before; their joules are in the trace, or the trace has no
    sum."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    found = []

    async def begin(*_):
        found.append(Meter())
        found[-1].told = asyncio.Event()
        server.meter = found[-1]
        return found[-1]

    monkeypatch.setattr(collect_module.Metering, "begin", begin)
    server = Metered(None, tells=tells, dies=True)
    with pytest.raises(Killed):
        chained(store, "r1", server)
    server = Metered(None, tells=True)
    chained(store, "r2", server)

    store.ingest_spool()
    (trace,) = store.sql("SELECT energy_j, input_tokens FROM traces").to_dicts()
    readings = store.sql("SELECT energy_j, note FROM energy").to_dicts()
    assert (trace["energy_j"], trace["input_tokens"], len(readings)) == (joules, 45, 5)
    unknown = [r["note"] for r in readings if r["energy_j"] is None]
    assert len(unknown) == (0 if tells else 3)
    assert set(unknown) <= {"metered by a run that was killed before the counters had told"}
