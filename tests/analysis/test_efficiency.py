"""Efficiency scores: E³, accuracy per token, dollar, joule and watt."""

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts
from workbench import analysis, charts


def trace(item: str, passed: bool | None = True, group: str = "a", **more) -> dict:
    """One trace of a group on an item."""
    named = {"configuration": group, "task": "t", "task_id": "t", "item": item, "item_id": item}
    return named | {"trial": 0, "passed": passed} | more


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


def nine_in_ten() -> pl.DataFrame:
    """Ten items, nine right, 1,500 output tokens on average."""
    return facts(
        *[
            trace(
                str(i),
                i > 0,
                output_tokens=1050 + 100 * i,
                cost_usd=0.03,
                energy_j=600.0,
                e2e_s=2.0,
            )
            for i in range(10)
        ]
    )


@pytest.mark.parametrize(("scale", "factor"), [("fraction", 1), ("percent", 100)])
def test_e3_and_accuracy_per_length(scale, factor):
    """A = .9, T = 1500: E³ 5.4e-4 as fractions, 5.4 in per cent; .6 per 1k tokens."""
    found = row(analysis.efficiency_scores(nine_in_ten(), scale=scale))

    assert found["e3"] == pytest.approx(5.4e-4 * factor**2)
    assert found["rate_per_ktok"] == pytest.approx(0.6 * factor)
    assert found["rate_per_dollar"] == pytest.approx(30 * factor)
    assert found["rate_per_joule"] == pytest.approx(0.9 / 600 * factor)
    assert found["rate_per_watt"] == pytest.approx(0.9 / 300 * factor)
    assert found["rate"] == pytest.approx(0.9)
    assert (found["n_items"], found["n"], found["n_tokens"], found["n_metered"]) == (10,) * 4


def test_the_e3_of_a_published_row():
    """89.76 % at 2,105.12 tokens is 3.8273 on the scale of per cents."""
    tokens = [2105] * 8800 + [2106] * 1200
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "item_id": [str(i) for i in range(10_000)],
            "output_tokens": tokens,
            "passed": [i < 8976 for i in range(10_000)],
        }
    )

    result = analysis.efficiency_scores(frame, resamples=100)

    assert row(result)["e3"] == pytest.approx(3.8273, abs=5e-5)
    assert result["e3"].unit == "%²/token"
    assert result["rate"].unit == "0..1"


def test_the_scale_is_in_the_units():
    """As fractions E³ is per token; the options tell it too."""
    result = analysis.efficiency_scores(nine_in_ten(), scale="fraction")

    assert result["e3"].unit == "1/token"
    assert result.options["scale"] == "fraction"


def test_each_score_is_of_the_traces_that_have_its_denominator():
    """A right answer of unknown cost makes no dollar look better; it still counts for tokens."""
    frame = facts(
        trace("1", True, output_tokens=100, cost_usd=1.0),
        trace("2", False, output_tokens=300, cost_usd=3.0),
        trace("3", True, output_tokens=200),
        trace("4", None, output_tokens=9, cost_usd=9.0),
        trace("5", None, error_type="timeout", cost_usd=9.0),
    )

    result = analysis.efficiency_scores(frame, scale="fraction")

    found = row(result)
    assert found["rate_per_dollar"] == pytest.approx(0.5 / 2)
    assert found["e3"] == pytest.approx((2 / 3) ** 2 / 200)
    assert (found["n"], found["n_tokens"], found["n_priced"], found["n_metered"]) == (3, 3, 2, 0)
    assert found["rate_per_joule"] is found["rate_per_watt"] is None
    assert result.dropped == {
        "failed traces": 1,
        "unscored traces": 1,
        "traces without cost_usd, left out of its scores": 1,
        "traces without energy_j, left out of its scores": 3,
    }


def test_nothing_right_scores_zero_and_no_tokens_score_nothing():
    """A = 0 is 0; T = 0 has no score, not an infinite one."""
    frame = facts(
        *[trace(str(i), False, output_tokens=50) for i in range(4)],
        *[trace(str(i), True, "b", output_tokens=0) for i in range(4)],
    )

    result = analysis.efficiency_scores(frame)

    assert (row(result)["e3"], row(result)["rate_per_ktok"]) == (0.0, 0.0)
    assert row(result, "b")["e3"] is None
    assert row(result, "b")["n_tokens"] == 4


def test_a_single_item_has_no_interval():
    """One item, two trials: figures without ends."""
    found = row(
        analysis.efficiency_scores(facts(*[trace("1", output_tokens=9, trial=k) for k in (0, 1)]))
    )

    assert found["e3"] == pytest.approx(100**2 / 9)
    assert found["e3_low"] is found["e3_high"] is found["rate_low"] is None


