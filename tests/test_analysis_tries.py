"""Many tries: coverage, voting, verifying; published figures, enumeration, traps."""

import itertools
import json
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from workbench import analysis
from workbench.analysis import resampling, subsets
from workbench.analysis.tries.coverage import power_law
from workbench.schema import TRACE_FACTS

DTYPES = {"text": pl.String, "json": pl.String, "int": pl.Int64, "float": pl.Float64}
DTYPES |= {"bool": pl.Boolean, "time": pl.Datetime("us")}
SCHEMA = {c.name: DTYPES[c.type] for c in TRACE_FACTS.columns}


def facts(*rows: dict) -> pl.DataFrame:
    """Rows of trace_facts; what a row leaves out is unknown."""
    return pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)


def trace(group: str, item: str, passed: bool | None, trial: int = 0, **more) -> dict:
    """One trace of a group on an item."""
    named = {"configuration": group, "model": group, "task": "t", "task_id": "t", "item": item}
    return named | {"item_id": item, "trial": trial, "passed": passed, "cost_usd": 0.5} | more


def trials(group: str, item: str, n: int, right: int, **more) -> list[dict]:
    """`n` trials of which the first few are right."""
    return [trace(group, item, k < right, k, **more) for k in range(n)]


def row(result, **where) -> dict:
    """The one row of the result that fits."""
    return result.frame.filter(**where).row(0, named=True)


@pytest.fixture(scope="module")
def tau(shared_data) -> pl.DataFrame:
    """Fifty airline tasks, four trials each."""
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    return facts(*[
        trace("gpt-4o", str(r["task_id"]), abs(r["reward"] - 1) <= 1e-6, r["trial"]) for r in runs
    ])  # fmt: skip


@pytest.fixture(scope="module")
def game_of_24(shared_data) -> pl.DataFrame:
    """A hundred puzzles, a hundred chains of thought each, with what each puzzle cost."""
    (path,) = (shared_data / "tree_of_thoughts").glob("*.json")
    puzzles = json.loads(path.read_text())
    so_far = [p["usage_so_far"]["cost"] for p in puzzles]
    rows = []
    for p, before in zip(puzzles, [0.0, *so_far], strict=False):
        # The counter starts anew once: then what it shows is what the puzzle cost.
        total = p["usage_so_far"]["cost"]
        cost = (total - before if total >= before else total) / 100
        rows += [
            trace("cot", str(p["idx"]), info["r"] == 1, k, cost_usd=cost, answer=answer)
            for k, (info, answer) in enumerate(zip(p["infos"], p["ys"], strict=True))
        ]
    return facts(*rows)


# --- coverage ---


def test_pass_all_k_of_tau_bench_is_the_published_one(tau):
    """pass^1..4 = .420 .273 .220 .200 and pass@1..4 = .42 .5667 .66 .72, costs k times one."""
    result = analysis.coverage(tau)

    assert result.frame["k"].to_list() == [1, 2, 3, 4]
    assert result.frame["pass_all_k"].to_list() == pytest.approx(
        [0.42, 0.273333, 0.22, 0.2], abs=1e-6
    )
    assert result.frame["pass_at_k"].to_list() == pytest.approx(
        [0.42, 0.566667, 0.66, 0.72], abs=1e-6
    )
    assert result.frame["envelope_gap"].to_list() == pytest.approx(
        [0, 0.293333, 0.44, 0.52], abs=1e-6
    )
    assert result.frame["cost_usd"].to_list() == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert set(result.frame["n_items"]) == {50}
    assert set(result.frame["n"]) == {200}


def test_errors_of_pass_at_k_of_tau_bench(tau):
    """Over tasks .052216, .056745, .064143 for k = 1, 2, 4; bootstrap of pass@1 [.32, .52]."""
    counts = tau.group_by("item_id", maintain_order=True).agg(pl.col("passed").sum())["passed"]
    c = counts.to_numpy().astype(float)
    per_item = np.column_stack([1 - subsets.all_marked(4 - c, 4, k) for k in (1, 2, 4)])

    # Bessel's n − 1, where ours has n.
    errors = per_item.std(axis=0, ddof=1) / math.sqrt(50)
    draws = resampling.resampled_sums(per_item / 50, 20_000, np.random.default_rng(0))
    low, high = resampling.percentile(draws)
    ours = row(analysis.coverage(tau, k=1), k=1)

    assert errors.tolist() == pytest.approx([0.052216, 0.056745, 0.064143], abs=5e-7)
    assert (low[0], high[0]) == pytest.approx((0.32, 0.52), abs=0.0051)
    assert (ours["pass_at_k_low"], ours["pass_at_k_high"]) == pytest.approx((0.32, 0.52), abs=0.02)


