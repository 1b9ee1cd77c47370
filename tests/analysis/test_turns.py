"""Turn control and allocation: real trajectories, brute force, bounds, traps."""

import itertools
import json

import duckdb
import numpy as np
import polars as pl
import polars.testing
import pytest

from workbench import analysis
from workbench.analysis.families.budgets.allocation import quantile_bins
from workbench.analysis.stats import knapsack
from workbench.errors import AnalysisError


def calls(item: str, costs: list[float | None], passed: bool | None, trial: int = 0, **more):
    """The calls of one trace, a turn each."""
    named = {"configuration": "a", "task": "t", "task_id": "t", "item_id": item, "trial": trial}
    named |= {"role": "subject", "error_type": None, "trace_error_type": None, "cluster": None}
    trace = f"{item}-{trial}"
    return [
        named
        | {
            "trace_id": trace,
            "call_id": f"{trace}-{k}",
            "ordinal": k,
            "cost_usd": c,
            "passed": passed,
        }
        | more
        for k, c in enumerate(costs)
    ]


def frame(rows: list[dict]) -> pl.DataFrame:
    """Rows of call_outcomes."""
    texts = dict.fromkeys(("error_type", "trace_error_type", "cluster"), pl.String)
    return pl.DataFrame(rows, schema_overrides=texts | {"cost_usd": pl.Float64})


@pytest.fixture(scope="module")
def tau(shared_data) -> pl.DataFrame:
    """Fifty airline tasks, four trials: a turn per assistant message, its cost all that it reads
    and writes."""
    rows = []
    for r in json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text()):
        read, costs = 0, []
        for m in r["traj"]:
            said = len(m.get("content") or "") + len(json.dumps(m.get("tool_calls") or ""))
            read += said
            if m["role"] == "assistant":
                costs.append(float(read))
        right = abs(r["reward"] - 1) <= 1e-6
        rows += calls(str(r["task_id"]), costs, right, r["trial"])
    return frame(rows)


def rule(result, name: str, turns: float) -> dict:
    """The row of a rule."""
    return result.frame.filter(rule=name, turns=turns).row(0, named=True)


# --- turn control ---


def test_turns_of_tau_bench(tau):
    """P25/50/75/max 7/11/16.25/30; mean 12.27, right runs 9.869, wrong ones 14.009."""
    result = analysis.run("turn-control", tau)

    turns = result.more["turns"].row(0, named=True)
    assert [turns[f"turns_p{p}"] for p in (25, 50, 75)] == [7, 11, 16.25]
    assert turns["most_turns"] == 30
    assert turns["mean_turns"] == pytest.approx(12.27)
    assert turns["mean_turns_passed"] == pytest.approx(9.869, abs=5e-4)
    assert turns["mean_turns_failed"] == pytest.approx(14.009, abs=5e-4)
    limits = result.frame.filter(rule="limit")["turns"].to_list()
    assert limits == [7, 11, 16]  # rounded down to whole turns


def test_limits_of_tau_bench_run_by_run(tau):
    """Every limit's accuracy and saving as a plain loop over the runs has them."""
    runs = (
        tau.sort("ordinal")
        .group_by("trace_id", maintain_order=True)
        .agg("cost_usd", pl.col("passed").first())
    )
    result = analysis.run("turn-control", tau, limits="5,11,p75")

    for limit in (5, 11, 16):
        kept = np.mean([p and len(c) <= limit for c, p in runs.select("cost_usd", "passed").rows()])
        spent = sum(sum(c[:limit]) for c in runs["cost_usd"].to_list())
        row = rule(result, "limit", limit)
        assert row["rate"] == pytest.approx(kept)
        assert row["saving"] == pytest.approx(1 - spent / tau["cost_usd"].sum())
        assert row["rate_most"] == pytest.approx(0.42)
        assert row["stopped_rate"] == pytest.approx(
            np.mean([len(c) > limit for c in runs["cost_usd"].to_list()])
        )


