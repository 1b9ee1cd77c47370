"""A run's budget: dollars, tokens, joules and seconds; kept call by call, unknown is never
nothing."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError, LimitReached, ProviderUnavailable
from workbench.records import Call
from workbench.runner.attempts.session import Reply, Request
from workbench.runner.limits import Budget

ASK = Request(model="m")


def price(call):
    return None if call.output_tokens is None else call.output_tokens * 0.01


def call(tokens, **fields):
    return Call(model="m", provider="p", output_tokens=tokens, **fields)


def settle(budget, *calls):
    """Make an attempt of these calls, whole."""
    tab = budget.begin("c")
    for made in calls:
        tab.add(made)
    tab.close()


def started(budget):
    """How many attempts begin beside one another before the budget says no."""
    n = 0
    while n < 1000 and budget.may_start("c"):
        budget.begin("c")
        n += 1
    return n


def test_a_budget_counts_what_is_in_flight():
    """Spent 0.40 of 1.00, mean 0.20: three more fit, and no fourth."""
    budget = Budget(1.0, price)
    budget.expect("c", call(20))
    for _ in range(2):
        settle(budget, call(20))

    assert (started(budget), budget.spent_usd) == (3, pytest.approx(0.4))


def test_a_budget_starts_from_a_guess():
    """Before anything has ended, a call is taken to use all it may."""
    budget = Budget(1.0, price)
    budget.expect("c", call(40))

    assert started(budget) == 2


def test_what_an_open_attempt_has_spent_is_not_counted_twice():
    """Of an attempt worth 0.40, 0.30 is spent: only 0.10 of it is still to come."""
    budget = Budget(1.0, price)
    budget.expect("c", call(40), n_calls=4)
    tab = budget.begin("c")
    for _ in range(3):
        tab.add(call(10))

    assert budget.spent_usd == pytest.approx(0.3)
    assert started(budget) == 1  # 0.3 + 0.1 + 0.4 fit, another 0.4 does not


def test_a_call_that_broke_off_may_have_been_billed():
    """Its cost is unknown, as is what is spent then, and the budget keeps room for it."""
    budget = Budget(1.0, price)
    budget.expect("c", call(60))

    settle(budget, call(None, ttft_s=0.1, error_type="truncated"))

    assert budget.spent_usd is None
    assert not budget.may_start("c")


def test_a_call_that_was_refused_cost_nothing():
    """No byte of an answer came: there is nothing to bill."""
    budget = Budget(1.0, price)
    budget.expect("c", call(60))

    settle(budget, call(None, error_type="http_429"))

    assert started(budget) == 1


def test_a_lost_try_counts_as_its_estimate():
    """It ran out of time, was made again, and the record knows only the second: both may be
    billed."""
    budget = Budget(1.0, price)
    budget.expect("c", call(30))

    tab = budget.begin("c")
    tab.lose(call(None, error_type="timeout"))
    tab.add(call(30))
    tab.close()

    assert started(budget) == 1  # 0.3 in doubt, 0.3 spent, 0.3 more
    assert budget.spent_usd == pytest.approx(0.3)


def test_a_billed_cost_wins_over_the_sheet():
    """What the provider says it charged is what was spent."""
    budget = Budget(None, price)
    budget.expect("c", call(60))

    settle(budget, call(60, billed_cost_usd=0.02))

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

    settle(budget, call(5))

    assert (budget.spent_usd, budget.n_unpriced, budget.may_start("c")) == (None, 1, True)


def test_tokens_are_a_budget_of_their_own():
    """Input and output count, without any price; 1000 allow three attempts of 300."""
    budget = Budget(None, None, limit_tokens=1000)
    budget.expect("c", call(100, input_tokens=200))

    assert started(budget) == 3
    assert budget.spent_usd is None


def test_the_size_of_an_attempt_is_learned_without_prices():
    """Guessed at 300 tokens, found to take 1000 in two calls: of 5000, four more are in reach."""
    budget = Budget(None, None, limit_tokens=5000)
    budget.expect("c", call(100, input_tokens=200))

    settle(budget, call(100, input_tokens=400), call(100, input_tokens=400))

    assert started(budget) == 4


def test_unknown_usage_counts_as_the_mean():
    """A server that reports no tokens does not get an endless budget."""
    budget = Budget(None, None, limit_tokens=1000)
    budget.expect("c", call(100, input_tokens=200))

    for _ in range(3):
        settle(budget, call(None))

    assert budget.spent_tokens == 0
    assert not budget.may_start("c")


def test_joules_without_a_meter_are_refused():
    """A budget that nothing can read would never hold."""
    with pytest.raises(ConfigError, match="no meter reads the energy"):
        Budget(None, None, limit_j=100.0)


def test_joules_are_read_from_the_meter():
    """Two attempts took 40 J: of 100 J three are in reach beside them, and calls end at the limit
    itself."""
    meter = 0.0
    budget = Budget(None, None, limit_j=100.0, joules=lambda: meter)
    settle(budget)
    settle(budget)
    meter = 40.0

    began = started(budget)
    meter = 101.0

    assert (began, budget.spent_j) == (3, 101.0)
    assert budget.reached() == "101 J of 100 J"


def test_time_ends_the_beginning_of_attempts():
    """Until the limit they begin, at it none does."""
    elapsed = 9.9
    budget = Budget(None, None, limit_time_s=10.0, elapsed_s=lambda: elapsed)
    before = budget.may_start("c")
    elapsed = 10.0

    assert (before, budget.may_start("c")) == (True, False)
    assert budget.state() == "10 s of 10 s"


def test_limits_may_be_changed_under_way():
    """Raised, there is room again; lifted, there is no end."""
    budget = Budget(0.1, price)
    budget.expect("c", call(30))
    small = started(budget)
    budget.limit_usd = 0.7
    raised = started(budget)
    budget.limit_usd = None

    assert (small, raised, started(budget)) == (0, 2, 1000)


def agent(budget, n_calls, *, tokens=10, answer=None):
    """Make an attempt of many calls one after the other; returns how many were made."""

    async def ask(_request, _role):
        await asyncio.sleep(0)
        return answer or (Reply(call=call(tokens, input_tokens=0)), None)

    async def run():
        tab = budget.begin("c")
        guarded = tab.guard(ask)
        made, said = 0, None
        try:
            for _ in range(n_calls):
                await guarded(ASK, "subject")
                made += 1
        except LimitReached as limit:
            said = limit.limit_type, str(limit)
        tab.close()
        assert said is None or (said[0] == "budget" and "raise the budget" in said[1])
        return made, tab.was_stopped

    return run()


def test_a_long_attempt_is_stopped_before_the_call_that_would_pass_the_budget():
    """Three hundred turns at 10 tokens and a budget of 1000: a hundred are made, none beyond."""
    budget = Budget(None, None, limit_tokens=1000)

    made, was_stopped = asyncio.run(agent(budget, 300))

    assert (made, was_stopped, budget.spent_tokens) == (100, True, 1000)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(1, 50),
    st.integers(1, 20_000),
)
def test_attempts_side_by_side_never_pass_the_budget_by_more_than_one_call_each(
    n_agents, n_calls, tokens, limit
):
    """Whatever their number and length: what is spent ends within the limit and the first calls."""
    budget = Budget(None, None, limit_tokens=limit)

    async def run():
        return await asyncio.gather(
            *(agent(budget, n_calls, tokens=tokens) for _ in range(n_agents))
        )

    asyncio.run(run())

    assert budget.spent_tokens <= max(limit, n_agents * tokens)


def test_calls_in_flight_are_counted_before_they_end():
    """Ten calls at once of an attempt, 10 tokens each by the mean: the budget of 50 lets four more
    go."""
    budget = Budget(None, None, limit_tokens=50)
    budget.expect("c", call(10, input_tokens=0))

    async def ask(_request, _role):
        await asyncio.sleep(0.01)
        return Reply(call=call(10, input_tokens=0)), None

    async def run():
        guarded = budget.begin("c").guard(ask)
        await guarded(ASK, "subject")
        asks = [guarded(ASK, "subject") for _ in range(10)]
        return await asyncio.gather(*asks, return_exceptions=True)

    results = asyncio.run(run())

    assert sum(isinstance(r, LimitReached) for r in results) == 6
    assert budget.spent_tokens == 50


def test_a_cancelled_call_may_have_been_billed():
    """It was under way: its estimate stays taken."""
    budget = Budget(None, None, limit_tokens=100)
    budget.expect("c", call(60, input_tokens=0))

    async def ask(_request, _role):
        await asyncio.sleep(10)

    async def run():
        tab = budget.begin("c")
        task = asyncio.create_task(tab.guard(ask)(ASK, "subject"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        tab.close()

    asyncio.run(run())

    assert not budget.may_start("c")


def test_a_failed_call_is_passed_on():
    """The guard counts; what came is the caller's."""
    error = ProviderUnavailable("down", kind="connection")
    budget = Budget(None, None, limit_tokens=100)

    made, was_stopped = asyncio.run(
        agent(budget, 3, answer=(Reply(call=Call(error_type="connection")), error))
    )

    assert (made, was_stopped, budget.spent_tokens) == (3, False, 0)


def test_the_first_attempt_needs_room_for_a_call_only():
    """A guess of 300 calls is larger than the budget: one attempt begins all the same, alone."""
    budget = Budget(None, None, limit_tokens=5000)
    budget.expect("c", call(30_000, input_tokens=60_000), n_calls=300)

    assert started(budget) == 1


def test_an_attempt_that_went_on_from_kept_replies_says_nothing_of_others() -> None:
    """Its two calls are not what an attempt of twenty takes."""
    budget = Budget(None, None, limit_tokens=1000)
    budget.expect("c", Call(model="m", input_tokens=0, output_tokens=200), 20)
    whole, part = budget.begin("c"), budget.begin("c")
    for _ in range(20):
        whole.add(Call(model="m", input_tokens=0, output_tokens=10))
    whole.close()
    for _ in range(2):
        part.add(Call(model="m", input_tokens=0, output_tokens=10))
    part.close(is_whole=False)

    assert budget.spent_tokens == 220
    assert sum(budget.may_start("c") and bool(budget.begin("c")) for _ in range(9)) == 3
