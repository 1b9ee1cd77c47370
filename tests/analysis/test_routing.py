"""Routing and cascades: published data and vectors, brute force, coverage of intervals, traps."""

import csv
import itertools
import json
import zlib

import duckdb
import numpy as np
import polars as pl
import polars.testing
import pytest
from scipy import sparse

from workbench import analysis
from workbench.analysis.inputs import features
from workbench.analysis.stats import handover, quality_curves
from workbench.errors import AnalysisError

# Items of GSM8K whose question is in the router's training data (RouteLLM,
# contaminated_prompts.jsonl).
CONTAMINATED = {0, 1, 2, 18, 67, 147, 233, 269, 285, 364, 530, 932}
POINTS = np.array([1, 2, 3, 6, 8.0]), np.array([0.5, 0.55, 0.8, 0.7, 0.9])


def outcomes(rights: dict[str, list[float]], costs: dict[str, float], **more) -> pl.DataFrame:
    """One trace per group and item; further columns are per item."""
    rows = [
        {
            "configuration": g,
            "task": "t",
            "task_id": "t",
            "item_id": f"{i:04}",
            "trial": 0,
            "passed": bool(r),
            "cost_usd": costs[g],
            **{k: v[i] for k, v in more.items()},
        }
        for g, items in rights.items()
        for i, r in enumerate(items)
    ]
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def gsm8k(shared_data) -> pl.DataFrame:
    """GPT-4 and Mixtral on 1,307 questions; a call of the one is taken to cost ten of the other."""
    with (shared_data / "routellm" / "gsm8k_responses.csv").open(newline="") as file:
        rows = [r for i, r in enumerate(csv.DictReader(file)) if i not in CONTAMINATED]
    names = {"weak": "mistralai/Mixtral-8x7B-Instruct-v0.1", "strong": "gpt-4-1106-preview"}
    rights = {g: [r[name] == "True" for r in rows] for g, name in names.items()}
    return outcomes(rights, {"weak": 1.0, "strong": 10.0}, input=[r["prompt"] for r in rows])


@pytest.fixture(scope="module")
def routed(gsm8k):
    """The answer, few resamples."""
    return analysis.routing(gsm8k, resamples=100)


def router(result, name: str) -> dict:
    """The row of a router."""
    return result.frame.filter(router=name).row(0, named=True)


# --- figures of curves ---


def test_the_worked_curve():
    """nAUC .778571, QNC 1/3 against (9, .8), AIQ .735 of 10 and .816667 of [1, 10], hull of
    three."""
    assert quality_curves.own_area(*POINTS) == pytest.approx(0.778571, abs=1e-6)
    assert quality_curves.parity_cost(*POINTS, 0.8, 9.0) == pytest.approx(1 / 3)
    assert quality_curves.hull_area(*POINTS, 10.0) == pytest.approx((0.735, 0.816667), abs=1e-6)
    # Cut at 2, half-way up from (1, .5) to (3, .8): a trapezium of .5 and .65 over 1. Nothing costs
    # as little as .5.
    assert quality_curves.hull_area(*POINTS, 2.0) == pytest.approx((0.575 / 2, 0.575))
    assert quality_curves.hull_area(*POINTS, 0.5) == pytest.approx((0.0, np.nan), nan_ok=True)
    x, y = quality_curves.concave(*POINTS)
    assert (x.tolist(), y.tolist()) == ([1, 3, 8], [0.5, 0.8, 0.9])
    assert quality_curves.parity_cost(*POINTS, 0.95, 9.0) == np.inf


def test_areas_of_many_curves_are_those_of_one():
    """The vectorised area, curve by curve, with random points, ties and ranges beyond the
    points."""
    rng = np.random.default_rng(0)
    cost, quality = rng.integers(1, 9, (200, 6)) / 2, rng.integers(0, 9, (200, 6)) / 8
    low, high = np.sort(rng.uniform(0, 5, (2, 200)), axis=0)

    many = quality_curves.common_areas(cost, quality, low, high)

    each = [quality_curves.common_area(*row) for row in zip(cost, quality, low, high, strict=True)]
    assert many.tolist() == pytest.approx(each)
    assert quality_curves.common_area(*POINTS, 1, 8) == pytest.approx(0.778571, abs=1e-6)
    assert np.isnan(quality_curves.common_area(*POINTS, 2, 2))


