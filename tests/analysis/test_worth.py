"""Summary, frontier and compare: published figures, second derivations and traps."""

import csv
import json

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, row
from tests.support.scored_traces import counted, trace
from workbench import analysis
from workbench.errors import AnalysisError


def many(n_items: int = 30, trials: int = 3, seed: int = 0, **rates: float) -> pl.DataFrame:
    """Groups with given pass rates on the same items; costs rise with the rate."""
    rng = np.random.default_rng(seed)
    return facts(
        *[
            trace(
                g,
                str(i),
                bool(rng.random() < p),
                p * rng.uniform(0.5, 1.5),
                trial=k,
                e2e_s=rng.uniform(1, 3),
                ttft_s=0.2,
                output_tokens=int(100 * p),
            )
            for g, p in rates.items()
            for i in range(n_items)
            for k in range(trials)
        ]
    )


# --- summary ---


def tau_bench(shared_data) -> pl.DataFrame:
    traces = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    return facts(
        *[
            trace("gpt-4o", str(t["task_id"]), abs(t["reward"] - 1) < 1e-6, None, trial=t["trial"])
            for t in traces
        ]
    )


def test_summary_of_tau_bench(shared_data):
    """Pass rate .42 with the clustered interval, wider than that of 200 independent traces."""
    frame = tau_bench(shared_data)

    t = row(analysis.summary(frame, interval="t"))
    wilson = row(analysis.summary(frame))

    assert t["pass_rate"] == pytest.approx(0.42)
    assert (t["n"], t["n_items"], t["n_unpriced"]) == (200, 50, 200)
    # 2.009575 is the 97.5 % quantile of t with 49 degrees of freedom.
    assert t["pass_rate_high"] - 0.42 == pytest.approx(2.009575 * 0.052216, abs=2e-6)
    assert wilson["pass_rate_low"] < 0.353736
    assert wilson["pass_rate_high"] > 0.489279
    assert wilson["cost_usd"] is None
    assert wilson["total_cost_usd"] is None


def test_independent_traces_have_the_plain_wilson_interval():
    """84 of 200 items, one trial each: Wilson's own interval."""
    found = row(analysis.summary(facts(*[trace("a", str(i), i < 84) for i in range(200)])))

    ends = (found["pass_rate_low"], found["pass_rate_high"])
    assert ends == pytest.approx((0.353736, 0.489279), abs=1e-6)


def test_items_weigh_alike_whatever_their_trials():
    """One item tried nine times counts as much as one tried once."""
    frame = facts(
        *[trace("a", "1", True, 1.0, trial=k) for k in range(9)], trace("a", "2", False, 5.0)
    )

    found = row(analysis.summary(frame))

    assert found["pass_rate"] == 0.5
    assert found["cost_usd"] == 3.0
    assert found["total_cost_usd"] == 14.0


def test_unknown_stays_unknown_in_the_summary():
    """A mean is of the known ones, a total is null when a part is unknown; both are told."""
    frame = facts(
        trace("a", "1", cost=2.0), trace("a", "2", cost=None), trace("a", "3", None, cost=4.0)
    )

    result = analysis.summary(frame)
    partial = analysis.summary(frame, partial_totals=True)

    found = row(result)
    assert (found["cost_usd"], found["total_cost_usd"], found["reasoning_tokens"]) == (
        3.0,
        None,
        None,
    )
    assert row(partial)["total_cost_usd"] == 6.0
    assert result.dropped == {
        "traces without a score, left out of the pass rate": 1,
        "traces without a cost, left out of the cost": 1,
    }


def test_failed_traces_are_told_and_may_count_as_wrong():
    """An error is no wrong answer unless one says so."""
    frame = facts(trace("a", "1"), trace("a", "2", None, error_type="timeout"))

    left_out, wrong = analysis.summary(frame), analysis.summary(frame, errors_as_wrong=True)

    assert (row(left_out)["pass_rate"], row(left_out)["n_errors"]) == (1.0, 1)
    assert left_out.dropped == {"failed traces": 1}
    assert (row(wrong)["pass_rate"], row(wrong)["n_errors"]) == (0.5, 1)
    assert "failed traces" not in wrong.dropped


