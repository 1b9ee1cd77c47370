"""Unified cost and economics: published and hand-made figures, unknown prices, caps, break-even,
references."""

import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.errors import AnalysisError


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- unified cost ---

USES = {
    "configuration": pl.String,
    "item_id": pl.String,
    "trace_id": pl.String,
    "tool": pl.String,
    "cost_usd": pl.Float64,
    "trace_cost_usd": pl.Float64,
    "passed": pl.Boolean,
    "score": pl.Float64,
    "trace_error_type": pl.String,
    "task": pl.String,
    "task_id": pl.String,
    "trial": pl.Int64,
}


def uses(
    item: str, tools: list[str | None], cost: float | None, passed: bool | None = True, **more
):
    """Rows of tool_uses of one trace: a row per tool, one without a tool if there is none."""
    named = {
        "configuration": "a",
        "item_id": item,
        "trace_id": f"{more.get('configuration', 'a')}{item}",
    }
    named |= {"trace_cost_usd": cost, "passed": passed, "task": "t", "task_id": "t", "trial": 0}
    return [named | {"tool": tool} | more for tool in tools or [None]]


def used(*traces: list[dict]) -> pl.DataFrame:
    """A frame of tool_uses."""
    rows = [dict.fromkeys(USES) | r for t in traces for r in t]
    return pl.DataFrame(rows, schema=USES)


def test_tokens_and_tools_of_one_question():
    """12k in at 1.25, 3k out at 10 $/M, 10 searches at .001, 4 browses at .002: 6.3 cents."""
    tokens = (12_000 * 1.25 + 3_000 * 10) / 1e6
    frame = used(uses("1", ["search"] * 10 + ["browse"] * 4, tokens))

    found = row(analysis.unified_cost(frame, prices="search=0.001, browse=0.002"))

    assert found["unified_cost_usd"] == pytest.approx(0.063)
    assert found["token_cost_usd"] == pytest.approx(0.045)
    assert found["tool_cost_usd"] == pytest.approx(0.018)
    assert found["calls_per_trace"] == 14


def test_cost_per_right_answer_of_a_published_pair():
    """9.9 c at 12.6 % is 78.57 c a right answer, 6.8 c at 12.8 % is 53.13 c; 31.3 % lower per
    question."""
    frame = used(
        *[
            uses(str(i), [], cost, i < right, configuration=name)
            for name, cost, right in (("react", 0.099, 126), ("tracker", 0.068, 128))
            for i in range(1000)
        ]
    )
    result = analysis.unified_cost(frame, resamples=200)

    react, tracker = row(result, "react"), row(result, "tracker")
    assert react["unified_per_pass_usd"] == pytest.approx(0.7857, abs=5e-5)
    assert tracker["unified_per_pass_usd"] == pytest.approx(0.5313, abs=6e-5)
    saved = 1 - tracker["unified_cost_usd"] / react["unified_cost_usd"]
    assert saved == pytest.approx(0.3131, abs=5e-5)


def test_prices_by_name_then_as_charged_then_for_all_others_then_unknown():
    """No tool is free by default: an unpriced one leaves its trace without a unified cost."""
    frame = used(
        uses("1", ["search"], 1.0, cost_usd=0.5),
        uses("2", ["python"], 1.0, cost_usd=0.25),
        uses("3", ["odd"], 1.0),
        uses("4", [], 1.0),
        uses("5", [], None),
        uses("6", ["search", "odd"], 1.0),
    )

    known = analysis.unified_cost(frame, prices="search=0.125")
    priced = analysis.unified_cost(frame, prices="search=0.125", tool_usd=2.0)

    assert (row(known)["n"], row(known)["n_priced"]) == (6, 3)
    assert row(known)["unified_cost_usd"] == pytest.approx((1.125 + 1.25 + 1) / 3)
    assert known.dropped == {"traces whose tokens or tools are not all priced": 3}
    assert any("tool_usd" in note for note in known.notes)
    assert row(priced)["unified_cost_usd"] == pytest.approx((1.125 + 1.25 + 3 + 1 + 3.125) / 5)
    parts = row(priced)["token_cost_usd"] + row(priced)["tool_cost_usd"]
    assert parts == pytest.approx(row(priced)["unified_cost_usd"])


