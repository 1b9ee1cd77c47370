"""Trade-offs against a baseline: hand-made frontiers, both directions, any metric, truth covered,
what is never reached."""

import itertools
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.analysis.stats.step_curves import Curve
from workbench.errors import AnalysisError

CURVE = {"small": (1.0, 0.5), "medium": (3.0, 0.8), "large": (8.0, 0.9), "worse": (6.0, 0.7)}


def table(**groups) -> pl.DataFrame:
    """Published figures: method → size → (cost, quality)."""
    rows = [
        {"method": method, "size": size, "metric": metric, "value": value, "unit": unit}
        for method, sizes in groups.items()
        for size, point in sizes.items()
        for metric, value, unit in zip(("macs", "psnr"), point, ("GMAC", "dB"), strict=True)
    ]
    return pl.DataFrame(rows)


def ask(frame, **options):
    """Curves by method over sizes."""
    given = {"by": "method", "points": "size", "x": "macs", "y": "psnr", "baseline": "base"}
    return analysis.tradeoff(frame, **(given | options))


def row(result, name: str, column: str = "method") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(pl.col(column) == name).rows(named=True)
    return found


@pytest.mark.parametrize(
    ("between", "ratio", "gain"),
    [("line", (1 + 2 * 0.2 / 0.3) / 4, 0.8 + 0.1 / 5 - 0.7), ("step", 3 / 4, 0.8 - 0.7)],
)
def test_a_curve_against_a_point(between, ratio, gain):
    """Frontier (1, .5), (3, .8), (8, .9) against (4, .7): straight between its points, or only at
    them."""
    result = ask(table(ours=CURVE, base={"only": (4.0, 0.7)}), between=between)

    found = row(result, "ours")
    assert found["cost_ratio"] == pytest.approx(ratio)
    assert found["gain"] == pytest.approx(gain)
    assert found["cost_ratio_low"] is found["p_better"] is None  # published figures have no items
    points = {r["size"]: r for r in result.more["points"].rows(named=True)}
    assert [points[s]["on_frontier"] for s in CURVE] == [True, True, True, False]
    assert result["macs"].unit == "GMAC"
    assert row(result, "base")["cost_ratio"] == 1
    assert row(result, "base")["gain"] == 0


def test_a_line_over_the_logarithm_of_cost():
    """Halfway in quality between costs 1 and 4 lies cost 2."""
    ours = {"a": (1.0, 0.2), "b": (4.0, 0.8)}
    result = ask(table(ours=ours, base={"only": (2.0, 0.5)}), log_x=True)

    assert row(result, "ours")["cost_ratio"] == pytest.approx(1)
    assert row(result, "ours")["gain"] == pytest.approx(0)


def test_what_is_never_reached_is_null_and_said():
    """A curve neither reaches a better baseline nor is there where even its cheapest point costs
    more."""
    result = ask(
        table(
            base={"b": (4.0, 0.95)},
            worse={"w": (1.0, 0.9)},
            dear={"d": (9.0, 0.96)},
        )
    )

    assert row(result, "worse")["cost_ratio"] is None
    assert row(result, "worse")["gain"] == pytest.approx(-0.05)
    assert row(result, "dear")["gain"] is None
    assert row(result, "dear")["cost_ratio"] == pytest.approx(9 / 4)
    assert any("never as good" in note and "worse" in note for note in result.notes)


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("log_x", [False, True])
def test_the_mean_ratio_of_curves_that_are_the_same_but_for_a_factor(factor, log_x):
    """All costs times a factor: that factor is the mean ratio, whatever lies between the points."""
    base = {n: p for n, p in CURVE.items() if n != "worse"}
    ours = {n: (factor * x, y) for n, (x, y) in base.items()}
    found = row(ask(table(ours=ours, base=base), log_x=log_x), "ours")

    assert found["mean_cost_ratio"] == pytest.approx(factor)
    assert found["mean_gain"] * (1 - factor) > 0
    assert found["cost_ratio"] == pytest.approx(factor)


def test_the_mean_gain_of_parallel_curves():
    """A tenth higher everywhere, in a unit that a factor scales."""
    base = {"a": (1.0, 0.2), "b": (5.0, 0.6)}
    ours = {n: (x, y + 0.1) for n, (x, y) in base.items()}

    assert row(ask(table(ours=ours, base=base)), "ours")["mean_gain"] == pytest.approx(0.1)


def test_less_quality_is_better_and_more_cost_is_better():
    """Error rate against tokens per second: the mirror of quality against seconds per token."""
    plain = table(ours=CURVE, base={"only": (4.0, 0.7)})
    value, metric = pl.col("value"), pl.col("metric")
    mirrored = plain.with_columns(value=pl.when(metric == "psnr").then(1 - value).otherwise(-value))

    one = row(ask(plain), "ours")
    two = row(ask(mirrored, minimise_y=True, maximise_x=True), "ours")

    assert two["gain"] == pytest.approx(-one["gain"])  # in the unit of y: so much less error
    faster = table(ours={"a": (30.0, 0.3)}, base={"b": (10.0, 0.3)})
    found = row(ask(faster, minimise_y=True, maximise_x=True), "ours")
    assert found["cost_ratio"] == pytest.approx(3)  # three times the tokens per second


def test_the_others_make_a_frontier_together():
    """Alone neither reaches half-way; mixed they do."""
    result = ask(table(base={"b": (2.0, 0.5)}, x={"x": (1.0, 0.4)}, y={"y": (3.0, 0.8)}))

    assert row(result, "x")["cost_ratio"] is None
    (others,) = result.more["others"].rows(named=True)
    assert others["cost_ratio"] == pytest.approx(1.5 / 2)
    assert others["n_points"] == 2