def test_a_single_item_has_no_interval_and_says_so():
    """Trials of one item do not tell what other items would do."""
    result = analysis.summary(facts(*[trace("a", "1", k > 0, trial=k) for k in range(4)]))

    found = row(result)
    assert (found["pass_rate"], found["pass_rate_low"], found["cost_usd_high"]) == (
        0.75,
        None,
        None,
    )
    assert any("single item: a" in note for note in result.notes)


@pytest.mark.parametrize("passed", [True, False])
def test_all_equal_outcomes_still_have_an_interval(passed):
    """Twenty of twenty is not certainty."""
    found = row(analysis.summary(facts(*[trace("a", str(i), passed) for i in range(20)])))

    width = found["pass_rate_high"] - found["pass_rate_low"]
    assert found["pass_rate"] == float(passed)
    assert 0.1 < width < 0.2


def test_clusters_widen_the_interval():
    """Items of one passage that pass and fail together count for less."""
    rows = [trace("a", f"{c}-{i}", c % 2 == 0) for c in range(10) for i in range(6)]
    alone = row(analysis.summary(facts(*rows)))
    together = row(
        analysis.summary(facts(*[r | {"cluster": r["item"].split("-")[0]} for r in rows]))
    )

    assert together["pass_rate"] == alone["pass_rate"]
    wide, narrow = (r["pass_rate_high"] - r["pass_rate_low"] for r in (together, alone))
    assert wide > 1.8 * narrow


def test_latency_quantiles_agree_with_numpy():
    """Median and 90th percentile over all traces."""
    frame = many(a=0.5)

    found = row(analysis.summary(frame))

    expected = np.quantile(frame["e2e_s"].to_numpy(), [0.5, 0.9])
    assert (found["e2e_p50_s"], found["e2e_p90_s"]) == pytest.approx(tuple(expected))
    assert found["ttft_p50_s"] == pytest.approx(0.2)


def test_unknown_groups_are_groups():
    """A null in a grouping column is a group of its own, in every engine."""
    import duckdb

    frame = many(a=0.5, b=0.6).with_columns(
        strategy=pl.when(pl.col("model") == "a").then(pl.lit("cot"))
    )
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())

    for source in (frame, connection.table("facts")):
        result = analysis.summary(source, by=("strategy",))
        assert set(result.labels()) == {"cot", "—"}
        assert result.frame["n_items"].to_list() == [30, 30]


def test_doubling_the_trials_leaves_the_summary_as_it_is():
    """The same trials twice say no more."""
    frame = many(a=0.3, b=0.7)

    once, twice = (analysis.summary(f).frame for f in (frame, pl.concat([frame, frame])))

    counts = ["n", "total_cost_usd", "e2e_p50_s", "e2e_p90_s"]
    pl.testing.assert_frame_equal(once.drop(counts), twice.drop(counts))


# --- frontier ---


def test_frontier_marks_who_is_beaten_and_by_whom():
    """c is dearer and worse than b; a and b are not comparable."""
    frame = many(a=0.3, b=0.8, c=0.5).with_columns(
        cost_usd=pl.col("model").replace_strict({"a": 1.0, "b": 2.0, "c": 3.0})
    )

    result = analysis.frontier(frame)

    assert result.frame["configuration"].to_list() == ["a", "b", "c"]
    assert result.frame["on_frontier"].to_list() == [True, True, False]
    assert row(result, configuration="c")["dominated_by"] == "b"
    assert row(result, configuration="a")["p_on_frontier"] == 1.0
    assert row(result, configuration="c")["p_on_frontier"] < 0.05


