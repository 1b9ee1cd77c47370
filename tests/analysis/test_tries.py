"""Many tries: coverage, voting, verifying; published figures, enumeration, traps."""

import itertools
import json
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts
from workbench import analysis
from workbench.analysis.families.sampling import verifier_ceiling
from workbench.analysis.families.sampling.coverage import power_law
from workbench.analysis.stats import pass_at_k, resampling


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
    return facts(
        *[
            trace("gpt-4o", str(r["task_id"]), abs(r["reward"] - 1) <= 1e-6, r["trial"])
            for r in runs
        ]
    )


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
    per_item = np.column_stack([pass_at_k.pass_at_k(c, 4, k) for k in (1, 2, 4)])

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
    assert result.frame.height == len(pass_at_k.curve_sizes(100)) <= 25
    assert result.frame["pass_at_k"].is_sorted()


@pytest.mark.parametrize(
    ("k", "at_k", "all_k"),
    [
        (1, 0.3, 0.3),
        (2, 0.533333, 0.066667),
        (3, None, 0.008333),
        (4, None, 0.0),
        (5, 0.916667, 0.0),
        (7, 0.991667, 0.0),
        (8, 1.0, 0.0),
    ],
)
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

        assert pass_at_k.pass_at_k(c, n, k) == pytest.approx(one)
        assert pass_at_k.pass_all_k(c, n, k) == pytest.approx(every)


def test_large_counts_agree_with_exact_binomials():
    """Ten thousand trials: Python's whole numbers give the same."""
    for c, k in ((3, 5000), (9000, 4), (9990, 7000)):
        exact = math.comb(c, k) / math.comb(10_000, k)
        assert pass_at_k.pass_all_k(c, 10_000, k) == pytest.approx(exact, rel=1e-10)


def test_a_k_beyond_the_trials_is_unknown():
    """Never clipped: fewer trials than k give no value."""
    assert np.isnan(pass_at_k.pass_all_k([1, 2], [3, np.nan], 4)).all()


def test_unequal_trials_use_one_set_of_items_throughout():
    """By default one item in three ends the curve; with k given short items are left out and
    told."""
    frame = facts(*trials("a", "1", 4, 2), *trials("a", "2", 4, 0), *trials("a", "3", 1, 1))

    short, long = analysis.coverage(frame), analysis.coverage(frame, k=3)

    assert short.frame["k"].to_list() == [1]
    assert row(short, k=1)["n_items"] == 3
    assert any("a at k = 1" in note for note in short.notes)
    assert long.frame["k"].to_list() == [1, 2, 3]
    assert set(long.frame["n_items"]) == {2}
    assert long.dropped == {"items with fewer trials than the curve has attempts, per group": 1}
    assert row(long, k=1)["pass_at_k"] == pytest.approx(0.25)
    none = analysis.coverage(frame, k=9)
    assert none.frame.height == 0
    assert any("no item has that many trials: a" in note for note in none.notes)