def test_game_of_24_is_the_published_one(game_of_24):
    """4.0 % on average, 49 % best of a hundred, $0.47 for the hundred."""
    result = analysis.coverage(game_of_24)

    first, last = row(result, k=1), row(result, k=100)
    assert round(100 * first["pass_at_k"], 1) == 4.0
    assert last["pass_at_k"] == pytest.approx(0.49)
    assert last["pass_all_k"] == 0
    assert round(last["cost_usd"], 2) == 0.47
    assert result.frame.height == len(subsets.sizes(100)) <= 25
    assert result.frame["pass_at_k"].is_sorted()


@pytest.mark.parametrize(
    ("k", "at_k", "all_k"),
    [(1, 0.3, 0.3), (2, 0.533333, 0.066667), (3, None, 0.008333), (4, None, 0.0), (5, 0.916667, 0.0), (7, 0.991667, 0.0), (8, 1.0, 0.0)],
)  # fmt: skip
def test_three_of_ten(k, at_k, all_k):
    """pass@k and pass^k of n = 10, c = 3; the plug-in would be .83193 at 5."""
    result = row(analysis.coverage(facts(*trials("a", "1", 10, 3))), k=k)

    assert result["pass_all_k"] == pytest.approx(all_k, abs=1e-6)
    if at_k is not None:
        assert result["pass_at_k"] == pytest.approx(at_k, abs=1e-6)
    if k == 5:
        assert result["pass_at_k"] > 1 - 0.7**5 == pytest.approx(0.83193)


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 2), (6, 6), (7, 0)])
def test_coverage_equals_listing_all_subsets(n, c):
    """Every subset of every size, by hand."""
    passed = [i < c for i in range(n)]
    for k in range(1, n + 1):
        subsets_of_k = list(itertools.combinations(passed, k))
        one = sum(map(any, subsets_of_k)) / len(subsets_of_k)
        every = sum(map(all, subsets_of_k)) / len(subsets_of_k)

        assert 1 - subsets.all_marked(n - c, n, k) == pytest.approx(one)
        assert subsets.all_marked(c, n, k) == pytest.approx(every)


def test_large_counts_agree_with_exact_binomials():
    """Ten thousand trials: Python's whole numbers give the same."""
    for c, k in ((3, 5000), (9000, 4), (9990, 7000)):
        exact = math.comb(c, k) / math.comb(10_000, k)
        assert subsets.all_marked(c, 10_000, k) == pytest.approx(exact, rel=1e-10)


def test_a_k_beyond_the_trials_is_unknown():
    """Never clipped: fewer trials than k give no value."""
    assert np.isnan(subsets.all_marked([1, 2], [3, np.nan], 4)).all()


def test_unequal_trials_use_one_set_of_items_throughout():
    """By default the fewest trials end the curve; with k given short items are left out and told."""
    frame = facts(*trials("a", "1", 4, 2), *trials("a", "2", 4, 0), *trials("a", "3", 1, 1))

    short, long = analysis.coverage(frame), analysis.coverage(frame, k=3)

    assert short.frame["k"].to_list() == [1]
    assert row(short, k=1)["n_items"] == 3
    assert any("ends at k = 1" in note for note in short.notes)
    assert long.frame["k"].to_list() == [1, 2, 3]
    assert set(long.frame["n_items"]) == {2}
    assert long.dropped == {"items with fewer trials than attempts asked for, per group": 1}
    assert row(long, k=1)["pass_at_k"] == pytest.approx(0.25)
    none = analysis.coverage(frame, k=9)
    assert none.frame.height == 0
    assert any("no item of a" in note for note in none.notes)


def test_zero_successes_keep_an_upper_bound():
    """Nothing passed in 20 items: 0 with a Wilson bound above it, no law, no error."""
    frame = facts(*[t for i in range(20) for t in trials("a", str(i), 4, 0)])

    result = analysis.coverage(frame, far_k=50)

    last = row(result, k=4)
    assert (last["pass_at_k"], last["pass_at_k_low"]) == (0, 0)
    assert last["pass_at_k_high"] == pytest.approx(0.16113, abs=1e-4)  # 20 clusters, not 80 trials
    assert result.more["fit"].select("a", "b", "far_pass_at_k").row(0) == (None, None, None)


def test_all_right_and_a_single_item():
    """All equal: both rates 1 and no gap; one item: no interval at all."""
    whole = analysis.coverage(facts(*[t for i in "1234" for t in trials("a", i, 3, 3)]))
    single = analysis.coverage(facts(*trials("a", "1", 3, 1)))

    last = row(whole, k=3)
    assert (last["pass_at_k"], last["pass_all_k"], last["envelope_gap"]) == (1, 1, 0)
    assert last["envelope_gap_low"] is None
    assert [row(single, k=2)[f"pass_at_k_{e}"] for e in ("low", "high")] == [None, None]


