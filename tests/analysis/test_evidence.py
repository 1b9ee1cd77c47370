"""Is it real: variance, power, calibration, ranking; published figures, second derivations,
simulations, traps."""

import itertools
import json
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.analysis.families.evidence import human_difficulty
from workbench.analysis.families.evidence.calibration import auc
from workbench.analysis.stats import bradley_terry, sample_size
from workbench.analysis.stats.rank_correlation import tau_b
from workbench.errors import AnalysisError


def trials(group: str, item: str, n: int, right: int, **more) -> list[dict]:
    """`n` trials of which the first few are right."""
    return [trace(group, item, k < right, k, **more) for k in range(n)]


def simulated(passed: np.ndarray, names: np.ndarray | None = None) -> pl.DataFrame:
    """Traces of an array (n_groups, n_items, n_trials) of right and wrong."""
    group, item, trial = np.indices(passed.shape)
    return pl.DataFrame(
        {
            "configuration": (group if names is None else names[group]).ravel(),
            "item_id": item.ravel(),
            "trial": trial.ravel(),
            "passed": passed.ravel(),
            "cost_usd": 0.5,
        }
    )


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


# --- variance ---


def test_components_of_tau_bench(tau):
    """σ² = .146667, τ² = .099660, ICC .404584; errors .052216 = .051691 √(50/49) clustered, .034987
    naive."""
    found = analysis.variance(tau).frame.row(0, named=True)

    assert found["within"] == pytest.approx(0.146667, abs=5e-7)
    assert found["between"] == pytest.approx(0.099660, abs=5e-7)
    assert found["icc"] == pytest.approx(0.404584, abs=5e-7)
    assert found["design_effect"] == pytest.approx(1 + 3 * 0.404584, abs=2e-6)
    assert (found["se"], found["naive_se"]) == pytest.approx((0.052216, 0.034987), abs=5e-7)
    assert found["se"] / found["naive_se"] == pytest.approx(1.4774 * math.sqrt(50 / 49), abs=5e-5)
    assert found["within_low"] < 0.146667 < found["within_high"]
    assert found["icc_low"] < 0.404584 < found["icc_high"]


def test_repeats_of_tau_bench(tau):
    """The four trials score .42 .44 .40 .42: sd .016330, range .04."""
    found = analysis.variance(tau).frame.row(0, named=True)

    assert found["n_repeats"] == 4
    assert found["repeat_sd"] == pytest.approx(0.016330, abs=5e-7)
    assert (found["repeat_min"], found["repeat_max"]) == pytest.approx((0.40, 0.44))
    assert found["expected_repeat_sd"] == pytest.approx(math.sqrt(0.146667 / 50), abs=1e-6)


def test_signal_to_noise_of_five_seeds():
    """Scores .512 .498 .505 .521 .489: sd .0123491, signal to noise 40.8937."""
    right = np.array([512, 498, 505, 521, 489])
    passed = np.arange(1000)[:, None] < right  # items × seeds

    found = analysis.variance(simulated(passed[None])).frame.row(0, named=True)

    assert found["pass_rate"] == pytest.approx(0.505)
    assert found["repeat_sd"] == pytest.approx(0.0123491, abs=5e-8)
    assert found["signal_to_noise"] == pytest.approx(40.8937, abs=5e-5)


def test_components_equal_the_analysis_of_variance():
    """With equal trials they are the mean squares of a one-way analysis of variance."""
    rng = np.random.default_rng(3)
    passed = rng.random((1, 40, 5)) < rng.beta(1, 1, (1, 40, 1))
    x = passed[0].astype(float)
    ms_between = 5 * x.mean(axis=1).var(ddof=1)
    ms_within = x.var(axis=1, ddof=1).mean()

    found = analysis.variance(simulated(passed)).frame.row(0, named=True)

    assert found["within"] == pytest.approx(ms_within)
    assert found["between"] == pytest.approx((ms_between - ms_within) / 5)
    assert found["icc"] == pytest.approx((ms_between - ms_within) / (ms_between + 4 * ms_within))


