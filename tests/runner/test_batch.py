"""Batches: the same traces at batch prices; nothing lost and nothing paid twice, whatever happens
in between."""

import asyncio
import datetime as dt
import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import msgspec
import pytest

from tests.support import ROOT
from tests.support.batch_stub import Service, drop, instead, reply_body
from tests.support.batches import KEY, QUICK, run
from tests.support.runner_stub import fixed
from tests.support.sums import task_set
from workbench import spool
from workbench.errors import ConfigError, StoreError
from workbench.prices import PriceBook
from workbench.records import Call, Price, Trace
from workbench.runner import Plan, StopSignal, Work, batch, collect
from workbench.runner.batch import Limits
from workbench.runner.batch.batch_journal import Note, Notes
from workbench.runner.providers import registry
from workbench.runner.providers.protocol import Request
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter
from workbench.store import open_store

ENDPOINTS = ("chat", "responses", "messages")
CREATE = {
    "chat": ("POST", "/batches"),
    "responses": ("POST", "/batches"),
    "messages": ("POST", "/messages/batches"),
}


@pytest.fixture(params=ENDPOINTS)
def endpoint(request):
    return request.param


def sums(body, _n=0):
    """Answer the last question rightly."""
    return f"Answer: {int(re.findall(r'([0-9]+) [+] 1', json.dumps(body))[-1]) + 1}"


def sent(batches):
    """Say whether the service has named a batch."""
    return any(s.batch_id for s in batches.client.states.values())


def traces(folder, run_id=None):
    found = [
        r
        for s in spool.segments(folder)
        for r in spool.read_segment(s.path).records
        if isinstance(r, Trace)
    ]
    return [t for t in found if run_id in {None, t.run_id}]


def test_the_requests_of_a_plan_go_out_in_one_batch(tmp_path, endpoint):
    """Every item answered and scored; tokens and tier are known, times are not; the key is in no
    body."""
    service = Service(sums, polls=3)
    with service.serve() as stub:
        report, left = run(tmp_path, stub, endpoint)

    assert (report.status, report.collected, report.failed, left) == ("done", 4, 0, "")
    assert (service.sizes, service.refused) == ([4], [])
    for trace in traces(tmp_path):
        (call,) = trace.calls
        assert trace.passed is True
        assert (call.input_tokens, call.output_tokens, call.service_tier) == (20, 7, "batch")
        assert (call.ttft_s, call.e2e_s, call.n_chunks, call.answer_start_s) == (
            None,
            None,
            None,
            None,
        )
        assert abs(call.started_at.timestamp() - time.time()) < 60
        assert call.request_id.startswith("msg_" if endpoint == "messages" else "req_")
        assert call.response_id
    assert not any(KEY.encode() in seen.body for seen in stub.requests)
    assert not any(KEY.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_strategies_of_many_calls_go_round_by_round(tmp_path, endpoint):
    """Three calls each, three batches; every attempt is in each of them."""
    service = Service(lambda body, n: sums(body) if n == 0 else "Correct it.")
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, endpoint, strategies=("self_refine",))

    assert (report.failed, service.refused) == (0, [])
    assert service.sizes == [4, 4, 4]
    assert {len(t.calls) for t in traces(tmp_path)} == {3}


def test_what_a_batch_did_not_answer_is_asked_again_in_the_next(tmp_path, endpoint):
    """Expired, cancelled, overloaded, left out: once more; a refusal is final."""
    trouble = {0: ("expired",), 1: ("canceled",), 2: ("error", 500, "worker died"), 3: ("missing",)}

    def answer(body, n):
        item = int(re.findall(r"([0-9]+) [+] 1", json.dumps(body))[-1])
        if item == 4:
            return ("error", 400, "too long")
        return trouble[item] if n == 0 else sums(body)

    service = Service(answer)
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, endpoint, n=5)

    assert (report.collected, report.failed) == (4, 1)
    assert service.sizes[0] == 5
    assert sum(service.sizes) == 9
    assert set(service.billed.values()) == {1}
    failed = [t for t in traces(tmp_path) if t.error_type]
    assert [(t.error_type, "too long" in t.error_message) for t in failed] == [("http_400", True)]
    assert sorted(t.calls[0].n_retries for t in traces(tmp_path)) == [0, 1, 1, 1, 1]


