"""One ledger: what every request took that left is a row, and budget, report and store add up to
the server's count."""

import asyncio
from collections import Counter

import pytest

from tests.support.launches import answer, make, records, run, task_set
from tests.support.runner_stub import (
    CLOSE,
    DONE,
    Stub,
    data,
    delta,
    fixed,
    reply_pieces,
    stream,
    usage,
)
from workbench.records import Call, Price, Run
from workbench.runner import StopSignal, collect
from workbench.runner.limits import Budget
from workbench.runner.planning.plan_budget import Spending, budgets_of
from workbench.runner.providers.openai_chat import OpenAIChat
from workbench.runner.providers.protocol import Request, StreamBroken
from workbench.spool import SpoolWriter
from workbench.store import checks, open_store

PRICE = 1e-5  # dollars a token


def price(call):
    if call.input_tokens is None or call.output_tokens is None:
        return None
    return (call.input_tokens + call.output_tokens) * PRICE


def told(n, text="word "):
    """A chunk with the usage so far, as vLLM sends it with continuous_usage_stats."""
    counts = {"prompt_tokens": 1000, "completion_tokens": n, "total_tokens": 1000 + n}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return data({"model": "stub-1", "choices": [choice], "usage": counts})


class Halves:
    """Breaks off the first try of every request after it told what it will bill; the second is
    whole."""

    def __init__(self):
        self.seen, self.billed = Counter(), 0

    def __call__(self, seen):
        self.seen[seen.body] += 1
        if self.seen[seen.body] == 1:
            self.billed += 1005
            return stream(*(told(n) for n in range(1, 6)), end=False)
        self.billed += 1022
        counts = usage(prompt_tokens=1000, completion_tokens=22, total_tokens=1022)
        return stream(delta("Answer: 1", finish="stop"), counts, DONE)


def in_store(tmp_path, folder):
    store = open_store(tmp_path / f"{folder.stem}.duckdb", create=True, take_in=False)
    rate = {"input_usd_per_mtok": PRICE * 1e6, "output_usd_per_mtok": PRICE * 1e6}
    store.add_prices([Price(model="m", sheet="mine", **rate)])
    store.ingest_spool()
    return store


def test_requests_that_broke_off_are_rows_and_everything_adds_up(tmp_path):
    """Ledger, report and budget are what the server billed; the calls of the answers are as without
    them."""
    halves, folder = Halves(), tmp_path / "s.spool"
    with Stub(halves) as stub:
        report = run(folder, stub.url, retries=1, max_tokens=50, options={"price": price})

    store = in_store(tmp_path, folder)
    calls = store.sql(
        "SELECT sum(input_tokens + output_tokens) AS n, sum(cost_usd) AS usd FROM call_facts"
    )
    row = store.sql(
        "SELECT sum(input_tokens + output_tokens) AS own, sum(broken_tokens) AS broken,"
        " sum(cost_usd) AS usd,"
        " sum(broken_cost_usd) AS broken_usd, sum(n_broken) AS n_broken, sum(n_calls) AS n_calls,"
        " sum(n_turns) AS n_turns, sum(n_broken_unknown) AS n_unknown FROM traces"
    ).row(0, named=True)
    assert report.input_tokens + report.output_tokens == halves.billed == calls["n"][0]
    assert report.spent_usd == pytest.approx(halves.billed * PRICE)
    assert calls["usd"][0] == pytest.approx(halves.billed * PRICE)
    assert row["usd"] == pytest.approx(halves.billed * PRICE)
    assert row["broken_usd"] == pytest.approx(3 * 1005 * PRICE)
    assert (row["own"], row["broken"]) == (3 * 1022, 3 * 1005)
    assert (row["n_broken"], row["n_calls"], row["n_turns"], row["n_unknown"]) == (3, 3, 3, 0)
    broken = store.sql("SELECT * FROM calls WHERE retried_as IS NOT NULL")
    assert set(broken.select("ordinal", "role", "error_type", "retried_as").rows()) == {
        (1, "subject", "connection", 0)
    }
    assert broken["ttft_s"].null_count() == 0
    assert store.sql("SELECT count(*) AS n FROM call_outcomes")["n"][0] == 3
    assert not [check for check in checks.checks(store) if check.fatal and check.n]


def test_a_budget_holds_by_what_requests_told_before_they_broke_off(tmp_path):
    """Ten thousand tokens by the server's own count, broken requests among them; the next launch
    knows of them."""
    halves, folder = Halves(), tmp_path / "s.spool"
    settings = {"tasks": [task_set(30)], "budget_tokens": 10_000, "concurrency": 1, "retries": 1}
    with Stub(halves) as stub:
        report = run(folder, stub.url, max_tokens=50, **settings)
        plan, work = make(stub.url, max_tokens=50, **settings)

    spent = Spending(work, folder, None)._sum(set())
    assert 8_000 < halves.billed <= 10_000
    assert report.input_tokens + report.output_tokens == halves.billed
    assert spent.budget_tokens == halves.billed
    assert budgets_of(plan) == {"budget_tokens": 10_000}