def test_components_are_unbiased_and_covered_with_unequal_trials():
    """800 simulated studies, 2 to 5 trials: the means hit, 95 % intervals hold the truth."""
    rng = np.random.default_rng(11)
    p = rng.beta(2, 2, (800, 80, 1))  # variance 1/20 between, E p (1 − p) = 1/5 within
    frame = simulated(rng.random((800, 80, 5)) < p)
    frame = frame.filter(pl.col("trial") < 2 + pl.col("item_id") % 4)

    found = analysis.variance(frame).frame

    assert found["within"].mean() == pytest.approx(0.2, abs=0.002)
    assert found["between"].mean() == pytest.approx(0.05, abs=0.002)
    for name, truth in (("within", 0.2), ("between", 0.05), ("icc", 0.2)):
        inside = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert 0.93 <= inside.mean() <= 0.97, name


def test_a_single_trial_tells_nothing_apart():
    """One trial each: null, never 0, and the reader is told."""
    result = analysis.variance(facts(*[trace("a", str(i), i % 2 == 0) for i in range(6)]))

    found = result.frame.row(0, named=True)
    assert [found[c] for c in ("within", "between", "icc", "design_effect", "repeat_sd")] == [
        None
    ] * 5
    assert (found["n_repeats"], found["n_repeated"]) == (1, 0)
    assert any("one trial per item" in note for note in result.notes)


def test_a_single_item_and_all_equal():
    """One item has no spread between items; where all is right there is no variance to share."""
    single = analysis.variance(facts(*trials("a", "1", 4, 2))).frame.row(0, named=True)
    equal = analysis.variance(facts(*[t for i in "123" for t in trials("a", i, 3, 3)]))

    assert single["within"] == pytest.approx(1 / 3)
    assert (single["between"], single["se"], single["within_low"]) == (None, None, None)
    found = equal.frame.row(0, named=True)
    assert (found["within"], found["between"], found["icc"], found["repeat_sd"]) == (0, 0, None, 0)
    assert found["signal_to_noise"] is None


def test_items_that_differ_by_chance_alone_have_no_variance_between_them():
    """Where trials explain more than all, between is cut at 0."""
    frame = facts(*[t for i in "1234" for t in trials("a", i, 4, 2)])

    found = analysis.variance(frame).frame.row(0, named=True)

    assert (found["between"], found["icc"], found["design_effect"]) == (0, 0, 1)


def test_incomplete_repeats_are_left_out_and_told():
    """A third trial of one item is no repeat of the set; runs can tell repeats apart instead."""
    frame = facts(
        *trials("a", "1", 3, 1, run_id="r1"),
        *trials("a", "2", 2, 2, run_id="r1"),
        trace("a", "1", True, 0, run_id="r2"),
        trace("a", "2", False, 0, run_id="r2"),
    )

    by_trial, by_run = analysis.variance(frame), analysis.variance(frame, repeat="run_id")

    assert by_trial.frame["n_repeats"].item() == 2
    assert by_trial.dropped == {"repeats that do not cover every item of their group": 1}
    assert by_run.frame["n_repeats"].item() == 2
    assert by_run.frame["repeat_max"].item() == pytest.approx(2 / 3)


def test_variance_leaves_out_failed_traces_and_splits_tasks():
    """A timeout is no trial; each task has its own components."""
    other = {"task": "u", "task_id": "u"}
    frame = facts(
        *trials("a", "1", 2, 1),
        *trials("a", "2", 2, 2),
        trace("a", "1", None, 2, error_type="x"),
        *trials("a", "8", 2, 0, **other),
        *trials("a", "9", 2, 2, **other),
    )

    result = analysis.variance(frame, by=("configuration", "task"))

    assert result.frame["task"].to_list() == ["t", "u"]
    assert result.frame["within"].to_list() == pytest.approx([0.25, 0])
    assert result.frame["icc"].to_list()[1] == 1
    assert result.dropped == {"failed traces": 1}


# --- power ---

TEST = (0.05, 0.8)