def test_a_reply_that_its_host_broke_is_asked_for_in_another_batch(tmp_path):
    """It is no answer; what it took is on record, at the price of a batch."""

    def answer(body, n):
        if n:
            return sums(body)
        whole = reply_body("chat", "Answer: 9", 0)
        whole["choices"][0]["finish_reason"] = "error"
        return whole

    service = Service(answer)
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, "chat", n=2)

    assert (report.collected, report.failed, service.sizes[0], sum(service.sizes)) == (2, 0, 2, 4)
    for trace in traces(tmp_path):
        assert trace.passed
        broken = [c for c in trace.calls if c.error_type]
        assert [(c.error_type, c.service_tier, c.output_tokens) for c in broken] == [
            ("stream_error", "batch", 7)
        ]


def test_a_batch_holds_one_model_and_no_more_than_its_limits(tmp_path, endpoint):
    """By number, and by bytes."""
    few = Limits(quiet_s=0.03, poll_s=0.01, most_requests=3)
    service = Service(sums)
    with service.serve() as stub:
        report, _ = run(tmp_path / "n", stub, endpoint, models=("a", "b"), limits=few)
    assert (report.failed, service.refused) == (0, [])
    assert sorted(service.sizes) == [1, 1, 3, 3]

    small = Limits(quiet_s=0.03, poll_s=0.01, most_bytes=10)
    service = Service(sums)
    with service.serve() as stub:
        run(tmp_path / "bytes", stub, endpoint, limits=small)
    assert service.sizes == [1, 1, 1, 1]


@pytest.mark.parametrize("made", [True, False])
def test_a_submission_without_an_answer_is_looked_up_before_it_is_sent_again(
    tmp_path, endpoint, made
):
    """The connection drops after the batch was made, or the server fails before: one batch, paid
    once."""
    broken = fixed(500, b'{"error": {"message": "oh"}}')
    if made:
        service = Service(sums, hook=drop(CREATE[endpoint]))
    else:
        service = Service(sums, before=instead(broken, CREATE[endpoint]))
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, endpoint)

    assert report.failed == 0
    assert service.sizes == [4]
    assert set(service.billed.values()) == {1}


def test_a_file_that_is_refused_as_a_whole_costs_only_the_line_that_is_wrong(tmp_path):
    """The fault names a line: that request is refused, the others go out again."""
    service = Service(sums)
    service.batch_fault = [{"code": "invalid_json_line", "message": "line 2 is bad", "line": 2}]
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, "chat")

    assert (report.collected, report.failed) == (3, 1)
    assert (service.sizes[0], sum(service.sizes)) == (4, 7)
    assert [t.error_message for t in traces(tmp_path) if t.error_type] == ["line 2 is bad"]


def test_stopping_leaves_the_batch_to_the_service_and_the_next_run_takes_it_in(tmp_path, endpoint):
    """Attempts stay open, the way back is said, nothing is sent again; strategies of many calls go
    on."""
    service = Service(lambda body, n: sums(body) if n == 0 else "Correct it.")
    service.hold = True
    with service.serve() as stub:
        report, left = run(tmp_path, stub, endpoint, strategies=("self_refine",), stop_when=sent)
        assert report is None
        assert traces(tmp_path) == []
        assert (
            "1 batch with 4 requests goes on at acme: batch_0; run the same command again" in left
        )
        service.hold = False
        report, left = run(tmp_path, stub, endpoint, "r2", strategies=("self_refine",))

    assert (report.status, report.collected, report.failed, left) == ("done", 4, 0, "")
    assert service.sizes == [4, 4, 4]
    assert set(service.billed.values()) == {1}


def test_progress_says_how_many_are_in_which_batch(tmp_path):
    """As the batch moves."""
    said = []
    service = Service(sums, polls=3)

    def look(batches):
        said.append(batches.describe())
        return False

    with service.serve() as stub:
        run(tmp_path, stub, "chat", stop_when=look)

    assert "batch_0 in_progress: 0 of 4 done" in said