def test_failed_unscored_and_unpriced_traces_are_told():
    """A timeout is no failure of the answer unless asked; an unpriced trace has no cost."""
    frame = facts(
        *trials("a", "1", 2, 1), *trials("a", "2", 2, 2),
        trace("a", "1", None, 2, error_type="timeout"), trace("a", "2", None, 2),
        trace("a", "2", False, 3, cost_usd=None),
    )  # fmt: skip

    plain, wrong = analysis.coverage(frame), analysis.coverage(frame, errors_as_wrong=True)

    assert row(plain, k=1)["pass_at_k"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert row(wrong, k=1)["pass_at_k"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert row(plain, k=2)["cost_usd"] == pytest.approx(1.0)
    assert plain.dropped == {
        "failed traces": 1, "unscored traces": 1, "traces without a cost, left out of the cost": 1,
    }  # fmt: skip


def test_an_unknown_cost_is_null():
    """A group that nobody priced costs null, never 0."""
    result = analysis.coverage(facts(*trials("a", "1", 2, 1, cost_usd=None)))

    assert result.frame["cost_usd"].to_list() == [None, None]


def test_groups_come_best_first_and_tasks_apart():
    """Order by the first attempt; a curve per task where tasks are told apart."""
    other = {"task": "u", "task_id": "u"}
    frame = facts(
        *trials("a", "1", 3, 1), *trials("b", "1", 3, 2),
        *trials("a", "9", 2, 2, **other), *trials("b", "9", 2, 1, **other),
    )  # fmt: skip

    result = analysis.coverage(frame, by=("configuration", "task"))

    order = result.frame.select("task", "configuration").unique(maintain_order=True).rows()
    assert order == [("t", "b"), ("t", "a"), ("u", "a"), ("u", "b")]
    assert row(result, task="u", configuration="b", k=2)["pass_at_k"] == 1


def test_the_power_law_is_recovered():
    """exp(−2 k^−0.4) at 1, 10, 100, 1000 gives a = −2 and b = −.4; SciPy's fit agrees."""
    from scipy import optimize

    k = np.array([1, 10, 100, 1000])
    c = np.exp(-2 * k**-0.4)
    assert c.tolist() == pytest.approx([0.135335, 0.451033, 0.728346, 0.881446], abs=5e-7)

    a, b = power_law(k.tolist(), c)
    other, _ = optimize.curve_fit(lambda x, a, b: np.exp(a * x**b), k, c, p0=(math.log(c[0]), -0.3))
    with_ends = power_law([1, 10, 100, 1000, 5000], np.append(c, 1.0))

    assert (float(a), float(b)) == pytest.approx((-2, -0.4))
    assert other.tolist() == pytest.approx([-2, -0.4], abs=1e-5)
    assert [float(x) for x in with_ends] == pytest.approx((-2, -0.4))  # what reached 1 is left out
    assert np.isnan(power_law([1, 2], c[:2])[0])


def test_extrapolation_carries_its_uncertainty(game_of_24):
    """From the first 10 of a hundred attempts per puzzle the law's interval at 10 holds the curve."""
    result = analysis.coverage(game_of_24, k=10, far_k=10)

    fit = result.more["fit"].row(0, named=True)
    assert fit["b"] < 0 < fit["far_pass_at_k_low"]
    assert fit["far_pass_at_k_low"] < row(result, k=10)["pass_at_k"] < fit["far_pass_at_k_high"]
    assert fit["fit_error"] < 0.01


def test_costs_scale_and_doubled_trials_leave_the_first_attempt():
    """Twice the price is twice the cost and no more; the same trials twice leave pass@1 alone."""
    rng = np.random.default_rng(0)
    frame = facts(*[t for i in range(9) for t in trials("a", str(i), 3, int(rng.integers(0, 4)))])

    plain = analysis.coverage(frame)
    dear = analysis.coverage(frame.with_columns(pl.col("cost_usd") * 2))

    pl.testing.assert_frame_equal(dear.frame, plain.frame.with_columns(pl.col("cost_usd") * 2))
    doubled = analysis.coverage(pl.concat([frame, frame]))
    assert row(doubled, k=1)["pass_at_k"] == pytest.approx(row(plain, k=1)["pass_at_k"])


def test_intervals_of_pass_at_2_cover_the_truth():
    """1,000 simulated studies of 60 items with 4 trials: 95 % intervals hold it within 2 points."""
    rng = np.random.default_rng(7)
    truth = 1 - (0.5 * 0.4**2 + 0.5 * 0.9**2)  # half the items at .6, half at .1
    c = rng.binomial(4, rng.choice([0.6, 0.1], (1000, 60)))
    study, item, passed = np.broadcast_arrays(
        np.arange(1000)[:, None, None], np.arange(60)[None, :, None], np.arange(4) < c[..., None]
    )
    frame = pl.DataFrame({
        "configuration": study.ravel(), "item_id": item.ravel(), "passed": passed.ravel()
    })  # fmt: skip

    found = analysis.coverage(frame, k=2).frame.filter(k=2)

    inside = (found["pass_at_k_low"] <= truth) & (truth <= found["pass_at_k_high"])
    assert found.height == 1000
    assert 0.93 <= inside.mean() <= 0.97