@pytest.mark.parametrize(
    ("sd", "difference", "power", "exact", "whole"),
    [
        (1.5, 2, 0.8, 8.83, 9),
        (1.5, 1, 0.8, 35.32, 36),
        (1.5, 2, 0.95, 14.62, 15),
        (0.7, 1, 0.8, 7.69, 8),
    ],
)
def test_repeats_of_a_fixed_set(sd, difference, power, exact, whole):
    """The four published numbers of runs, and what they are before rounding."""
    found = sample_size.repeats(2 * sd**2, difference, 0.05, power)

    assert found == pytest.approx(exact, abs=0.005)
    assert math.ceil(found) == whole


def test_items_for_three_points():
    """ω² = 1/9: 968.997 items; with σ² = 1/6 a side 1259.7 at ten trials and 3876 at one."""
    assert sample_size.items(1 / 9, 0.03, *TEST) == pytest.approx(968.997, abs=5e-4)
    ten = sample_size.items(1 / 9 + 2 * (1 / 6) / 10, 0.03, *TEST)
    one = sample_size.items(1 / 9 + 2 * (1 / 6), 0.03, *TEST)
    assert ten == pytest.approx(1259.7, abs=0.05)
    assert one == pytest.approx(3876, abs=0.5)


def test_smallest_visible_differences():
    """.04176 with 500 items; with 198 items .07567 at ten trials and .1327 at one."""
    assert sample_size.detectable(1 / 9, 500, *TEST) == pytest.approx(0.04176, abs=5e-6)
    ten, one = (sample_size.detectable(1 / 9 + 1 / 3 / k, 198, *TEST) for k in (10, 1))
    assert (ten, one) == pytest.approx((0.07567, 0.1327), abs=5e-5)
    assert sample_size.items(1 / 9, 0.04176, *TEST) == pytest.approx(500, rel=1e-3)


@pytest.mark.parametrize(("k", "ratio"), [(2, 2 / 3), (4, 1 / 2), (6, 4 / 9)])
def test_uniform_rates_profit_from_trials(k, ratio):
    """With p uniform on 0..1 the variance falls to 2/3, 1/2 and 4/9: (1/12 + 1/6 K⁻¹) / (1/4)."""
    assert (1 / 12 + 1 / 6 / k) / (1 / 12 + 1 / 6) == pytest.approx(ratio)
    # So many trials, then, bring as many items down to that share of them.
    n = sample_size.items(1 / 12 + 1 / 6, 0.05, *TEST)
    assert sample_size.trials(1 / 12, 1 / 6, n * ratio, 0.05, TEST) == pytest.approx(k)


def test_no_number_of_trials_makes_up_for_too_few_items():
    """Where items alone leave no room there is no answer, rather than a negative one."""
    assert math.isnan(sample_size.trials(0.2, 0.1, 50, 0.05, TEST))


def test_planned_items_have_the_planned_power():
    """4,000 studies of the planned size: the difference is seen in 80 % of them."""
    rng = np.random.default_rng(5)
    difference, k = 0.1, 2
    # B's rate is uniform on .1 … .7 and A's .2 … .8, independently: ω² = 2 · .6²/12.
    between = 2 * 0.6**2 / 12
    within = 2 * (0.25 - 0.05**2 - 0.6**2 / 12)
    n = math.ceil(sample_size.items(between + within / k, difference, *TEST))
    a, b = (rng.binomial(k, rng.uniform(low, low + 0.6, (4000, n))) / k for low in (0.2, 0.1))
    d = a - b
    z = d.mean(axis=1) / (d.std(axis=1, ddof=1) / math.sqrt(n))

    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.8, abs=0.02)


def test_power_estimates_the_components_without_bias():
    """From 400 studies of 60 items the mean estimates are the truth, and V is plain arithmetic."""
    rng = np.random.default_rng(6)
    rates = np.stack([rng.uniform(0.1, 0.7, (400, 60)), rng.uniform(0.2, 0.8, (400, 60))])
    between, within = [], []
    for study in range(400):
        passed = rng.random((2, 60, 3)) < rates[:, study, :, None]
        d = passed.mean(axis=2)[1] - passed.mean(axis=2)[0]
        noise = passed.var(axis=2, ddof=1).mean(axis=1)
        between.append(d.var(ddof=1) - noise.sum() / 3)
        within.append(noise.sum())
    found = analysis.power(simulated(passed, np.array(["b", "a"])), baseline="b")

    row = found.frame.row(0, named=True)
    assert row["between"] == pytest.approx(between[-1])
    assert row["within"] == pytest.approx(within[-1])
    variance = between[-1] + within[-1] / 3
    assert row["items_needed"] == math.ceil(7.8488797 * variance / 0.05**2)
    assert np.mean(between) == pytest.approx(2 * 0.6**2 / 12, abs=0.004)
    assert np.mean(within) == pytest.approx(2 * (0.25 - 0.05**2 - 0.03), abs=0.004)


