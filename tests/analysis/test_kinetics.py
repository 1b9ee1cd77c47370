"""Kinetics and information capacity: the released formulas, hand-made figures, frontiers re-ranked,
what is missing."""

import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts, trace
from workbench import analysis, hardware
from workbench.analysis.families.compute.information_capacity import decode_flops
from workbench.analysis.families.compute.kinetics import decode_positions
from workbench.errors import ConfigError

TOY = (  # D = 640
    '[[model]]\nmodel = "toy"\nn_params = 1_000_000_000\n'
    "n_heads = 16\nn_kv_heads = 4\nn_layers = 10\nhead_dim = 64\n"
)


@pytest.fixture
def toy(tmp_path) -> str:
    """A file with the shape of the toy model: P = 1e9, H = 16, K = 4, D = 640."""
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    return str(path)


def row(result, group: str = "a", **more) -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group, **more).rows(named=True)
    return found


def attempts(
    group: str, item: str, lengths: list[tuple[int, int]], right: int, **more
) -> list[dict]:
    """Trials of an item with (prompt, output) tokens, the first few right."""
    return [
        trace(
            group, item, k < right, k, input_tokens=i, output_tokens=o, **({"model": "toy"} | more)
        )
        for k, (i, o) in enumerate(lengths)
    ]


def dense(
    i: float, o: float, n: int, *, p=1e9, h=16, k=4, d=640, intensity=562.5
) -> tuple[float, float]:
    """The released cost model, written down again: arithmetic and memory in TFLOP."""
    compute = (2 * p * o + 2 * (2 * i + o) * o * h * d) * n
    memory = 2 * (2 * i + o * n) * o * k * d * intensity
    return compute * 1e-12, memory * 1e-12


def test_the_toy_of_the_released_cost_model(toy):
    """P = 1e9, H = 16, K = 4, D = 640, 100 in, 1,000 out: 2.024576 + 3.456 = 5.480576 TFLOP."""
    frame = facts(*attempts("a", "1", [(100, 1000)], 1))
    found = row(analysis.kinetics(frame, reference=toy))

    assert found["compute"] == pytest.approx(2.024576)
    assert found["memory"] == pytest.approx(3.456)
    assert found["eflops"] == pytest.approx(5.480576)
    assert found["memory_share"] == pytest.approx(3.456 / 5.480576)


def test_samples_share_the_prompt_and_expected_costs_are_means_over_lengths(toy):
    """k samples against the released formula, averaged over the lengths that were seen; pass@k
    beside it."""
    lengths = [(100, 1000), (100, 500), (100, 2000), (100, 10)]
    result = analysis.kinetics(facts(*attempts("a", "1", lengths, 2)), reference=toy)

    for k in (1, 2, 3, 4):
        parts = np.mean([dense(i, o, k) for i, o in lengths], axis=0)
        found = row(result, k=k)
        assert (found["compute"], found["memory"]) == pytest.approx(tuple(parts))
        assert found["pass_at_k"] == pytest.approx(1 - math.comb(2, k) / math.comb(4, k))
        assert found["cost_usd"] == pytest.approx(0.5 * k)


@pytest.mark.parametrize(("prompt", "output"), [(100, 1000), (0, 7), (900, 50), (600, 600)])
@pytest.mark.parametrize("budget", [1, 300, 512, 5000])
def test_a_budget_of_positions_is_the_sum_over_steps(prompt, output, budget, toy):
    """∫ min(B, I + t) dt, by trapezia; the analysis multiplies it with heads and bytes."""
    t = np.linspace(0, output, 200_001)
    height = np.minimum(budget, prompt + t)
    area = float(((height[1:] + height[:-1]) / 2).mean() * output)

    assert decode_positions(prompt, output, budget) == pytest.approx(area, rel=1e-6)
    frame = facts(*attempts("a", "1", [(prompt, output)], 1))
    found = row(analysis.kinetics(frame, reference=toy, budget_tokens=budget))
    assert found["memory"] == pytest.approx(4 * area * 4 * 640 * 562.5e-12, rel=1e-6)
    assert found["compute"] == pytest.approx((2e9 * output + 4 * area * 16 * 640) * 1e-12, rel=1e-6)


def test_intensity_of_an_accelerator(toy):
    """989e12 over 3.35e12 in place of 562.5; memory is in proportion."""
    frame = facts(*attempts("a", "1", [(100, 1000)], 1))
    found = row(analysis.kinetics(frame, reference=toy, accelerator="H100-SXM5-80GB"))
    assert found["memory"] == pytest.approx(3.456 * 295.2239 / 562.5, rel=1e-6)
    unknown = analysis.kinetics(frame, reference=toy, accelerator="Jetson-AGX-Orin-64GB")
    assert row(unknown)["eflops"] is None