def test_caps_are_replayed_against_a_plain_count():
    """Beyond the cap: wrong, tokens in full, tools in proportion."""
    rng = np.random.default_rng(1)
    plain = [
        (int(rng.integers(0, 6)), float(rng.uniform(1, 2)), bool(rng.random() < 0.5))
        for _ in range(40)
    ]
    frame = used(*[uses(str(i), ["t"] * n, cost, ok) for i, (n, cost, ok) in enumerate(plain)])

    budgets = analysis.unified_cost(frame, tool_usd=0.5, resamples=100).more["budgets"]

    assert budgets["budget_calls"].to_list() == list(range(max(n for n, _, _ in plain) + 1))
    for r in budgets.rows(named=True):
        cap = r["budget_calls"]
        right = np.mean([ok and n <= cap for n, _, ok in plain])
        cost = np.mean([c + 0.5 * min(n, cap) for n, c, _ in plain])
        assert r["within"] == pytest.approx(np.mean([n <= cap for n, _, _ in plain]))
        assert r["rate_at_least"] == pytest.approx(right)
        assert r["cost_at_most_usd"] == pytest.approx(cost)
        assert r["per_pass_at_most_usd"] == pytest.approx(cost / right if right else math.inf)
    assert budgets["rate_at_least"].is_sorted()
    assert budgets["cost_at_most_usd"].is_sorted()


def test_many_calls_have_a_dozen_caps():
    """Even in the logarithm, the largest among them."""
    frame = used(uses("1", ["t"] * 300, 1.0), uses("2", [], 1.0))
    caps = analysis.unified_cost(frame, tool_usd=0.1).more["budgets"]["budget_calls"].to_list()
    assert len(caps) <= 12
    assert (caps[0], caps[-1]) == (0, 300)


def test_traces_know_only_how_many_calls():
    """One price for all of them; prices by name are not used, and that is said."""
    frame = facts(trace("a", "1", True, n_tool_calls=4), trace("a", "2", True, n_tool_calls=0))

    result = analysis.unified_cost(frame, tool_usd=0.25, prices="search=1")

    assert row(result)["unified_cost_usd"] == pytest.approx((0.5 + 1 + 0.5) / 2)
    assert any("tool_uses" in note for note in result.notes)
    alone = analysis.unified_cost(frame.head(1))
    assert row(alone)["unified_cost_usd"] is None
    assert row(alone)["n_priced"] == 0


def test_trials_weigh_within_their_item_and_failed_ones_are_left_out():
    """Mean of items' means; a failed trace counts nowhere."""
    frame = used(
        uses("1", [], 1.0),
        uses("1", [], 3.0, trace_id="a1b", trial=1),
        uses("2", [], 5.0),
        uses("3", [], 9.0, None, trace_error_type="timeout"),
    )
    result = analysis.unified_cost(frame)
    assert row(result)["unified_cost_usd"] == pytest.approx((2 + 5) / 2)
    assert result.dropped == {"failed traces": 1}


@pytest.mark.parametrize("prices", ["search", "search=", "=1", "search=free", "search=-1", "a=nan"])
def test_a_wrong_price_is_told(prices):
    """The piece that is not understood is named."""
    with pytest.raises(AnalysisError, match="option prices"):
        analysis.unified_cost(used(uses("1", [], 1.0)), prices=prices)


# --- economics ---


def test_earnings_of_three_jobs():
    """Prices 100, 250, 400; passed, failed, passed: 500 earned, rate and share two thirds."""
    jobs = (("1", 100, True), ("2", 250, False), ("3", 400, True))
    frame = facts(*[trace("a", i, ok, value_usd=p) for i, p, ok in jobs])

    found = row(analysis.economics(frame))

    assert found["total_earnings_usd"] == pytest.approx(500)
    assert found["total_value_usd"] == 750
    assert found["rate"] == pytest.approx(2 / 3)
    assert found["earnings_share"] == pytest.approx(2 / 3)


def test_partial_passes_earn_nothing_unless_the_score_is_asked_for():
    """As in SWE-Lancer; the score pays in part."""
    frame = facts(trace("a", "1", False, value_usd=100.0, score=0.4))
    assert row(analysis.economics(frame))["total_earnings_usd"] == 0
    assert row(analysis.economics(frame, outcome="score"))["total_earnings_usd"] == pytest.approx(
        40
    )


def test_break_even_of_a_delivery_robot():
    """CAPEX 13,000, revenue 3.49, OPEX 2.00 a run: 8,724.83 runs."""
    frame = facts(*[trace("a", str(i), True, cost_usd=2.0) for i in range(3)])

    found = row(analysis.economics(frame, value_usd=3.49, fixed_usd=13_000))

    assert found["margin_usd"] == pytest.approx(1.49)
    assert found["break_even_runs"] == pytest.approx(8724.83, abs=5e-3)


@pytest.mark.parametrize("opex", [45.5743, 38.9482, 30.8490, 3.49])
def test_a_run_that_leaves_nothing_is_never_paid_back(opex):
    """The published operating costs against 3.49 a run, and just as much: infinite, never
    negative."""
    frame = facts(*[trace("a", str(i), True, cost_usd=opex) for i in range(3)])

    found = row(analysis.economics(frame, value_usd=3.49, fixed_usd=13_000))

    assert found["margin_usd"] == pytest.approx(3.49 - opex, abs=1e-12)
    assert found["break_even_runs"] == math.inf
    no_fixed = row(analysis.economics(frame, value_usd=3.49))
    assert no_fixed["break_even_runs"] is None


