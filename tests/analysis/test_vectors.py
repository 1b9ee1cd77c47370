"""Published and worked numbers that stand in no other test, each named after its source."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from tests.support.facility import FAMILY, published
from tests.support.facts import facts, levels, row, rows_of, wrote
from tests.support.facts import facts as budget_rows
from tests.support.scored_traces import counted, trace
from workbench import analysis, hardware, sources
from workbench.analysis.inputs import runtime_coefficients
from workbench.analysis.stats import intervals, quality_curves, sample_size, survival
from workbench.analysis.stats.rank_correlation import tau_b
from workbench.store import Store, open_store

# --- many tries ---


def spread(group: str, n_items: int, passed: int, cost: float, trials: int = 1) -> list[dict]:
    """A group that passes so many items, at one cost a trace."""
    return [
        trace(group, str(i), i < passed, cost, trial=k)
        for i in range(n_items)
        for k in range(trials)
    ]


def test_large_language_monkeys_table_1_costs():
    """300 issues: DeepSeek $0.0072 × 5 attempts = $10.8; GPT-4o $39, 3.6 ×; Claude 3.5 $51, 4.7
    ×."""
    frame = facts(
        *spread("DeepSeek", 300, 89, 0.0072, 5),
        *spread("GPT-4o", 300, 72, 0.13),
        *spread("Claude", 300, 80, 0.17),
    )

    found = analysis.coverage(frame).frame

    def total(group: str, k: int) -> float:
        return 300 * found.filter(configuration=group, k=k)["cost_usd"].item()

    deepseek = total("DeepSeek", 5)
    assert deepseek == pytest.approx(10.8)
    assert total("GPT-4o", 1) / deepseek == pytest.approx(3.611, abs=5e-4)
    assert total("Claude", 1) / deepseek == pytest.approx(4.722, abs=5e-4)
    rates = {
        g: found.filter(configuration=g, k=1)["pass_at_k"].item() for g in ("GPT-4o", "Claude")
    }
    assert rates == pytest.approx({"GPT-4o": 0.24, "Claude": 0.267}, abs=5e-4)


def test_error_of_five_hundred_fair_coins():
    """Binomial SE of p = .5, n = 500: .0223607 (Quantifying Variance in Evaluation Benchmarks)."""
    residuals = np.repeat([0.5, -0.5], 250)[:, None]

    # the published one is that of a known rate; an estimated one has n − 1 below the root
    se = intervals.clustered_se(residuals, [500], [500])[0]
    assert se * math.sqrt(499 / 500) == pytest.approx(0.0223607, abs=5e-8)


def test_routellm_gsm8k_unpaired_error_and_correlation():
    """SE unpaired .0164451, r .111806, z 14.174: with them the paired error is what compare
    says."""
    found = row(analysis.compare(counted(739, 382, 94, 92), a="a", b="b"))
    n, rates = 1307, (1121 / 1307, 833 / 1307)
    sd = [math.sqrt(p * (1 - p)) for p in rates]

    unpaired = math.sqrt(sum(s**2 for s in sd) / (n - 1))
    paired = math.sqrt(unpaired**2 - 2 * 0.111806 * sd[0] * sd[1] / (n - 1))

    assert unpaired == pytest.approx(0.0164451, abs=5e-8)
    assert found["se"] == pytest.approx(paired, rel=1e-5)
    assert found["difference"] / paired == pytest.approx(14.174, abs=5e-4)


def test_routellm_gsm8k_mcnemar_by_chi_square():
    """382 against 94 discordant items: χ² 174.2521, with continuity correction 173.0441, exact p
    3.257e-42."""
    found = row(analysis.compare(counted(739, 382, 94, 92), a="a", b="b"))
    b, c = found["n_a_better"], found["n_b_better"]

    assert (b - c) ** 2 / (b + c) == pytest.approx(174.2521, abs=5e-5)
    corrected = (abs(b - c) - 1) ** 2 / (b + c)
    assert corrected == pytest.approx(173.0441, abs=5e-5)
    assert found["p_value"] == pytest.approx(3.257e-42, rel=5e-4)
    assert found["p_value"] < stats.chi2.sf(corrected, 1) < 1e-38  # so far out χ² is too cautious


def test_kendall_tau_p_of_a_trajectory():
    """.25 .27 .26 .31 .33 .32 .36: our τ .809524 has p .010714, exact over all 7! orders."""
    scores = np.array([0.25, 0.27, 0.26, 0.31, 0.33, 0.32, 0.36])
    found = float(tau_b(np.arange(7.0), scores))

    # Orders by how many of their pairs are swapped: the product of 1 + q + … + q^j, j < 7.
    orders = np.array([1.0])
    for j in range(7):
        orders = np.convolve(orders, np.ones(j + 1))
    swapped = round(21 * (1 - found) / 2)
    assert 2 * orders[: swapped + 1].sum() / math.factorial(7) == pytest.approx(0.010714, abs=5e-7)
    assert stats.kendalltau(np.arange(7), scores).statistic == pytest.approx(found)


@pytest.mark.parametrize(("difference", "published"), [(2, 9.889), (1, 36.306)])
def test_repeats_by_t_of_the_paper_on_randomness(difference, published):
    """σ = 1.5 points, 80 % power: 9.889 and 36.306 runs a side by t, where z gives 8.83 and
    35.32."""
    found = sample_size.repeats(2 * 1.5**2, difference, 0.05, 0.8, t=True)

    assert found == pytest.approx(published, abs=5e-4)
    df, shift = 2 * found - 2, difference / 1.5 * math.sqrt(found / 2)
    end = stats.t.ppf(0.975, df)
    assert stats.nct.sf(end, df, shift) + stats.nct.cdf(-end, df, shift) == pytest.approx(
        0.8, abs=1e-4
    )


def test_items_by_t_keep_the_power_that_they_plan():
    """Eleven items, not nine: of 20,000 paired t tests of eleven 83 % see it, of nine by z 73 %."""
    rng = np.random.default_rng(4)
    n = sample_size.items(0.1, 0.3, 0.05, 0.8, t=True)

    assert math.ceil(n) == 11
    assert math.ceil(sample_size.items(0.1, 0.3, 0.05, 0.8)) == 9
    assert sample_size.detectable(0.1, n, 0.05, 0.8, t=True) == pytest.approx(0.3)
    for size in (9, 11):
        d = rng.normal(0.3, math.sqrt(0.1), (20_000, size))
        seen = (stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05).mean()
        shift, end = 0.3 * math.sqrt(size / 0.1), stats.t.ppf(0.975, size - 1)
        assert seen == pytest.approx(stats.nct.sf(end, size - 1, shift), abs=0.01)
        assert (seen >= 0.8) == (size == 11)
    assert sample_size.items(1e-9, 0.3, 0.05, 0.8, t=True) == 2  # a t test needs two
    far = sample_size.items(1 / 9, 0.0003, 0.05, 0.8)
    assert sample_size.items(1 / 9, 0.0003, 0.05, 0.8, t=True) == pytest.approx(far, rel=1e-6)


def test_power_plans_by_t_where_that_is_asked():
    """About two items more, a wider smallest difference and no fewer trials; the rest is as it
    was."""
    frame = counted(30, 12, 6, 12)
    z, t = (row(analysis.power(frame, baseline="b", test=test)) for test in ("normal", "t"))

    assert t["items_needed"] - z["items_needed"] in (1, 2, 3)
    assert t["detectable"] > z["detectable"]
    assert (t["difference_low"], t["n_items"]) == (z["difference_low"], z["n_items"])


def test_routellm_gsm8k_oracle_by_tenths():
    """Oracle .63734, .73734, .83734, .92961 at 0, 10, 20 % of strong calls; PGR 0, .4538, .9076,
    1.3264."""
    counts = {(1, 1): 739, (1, 0): 382, (0, 1): 94, (0, 0): 92}  # strong, weak
    strong, weak = (np.repeat([k[j] for k in counts], list(counts.values())) for j in (0, 1))

    share, means = quality_curves.deferred(
        np.column_stack([weak, weak]).astype(float),
        np.column_stack([strong, strong]).astype(float),
        (weak - strong).astype(float),
        np.ones(1307),
    )
    at = np.interp([0, 0.1, 0.2, 0.3], share, np.maximum.accumulate(means[:, 0]))

    assert at[:3] == pytest.approx([0.63734, 0.73734, 0.83734], abs=5e-6)
    assert at.max() <= 0.92961 + 5e-6
    gap = quality_curves.recovered(np.append(at[:3], 0.92961), at[0], 0.857689)
    assert gap == pytest.approx([0, 0.4538, 0.9076, 1.3264], abs=5e-5)
    needed = np.interp(0.857689, np.maximum.accumulate(means[:, 0]), share)
    assert needed == pytest.approx(0.22035, abs=5e-6)


def test_gamma_of_budget_guidance():
    """Shape 2, scale 1500: mean 3000, sd 2121.32; eight lengths by moments 3.598923 and 628.660."""
    found = survival.Gamma(2.0, 1500.0, 0.0)
    eight = np.array([900, 1200, 1500, 2100, 3300, 4800, 2500, 1800.0])

    assert found.mean == 3000
    assert math.sqrt(found.shape) * found.scale == pytest.approx(2121.32, abs=5e-3)
    shape = eight.mean() ** 2 / eight.var()
    assert (shape, eight.mean() / shape) == pytest.approx((3.598923, 628.660), rel=1e-6)
    fit = survival.gamma(survival.count_lengths(eight, np.zeros(8, bool)))
    assert fit.mean == pytest.approx(eight.mean())  # both methods keep the mean


def test_elo_of_seven_to_three():
    """A 7–3 record is ln(7/3) = .847298, 147.19 Elo; Example 1 of SCOPE-RL ranks with r = .413."""
    from workbench.analysis.stats.bradley_terry import strengths

    a, b = strengths(np.array([[0.0, 7.0], [3.0, 0.0]]))
    true = np.array([1, 3, 4, 5, 6, 7, 8, 9, 10, 12.0])
    look = np.where(np.isin(true, [9, 10]), 2.0, true)

    assert a - b == pytest.approx(0.847298, abs=5e-7)
    assert 400 / math.log(10) * (a - b) == pytest.approx(147.19, abs=5e-3)
    assert stats.spearmanr(look, true).statistic == pytest.approx(0.413, abs=5e-4)


# --- money ---

# accuracy in per cent of 165 tasks, $ per task, printed and recomputed cost of pass
EFFICIENT_AGENTS = {
    "OWL": (53.33, 0.398, 0.75, 0.746),
    "SmolAgents": (53.33, 3.104, 5.82, 5.820),
    "Efficient Agents": (51.52, 0.285, 0.55, 0.553),
    "Claude 3.7 Sonnet": (61.82, 2.190, 3.54, 3.543),
    "o1": (52.12, 1.908, 3.66, 3.661),
    "Qwen3-30B-A3B": (17.58, 0.023, 0.13, 0.131),
    "GPT-4.1, best of 1": (53.33, 0.521, 0.98, 0.977),
    "best of 2": (54.55, 0.639, 1.17, 1.171),
    "best of 4": (53.94, 0.691, 1.28, 1.281),
    "simple memory": (56.36, 0.419, 0.74, 0.743),
    "summarized memory": (51.52, 0.782, 1.52, 1.518),
}
MISMATCHED = {  # rows of that paper that contradict themselves
    "GPT-4.1 among backbones": (53.33, 0.705, 0.98, 1.322),
    "Qwen3-235B": (27.27, 0.040, 0.22, 0.147),
    "QwQ-32B": (22.42, 0.120, 0.23, 0.535),
}


@pytest.fixture(scope="module")
def gaia() -> dict[str, float]:
    """Cost of pass of every row, from traces that have its accuracy and cost."""
    rows = [
        r
        for name, (rate, usd, *_) in (EFFICIENT_AGENTS | MISMATCHED).items()
        for r in spread(name, 165, round(rate / 100 * 165), usd)
    ]
    found = analysis.cost_of_pass(facts(*rows), resamples=100).frame
    return dict(found.select("configuration", "cost_of_pass_usd").iter_rows())


@pytest.mark.parametrize("name", EFFICIENT_AGENTS)
def test_efficient_agents_cost_of_pass(name, gaia):
    """Mean dollars per task over accuracy: the printed figure of each row that agrees with
    itself."""
    *_, printed, recomputed = EFFICIENT_AGENTS[name]

    assert gaia[name] == pytest.approx(recomputed, abs=1e-3)
    assert gaia[name] == pytest.approx(printed, abs=6e-3)


@pytest.mark.parametrize("name", MISMATCHED)
def test_efficient_agents_rows_that_contradict_themselves(name, gaia):
    """Their cost over their accuracy is not what is printed: no one's implementation reproduces
    them."""
    *_, printed, recomputed = MISMATCHED[name]

    assert gaia[name] == pytest.approx(recomputed, abs=2e-3)
    assert abs(gaia[name] - printed) > 0.05


def test_efficient_agents_and_a2fm_savings():
    """28.4 % is 1 − .285/.398, of cost; the cost of pass fell by 26.7 %; 96.6 % of the accuracy;
    A²FM 45.2 and 33.5 %."""
    owl, ours = EFFICIENT_AGENTS["OWL"], EFFICIENT_AGENTS["Efficient Agents"]

    assert 1 - ours[1] / owl[1] == pytest.approx(0.28392, abs=5e-5)
    assert 1 - 0.228 / owl[1] == pytest.approx(0.427, abs=5e-4)  # the abstract's figure is not it
    assert 1 - ours[2] / owl[2] == pytest.approx(0.267, abs=5e-4)
    assert ours[0] / owl[0] == pytest.approx(0.966, abs=5e-4)
    ways = {"reasoning": 0.00889, "agentic": 0.00732, "adaptive": 0.00487}
    frame = facts(*[r for name, usd in ways.items() for r in spread(name, 10, 5, usd / 2)])
    found = analysis.cost_of_pass(frame, resamples=100).frame
    cost = dict(found.select("configuration", "cost_of_pass_usd").iter_rows())
    assert cost == pytest.approx(ways)
    assert 1 - cost["adaptive"] / cost["reasoning"] == pytest.approx(0.4522, abs=5e-5)
    assert 1 - cost["adaptive"] / cost["agentic"] == pytest.approx(0.3347, abs=5e-5)


@pytest.mark.parametrize(
    ("us", "india", "wage"),
    [(0.19, 0.031, 6.25), (0.21, 0.062, 4.40), (8.07, 4.24, 1.99), (6.2e-3, 5e-3, 2.94)],
)
def test_cost_of_pass_table_1_is_concave_in_the_wage(us, india, wage):
    """V_US / V_IN ≤ H_US / H_IN in the published cells, since V is concave in H."""
    assert us / india <= wage * 1.01


@pytest.mark.parametrize("less", [6.25, 4.40, 1.99, 2.94])
def test_frontier_cost_of_pass_is_concave_in_the_wage(less):
    """The same of this implementation, on problems that some solve rarely and one nobody."""
    rng = np.random.default_rng(3)
    frame = facts(
        *[
            trace(g, str(i), i > 0 and rng.random() < 0.1 * i, c * rng.uniform(0.5, 2), trial=k)
            for g, c in (("a", 0.05), ("b", 0.4))
            for i in range(8)
            for k in range(8)
        ]
    )

    rich, poor = (
        analysis.cost_of_pass(frame, human_cost_usd=h, resamples=100)
        .more["totals"]["frontier_cost_of_pass_usd"]
        .item()
        for h in (2.0, 2.0 / less)
    )

    assert 1 <= rich / poor <= less


@pytest.mark.parametrize(
    ("reversed_", "printed"), [(55, (0.21825, 0.56349)), (16, (0.06349, 0.87302))]
)
def test_price_reversal_v1_is_consistent_with_itself(reversed_, printed):
    """55 of 252 pairs are 21.8 % and a mean τ of .563 over nine tasks; 16 without thinking,
    .873."""
    listed = np.arange(8.0)
    left, taus, pairs = reversed_, [], 0
    for task in range(9):
        share = math.ceil(left / (9 - task))
        left -= share
        bill = _with_inversions(share)
        taus.append(float(tau_b(listed, bill)))
        pairs += sum(bill[i] > bill[j] for i, j in itertools.combinations(range(8), 2))

    assert pairs == reversed_
    assert pairs / (28 * 9) == pytest.approx(printed[0], abs=5e-6)
    assert np.mean(taus) == pytest.approx(printed[1], abs=5e-6)


def _with_inversions(n: int) -> np.ndarray:
    """Order eight values so that n pairs of them stand the wrong way round."""
    out: list[float] = []
    for value in range(8):
        place = min(n, value)
        n -= place
        out.insert(len(out) - place, float(value))
    return np.array(out)


def test_price_reversal_listed_gap_of_flash(shared_data):
    """Gemini 3 Flash lists at 3.50 against GPT-5.2's 15.75: 78 % cheaper; GPT-5.2 used 10,101
    prompt tokens."""
    folder = shared_data / "pricing_reversal"
    models = json.loads((folder / "model_info.json").read_text())["models"]
    listed = {
        m["model_name"]: m["input_price_per_MTok"] + m["output_price_per_MTok"] for m in models
    }
    run = json.loads((folder / "aime" / "aime-hybrid-gpt-5.2-high.json").read_text())
    flash = next(v for k, v in listed.items() if "flash" in k)
    gpt = next(v for k, v in listed.items() if "5.2" in k)

    assert flash / gpt == pytest.approx(0.2222, abs=5e-5)
    assert sum(r["prompt_tokens"] for r in run["records"]) == 10_101
    assert sum(r["completion_tokens"] for r in run["records"]) == 440_617


def test_costnav_sums():
    """OPEX 45.5743 and 38.9482 are the sums of their parts; none of the robots breaks even."""
    amcl, gps = (0.0029, 5.4021, 29.32, 0, 10.8493), (0.0031, 10.1322, 20.58, 1, 7.2329)

    assert sum(amcl) == pytest.approx(45.5743)
    assert sum(gps) == pytest.approx(38.9482)
    frame = facts(*[trace("a", str(i), True, 0.0) for i in range(4)])
    for opex in (sum(amcl), sum(gps), 30.8490):
        asked = {"value_usd": 3.49, "other_usd": opex, "fixed_usd": 13_000.0}
        assert row(analysis.economics(frame, **asked))["break_even_runs"] == math.inf


# --- time, energy ---

HELM = {  # idealized: seconds per output token, of a prompt of 512
    "openai/ada": (0.019, 0.025),
    "openai/davinci": (0.081, 0.178),
    "ai21/j1-large": (0.024, 0.047),
    "ai21/j1-jumbo": (0.064, 0.164),
    "microsoft/TNLGv2_530B": (0.123, 0.49),
    "gooseai/gpt-neo-20b": (0.033, 0.114),
    "huggingface/gptj_6b": (0.021, 0.042),
    "anthropic/stanford-online-all-v4-s3": (0.054, 0.108),
    "together/bloom": (0.061, 0.191),
    "together/opt-66b": (0.055, 0.126),
}


@pytest.mark.parametrize("deployment", HELM)
def test_idealized_coefficients_of_helm(deployment):
    """Seconds of (512, 1) and of a hundred tokens more, as released."""
    first, step = HELM[deployment][1], HELM[deployment][0]
    frame = facts(
        *[
            trace("a", str(i), model=deployment, input_tokens=512, output_tokens=out, n_calls=1)
            for i, out in enumerate((1, 101))
        ]
    )

    found = analysis.idealized_runtime(frame, by="item").frame["runtime_s"].to_list()

    assert sorted(found) == pytest.approx([first, first + 100 * step])


def test_utilisation_of_davinci():
    """24 h² L FLOPs a token over its seconds and eight A100: .536871 TFLOP/s each
    (benchmarking_efficiency)."""
    step = runtime_coefficients.deployments()["openai/davinci"]["idealized"]["per_output_token_s"]

    assert 24 * 12_288**2 * 96 / step / 8 / 1e12 == pytest.approx(0.536871, abs=5e-7)


def test_edge_reasoning_laws():
    """The coefficients of three models on an Orin, and 8B at (1000, 500): 1.0979320 + 50.6244886
    s."""
    seconds = {}
    for law in ("DSR1-Qwen-1.5B", "DSR1-Llama-8B", "DSR1-Qwen-14B"):
        x = hardware.bundled().latency(law)
        padded = x.pad_tokens * math.ceil(1000 / x.pad_tokens)
        seconds[law] = (
            x.a * padded**2 + x.b * padded + x.c,
            500 * (x.n + x.m * 1000 + x.m * 499 / 2),
        )

    assert seconds["DSR1-Llama-8B"] == pytest.approx((1.0979320, 50.6244886), abs=5e-8)
    assert sum(seconds["DSR1-Qwen-1.5B"]) < 51.7224206 < sum(seconds["DSR1-Qwen-14B"])


@pytest.mark.parametrize(
    ("grid", "grams"),
    [
        ("USA", 369.473),
        ("FRA", 56.039),
        ("DEU", 380.95),
        ("CHN", 582.317),
        ("IND", 713.441),
        ("KOR", 430.567),
        ("world", 475),
    ],
)
def test_codecarbon_grids(grid, grams):
    """One kWh in each country, 2023."""
    frame = facts(trace("a", "1", energy_j=3.6e6, energy_method="measured"))

    assert row(analysis.energy(frame, grid=grid))["carbon_g"] == pytest.approx(grams, rel=1e-6)


@pytest.mark.parametrize(
    ("run", "mwh", "intensity", "tonnes"),
    [
        ((128, 283, 840), 33.471, None, None),
        ((992, 400, 792), 345.692, 0.367, 126.9),
        ((384, 400, 2808), 474.440, 0.064, 30.36),
        ((4480, 400, 864), 1703.117, 0.238, 405.3),
    ],
)
def test_helm_training_energy(run, mwh, intensity, tonnes):
    """Chips × watts × 1.1 × hours: GPT-J, OPT-175B, BLOOM, MT-NLG; OPT's printed 127.2 t is of a
    finer intensity."""
    frame = facts(trace("a", "1", energy_j=3600.0 * math.prod(run), energy_method="measured"))

    found = row(analysis.energy(frame, pue=1.1, g_per_kwh=1000 * (intensity or 1)))

    facility = 1.1 * found["energy_j"] / 3.6e9
    assert facility == pytest.approx(mwh, abs=5e-4)
    if tonnes:
        assert found["carbon_g"] / 1e6 == pytest.approx(tonnes, abs=0.05)


def test_ml_energy_best_row(shared_data):
    """gpt-oss-120b on two H100, batch 2048: .086040 J/token × 1720.9659 = 148.0717 J, 925.9872 W at
    10762.3049 tok/s."""
    path = shared_data / "ml_energy" / "gpqa.json"
    [best] = [
        r
        for r in json.loads(path.read_text())["configurations"]
        if "gpt-oss-120b" in r["model_id"]
        and r["gpu_model"] == "H100"
        and (r["num_gpus"], r["max_num_seqs"]) == (2, 2048)
    ]
    joules, length, rate = (
        best[k]
        for k in ("energy_per_token_joules", "avg_output_len", "output_throughput_tokens_per_sec")
    )

    assert (joules, length, rate) == pytest.approx((0.086040, 1720.9659, 10762.3049), rel=5e-6)
    frame = published([best], without=("power_w", "energy_per_request_j"))
    found = analysis.steady_state(frame, by=FAMILY).frame.row(0, named=True)
    assert found["energy_per_request_j"] == pytest.approx(148.0717, abs=5e-4)
    assert found["power_w"] == pytest.approx(925.9872, abs=5e-4)


# --- released data ---


def test_gsm8k_four_systems_in_pairs(shared_data):
    """286, 515, 458 and 742 of 1,319: the best against each other, exactly as scipy's binomial test
    of the flips."""
    systems = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    right = {
        s: np.array([json.loads(line)[s]["is_correct"] for line in path.read_text().splitlines()])
        for s in systems
    }
    frame = facts(*[trace(s, str(i), bool(x)) for s in systems for i, x in enumerate(right[s])])

    found = analysis.compare(frame, a="175b_verification").frame

    assert found["n_items"].to_list() == [1319] * 3
    for other in systems[:3]:
        pair = found.filter(b=other).row(0, named=True)
        won = int((right["175b_verification"] & ~right[other]).sum())
        lost = int((~right["175b_verification"] & right[other]).sum())
        expected = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458}[other]
        assert (pair["n_a_better"], pair["n_b_better"]) == (won, lost)
        assert pair["difference"] == pytest.approx((742 - expected) / 1319)
        assert pair["p_value"] == pytest.approx(stats.binomtest(won, won + lost).pvalue, rel=1e-6)
        assert pair["difference_low"] > 0


@pytest.fixture(scope="module")
def aider(shared_data, tmp_path_factory):
    """The polyglot leaderboard, imported."""
    store = open_store(tmp_path_factory.mktemp("aider") / "traces.duckdb", create=True)
    store.ingest(sources.read(shared_data / "aider" / "polyglot_leaderboard.yml"))
    return store


def test_aider_frontier(aider, shared_data):
    """Of 51 priced rows eight are unbeaten, o3 (high) at 81.3 % and $21.23 is not; a cost of 0 is
    unknown, not free."""
    rows = yaml.safe_load((shared_data / "aider" / "polyglot_leaderboard.yml").read_text())
    priced = [
        (r["total_cost"], r["pass_rate_2"] / 100, r["model"]) for r in rows if r.get("total_cost")
    ]
    unbeaten = [
        p
        for p in priced
        if not any(q[0] <= p[0] and q[1] >= p[1] and q[:2] != p[:2] for q in priced)
    ]

    result = analysis.frontier(
        aider.results(),
        by=("model", "configuration_id"),
        x="total_cost_usd",
        y="pass_rate_2",
        epsilon_x=0.05,
        epsilon_y=0.02,
    )

    assert result.frame.height == len(priced) == 51
    found = result.frame.filter("on_frontier").sort("total_cost_usd")
    assert found["model"].to_list() == [p[2] for p in sorted(unbeaten)]
    assert found.height == 8
    o3 = result.frame.filter(model="o3 (high)").row(0, named=True)
    assert (o3["pass_rate_2"], o3["total_cost_usd"]) == pytest.approx((0.813, 21.2259))
    assert "gpt-5 (medium)" in o3["dominated_by"]
    # 3.6 % at $0.32 is stood for by 48.4 % at $0.34, so is 49.3 % at $0.73, and 88.0 % by 86.7 %.
    assert result.more["totals"]["n_kept"].item() == 5
    assert found["stood_for_by"][0] == found["stood_for_by"][1]
    assert sum(result.dropped.values()) == 18


def test_inference_scaling_flaws_single_attempts():
    """Easy r = .87 and hard .13 with soundness .75: rejected .0975 and .6525, right .87 and .13,
    flukes .0325 and .2175."""
    rows = []
    for name, right, fluke in (("easy", 348, 13), ("hard", 52, 87)):
        for k in range(400):
            passed = k < right
            judged = passed or k < right + fluke
            rows += [
                trace(name, str(i), passed, trial=k, verifier_score=float(judged)) for i in range(2)
            ]

    found = analysis.verifier_ceiling(facts(*rows), k=1).frame.filter(k=1)

    by_name = {r["configuration"]: r for r in found.iter_rows(named=True)}
    for name, expected in (("easy", (0.0975, 0.87, 0.0325)), ("hard", (0.6525, 0.13, 0.2175))):
        figures = (by_name[name][c] for c in ("abstain_rate", "accepted_rate", "wrong_rate"))
        assert tuple(figures) == pytest.approx(expected)


def test_mrt_progress_and_cumulative_regret():
    """J = .10 .25 .40 .35 .75: progress .15 .15 −.05 .40; regret against 1 over the last four
    2.25."""
    rates = {1000: 0.10, 2000: 0.25, 3000: 0.40, 4000: 0.35, 5000: 0.75}
    rows = levels(rates, n_items=20)

    found = analysis.budget_curve(budget_rows(*rows), by="model").frame

    assert found["gain"].to_list() == pytest.approx([None, 0.15, 0.15, -0.05, 0.40])
    assert (1 - found["rate"][1:]).sum() == pytest.approx(2.25)


def test_e1_relative_effort():
    """600, 1400 and 2500 tokens on one question, 1500 on average: .4, .933 and 1.667."""
    rows = [wrote("1", "So.", group=str(n), output_tokens=n) for n in (600, 1400, 2500)]

    found = analysis.markers(rows_of("trace_texts", *rows)).frame

    efforts = dict(found.select("configuration", "relative_effort").iter_rows())
    assert efforts == pytest.approx({"600": 0.4, "1400": 0.9333, "2500": 1.6667}, abs=5e-5)


@pytest.mark.parametrize(
    ("k", "checks", "compute", "expected"), [(16, 8, 2, 272), (4, 32, 1, 132), (4, 32, 2, 260)]
)
def test_when_to_solve_when_to_verify_compute(k, checks, compute, expected):
    """C(S, V) = S (1 + λ V): 16 solutions with 8 checks at λ = 2 are 272 of a single one, 4 with 32
    132 or 260."""
    frame = facts(
        *[
            trace("a", str(i), j % 2 == 0, trial=j, verifier_score=1.0)
            for i in range(2)
            for j in range(16)
        ]
    )

    found = analysis.verifier_ceiling(frame, checks=checks, check_compute=compute).frame

    assert found.filter(k=k)["relative_compute"].item() == expected


def test_large_language_monkeys_flops(tmp_path):
    """P = 8e9, 32 layers of 4096, 10 tokens in, 2 × 5 out: 320,096,993,280, token by token; eFLOPs'
    decoding is its integral."""
    path = tmp_path / "shape.toml"
    path.write_text(
        '[[model]]\nmodel = "monkey"\nn_params = 8_000_000_000\nn_heads = 32\nn_kv_heads = 32\n'
        "n_layers = 32\nhead_dim = 128\n"
    )

    def flops(context: int) -> float:
        return 2 * (8e9 + 2 * 32 * 4096 * context)

    prompt = sum(flops(t) for t in range(1, 11))
    decoding = 2 * sum(flops(t + 10) for t in range(1, 6))
    frame = facts(
        *[
            trace("a", "1", True, trial=j, model="monkey", input_tokens=10, output_tokens=5)
            for j in range(2)
        ]
    )
    found = analysis.kinetics(frame, reference=str(path)).frame.filter(k=2).row(0, named=True)

    assert prompt + decoding == 320_096_993_280
    halves = (
        2 * 5 * 2 * 32 * 4096
    )  # a sum over steps has half a step more of context than the integral
    assert found["compute"] * 1e12 == pytest.approx(decoding - halves)


# --- files of other projects, by a mapping of one's own ---


def imported(path: Path, mapping: str, folder: Path) -> Store:
    """Import a file by a mapping, as `workbench import --mapping` does."""
    own = folder / "mine.toml"
    own.write_text(mapping)
    store = open_store(folder / "traces.duckdb", create=True)
    store.ingest(sources.read(path, mapping=own))
    return store


def test_azure_conversations(shared_data, tmp_path):
    """19,366 requests of the Azure trace: medians of 1020 tokens in and 129 out."""
    path = shared_data / "azure" / "AzureLLMInferenceTrace_conv.csv"
    names = 'item = "@row"\ninput_tokens = "ContextTokens"\noutput_tokens = "GeneratedTokens"'

    store = imported(
        path, f'[constants]\ntask = "conversations"\nmodel = "m"\n[columns]\n{names}\n', tmp_path
    )
    facts_ = store.traces().select("input_tokens", "output_tokens").collect()

    assert facts_.height == 19_366
    assert facts_.median().row(0) == (1020, 129)


def test_exgentic_agent_cost(shared_data, tmp_path):
    """One session is one file: $2.297865 in 494 s; the steps' running cost stops before the last
    call."""
    folder = shared_data / "exgentic"
    mapping = """
        [constants]
        task = "swe-bench"
        [columns]
        item = "task_key"
        model = "cost_reports.agent.model_name"
        passed = "success"
        e2e_s = "execution_time"
        n_turns = "steps"
        billed_cost_usd = "agent_cost"
    """
    store = imported(folder / "results.json", mapping, tmp_path)
    steps = [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]

    (found,) = (
        store.traces().select("passed", "billed_cost_usd", "e2e_s", "n_turns").collect().rows()
    )
    assert found == pytest.approx((True, 2.297865, 494.2505888938904, 32))
    running = [step["agent_cost"] for step in steps if "agent_cost" in step]
    assert running == sorted(running)
    assert running[-1] == pytest.approx(2.190265)


def test_swe_agent_model_stats(shared_data, tmp_path):
    """A demonstration: 13 calls, and a cost and tokens of 0 that are unknown, not free."""
    (path,) = (shared_data / "swe_agent").glob("*.traj")
    stats_ = "info.model_stats"
    mapping = f"""
        [constants]
        task = "swe-bench"
        model = "m"
        [columns]
        item = "@stem"
        n_turns = "{stats_}.api_calls"
        input_tokens = {{ column = "{stats_}.tokens_sent", null_if = [0] }}
        billed_cost_usd = {{ column = "{stats_}.instance_cost", null_if = [0] }}
    """
    store = imported(path, mapping, tmp_path)

    (found,) = store.traces().select("n_turns", "input_tokens", "billed_cost_usd").collect().rows()
    assert found == (13, None, None)
    assert len(json.loads(path.read_text())["trajectory"]) == 13
