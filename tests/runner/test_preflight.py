"""Preflight: what a plan will take, from which history, with what interval, and when it is not
known."""

import time

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from tests.support.launches import make, task_set
from workbench.runner.planning import history as store_history
from workbench.runner.planning.history import MEASURES
from workbench.runner.planning.preflight import Preflight, estimate

URL = "http://127.0.0.1:9/v1"
NOTHING = pl.DataFrame(
    schema={"configuration_id": pl.String, "item_id": pl.String, "trial": pl.Int64}
)
GROUP = dict.fromkeys(
    ("configuration_id", "model", "provider", "strategy", "task_id", "item_id"), pl.String
)
HISTORY = GROUP | {"n": pl.Int64} | dict.fromkeys(MEASURES, pl.Float64)


def history(*rows):
    """Make history; a row is a mapping over a configuration of the plan."""
    return pl.DataFrame(list(rows), schema=HISTORY)


def past(work, place, item_id, n=1, *, task=None, **values):
    """One row: the configuration in that place of the plan, on an item."""
    configuration = work.configurations[place][0]
    usual = dict.fromkeys(MEASURES)
    about = {
        "configuration_id": configuration.configuration_id,
        "model": configuration.model,
        "provider": configuration.provider,
        "strategy": configuration.strategy,
        "task_id": task or work.tasks[0].task_id,
        "item_id": item_id,
        "n": n,
    }
    return about | usual | values


def guess(work, found, settled=NOTHING, **options):
    return estimate(work, history=found, settled=settled, rng=np.random.default_rng(1), **options)


def test_what_is_missing_is_like_what_was_made():
    """9 of 12 attempts are missing at a mean of 2 $, 3 s and 5 tokens; other measures say why
    not."""
    _, work = make(URL, tasks=[task_set(4)], trials=3)
    ids = [i.item_id for i in work.items]
    name = work.configuration_ids[0]
    settled = pl.DataFrame([(name, i, 0) for i in ids[:3]], schema=NOTHING.schema, orient="row")
    found = history(
        *[
            past(work, 0, i, cost_usd=c, output_tokens=5.0, time_s=3.0)
            for i, c in zip(ids, (1.0, 2.0, 3.0), strict=False)
        ]
    )

    result = guess(work, found, settled)

    (cell,) = result.cells
    assert (cell.planned, cell.there, cell.missing) == (12, 3, 9)
    assert (cell.basis, cell.n_items, cell.n_traces) == ("this configuration", 3, 3)
    assert cell.estimates["cost_usd"].mean == pytest.approx(18.0)
    assert cell.estimates["output_tokens"].mean == pytest.approx(45.0)
    assert cell.estimates["input_tokens"].why == "not reported"
    assert cell.estimates["energy_j"].why == "not measured"
    assert result.total["time_s"].mean == pytest.approx(27.0)
    assert result.elapsed_s.mean == pytest.approx(27.0 / 4)  # four at once


def test_counts_agree_with_a_walk_over_the_plan():
    """Cells count what a walk lists, whatever else is in the store: other items, trials beyond,
    repeats."""
    tasks = [task_set(5, "one"), task_set(3, "two")]
    _, work = make(URL, tasks=tasks, models=("a", "b"), strategies=("direct", "cot"), trials=3)
    rng = np.random.default_rng(3)
    keys = [p.key for p in work]
    done = [keys[i] for i in rng.choice(len(keys), 40, replace=False)]
    noise = [(keys[0][0], "another item", 0), (keys[0][0], keys[0][1], 99), ("x", keys[0][1], 0)]
    settled = pl.DataFrame([*done[:30], *noise], schema=NOTHING.schema, orient="row")

    result = guess(work, history(), settled, waiting=[*done[25:], noise[1]])

    missing = {}
    for planned in work:
        if planned.key not in set(done):
            cell = planned.configuration.configuration_id, planned.task.name
            missing[cell] = missing.get(cell, 0) + 1
    assert {(c.configuration_id, c.task): c.missing for c in result.cells} == missing
    assert (result.planned, result.missing) == (len(keys), len(keys) - 40)


@pytest.mark.parametrize(
    ("kept", "basis", "expected"),
    [
        (("same", "sibling", "elsewhere", "model"), "this configuration", 1.0),
        (("sibling", "elsewhere", "model"), "same model and strategy on this task", 2.0),
        (("elsewhere", "model"), "this configuration on other tasks", 3.0),
        (("model",), "same model", 4.0),
        ((), None, None),
    ],
)
def test_the_nearest_history_is_taken_and_named(kept, basis, expected):
    """In this order; another provider's is never taken."""
    _, work = make(URL)
    row = past(work, 0, "i", time_s=1.0)
    rows = {
        "same": row,
        "sibling": row | {"configuration_id": "other", "time_s": 2.0},
        "elsewhere": row | {"task_id": "elsewhere", "time_s": 3.0},
        "model": row | {"configuration_id": "o", "strategy": "cot", "task_id": "e", "time_s": 4.0},
    }
    foreign = row | {"provider": "another", "configuration_id": "f", "time_s": 99.0}

    (cell,) = guess(work, history(*[rows[k] for k in kept], foreign)).cells

    assert cell.basis == basis
    assert cell.estimates["time_s"].mean == (None if expected is None else 3 * expected)
    if basis is None:
        assert {e.why for e in cell.estimates.values()} == {"no history"}