def test_extending_lies_between_its_two_limits(tau):
    """Accuracy and cost of L0 → L1 are bounded by those of the limits; the last one extends to the
    end."""
    result = analysis.run("turn-control", tau)

    a, b = rule(result, "limit", 7), rule(result, "limit", 11)
    both = rule(result, "extend", 7)
    assert both["extended"] == 11
    assert (both["rate"], both["rate_most"]) == (a["rate"], b["rate"])
    assert (both["saving"], both["saving_most"]) == (b["saving"], a["saving"])
    last = rule(result, "extend", 16)
    assert (last["extended"], last["rate_most"], last["saving"]) == (30, 0.42, 0)


def test_a_longer_limit_keeps_more_and_saves_less(tau):
    """Both are monotone in the limit, and end at all and nothing."""
    curve = analysis.run("turn-control", tau).more["curve"]

    assert curve["kept"].is_sorted()
    assert curve["saved"].is_sorted(descending=True)
    assert (curve["kept"][-1], curve["saved"][-1]) == (pytest.approx(0.42), pytest.approx(0))


def test_what_counts_as_a_turn():
    """Judges neither count nor cost; verifiers and failed calls cost with the turn that they belong
    to."""
    roles = ["draft", "subject", "verifier", "subject", "subject", "judge"]
    rows = calls("1", [1, 2, 4, 8, 16, 1000], passed=True)
    rows = [r | {"role": role} for r, role in zip(rows, roles, strict=True)]
    rows[4] |= {"error_type": "overloaded"}

    result = analysis.run("turn-control", frame(rows), limits="1")

    assert result.more["turns"]["mean_turns"].to_list() == [2]
    assert rule(result, "limit", 1)["cost_usd"] == 7
    assert rule(result, "none", 2)["cost_usd"] == 31


def test_odd_traces_among_regular_ones():
    """Turns by number, and turns to be counted, add up alike: every limit as a plain loop has
    it."""
    rng = np.random.default_rng(7)
    roles = ["subject", "subject", "subject", "verifier", "judge"]
    rows, told = [], []
    for item, trial in itertools.product(range(12), range(3)):
        spent = rng.integers(1, 9, rng.integers(1, 7)).astype(float).tolist()
        one = calls(str(item), spent, passed=bool(rng.random() < 0.5), trial=trial)
        if trial:  # of these some calls are no turns
            one = [
                r
                | {
                    "role": str(rng.choice(roles)),
                    "error_type": rng.choice([None, "down"], p=[0.8, 0.2]),
                }
                for r in one
            ]
        turn, of_turn = 0, []
        for r in one:
            if r["role"] == "judge":
                continue
            turn += r["role"] == "subject" and r["error_type"] is None
            of_turn.append((max(turn, 1), r["cost_usd"]))
        if turn:
            told.append((str(item), turn, one[0]["passed"], of_turn))
        rows += one

    for given in (frame(rows), duckdb.from_arrow(frame(rows).to_arrow())):
        result = analysis.run("turn-control", given, limits="1,2,3")
        for limit in (1, 2, 3):
            row = rule(result, "limit", limit)
            of_item = {i: [p and n <= limit for j, n, p, _ in told if j == i] for i, *_ in told}
            spent = sum(c for *_, each in told for t, c in each if t <= limit) / len(told)
            assert row["rate"] == pytest.approx(np.mean([np.mean(r) for r in of_item.values()]))
            assert row["cost_usd"] == pytest.approx(spent)


def test_failed_unscored_and_unpriced_traces():
    """Two are left out and told; a call of unknown cost leaves the saving null and the accuracy as
    it is."""
    rows = calls("1", [1.0, None], passed=True) + calls("2", [1.0], passed=None)
    rows += calls("3", [1.0], passed=None, trace_error_type="timeout")

    result = analysis.run("turn-control", frame(rows), limits="1")

    row = rule(result, "limit", 1)
    assert (row["n"], row["rate"], row["rate_most"], row["saving"], row["cost_usd"]) == (
        1,
        0,
        1,
        None,
        None,
    )
    assert result.dropped == {"failed or unscored traces": 2}
    assert "a call without a cost" in " ".join(result.notes)


