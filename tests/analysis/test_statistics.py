"""Estimators against published numbers, a second derivation, SciPy, and their nominal coverage."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench.analysis.stats import intervals, paired_tests, pareto, resampling

TAU_PASSED = (0,) * 14 + (1,) * 12 + (2,) * 10 + (3,) * 4 + (4,) * 10  # of 4 trials, 50 items


def test_wilson_and_clopper_pearson_of_84_in_200():
    """The two intervals of a plain proportion, as computed with statsmodels."""
    assert intervals.wilson(84 / 200, 200) == pytest.approx((0.353736, 0.489279), abs=1e-6)
    assert intervals.clopper_pearson(84, 200) == pytest.approx((0.350744, 0.491664), abs=1e-6)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (84, 200)])
def test_proportion_intervals_agree_with_scipy(k, n):
    """SciPy's own intervals, at two levels."""

    for level in (0.9, 0.95):
        other = stats.binomtest(k, n)
        ours = [intervals.wilson(k / n, n, level), intervals.clopper_pearson(k, n, level)]
        theirs = [other.proportion_ci(level, method) for method in ("wilson", "exact")]
        for (low, high), expected in zip(ours, theirs, strict=True):
            assert (float(low), float(high)) == pytest.approx(tuple(expected), abs=1e-9)


def test_skewed_intervals_undo_halls_transformation():
    """T + a T²/3 + a² T³/27 + a/6 of either end is a quantile of t (Hall 1992); without skewness it
    is Student's."""
    rng = np.random.default_rng(4)
    residuals = rng.lognormal(size=(12, 5))
    residuals -= residuals.mean(axis=0)
    n = [12] * 5
    se = intervals.clustered_se(residuals, n, n)
    a = intervals.bend(residuals)
    assert a == pytest.approx(stats.skew(residuals) / np.sqrt(12))
    low, high = intervals.skewed(np.ones(5), se, a, n, 0.9)
    for end, tail in ((low, 0.95), (high, 0.05)):
        t = (1 - end) / se
        assert t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 == pytest.approx(stats.t.ppf(tail, 11))
    plain = intervals.student(1.0, 0.2, 12)
    assert intervals.skewed(1.0, 0.2, 0.0, 12) == pytest.approx(plain, abs=1e-6)


def test_skewed_intervals_of_waiting_times_hold_the_truth():
    """Means of 30 exponential times: 95 % hold it within 2 points, and miss it on both sides;
    Student's do not."""
    times = np.random.default_rng(0).exponential(size=(30, 20_000))
    mean, n = times.mean(axis=0), np.full(20_000, 30.0)
    se, a = intervals.clustered_se(times - mean, n, n), intervals.bend(times - mean)
    low, high = intervals.skewed(mean, se, a, n)
    assert ((low <= 1) & (high >= 1)).mean() == pytest.approx(0.95, abs=0.02)
    assert (high < 1).mean() < 3 * (low > 1).mean()
    low, high = intervals.student(mean, se, n)
    assert ((low <= 1) & (high >= 1)).mean() < 0.93
    assert (high < 1).mean() > 6 * (low > 1).mean()


def test_clustered_error_of_tau_bench(shared_data):
    """50 tasks of 4 trials: .051691 clustered, .034987 as if the trials were independent."""
    traces = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    reward = np.array([t["reward"] for t in traces])
    task = np.array([t["task_id"] for t in traces])
    assert sorted(reward[task == t].sum() for t in set(task)) == list(TAU_PASSED)

    residuals = np.array([(reward[task == t] - reward.mean()).sum() for t in sorted(set(task))])
    clustered = intervals.clustered_se(residuals[:, None], [200], [50])
    naive = intervals.clustered_se((reward - reward.mean())[:, None], [200], [200])

    # The published clustered figure lacks the correction for 50 clusters.
    assert clustered[0] / math.sqrt(50 / 49) == pytest.approx(0.051691, abs=5e-7)
    assert naive[0] == pytest.approx(0.034987, abs=1e-6)