@pytest.mark.parametrize("straight", [True, False])
def test_curves_agree_with_a_plain_search(straight):
    """Random points: cost of a gain and gain at a cost, against trying every mixture of two
    points."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        x, y = rng.integers(1, 9, 6).astype(float), rng.integers(1, 9, 6).astype(float)
        cost, gain = rng.uniform(0, 10), rng.uniform(0, 10)
        along = sorted(
            (a, b)
            for a, b in zip(x, y, strict=True)
            if not any((c <= a and d >= b) and (c < a or d > b) for c, d in zip(x, y, strict=True))
        )
        mixes = list(dict.fromkeys(along))
        if straight:
            mixes += [
                (a + (c - a) * t, b + (d - b) * t)
                for (a, b), (c, d) in itertools.pairwise(dict.fromkeys(along))
                for t in np.linspace(0, 1, 2001)
            ]
        least = min((a for a, b in mixes if b >= gain), default=np.nan)
        most = max((b for a, b in mixes if a <= cost), default=np.nan)
        curve = Curve(x[None], y[None], straight=straight)

        assert curve.cost_of(np.array([gain]))[0] == pytest.approx(least, abs=5e-3, nan_ok=True)
        assert curve.gain_at(np.array([cost]))[0] == pytest.approx(most, abs=5e-3, nan_ok=True)


def two(n_items: int = 40, seed: int = 0, cheap: float = 0.5, dear: float = 0.7) -> pl.DataFrame:
    """A cheap and a dear group on the same items; costs do not vary."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 0.15, n_items)
    return pl.DataFrame(
        [
            {
                "configuration": g,
                "item_id": str(i),
                "trial": 0,
                "cost_usd": c,
                "passed": bool(rng.random() < min(max(p + ease[i], 0), 1)),
            }
            for g, p, c in (("cheap", cheap, 1.0), ("dear", dear, 2.0))
            for i in range(n_items)
        ]
    )


def test_traces_have_intervals_and_the_dearest_is_the_baseline():
    """Points agree with a plain mean."""
    frame = two()
    result = analysis.tradeoff(frame)

    rates = dict(frame.group_by("configuration").agg(pl.col("passed").mean()).iter_rows())
    found = row(result, "cheap", "configuration")
    assert row(result, "dear", "configuration")["is_baseline"]
    assert found["gain"] == pytest.approx(rates["cheap"] - rates["dear"])
    assert found["gain_low"] < found["gain"] < found["gain_high"]
    assert 0 <= found["p_better"] <= 1
    assert (found["n_items"], found["n"]) == (40, 40)


def test_the_interval_of_the_gain_covers_the_truth():
    """Nominal 90 %: the paired difference of 200 simulated benchmarks, to 5 points."""
    hits = 0
    for seed in range(200):
        found = row(
            analysis.tradeoff(two(60, seed), level=0.9, resamples=300), "cheap", "configuration"
        )
        hits += found["gain_low"] <= -0.2 <= found["gain_high"]
    assert hits / 200 == pytest.approx(0.9, abs=0.05)


def test_edges_of_traces():
    """One item: no interval. Nobody passed: equal at 0. Unpriced and failed traces are counted, not
    used."""
    single = analysis.tradeoff(
        facts(trace("a", "1", True, cost_usd=1), trace("b", "1", True, cost_usd=2))
    )
    assert row(single, "a", "configuration")["cost_ratio"] == pytest.approx(0.5)
    assert row(single, "a", "configuration")["cost_ratio_low"] is None

    never = analysis.tradeoff(
        facts(
            *[
                trace(g, str(i), False, cost_usd=c)
                for g, c in (("a", 1), ("b", 2))
                for i in range(5)
            ],
            trace("a", "9", True, cost_usd=None),
            trace("b", "9", None, error_type="timeout"),
        )
    )
    assert row(never, "a", "configuration")["cost_ratio"] == pytest.approx(0.5)
    assert row(never, "a", "configuration")["gain"] == 0
    assert never.dropped == {"failed traces": 1, "traces without cost_usd": 1}


def test_scaling_the_cost_changes_no_ratio():
    """Cents for dollars."""
    one, two_ = (
        analysis.tradeoff(two().with_columns(pl.col("cost_usd") * f)).frame for f in (1, 100)
    )
    same = [c for c in one.columns if not c.startswith("cost_usd")]
    pl.testing.assert_frame_equal(one.select(same), two_.select(same))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"baseline": "nobody"}, "unknown group for baseline"),
        ({"points": "sise"}, "column of points"),
        ({"x": "pass_rate"}, "choose two"),
    ],
)
def test_misuse_is_told(options, says):
    """A wrong baseline, column or axis."""
    with pytest.raises(AnalysisError, match=says):
        analysis.tradeoff(two(), **options)


def test_what_is_rarely_as_good_may_be_infinitely_dear():
    """A cheap group about as good as the baseline: the low end is its cost ratio, the high end
    infinite."""
    rows = [
        (g, str(i), right(i), c)
        for g, right, c in (("cheap", lambda i: i < 31, 1), ("dear", lambda i: i >= 30, 2))
        for i in range(60)
    ]
    close = facts(*[trace(g, i, ok, cost_usd=c) for g, i, ok, c in rows])
    found = row(analysis.tradeoff(close), "cheap", "configuration")
    assert (found["cost_ratio"], found["cost_ratio_low"]) == (0.5, 0.5)
    assert found["cost_ratio_high"] == math.inf
    assert 0.4 < found["p_cheaper"] < 0.7
    sure = row(analysis.tradeoff(two(60, 4, 0.9, 0.2)), "cheap", "configuration")
    assert (sure["cost_ratio_high"], sure["p_cheaper"]) == (0.5, 1)
