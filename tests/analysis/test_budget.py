"""Budget curves: anytime scores, areas, regret, marginal cost, overthinking."""

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, levels, tried
from workbench import analysis, charts
from workbench.analysis.families.budgets import budget_curve as module
from workbench.errors import AnalysisError

FOUR = {2000: 0.20, 4000: 0.35, 6000: 0.42, 8000: 0.45}


def test_anytime_scores_of_four_budgets():
    """.20 .35 .42 .45 at 2k to 8k: uniform .355, linear .396; the largest alone .45."""
    result = analysis.budget_curve(facts(*levels(FOUR)), by="model")

    area = result.more["areas"].row(0, named=True)
    assert area["mean_rate"] == pytest.approx(0.355)
    assert area["linear_rate"] == pytest.approx(0.396)
    assert result.frame["rate"].to_list() == pytest.approx([0.20, 0.35, 0.42, 0.45])
    assert (area["best_level"], area["n_levels"], area["n_overthinking"]) == ("8000", 4, 0)


def test_normalised_regret_of_a_published_form():
    """(0,0), (1000,.2), (2000,.5), (4000,.8) up to 4096: area .445996, regret .554004."""
    found = module.area(np.array([1000.0, 2000, 4000]), np.array([0.2, 0.5, 0.8]), 4096)

    assert found == pytest.approx(0.445996, abs=5e-7)
    assert 1 - found == pytest.approx(0.554004, abs=5e-7)


@pytest.mark.parametrize("upto", [None, 1500.0, 9000.0])
def test_areas_agree_with_numpys_trapezia(upto):
    """A fine grid of the interpolated curve; on the logarithm too."""
    b, y = np.array([1000.0, 3000, 8000]), np.array([0.1, 0.6, 0.5])
    top = upto or 8000.0
    grid = np.linspace(0, top, 200_001)

    fine = np.trapezoid(np.interp(grid, [0, *b], [0, *y]), grid) / top
    log_grid = np.linspace(np.log(1000), np.log(8000), 200_001)
    log = np.trapezoid(np.interp(log_grid, np.log(b), y), log_grid) / np.log(8)

    assert module.area(b, y, upto) == pytest.approx(fine, abs=1e-8)
    assert module.log_area(b, y) == pytest.approx(log, abs=1e-8)


def test_no_thinking_starts_the_curve_at_its_own_accuracy():
    """A budget of 0 with 40 % and 60 % at 1,000: area .5; it is no part of the logarithm."""
    result = analysis.budget_curve(facts(*levels({0: 0.4, 1000: 0.6})), by="model")

    area = result.more["areas"].row(0, named=True)
    assert area["area"] == pytest.approx(0.5)
    assert area["regret"] == pytest.approx(0.5)
    assert area["log_area"] is None


def test_marginal_cost_per_point():
    """+15 points for $1 more: 1/15 a point; 10 J more for them: 2/3 J; the first level has none."""
    found = analysis.budget_curve(facts(*levels(FOUR)), by="model").frame

    assert found["per_point_usd"].to_list() == pytest.approx([None, 1 / 15, 1 / 7, 1 / 3])
    assert found["per_point_j"].to_list() == pytest.approx([None, 10 / 15, 10 / 7, 10 / 3])
    assert found["gain"].to_list() == pytest.approx([None, 0.15, 0.07, 0.03])
    assert found["per_point_usd_low"][1] < 1 / 15 < found["per_point_usd_high"][1]
    assert found["per_point_usd_low"][0] is None


def test_dearer_and_no_better_is_infinite_and_cheaper_has_no_price():
    """Equal accuracy at twice the cost costs infinity a point; a cheaper level is no purchase."""
    dear = facts(*levels({1000: 0.5, 2000: 0.5, 3000: 0.4}))
    cheap = facts(*levels({2000: 0.5}, cost=2.0), *levels({4000: 0.6}, cost=1.0))

    found = analysis.budget_curve(dear, by="model").frame
    saved = analysis.budget_curve(cheap, by="model").frame

    assert found["per_point_usd"].to_list() == [None, np.inf, np.inf]
    assert found["overthinking"].to_list() == pytest.approx([0, 0, 0.1])
    assert saved["per_point_usd"].to_list() == [None, None]
    assert saved["gain"][1] == pytest.approx(0.1)


def test_efforts_are_ordered_by_meaning_and_have_no_area():
    """low, medium, high; words have no size to integrate over."""
    result = analysis.budget_curve(
        facts(*levels({"high": 0.7, "low": 0.3, "medium": 0.5})), by="model"
    )

    area = result.more["areas"].row(0, named=True)
    assert result.frame["level"].to_list() == ["low", "medium", "high"]
    assert area["mean_rate"] == pytest.approx(0.5)
    assert area["area"] is area["linear_rate"] is area["log_area"] is None


