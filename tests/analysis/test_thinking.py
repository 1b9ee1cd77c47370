"""Thinking length: censored lengths, the Gamma fit, right against wrong."""

import json

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts
from workbench import analysis, charts
from workbench.analysis.stats import quantiles, survival

SEEN = np.array([900, 1200, 1500, 2100, 3300, 4800, 2500, 1800], float)


def thought(item: str, tokens: int | None, passed: bool | None = True, group: str = "a", **more):
    """One trace that thought; a hundred visible tokens follow."""
    named = {"configuration": group, "task": "t", "task_id": "t", "item": item, "item_id": item}
    output = None if tokens is None else tokens + 100
    named |= {"trial": 0, "reasoning_tokens": tokens, "output_tokens": output, "passed": passed}
    return named | more


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- lengths ---


def test_the_gamma_fit_of_eight_lengths():
    """Maximum likelihood: shape 4.002328, scale 565.296, as scipy's own fit."""
    from scipy import stats

    found = survival.gamma(survival.count_lengths(SEEN, np.zeros(8, bool)))

    assert (found.shape, found.scale) == pytest.approx((4.002328, 565.296), rel=1e-5)
    shape, _, scale = stats.gamma.fit(SEEN, floc=0)
    assert (found.shape, found.scale) == pytest.approx((shape, scale), rel=1e-5)
    assert found.distance == pytest.approx(
        stats.kstest(SEEN, "gamma", (shape, 0, scale)).statistic, abs=1e-4
    )


def test_a_cut_sample_gives_the_uncut_distribution_back():
    """Gamma(2, 1500) cut at 3,000: 59.3994 % ended; the fit finds mean 3,000 all the same."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2, 1500, 20_000)
    cut = x > 3000

    found = survival.gamma(survival.count_lengths(np.minimum(x, 3000), cut))

    assert 1 - cut.mean() == pytest.approx(0.593994, abs=0.01)
    assert found.shape == pytest.approx(2, rel=0.04)
    assert found.mean == pytest.approx(3000, rel=0.03)
    assert np.minimum(x, 3000).mean() < 2300


def test_the_censored_fit_agrees_with_scipys():
    """The same likelihood by scipy's CensoredData."""
    from scipy import stats

    rng = np.random.default_rng(1)
    x = rng.gamma(3, 700, 300)
    cut = x > 2500
    shown = np.minimum(x, 2500)

    found = survival.gamma(survival.count_lengths(shown, cut))

    data = stats.CensoredData(uncensored=shown[~cut], right=shown[cut])
    shape, _, scale = stats.gamma.fit(data, floc=0)
    assert (found.shape, found.scale) == pytest.approx((shape, scale), rel=1e-3)


def test_the_product_limit_of_freireich():
    """Remission of 21 patients on 6-MP (Freireich 1963): S(6) = .8571, S(10) = .7529, S(23) =
    .4482."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    cut = [0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]

    steps = survival.product_limit(np.array(times, float), np.array(cut, bool))

    surviving = dict(zip(steps.at, 1 - steps.share, strict=True))
    assert (surviving[6], surviving[10], surviving[23]) == pytest.approx(
        (0.8571, 0.7529, 0.4482), abs=5e-5
    )
    assert steps.quantile(0.5) == 23
    assert np.isnan(steps.quantile(0.9))


def test_the_influence_has_greenwoods_variance():
    """Σ IF² / n² is near Greenwood's at the published point: SE(S(10)) = .0963."""
    times = np.array(
        [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35], float
    )
    cut = np.array([0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1], bool)

    influence = survival._influence(survival.count_lengths(times, cut), cut, 10.0)

    assert np.sqrt((influence**2).sum()) / 21 == pytest.approx(0.0963, rel=0.06)
    assert influence.mean() == pytest.approx(0, abs=0.01)


def test_without_cuts_the_product_limit_is_the_share_of_lengths():
    """And its intervals are those of plain quantiles, to the order statistic."""
    rng = np.random.default_rng(2)
    x = rng.permutation(np.arange(1.0, 501.0))
    codes = np.arange(500) // 5

    steps = survival.product_limit(x, np.zeros(500, bool))
    whole = np.zeros(500, bool)
    found = survival.quantiles(survival.count_lengths(x, whole), whole, codes, (0.5, 0.9))
    plain = quantiles.quantiles(x, codes, (0.5, 0.9))

    assert steps.share == pytest.approx(np.arange(1, 501) / 500)
    assert np.abs(found - plain).max() <= 2