def test_what_is_missing_is_priced_from_history():
    """Missing items and trials times the mean cost, energy and time of an attempt so far."""
    rng = np.random.default_rng(1)
    rows = [
        trace(g, str(i), bool(rng.random() < p), k, cost_usd=c, energy_j=10.0, e2e_s=2.0)
        for g, p, c in (("a", 0.6, 0.02), ("b", 0.5, 0.01))
        for i in range(100)
        for k in range(3)
    ]

    row = analysis.power(facts(*rows), baseline="b", difference=0.04).frame.row(0, named=True)

    assert row["items_more"] == row["items_needed"] - 100 > 0
    assert row["items_cost_usd"] == pytest.approx(row["items_more"] * 3 * 0.03)
    assert row["items_energy_j"] == pytest.approx(row["items_more"] * 6 * 10)
    assert row["items_time_s"] == pytest.approx(row["items_more"] * 6 * 2)
    assert row["trials_cost_usd"] == pytest.approx(100 * (row["trials_needed"] - 3) * 0.03)
    assert f"{row['items_more']:,} more items (${row['items_cost_usd']:,.2f})" in row["verdict"]


def test_an_unknown_price_leaves_the_plan_and_nulls_its_cost():
    """The number of items does not need a price; what it costs is then unknown, not 0."""
    rows = [
        trace(g, str(i), (i + len(g)) % 3 == 0, cost_usd=None)
        for g in ("a", "bb")
        for i in range(30)
    ]

    row = analysis.power(facts(*rows)).frame.row(0, named=True)

    assert row["items_more"] > 0
    assert row["items_cost_usd"] is None
    assert row["trials_needed"] is None  # single trials
    assert row["repeats_needed"] is None


def test_gsm8k_of_two_models(shared_data):
    """1,307 and 1,319 items: 22 points at an error of .0155 are long enough seen."""
    import csv

    text = (shared_data / "routellm" / "gsm8k_responses.csv").open(newline="")
    with text:
        given = list(csv.DictReader(text))
    columns = [c for c in given[0] if given[0][c] in {"True", "False"}]
    rows = [trace(c, str(i), r[c] == "True") for i, r in enumerate(given) for c in columns]

    row = analysis.power(facts(*rows), difference=0.05).frame.row(0, named=True)

    assert len(columns) == 2
    assert row["n_items"] == 1319
    assert abs(row["difference"]) == pytest.approx((1130 - 842) / 1319)
    assert row["items_more"] == 0
    assert row["detectable"] == pytest.approx(2.801585 * 0.0155, abs=5e-4)
    assert row["verdict"].startswith("enough for 5 points")


def test_power_needs_shared_items_and_spread():
    """A single item, no shared item, all alike: no numbers and a sentence, never 0 items."""
    single = analysis.power(facts(trace("a", "1", True), trace("b", "1", False)))
    apart = analysis.power(facts(trace("a", "1", True), trace("b", "2", False)))
    alike = analysis.power(facts(*[t for g in "ab" for i in "123" for t in trials(g, i, 2, 2)]))
    alone = analysis.power(facts(*trials("a", "1", 2, 1)))

    for result in (single, apart, alike):
        row = result.frame.row(0, named=True)
        assert (row["items_needed"], row["detectable"]) == (None, None)
        assert row["verdict"].startswith("not to be told")
    assert apart.dropped == {"items that only one of the two was tried on": 2}
    assert alone.frame.height == 0
    assert any("fewer than two groups" in note for note in alone.notes)