def test_clustered_error_equals_the_double_sum():
    """Miller's form with the sum over pairs inside a cluster, written out."""
    rng = np.random.default_rng(2)
    score, cluster = rng.random(30), rng.integers(0, 8, 30)
    centred = score - score.mean()
    pairs = sum(
        centred[i] * centred[j]
        for i in range(30)
        for j in range(30)
        if i != j and cluster[i] == cluster[j]
    )
    expected = math.sqrt((centred**2).sum() / 900 + pairs / 900)

    sums = np.array([centred[cluster == c].sum() for c in range(8)])

    expected *= math.sqrt(8 / 7)  # the correction for 8 clusters
    assert intervals.clustered_se(sums[:, None], [30], [8])[0] == pytest.approx(expected, rel=1e-12)


def test_student_interval_agrees_with_scipy_and_needs_two_clusters():
    """The quantile is that of t with one degree of freedom fewer than clusters."""

    low, high = intervals.student([0.3, 0.3], [0.1, 0.1], [8, 1])

    assert high[0] - 0.3 == pytest.approx(0.1 * stats.t.ppf(0.975, 7))
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize("trials", [1, 4])
def test_pass_rate_intervals_cover_at_the_nominal_rate(trials):
    """Both intervals of a clustered pass rate hold 95 % of the time, to 2 points."""
    rng = np.random.default_rng(7)
    n_items, n = 50, 6000
    rate = rng.beta(0.8, 1.2, (n_items, n))
    item = rng.binomial(trials, rate) / trials
    mean, clusters = item.mean(axis=0), np.full(n, n_items)
    se = intervals.clustered_se(item - mean, clusters, clusters)

    found = [
        intervals.clustered_share(mean, se, clusters),
        intervals.student(mean, se, clusters),
    ]

    for low, high in found:
        assert ((low <= 0.4) & (high >= 0.4)).mean() == pytest.approx(0.95, abs=0.02)


def test_bootstrap_intervals_cover_at_the_nominal_rate():
    """Percentile and BCa of a ratio of means over 60 items, to 2 points."""
    rng = np.random.default_rng(11)
    n, n_items, truth = 1200, 60, 0.2 / 0.6
    hits = np.zeros(2)
    for _ in range(n):
        sums = np.column_stack(
            [rng.gamma(4, 0.05, n_items), (rng.random(n_items) < 0.6).astype(float)]
        )
        draws = resampling.resampled_sums(sums, 500, rng)
        draws = draws[:, :1] / draws[:, 1:]
        left = resampling.left_out_sums(sums)
        estimate = sums[:, 0].sum(keepdims=True) / sums[:, 1].sum()
        for i, (low, high) in enumerate(
            (
                resampling.percentile(draws),
                resampling.bca(estimate, draws, left[:, :1] / left[:, 1:]),
            )
        ):
            hits[i] += low[0] <= truth <= high[0]

    assert hits / n == pytest.approx([0.95, 0.95], abs=0.02)


def test_resampled_sums_agree_with_gathering_rows():
    """Counts times matrix equals drawing the rows one by one, chunk by chunk."""
    sums = np.random.default_rng(1).random((1000, 3))

    fast = resampling.resampled_sums(sums, 2100, np.random.default_rng(9))

    rng = np.random.default_rng(9)
    drawn = np.concatenate([rng.integers(0, 1000, (k, 1000)) for k in [100] * 21])
    assert fast == pytest.approx(sums[drawn].sum(axis=1), rel=1e-12)


def test_many_columns_take_the_other_way_to_the_same_sums():
    """Columns do not depend on how many others are resampled beside them."""
    sums = np.random.default_rng(1).random((300, 400))

    wide = resampling.resampled_sums(sums, 500, np.random.default_rng(2))
    narrow = resampling.resampled_sums(sums[:, :2], 500, np.random.default_rng(2))

    assert wide[:, :2] == pytest.approx(narrow, rel=1e-12)


def test_bca_of_an_infinite_statistic_is_the_percentile_interval():
    """What may be infinite cannot be corrected."""
    draws = np.array([[1.0], [2.0], [np.inf], [3.0]])

    found = resampling.bca(np.array([2.0]), draws, np.array([[1.0], [np.inf]]))

    assert [end[0] for end in found] == [1.0, np.inf]