def test_traces_without_calls_share_their_cost_out():
    """Four turns of ten dollars: 1 + 2 + 3 + 4, so a limit of two leaves three."""
    rows = [
        {"configuration": "a", "item_id": "1", "passed": True, "n_turns": 4, "cost_usd": 10.0},
        {"configuration": "b", "item_id": "1", "passed": True, "n_turns": None, "cost_usd": 10.0},
    ]

    result = analysis.run("turn-control", pl.DataFrame(rows), limits="2")

    assert rule(result, "limit", 2)["cost_usd"] == pytest.approx(3)
    assert "1 : 2 : 3" in " ".join(result.notes)
    silent = result.frame.filter(configuration="b").row(0, named=True)
    assert (silent["rule"], silent["n"], silent["rate"]) == ("none", 0, None)


def test_limits_from_other_items(tau):
    """Held out, either half is cut at the other half's percentile; given turns stay as they are."""
    result = analysis.run("turn-control", tau, limits="p50,9", held_out=True)

    limits = result.frame.filter(rule="limit")["turns"].to_list()
    assert limits[0] == 9
    assert 8 < limits[1] < 14


def test_engines_and_orders_agree_on_turns(tau):
    """DuckDB and Polars, shuffled or not, give the same table; tasks are told apart where asked."""
    connection = duckdb.connect()
    connection.register("facts", tau.to_arrow())

    one = analysis.run("turn-control", tau)
    other = analysis.run("turn-control", connection.table("facts"))
    shuffled = analysis.run("turn-control", tau.sample(fraction=1, shuffle=True, seed=1))
    by_task = analysis.run("turn-control", tau, by=("configuration", "task"))

    polars.testing.assert_frame_equal(one.frame, other.frame)
    polars.testing.assert_frame_equal(one.frame, shuffled.frame)
    assert by_task.frame["rate"].to_list() == one.frame["rate"].to_list()


@pytest.mark.parametrize("limits", ["", "p101", "0", "-3", "p", "5;6", "p50,x", "1e3"])
def test_limits_that_are_none(limits):
    """A wrong limit is refused with its text; nothing is guessed. Nothing given takes the
    default."""
    rows = frame(calls("1", [1.0], passed=True))
    if not limits:
        assert analysis.run("turn-control", rows, limits=limits).options["limits"] == "p25,p50,p75"
        return
    with pytest.raises(AnalysisError, match="limits"):
        analysis.run("turn-control", rows, limits=limits)


# --- the knapsack ---


@pytest.mark.parametrize("seed", range(6))
def test_the_knapsack_is_that_of_trying_all_choices(seed):
    """Four groups of up to four options: every budget's best value, by listing all 256 choices."""
    rng = np.random.default_rng(seed)
    value, cost = rng.random((4, 4)).round(2), rng.random((4, 4)).round(1)
    value[rng.random((4, 4)) < 0.2] = np.nan
    value[:, 0] = 0.5
    totals = knapsack.solve(value, cost)
    all_choices = []
    for pick in itertools.product(range(4), repeat=4):
        v, c = (x[range(4), pick] for x in (value, cost))
        if not np.isnan(v).any():
            all_choices.append((c.sum(), v.sum()))

    for budget in np.linspace(0, 4, 41):
        within = [v for c, v in all_choices if c <= budget + 1e-12]
        place = totals.best(float(budget))
        assert (place is None) == (not within)
        if place is not None:
            assert totals.value[place] == pytest.approx(max(within))
            picked = totals.options(place)
            assert value[range(4), picked].sum() == pytest.approx(totals.value[place])
            assert cost[range(4), picked].sum() == pytest.approx(totals.cost[place])