def test_the_margin_counts_what_a_run_and_a_wrong_answer_cost():
    """value·p − tokens − other − wrong·(1 − p), against plain arithmetic."""
    frame = facts(*[trace("a", str(i), i < 3, cost_usd=0.1 * i) for i in range(4)])

    found = row(analysis.economics(frame, value_usd=2.0, other_usd=0.25, wrong_usd=4.0))

    assert found["revenue_usd"] == pytest.approx(1.5)
    assert found["run_cost_usd"] == pytest.approx(0.15 + 0.25 + 1.0)
    assert found["margin_usd"] == pytest.approx(1.5 - 1.4)
    assert found["margin_usd_low"] < found["margin_usd"] < found["margin_usd_high"]


def test_cost_aware_success_of_three_simulations():
    """(passed, 100, 50) → 2; (passed, 100, 400) → .25; (failed, 100, 10) → 0: mean .75."""
    runs = (("1", True, 50.0), ("2", True, 400.0), ("3", False, 10.0))
    frame = facts(
        *[trace("a", i, ok, cost_usd=c) for i, ok, c in runs],
        *[trace("scan", i, True, cost_usd=100.0) for i, _, _ in runs],
    )

    result = analysis.economics(frame, against="scan")

    assert row(result)["cost_aware_success"] == pytest.approx(0.75)
    assert row(result, "scan")["cost_aware_success"] == pytest.approx(1)
    assert row(result)["n_referenced"] == 3


def test_the_expert_is_the_reference_where_no_group_is_named():
    """What a human charges for the item; items without it do not count."""
    frame = facts(
        trace("a", "1", True, cost_usd=0.5, human_cost_usd=2.0),
        trace("a", "2", True, cost_usd=0.5),
        trace("a", "3", False, cost_usd=0.0, human_cost_usd=2.0),
    )
    found = row(analysis.economics(frame))
    assert (found["n_referenced"], found["cost_aware_success"]) == (2, pytest.approx((4 + 0) / 2))


def test_what_is_unknown_stays_unknown():
    """No value, no price, no reference: null, counted and said; the accuracy stands."""
    frame = facts(trace("a", "1", True, cost_usd=None), trace("a", "2", False, cost_usd=None))

    result = analysis.economics(frame)

    found = row(result)
    assert found["rate"] == 0.5
    assert all(
        found[c] is None
        for c in ("total_earnings_usd", "margin_usd", "break_even_runs", "cost_aware_success")
    )
    assert (found["n_valued"], found["n_referenced"]) == (0, 0)
    assert result.dropped["traces without a value, left out of what is earned"] == 2
    assert result.dropped["traces without a cost, left out of the cost-aware success"] == 2
    assert any("value_usd" in note for note in result.notes)


def test_failed_runs_may_count_as_wrong():
    """They earn nothing then, and cost what they cost."""
    frame = facts(
        trace("a", "1", True, cost_usd=1.0),
        trace("a", "2", None, cost_usd=1.0, error_type="timeout"),
    )
    assert row(analysis.economics(frame, value_usd=4.0))["margin_usd"] == pytest.approx(3)
    counted = row(analysis.economics(frame, value_usd=4.0, errors_as_wrong=True))
    assert counted["margin_usd"] == pytest.approx((3 - 1) / 2)


def test_money_scales_with_its_unit():
    """Cents for dollars: sums times a hundred, shares and runs as they were."""
    rng = np.random.default_rng(4)
    frame = facts(
        *[
            trace(
                "a",
                str(i),
                bool(rng.random() < 0.7),
                cost_usd=rng.uniform(0, 1),
                value_usd=rng.uniform(1, 3),
            )
            for i in range(25)
        ]
    )
    one = analysis.economics(frame, fixed_usd=10.0).frame
    cents = frame.with_columns(pl.col("cost_usd", "value_usd") * 100)
    two = analysis.economics(cents, fixed_usd=1000.0).frame

    money = [c for c in one.columns if "_usd" in c]
    pl.testing.assert_frame_equal(two, one.with_columns(pl.col(money) * 100))


def test_the_interval_of_the_margin_covers_the_truth():
    """Nominal 90 % over 200 simulated benchmarks of 50 items, to 5 points."""
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        frame = pl.DataFrame(
            {
                "configuration": "a",
                "item_id": [str(i) for i in range(50)],
                "passed": rng.random(50) < 0.4,
                "cost_usd": rng.gamma(2, 0.05, 50),
                "value_usd": 1.0,
            }
        )
        found = row(analysis.economics(frame, level=0.9, resamples=300))
        hits += found["margin_usd_low"] <= 0.4 - 0.1 <= found["margin_usd_high"]
    assert hits / 200 == pytest.approx(0.9, abs=0.05)


def test_a_reference_that_is_no_group_is_told():
    """The nearest name is offered."""
    with pytest.raises(AnalysisError, match="unknown group for against"):
        analysis.economics(facts(trace("a", "1", True)), against="b")
