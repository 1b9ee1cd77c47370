"""Aggregates over tasks and repeats: rliable's own examples, an independent derivation, coverage,
traps."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.analysis.families.evidence.aggregate import probability_of_improvement


def scored(group, task, scores):
    """One graded item per task, a repeat per score."""
    return [
        trace(group, f"{task}-1", None, k, task=task, task_id=task, score=s)
        for k, s in enumerate(scores)
    ]


def ask(*rows, **options):
    """Aggregate graded scores."""
    return analysis.aggregate(facts(*rows), outcome="score", **options)


def test_the_examples_of_rliable():
    """x = [[1,2],[2,2],[1,1],[2,1]], y = [[1,1],[2,2],[3,3]] over 4: all figures 1.5 and 2; P(x >
    y) = 1/3."""
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]) / 4, np.array([[1, 1], [2, 2], [3, 3]]) / 4
    rows = [
        r
        for name, matrix in (("x", x), ("y", y))
        for t in range(2)
        for r in scored(name, f"t{t}", matrix[:, t])
    ]
    result = ask(*rows)
    found = {r["configuration"]: r for r in result.frame.iter_rows(named=True)}

    for name, value in (("x", 1.5), ("y", 2.0)):
        for column in ("mean", "median", "iqm"):
            assert found[name][column] == pytest.approx(value / 4)
        assert found[name]["optimality_gap"] == pytest.approx(1 - value / 4)
    pair = result.more["improvement"].row(0, named=True)
    assert (pair["a"], pair["b"], pair["improvement"]) == ("x", "y", pytest.approx(1 / 3))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 13])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n):
    """A quarter is cut from each end, int(N / 4) scores, none of three or fewer."""
    values = np.random.default_rng(n).random(n)
    found = ask(*scored("a", "t", values)).frame.row(0, named=True)
    assert found["iqm"] == pytest.approx(stats.trim_mean(values, 0.25))


def test_unequal_repeats_and_missing_tasks():
    """Tasks with fewer repeats weigh by their scores in the IQM and alike in the mean."""
    rows = [*scored("a", "t", [0.2, 0.4, 0.6]), *scored("a", "u", [0.9])]
    found = ask(*rows, resample_tasks=True).frame.row(0, named=True)
    assert found["mean"] == pytest.approx((0.4 + 0.9) / 2)
    assert found["iqm"] == pytest.approx(stats.trim_mean([0.2, 0.4, 0.6, 0.9], 0.25))
    assert 0.2 <= found["iqm_low"] <= found["iqm"] <= found["iqm_high"] <= 0.9
    apart = ask(*scored("a", "t", [0.1, 0.2]), *scored("b", "u", [0.3, 0.4]))
    assert apart.more["improvement"].row(0) == ("a", "b", None, None, None, 0)


def test_improvement_is_mann_whitneys_u():
    """U / (n m), ties half; equal arrays give one half."""
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5, 9) / 4, rng.integers(0, 5, 6) / 4
    u = stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement(x[None], y[None])[0] == pytest.approx(u / 54)
    assert probability_of_improvement(x[None], x[None])[0] == pytest.approx(0.5)


def test_the_profile_is_strictly_above():
    """A score counts below itself and not at itself."""
    profile = ask(*scored("a", "t", [0.5, 0.5, 1.0, 0.0])).more["profile"]
    above = dict(zip(profile["threshold"].round(2), profile["above"], strict=True))
    assert (above[0.0], above[0.48], above[0.5], above[1.0]) == (0.75, 0.75, 0.25, 0.0)
    assert profile["above"].is_sorted(descending=True)


def test_the_interval_of_a_mean_is_that_of_a_t_distribution():
    """Mean ± t · √(Σ s² / n) / tasks with tasks × (n − 1) degrees of freedom; one seed, one
    answer."""
    rng = np.random.default_rng(5)
    tasks = {f"t{k}": rng.random(6) for k in range(4)}
    rows = [r for t, s in tasks.items() for r in scored("a", t, s)]
    found = ask(*rows, resamples=20_000).frame.row(0, named=True)
    se = np.sqrt(sum(s.var(ddof=1) / 6 for s in tasks.values())) / 4
    reach = stats.t.ppf(0.975, 4 * 5) * se
    assert (found["mean_high"] - found["mean_low"]) / 2 == pytest.approx(reach, rel=0.03)
    assert ask(*rows).frame.equals(ask(*rows).frame)


def test_one_repeat_has_no_interval_and_says_so():
    """Null, not zero width."""
    result = ask(*scored("a", "t", [0.5]), *scored("a", "u", [0.7]))
    found = result.frame.row(0, named=True)
    assert (found["iqm"], found["iqm_low"], found["iqm_high"]) == (pytest.approx(0.6), None, None)
    assert "one repeat" in result.notes[0]


def test_right_and_wrong_are_scored_per_task():
    """Binary items become task scores per trial before anything is cut."""
    rng = np.random.default_rng(9)
    rows = [
        trace("a", f"{t}{i}", bool(rng.random() < 0.5), k, task=t, task_id=t)
        for t in "tu"
        for i in range(20)
        for k in range(3)
    ]
    frame = facts(*rows)
    found = analysis.aggregate(frame).frame.row(0, named=True)
    each = frame.group_by("task", "trial").agg(pl.col("passed").mean())["passed"].to_numpy()
    assert found["iqm"] == pytest.approx(stats.trim_mean(each, 0.25))
    assert (found["n_units"], found["n_repeats"], found["n"]) == (2, 3, 120)


def test_nothing_scored_is_an_empty_answer():
    """No rows, and no fault."""
    assert ask(trace("a", "i", None)).frame.is_empty()
