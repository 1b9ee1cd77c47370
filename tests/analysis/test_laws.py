"""Laws: published refits, scipy as a second derivation, simulations with known truth, traps."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize

from tests.support.facts import facts, trace
from workbench import analysis
from workbench.analysis.families.scaling.quantization import bits
from workbench.analysis.families.scaling.scaling_law import parameters
from workbench.analysis.stats import power_law, resampling
from workbench.errors import AnalysisError

X = np.arange(5, 51, 5) * 1000.0
Y = 97 - 200 * X**-0.5


def graded(group: str, rates, x, *, items: int = 200, rng=None, **more) -> list[dict]:
    """A group whose items have a score around a rate, and an amount of tokens."""
    scores = np.full(items, rates) if rng is None else rng.binomial(1, rates, items)
    return [
        trace(group, f"i{k}", None, score=float(s), output_tokens=x, **more)
        for k, s in enumerate(scores)
    ]


# --- power laws ---


def test_the_learning_curve_of_vilares_is_found_again():
    """y = 97 − 200 x^−.5 at 5k..50k: (200, .5, 97)."""
    law = power_law.fit(X, Y, 100.0)

    assert law.asymptote[0] == pytest.approx(97, abs=1e-5)
    assert (law.scale[0], law.exponent[0]) == pytest.approx((200, 0.5), rel=1e-4)
    assert not law.edge[0]
    assert law.at(10_000)[0] == pytest.approx(95)
    assert law.needed(1.0)[0] == pytest.approx(40_000, rel=1e-4)


def test_asymptotes_of_the_first_points_alone():
    """With N(0, .02) noise of seed 1: 96.548, 96.951, 97.019, 96.951, 97.008, 97.022, 97.026 for 4
    to 10 points."""
    noisy = Y + np.random.default_rng(1).normal(0, 0.02, 10)

    found = [float(power_law.fit(X[:n], noisy[:n]).asymptote[0]) for n in range(4, 11)]

    assert found == pytest.approx(
        [96.548, 96.951, 97.019, 96.951, 97.008, 97.022, 97.026], abs=6e-4
    )


def test_fits_are_those_of_scipy():
    """A general optimiser from several starts finds no smaller sum of squares."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        x = np.sort(rng.uniform(1, 100, 8))
        y = 0.8 - 0.6 * x ** -rng.uniform(0.2, 1.5) + rng.normal(0, 0.01, 8)
        ours = power_law.fit(x, y, 1.0)
        best = min(
            optimize.least_squares(
                lambda p, x=x, y=y: p[0] - p[1] * x ** -p[2] - y,
                (0.7, 0.5, c),
                bounds=([-np.inf, 0, 0.01], [1.0, np.inf, 10.0]),
                xtol=1e-14,
                ftol=1e-14,
            ).cost
            for c in (0.1, 0.5, 1.0, 2.0)
        )
        assert ours.rss[0] <= 2 * best * (1 + 1e-6) + 1e-15


def test_a_law_scales_with_its_units():
    """A thousandfold x leaves asymptote and exponent alone; many curves at once give the same as
    one."""
    noisy = Y / 100 + np.random.default_rng(3).normal(0, 1e-3, (6, 10))
    small, large = power_law.fit(X, noisy), power_law.fit(1000 * X, noisy)

    assert small.asymptote == pytest.approx(large.asymptote, abs=1e-6)
    assert small.exponent == pytest.approx(large.exponent, rel=1e-4)
    assert power_law.fit(X, noisy[4]).rss[0] == pytest.approx(small.rss[4])


def test_flat_falling_and_straight_points_have_no_asymptote_in_sight():
    """The exponent runs into an end, and that is said."""
    for y in (np.full(10, 0.5), np.linspace(0.9, 0.1, 10), 0.1 * np.log(X)):
        assert power_law.fit(X, y).edge[0]
    with pytest.raises(ValueError, match="three points"):
        power_law.fit(X[:2], Y[:2])
    with pytest.raises(ValueError, match="above 0"):
        power_law.fit(np.array([0.0, 1, 2]), np.ones(3))


def test_the_ceiling_holds():
    """An asymptote above 1 is held at 1, as the bounded optimum of scipy is."""
    y = 1.2 - 0.9 * (X / 5000) ** -0.4
    law = power_law.fit(X, y, 1.0)
    other = optimize.least_squares(
        lambda p: 1.0 - p[0] * (X / 5000) ** -p[1] - y, (0.5, 0.5), xtol=1e-14, ftol=1e-14
    )
    assert law.asymptote[0] == 1.0
    assert law.rss[0] == pytest.approx(2 * other.cost, rel=1e-5)


def test_two_resources_are_told_apart():
    """a − b N^−.34 − d D^−.28 on a grid of sizes and data is found again."""
    n, d = np.tile([1e8, 2e8, 4e8, 8e8, 16e8], 4), np.repeat([1e9, 3e9, 9e9, 27e9], 5)
    found = power_law.fit_two(n, d, 0.9 - 120 * n**-0.34 - 200 * d**-0.28, 1.0)

    assert found.asymptote == pytest.approx(0.9, abs=1e-4)
    assert (found.exponent, found.exponent_2) == pytest.approx((0.34, 0.28), rel=1e-3)
    assert float(found.at(3e9, 1e11)) == pytest.approx(
        0.9 - 120 * 3e9**-0.34 - 200 * 1e11**-0.28, abs=1e-4
    )
    with pytest.raises(ValueError, match="five points"):
        power_law.fit_two(n[:4], d[:4], np.ones(4))