def test_probability_of_the_frontier_agrees_with_resampling_by_hand():
    """Items drawn one by one, groups judged pair by pair."""
    frame = many(n_items=12, trials=2, a=0.4, b=0.5, c=0.5, seed=8)
    rates = frame.group_by("model", "item_id").agg(
        pl.col("passed").mean(), pl.col("cost_usd").mean()
    )
    grid = rates.sort("model", "item_id").partition_by("model")
    y = np.stack([g["passed"].to_numpy() for g in grid])
    x = np.stack([g["cost_usd"].to_numpy() for g in grid])
    rng, hits = np.random.default_rng(5), np.zeros(3)
    for _ in range(3000):
        draw = rng.integers(0, 12, 12)
        gain, cost = y[:, draw].mean(axis=1), x[:, draw].mean(axis=1)
        for i in range(3):
            beats = (cost <= cost[i]) & (gain >= gain[i]) & ((cost < cost[i]) | (gain > gain[i]))
            hits[i] += not beats.any()

    found = analysis.frontier(frame, resamples=6000).frame.sort("configuration")

    assert found["p_on_frontier"].to_numpy() == pytest.approx(hits / 3000, abs=0.03)


def test_equal_points_share_the_frontier():
    """Ties on both axes both stay, and the notes name them."""
    frame = facts(*[trace(g, str(i), i < 3, 1.0) for g in "ab" for i in range(6)])

    result = analysis.frontier(frame)

    assert result.frame["on_frontier"].to_list() == [True, True]
    assert result.frame["p_on_frontier"].to_list() == [1.0, 1.0]
    assert "tied on both axes: a, b" in result.notes


def test_frontier_over_any_measure_and_without_a_score():
    """Tokens against pass rate; seconds against tokens where nothing is scored."""
    frame = many(a=0.3, b=0.8)

    tokens = analysis.frontier(frame, x="output_tokens")
    unscored = analysis.frontier(
        frame.with_columns(passed=None, score=None), y="e2e_s", x="output_tokens", minimise_y=True
    )

    assert tokens.frame["output_tokens"].to_list() == [30, 80]
    assert tokens["output_tokens"].unit == "tokens"
    assert unscored.frame.height == 2
    assert unscored.dropped == {}


def test_a_point_speaks_of_the_same_traces_on_both_axes():
    """A right answer of unknown cost does not raise the rate of the priced ones."""
    frame = facts(
        trace("a", "1", False, 1.0), trace("a", "2", True, None), trace("b", "1", True, None)
    )

    result = analysis.frontier(frame)

    assert row(result)["pass_rate"] == 0.0
    assert result.dropped == {
        "traces without cost_usd": 2,
        "groups without a trace that counts": 1,
    }


def test_hypervolume_of_three_points():
    """(1, .5), (3, .8), (8, .9) against (10, 0): 6.8 of 8.1."""
    frame = facts(
        *[
            trace(g, str(i), i < n, c)
            for g, c, n in (("a", 1.0, 5), ("b", 3.0, 8), ("c", 8.0, 9))
            for i in range(10)
        ]
    )

    total = analysis.frontier(frame, reference_x=10).more["totals"].row(0, named=True)

    assert total["hypervolume"] == pytest.approx(6.8)
    assert total["hypervolume_share"] == pytest.approx(6.8 / 8.1)
    assert total["knee"] == "b"


def test_frontier_of_aggregates():
    """Two metrics of a results frame; a name without one of them is left out, told, and doubles
    averaged."""
    frame = pl.DataFrame(
        [
            ("a", "pass_rate_2", 80.0),
            ("a", "total_cost", 20.0),
            ("b", "pass_rate_2", 60.0),
            ("b", "total_cost", None),
            ("c", "pass_rate_2", 70.0),
            ("c", "total_cost", 25.0),
            ("d", "pass_rate_2", 50.0),
            ("d", "total_cost", 1.0),
            ("d", "total_cost", 3.0),
        ],
        schema=["configuration", "metric", "value"],
        orient="row",
    )

    result = analysis.frontier(frame, y="pass_rate_2", x="total_cost")

    assert result.frame["configuration"].to_list() == ["d", "a", "c"]
    assert result.frame["on_frontier"].to_list() == [True, True, False]
    assert result.frame["p_on_frontier"].to_list() == [None] * 3
    assert result.dropped == {"groups without total_cost or pass_rate_2": 1}
    assert result.notes == ("several values were averaged: d",)
    told = frame.with_columns(unit=pl.when(metric="total_cost").then(pl.lit("USD")))
    assert analysis.frontier(told, y="pass_rate_2", x="total_cost")["total_cost"].unit == "USD"
    with pytest.raises(AnalysisError, match="total_cost"):
        analysis.frontier(frame, y="pass_rate_2", x="total_costs")