def test_a_few_short_items_do_not_cost_the_curve():
    """One item in twenty lost a trial: the curve keeps its length, the item is left out and
    told."""
    frame = facts(*[t for i in range(20) for t in trials("a", str(i), 3 if i else 2, 1)])

    result = analysis.coverage(frame)

    assert result.frame["k"].to_list() == [1, 2, 3]
    assert set(result.frame["n_items"]) == {19}
    assert result.dropped == {"items with fewer trials than the curve has attempts, per group": 1}


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
        *trials("a", "1", 2, 1),
        *trials("a", "2", 2, 2),
        trace("a", "1", None, 2, error_type="timeout"),
        trace("a", "2", None, 2),
        trace("a", "2", False, 3, cost_usd=None),
    )

    plain, wrong = analysis.coverage(frame), analysis.coverage(frame, errors_as_wrong=True)

    assert row(plain, k=1)["pass_at_k"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert row(wrong, k=1)["pass_at_k"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert row(plain, k=2)["cost_usd"] == pytest.approx(1.0)
    assert plain.dropped == {
        "failed traces": 1,
        "unscored traces": 1,
        "traces without a cost, left out of the cost": 1,
    }


def test_an_unknown_cost_is_null():
    """A group that nobody priced costs null, never 0."""
    result = analysis.coverage(facts(*trials("a", "1", 2, 1, cost_usd=None)))

    assert result.frame["cost_usd"].to_list() == [None, None]


def test_groups_come_best_first_and_tasks_apart():
    """Order by the first attempt; a curve per task where tasks are told apart."""
    other = {"task": "u", "task_id": "u"}
    frame = facts(
        *trials("a", "1", 3, 1),
        *trials("b", "1", 3, 2),
        *trials("a", "9", 2, 2, **other),
        *trials("b", "9", 2, 1, **other),
    )

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
    """From the first 10 of a hundred attempts per puzzle the law's interval at 10 holds the
    curve."""
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
    frame = pl.DataFrame(
        {"configuration": study.ravel(), "item_id": item.ravel(), "passed": passed.ravel()}
    )

    found = analysis.coverage(frame, k=2).frame.filter(k=2)

    inside = (found["pass_at_k_low"] <= truth) & (truth <= found["pass_at_k_high"])
    assert found.height == 1000
    assert 0.93 <= inside.mean() <= 0.97


# --- voting ---


def answers(group: str, item: str, *given: tuple[str | None, bool], **more) -> list[dict]:
    """Trials with their answers."""
    return [
        trace(group, item, right, k, answer=answer, **more)
        for k, (answer, right) in enumerate(given)
    ]


FIVE_THREE_TWO = [("A", True)] * 5 + [("B", False)] * 3 + [("C", False)] * 2


def listed(given: list[tuple[str | None, bool]], k: int) -> tuple[float, float]:
    """Vote and ties over every subset of k, by hand."""
    right = tied = 0.0
    chosen = list(itertools.combinations(given, k))
    for subset in chosen:
        named = [a for a, _ in subset if a]
        tally = {a: named.count(a) for a in named}
        best = [a for a in tally if tally[a] == max(tally.values())]
        share = {a: np.mean([r for b, r in given if b == a]) for a in best}
        right += float(np.mean([share[a] for a in best])) if best else 0.0
        tied += len(best) > 1
    return right / len(chosen), tied / len(chosen)


def test_majority_of_five_three_and_two():
    """maj@1, 2, 3, 5, 7, 10 = .5 .5 .583333 .678571 .833333 1, with ties by lot; pass@k beside
    it."""
    result = analysis.voting(facts(*answers("a", "1", *FIVE_THREE_TWO)))

    expected = {1: 0.5, 2: 0.5, 3: 0.583333, 5: 0.678571, 7: 0.833333, 10: 1.0}
    oracle = {1: 0.5, 2: 0.777778, 3: 0.916667, 5: 0.996032}
    for k, rate in expected.items():
        assert row(result, k=k)["vote_rate"] == pytest.approx(rate, abs=5e-7)
    for k, rate in oracle.items():
        assert row(result, k=k)["oracle_rate"] == pytest.approx(rate, abs=5e-7)
    assert row(result, k=3)["gain"] == pytest.approx(0.083333, abs=5e-7)
    assert row(result, k=3)["cost_usd"] == pytest.approx(1.5)
    assert row(result, k=10)["tie_rate"] == 0


BALLOTS = [
    FIVE_THREE_TWO,
    [("A", True), ("B", False), ("C", False), ("D", False)],
    [("A", True)] * 3 + [("B", False)] * 3 + [(None, False)] * 2,
    [("A", False)] * 4 + [("B", True)] * 2 + [("C", True)] * 2 + [(" ", False)],
    [("A", True), ("A", False), ("B", False), ("B", False), ("C", True)],
    [(None, False)] * 3 + [("A", False)],
    [("A", True)],
]


@pytest.mark.parametrize("given", BALLOTS, ids=str)
def test_votes_equal_listing_all_subsets(given):
    """Every subset of every size by hand: votes, ties and empty answers."""
    result = analysis.voting(facts(*answers("a", "1", *given)))

    plain = [(a if a and a.strip() else None, r) for a, r in given]
    for k in range(1, len(given) + 1):
        found = row(result, k=k)
        expected = listed(plain, k)
        assert (found["vote_rate"], found["tie_rate"]) == pytest.approx(expected, abs=1e-9)


def test_votes_among_many_answers_agree_with_drawing_them():
    """Two hundred trials: a simulation of votes of 60 comes out within its noise."""
    from workbench.analysis.inputs.votes import vote

    rng = np.random.default_rng(0)
    counts, rights, none = [1] * 30 + [5, 20, 31, 34, 50], [0.0] * 34 + [1.0], 30
    given = np.repeat(np.arange(len(counts) + 1), [*counts, none])
    wins = 0.0
    for _ in range(4000):
        tally = np.bincount(rng.choice(given, 60, replace=False), minlength=len(counts) + 1)[:-1]
        best = np.flatnonzero(tally == tally.max())
        wins += (len(counts) - 1 in best) / len(best)

    right, tied = vote(counts, rights, none, [60])

    assert right[0] == pytest.approx(wins / 4000, abs=0.02)
    assert 0 < tied[0] < 0.2


def test_ten_thousand_trials_stay_within_range():
    """No overflow with large counts: the clear favourite wins, an even race is even."""
    from workbench.analysis.inputs.votes import vote

    clear, _ = vote([4000, 6000], [0.0, 1.0], 0, [11, 101])
    even, tied = vote([5000, 5000], [0.0, 1.0], 0, [2, 100])

    assert clear[1] > 0.97 > clear[0] > 0.7
    assert even.tolist() == pytest.approx([0.5, 0.5])
    assert tied[0] == pytest.approx(2 * 5000**2 / (10_000 * 9999))


def test_voting_hurts_where_the_commonest_answer_is_wrong():
    """A right answer that is rare loses by voting: the gain is below 0 and never hidden."""
    frame = facts(
        *[
            t
            for i in "123456"
            for t in answers("a", i, ("A", True), ("B", False), ("B", False), (f"C{i}", False))
        ]
    )

    found = row(analysis.voting(frame), k=4)

    assert (found["vote_rate"], found["single_rate"], found["gain"]) == (0, 0.25, -0.25)
    assert found["oracle_rate"] == 1
    assert found["gain_low"] is None  # no spread


def test_an_unrecorded_answer_is_not_a_wrong_one():
    """Without any answer the vote is null; a right trace without one spoils its item, and is
    told."""
    frame = facts(
        *trials("silent", "1", 3, 2),
        *answers("a", "1", ("A", True), ("A", True), ("B", False)),
        *answers("a", "2", (None, True), ("A", False), ("A", False)),
    )

    result = analysis.voting(frame)

    silent, a = row(result, configuration="silent", k=3), row(result, configuration="a", k=3)
    assert (silent["vote_rate"], silent["oracle_rate"]) == (None, 1)
    assert (a["n_items"], a["vote_rate"]) == (1, 1)
    assert any("no answers of silent" in note for note in result.notes)
    assert result.dropped == {"items with a right trace whose answer is not recorded": 1}
    absent = analysis.voting(frame.drop("answer"))
    assert absent.frame["vote_rate"].null_count() == absent.frame.height > 0


def test_space_around_an_answer_does_not_matter():
    """' 42' and '42 ' vote together."""
    frame = facts(*answers("a", "1", (" 42", True), ("42 ", True), ("7", False)))

    assert row(analysis.voting(frame), k=3)["vote_rate"] == 1


@pytest.mark.parametrize("by", [("answer",), ("item_id",), ("configuration", "task")], ids=str)
def test_voting_by_any_column(by):
    """Even what the vote itself uses names a group."""
    frame = facts(*answers("a", "1", *FIVE_THREE_TWO), *answers("b", "2", *FIVE_THREE_TWO))

    result = analysis.voting(frame, by=by)

    assert result.frame.height > 0
    assert set(result.frame[by[0]]) == set(frame[by[0]])


def weighed_by_hand(given: list[tuple[str | None, bool, float | None]], k: int) -> float:
    """The heaviest answer over every subset of k, ties by lot."""
    won = []
    for subset in itertools.combinations(given, k):
        sums = {}
        for a, _, w in subset:
            if a:
                sums[a] = sums.get(a, 0.0) + (w or 0.0)
        best = [a for a in sums if sums[a] >= max(sums.values()) - 1e-9]
        share = [np.mean([r for b, r, _ in given if b == a]) for a in best]
        won.append(float(np.mean(share)) if best else 0.0)
    return float(np.mean(won))


WEIGHED = {
    "a sure minority outweighs": [
        ("A", True, 0.9),
        ("B", False, 0.2),
        ("B", False, 0.3),
        ("C", False, 0.1),
    ],
    "all alike is a plain vote": [(a, r, 0.5) for a, r in FIVE_THREE_TWO],
    "unscored add nothing": [
        ("A", True, None),
        ("A", True, None),
        ("B", False, 0.1),
        (None, False, 0.9),
    ],
    "scores of zero tie": [
        ("A", True, 0.0),
        ("B", False, 0.0),
        ("B", False, None),
        ("C", True, 0.7),
    ],
    "scores below zero": [
        ("A", True, -1.0),
        ("A", True, -2.0),
        ("B", False, -2.5),
        ("C", False, -0.5),
    ],
    "a scorer at odds": [("A", True, 0.3), ("A", False, 0.3), ("B", False, 0.6), ("B", False, 0.1)],
    "nobody votes": [(None, False, 0.4), (" ", False, 0.5)],
}


@pytest.mark.parametrize("given", WEIGHED.values(), ids=WEIGHED)
def test_weighted_votes_equal_listing_all_subsets(given):
    """argmax over answers of the sum of scores, every subset by hand; beside it the plain vote."""
    frame = facts(
        *[trace("a", "1", r, i, answer=a, verifier_score=w) for i, (a, r, w) in enumerate(given)],
        *answers("other", "1", ("A", True)),
    )

    result = analysis.voting(frame)

    plain = [(a if a and a.strip() else None, r, w) for a, r, w in given]
    voters = any(a for a, _, _ in plain)
    for k in range(1, len(given) + 1):
        found = row(result, configuration="a", k=k)
        expected = weighed_by_hand(plain, k) if voters else None
        assert found["weighted_rate"] == (expected if expected is None else pytest.approx(expected))
        if voters:
            assert found["weighted_gain"] == pytest.approx(expected - found["vote_rate"])
    assert row(result, configuration="other")["weighted_rate"] is None  # nobody weighed its answer
    assert not any("drawn" in note for note in result.notes)


def test_weighted_votes_by_confidence_leave_the_unscored_items_out():
    """The other column weighs where asked; an item without any score has no weighted vote."""
    frame = facts(
        *answers("a", "1", ("A", True), ("B", False), ("B", False)),
        *[
            trace("a", "2", r, i, answer=a, confidence=w)
            for i, (a, r, w) in enumerate([("A", True, 0.9), ("B", False, 0.2), ("B", False, 0.3)])
        ],
    )

    assert row(analysis.voting(frame), k=3)["weighted_rate"] is None
    found = row(analysis.voting(frame, weight="confidence"), k=3)
    assert (found["vote_rate"], found["weighted_rate"], found["weighted_gain"]) == (0, 1, 1)
    assert found["weighted_rate_low"] is None


def test_weighted_votes_of_millions_of_traces_are_left_out_and_that_is_said(monkeypatch):
    """Where there are too many traces to weigh one by one the figure is null, with a note; the rest
    stays."""
    given = WEIGHED["a sure minority outweighs"]
    frame = facts(
        *[trace("a", "1", r, i, answer=a, verifier_score=w) for i, (a, r, w) in enumerate(given)]
    )
    whole = analysis.voting(frame)

    monkeypatch.setattr("workbench.analysis.inputs.weighted_votes.MOST_TRACES", 3)
    result = analysis.voting(frame)

    assert result.frame["weighted_rate"].null_count() == result.frame.height == 4
    assert result.frame["vote_rate"].equals(whole.frame["vote_rate"])
    assert any("narrow the slice" in note for note in result.notes)
    assert not any("narrow the slice" in note for note in whole.notes)


def test_drawn_weighted_votes_agree_with_listing_them():
    """Sixteen trials are too many to list: drawn ones agree with 4,368 subsets of 5, and say so."""
    rng = np.random.default_rng(3)
    rows = []
    for item in range(3):
        given = rng.integers(0, 4, 16)
        rows += [
            trace("a", str(item), bool(g == 0), i, answer=f"{g}", verifier_score=float(w))
            for i, (g, w) in enumerate(zip(given, rng.random(16).round(2), strict=True))
        ]
    frame = facts(*rows)

    result = analysis.voting(frame)

    by_hand = [
        weighed_by_hand(list(zip(i["answer"], i["passed"], i["verifier_score"], strict=True)), 5)
        for _, i in frame.group_by("item_id")
    ]
    assert row(result, k=5)["weighted_rate"] == pytest.approx(np.mean(by_hand), abs=0.03)
    assert row(result, k=16)["weighted_rate"] == pytest.approx(
        np.mean(
            [
                weighed_by_hand(
                    list(zip(i["answer"], i["passed"], i["verifier_score"], strict=True)), 16
                )
                for _, i in frame.group_by("item_id")
            ]
        )
    )
    assert any("drawn" in note for note in result.notes)
    again = analysis.voting(frame.sample(fraction=1, shuffle=True, seed=1))
    assert again.frame.equals(result.frame)


def test_voting_on_the_game_of_24_agrees_with_drawing(game_of_24):
    """The first 25 puzzles, votes of 15: as many votes drawn by lot give the same share."""
    frame = game_of_24.filter(pl.col("item").cast(pl.Int64) < 925)
    found = row(analysis.voting(frame, k=15), k=15)
    rng = np.random.default_rng(0)
    wins = []
    for _, puzzle in sorted(frame.group_by("item_id")):
        texts, right = puzzle["answer"].str.strip_chars().to_list(), puzzle["passed"].to_list()
        for _ in range(200):
            chosen = rng.choice(100, 15, replace=False)
            named = [texts[i] for i in chosen]
            best = max(named.count(t) for t in named)
            top = [i for i, t in zip(chosen, named, strict=True) if named.count(t) == best]
            wins.append(np.mean([right[i] for i in top]))

    assert found["vote_rate"] == pytest.approx(np.mean(wins), abs=0.015)
    assert found["single_rate"] < found["vote_rate"] < found["oracle_rate"]


# --- verifier-ceiling ---


def judged(group: str, item: str, *given: tuple[bool, float | None], **more) -> list[dict]:
    """Trials with what a verifier gave them."""
    return [
        trace(group, item, right, k, verifier_score=score, **more)
        for k, (right, score) in enumerate(given)
    ]


TEN = [(True, 1.0)] * 2 + [(False, 1.0)] + [(False, 0.0)] * 7


@pytest.mark.parametrize(
    "scores",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.integers(-2, 3, n) / 1.0,
        lambda rng, n: 0.5 + 1e-15 * rng.integers(0, 5, n),
        lambda rng, n: rng.choice([np.inf, -0.0, 0.0, -np.inf], n),
    ],
)
@pytest.mark.parametrize("most", [1, 9, 10**7])
def test_the_best_of_each_item_comes_first(scores, most):
    """As by two keys, also where scores differ in their last bits alone, or in the sign of zero."""
    rng = np.random.default_rng(0)
    for n in (0, 1, 60):
        item, score = rng.integers(0, most, n), scores(rng, n)
        order, plain = verifier_ceiling.best_first(item, score), np.lexsort((-score, item))
        assert np.array_equal(item[order], item[plain])
        assert np.array_equal(score[order], score[plain])


def test_first_accepted_of_ten():
    """n = 10, two right and one wrong accepted: .2, .472222, .666667 at k = 1, 3, 10."""
    result = analysis.verifier_ceiling(facts(*judged("a", "1", *TEN)))

    for k, expected in ((1, 0.2), (3, 0.472222), (10, 0.666667)):
        assert row(result, k=k)["accepted_rate"] == pytest.approx(expected, abs=5e-7)
    total = result.more["totals"].row(0, named=True)
    assert (total["ceiling_rate"], total["precision"]) == pytest.approx((2 / 3, 2 / 3))
    assert (total["completeness"], total["soundness"]) == pytest.approx((1, 7 / 8))
    assert row(result, k=10)["abstain_rate"] == pytest.approx(0)


def test_first_accepted_equals_listing_all_orders():
    """Every order of six trials by hand: right, wrong, value, attempts and cost."""
    given = [(True, 0.9), (False, 0.8), (False, 0.6), (True, 0.1), (False, 0.2), (False, 0.0)]
    result = analysis.verifier_ceiling(facts(*judged("a", "1", *given)), penalty=2.0)
    orders = list(itertools.permutations(given))

    for k in range(1, 7):
        firsts = [next((t for t in order[:k] if t[1] >= 0.5), None) for order in orders]
        made = [next((i for i, t in enumerate(order[:k], 1) if t[1] >= 0.5), k) for order in orders]
        right = np.mean([t is not None and t[0] for t in firsts])
        wrong = np.mean([t is not None and not t[0] for t in firsts])
        best = np.mean([max(order[:k], key=lambda t: t[1])[0] for order in orders])
        found = row(result, k=k)
        assert found["accepted_rate"] == pytest.approx(right)
        assert found["wrong_rate"] == pytest.approx(wrong)
        assert found["value"] == pytest.approx(right - 2 * wrong)
        assert found["mean_attempts"] == pytest.approx(np.mean(made))
        assert found["cost_usd"] == pytest.approx(0.5 * np.mean(made))
        assert found["best_rate"] == pytest.approx(best)


def test_best_of_k_of_five():
    """Right and wrong by falling score 0 1 1 0 1: .6 .5 .4 .2 0."""
    given = [(bool(r), 5.0 - i) for i, r in enumerate((0, 1, 1, 0, 1))]

    result = analysis.verifier_ceiling(facts(*judged("a", "1", *given)))

    assert result.frame["best_rate"].to_list() == pytest.approx([0.6, 0.5, 0.4, 0.2, 0])


def test_equal_scores_are_chosen_from_by_lot():
    """If the verifier cannot tell answers apart its choice is as good as any."""
    result = analysis.verifier_ceiling(
        facts(*judged("a", "1", *[(r, 1.0) for r in (True, False, True, False)]))
    )

    assert result.frame["best_rate"].to_list() == pytest.approx([0.5] * 4)
    assert result.frame["accepted_rate"].to_list() == pytest.approx([0.5] * 4)


def test_easy_and_hard_items_with_an_unsound_verifier():
    """r = .87 and .13 in shares .58 and .42, soundness .75, V = −.7: E(1..3), ceilings,
    precision."""
    from workbench.analysis.families.sampling.verifier_ceiling import first_accepted

    n, share = 4e8, np.array([0.58, 0.42])
    right, wrong = n * np.array([0.87, 0.13]), n * np.array([0.0325, 0.2175])
    values = []
    for k in (1, 2, 3, 4):
        a, b = first_accepted(right, wrong, n, k)
        values.append(float(share @ (a - 0.7 * b)))

    assert values[:3] == pytest.approx([0.48206, 0.52387, 0.524567], abs=6e-6)
    assert values[3] < values[2]  # three are best
    assert (right / (right + wrong)).tolist() == pytest.approx([0.963989, 0.374101], abs=5e-7)
    ceiling = share @ np.array(first_accepted(right, wrong, n, 400))[0]
    assert ceiling == pytest.approx(0.716236, abs=5e-7)
    assert share @ right / (share @ (right + wrong)) == pytest.approx(0.835375, abs=5e-7)


def test_the_same_items_as_traces_have_the_same_ceiling_and_best_number():
    """Fifty such items of 400 trials: ceilings, precision, best k of 3, 0 if errors are dear."""
    easy, hard = (348, 13, 39), (52, 87, 261)
    rows = [
        t
        for i in range(50)
        for right, wrong, rejected in [easy if i < 29 else hard]
        for t in judged(
            "a", str(i), *[(True, 1.0)] * right, *[(False, 1.0)] * wrong, *[(False, 0.0)] * rejected
        )
    ]
    frame = facts(*rows)

    result = analysis.verifier_ceiling(frame, penalty=0.7, k=10)
    dear = analysis.verifier_ceiling(frame, penalty=50.0, k=10)

    total = result.more["totals"].row(0, named=True)
    assert total["ceiling_rate"] == pytest.approx(0.716236, abs=5e-7)
    assert total["precision"] == pytest.approx(0.835375, abs=5e-7)
    assert (total["best_k"], total["n_never"]) == (3, 0)
    assert total["best_value"] == pytest.approx(0.5246, abs=1e-3)
    assert dear.more["totals"].select("best_k", "best_value").row(0) == (0, 0)


def test_nothing_accepted_and_no_verifier():
    """A verifier that rejects all leaves 0 and a ceiling of 0; none at all leaves null."""
    frame = facts(
        *judged("strict", "1", (True, 0.1), (False, 0.2)),
        *judged("blind", "1", (True, None), (False, None)),
    )

    result = analysis.verifier_ceiling(frame)

    strict, blind = row(result, configuration="strict", k=2), row(result, configuration="blind")
    assert (strict["accepted_rate"], strict["abstain_rate"], strict["value"]) == (0, 1, 0)
    assert (blind["n_items"], blind["accepted_rate"], blind["cost_usd"]) == (0, None, None)
    total = result.more["totals"].row(0, named=True)
    assert (total["ceiling_rate"], total["conditional_rate"], total["precision"]) == (0, None, None)
    assert total["n_never"] == 1
    assert result.dropped["traces without verifier_score"] == 2
    assert analysis.verifier_ceiling(frame.drop("verifier_score")).frame.height == 2


def test_a_score_that_is_no_number_is_unknown():
    """NaN sorts above everything: it must not be the best score."""
    frame = facts(*judged("a", "1", (True, 0.9), (False, math.nan), (False, 0.1)))

    result = analysis.verifier_ceiling(frame)

    assert row(result, k=2)["best_rate"] == 1
    assert result.dropped == {"traces without verifier_score": 1}


@pytest.mark.parametrize("name", ["coverage", "voting", "verifier-ceiling"])
def test_a_task_too_short_for_the_curve_leaves_the_others(name):
    """Groups named by a number, one task with too few trials: its rows are missing, not an
    error."""
    short = {"task": "u", "task_id": "u"}
    rows = [
        *answers("a", "1", *FIVE_THREE_TWO, verifier_score=1.0),
        *answers("a", "9", ("A", True), verifier_score=1.0, **short),
    ]
    frame = facts(*[r | {"trial": 0} for r in rows])

    result = analysis.run(name, frame, by=("trial", "task"), k=4)

    assert result.frame["task"].unique().to_list() == ["t"]
    assert result.frame.height == 4
    assert any("on u has that many trials" in note for note in result.notes)


def test_a_perfect_verifier_reaches_the_oracle():
    """Whatever the items, first accepted, best scored and pass@k are then one."""
    rng = np.random.default_rng(0)
    frame = facts(
        *[
            t
            for i in range(12)
            for t in judged("a", str(i), *[(bool(r), float(r)) for r in rng.random(5) < 0.3])
        ]
    )

    found = analysis.verifier_ceiling(frame).frame

    assert found["accepted_rate"].to_list() == pytest.approx(found["oracle_rate"].to_list())
    assert found["best_rate"].to_list() == pytest.approx(found["oracle_rate"].to_list())
    assert found["wrong_rate"].to_list() == pytest.approx([0] * 5)