# --- scaling law ---


def test_a_law_of_groups():
    """Points on the curve: law, plateau, extrapolation; the learning curve may stop."""
    rows = [r for x in X for r in graded(f"m{int(x):06}", 0.97 - 2 * x**-0.5, x, items=2)]
    result = analysis.scaling_law(
        facts(*rows), outcome="score", x="output_tokens", at=2, tolerance=0.01
    )

    law = result.more["laws"].row(0, named=True)
    assert (law["asymptote"], law["exponent"]) == pytest.approx((0.97, 0.5), abs=1e-4)
    assert law["predicted"] == pytest.approx(0.97 - 2 * 100_000**-0.5, abs=1e-5)
    assert law["plateau_x"] == pytest.approx(40_000, rel=1e-3)
    assert law["on_plateau"]
    assert law["r_squared"] == pytest.approx(1)
    levels = result.more["levels"]
    assert levels["n_used"].to_list() == list(range(4, 11))
    assert levels["may_stop"].to_list() == [False] + [True] * 6
    assert result.frame["residual"].abs().max() < 1e-6
    assert result.more["curve"]["x"].max() == pytest.approx(100_000)


def test_intervals_of_the_extrapolation_cover():
    """90 % within two points and the chance of 300 samples (600 of them, with 400 resamples: 91.8);
    12 groups on 300 items."""
    x = np.geomspace(100, 6400, 12)
    rate, far = 0.85 - 3 * x**-0.4, 0.85 - 3 * 12_800**-0.4
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        passed = (rng.random((300, 12)) < rate).astype(float)
        y = resampling.resampled_sums(passed, 100, rng) / 300
        low, high = resampling.percentile(power_law.fit(x, y, 1.0).at(12_800)[:, None], 0.9, 300)
        held.append(low[0] <= far <= high[0])
    assert np.mean(held) == pytest.approx(0.9, abs=0.02 + 2 * (0.9 * 0.1 / 300) ** 0.5)


def test_families_have_laws_of_their_own():
    """Two models over three budgets that name them; a third with two points has none, and says
    so."""
    rows = []
    for model, c in (("m", 0.5), ("n", 1.0)):
        for budget in (100, 400, 1600):
            rows += graded(
                f"{model}{budget}",
                0.9 - 4 * budget**-c,
                1,
                items=3,
                model=model,
                thinking_budget_tokens=budget,
            )
    rows += graded("o1", 0.5, 1, items=3, model="o", thinking_budget_tokens=100)
    rows += graded("o2", 0.6, 1, items=3, model="o", thinking_budget_tokens=None)
    result = analysis.scaling_law(
        facts(*rows),
        by=("model", "thinking_budget_tokens"),
        family="model",
        x="thinking_budget_tokens",
        outcome="score",
    )

    laws = {r["family"]: r for r in result.more["laws"].iter_rows(named=True)}
    assert (laws["m"]["exponent"], laws["n"]["exponent"]) == pytest.approx((0.5, 1.0), rel=1e-3)
    assert (laws["o"]["asymptote"], laws["o"]["n_points"]) == (None, 1)
    assert any(note.startswith("o: a law needs three") for note in result.notes)
    assert result.dropped["groups without a known amount above 0"] == 1


def test_two_resources_of_groups():
    """Parameters from the names and tokens: the law is fitted to five groups or more."""
    rows = []
    for size in (100, 400, 1600):
        for tokens in (10, 100, 1000):
            rate = 0.9 - 20 * (size * 1e6) ** -0.25 - 0.8 * tokens**-0.5
            rows += graded(f"m-{size}M {tokens}", rate, tokens, items=2, model=f"m-{size}M")
    result = analysis.scaling_law(
        facts(*rows),
        x="parameters",
        x2="output_tokens",
        by=("model", "configuration"),
        outcome="score",
    )

    law = result.more["laws"].row(0, named=True)
    assert (law["exponent"], law["exponent_2"], law["asymptote"]) == pytest.approx(
        (0.25, 0.5, 0.9), rel=0.02
    )
    assert result.more["curve"].is_empty()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-3.1-8B-Instruct", 8e9),
        ("SmolLM2-135M", 135e6),
        ("Mixtral-8x7B", 56e9),
        ("qwen2.5-0.5b", 5e8),
        ("gpt-4o", None),
        (None, None),
    ],
)
def test_parameters_in_names(name, expected):
    """What stands before M, B or T; versions are no sizes."""
    found = parameters(name)
    assert np.isnan(found) if expected is None else found == expected