def test_hulls_of_many_resamples_are_those_of_one():
    """The vectorised hull, resample by resample, with ties; of one cost alone there is no area."""
    rng = np.random.default_rng(1)
    cost, quality = rng.integers(1, 9, (300, 7)) / 2, rng.integers(0, 9, (300, 7)) / 8
    cost[0] = 3.0

    many = quality_curves.hull_areas(cost, quality)

    each = [
        quality_curves.common_area(*quality_curves.concave(c, q), c.min(), c.max())
        for c, q in zip(cost, quality, strict=True)
    ]
    assert np.isnan(many[0])
    assert many[1:].tolist() == pytest.approx(each[1:])


def test_area_of_a_curve_is_the_integral_of_interpolation():
    """Against a fine sum of np.interp over the unbeaten points."""
    x, y = quality_curves.pareto_points(*POINTS)
    grid = np.linspace(0, 10, 200_001)
    middle = (grid[1:] + grid[:-1]) / 2

    assert quality_curves.common_area(*POINTS, 0, 10) == pytest.approx(
        np.interp(middle, x, y).mean(), abs=1e-7
    )


def test_closed_gap_of_mmlu_from_its_counts():
    """8816 both, 2496 strong only, 742 weak only, 1983 neither: an oracle's APGR and CPT by
    hand."""
    n, weak, gap = 14_037, 8816 + 742, 2496 - 742
    share = np.linspace(0, 1, 11)
    quality = (weak + np.minimum(share * n, 2496)) / n

    low, high = weak / n, (weak + gap) / n
    apgr = quality_curves.mean_recovered(share, quality, low, high)

    closed = [min(f * n, 2496) / gap for f in share.tolist()]
    assert apgr == pytest.approx(sum((a + b) / 20 for a, b in itertools.pairwise(closed)))
    assert quality_curves.calls_for(share, quality, low, high, 0.5) == pytest.approx(0.5 * gap / n)
    random = low + share * (high - low)
    assert quality_curves.mean_recovered(share, random, low, high) == pytest.approx(0.5)


def test_a_gap_that_closes_and_opens_again():
    """The first crossing counts, where interpolating the inverse would go wrong; a gap never closed
    is NaN."""
    share, quality = np.linspace(0, 1, 5), np.array([0.5, 0.9, 0.6, 0.7, 0.8])

    assert quality_curves.calls_for(share, quality, 0.5, 0.8, 0.5) == pytest.approx(
        0.25 * 0.15 / 0.4
    )
    assert np.isnan(quality_curves.calls_for(share, quality, 0.5, 1.0, 0.9))
    assert np.isnan(quality_curves.calls_for(share, quality, 0.8, 0.8, 0.5))
    assert quality_curves.calls_for(share, quality, 0.5, 0.8, 0.0) == 0


# --- routing ---


def test_routing_gsm8k_is_what_the_counts_say(routed):
    """Weak .637337, strong .857689; oracle .92961 at best, APGR 1.130937, CPT 4.407/11.018/17.628
    %."""
    oracle, mix = router(routed, "oracle"), router(routed, "random mix")

    assert router(routed, "weak")["peak_rate"] == pytest.approx(0.637337, abs=1e-6)
    assert router(routed, "strong")["peak_rate"] == pytest.approx(0.857689, abs=1e-6)
    assert oracle["peak_rate"] == pytest.approx(0.92961, abs=5e-6)
    assert oracle["apgr"] == pytest.approx(1.130937, abs=1e-6)
    cpt = [oracle[f"cpt_{p}"] for p in (20, 50, 80)]
    assert cpt == pytest.approx([0.04407, 0.11018, 0.17628], abs=6e-6)
    assert (mix["apgr"], mix["cpt_50"]) == (pytest.approx(0.5), pytest.approx(0.5))
    # Its gains all cost one price, so its curve has two points: none of them, or all 382.
    assert oracle["parity"] == pytest.approx((1 + 9 * 382 / 1307) / 10)


def test_learned_routers_lie_between_chance_and_the_oracle(routed):
    """On questions they know something, with an interval; none beats the oracle, at any cost."""
    oracle = router(routed, "oracle")
    for name in ("nearest neighbours", "logistic"):
        row = router(routed, name)
        assert row["kind"] == "learned"
        assert 0.4 < row["apgr"] < 0.75
        assert row["mean_rate"] < oracle["mean_rate"]
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
    curve = routed.more["curve"]
    best = curve.filter(router="oracle").sort("cost")
    for point in curve.iter_rows(named=True):
        assert point["rate"] <= np.interp(point["cost"], best["cost"], best["rate"]) + 1e-9