def test_memory_re_ranks_the_frontier(tmp_path):
    """By arithmetic the small model's long thinking is cheap; its keys and values make it the
    dearer."""
    path = tmp_path / "two.toml"
    path.write_text(
        '[[model]]\nmodel = "small"\nn_params = 600_000_000\n'
        "n_heads = 16\nn_kv_heads = 16\nn_layers = 28\nhead_dim = 128\n"
        '[[model]]\nmodel = "large"\nn_params = 8_000_000_000\n'
        "n_heads = 32\nn_kv_heads = 4\nn_layers = 36\nhead_dim = 128\n"
    )
    rows = [
        t
        for i in range(6)
        for g, o, right in (("small", 8000, i < 3), ("large", 2500, i < 4))
        for t in attempts(g, str(i), [(200, o)], int(right), model=g)
    ]
    result = analysis.kinetics(facts(*rows), reference=str(path))

    small, large = row(result, "small"), row(result, "large")
    assert small["compute"] < large["compute"]
    assert small["eflops"] > large["eflops"]
    assert (small["on_compute_frontier"], small["on_frontier"]) == (True, False)
    assert (large["on_compute_frontier"], large["on_frontier"]) == (True, True)


def test_what_has_no_shape_or_tokens_is_null_and_said(toy):
    """The unknown model keeps its pass@k; one trace without tokens is enough for a null."""
    rows = [*attempts("a", "1", [(1, 10)], 1), *attempts("b", "1", [(1, 10)], 1, model="nobody")]
    rows += [*attempts("c", "1", [(1, 10)], 1), trace("c", "2", True, model="toy", input_tokens=5)]
    result = analysis.kinetics(facts(*rows), reference=toy)

    assert row(result)["eflops"] > 0
    for group in "bc":
        found = row(result, group)
        assert (found["eflops"], found["on_frontier"], found["pass_at_k"]) == (None, None, 1)
    assert result.dropped == {"traces without a shape or token counts": 2}
    assert any("nobody" in note for note in result.notes)


def test_calls_are_added_up_and_traces_of_several_are_not_guessed(toy):
    """Two calls of a trace: the sum of both; the trace alone: null; the judge's call is no part."""
    named = {
        "configuration": "a",
        "model": "toy",
        "task": "t",
        "task_id": "t",
        "item_id": "1",
        "trace_id": "x",
        "passed": True,
        "error_type": None,
    }
    frame = pl.DataFrame(
        [
            named | {"call_id": str(n), "role": role, "input_tokens": i, "output_tokens": o}
            for n, (role, i, o) in enumerate(
                [("subject", 100, 1000), ("subject", 1200, 50), ("judge", 9, 9)]
            )
        ],
        schema_overrides={"error_type": pl.String},
    )
    found = row(analysis.kinetics(frame, reference=toy))
    assert found["eflops"] == pytest.approx(sum(dense(100, 1000, 1)) + sum(dense(1200, 50, 1)))
    several = facts(*attempts("a", "1", [(1300, 1050)], 1, n_calls=2))
    assert row(analysis.kinetics(several, reference=toy))["eflops"] is None


def test_nothing_generated_costs_nothing_and_trillions_scale(toy):
    """O = 0 → 0; twice the parameters add twice their arithmetic alone."""
    assert (
        row(analysis.kinetics(facts(*attempts("a", "1", [(50, 0)], 0)), reference=toy))["eflops"]
        == 0
    )
    frame = facts(*attempts("a", "1", [(100, 1000)], 1, model="Qwen3-8B"))
    shape = hardware.bundled().model("Qwen3-8B")
    heads = {"h": shape.n_heads, "k": shape.n_kv_heads, "d": 128 * shape.n_layers}
    expected = sum(dense(100, 1000, 1, p=shape.n_params, **heads))
    assert row(analysis.kinetics(frame))["eflops"] == pytest.approx(expected)
    named = analysis.kinetics(frame.with_columns(model=pl.lit("any")), model="Qwen3-8B")
    assert row(named)["eflops"] == pytest.approx(expected)


def test_the_interval_of_the_eflops_agrees_with_students(toy):
    """A mean over 200 items: mean ± 1.97 SE, to a tenth of the width."""
    rng = np.random.default_rng(5)
    outputs = rng.integers(100, 3000, 200)
    rows = [t for i, o in enumerate(outputs) for t in attempts("a", str(i), [(100, int(o))], 1)]
    found = row(analysis.kinetics(facts(*rows), reference=toy))
    each = np.array([sum(dense(100, o, 1)) for o in outputs])
    width = found["eflops_high"] - found["eflops_low"]
    assert width == pytest.approx(2 * 1.97 * each.std(ddof=1) / np.sqrt(200), rel=0.1)


