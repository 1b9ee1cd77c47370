"""Retries, slots, machine time and the budget: bounded, conserved, honest."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runner_stub import Stub, fixed, reply_pieces, stream
from workbench.errors import ConfigError, ProviderRejected, ProviderUnavailable
from workbench.records import Call
from workbench.runner.limits import Backoff, Budget, Caller
from workbench.runner.machine import MachineClock
from workbench.runner.providers.openai_chat import OpenAIChat
from workbench.runner.session import Request

ASK = Request(model="m", messages=({"role": "user", "content": "?"},))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 10)), min_size=1, max_size=20))
def test_machine_time_is_conserved(spans):
    """The shares of all calls add up to the time in which any was active."""
    clock, begun, shares = MachineClock(), {}, {}
    moments = sorted(
        [(start, 1, n) for n, (start, _) in enumerate(spans)]
        + [(start + length, 0, n) for n, (start, length) in enumerate(spans)]
    )

    for at_s, begins, n in moments:
        if begins:
            begun[n] = clock.begin(at_s)
        else:
            shares[n] = clock.end(begun[n], at_s)

    busy, end = 0.0, 0.0  # the length of the union of the spans, found another way
    for start, length in sorted(spans):
        busy += max(start + length - max(start, end), 0.0)
        end = max(end, start + length)
    assert sum(shares.values()) == pytest.approx(busy)
    assert clock.busy_s == pytest.approx(busy)
    assert all(0 <= shares[n] <= length * 1.000001 for n, (_, length) in enumerate(spans))


def test_two_calls_share_the_time_they_overlap():
    """0–4 alone until 2, then shared with 2–6: three seconds each."""
    clock = MachineClock()
    one = clock.begin(0.0)
    two = clock.begin(2.0)

    assert (clock.end(one, 4.0), clock.end(two, 6.0)) == (3.0, 3.0)


@settings(deadline=None)
@given(st.integers(1, 12), st.floats(0, 1000), st.none() | st.floats(0, 1e9), st.integers())
def test_waits_are_bounded_and_never_shorter_than_asked(failures, waited, asked, seed):
    """A server cannot make us wait for ever, nor be pressed."""
    backoff = Backoff(retries=6, base_s=1.0, most_s=30.0, total_s=200.0)

    wait = backoff.wait_s(failures, waited, asked, random.Random(seed))

    if failures > 6:
        assert wait is None
    elif wait is not None:
        assert min(asked or 0.0, 30.0) <= wait <= 30.0
        assert waited + wait <= 200.0


def test_jitter_comes_from_the_rng():
    """Same seed, same waits; another seed, others."""
    waits = [
        [Backoff().wait_s(n, 0, None, random.Random(seed)) for n in (1, 2, 3)] for seed in (1, 1, 2)
    ]

    assert waits[0] == waits[1] != waits[2]


def ask(stub, *, retries=3, **options):
    """Ask once through a caller that only notes its waits."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async def run():
        provider = OpenAIChat(stub.url, timeout_s=5.0)
        caller = Caller(
            provider,
            slots=2,
            backoff=Backoff(retries=retries),
            rng=random.Random(1),
            sleep=sleep,
            **options,
        )
        result = await caller.ask(ASK, "subject")
        await provider.aclose()
        return result

    return *asyncio.run(run()), waits


def test_a_passing_trouble_is_asked_again_after_the_time_the_server_wants():
    """Two refusals, then an answer: the call tells both, and how long it waited."""
    steps = [fixed(429, b"{}", retry_after="7"), fixed(503, b"{}"), stream(*reply_pieces(3))]
    with Stub(lambda seen: steps[seen.number]) as stub:
        reply, error, waits = ask(stub)

    assert error is None
    assert (stub.n, reply.call.n_retries, reply.call.retry_wait_s) == (3, 2, sum(waits))
    assert waits[0] == 7.0
    assert reply.call.error_type is None
    assert reply.call.output_tokens == 3