def test_a_batch_waits_for_attempts_that_are_still_at_something(tmp_path):
    """As long as fewer wait than are under way, up to a limit."""
    service = Service(sums)

    async def go(stub, active, most_wait_s, is_sent_alone):
        http = registry.make("chat", stub.url, name="acme", timeout_s=60.0)
        limits = Limits(quiet_s=0.02, most_wait_s=most_wait_s, poll_s=0.01)
        batches = batch.make(
            http, tmp_path / str(most_wait_s), limits=limits, active=lambda: active
        )

        def request(n):
            return Request(model="m", messages=({"role": "user", "content": f"{n} + 1"},))

        first = asyncio.create_task(batches.generate(request(1)))
        before = len(service.sizes)
        await asyncio.sleep(0.2)
        while is_sent_alone and len(service.sizes) == before:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
        second = asyncio.create_task(batches.generate(request(2)))
        replies = await asyncio.gather(first, second)
        await batches.aclose()
        return [r.text for r in replies]

    with service.serve() as stub:
        assert asyncio.run(go(stub, 2, 60.0, is_sent_alone=False)) == ["Answer: 2", "Answer: 3"]
        assert service.sizes == [2]
        asyncio.run(go(stub, 2, 0.05, is_sent_alone=True))
    assert service.sizes == [2, 1, 1]


def test_another_s_batch_of_the_same_size_is_not_taken_for_ours(tmp_path):
    """Anthropic's batches have no label: the ids of the results tell."""
    service = Service(sums)
    foreign = service.begin(
        [(f"x{n}", {"max_tokens": 1, "q": "7 + 1"}) for n in range(4)], "messages", None
    )
    service.batches[foreign]["polls"] = 1000
    seen = []

    def hook(event):
        if event == ("GET", "/messages/batches"):
            seen.append(event)
            if len(seen) == 5:
                service.batches[foreign]["polls"] = 0
        return drop_once(event)

    drop_once = drop(CREATE["messages"])
    service.hook = hook
    with service.serve() as stub:
        report, _ = run(tmp_path, stub, "messages")

    assert report.failed == 0
    assert service.sizes == [4, 4]


def test_equal_requests_of_two_attempts_are_two_requests(tmp_path, endpoint):
    """Trials without a seed send the same words; each is paid once, and each has its own answer."""
    service = Service(lambda body, n: f"Answer: {n}")
    with service.serve() as stub:
        run(tmp_path, stub, endpoint, n=1, trials=3)

    assert service.sizes == [3]
    assert sorted(t.answer for t in traces(tmp_path)) == ["0", "1", "2"]


def test_a_batch_that_the_service_does_not_know_is_not_sent_again_unasked(tmp_path):
    """Its answers may be paid for; the user is told where the note is."""
    service = Service(sums)
    service.hold = True
    with service.serve() as stub:
        run(tmp_path, stub, "chat", stop_when=sent)
        service.batches.clear()
        report, _ = run(tmp_path, stub, "chat", "r2")

    assert report.failed == 4
    assert {t.error_type for t in traces(tmp_path)} == {"batch_unknown"}
    assert all("may be paid for" in t.error_message for t in traces(tmp_path))
    assert service.sizes == []


def note(label, **fields):
    about = {
        "kind": "openai",
        "base": "http://x/v1",
        "path": "/chat/completions",
        "model": "m",
        "created_at": dt.datetime.now(dt.UTC),
    }
    return Note(label=label, custom_ids=["a", "b"], attempts=["p", "q"], **(about | fields))


def test_notes_are_forgotten_only_when_no_attempt_needs_them(tmp_path):
    """Ended, and every attempt settled."""
    notes = Notes(tmp_path)
    notes.write(note("open"))
    notes.write(note("ended", is_ended=True))

    notes.forget_settled({"p"})
    assert {n.label for n in notes} == {"open", "ended"}
    notes.forget_settled({"p", "q", "r"})
    assert {n.label for n in notes} == {"open"}


def test_a_damaged_note_stops_the_run(tmp_path):
    """It may be of a paid batch."""
    notes = Notes(tmp_path)
    notes.write(note("x"))
    (notes.folder / "x.json").write_bytes(b"{")

    with pytest.raises(StoreError, match=r"x\.json cannot be read"):
        list(notes)