def published(**points: tuple[float, ...]) -> pl.DataFrame:
    """Published figures: cost, accuracy and maybe joules of each group."""
    rows = [
        {"configuration": name, "metric": metric, "value": value}
        for name, figures in points.items()
        for metric, value in zip(("cost", "accuracy", "joules"), figures, strict=False)
    ]
    return pl.DataFrame(rows)


def test_points_within_epsilon_stand_for_one_another():
    """ε = 5 % and 2 % on (1, .50), (3, .80), (3.1, .805), (8, .90): the third is stood for by the
    cheaper second."""
    frame = published(a=(1, 0.5), b=(3, 0.8), c=(3.1, 0.805), d=(8, 0.9), e=(9, 0.7))

    result = analysis.frontier(frame, x="cost", y="accuracy", epsilon_x=0.05, epsilon_y=0.02)

    assert result.frame["stood_for_by"].to_list() == ["a", "b", "b", "d", None]
    assert result.more["totals"].select("n_on_frontier", "n_kept").row(0) == (4, 3)
    plain = analysis.frontier(frame, x="cost", y="accuracy")
    assert plain.frame["stood_for_by"].to_list() == [None] * 5
    assert plain.more["totals"]["n_kept"].item() is None


def test_epsilon_follows_the_direction_of_the_axes():
    """Error rates and tokens per second: a little more of the one, a little less of the other."""
    frame = published(a=(100, 0.20), b=(99, 0.19), c=(50, 0.10))

    result = analysis.frontier(
        frame, x="cost", y="accuracy", maximise_x=True, minimise_y=True, epsilon_x=0.02
    )

    named = dict(result.frame.select("configuration", "stood_for_by").iter_rows())
    assert named == {"a": "b", "b": "b", "c": "c"}
    with pytest.raises(AnalysisError, match="below 0"):
        analysis.frontier(published(a=(-1, 0.5)), x="cost", y="accuracy", epsilon_x=0.1)


def test_three_axes_with_energy():
    """(1, .5, 2), (3, .8, 4), (8, .9, 1) against (10, 0, 5): a volume of 19.2."""
    frame = published(a=(1, 0.5, 2), b=(3, 0.8, 4), c=(8, 0.9, 1), d=(3, 0.8, 5))
    asked = {"x": "cost", "y": "accuracy", "z": "joules"}

    result = analysis.frontier(frame, **asked, reference_x=10, reference_y=0, reference_z=5)

    total = result.more["totals"].row(0, named=True)
    assert total["hypervolume"] == pytest.approx(19.2)
    assert total["hypervolume_share"] == pytest.approx(19.2 / (9 * 0.9 * 4))
    assert (total["knee"], total["reference_z"], total["n_on_frontier"]) == (None, 5, 3)
    by_name = {row["configuration"]: row for row in result.frame.iter_rows(named=True)}
    assert by_name["d"]["dominated_by"] == "b"
    assert by_name["a"]["on_hull"] is None
    # c costs more than b and is better; a fourth that is worse than b on two axes lives by its
    # joules.
    least = published(b=(3, 0.8, 4), e=(4, 0.7, 1))
    assert analysis.frontier(least, **asked).frame["on_frontier"].all()
    assert analysis.frontier(least, x="cost", y="accuracy").frame["on_frontier"].sum() == 1


def test_three_axes_of_traces():
    """Every axis has intervals; what lacks the third counts nowhere; the chance is that of
    resamples."""
    rows = [
        trace(g, str(i), i < n, c + 0.01 * i, energy_j=e)
        for g, n, c, e in (("a", 5, 1.0, 9.0), ("b", 8, 3.0, 4.0), ("c", 4, 2.0, 1.0))
        for i in range(10)
    ]
    rows.append(trace("a", "10", True, 1.0, energy_j=None))

    result = analysis.frontier(facts(*rows), z="energy_j")

    assert result.frame["on_frontier"].all()
    assert list(result.dropped.values()) == [1]
    assert row(result, configuration="b")["energy_j_low"] == pytest.approx(4.0)
    assert row(result, configuration="c")["p_on_frontier"] == 1.0
    assert row(analysis.frontier(facts(*rows)), configuration="c")["p_on_frontier"] < 0.7
    with pytest.raises(AnalysisError, match="both energy_j"):
        analysis.frontier(facts(*rows), x="energy_j", z="energy_j")