def test_a_request_whose_usage_nobody_told_makes_the_cost_a_least(tmp_path):
    """What is known is summed, and the trace says that there is more."""
    tries = Counter()

    def breaks(seen):
        tries[seen.body] += 1
        return stream(delta("wo"), end=False) if tries[seen.body] == 1 else answer(seen)

    folder = tmp_path / "s.spool"
    with Stub(breaks) as stub:
        run(folder, stub.url, retries=1)
    row = in_store(tmp_path, folder).sql(
        "SELECT cost_usd, n_broken, n_broken_unknown, broken_tokens, broken_cost_usd FROM traces"
    )

    assert row["cost_usd"].to_list() == pytest.approx([22 * PRICE] * 3)
    assert row.drop("cost_usd").rows() == [(1, 1, None, None)] * 3


def test_a_judges_requests_count_apart(tmp_path):
    """The role of a broken request is its call's."""
    from workbench.records import Trace

    broken = Call(
        ordinal=1,
        role="judge",
        model="m",
        error_type="timeout",
        retried_as=0,
        input_tokens=10,
        output_tokens=1,
    )
    judged = Call(ordinal=0, role="judge", model="m", input_tokens=10, output_tokens=5)
    store = open_store(tmp_path / "s.duckdb", create=True)
    rate = {"input_usd_per_mtok": PRICE * 1e6, "output_usd_per_mtok": PRICE * 1e6}
    store.add_prices([Price(model="m", sheet="mine", **rate)])
    store.ingest(
        [
            Run(run_id="r", kind="collect", source="runner"),
            Trace(
                run_id="r", configuration_id="c", task_id="t", item_id="i", calls=(judged, broken)
            ),
        ]
    )

    row = store.sql("SELECT * FROM traces").row(0, named=True)
    assert row["judge_cost_usd"] == pytest.approx(26 * PRICE)
    assert (row["judge_input_tokens"], row["judge_output_tokens"], row["n_calls"]) == (10, 5, 0)
    assert (row["broken_tokens"], row["cost_usd"]) == (11, None)


def test_what_a_reply_told_before_it_was_cancelled_is_a_row(tmp_path):
    """Ctrl-C twice while replies stream: their usage is in the spool, and counts for the plan's
    budget."""
    stop = StopSignal()
    folder = tmp_path / "s.spool"
    with Stub(lambda seen: [*stream(told(3))[:2], 30.0]) as stub:

        async def launch():
            plan, work = make(stub.url, budget_tokens=50_000, max_tokens=50)

            async def twice():
                while stub.n < 3:  # noqa: ASYNC110  # the stub counts in a thread of its own
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)  # the first chunk is there
                stop()
                stop()

            with SpoolWriter(folder, "r1") as writer:
                stopping = asyncio.create_task(twice())
                report = await collect(plan, spool=writer, work=work, stop=stop)
                await stopping
                return report, work

        report, work = asyncio.run(asyncio.wait_for(launch(), 20))

    traces = records(folder)
    assert (report.status, report.collected) == ("cancelled", 0)
    assert report.input_tokens + report.output_tokens == 3 * 1003
    assert {(t.error_type, t.calls[0].error_type) for t in traces} == {("cancelled", "cancelled")}
    assert sum(t.calls[0].output_tokens for t in traces) == 9
    assert Spending(work, folder, None)._sum(set()).budget_tokens == 3 * 1003


def test_a_dollar_holds_where_no_usage_is_reported(tmp_path):
    """Each reply is taken to have cost its prompt and all the output that it was allowed."""
    silent = stream(delta("Answer: 1", finish="stop"), DONE)
    settings = {"tasks": [task_set(100)], "max_tokens": 1000, "budget_usd": 0.2, "concurrency": 4}
    with Stub(lambda seen: silent) as stub:
        report = run(tmp_path, stub.url, options={"price": price}, **settings)
        n_first = stub.n
        plan, work = make(stub.url, **settings)
        spent = Spending(work, tmp_path, price)._sum(set())

    assert 10 <= n_first <= 20  # of at least $0.01 each
    assert "assumed for" in report.notes[-1]
    assert "whose usage nobody reported" in report.notes[-1]
    assert "— + $" in report.notes[-1]
    assert spent.budget_usd >= n_first * 0.01
    assert plan.budget_usd == 0.2
    assert "$0.0000" not in str(report)


def test_a_long_prompt_is_not_taken_for_one_of_ordinary_size():
    """300,000 bytes are some 100,000 tokens: a dollar at $10 a million has no room for the
    second."""
    budget = Budget(1.5, price)
    budget.expect("c", Call(model="m", input_tokens=500, output_tokens=10))

    assert budget.may_start("c", 300_000)
    budget.begin("c", 300_000)
    assert not budget.may_start("c", 300_000)


ASK = Request(model="m", messages=({"role": "user", "content": "x"},))