def test_a_note_is_whole_where_one_write_stops_short(tmp_path, monkeypatch):
    """As on a disk that is filling: half a note would replace a good one."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    notes = Notes(tmp_path)
    notes.write(note("x"))

    assert [n.label for n in notes] == ["x"]


def test_services_without_batches_are_told_at_once(tmp_path):
    """Before anything is asked."""
    with pytest.raises(ConfigError, match="cannot go out in batches"):
        batch.make(registry.make("gemini", "http://127.0.0.1:9/v1", name="google"), tmp_path)


# -- killed --------------------------------------------------------------------------------------

LAUNCHER = """
import asyncio, json, os, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
import pytest
from tests.support import batches
from workbench import spool
from workbench.runner.batch import batch_client, batch_journal
from workbench.runner.batch.openai import OpenAIBatches
from workbench.runner.batch.anthropic import AnthropicBatches

class There:
    def __init__(self, url): self.url = url

def die(*_): os.kill(os.getpid(), signal.SIGKILL)

def at(moment):
    if moment == "noted":
        OpenAIBatches.submit = AnthropicBatches.submit = die
    if moment == "sent":
        batch_client.BatchClient._name = die
    if moment == "ended":
        batch_journal.Notes.store = die
    if moment == "stored":
        batch_client.BatchClient._hand_out = die
    if moment == "one trace":
        written, append = [], spool.SpoolWriter.append
        def count(self, record):
            append(self, record)
            if type(record).__name__ == "Trace":
                die()
        spool.SpoolWriter.append = count

for line in sys.stdin:
    given = json.loads(line)
    pid = os.fork()
    if not pid:
        at(given["moment"])
        server, strategies = There(given["url"]), tuple(given["strategies"])
        folder, run_id = Path(given["folder"]), given["run_id"]
        report, _ = batches.run(
            folder, server, given["endpoint"], run_id, strategies=strategies
        )
        os._exit(0 if report.failed == 0 else 3)
    _, status = os.waitpid(pid, 0)
    print(status, flush=True)