def test_a_router_learns_what_the_question_tells():
    """Sums are for the small model, proofs for the large one; who reads gets all right at less
    cost."""
    texts = [f"{'Add' if i % 2 else 'Prove'} number {i} for me" for i in range(80)]
    small, large = [i % 2 for i in range(80)], [1] * 80
    frame = outcomes({"small": small, "large": large}, {"small": 1.0, "large": 9.0}, input=texts)

    result = analysis.routing(frame, resamples=200, budget=5.0)

    for name in ("nearest neighbours", "logistic"):
        row = router(result, name)
        assert (row["peak_rate"], row["peak_cost"]) == (1, 5)
        assert row["gain_low"] > 0.1
        assert row["apgr"] == pytest.approx(router(result, "oracle")["apgr"])
    given = result.more["assignment"].filter(router="logistic")
    assert given["given_share"].to_list() == [0.5, 0.5]
    assert set(given["budget_rate"]) == {1.0}
    assert set(given["budget_cost"]) == {5.0}


def test_a_router_that_knows_nothing_gains_nothing():
    """Outcomes without any relation to the question: the gain's interval holds 0, and noise is not
    learned."""
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(["red", "blue", "tall", "old", "new", "wide"], 4)) for _ in range(300)
    ]
    rights = {g: (rng.random(300) < p).tolist() for g, p in (("small", 0.4), ("large", 0.7))}

    result = analysis.routing(
        outcomes(rights, {"small": 1.0, "large": 9.0}, input=texts), resamples=300
    )

    for name in ("nearest neighbours", "logistic"):
        row = router(result, name)
        assert row["gain_low"] < 0.02
        assert row["gain"] < 0.05


def test_no_item_teaches_its_own_route():
    """A cluster of copies is never routed by its own copies: a coin stays a coin."""
    rng = np.random.default_rng(1)
    coin = np.repeat(rng.random(60) < 0.5, 5)
    texts = [f"question {'abcdefghij'[i // 50]}{'klmnopqrst'[(i // 5) % 10]}x" for i in range(300)]
    rights = {"small": coin.tolist(), "large": (~coin).tolist()}
    costs = {"small": 1.0, "large": 9.0}
    alone = outcomes(rights, costs, input=texts)
    clustered = alone.with_columns(cluster=pl.col("item_id").cast(pl.Int64) // 5).cast(
        {"cluster": pl.String}
    )

    leaking = router(analysis.routing(alone, resamples=100, neighbours=4), "nearest neighbours")
    honest = router(analysis.routing(clustered, resamples=100, neighbours=4), "nearest neighbours")

    assert leaking["peak_rate"] > 0.95
    assert honest["peak_rate"] < 0.75


def test_routing_says_what_it_lacks():
    """No question, a single model, a single item, unequal items, models without a cost: each is
    told."""
    rights = {"a": [1, 0, 1, 0], "b": [1, 1, 1, 0]}
    frame = outcomes(rights, {"a": 1.0, "b": 2.0})

    bare = analysis.routing(frame, resamples=100)
    single = analysis.routing(frame.filter(configuration="a"), resamples=100)
    one_item = analysis.routing(frame.filter(item_id="0000"), resamples=100)
    unequal = analysis.routing(frame.head(7), resamples=100)
    unpriced = analysis.routing(
        frame.with_columns(cost_usd=pl.lit(None, pl.Float64)), resamples=100
    )

    assert "nothing tells the items apart" in " ".join(bare.notes)
    assert single.frame["router"].to_list() == ["a"]
    assert "nothing to route" in " ".join(single.notes)
    assert "no router can learn" in " ".join(one_item.notes)
    assert router(one_item, "oracle")["mean_rate_low"] is None
    assert unequal.dropped["items that not every group was tried on"] == 1
    assert unpriced.frame.is_empty()
    assert unpriced.dropped["traces without cost_usd"] == 8
    with pytest.raises(AnalysisError, match="strong"):
        analysis.routing(frame, strong="c")
    with pytest.raises(AnalysisError, match="measure"):
        analysis.routing(frame, cost="passed")