def test_the_interval_of_a_cut_median_covers_it():
    """Lengths in items of three trials, a third cut: 95 % within two points, 1,200 times."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(60), 3)
    truth = 1000.0  # the median of exp(N(ln 1000, ·))
    hits = 0
    for _ in range(1200):
        item = rng.normal(0, 0.5, 60)[codes]
        x = 1000 * np.exp(item + rng.normal(0, 0.5, 180))
        limit = rng.uniform(700, 4000, 180)
        cut = x > limit
        sample = survival.count_lengths(np.minimum(x, limit), cut)
        ((_, low, high),) = survival.quantiles(sample, cut, codes, (0.5,))
        hits += low <= truth <= (np.inf if np.isnan(high) else high)

    assert hits / 1200 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("x", [[5.0] * 9, [0.0] * 9, [1.0, 2.0], []])
def test_what_cannot_be_fitted_has_no_fit(x):
    """All equal, all zero, two lengths, none."""
    assert survival.gamma(survival.count_lengths(np.array(x), np.zeros(len(x), bool))) is None


# --- the analysis ---


def test_gpt_5_2_on_aime(shared_data):
    """388,934 thinking tokens of 440,617 output tokens: the released totals."""
    run = json.loads(
        (shared_data / "pricing_reversal/aime/aime-hybrid-gpt-5.2-high.json").read_text()
    )
    frame = facts(
        *[
            thought(
                str(r["index"]),
                r["thinking_tokens"],
                r["score"] >= 1,
                output_tokens=r["completion_tokens"],
            )
            for r in run["records"]
        ]
    )

    found = row(analysis.thinking_length(frame))

    assert found["reasoning_tokens"] * found["n"] == pytest.approx(388_934)
    assert found["share_of_output"] == pytest.approx(388_934 / 440_617)
    assert (
        found["share_of_output_low"] < found["share_of_output"] < found["share_of_output_high"] <= 1
    )
    assert (found["n_right"], found["n_wrong"], found["wrong_tokens"]) == (60, 0, None)
    assert found["right_tokens"] == found["reasoning_tokens"]
    assert found["wrong_extra_tokens"] is None


def test_thinking_that_ran_into_a_limit_is_cut():
    """No visible token after max_tokens: cut. Visible ones, another stop, or no limit: not."""
    frame = facts(
        thought("1", 500, stop_reason="max_tokens", output_tokens=500),
        thought("2", 500, stop_reason="max_tokens"),
        thought("3", 500, stop_reason="stop", output_tokens=500),
        thought("4", 500, limit_type="tokens", output_tokens=None),
        thought("5", 500, thinking_budget_tokens=500),
        thought("6", 400, thinking_budget_tokens=500),
    )

    with_budget, without = (analysis.thinking_length(frame, budget_cuts=b) for b in (True, False))

    assert row(with_budget)["n_censored"] == 3
    assert row(without)["n_censored"] == 2
    assert "3 of 6 were cut" in with_budget.notes[0]


def test_cuts_move_the_percentiles_up_never_down():
    """Two of six cut at 300: the median allows for them, and p90 is beyond what was seen."""
    lengths_ = [100, 200, 300, 300, 250, 150]
    plain = facts(*[thought(str(i), x) for i, x in enumerate(lengths_)])
    cut = facts(
        *[
            thought(
                str(i), x, **({"stop_reason": "max_tokens", "output_tokens": x} if x == 300 else {})
            )
            for i, x in enumerate(lengths_)
        ]
    )

    before, after = row(analysis.thinking_length(plain)), row(analysis.thinking_length(cut))

    assert before["p90_tokens"] == 300
    assert after["p90_tokens"] is None
    assert after["p50_tokens"] >= before["p50_tokens"]
    assert after["n_censored"] == 2


def test_right_against_wrong_by_hand():
    """Means 200 and 500; within the only mixed item 400 − 100 = 300."""
    frame = facts(
        thought("1", 100, True),
        thought("1", 400, False, trial=1),
        thought("2", 300, True),
        thought("3", 600, False),
        thought("4", 999, None),
    )

    found = row(analysis.thinking_length(frame))

    assert (found["right_tokens"], found["wrong_tokens"]) == (200, 500)
    assert found["wrong_extra_tokens"] == 300
    assert (found["n_mixed"], found["wrong_extra_within_tokens"]) == (1, 300)
    assert found["wrong_extra_within_tokens_low"] is None
    assert (found["n_right"], found["n_wrong"], found["n"]) == (2, 2, 5)


def test_hard_items_do_not_make_long_thinking_wrong():
    """Length follows difficulty alone: a gap at large, none within items."""
    rng = np.random.default_rng(6)
    frame = facts(
        *[
            thought(
                str(i), int(200 + 40 * i + rng.normal(0, 20)), bool(rng.random() > i / 50), trial=k
            )
            for i in range(50)
            for k in range(8)
        ]
    )

    found = row(analysis.thinking_length(frame))

    assert found["wrong_extra_tokens_low"] > 300
    assert abs(found["wrong_extra_within_tokens"]) < 20
    assert found["wrong_extra_within_tokens_low"] < 0 < found["wrong_extra_within_tokens_high"]


def test_the_interval_of_the_difference_is_welchs_without_clusters():
    """One trial an item: the linearised standard error is √(s²/n + s²/n), corrected for 100
    clusters."""
    rng = np.random.default_rng(7)
    right, wrong = rng.integers(100, 900, 60), rng.integers(300, 1500, 40)
    frame = facts(
        *[thought(f"r{i}", int(x), True) for i, x in enumerate(right)],
        *[thought(f"w{i}", int(x), False) for i, x in enumerate(wrong)],
    )

    found = row(analysis.thinking_length(frame))

    se = np.sqrt(100 / 99 * (right.var() / 60 + wrong.var() / 40))
    # 1.984217 is the 97.5 % quantile of t with 99 degrees of freedom.
    assert found["wrong_extra_tokens_high"] - found["wrong_extra_tokens"] == pytest.approx(
        1.984217 * se
    )


def test_unknown_thinking_is_unknown_and_none_is_none():
    """A group that reports nothing has a row of unknowns; one that does not think a median of 0."""
    frame = facts(
        *[thought(str(i), None, group="silent") for i in range(3)],
        *[thought(str(i), 0, group="direct") for i in range(3)],
        thought("9", 50, None, error_type="timeout"),
    )

    result = analysis.thinking_length(frame)

    silent, direct = row(result, "silent"), row(result, "direct")
    assert (silent["n"], silent["p50_tokens"], silent["reasoning_tokens"]) == (0, None, None)
    assert (direct["p50_tokens"], direct["share_of_output"], direct["gamma_shape"]) == (0, 0, None)
    assert result.dropped == {"failed traces": 1, "traces without reasoning_tokens": 3}


def test_lengths_scale_with_the_unit_and_ignore_order():
    """Ten times the tokens, ten times the lengths; shape and shares stay."""
    rng = np.random.default_rng(8)
    frame = facts(
        *[
            thought(
                str(i % 20), int(rng.gamma(2, 400)) + 1, bool(rng.random() < 0.5), g, trial=i // 20
            )
            for g in "ab"
            for i in range(60)
        ]
    )
    plain = analysis.thinking_length(frame).frame
    tokens = [c for c in plain.columns if "tokens" in c]

    tens = analysis.thinking_length(
        frame.with_columns(pl.col("reasoning_tokens", "output_tokens") * 10)
    )
    shuffled = analysis.thinking_length(frame.sample(fraction=1, shuffle=True, seed=1))

    pl.testing.assert_frame_equal(
        tens.frame, plain.with_columns(pl.col(tokens) * 10), rel_tol=1e-5, abs_tol=1e-8
    )
    pl.testing.assert_frame_equal(shuffled.frame, plain)


def test_the_chart_shows_both_means(tmp_path):
    """Its legend names the marks; any other column can be asked for."""
    frame = facts(*[thought(str(i), 100 * (i + 1), i % 2 == 0) for i in range(8)])
    result = analysis.thinking_length(frame)

    picture = charts.save(charts.chart(result), tmp_path / "c.svg").read_text()
    share = charts.save(charts.chart(result, x="share_of_output"), tmp_path / "d.svg").read_text()

    assert "mean when wrong" in picture
    assert "Share of output" in share