def test_unknown_is_never_nothing():
    """One cell without a price makes the total unknown, and says what the rest comes to."""
    _, work = make(URL, models=("a", "b"))
    found = history(
        *[past(work, 0, f"i{n}", cost_usd=1.0, time_s=1.0) for n in range(3)],
        past(work, 1, "i0", time_s=1.0),
    )

    result = guess(work, found)

    assert result.total["cost_usd"].mean is None
    assert result.total["cost_usd"].why == "no price for 1 of 2 rows, the rest comes to 3"
    assert result.total["time_s"].mean == pytest.approx(6.0)
    assert result.total["time_s"].low is None  # of one item there is no interval


def test_history_without_a_cost_is_priced_as_of_now():
    """By its tokens, where the model has a price; once asked in vain, a model is not asked
    again."""
    _, work = make(URL, models=("a", "b"))
    tokens = {"input_tokens": 100.0, "output_tokens": 10.0}
    found = history(*[past(work, p, f"i{n}", **tokens) for p in (0, 1) for n in range(50)])
    asked = []

    def price(call):
        asked.append(call.model)
        return (call.input_tokens + 2 * call.output_tokens) / 100 if call.model == "a" else None

    result = guess(work, found, price=price)

    assert [c.estimates["cost_usd"].mean for c in result.cells] == [pytest.approx(3.6), None]
    assert (asked.count("a"), asked.count("b")) == (50, 1)


def test_nothing_missing_costs_nothing():
    """A plan that is there takes 0, which is known."""
    _, work = make(URL)
    settled = pl.DataFrame([p.key for p in work], schema=NOTHING.schema, orient="row")

    result = guess(work, history(), settled)

    assert result.missing == 0
    assert {e.mean for e in (*result.total.values(), result.elapsed_s)} == {0.0}
    assert not result.notes


def test_the_same_seed_gives_the_same_interval():
    """And another seed another one."""
    _, work = make(URL, tasks=[task_set(20)])
    rng = np.random.default_rng(5)
    found = history(
        *[past(work, 0, f"i{n}", cost_usd=float(x)) for n, x in enumerate(rng.lognormal(size=30))]
    )

    ends = [
        estimate(work, history=found, settled=NOTHING, rng=np.random.default_rng(s)).total[
            "cost_usd"
        ]
        for s in (1, 1, 2)
    ]

    assert ends[0] == ends[1] != ends[2]
    assert ends[0].low < ends[0].mean < ends[0].high