def sent(respond, n=1, **settings):
    """Ask n times, one after the other; returns the replies or errors, and how many requests the
    server read."""

    async def ask(url):
        provider = OpenAIChat(url, timeout_s=60.0, **settings)
        found = []
        for _ in range(n):
            try:
                found.append(await provider.generate(ASK))
            except StreamBroken as error:
                found.append(error)
        await provider.aclose()
        return found

    with Stub(respond) as stub:
        return asyncio.run(ask(stub.url)), stub.n


@pytest.mark.parametrize("http", ["aiohttp", "httpx"])
def test_a_request_that_was_read_and_dropped_is_not_sent_again_in_silence(http):
    """Over a connection of its own it was read, and may be billed: the caller decides, and
    counts."""
    (error,), n = sent(lambda seen: [CLOSE], http=http)

    assert (error.kind, error.n_sent, n) == ("connection", 1, 1)


@pytest.mark.parametrize("http", ["aiohttp", "httpx"])
def test_over_a_used_connection_it_is_sent_once_more(http):
    """The server may have closed it before it read; the second time is over a new one, and is the
    last."""
    whole = stream(*reply_pieces(3))
    (first, error), n = sent(lambda seen: whole if seen.number == 0 else [CLOSE], 2, http=http)

    assert first.text == "word0 word1 Answer: 4"
    assert (error.kind, error.n_sent, n) == ("connection", 2, 3)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_that_drops_every_request_gets_no_more_than_the_retries(tmp_path, retries):
    """1 + retries requests an item, on the first item and after."""
    with Stub(lambda seen: [CLOSE]) as stub:
        run(tmp_path, stub.url, tasks=[task_set(1)], retries=retries)

        assert stub.n == 1 + retries


def test_requests_that_were_refused_are_counted_in_their_call(tmp_path):
    """A 503 bills nothing: no row, and the call says how many there were."""
    with Stub(
        lambda seen: fixed(503, b"{}", retry_after_ms="1") if seen.number < 2 else answer(seen)
    ) as stub:
        run(tmp_path, stub.url, tasks=[task_set(1)], retries=3)

    (trace,) = records(tmp_path)
    assert [(call.n_retries, call.error_type) for call in trace.calls] == [(2, None)]


# -- how a run ends ------------------------------------------------------------------------------


def quota(seen):
    said = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    return fixed(429, data(said)[6:].strip())


def test_an_account_without_credit_ends_what_asks_it(tmp_path):
    """No request after the first refusals, whatever the strategy or the item; other servers' models
    go on."""
    with Stub(quota) as poor, Stub(answer) as rich:
        models = (
            {"model": "a", "base_url": poor.url},
            {"model": "b", "base_url": poor.url},
            {"model": "c", "base_url": rich.url},
        )
        report = run(
            tmp_path, poor.url, models=models, tasks=[task_set(50)], concurrency=2, retries=5
        )

    assert poor.n <= 4  # as many as were under way
    assert rich.n == report.collected == 50
    assert report.status == "cancelled"
    assert any("no more requests are sent to" in note and "quota" in note for note in report.notes)


def test_another_model_behind_the_same_address_goes_on(tmp_path):
    """A gateway has an account for each: one without credit says nothing of the others, and is
    asked once."""

    def gateway(seen):
        return quota(seen) if seen.json["model"] == "poor" else answer(seen)

    with Stub(gateway) as stub:
        models = ("rich", "poor", "other")
        report = run(tmp_path, stub.url, models=models, tasks=[task_set(20)], concurrency=1)
        asked = Counter(seen.json["model"] for seen in stub.requests)

    assert asked == {"rich": 20, "poor": 1, "other": 20}
    assert (report.collected, report.failed) == (40, 1)
    assert any("no more requests are sent to poor (" in note for note in report.notes)


def test_what_waits_for_a_server_without_credit_is_not_sent(tmp_path):
    """Attempts of many calls fail at their next one; nothing of them is asked."""
    with Stub(quota) as stub:
        run(
            tmp_path,
            stub.url,
            tasks=[task_set(20)],
            concurrency=2,
            strategies=("self_consistency",),
        )

    assert stub.n <= 10


def test_why_attempts_failed_is_said_once_for_each_reason(tmp_path):
    """Counts, the words of the first, and one attempt to look at; numbers make no other reason."""

    def picky(seen):
        number = int(seen.body.decode().split(" + 1")[0].rpartition(" ")[2])
        if number % 2:
            return fixed(500, b'{"error":{"message":"request %d: out of memory"}}' % number)
        return answer(seen) if number else fixed(413, b'{"error":{"message":"too long"}}')

    with Stub(picky) as stub:
        report = run(tmp_path, stub.url, tasks=[task_set(10)], concurrency=1)

    said = str(report)
    assert (report.collected, report.failed, report.is_whole) == (4, 6, False)
    assert [(r.kind, r.n, r.is_final) for r in report.reasons] == [
        ("http_500", 5, False),
        ("http_413", 1, True),
    ]
    assert "why 6 failed or have no score:" in said
    assert "5 × http_500: the server answered 500: request " in said
    assert "sums/0, trial 0, m direct; not asked again" in said
    assert "4 collected, 6 failed, 0 left" in said