def test_bca_agrees_with_scipy():
    """SciPy's BCa of a skewed mean, up to Monte Carlo error."""

    data = np.random.default_rng(4).lognormal(size=40)
    other = stats.bootstrap(
        (data,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval

    draws = resampling.resampled_sums(data[:, None], 20_000, np.random.default_rng(1)) / 40
    left = resampling.left_out_sums(data[:, None]) / 39
    low, high = resampling.bca(np.array([data.mean()]), draws, left)

    assert (low[0], high[0]) == pytest.approx((other.low, other.high), rel=0.02)
    plain = resampling.percentile(draws)
    assert high[0] > plain[1][0]  # the correction reaches further into the long tail


def test_percentile_keeps_infinite_ends_and_skips_undefined_draws():
    """An infinite draw may be an end; NaN draws are as if they had not been made."""
    draws = np.array([[1.0, 1.0], [2.0, 2.0], [np.inf, 3.0], [np.inf, np.nan]])

    low, high = resampling.percentile(draws)

    assert (low.tolist(), high.tolist()) == ([1.0, 1.0], [np.inf, 3.0])


def test_bca_of_equal_draws_is_the_percentile_interval():
    """Without any spread there is nothing to correct."""
    draws = np.full((100, 1), 0.5)

    assert resampling.bca(np.array([0.5]), draws, np.full((9, 1), 0.5)) == ([0.5], [0.5])


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [(6, 0, 0.03125), (5, 0, 0.0625), (8, 2, 0.109375), (10, 3, 0.092285), (0, 0, 1), (3, 3, 1)],
)
def test_mcnemar_exact_of_small_counts(a, b, p):
    """Published small cases, and the binomial sum written out."""
    n, k = a + b, min(a, b)
    direct = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)

    assert paired_tests.mcnemar(a, b) == pytest.approx(p, abs=1e-6)
    assert paired_tests.mcnemar(a, b) == paired_tests.mcnemar(b, a) == pytest.approx(direct)


def test_mcnemar_of_the_router_pair():
    """GPT-4 against Mixtral on 1,307 items of GSM8K: 382 against 94."""
    assert paired_tests.mcnemar(382, 94) == pytest.approx(3.257e-42, rel=1e-3)


def test_sign_flips_of_eight_differences():
    """The worked case, and SciPy's exact permutation test."""

    d = np.array([1, 1, 1, 0, -1, 1, 1, 0.0])
    other = stats.permutation_test(
        (d,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )

    p, exact = paired_tests.sign_flip(d, 1000, np.random.default_rng(0))

    assert exact
    assert p == pytest.approx(0.21875) == other.pvalue


def test_drawn_sign_flips_are_near_the_exact_ones():
    """Above sixteen differing clusters patterns are drawn, and p is never 0."""
    rng = np.random.default_rng(3)
    d = np.concatenate([np.full(12, 0.25), np.full(6, -0.25)])
    expected = 2 * sum(math.comb(18, k) for k in range(12, 19)) / 2**18

    p, exact = paired_tests.sign_flip(d, 40_000, rng)

    assert not exact
    assert p == pytest.approx(expected, abs=0.01)
    assert paired_tests.sign_flip(np.ones(40), 1000, rng)[0] == pytest.approx(1 / 1001)


def test_rounding_does_not_break_ties_between_sign_patterns():
    """Thirds sum to the same in every order as far as the test is concerned."""
    d = np.array([1 / 3, 2 / 3, -1 / 3, 1 / 3, 1 / 3, -2 / 3])
    whole = np.array([1, 2, -1, 1, 1, -2.0])
    rng = np.random.default_rng(0)

    assert paired_tests.sign_flip(d, 10, rng) == paired_tests.sign_flip(whole, 10, rng)


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.5, 0.9], [1, 1]), ([0.2], [0.2]), ([], [])],
)
def test_holm(p, expected):
    """Step down, monotone, capped at 1."""
    assert paired_tests.holm(p) == pytest.approx(expected)


POINTS = st.lists(
    st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), min_size=1, max_size=9
)


