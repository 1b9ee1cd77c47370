"""Retries, slots and machine time: bounded, conserved, honest."""

import asyncio
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runner_stub import Stub, fixed, reply_pieces, stream
from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.attempts.session import Request
from workbench.runner.limits import Backoff, Caller
from workbench.runner.limits.machine_time import MachineClock
from workbench.runner.providers.openai_chat import OpenAIChat

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

    if failures > 6 or (asked or 0.0) > 200.0:
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
    """Ask once through a caller whose waits only move its own clock."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async def run():
        provider = OpenAIChat(stub.url, timeout_s=60.0)
        caller = Caller(
            provider,
            slots=2,
            backoff=Backoff(retries=retries),
            rng=random.Random(1),
            sleep=sleep,
            clock=lambda: time.perf_counter() + sum(waits),
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
        provider = OpenAIChat(stub.url, timeout_s=60.0)
        caller = Caller(provider, slots=2, backoff=Backoff(), rng=random.Random(1))
        found = await asyncio.gather(*(caller.ask(ASK, "subject") for _ in range(3)))
        await provider.aclose()
        return sorted(reply.call.queue_s for reply, _ in found)

    with Stub(lambda seen: stream(*reply_pieces(2)[:2], 0.1, *reply_pieces(2)[2:])) as stub:
        waits = asyncio.run(run(stub))

    assert waits[1] < 0.09 < waits[2]


def together(stub, n, **options):
    """Ask n times at once through one caller; returns the calls and how its model stands at the
    end."""

    async def run():
        provider = OpenAIChat(stub.url, timeout_s=60.0, concurrency=64)
        caller = Caller(provider, rng=random.Random(1), **options)
        found = await asyncio.gather(*(caller.ask(ASK, "subject") for _ in range(n)))
        await provider.aclose()
        return found, caller.states[0]

    return asyncio.run(run())


def test_a_wish_to_wait_holds_back_every_call_to_the_model():
    """One 429 with Retry-After: 19 others wait in the queue, none of them is refused as well."""
    begun = []

    def respond(seen):
        begun.append(time.perf_counter())
        return fixed(429, b"{}", retry_after="0.3") if not seen.number else stream(*reply_pieces(2))

    with Stub(respond) as stub:
        found, state = together(stub, 20, slots=20, start=1, backoff=Backoff(base_s=0.01))

    calls = [reply.call for reply, _ in found]
    assert begun[1] - begun[0] >= 0.29
    assert [c.n_retries for c in calls].count(1) == 1
    assert sum(c.retry_wait_s > 0 for c in calls) == 1
    assert sum(c.queue_s >= 0.29 for c in calls) == 19
    assert (state.n_overloads, state.n_retries, state.last_error) == (1, 1, "http_429")
    assert (state.in_flight, state.waiting, state.retrying, state.retrying_since) == (0, 0, 0, None)


def test_a_window_that_begins_small_reaches_the_cap():
    """Answers come, so it grows; never more than the cap are under way."""
    flying = most = 0

    def respond(seen):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        yield from stream(*reply_pieces(2)[:2], 0.01, *reply_pieces(2)[2:])[:-1]
        flying -= 1
        yield b"0\r\n\r\n"

    for _ in range(8):  # a busy machine answers late, and then the window rightly waits
        with Stub(respond) as stub:
            _, state = together(stub, 200, slots=20, start=2, backoff=Backoff())
        if state.limit == state.cap:
            break

    assert 8 < most <= 20  # the stub counts one out a moment before we read its end
    assert (state.limit, state.cap, state.why) == (20, 20, "at the plan's cap")


def test_all_slots_of_a_server_of_ones_own_are_used_at_once():
    """Without a start the window begins at the cap."""
    flying = most = 0

    def respond(seen):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        yield from stream(*reply_pieces(2)[:2], 1.0, *reply_pieces(2)[2:])[:-1]
        flying -= 1
        yield b"0\r\n\r\n"

    with Stub(respond) as stub:
        together(stub, 16, slots=16, backoff=Backoff())

    assert most == 16


def test_requests_wait_for_the_servers_bucket_instead_of_being_refused():
    """The headers allow 10 requests and then 50 a second: nothing is refused by a server that means
    it."""
    level, last = 10.0, None

    def respond(seen):
        nonlocal level, last
        now = time.perf_counter()
        level = 10.0 if last is None else min(level + (now - last) * 50, 10.0)
        last = now
        if level < 1:
            return fixed(429, b"{}")
        level -= 1
        told = {
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": str(int(level)),
            "x-ratelimit-reset-requests": f"{(10 - int(level)) / 50 * 1000:.0f}ms",
        }
        return stream(*reply_pieces(2), **told)

    with Stub(respond) as stub:
        begun = time.perf_counter()
        found, state = together(stub, 60, slots=8, start=2, backoff=Backoff(base_s=0.01))

    took = time.perf_counter() - begun
    assert [error for _, error in found if error] == []
    assert stub.n == 60 + state.n_overloads
    assert state.n_overloads <= 3  # the header's whole numbers are not the server's own
    assert took >= 0.8  # 50 beyond the first ten, at 50 a second


def test_one_cap_holds_for_all_models_of_a_server():
    """Two models with a window of four each share four slots."""
    flying = most = 0

    def respond(seen):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        yield from stream(*reply_pieces(2)[:2], 0.01, *reply_pieces(2)[2:])[:-1]
        flying -= 1
        yield b"0\r\n\r\n"

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=60.0, concurrency=64)
        caller = Caller(provider, slots=4, backoff=Backoff(), rng=random.Random(1))
        asks = [Request(model=m, messages=ASK.messages) for m in ("a", "b")] * 20
        await asyncio.gather(*(caller.ask(a, "subject") for a in asks))
        await provider.aclose()
        return caller.states

    with Stub(respond) as stub:
        states = asyncio.run(run(stub))

    assert 1 < most <= 4
    assert {s.model for s in states} == {"a", "b"}


def test_a_cancelled_call_leaves_its_place_to_the_next():
    """Cancelled while waiting or while asking: the slot is free again, the count is right."""

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=60.0)
        caller = Caller(provider, slots=1, backoff=Backoff(), rng=random.Random(1))
        tasks = [asyncio.create_task(caller.ask(ASK, "subject")) for _ in range(4)]
        while stub.n < 1:  # noqa: ASYNC110  # the stub counts in a thread of its own
            await asyncio.sleep(0.005)
        for task in tasks[:3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await provider.aclose()
        return tasks, caller.states[0]

    whole = stream(*reply_pieces(2))
    with Stub(lambda seen: whole if seen.number else [*whole[:1], 30.0]) as stub:
        tasks, state = asyncio.run(run(stub))

    assert [t.cancelled() for t in tasks] == [True, True, True, False]
    assert (state.in_flight, state.waiting) == (0, 0)


def test_a_request_that_always_breaks_the_server_is_given_up_sooner():
    """The same 500 three times while the others are answered: no fourth try, and the others are not
    held up."""

    def respond(seen):
        if seen.json["model"] == "m" and b"poison" in seen.body:
            return fixed(500, b'{"error":{"message":"assertion failed"}}')
        return stream(*reply_pieces(2))

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=60.0, concurrency=8)
        caller = Caller(
            provider, slots=8, backoff=Backoff(base_s=0.02, retries=9), rng=random.Random(1)
        )
        bad = Request(model="m", messages=({"role": "user", "content": "poison"},))
        poisoned = asyncio.create_task(caller.ask(bad, "subject"))
        while not poisoned.done():
            await caller.ask(ASK, "subject")
        await provider.aclose()
        return await poisoned

    with Stub(respond) as stub:
        reply, error = asyncio.run(run(stub))
        poisons = sum(b"poison" in seen.body for seen in stub.requests)

    assert (error.kind, poisons, reply.call.n_retries) == ("http_500", 3, 2)


def test_a_server_that_fails_for_everybody_is_asked_to_the_end():
    """The same 500 again and again, and nobody is answered: that may pass."""
    with Stub(lambda seen: fixed(500, b"{}")) as stub:
        _, error, _ = ask(stub, retries=5)

    assert (error.kind, stub.n) == ("http_500", 6)