@pytest.mark.parametrize("trials", [1, 4])
def test_the_interval_covers_what_then_happens(trials):
    """In 300 simulated plans, with skewed costs: items of their own mean, trials that scatter
    around it.

    20 items are known, 60 others are to come, with two configurations that find the same items
    hard. Nominal is 95 %; conservative as trials of an item are taken to be alike.
    """
    _, work = make(URL, tasks=[task_set(60)], models=("a", "b"), trials=trials)
    rng = np.random.default_rng(11)
    covered = []
    for _ in range(300):
        hard = rng.lognormal(sigma=0.7, size=80)
        cost = hard[:, None, None] * rng.lognormal(sigma=0.3, size=(80, 2, trials))
        rows = [
            past(work, p, f"h{n}", cost_usd=float(cost[n, p].mean()), n=trials)
            for p in (0, 1)
            for n in range(20)
        ]

        found = estimate(work, history=history(*rows), settled=NOTHING, rng=rng).total["cost_usd"]

        covered.append(found.low <= cost[20:].sum() <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_known_variances_give_the_interval_of_a_prediction():
    """For normal items: width² = (missing² / n + Σ m²) σ², the mean's own and that of what is to
    come."""
    _, work = make(URL, tasks=[task_set(50)], trials=2)
    values = np.random.default_rng(2).normal(10.0, 1.0, 400)
    found = history(*[past(work, 0, f"i{n:03}", cost_usd=float(x)) for n, x in enumerate(values)])

    total = guess(work, found).total["cost_usd"]

    sigma = values.std(ddof=1)
    expected = 1.96 * sigma * np.sqrt(100**2 / 400 + 50 * 2**2)
    assert total.mean == pytest.approx(100 * values.mean())
    assert (total.high - total.low) / 2 == pytest.approx(expected, rel=0.1)


def test_budgets_that_will_not_do_are_told_beforehand():
    """With how far they reach; those that only may not do, and those of which nothing is known,
    apart."""
    plan = {"budget_usd": 15.0, "budget_tokens": 33_000.0, "budget_j": 1.0, "budget_time_s": 1000.0}
    _, work = make(URL, tasks=[task_set(30)], **plan)
    found = history(
        *[
            past(
                work,
                0,
                f"i{n}",
                cost_usd=1.0,
                input_tokens=500.0,
                time_s=1.0,
                output_tokens=100 * (n % 10 + 0.5),
            )
            for n in range(20)
        ]
    )

    warnings = guess(work, found).warnings

    assert len(warnings) == 3
    assert "will not do: $30 expected; it ends after about 15 of 30 attempts" in warnings[0]
    assert "may not do: 30,000 tokens expected, up to" in warnings[1]
    assert (
        warnings[2] == "whether budget_j = 1 J will do is not known: not measured for 1 of 1 rows"
    )


def test_a_budget_without_room_for_one_call_is_told_beforehand():
    """The forecast said how far it would reach, and then nothing was collected."""
    _, work = make(URL, tasks=[task_set(30)], budget_tokens=1_200.0)
    found = history(past(work, 0, "i1", input_tokens=60.0, output_tokens=12.0))
    _, small = make(URL, tasks=[task_set(30)], budget_tokens=1_200.0, max_tokens=50)

    (warning,) = guess(work, found).warnings

    assert warning == (
        "budget_tokens = 1,200 tokens has no room for one call, which may take 1,500 tokens:"
        " nothing will be collected; raise it or lower max_tokens"
    )
    assert "it ends after about" in guess(small, found).warnings[0]


def facts_of(work, **more):
    """Rows of `trace_facts`, as many as each list is long."""
    n = len(next(iter(more.values())))
    c = work.configurations[0][0]
    rows = {
        "configuration_id": [c.configuration_id] * n,
        "model": [c.model] * n,
        "provider": [c.provider] * n,
        "strategy": [c.strategy] * n,
        "task_id": [work.tasks[0].task_id] * n,
        "item_id": ["i"] * n,
        "trial": list(range(n)),
        "cost_usd": [None] * n,
        "judge_cost_usd": [None] * n,
        "input_tokens": [None] * n,
        "output_tokens": [None] * n,
        "working_s": [None] * n,
        "e2e_s": [None] * n,
        "energy_j": [None] * n,
        "error_type": [None] * n,
    } | more
    types = {"configuration_id": pl.String, "error_type": pl.String} | dict.fromkeys(
        (
            "cost_usd",
            "judge_cost_usd",
            "working_s",
            "e2e_s",
            "energy_j",
            "input_tokens",
            "output_tokens",
        ),
        pl.Float64,
    )
    return nw.from_native(pl.DataFrame(rows, schema_overrides=types).lazy())


def test_history_is_the_mean_attempt_per_item_judges_included():
    """Failed attempts are not history; waits are left out of the time where they are known."""
    _, work = make(URL)
    facts = facts_of(
        work,
        cost_usd=[1.0, 3.0, 99.0],
        judge_cost_usd=[None, 1.0, None],
        e2e_s=[5.0, 6.0, 99.0],
        working_s=[4.0, None, 99.0],
        error_type=[None, None, "timeout"],
    )

    (row,) = store_history.history_of(facts, work).rows(named=True)

    assert (row["n"], row["cost_usd"], row["time_s"], row["energy_j"]) == (2, 2.5, 5.0, None)


def test_settled_is_what_need_not_be_made_again():
    """A refusal that would come again is settled, a timeout is not; trials beyond the plan do not
    count."""
    _, work = make(URL, trials=3)
    facts = facts_of(work, error_type=[None, "http_400", "timeout", None])

    settled = store_history.settled_of(facts, work)

    assert sorted(settled["trial"]) == [0, 1]


def test_a_plan_of_a_million_attempts_is_counted_and_not_listed():
    """In seconds at most, with half of it there."""
    _, work = make(URL, tasks=[task_set(10_000)], models=tuple("abcde"), trials=20)
    ids = [i.item_id for i in work.items]
    half = (
        pl.DataFrame({"configuration_id": work.configuration_ids})
        .join(pl.DataFrame({"item_id": ids}), how="cross")
        .join(pl.DataFrame({"trial": list(range(10))}), how="cross")
    )
    rows = [past(work, p, i, cost_usd=1.0, time_s=1.0) for p in range(5) for i in ids[:1000]]
    begun = time.perf_counter()

    result = guess(work, history(*rows), half)

    assert isinstance(result, Preflight)
    assert (result.planned, result.missing) == (1_000_000, 500_000)
    assert time.perf_counter() - begun < 30.0