@given(POINTS)
@settings(deadline=None, max_examples=150)
def test_non_dominated_equals_the_definition(points):
    """Pair by pair: no other is at least as good on both and better on one."""
    cost, gain = (np.array(c) for c in zip(*points, strict=True))
    expected = [
        not any(
            cost[j] <= cost[i] and gain[j] >= gain[i] and (cost[j] < cost[i] or gain[j] > gain[i])
            for j in range(len(cost))
        )
        for i in range(len(cost))
    ]

    found = pareto.non_dominated(cost, gain)

    assert found.tolist() == expected
    assert [d is None for d in pareto.dominators(cost, gain)] == expected
    batch = pareto.non_dominated(np.stack([cost, cost]), np.stack([gain, gain]))
    assert batch.tolist() == [expected, expected]


@given(POINTS)
@settings(deadline=None, max_examples=100)
def test_hypervolume_equals_counting_cells(points):
    """On whole numbers the area is the number of unit cells below the staircase."""
    cost, gain = (np.array(c) for c in zip(*points, strict=True))
    cells = sum(
        any(c <= x and g >= y + 1 for c, g in points)
        for x, y in itertools.product(range(7), range(6))
    )

    assert pareto.hypervolume(cost, gain, (7, 0)) == pytest.approx(cells)
    assert pareto.hypervolume(cost, gain, (7, 0)) <= pareto.box(cost, gain, (7, 0)) + 1e-9


@given(POINTS)
@settings(deadline=None, max_examples=100)
def test_the_hull_is_what_no_mixture_beats(points):
    """A frontier point is on the hull unless a mixture of two others lies above it."""
    cost, gain = (np.array(c) for c in zip(*points, strict=True))
    on = pareto.non_dominated(cost, gain)
    frontier = sorted({(c, g) for c, g in zip(cost[on], gain[on], strict=True)})

    def beaten(c: float, g: float) -> bool:
        return any(
            a[0] < c < b[0] and a[1] + (b[1] - a[1]) * (c - a[0]) / (b[0] - a[0]) > g + 1e-9
            for a, b in itertools.combinations(frontier, 2)
        )

    expected = {p for p in frontier if not beaten(*p)}

    hull = pareto.hull(cost, gain)

    assert {(c, g) for c, g in zip(cost[hull], gain[hull], strict=True)} == expected


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=8))
def test_three_axes_equal_the_definition_and_counting_cubes(points):
    """Pair by pair; and the volume is the number of unit cubes that some point reaches."""
    cost, gain, second = (np.array(v, float) for v in zip(*points, strict=True))

    on = pareto.non_dominated(cost, gain, second)
    volume = pareto.volume(cost, gain, second, (5, 0, 5))

    for j, (c, g, s) in enumerate(points):
        as_good = [p for p in points if p[0] <= c and p[1] >= g and p[2] <= s]
        assert on[j] == all(p == (c, g, s) for p in as_good)
    cubes = [
        any(p[0] <= x and p[1] >= y + 1 and p[2] <= z for p in points)
        for x in range(5)
        for y in range(5)
        for z in range(5)
    ]
    assert volume == pytest.approx(sum(cubes))


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_thinned_frontier_is_the_smallest_that_stands_for_all(points, x, y):
    """Every point of the frontier has one that is nearly as good, and no smaller set does it."""
    cost, gain = (np.array(v, float) for v in zip(*points, strict=True))
    on = pareto.non_dominated(cost, gain)
    covers = (cost[:, None] <= (1 + x) * cost) & (gain[:, None] * (1 + y) >= gain)

    stand = pareto.representatives(covers, cost, on)

    kept = set(stand[on].tolist())
    assert (stand[~on] == -1).all()
    assert all(covers[stand[j], j] for j in np.flatnonzero(on))
    assert all(stand[j] == j for j in kept)
    frontier = np.flatnonzero(on)
    smaller = itertools.combinations(frontier, len(kept) - 1)
    assert not any(covers[list(some)][:, frontier].any(axis=0).all() for some in smaller if some)


def test_hypervolume_of_three_points():
    """The worked case: 6.8, of a box of 8.1."""
    cost, gain = np.array([1.0, 3, 8]), np.array([0.5, 0.8, 0.9])

    assert pareto.hypervolume(cost, gain, (10, 0)) == pytest.approx(6.8)
    assert pareto.box(cost, gain, (10, 0)) == pytest.approx(8.1)