def test_routing_repeats_itself():
    """The same seed gives the same answer in any order and engine; another seed other folds."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(list("abcdefgh"), 3)) for _ in range(60)]
    rights = {g: (rng.random(60) < p).tolist() for g, p in (("a", 0.4), ("b", 0.6), ("c", 0.7))}
    frame = outcomes(rights, {"a": 1.0, "b": 2.0, "c": 4.0}, input=texts)
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())

    one = analysis.routing(frame, resamples=100)
    shuffled = analysis.routing(frame.sample(fraction=1, shuffle=True, seed=1), resamples=100)
    inside = analysis.routing(connection.table("facts"), resamples=100)
    other = analysis.run("routing", frame, resamples=100, rng=np.random.default_rng(9))

    polars.testing.assert_frame_equal(one.frame, shuffled.frame)
    polars.testing.assert_frame_equal(one.frame, inside.frame)
    assert not other.frame.equals(one.frame)
    dearer = analysis.routing(frame.with_columns(pl.col("cost_usd") * 7), resamples=100)
    scaled = [c for c in one.frame.columns if c != "peak_cost"]
    kept = ["router", "mean_rate", "parity", "aiq", "apgr"]
    assert set(kept) <= set(scaled)
    polars.testing.assert_frame_equal(one.frame.select(kept), dearer.frame.select(kept))


def test_features_are_the_same_everywhere():
    """Columns come from a hash, not from a dictionary: alone or among others, today and
    tomorrow."""
    alone = features.hashed(["Add 12 and 7"], [{"task": "sums"}])
    among = features.hashed(["x", "add 99 AND 3!"], [{}, {"task": "sums"}])

    assert alone.shape == (1, 4096)
    assert sorted(alone.indices.tolist())[:3] == [156, 237, 984]
    # Two digits are two digits, whichever they are; case and marks do not matter.
    shared = {
        zlib.crc32(t.encode()) & 4095 for t in ("task\0sums", "add", "#2", "add #2", "#2 and")
    }
    assert shared <= set(alone.indices.tolist()) & set(among[1].indices.tolist())
    assert features.hashed([None], [{}]).nnz == 0


def test_fits_side_by_side_are_those_alone():
    """An outcome's probabilities do not depend on the others; an outcome all alike is near
    certain."""
    rng = np.random.default_rng(2)
    x = sparse.csr_matrix(rng.random((120, 9)) * (rng.random((120, 9)) < 0.5))
    y = (rng.random((120, 5)) < 0.4).astype(float)
    y[:, 4] = 1.0

    together = features._logistic(x, y, x)

    alone = np.column_stack([features._logistic(x, y[:, [j]], x) for j in range(5)])
    assert np.abs(together - alone).max() < 1e-4
    assert together[:, 4].min() > 0.95


def test_logistic_is_where_newton_ends():
    """The same probabilities as Newton's method on the penalised likelihood, intercept free."""
    rng = np.random.default_rng(0)
    x = rng.random((80, 6))
    y = (rng.random(80) < 0.3 + 0.4 * x[:, 0]).astype(float)
    design, w = np.column_stack([np.ones(80), x]), np.zeros(7)
    ridge = np.diag([0.0] + [1.0] * 6)
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ w))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        w -= np.linalg.solve(hessian, design.T @ (p - y) + ridge @ w)

    ours = features._logistic(sparse.csr_matrix(x), y[:, None], sparse.csr_matrix(x))[:, 0]

    assert ours.tolist() == pytest.approx((1 / (1 + np.exp(-design @ w))).tolist(), abs=1e-4)


# --- cascade ---

SMALL, LARGE = (1, 0, 1, 0, 0, 1), (1, 1, 0, 1, 0, 1)
SURE = (0.95, 0.4, 0.8, 0.3, 0.6, 0.9)


def pair(small=SMALL, large=LARGE, sure=SURE) -> pl.DataFrame:
    """A small model with confidences and a larger one ten times as dear."""
    frame = outcomes({"small": list(small), "large": list(large)}, {"small": 1.0, "large": 10.0})
    known = pl.Series([*map(float, sure), *[None] * len(large)], dtype=pl.Float64)
    return frame.with_columns(confidence=known)