def test_levels_are_compared_on_common_items():
    """An item that one level lacks is left out of all, and counted; so are traces without a
    level."""
    frame = facts(
        *levels({1000: 0.5, 2000: 0.75}, n_items=4),
        tried("9", 2000, True),
        tried("1", None, False),
        tried("0", 1000, None, trial=1),
    )

    result = analysis.budget_curve(frame, by="model")

    assert result.frame["n_items"].to_list() == [4, 4]
    assert result.frame["rate"].to_list() == [0.5, 0.75]
    assert result.dropped == {
        "unscored traces": 1,
        "traces without thinking_budget_tokens": 1,
        "items that not every level was tried on": 1,
    }


def test_a_cost_that_one_trace_lacks_is_unknown():
    """Else cost and accuracy would be of different traces."""
    rows = levels({1000: 0.5, 2000: 0.75}, n_items=4)
    rows[0]["cost_usd"] = None

    found = analysis.budget_curve(facts(*rows), by="model").frame

    assert found["cost_usd"].to_list() == [None, 2.0]
    assert found["per_point_usd"].to_list() == [None, None]


def test_one_level_alone_is_told():
    """By configuration every group has one level: a note says what to group by."""
    result = analysis.budget_curve(facts(*levels(FOUR)))

    assert result.frame["place"].to_list() == [1] * 4
    assert "group by what stays the same" in result.notes[0]
    with pytest.raises(AnalysisError, match="axis of the curve"):
        analysis.budget_curve(facts(*levels(FOUR)), by=("model", "thinking_budget_tokens"))


def test_a_single_item_has_no_interval():
    """One item at two budgets: figures without ends."""
    result = analysis.budget_curve(facts(tried("1", 1000, False), tried("1", 2000)), by="model")

    assert result.frame["rate"].to_list() == [0, 1]
    assert result.frame["rate_low"].to_list() == [None, None]
    assert result.more["areas"]["area_low"].item() is None


def test_gains_are_paired():
    """Two levels that differ on few items: the gain's interval is far narrower than unpaired."""
    result = analysis.budget_curve(facts(*levels({1000: 0.5, 2000: 0.55}, n_items=200)), by="model")

    second = result.frame.row(1, named=True)
    width = second["gain_high"] - second["gain_low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.05 * 0.95 / 200), rel=0.12)
    assert second["gain_low"] > 0


def test_regret_bounds_and_monotonicity():
    """0 ≤ area ≤ best; more accuracy anywhere, less regret; cents are a hundred dollars."""
    base = analysis.budget_curve(facts(*levels(FOUR)), by="model")
    better = analysis.budget_curve(facts(*levels(FOUR | {6000: 0.44})), by="model")
    cents = analysis.budget_curve(
        facts(*levels(FOUR)).with_columns(pl.col("cost_usd") * 100), by="model"
    )

    old, new = (r.more["areas"].row(0, named=True) for r in (base, better))
    assert 0 <= old["area"] <= 0.45
    assert new["regret"] < old["regret"]
    money = [c for c in base.frame.columns if "_usd" in c]
    pl.testing.assert_frame_equal(cents.frame, base.frame.with_columns(pl.col(money) * 100))


def test_tasks_and_groups_have_curves_of_their_own():
    """Two tasks and two models: four curves, each with its own items."""
    rows = [
        r | {"model": m, "task": t, "task_id": t, "item_id": f"{t}{r['item']}"}
        for m in "ab"
        for t in "xy"
        for r in levels({1000: 0.25, 2000: 0.5}, n_items=8)
    ]

    result = analysis.budget_curve(facts(*rows), by=("model", "task"))

    assert result.frame.select("model", "task").n_unique() == 4
    assert result.frame["n_items"].to_list() == [8] * 8
    assert result.more["areas"].height == 4


def test_the_chart_names_levels_and_groups(tmp_path):
    """Levels are written beside their points; the marginal cost can be drawn, infinity left out."""
    result = analysis.budget_curve(facts(*levels(FOUR | {9000: 0.45})), by="model")

    picture = charts.save(charts.chart(result), tmp_path / "c.svg").read_text()
    marginal = charts.save(charts.chart(result, y="per_point_usd", x="place"), tmp_path / "d.svg")

    assert ">4000<" in picture
    assert "Output tokens spent" in picture
    assert "Marginal cost per point (USD)" in marginal.read_text()