def test_unknown_points_are_never_on_the_frontier():
    """NaN on either axis excludes a point and leaves the others as they are."""
    cost, gain = np.array([1.0, np.nan, 2]), np.array([0.5, 0.9, np.nan])

    assert pareto.non_dominated(cost, gain).tolist() == [True, False, False]


def test_the_knee_depends_on_the_axis():
    """Four points whose knee is another one on the logarithm of cost."""
    cost, gain = np.array([1.0, 2, 10, 100]), np.array([0.0, 0.45, 0.7, 1.0])

    assert pareto.knee(cost, gain) == 2
    assert pareto.knee(np.log10(cost), gain) == 1
    assert pareto.knee(cost[:2], gain[:2]) is None
    assert pareto.knee(np.array([1.0, 2, 3]), np.array([0.1, 0.2, 0.3])) is None


def test_clustered_error_is_that_of_inspect():
    """Inspect's clustered standard error, correction for few clusters included, on 7 uneven
    clusters."""
    from inspect_ai.scorer import SampleScore, Score, stderr

    rng = np.random.default_rng(3)
    cluster, right = rng.integers(0, 7, 40), rng.integers(0, 2, 40).astype(float)
    scores = [
        SampleScore(score=Score(value=r), sample_metadata={"cluster": int(c)})
        for r, c in zip(right, cluster, strict=True)
    ]
    sums = np.bincount(cluster, right - right.mean())[:, None]

    assert intervals.clustered_se(sums, [40], [7])[0] == pytest.approx(
        stderr(cluster="cluster")(scores)
    )
    single = intervals.clustered_se((right - right.mean())[:, None], [40], [40])
    assert single[0] == pytest.approx(stderr()(scores))


def test_single_attempts_have_wilsons_interval():
    """Their variance follows from the mean, so that nothing is estimated: 3 right of 5, and of
    50."""
    for n in (5, 50):
        right = np.arange(n) < 0.6 * n
        se = intervals.clustered_se((right - 0.6)[:, None], [n], [n])

        found = intervals.clustered_share([0.6], se, [n])

        assert np.ravel(found) == pytest.approx(intervals.wilson(0.6, n))


@pytest.mark.parametrize("n_clusters", [5, 10, 20])
@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_rates_of_few_clusters_are_held_at_the_nominal_rate(n_clusters, rate):
    """10 attempts in each of 5, 10, 20 clusters, ICC .2: 95 % hold the truth, to 2 points; z alone
    does not."""
    rng = np.random.default_rng(5)
    n = 8000
    item = rng.binomial(10, rng.beta(4 * rate, 4 - 4 * rate, (n_clusters, n))) / 10
    mean, clusters = item.mean(axis=0), np.full(n, n_clusters)
    se = intervals.clustered_se(item - mean, clusters, clusters)

    low, high = intervals.clustered_share(mean, se, clusters)

    held = ((low <= rate) & (high >= rate)).mean()
    assert 0.93 <= held <= 0.985
    if n_clusters == 5:
        half = 1.96 * se * math.sqrt(4 / 5)
        assert ((mean - half <= rate) & (rate <= mean + half)).mean() < 0.88


def test_a_rate_near_one_in_few_clusters_is_said_to_be_uncertain():
    """19 of 20 right in 5 clusters of 4; not of 20 single attempts, and not of 12 right of 20."""
    items = np.array([1, 1, 1, 1, 0.75])
    clustered_error = intervals.clustered_se((items - 0.95)[:, None], [5], [5])
    single = intervals.clustered_se((np.arange(20) < 19) - 0.95, 20, 20)

    assert "too short" in intervals.edge_notes([0.95], clustered_error, [5])[0]
    assert intervals.edge_notes([0.95], [single], [20]) == ()
    assert intervals.edge_notes([0.6], clustered_error, [5]) == ()


def test_the_least_p_of_few_clusters():
    """Six clusters can give .03125, five no less than .0625; with ten comparisons it takes nine."""
    assert paired_tests.clusters_needed(0.05) == 6
    assert paired_tests.clusters_needed(0.05, 10) == 9
    assert paired_tests.clusters_needed(0.0625) == 6
    rng = np.random.default_rng(0)
    assert paired_tests.sign_flip(np.ones(5), 100, rng)[0] == pytest.approx(0.0625)