def test_the_worked_deferral():
    """acc(d) .5 .6667 .8333 .8333 .6667 .6667 .6667; AUC-DF .708333, random .583333; cost 1 + 10
    d."""
    share, means = quality_curves.deferred(
        np.column_stack([SMALL, np.ones(6)]),
        np.column_stack([LARGE, np.full(6, 11.0)]),
        np.array(SURE),
        np.ones(6),
    )
    row = analysis.cascade(pair()).frame.row(0, named=True)

    assert means[:, 0].tolist() == pytest.approx([3 / 6, 4 / 6, 5 / 6, 5 / 6, 4 / 6, 4 / 6, 4 / 6])
    assert means[:, 1].tolist() == pytest.approx((1 + 10 * share).tolist())
    assert row["pair"] == "small → large"
    assert (row["area"], row["random_area"]) == (
        pytest.approx(0.708333, abs=1e-6),
        pytest.approx(0.583333, abs=1e-6),
    )
    assert row["relative_gain"] == pytest.approx(0.125 / 0.583333, abs=1e-6)
    assert (row["parity_share"], row["parity_cost_usd"]) == (
        pytest.approx(1 / 6),
        pytest.approx(1 + 10 / 6),
    )
    assert row["saving"] == pytest.approx(1 - (1 + 10 / 6) / 10)
    assert (row["best_share"], row["best_rate"]) == (pytest.approx(2 / 6), pytest.approx(5 / 6))
    assert row["area"] <= row["oracle_area"]


def test_equal_confidences_are_drawn_by_lot():
    """All alike: deferring is at random, whatever the order of the rows; the gain is 0."""
    row = analysis.cascade(pair(sure=[0.5] * 6)).frame.row(0, named=True)

    assert row["gain_area"] == pytest.approx(0)
    assert row["of_oracle"] == pytest.approx(0)
    assert row["area"] == pytest.approx(row["random_area"])


def test_ties_equal_the_mean_over_all_orders():
    """Three answers of one confidence: the curve is the average over their six orders."""
    kept, handed = np.array([1, 0, 0.0])[:, None], np.array([0, 1, 1.0])[:, None]
    share, means = quality_curves.deferred(kept, handed, np.zeros(3), np.ones(3))
    orders = [
        [
            np.where(np.isin(np.arange(3), order[:d]), handed[:, 0], kept[:, 0]).mean()
            for d in range(4)
        ]
        for order in itertools.permutations(range(3))
    ]

    assert np.interp(np.arange(4) / 3, share, means[:, 0]).tolist() == pytest.approx(
        np.mean(orders, axis=0).tolist()
    )


def test_resampled_blocks_are_the_curve_where_they_are_few():
    """Every cluster drawn once is the exact area; with many confidences 25 blocks come close."""
    rng = np.random.default_rng(0)
    n = 500
    sure = rng.random(n)
    small, large = (rng.random(n) < sure).astype(float), (rng.random(n) < 0.7).astype(float)
    kept, handed = np.column_stack([small, np.ones(n)]), np.column_stack([large, np.full(n, 11.0)])
    alone = np.column_stack([large, np.full(n, 10.0)])
    share, means = quality_curves.deferred(kept, handed, sure, np.ones(n))
    one = handover.Pair(kept, handed, alone, sure, np.ones(n), np.arange(n))

    (drawn,) = handover.resampled([one], rng, 400)
    areas = [quality_curves.area(s, r) for s, r in zip(drawn[0], drawn[1], strict=True)]

    assert drawn[0].shape == (400, 26)
    assert np.mean(areas) == pytest.approx(quality_curves.area(share, means[:, 0]), abs=0.005)


def test_the_interval_of_the_area_covers_it():
    """95 % within two points and the chance of 250 samples (1,500 of them: 95.1); 150 items
    each."""
    rng = np.random.default_rng(4)

    def sample(n: int) -> tuple[np.ndarray, ...]:
        sure = rng.random(n)
        small, large = rng.random(n) < sure, rng.random(n) < 0.7
        kept, handed = (
            np.column_stack([small, np.ones(n)]),
            np.column_stack([large, np.full(n, 11.0)]),
        )
        return kept.astype(float), handed.astype(float), sure

    share, means = quality_curves.deferred(*sample(400_000), np.ones(400_000))
    truth = quality_curves.area(share, means[:, 0])
    covered = 0
    for _ in range(250):
        kept, handed, sure = sample(150)
        one = handover.Pair(kept, handed, handed, sure, np.ones(150), np.arange(150))
        found, _ = handover.intervals(handover.resampled([one], rng, 200)[0], 0.95, 150)
        covered += found["area_low"] <= truth <= found["area_high"]

    assert covered / 250 == pytest.approx(0.95, abs=0.02 + 2 * (0.95 * 0.05 / 250) ** 0.5)