def test_log_axis_of_a_free_model_has_no_knee():
    """A cost of 0 has no logarithm; the frontier itself stands."""
    frame = facts(
        *[trace(g, str(i), True, c) for g, c in (("a", 0.0), ("b", 1.0)) for i in range(4)]
    )

    result = analysis.frontier(frame, log_x=True)

    assert result.frame["on_frontier"].to_list() == [True, False]
    assert result.more["totals"]["hypervolume"].item() is None
    assert "logarithm" in result.notes[0]


def test_tasks_have_a_frontier_each():
    """With task among the groups a model may be beaten on one task only."""
    frame = pl.concat(
        [
            many(a=0.9, b=0.3).with_columns(cost_usd=pl.lit(1.0)),
            many(a=0.1, b=0.9, seed=1).with_columns(
                cost_usd=pl.lit(1.0),
                task=pl.lit("u"),
                task_id=pl.lit("u"),
                item_id=pl.col("item_id") + "u",
            ),
        ]
    )

    result = analysis.frontier(frame, by=("model", "task"))

    winners = result.frame.filter("on_frontier").select("task", "model").rows()
    assert sorted(winners) == [("t", "a"), ("u", "b")]
    assert result.more["totals"]["task"].to_list() == ["t", "u"]


# --- compare ---