"""


@pytest.fixture(scope="module")
def launcher():
    """A process that imports once and forks a collector per line."""
    command = [sys.executable, "-c", textwrap.dedent(LAUNCHER)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )

    def launch(**given):
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield launch
    process.communicate()


@pytest.mark.parametrize("moment", ["noted", "sent", "ended", "stored", "one trace"])
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_kill_9_at_any_moment_loses_no_answer_and_pays_for_none_twice(
    tmp_path, launcher, api, moment
):
    """The same command again; rounds of many calls, killed in every one of them."""
    service = Service(lambda body, n: sums(body) if n == 0 else "Correct it.")
    given = {"folder": str(tmp_path), "endpoint": api, "strategies": ["self_refine"]}
    with service.serve() as stub:
        kills = 0
        for n in range(10):
            if launch_once(launcher, stub, given, moment if n < 3 else "", n) == 0:
                break
            kills += 1

    assert kills >= 1
    assert set(service.billed.values()) == {1}
    assert sum(service.sizes) == len(service.billed) == 12
    found = traces(tmp_path)
    assert len(found) == len({(t.item_id, t.trial) for t in found}) == 4
    assert all(len(t.calls) == 3 and t.error_type is None for t in found)


def launch_once(launcher, stub, given, moment, n):
    return launcher(url=stub.url, run_id=f"run{n}", moment=moment, **given)


# -- prices --------------------------------------------------------------------------------------

LATE = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
EARLY = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
BEFORE_O3_FELL = dt.datetime(2025, 5, 1, tzinfo=dt.UTC)


def priced(provider="openai", model="gpt-4o-mini", at=LATE, tier="batch", **fields):
    return Call(
        provider=provider,
        model=model,
        started_at=at,
        service_tier=tier,
        input_tokens=1_000_000,
        output_tokens=1_000_000,
        **fields,
    )


BATCH_ROW = Price(
    model="mine",
    sheet="s.toml",
    input_usd_per_mtok=1.0,
    output_usd_per_mtok=2.0,
    service_tier="batch",
)
FULL_ROW = Price(model="mine", sheet="s.toml", input_usd_per_mtok=3.0, output_usd_per_mtok=4.0)
ALONE_ROW = Price(model="alone", sheet="s.toml", input_usd_per_mtok=5.0, output_usd_per_mtok=6.0)
RACK_ROW = Price(model="rack", sheet="s.toml", machine_usd_per_hour=3600.0)
COSTS = [  # OpenAI's and Anthropic's batch prices, of their pages as genai-prices 0.2.3 dates them
    ("half price", priced(), 0.075 + 0.3),
    ("ordinary", priced(tier=None), 0.15 + 0.6),
    ("before the day of the record, at the same ordinary price", priced(at=EARLY), 0.075 + 0.3),
    ("before the ordinary price of the record", priced("openai", "o3", at=BEFORE_O3_FELL), None),
    ("flex", priced("openai", "gpt-5", tier="flex", at=EARLY), 0.625 + 5.0),
    ("priority", priced("openai", "gpt-5", tier="priority", at=EARLY), 2.5 + 20.0),
    ("a fast answer of Claude", priced("anthropic", "claude-opus-5", tier="fast"), 10.0 + 50.0),
    ("anthropic", priced("anthropic", "claude-opus-4-5"), 2.5 + 12.5),
    ("no batch price known", priced("deepseek", "deepseek-chat"), None),
    ("another tier", priced(tier="default"), 0.15 + 0.6),
    ("own sheet", priced("x", "mine"), 3.0),
    ("own sheet, ordinary", priced("x", "mine", tier=None), 7.0),
    ("own sheet without batches", priced("x", "alone"), None),
    ("own sheet without batches, ordinary", priced("x", "alone", tier=None), 11.0),
    ("a machine", priced("x", "nobody", machine="rack", machine_s=2.0), 2.0),
]


def test_a_call_of_a_batch_costs_the_batch_price_or_is_unpriced(tmp_path):
    """The book and the store agree; an unknown batch price is null, never the full one."""
    rows = (BATCH_ROW, FULL_ROW, ALONE_ROW, RACK_ROW)
    book = PriceBook(rows)
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.add_prices(rows)
    found = [msgspec.structs.replace(call, ordinal=n) for n, (_, call, _) in enumerate(COSTS)]
    store.ingest(
        [Trace(run_id="r", configuration_id="c", task_id="t", item_id="i", calls=tuple(found))]
    )

    stored = store.sql("SELECT cost_usd FROM call_facts ORDER BY ordinal")["cost_usd"].to_list()
    for (name, call, expected), cost in zip(COSTS, stored, strict=True):
        assert book.cost(call) == pytest.approx(expected), name
        assert cost == pytest.approx(expected), name


# -- by the plan alone -----------------------------------------------------------------------------


def by_plan(folder, stub, endpoint, run_id, *, stop=None, n=40):
    """Collect as the command does: the plan says that requests go out in batches."""
    plan = Plan(
        models=("m",),
        tasks=("sums",),
        endpoint=endpoint,
        base_url=stub.url,
        provider="acme",
        api_key_env="ACME_KEY",
        max_tokens=50,
        concurrency=2,
        batch=True,
    )
    work = Work(plan, [task_set(n)], [strategy("direct")])
    with SpoolWriter(folder, run_id) as writer:
        return asyncio.run(
            collect(plan, spool=writer, work=work, environ={"ACME_KEY": KEY}, stop=stop)
        )


def test_a_plan_with_batch_stops_at_once_and_comes_back(tmp_path, endpoint, monkeypatch):
    """More requests than may be in flight share a batch; stopped, it goes on and its answers are
    taken in."""
    monkeypatch.setattr(batch, "make", functools.partial(batch.make, limits=QUICK))
    service, stop = Service(sums, polls=2), StopSignal()
    service.hold = True
    with service.serve() as stub:

        def stop_when_sent():
            while not service.sizes:
                time.sleep(0.01)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, once

        threading.Thread(target=stop_when_sent, daemon=True).start()
        first = by_plan(tmp_path, stub, endpoint, "r1", stop=stop)
        service.hold = False
        again = by_plan(tmp_path, stub, endpoint, "r2")

    assert (first.status, first.collected, stop.n_requests) == ("cancelled", 0, 1)
    assert any("run the same command again" in note for note in first.notes)
    assert (again.status, again.collected, again.failed) == ("done", 40, 0)
    assert service.sizes == [40]
    assert set(service.billed.values()) == {1}
    found = traces(tmp_path, "r2")
    assert all(t.passed and t.e2e_s is None and t.working_s is None for t in found)