def test_agreement_stands_in_for_a_confidence():
    """Four trials vote; the share of the commonest answer is the confidence, and all four are paid
    for."""
    answers = {"sure": ["x"] * 4, "torn": ["x", "x", "y", "z"]}
    rows = [
        {
            "configuration": "small",
            "item_id": item,
            "trial": k,
            "passed": item == "sure",
            "cost_usd": 1.0,
            "answer": a,
        }
        for item, said in answers.items()
        for k, a in enumerate(said)
    ]
    rows += [
        {
            "configuration": "large",
            "item_id": i,
            "trial": 0,
            "passed": True,
            "cost_usd": 10.0,
            "answer": "x",
        }
        for i in answers
    ]

    result = analysis.cascade(pl.DataFrame(rows))

    row = result.frame.row(0, named=True)
    assert (row["by_what"], row["n"], row["small_rate"]) == ("agreement", 2, 0.5)
    assert (row["parity_share"], row["parity_cost_usd"]) == (0.5, 4 + 5)
    curve = result.more["curve"]
    assert curve.filter(pl.col("share") == 0.5)["threshold"].to_list() == [0.5]
    assert curve["cost_usd"].to_list()[0] == 4


def test_a_cascade_that_was_run_is_described():
    """Deferred answers are the larger model's: their confidence says nothing of them, and is not
    replayed."""
    frame = pair().with_columns(
        metadata=pl.when(pl.col("configuration") == "small").then(
            pl.lit(json.dumps({"confidence": 0.2, "deferred": True}))
        )
    )
    kept = json.dumps({"confidence": 0.9, "deferred": False})
    frame = frame.with_columns(
        metadata=pl.when(pl.col("confidence") > 0.7).then(pl.lit(kept)).otherwise("metadata")
    )

    result = analysis.cascade(frame)

    run = result.more["recorded"].row(0, named=True)
    assert (run["configuration"], run["n_run"], run["deferred_rate"]) == ("small", 6, 0.5)
    assert (run["kept_right"], run["deferred_right"]) == (1, 0)
    assert result.frame["n_items"].to_list() == [3]


def test_cascade_edges():
    """A pair by name, unknown costs, no pair at all, a single item, hostile metadata."""
    unpriced = analysis.cascade(pair().with_columns(cost_usd=pl.lit(None, pl.Float64)))
    single = analysis.cascade(pair((1,), (1,), (0.5,)))
    none = analysis.cascade(pair().drop("confidence"))
    hostile = analysis.cascade(pair().with_columns(metadata=pl.lit('{"deferred": "maybe"')))

    row = unpriced.frame.row(0, named=True)
    assert (row["area"], row["parity_cost_usd"], row["saving"]) == (
        pytest.approx(0.708333, abs=1e-6),
        None,
        None,
    )
    assert single.frame.select("area", "area_low", "gain_area").row(0) == (1, None, 0)
    assert none.frame.is_empty()
    assert "no pair" in " ".join(none.notes)
    assert hostile.frame["area"].to_list() == row["area"] or hostile.frame.height == 1
    assert analysis.cascade(pair(), small="large").frame.is_empty()
    with pytest.raises(AnalysisError, match="large"):
        analysis.cascade(pair(), large="huge")


def test_cascade_repeats_itself():
    """Shuffled rows and DuckDB give the same table; per task, each task has its own pair."""
    frame = pair()
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())

    one = analysis.cascade(frame)
    shuffled = analysis.cascade(frame.sample(fraction=1, shuffle=True, seed=2))
    inside = analysis.cascade(connection.table("facts"))
    by_task = analysis.run("cascade", frame, by=("configuration", "task"))

    polars.testing.assert_frame_equal(one.frame, shuffled.frame)
    polars.testing.assert_frame_equal(one.frame, inside.frame)
    assert by_task.frame.drop("task")["area"].to_list() == one.frame["area"].to_list()


# --- what it would take ---