def test_clusters_call_for_more_items():
    """Items that come in alike fours are worth fewer: more of them are needed."""
    rng = np.random.default_rng(2)
    rows = []
    for c in range(25):
        right = rng.random(2) < (0.7, 0.4)
        rows += [
            trace(g, f"{c}-{i}", bool(right[j]), cluster=str(c))
            for i in range(4)
            for j, g in enumerate("ab")
        ]
    frame = facts(*rows)

    clustered = analysis.power(frame).frame["items_needed"].item()
    naive = (
        analysis.power(frame.with_columns(cluster=pl.lit(None, pl.String)))
        .frame["items_needed"]
        .item()
    )

    assert clustered / naive == pytest.approx(4 * (25 / 24) / (100 / 99), rel=1e-2)


def test_an_unknown_baseline_is_told():
    """The nearest names are offered."""
    frame = facts(*trials("alpha", "1", 2, 1), *trials("beta", "1", 2, 1))

    with pytest.raises(AnalysisError, match="alpha"):
        analysis.power(frame, baseline="alpa")


# --- calibration ---


def said(group: str, *given: tuple[float | None, bool], **more) -> list[dict]:
    """A trace per item with its confidence."""
    return [
        trace(group, str(i), right, confidence=confidence, **more)
        for i, (confidence, right) in enumerate(given)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_mann_whitney_and_counting_pairs(seed):
    """SciPy's U over m n, and every pair by hand, ties half."""
    from scipy import stats

    rng = np.random.default_rng(seed)
    right = rng.random(60) < 0.5
    confidence = np.round(np.clip(rng.normal(0.5 + 0.1 * right, 0.2), 0, 1), 1)

    found = analysis.calibration(facts(*said("a", *zip(confidence, right.tolist(), strict=True))))

    pairs = [(x > y) + (x == y) / 2 for x in confidence[right] for y in confidence[~right]]
    u = stats.mannwhitneyu(confidence[right], confidence[~right]).statistic
    assert found.frame["auc"].item() == pytest.approx(np.mean(pairs))
    assert found.frame["auc"].item() == pytest.approx(u / len(pairs))


def test_the_error_of_the_auc_is_that_of_delong():
    """With a trace per item: S₁₀ / m + S₀₁ / n of the placement values, written out."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 400), rng.normal(0, 1, 600)
    above = (x[:, None] > y[None, :]).astype(float)
    expected = math.sqrt(
        above.mean(axis=1).var(ddof=1) / 400 + above.mean(axis=0).var(ddof=1) / 600
    )
    right = np.arange(1000) < 400

    area, error = auc(np.append(x, y), right.astype(float), (~right).astype(float), np.arange(1000))

    assert area == pytest.approx(above.mean())
    assert error == pytest.approx(expected, rel=2e-3)


def test_intervals_of_the_auc_cover_the_truth_with_clusters():
    """1,000 studies of 60 items with 4 trials that share a shift: 95 % intervals hold Φ(δ/√2σ)."""
    from scipy import stats

    rng = np.random.default_rng(4)
    studies, items, k = 1000, 60, 4
    right = rng.random((studies, items, k)) < 0.5
    shift = rng.normal(0, 0.7, (studies, items, 1))
    signal = 0.8 * right + shift + rng.normal(0, 1, (studies, items, k))
    truth = float(stats.norm.cdf(0.8 / math.sqrt(2 * (1 + 0.7**2))))
    frame = simulated(right).with_columns(verifier_score=pl.Series(signal.ravel()))

    found = analysis.calibration(frame, signal="verifier_score").frame

    inside = (found["auc_low"] <= truth) & (truth <= found["auc_high"])
    assert found["auc"].mean() == pytest.approx(truth, abs=0.005)
    assert 0.93 <= inside.mean() <= 0.97


def test_reliability_of_eight_traces():
    """Two bins by hand: .2 said and 1 of 4 true, .9 said and 2 of 4 true."""
    given = [(0.2, i == 0) for i in range(4)] + [(0.9, i < 2) for i in range(4)]

    result = analysis.calibration(facts(*said("a", *given)), bins=5)

    found = result.frame.row(0, named=True)
    assert result.more["bins"]["bin"].to_list() == [2, 5]
    assert result.more["bins"]["mean_signal"].to_list() == pytest.approx([0.2, 0.9])
    assert result.more["bins"]["pass_rate"].to_list() == pytest.approx([0.25, 0.5])
    assert found["bias"] == pytest.approx(0.55 - 0.375)
    assert found["calibration_error"] == pytest.approx((4 * 0.05 + 4 * 0.4) / 8)
    brier = (0.8**2 + 3 * 0.2**2 + 2 * 0.1**2 + 2 * 0.9**2) / 8
    assert found["brier_score"] == pytest.approx(brier)
    assert found["auc"] == pytest.approx((2 * (3 + 2 / 2) + 1 * (3 / 2)) / (3 * 5))
    assert found["bias_low"] < found["bias"] < found["bias_high"]


def test_decimal_confidences_are_in_the_bins_that_they_begin():
    """.1, .2 … .9 begin bins 2 to 10 of ten, sums of binary fractions among them: the error is
    exact."""
    given = [k / 10 for k in range(10)] + [0.1 + 0.2, 1 - 0.9, 0.7 - 0.1]
    result = analysis.calibration(facts(*said("a", *[(c, c > 0.45) for c in given])))

    bins = result.more["bins"]
    assert bins["bin"].to_list() == list(range(1, 11))
    assert bins["n"].to_list() == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1]
    assert bins["signal_from"].to_list() == [k / 10 for k in range(10)]
    expected = sum(abs(round(c, 1) - (c > 0.45)) for c in given) / 13
    assert result.frame["calibration_error"].item() == pytest.approx(expected)


def test_equal_parts_by_difficulty_do_not_depend_on_rounding():
    """Of 99 items in 100 parts each has its own, the 29th too, whose 29 / 100 · 100 is below 29 in
    binary."""
    items = pl.DataFrame({"_difficulty": [float(k) for k in range(1, 100)]})

    assert human_difficulty._cut(items, 100).tolist() == list(range(2, 101))


def test_the_ends_of_the_scale_are_in_the_bins():
    """0 is in the first bin and 1 in the last; none is lost."""
    result = analysis.calibration(facts(*said("a", (0.0, False), (0.1, True), (1.0, True))))

    assert result.more["bins"]["bin"].to_list() == [1, 2, 10]
    assert result.more["bins"]["n"].sum() == 3


def test_a_confidence_that_tells_all_and_one_that_tells_nothing():
    """Right ones above wrong ones: 1 (the deferral example); one and the same for all: one half."""
    small = [(0.95, True), (0.4, False), (0.8, True), (0.3, False), (0.6, False), (0.9, True)]
    frame = facts(*said("knows", *small), *said("shrugs", *[(0.5, r) for _, r in small]))

    found = analysis.calibration(frame).frame

    assert found["auc"].to_list() == [1, 0.5]
    assert found["auc_low"].to_list() == [None, None]


def test_calibration_without_sides_scale_or_signal():
    """All right: no AUC; another scale: no bias; nothing known: nulls, a note, and none dropped."""
    frame = facts(
        *said("a right", (0.5, True), (0.7, True)),
        *said("mute", (None, True), (None, False)),
        *[trace("scaled", str(i), i > 1, verifier_score=10.0 * i) for i in range(4)],
    )

    plain = analysis.calibration(frame)
    scaled = analysis.calibration(frame, signal="verifier_score").frame.row(2, named=True)

    right, mute, _ = plain.frame.rows(named=True)
    assert (right["auc"], right["bias"]) == (None, pytest.approx(-0.4))
    assert (mute["n"], mute["auc"], mute["pass_rate"], mute["brier_score"]) == (0, None, None, None)
    assert (scaled["auc"], scaled["bias"], scaled["calibration_error"]) == (1, None, None)
    assert plain.dropped == {"traces without confidence": 6}
    assert any("mute" in note for note in plain.notes)
    assert analysis.calibration(frame.drop("confidence")).frame["n"].sum() == 0


def test_doubled_trials_leave_the_estimates_and_their_intervals():
    """The same traces twice carry no new knowledge: clusters see to it."""
    rng = np.random.default_rng(8)
    frame = facts(*said("a", *[(round(c, 2), bool(rng.random() < c)) for c in rng.random(40)]))

    plain = analysis.calibration(frame)
    doubled = analysis.calibration(pl.concat([frame, frame]))

    pl.testing.assert_frame_equal(doubled.frame.drop("n"), plain.frame.drop("n"))
    pl.testing.assert_frame_equal(doubled.more["bins"].drop("n"), plain.more["bins"].drop("n"))


# --- ranking ---


def test_strengths_of_the_reference_games():
    """0 beats 1 twice, 1 beats 2, 2 beats 0: θ = (.419617624, −.419617624, 0); 7 to 3: ln(7/3)."""
    wins = np.zeros((3, 3))
    for winner, loser in ((0, 1), (0, 1), (1, 2), (2, 0)):
        wins[winner, loser] += 1

    three = bradley_terry.strengths(wins)
    two = bradley_terry.strengths(np.array([[0.0, 7.0], [3.0, 0.0]]))

    assert three.tolist() == pytest.approx([0.419617624, -0.419617624, 0], abs=1e-9)
    assert two[0] - two[1] == pytest.approx(0.847298, abs=5e-7)
    assert (two[0] - two[1]) * 400 / math.log(10) == pytest.approx(147.19, abs=0.005)


@pytest.mark.parametrize("seed", range(4))
def test_strengths_equal_a_plain_fit(seed):
    """A general optimiser on the same likelihood, and the fixed point that Zermelo iterated."""
    from scipy import optimize

    wins = np.random.default_rng(seed).integers(1, 30, (6, 6)).astype(float)
    np.fill_diagonal(wins, 0)

    def loss(theta):
        return (wins * np.logaddexp(0, theta[None, :] - theta[:, None])).sum()

    plain = optimize.minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-7}).x

    found = bradley_terry.strengths(wins)

    assert found == pytest.approx(plain - plain.mean(), abs=1e-5)
    power = np.exp(found)
    games = wins + wins.T
    again = wins.sum(axis=1) / (games / (power[:, None] + power[None, :])).sum(axis=1)
    assert again == pytest.approx(power)


def test_a_ranking_of_three_by_hand():
    """Wins and ties counted on shared items; strengths from those counts."""
    frame = facts(
        *[trace("a", str(i), i < 8) for i in range(10)],
        *[trace("b", str(i), i in {0, 1, 2, 9}) for i in range(10)],
        *[trace("c", str(i), i in {0, 8}) for i in range(10)],
    )

    result = analysis.ranking(frame)

    # a beats b on 3..7 (5), loses 9, ties 4; a beats c on 1..7 (7), loses 8, ties 2;
    # b beats c on 1, 2, 9 (3), loses 8, ties 6.
    wins = np.array([[0, 7, 8], [3, 0, 6], [2, 4, 0]], float)
    assert result.frame["configuration"].to_list() == ["a", "b", "c"]
    assert result.frame["rank"].to_list() == [1, 2, 3]
    assert result.frame["strength"].to_list() == pytest.approx(
        bradley_terry.strengths(wins).tolist()
    )
    assert result.frame["win_rate"].to_list() == pytest.approx([0.75, 0.45, 0.3])
    assert result.frame["tie_rate"].to_list() == pytest.approx([6 / 20, 10 / 20, 8 / 20])
    assert result.frame["n_comparisons"].to_list() == [20, 20, 20]


def test_intervals_of_strengths_cover_the_truth():
    """200 studies of 80 items, four groups: 95 % intervals hold the strength of a huge study."""
    rng = np.random.default_rng(9)
    names = np.array(["a", "b", "c", "d"])
    skill = np.array([0.3, 0.45, 0.55, 0.7])

    def study(n: int) -> np.ndarray:
        ease = rng.normal(0, 0.15, (1, n, 1))
        return rng.random((4, n, 2)) < np.clip(skill[:, None, None] + ease, 0, 1)

    truth = analysis.ranking(simulated(study(50_000), names)).frame.sort("configuration")[
        "strength"
    ]
    inside = []
    for _ in range(200):
        found = analysis.ranking(simulated(study(80), names)).frame.sort("configuration")
        inside.append((found["strength_low"] <= truth) & (truth <= found["strength_high"]))

    assert 0.93 <= np.mean([list(x) for x in inside]) <= 0.97


def test_no_chain_of_wins_gives_no_strength():
    """Who always wins would be infinitely strong: null, in order of wins, and told; one group,
    too."""
    frame = facts(*[trace("a", i, True) for i in "123"], *[trace("b", i, False) for i in "123"])

    result = analysis.ranking(frame)
    alone = analysis.ranking(frame.filter(pl.col("configuration") == "a"))

    assert result.frame.select("configuration", "rank", "strength", "win_rate").rows() == [
        ("a", None, None, 1),
        ("b", None, None, 0),
    ]
    assert any("infinite" in note for note in result.notes)
    assert alone.frame.select("strength", "win_rate").row(0) == (None, None)
    assert alone.notes == ()


def test_equal_groups_are_equally_strong():
    """All ties: strength 0, one place, one half won; an easy set of items lifts nobody."""
    alike = analysis.ranking(facts(*[trace(g, i, True) for g in "ab" for i in "123"])).frame
    # Both do the same on what they share; b was also tried on three easy items.
    rows = [trace(g, str(i), i < 2) for g in "ab" for i in range(6)]
    lifted = analysis.ranking(facts(*rows, *[trace("b", f"easy {i}", True) for i in range(3)]))

    assert alike.select("strength", "rank", "win_rate").rows() == [(0, 1, 0.5), (0, 1, 0.5)]
    assert lifted.frame["strength"].to_list() == pytest.approx([0, 0])
    assert lifted.frame["mean_outcome"].n_unique() == 2


def test_rankings_that_agree_and_that_do_not():
    """τ of strength with outcome and cheapness by hand, and between two tasks."""
    other = {"task": "u", "task_id": "u"}
    frame = facts(
        *[
            trace(g, str(i), i < k, cost_usd=float(k))
            for g, k in (("a", 4), ("b", 3), ("c", 2))
            for i in range(5)
        ],
        trace("a", "4", True),
        trace("b", "4", True, 1),
        trace("c", "3", True, 1),
        trace("c", "4", True, 1),
        *[
            trace(g, f"u{i}", (i + k) % 3 == 0, **other)
            for g, k in (("a", 0), ("b", 1), ("c", 2))
            for i in range(4)
        ],
    )

    result = analysis.ranking(frame, by=("configuration", "task"))

    table = result.more["agreement"]
    assert table["a"].to_list()[-1] == "strength on t"
    assert table["b"].to_list()[-1] == "strength on u"
    assert set(table["n_groups"]) <= {0, 3}
    taus = {(a, b): t for a, b, t in table.select("a", "b", "kendall_tau").rows()}
    t = result.frame.filter(task="t")
    by_hand = [
        np.sign((x["strength"] - y["strength"]) * (x["mean_outcome"] - y["mean_outcome"]))
        for x, y in itertools.combinations(t.rows(named=True), 2)
    ]
    assert taus["strength on t", "mean outcome on t"] == pytest.approx(np.mean(by_hand))


def test_cheapness_is_over_what_was_tried_and_priced():
    """An item that a group was not tried on is not free, and an unpriced group has no place."""
    frame = facts(
        *[trace("a", str(i), i < 3, cost_usd=1.0) for i in range(6)],
        *[trace("b", str(i), i < 4, cost_usd=0.5) for i in range(6)],
        *[trace("c", str(i), i < 2, cost_usd=2.0) for i in range(2)],
        *[trace("d", str(i), i > 2, cost_usd=None) for i in range(6)],
    )

    table = analysis.ranking(frame).more["agreement"]

    (row,) = table.filter(a="mean outcome", b="cheapness").rows(named=True)
    assert row["n_groups"] == 3
    # Outcome c > b > a, cheapness b > a > c: one of three pairs agrees.
    assert row["kendall_tau"] == pytest.approx(-1 / 3)


def test_kendall_tau_of_a_trajectory():
    """.25 .27 .26 .31 .33 .32 .36 against an increasing sequence: τ = .809524."""
    scores = np.array([0.25, 0.27, 0.26, 0.31, 0.33, 0.32, 0.36])

    assert float(tau_b(np.arange(7.0), scores)) == pytest.approx(0.809524, abs=5e-7)
