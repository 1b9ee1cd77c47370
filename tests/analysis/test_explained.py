"""Explained variance: a statsmodels GLM and ANOVA as independent derivations, known truth,
traps."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize, special

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.errors import AnalysisError


def world(seed=1, *, items=60, groups=3, task_effect=1.5, group_effect=0.5):
    """Traces with known effects of task and group; four tasks, two trials."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(items):
        for g in range(groups):
            for k in range(2):
                logit = task_effect * (i % 4 - 1.5) + group_effect * (g - 1)
                passed = bool(rng.random() < special.expit(logit))
                rows.append(
                    trace(f"g{g}", f"i{i}", passed, k, task=f"t{i % 4}", task_id=f"t{i % 4}")
                )
    return facts(*rows)


def independent(frame, *columns):
    """The deviance of an additive logit by a general optimiser on single traces."""
    y = frame["passed"].cast(pl.Float64).to_numpy()
    design = np.hstack(
        [np.ones((len(y), 1)), *(frame[c].to_dummies().to_numpy()[:, 1:] for c in columns)]
    )

    def loss(b):
        eta = design @ b
        return 2 * (np.logaddexp(0, eta) - y * eta).sum(), 2 * design.T @ (special.expit(eta) - y)

    return optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS").fun


def test_shares_are_those_of_a_fitted_logit():
    """Alone and beside the others, as an optimiser of the likelihood finds them."""
    frame = world()
    found = {r["factor"]: r for r in analysis.explained_variance(frame).frame.iter_rows(named=True)}
    null, full = independent(frame), independent(frame, "task", "configuration")
    for factor, other in (("task", "configuration"), ("configuration", "task")):
        alone = independent(frame, factor)
        assert found[factor]["explained"] == pytest.approx(1 - alone / null, abs=1e-6)
        beside = (independent(frame, other) - full) / null
        assert found[factor]["explained_beside"] == pytest.approx(beside, abs=1e-6)
        adjusted = 1 - (alone + found[factor]["n_levels"] - 1) / null
        assert found[factor]["explained_adjusted"] == pytest.approx(adjusted, abs=1e-6)


def test_the_stronger_factor_comes_first_and_its_interval_holds_it():
    """The task explains more here, and the interval is around the share."""
    rows = analysis.explained_variance(world()).frame.rows(named=True)
    assert [r["factor"] for r in rows] == ["task", "configuration"]
    for row in rows:
        assert row["explained_low"] <= row["explained"] <= row["explained_high"]


def test_a_level_that_is_always_right_has_a_limit():
    """Separation: no finite effect, and still a deviance."""
    rows = [trace("a", f"i{k}", True) for k in range(8)]
    rows += [trace("b", f"i{k}", k < 4) for k in range(8)]
    found = analysis.explained_variance(facts(*rows), factors="").frame.row(0, named=True)
    null = -2 * (12 * np.log(12 / 16) + 4 * np.log(4 / 16))
    assert found["explained"] == pytest.approx(1 - (-2 * 8 * np.log(0.5)) / null)
    assert found["explained_beside"] == pytest.approx(found["explained"], abs=1e-6)


def test_noise_explains_nothing_once_adjusted():
    """Over simulations without effects the adjusted share averages 0, the plain one does not."""
    found = [
        analysis.explained_variance(
            world(s, items=40, task_effect=0, group_effect=0), resamples=100
        ).frame
        for s in range(30)
    ]
    task = pl.concat(found).filter(pl.col("factor") == "task")
    assert abs(task["explained_adjusted"].mean()) < 0.003
    assert task["explained"].mean() > 0.005
    assert (task["explained_low"] == 0).mean() >= 0.93  # 0 is in 95 % of the intervals


def test_the_analysis_of_variance_by_hand():
    """Three groups on four items: squares and F from their definitions."""
    table = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1], [1, 0, 0]], float)
    rows = [trace(f"g{g}", f"i{i}", bool(table[i, g])) for i in range(4) for g in range(3)]
    anova = (
        analysis.explained_variance(facts(*rows)).more["anova"].rows_by_key("source", named=True)
    )
    mean = table.mean()
    groups = 4 * ((table.mean(axis=0) - mean) ** 2).sum()
    items = 3 * ((table.mean(axis=1) - mean) ** 2).sum()
    left = ((table - mean) ** 2).sum() - groups - items
    assert anova["groups"][0]["squares"] == pytest.approx(groups)
    assert anova["left"][0]["squares"] == pytest.approx(left)
    f = (groups / 2) / (left / 6)
    assert anova["groups"][0]["f"] == pytest.approx(f)
    assert anova["groups"][0]["p"] == pytest.approx(special.fdtrc(2, 6, f))


def test_two_groups_give_the_paired_t_test():
    """F = t² on the items both have."""
    from scipy import stats

    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, (2, 30))
    rows = [trace(g, f"i{i}", bool(v)) for g, x in (("a", a), ("b", b)) for i, v in enumerate(x)]
    anova = analysis.explained_variance(facts(*rows)).more["anova"]
    t = stats.ttest_rel(a, b)
    first = anova.row(0, named=True)
    assert first["f"] == pytest.approx(t.statistic**2)
    assert first["p"] == pytest.approx(t.pvalue)


def test_traps():
    """All right: null shares; a factor of too many levels and an unknown one are told."""
    frame = facts(*[trace(g, f"i{k}", True) for g in "ab" for k in range(4)])
    row = analysis.explained_variance(frame).frame.row(0, named=True)
    assert (row["explained"], row["explained_low"], row["explained_beside"]) == (None, None, None)
    many = facts(*[trace("a", f"i{k}", k % 2 == 0) for k in range(600)])
    with pytest.raises(AnalysisError, match="600 levels"):
        analysis.explained_variance(many, factors="item_id")
    with pytest.raises(AnalysisError, match="factor"):
        analysis.explained_variance(many, factors="colour")
    assert analysis.explained_variance(facts(trace("a", "i", None))).frame.is_empty()