def test_the_published_assignment():
    """û = [[.9, .95], [.4, .8], [.2, .9]], c = (1, 10): 1.5 within 3, 2.2 within 12, item 3 to the
    large one."""
    totals = knapsack.solve(
        np.array([[0.9, 0.95], [0.4, 0.8], [0.2, 0.9]]), np.tile([1.0, 10.0], (3, 1))
    )

    assert totals.value[totals.best(3)] == pytest.approx(1.5)
    assert totals.value[totals.best(12)] == pytest.approx(2.2)
    assert totals.options(totals.best(12)).tolist() == [0, 0, 1]
    assert totals.best(2.9) is None


def test_the_knapsack_refuses_what_it_cannot_do():
    """A group without options, and more totals than can be listed, are errors that say so."""
    with pytest.raises(AnalysisError, match="no option"):
        knapsack.solve(np.array([[np.nan, 0.5]]), np.array([[1.0, np.nan]]))
    rng = np.random.default_rng(0)
    cost = rng.random((40, 60))
    with pytest.raises(AnalysisError, match="fewer groups"):
        knapsack.solve(cost * 2 + rng.random((40, 60)) * 1e-3, cost)


def test_one_price_is_the_best_choice_at_its_cost():
    """What a price chooses is an unbeaten total of the exact solution; equal merits go to the
    cheaper."""
    rng = np.random.default_rng(1)
    value, cost = rng.random((6, 3)), rng.random((6, 3))
    totals = knapsack.solve(value, cost)
    for price in (0.0, 0.3, 1.0, 4.0, np.inf):
        chosen = knapsack.by_price(value, cost, price)
        c, v = (x[range(6), chosen].sum() for x in (cost, value))
        assert totals.value[totals.best(c)] == pytest.approx(v) or price == np.inf
    assert knapsack.by_price(np.array([[0.5, 0.5]]), np.array([2.0, 1.0]), 0.0).tolist() == [1]

    within = knapsack.within(value, cost, 2.0)
    assert cost[range(6), within].sum() / 6 <= 2.0
    assert knapsack.within(value, cost, 1e-6) is None


# --- allocation ---


def traces(rights: dict[str, list[list[int]]], costs: dict[str, float]) -> pl.DataFrame:
    """Outcomes per group: a list per item, of its trials."""
    rows = [
        {
            "configuration": g,
            "task": "t",
            "item_id": f"{i:03}",
            "trial": k,
            "passed": bool(r),
            "cost_usd": costs[g],
        }
        for g, items in rights.items()
        for i, trials in enumerate(items)
        for k, r in enumerate(trials)
    ]
    return pl.DataFrame(rows)


def test_quintiles_of_the_worked_example():
    """p = (0, .02, .1, .15, .3, .35, .5, .62, .8, .97) → bins 1,1,2,2,3,3,4,4,5,5."""
    p = np.array([0, 0.02, 0.1, 0.15, 0.3, 0.35, 0.5, 0.62, 0.8, 0.97])

    bins, names = quantile_bins(p, 5)

    assert (bins + 1).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert names[0] == "0 to 0.02"
    assert quantile_bins(np.zeros(4), 5)[0].tolist() == [0, 0, 0, 0]
    assert quantile_bins(p, 1)[0].tolist() == [0] * 10


def test_hard_items_get_the_dear_option_and_easy_ones_the_cheap_one():
    """Cheap solves the easy half, dear solves all: half the price of dear buys everything."""
    cheap = [[i % 2] * 4 for i in range(40)]
    frame_ = traces({"cheap": cheap, "dear": [[1]] * 40}, {"cheap": 1.0, "dear": 9.0})

    result = analysis.allocation(frame_, budget=5.0)

    row = result.frame.row(0, named=True)
    assert (row["rate"], row["cost"], row["single_rate"], row["single"]) == (1, 5, 0.5, "cheap")
    assert row["gain"] == pytest.approx(0.5)
    plan = result.more["plan"]
    assert plan["choice"].to_list() == ["dear", "cheap"]
    assert plan["of"].to_list() == ["0", "1"]