@pytest.fixture
def router(shared_data) -> pl.DataFrame:
    """GPT-4 and Mixtral on GSM8K, 1,319 items with the contaminated ones still in."""
    with (shared_data / "routellm" / "gsm8k_responses.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    models = {"gpt-4": "gpt-4-1106-preview", "mixtral": "mistralai/Mixtral-8x7B-Instruct-v0.1"}
    return facts(
        *[
            trace(name, str(i), r[column] == "True", None)
            for i, r in enumerate(table)
            for name, column in models.items()
        ]
    )


def test_compare_reproduces_the_paired_figures():
    """739 both, 382 against 94, 92 neither: difference, error, interval and p."""
    found = row(analysis.compare(counted(739, 382, 94, 92), a="a", b="b"))

    assert found["difference"] == pytest.approx(0.220352, abs=5e-7)
    assert found["se"] == pytest.approx(0.0155462, abs=5e-8)
    ends = (found["difference_low"], found["difference_high"])
    assert ends == pytest.approx((0.189881, 0.250823), abs=5e-5)
    assert found["p_value"] == pytest.approx(3.257e-42, rel=1e-3)
    assert (found["n_a_better"], found["n_b_better"], found["n_same"]) == (382, 94, 831)
    assert found["test"] == "McNemar, exact"
    assert found["verdict"].startswith("A is better by 22.0 points")


def test_compare_on_the_released_file(router):
    """1,130 and 842 right of 1,319; the difference is theirs."""
    found = row(analysis.compare(router, a="gpt-4"))

    assert found["n_items"] == 1319
    assert found["difference"] == pytest.approx((1130 - 842) / 1319)
    assert found["cost_ratio"] is None


@pytest.mark.parametrize("interval", ["t", "percentile", "bca"])
def test_the_intervals_of_a_difference_agree(interval):
    """Three kinds, one answer to a point."""
    found = row(analysis.compare(counted(200, 120, 60, 120), a="a", b="b", interval=interval))

    ends = (found["difference_low"], found["difference_high"])
    assert ends == pytest.approx((0.0685, 0.1715), abs=0.008)


def test_swapping_a_and_b_mirrors_everything():
    """Signs and ratios turn round, p stays."""
    frame = many(a=0.4, b=0.7)

    forth, back = (row(analysis.compare(frame, a=x, b=y)) for x, y in ("ab", "ba"))

    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["difference_low"] == pytest.approx(-back["difference_high"])
    assert forth["cost_ratio"] == pytest.approx(1 / back["cost_ratio"])
    assert forth["p_value"] == pytest.approx(back["p_value"], abs=0.02)
    assert forth["verdict"].startswith("B is better")
    assert back["verdict"].startswith("A is better")


def test_equal_outcomes_are_tied_with_p_of_one():
    """No item tells them apart: tied, p 1, and no interval without spread."""
    found = row(analysis.compare(counted(5, 0, 0, 5), a="a", b="b"))

    assert found["n_clusters"] == 10
    assert (found["p_value"], found["difference"]) == (1.0, 0.0)
    assert (found["se"], found["difference_low"]) == (None, None)
    assert found["verdict"].startswith("tied")


def test_several_trials_are_tested_by_flipping_signs():
    """Mean differences (1, 1, 1, 0, −1, 1, 1, 0) give p = .21875 whatever the trials."""
    rows = []
    for i, d in enumerate((1, 1, 1, 0, -1, 1, 1, 0)):
        for k in range(2):
            rows += [trace("a", str(i), d > 0, trial=k), trace("b", str(i), d < 0, trial=k)]

    found = row(analysis.compare(facts(*rows), a="a", b="b"))

    assert found["p_value"] == pytest.approx(0.21875)
    assert found["test"] == "sign flips, exact"


def test_clustered_items_are_flipped_together():
    """Six items of one cluster are one observation: McNemar would say .03125, here it is 1."""
    rows = [
        r | {"cluster": "x"}
        for i in range(6)
        for r in (trace("a", str(i)), trace("b", str(i), False))
    ]

    found = row(analysis.compare(facts(*rows), a="a", b="b"))

    assert found["test"] == "sign flips, exact"
    assert found["p_value"] == 1.0
    assert found["difference_low"] is None


def test_unshared_items_are_left_out_and_counted():
    """Only common items are compared; the rest is told."""
    frame = facts(
        trace("a", "1"),
        trace("a", "2"),
        trace("a", "3"),
        trace("b", "2", False),
        trace("b", "4"),
        trace("b", "3", None),
    )

    result = analysis.compare(frame, a="a", b="b")

    assert row(result)["n_items"] == 1
    assert result.dropped == {
        "unscored traces": 1,
        "items that only one of the two was tried on": 3,
    }
    flips = result.more["flips"].row(0, named=True)
    assert (flips["item_id"], flips["difference"]) == ("2", 1.0)


def test_nothing_in_common_is_said():
    """No shared item: a row without figures, in words."""
    result = analysis.compare(facts(trace("a", "1"), trace("b", "2")), a="a", b="b")

    found = row(result)
    assert (found["verdict"], found["p_value"], found["n_items"]) == ("no shared items", None, 0)


def test_the_two_commonest_are_compared_by_default():
    """By traces, then by name; a alone is held against every other, adjusted by Holm."""
    frame = pl.concat([many(a=0.5, trials=1), many(b=0.6, trials=3), many(c=0.9, trials=2)])

    default, all_others = analysis.compare(frame), analysis.compare(frame, a="a")

    assert default.frame.select("a", "b").row(0) == ("b", "c")
    assert all_others.frame["b"].to_list() == ["b", "c"]
    p, adjusted = all_others.frame["p_value"].to_list(), all_others.frame["p_holm"].to_list()
    low, high = sorted(range(2), key=lambda i: p[i])
    assert adjusted[low] == pytest.approx(min(1, 2 * p[low]))
    assert adjusted[high] == pytest.approx(max(adjusted[low], p[high]))


def test_an_adjusted_p_stands_beside_adjusted_intervals():
    """Of three comparisons the intervals for all are those of level 1 − .05 / 3; tied ones hold
    0."""
    frame = pl.concat([many(a=0.5), many(b=0.45), many(c=0.5, seed=1), many(d=0.9)])

    found = analysis.compare(frame, a="a")
    alone = {
        r["b"]: analysis.compare(frame, a="a", b=r["b"], level=1 - 0.05 / 3)
        for r in found.frame.rows(named=True)
    }

    for r in found.frame.rows(named=True):
        single = row(alone[r["b"]])
        assert (r["joint_difference_low"], r["joint_difference_high"]) == pytest.approx(
            (single["difference_low"], single["difference_high"])
        )
        assert (
            r["joint_difference_low"]
            < r["difference_low"]
            < r["difference_high"]
            < r["joint_difference_high"]
        )
        if r["verdict"].startswith("tied"):
            assert r["p_holm"] > 0.05
            assert r["joint_difference_low"] <= 0 <= r["joint_difference_high"]
            assert (
                f"{100 * r['joint_difference_low']:+.1f} to {100 * r['joint_difference_high']:+.1f}"
                in r["verdict"]
            )
    assert found.frame["verdict"].str.starts_with("tied").sum() == 2
    only = row(analysis.compare(frame, a="a", b="b"))
    assert (only["joint_difference_low"], only["difference_low"]) == pytest.approx(
        2 * (only["joint_difference_low"],)
    )


def test_an_interval_without_0_that_the_test_does_not_support_is_no_tie():
    """Six clusters, summed differences 3, 3, 3, 3, 3, −1: t leaves out 0, sign flips give p =
    .0625."""
    rows = []
    for c, d in enumerate((3, 3, 3, 3, 3, -1)):
        for i in range(3):
            differs = i < abs(d)
            rows += [
                trace("a", f"{c}-{i}", differs and d > 0, cluster=str(c)),
                trace("b", f"{c}-{i}", differs and d < 0, cluster=str(c)),
            ]
    found = row(analysis.compare(facts(*rows), a="a", b="b"))

    assert found["p_value"] == pytest.approx(0.0625)
    assert found["difference_low"] > 0
    assert found["verdict"].startswith("undecided (p = 0.062)")


def test_equal_differences_have_no_interval_whatever_their_rounding():
    """.7 − .3 and .5 − .1 are one difference: no spread was seen."""
    scores = {"a": (0.7, 0.5, 0.9), "b": (0.3, 0.1, 0.5)}
    rows = [
        trace(g, str(i), False, score=s) for g, all in scores.items() for i, s in enumerate(all)
    ]

    found = row(analysis.compare(facts(*rows), a="a", b="b", outcome="score"))

    assert found["difference"] == pytest.approx(0.4)
    assert (found["se"], found["difference_low"]) == (None, None)


def test_groups_that_never_or_always_pass_are_alike_not_tied():
    """0 against 0 is no finding about a difference, nor is 1 against 1."""
    never = row(analysis.compare(counted(0, 0, 0, 9), a="a", b="b"))
    always = row(analysis.compare(counted(9, 0, 0, 0), a="a", b="b"))

    assert never["verdict"].startswith("alike: both are right on no shared item")
    assert always["verdict"].startswith("alike: both are right on every shared item")


def test_too_few_clusters_cannot_tell():
    """Five items, all better: p is .0625 at best, and the verdict says so instead of a tie."""
    five, six = (row(analysis.compare(counted(0, n, 0, 0), a="a", b="b")) for n in (5, 6))

    assert five["verdict"].startswith(
        "too few to tell: with 5 shared items no difference could be significant, it takes 6"
    )
    assert six["verdict"].startswith("A is better by 100.0 points")


def test_fewer_than_two_groups_cannot_be_compared():
    """One group: no rows and a note."""
    result = analysis.compare(many(a=0.5))

    assert result.frame.height == 0
    assert "fewer than two groups" in result.notes[0]


def test_the_cost_ratio_is_of_shared_priced_items():
    """An item whose cost is unknown for one side enters on neither; the interval holds the
    ratio."""
    frame = many(a=0.4, b=0.8).with_columns(
        cost_usd=pl.when((pl.col("model") != "a") | (pl.col("item_id") != "7")).then("cost_usd")
    )

    found = row(analysis.compare(frame, a="a", b="b"))

    known = frame.filter(pl.col("item_id") != "7").group_by("model").agg(pl.col("cost_usd").mean())
    cost = dict(known.iter_rows())
    assert found["cost_ratio"] == pytest.approx(cost["a"] / cost["b"])
    assert found["cost_ratio_low"] < found["cost_ratio"] < found["cost_ratio_high"]