def test_the_retries_end():
    """The failure comes back as a call with its error and without usage."""
    with Stub(lambda seen: fixed(529, b'{"error":{"message":"overloaded"}}')) as stub:
        reply, error, _ = ask(stub, machine="box")

    assert isinstance(error, ProviderUnavailable)
    assert (stub.n, reply.call.n_retries) == (4, 3)
    assert (reply.call.error_type, reply.call.stop_reason) == ("http_529", "error")
    assert "overloaded" in reply.call.error_message
    assert reply.call.output_tokens is None
    assert reply.call.e2e_s > 0
    assert reply.call.machine_s > 0


def test_a_refused_request_is_not_asked_again():
    """Asking again would not help."""
    with Stub(lambda seen: fixed(400, b'{"error":{"message":"too long"}}')) as stub:
        reply, error, waits = ask(stub)

    assert isinstance(error, ProviderRejected)
    assert (stub.n, waits, reply.call.n_retries) == (1, [], 0)


def test_no_more_requests_than_slots_are_under_way():
    """The third of three waits for a slot, and its call says how long."""

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=5.0)
        caller = Caller(provider, slots=2, backoff=Backoff(), rng=random.Random(1))
        found = await asyncio.gather(*(caller.ask(ASK, "subject") for _ in range(3)))
        await provider.aclose()
        return sorted(reply.call.queue_s for reply, _ in found)

    with Stub(lambda seen: stream(*reply_pieces(2)[:2], 0.1, *reply_pieces(2)[2:])) as stub:
        waits = asyncio.run(run(stub))

    assert waits[1] < 0.09 < waits[2]


def price(call):
    return None if call.output_tokens is None else call.output_tokens * 0.01


def call(tokens, **fields):
    return Call(model="m", provider="p", output_tokens=tokens, **fields)


def test_a_budget_counts_what_is_in_flight():
    """Spent 0.40 of 1.00, mean 0.20: three more fit, and no fourth."""
    budget = Budget(1.0, price)
    budget.expect("c", call(20))
    for _ in range(2):
        budget.begin("c")
        budget.settle("c", [call(20)])

    started = 0
    while budget.may_start("c"):
        budget.begin("c")
        started += 1

    assert (started, budget.spent_usd) == (3, pytest.approx(0.4))


def test_a_budget_starts_from_a_guess():
    """Before anything has ended, a call is taken to use all it may."""
    budget = Budget(1.0, price)
    budget.expect("c", call(40))
    budget.begin("c")
    budget.begin("c")

    assert not budget.may_start("c")


def test_a_call_that_broke_off_may_have_been_billed():
    """Its cost is unknown: nothing is added to what is spent, and the budget keeps room for it."""
    budget = Budget(1.0, price)
    budget.expect("c", call(60))
    budget.begin("c")

    budget.settle("c", [call(None, ttft_s=0.1, error_type="truncated")])

    assert budget.spent_usd == 0.0
    assert not budget.may_start("c")


def test_a_billed_cost_wins_over_the_sheet():
    """What the provider says it charged is what was spent."""
    budget = Budget(None, price)
    budget.expect("c", call(60))
    budget.begin("c")

    budget.settle("c", [call(60, billed_cost_usd=0.02)])

    assert budget.spent_usd == 0.02


def test_a_budget_without_a_price_is_refused():
    """It could not be kept; the message says what to do."""
    with pytest.raises(
        ConfigError, match=r"no price is known for the model 'm' at provider 'p'.*price sheet"
    ):
        Budget(1.0, lambda call: None).expect("c", call(5))
    with pytest.raises(ConfigError, match="needs prices"):
        Budget(1.0, None)


def test_without_a_budget_an_unknown_price_is_only_counted():
    """Spend is what is known; the rest is counted."""
    budget = Budget(None, lambda call: None)
    budget.expect("c", call(5))
    budget.begin("c")
    budget.settle("c", [call(5)])

    assert (budget.spent_usd, budget.n_unpriced, budget.may_start("c")) == (0.0, 1, True)