def test_traps_of_scaling():
    """Nothing scored, an unknown resource, one item: an empty answer, a refusal, no interval."""
    assert analysis.scaling_law(facts(trace("a", "i", None))).frame.is_empty()
    with pytest.raises(AnalysisError, match="resource of option x"):
        analysis.scaling_law(facts(trace("a", "i", True)), x="colour")
    with pytest.raises(AnalysisError, match="family"):
        analysis.scaling_law(facts(trace("a", "i", True)), family="model")
    rows = [r for k in range(1, 5) for r in graded(f"g{k}", 0.2 * k**0.5, 10 * k, items=1)]
    law = analysis.scaling_law(facts(*rows), outcome="score").more["laws"].row(0, named=True)
    assert law["predicted_low"] is None


# --- quantization ---


def formats(**scores) -> pl.DataFrame:
    """One model in several number formats on the same four items."""
    time = {"FP16": 4.0, "Q8_0": 2.0, "Q4_K_M": 1.0}
    return facts(
        *[
            trace(
                f"m {p}",
                f"i{k}",
                bool(s),
                model="m",
                precision=p,
                e2e_s=time[p],
                output_tokens=10,
                energy_j=time[p],
            )
            for p, values in scores.items()
            for k, s in enumerate(values)
        ]
    )


def test_what_is_kept_and_gained_by_hand():
    """FP16 right on 4 of 4, Q8 on 3, Q4 on 2: ¾ and ½ recovered, twice and four times as fast."""
    rows = formats(FP16=[1, 1, 1, 1], Q8_0=[1, 1, 1, 0], Q4_K_M=[1, 1, 0, 0])
    found = analysis.quantization(rows, by="model").frame.rows(named=True)

    assert [r["precision"] for r in found] == ["FP16", "Q8_0", "Q4_K_M"]
    assert [r["recovered"] for r in found] == [1.0, 0.75, 0.5]
    assert [r["change"] for r in found] == [0.0, -0.25, -0.5]
    assert [r["speedup"] for r in found] == [1.0, 2.0, 4.0]
    assert [r["energy_factor"] for r in found] == [1.0, 0.5, 0.25]
    assert [r["memory_factor"] for r in found] == [1.0, 0.5, 0.25]
    assert found[0]["change_low"] is None
    assert found[1]["change_low"] <= -0.25 <= found[1]["change_high"]
    assert found[1]["ties_baseline"]


def test_another_baseline_and_traps():
    """A named one; a score of 0 recovers nothing finite; unshared items go; unknown energy stays
    unknown."""
    rows = formats(FP16=[0, 0, 0, 0], Q4_K_M=[1, 1, 0])
    result = analysis.quantization(rows, by="model")
    low = result.frame.filter(precision="Q4_K_M").row(0, named=True)
    assert (low["recovered"], low["n_items"]) == (None, 3)
    assert result.dropped["items that not every format was tried on"] == 1
    named = analysis.quantization(rows, by="model", baseline="Q4_K_M").frame
    assert named["baseline"].unique().to_list() == ["Q4_K_M"]
    unmeasured = rows.with_columns(
        energy_j=pl.when(pl.col("item") == "i1").then(None).otherwise("energy_j")
    )
    assert (
        analysis.quantization(unmeasured, by="model").frame["energy_factor"].to_list() == [None] * 2
    )
    with pytest.raises(AnalysisError, match="baseline"):
        analysis.quantization(rows, by="model", baseline="FP32")
    with pytest.raises(AnalysisError, match="precision"):
        analysis.quantization(rows, by=("model", "precision"))


def test_groups_of_one_format_and_of_several_models_are_told():
    """In words, since neither compares formats."""
    rows = formats(FP16=[1, 0], Q4_K_M=[1, 1])
    assert "one number format" in analysis.quantization(rows).notes[0]
    mixed = rows.with_columns(model=pl.col("precision"))
    assert any("several models" in n for n in analysis.quantization(mixed, by="task").notes)
    assert analysis.quantization(rows.head(0)).frame.is_empty()


def test_the_change_is_the_paired_difference():
    """The interval of the change is narrower than that of unpaired rates where items go
    together."""
    rng = np.random.default_rng(5)
    easy = rng.random(300) < 0.5
    flips = rng.random(300) < 0.05
    rows = [
        trace(f"m{p}", f"i{k}", bool(e ^ (f and p == "Q4")), model="m", precision=p)
        for p in ("FP16", "Q4")
        for k, (e, f) in enumerate(zip(easy, flips, strict=True))
    ]
    found = analysis.quantization(facts(*rows), by="model").frame.row(1, named=True)
    d = (easy ^ flips).astype(float) - easy
    assert found["change"] == pytest.approx(d.mean())
    half = 1.96 * d.std() / np.sqrt(300)
    assert (found["change_high"] - found["change_low"]) / 2 == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp16", 16),
        ("BF16", 16),
        ("F32", 32),
        ("Q4_K_M", 4),
        ("IQ2_XS", 2),
        ("int8", 8),
        ("W4A16", 4),
        ("GPTQ-4bit", 4),
        ("MXFP4", 4),
        ("half", 16),
        ("AWQ", None),
        ("", None),
        (None, None),
    ],
)
def test_bits_in_names(name, expected):
    """The weights' bits, where the name says them."""
    assert bits(name) == expected