# --- prefill-token equivalents by the reference rows ---


def test_pte_takes_shape_and_hardware_of_the_reference_rows():
    """γ = 2 L d HOI / N with the share of key-value heads: 36 × 4096, 8.19e9, a quarter, on an
    H100."""
    frame = facts(trace("a", "1", True, input_tokens=1000, output_tokens=300))
    result = analysis.pte(frame, model="Qwen3-8B", accelerator="H100-SXM5-80GB")

    gamma = 2 * 36 * 4096 * (989e12 / 3.35e12) / 8.19e9 / 4
    assert row(result)["pte"] == pytest.approx(1000 + gamma * 1300 * 300)
    with pytest.raises(ConfigError, match="qwen3-8b"):
        analysis.pte(frame, model="Qwen3-8")


# --- information capacity ---


def test_the_capacity_of_a_hand_made_model():
    """S = 32, NLL = 3, b = −24, F = 1.6e10 → 5 / 33.8974 = .147504."""
    frame = facts(trace("a", "1", True, output_tokens=10))
    options = {"nll_bits": 3.0, "text_bits": 32.0, "flops_per_token": 1.6e10}
    found = row(analysis.information_capacity(frame, corpus="mixed_text", **options))

    assert found["capacity"] == pytest.approx(0.147504, abs=5e-7)
    assert found["capacity_low"] is None  # given figures have no spread
    web = row(analysis.information_capacity(frame, corpus="ch-fineweb-edu", **options))
    assert web["capacity"] == pytest.approx((32 - 3 - 18.7) / math.log2(1.6e10))
    other = row(analysis.information_capacity(frame, **options))
    assert other["capacity"] == pytest.approx((32 - 3 - 27) / math.log2(1.6e10))
    own = row(analysis.information_capacity(frame, bias=-30.0, **options))
    assert own["capacity"] < 0


def test_surprise_and_size_come_from_the_log_probabilities():
    """−log p / ln 2 per token and 8 bytes per token, item by item; unknown ones are counted."""
    frame = facts(
        *[trace("a", str(i), None, output_tokens=100) for i in range(3)], trace("a", "3", None)
    ).with_columns(
        logprob_sum=pl.Series([-200.0, -300, None, -5]), text_bytes=pl.Series([400, 500, 1, 1])
    )
    result = analysis.information_capacity(frame, flops_per_token=1e10)

    found = row(result)
    assert found["nll_bits"] == pytest.approx((2 + 3) / 2 / math.log(2))
    assert (found["n"], found["n_logged"]) == (4, 2)
    assert found["capacity_low"] < found["capacity"] < found["capacity_high"]
    assert result.dropped == {"traces without log probabilities or token counts": 2}
    assert any("wrote itself" in note for note in result.notes)


def test_flops_per_token_are_those_of_the_released_count():
    """Written down again for Qwen3-8B, and within a fifth of twice its parameters at a short
    context."""
    shape = hardware.bundled().model("Qwen3-8B")
    d, kv, ff, vocab, layers = 4096, 1024, 12288, 151936, 36
    expected = layers * (4 * d**2 + 4 * d * kv + 6 * d * ff + 2 * d * 1023) + 2 * d * vocab

    assert decode_flops(shape) == pytest.approx(expected)
    assert decode_flops(shape, 1) == pytest.approx(2 * shape.n_params, rel=0.2)
    assert decode_flops(hardware.bundled().model("DeepSeek-V3")) is None
    found = row(analysis.information_capacity(facts(trace("a", "1", True, model="Qwen/Qwen3-8B"))))
    assert found["flops_per_token"] == pytest.approx(expected)


def test_what_the_capacity_lacks_is_said():
    """Log probabilities, the text's size, the shape: each by name, and a null."""
    result = analysis.information_capacity(facts(trace("a", "1", True, output_tokens=5)))

    assert row(result)["capacity"] is None
    words = " ".join(result.notes)
    assert all(what in words for what in ("log probabilities", "text_bits", "shape known of a"))


def test_capacity_falls_with_surprise_and_with_arithmetic():
    """More bits of surprise, or more FLOP for the same, is a lower capacity."""
    frame = facts(trace("a", "1", True))
    base = {"text_bits": 40.0, "nll_bits": 3.0, "flops_per_token": 1e9}
    one, surprised, dear = (
        row(analysis.information_capacity(frame, **(base | change)))["capacity"]
        for change in ({}, {"nll_bits": 4.0}, {"flops_per_token": 1e10})
    )
    assert one > surprised
    assert one > dear
