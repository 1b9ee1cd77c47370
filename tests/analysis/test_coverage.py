"""Intervals hold the truth as often as they say: a part of `benchmarks/bench_coverage.py`, with
fixed seeds."""

import numpy as np
import pytest
from scipy import stats

from tests.benchmarks.bench_coverage import CASES, measure
from workbench.analysis.stats import resampling

STUDIES = 500
CHANCE = 2 * np.sqrt(0.95 * 0.05 / STUDIES)  # two standard errors of a share of 500 studies


@pytest.mark.parametrize(
    "name",
    [
        "pass rate, Wilson, 1 trial",
        "pass rate, t, 4 trials",
        "mean cost, t",
        "cost of pass, bootstrap",
        "cost of pass, BCa",
        "E³ (A²/T)",
        "rate per dollar",
        "joules per token",
        "joules per right answer",
        "margin per run",
        "median latency",
        "goodput",
        "variance between",
        "ICC",
        "weighted vote of 3",
        "hedges per 100 words",
        "accepted above it",
    ],
)
def test_intervals_of_a_hundred_items_hold_the_truth(name):
    """95 % intervals: 93 to 97 of 100 studies, and what chance adds to 500 of them."""
    found = measure(CASES[name], 100, STUDIES, seed=1)

    assert found.none == 0
    assert found.held == pytest.approx(0.95, abs=0.02 + CHANCE)


def test_widened_percentiles_of_few_clusters_hold_the_mean():
    """Eight normal values: percentiles hold their mean in 88 of 100, widened ones in 94; 4,000
    times."""
    rng = np.random.default_rng(6)
    values = rng.normal(0, 1, (8, 4000))
    draws = resampling.resampled_sums(values, 2000, rng) / 8

    held = [
        ((low <= 0) & (high >= 0)).mean()
        for low, high in (resampling.percentile(draws), resampling.percentile(draws, clusters=8))
    ]

    assert held[0] < 0.91
    assert held[1] == pytest.approx(0.95, abs=0.02)


def test_the_tails_are_hesterbergs():
    """Φ(−√(n / (n − 1)) t): by scipy's distributions; none are cut without clusters, or below
    two."""
    n = np.array([1, 2, 10, 1000])

    found = resampling.tails(0.95, n)

    t = np.append(1.0, stats.t.ppf(0.975, n[1:] - 1))
    expected = stats.norm.cdf(-np.sqrt(n[1:] / (n[1:] - 1)) * t[1:])
    assert found[1:] == pytest.approx(expected)
    assert found[0] == pytest.approx(0.025)
    assert resampling.tails(0.95) == pytest.approx(0.025)
    assert found[3] == pytest.approx(0.025, abs=2e-4)


def test_columns_of_different_numbers_of_clusters_are_widened_each_for_itself():
    """Columns side by side are as they are alone, infinite draws among them."""
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(500, 4))
    draws[::7, 3] = np.inf
    clusters = np.array([5, 50, 5, 1])

    low, high = resampling.percentile(draws, 0.9, clusters)

    for j, n in enumerate(clusters):
        alone = resampling.percentile(draws[:, [j]], 0.9, n)
        assert (low[j], high[j]) == (alone[0][0], alone[1][0])
    assert high[3] == np.inf