def random_frame(seed: int = 0, n_items: int = 40) -> pl.DataFrame:
    """Two groups, two trials; tokens depend on the item."""
    rng = np.random.default_rng(seed)
    return facts(
        *[
            trace(
                str(i),
                bool(rng.random() < 0.6),
                g,
                trial=k,
                output_tokens=int(rng.gamma(2, 300) + i),
                cost_usd=rng.uniform(0.1, 1),
                energy_j=rng.uniform(10, 99),
                e2e_s=rng.uniform(1, 3),
            )
            for g in "ab"
            for i in range(n_items)
            for k in range(2)
        ]
    )


def test_figures_agree_with_polars_by_hand():
    """Items first, then groups: the same means by two group_bys."""
    frame = random_frame()

    result = analysis.efficiency_scores(frame, scale="fraction").frame.sort("configuration")

    per_item = frame.group_by("configuration", "item_id").agg(
        pl.col("passed", "output_tokens", "energy_j", "e2e_s").mean()
    )
    means = (
        per_item.group_by("configuration").agg(pl.exclude("item_id").mean()).sort("configuration")
    )
    assert result["e3"].to_list() == pytest.approx(
        (means["passed"] ** 2 / means["output_tokens"]).to_list()
    )
    watts = means["energy_j"] / means["e2e_s"]
    assert result["rate_per_watt"].to_list() == pytest.approx((means["passed"] / watts).to_list())


def test_the_interval_agrees_with_the_delta_method():
    """ln E³ = 2 ln A − ln T: its standard error by linearisation gives the same ends to a tenth."""
    frame = random_frame(1, n_items=300).filter(configuration="a")
    found = row(analysis.efficiency_scores(frame, scale="fraction"))

    per_item = frame.group_by("item_id").agg(pl.col("passed", "output_tokens").mean())
    a, t = per_item["passed"].to_numpy(), per_item["output_tokens"].to_numpy()
    influence = 2 * (a - a.mean()) / a.mean() - (t - t.mean()) / t.mean()
    se = np.sqrt((influence**2).sum()) / len(a)
    ends = found["e3"] * np.exp([-1.96 * se, 1.96 * se])
    width = ends[1] - ends[0]
    assert found["e3_low"] == pytest.approx(ends[0], abs=0.1 * width)
    assert found["e3_high"] == pytest.approx(ends[1], abs=0.1 * width)


def test_scores_ignore_doubled_imports_and_scale_with_the_unit():
    """The same traces twice change nothing; tokens counted in tens divide by ten."""
    frame = random_frame()
    plain = analysis.efficiency_scores(frame).frame

    doubled = analysis.efficiency_scores(pl.concat([frame, frame])).frame
    tens = analysis.efficiency_scores(frame.with_columns(pl.col("output_tokens") * 10)).frame

    counts = [c for c in plain.columns if c.startswith("n") and c != "n_items"]
    pl.testing.assert_frame_equal(doubled.drop(counts), plain.drop(counts))
    assert tens["e3"].to_list() == pytest.approx((plain["e3"] / 10).to_list())
    assert tens["e3_low"].to_list() == pytest.approx((plain["e3_low"] / 10).to_list())


def test_a_short_wrong_answer_wins_per_token_but_not_by_e3():
    """A third as right at a quarter of the length: ahead per 1k tokens, behind by E³."""
    frame = facts(
        *[trace(str(i), i < 9, "long", output_tokens=400) for i in range(12)],
        *[trace(str(i), i < 3, "short", output_tokens=100) for i in range(12)],
    )

    result = analysis.efficiency_scores(frame)

    assert row(result, "short")["rate_per_ktok"] > row(result, "long")["rate_per_ktok"]
    assert result.frame["configuration"].to_list() == ["long", "short"]


def test_the_chart_has_a_band_per_known_score(tmp_path):
    """What is unknown has no band; a single score can be asked for."""
    result = analysis.efficiency_scores(
        nine_in_ten().with_columns(cost_usd=pl.lit(None, pl.Float64))
    )

    picture = charts.save(charts.chart(result), tmp_path / "c.svg").read_text()
    single = charts.save(charts.chart(result, x="rate"), tmp_path / "d.svg").read_text()

    assert "Accuracy per 1k tokens (%/ktok)" in picture
    assert "per dollar" not in picture.replace("without cost_usd", "")
    assert "Accuracy" in single