def test_what_was_chosen_by_luck_does_not_hold():
    """Options that are all coin tosses promise a gain on the same items and have none on new
    ones."""
    rng = np.random.default_rng(0)
    rights = {f"g{j}": [[int(x)] for x in rng.random(400) < 0.5] for j in range(8)}
    rights["base"] = [[int(x) for x in row] for row in rng.random((400, 4)) < 0.5]
    frame_ = traces(rights, dict.fromkeys(rights, 1.0))

    row = analysis.allocation(frame_, base="base", budget=1.0).frame.row(0, named=True)

    assert row["promised"] > 0.54
    assert row["rate_low"] <= 0.5 <= row["rate_high"]
    assert row["gain_low"] <= 0 <= row["gain_high"]


def test_luck_of_the_base_does_not_count_twice():
    """A coin tossed for every trial has no hard items: its rate in the bins is of other trials."""
    rng = np.random.default_rng(1)
    coin = [[int(x) for x in row] for row in rng.random((600, 2)) < 0.5]

    result = analysis.allocation(traces({"coin": coin}, {"coin": 1.0}), budget=1.0)

    bins = result.more["bins"]
    assert bins["of"].to_list() == ["0", "1"]
    assert bins["bin_rate"].to_list() == pytest.approx([0.5, 0.5], abs=0.07)


def test_a_base_of_single_trials_is_no_option():
    """It grades the items, and the note says why it is not among the options."""
    frame_ = traces({"a": [[0], [1]] * 10, "b": [[1]] * 20}, {"a": 1.0, "b": 2.0})

    result = analysis.allocation(frame_)

    assert set(result.more["bins"]["option"]) == {"b"}
    assert "it is no option itself" in " ".join(result.notes)


def test_bins_by_a_column_and_budgets_in_tokens():
    """Other groups of items than difficulty; a budget in another unit; too small a budget has no
    plan."""
    frame_ = traces({"a": [[1], [0]] * 10, "b": [[0], [1]] * 10}, {"a": 1.0, "b": 1.0})
    frame_ = frame_.with_columns(
        cluster=pl.when(pl.col("item_id").cast(pl.Int64) % 2 == 0)
        .then(pl.lit("even"))
        .otherwise(pl.lit("odd")),
        output_tokens=pl.lit(50),
    )

    result = analysis.allocation(
        frame_.with_columns(kind="cluster").drop("cluster"),
        over="kind",
        cost="output_tokens",
        budget=50,
    )
    small = analysis.allocation(frame_, over="cluster", cost="output_tokens", budget=49)

    assert result.frame["rate"].to_list() == [1]
    assert result.frame["single_rate"].to_list()[0] <= 0.5
    assert result.more["plan"]["choice"].to_list() == ["a", "b"]
    assert result["budget"].unit == "tokens"
    assert small.frame.select("rate", "promised", "single").row(0) == (None, None, None)
    with pytest.raises(AnalysisError, match="kind"):
        analysis.allocation(frame_, over="kind")
    with pytest.raises(AnalysisError, match="base"):
        analysis.allocation(frame_, base="nobody")


def test_allocation_does_not_depend_on_the_order_or_the_engine():
    """Shuffled rows and DuckDB give the same table; the default budgets span the options."""
    rng = np.random.default_rng(2)
    rights = {
        g: [[int(x) for x in row] for row in rng.random((60, 4)) < p]
        for g, p in (("a", 0.3), ("b", 0.6))
    }
    frame_ = traces(rights, {"a": 1.0, "b": 3.0})
    connection = duckdb.connect()
    connection.register("facts", frame_.to_arrow())

    one = analysis.allocation(frame_)
    shuffled = analysis.allocation(frame_.sample(fraction=1, shuffle=True, seed=3))
    inside = analysis.allocation(connection.table("facts"))

    polars.testing.assert_frame_equal(one.frame, shuffled.frame)
    polars.testing.assert_frame_equal(one.frame, inside.frame)
    assert (one.frame["budget"][0], one.frame["budget"][-1]) == (1.0, 3.0)
    assert one.frame["promised"].is_sorted()
