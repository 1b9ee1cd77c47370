"""Estimates of remote calls: the published formula by hand, ranges that say why, unknown stays
unknown."""

import json
import math
from typing import Any

import pytest

from tests.support import ROOT
from workbench.records import Call
from workbench.runner.energy import estimate as es

ML_ENERGY = ROOT.parent / "shared" / "data" / "ml_energy" / "gpqa.json"
LLAMA: Any = {"active": 8.03, "total": 8.03, "batch": 64}


def test_the_formula_by_hand() -> None:
    """Llama 3.1 8B on 1 GPU: 162 J there, 105 J for 44.8 s of an eighth of 1.2 kW over 64, × PUE
    1.2."""
    gpu_j = 1000 * (1.17e-6 * math.exp(-1.12e-2 * 64) * 8.03 + 4.05e-5) * 3600
    server_j = 1000 * (6.78e-4 * 8.03 + 3.12e-4 * 64 + 1.94e-2) * 1200 / 8 / 64

    assert es.energy_j(1000, **LLAMA, pue=1.2) == pytest.approx(1.2 * (gpu_j + server_j))
    assert gpu_j == pytest.approx(162.32, abs=0.01)
    assert server_j == pytest.approx(105.03, abs=0.01)


@pytest.mark.parametrize(
    ("total", "gpus"), [(8.03, 1), (70.55, 4), (117, 4), (405.85, 16), (1760, 64)]
)
def test_gpus_hold_the_weights_and_come_in_powers_of_two(total: float, gpus: int) -> None:
    """1.2 × 2 bytes a parameter over 80 GB, rounded up to 1, 2, 4, 8, 16 …"""
    assert es.n_gpus_of(total) == gpus


def test_the_measured_latency_bounds_the_time_at_the_server() -> None:
    """A call that took 1 s cannot have kept a server for 45 s."""
    free = es.energy_j(1000, **LLAMA, pue=1.0)
    bound = es.energy_j(1000, **LLAMA, pue=1.0, most_s=1.0)

    assert free - bound == pytest.approx((44.82 - 1.0) * 1200 / 8 / 64, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpt-4o", (44, 132)),
        ("gpt-4o-2024-08-06", (44, 132)),
        ("openai/gpt-4o-mini", (8, 28)),
        ("gpt-5", (30, 90)),
        ("gpt-5.4", (45, 150)),
        ("gpt-5.9", None),
        ("gpt-5-super", None),
        ("claude-sonnet-4-20250514", (44, 132)),
        ("claude-opus-4-5-20251101", (67, 200)),
        ("deepseek/deepseek-r1", (37, 37)),
        ("Qwen3-30B-A3B", (3.3, 3.3)),
        ("gemini-2.5-flash-latest", (44, 132)),
        ("o1", (44, 132)),
        ("o1-something", None),
        ("my-own-model", None),
        ("", None),
    ],
)
def test_a_name_stands_for_its_versions_and_for_nothing_else(
    name: str, known: tuple[float, float] | None
) -> None:
    """A date or a maker's prefix is left out; a name that only begins alike is another model."""
    size = es.size_of(name)

    assert (size.range if size else None) == known


def test_an_estimate_is_a_range_with_its_reasons() -> None:
    """Low ≤ central ≤ high, the method says estimated, and the note holds every assumption."""
    call = Call(ordinal=3, provider="openai", model="gpt-4o", output_tokens=500, e2e_s=12.0)

    reading = es.estimate(call)

    assert reading is not None
    assert (reading.call_ordinal, reading.device, reading.phase) == (3, "provider", None)
    assert reading.method == "estimated"
    assert 0 < (reading.low_j or 0) < (reading.energy_j or 0) < (reading.high_j or 0)
    assert reading.full_j is None
    assert reading.note == (
        "EcoLogits' model of H100 servers: 44–132 of 440 billion parameters active (not"
        " published, guessed"
        " as of 2026-11-22), 16 GPUs, batch 16–256, PUE 1.2; output tokens alone"
    )


def test_what_is_not_known_is_not_estimated() -> None:
    """No size, or no output tokens: null, never 0."""
    assert es.estimate(Call(model="somebody's-model", output_tokens=10)) is None
    assert es.estimate(Call(model="gpt-4o")) is None


def test_the_answering_model_decides() -> None:
    """An alias that was asked for is less than the model that said it answered."""
    call = Call(model="auto", response_model="gpt-4o-mini-2024-07-18", output_tokens=10)

    assert es.estimate(call) is not None


def test_every_size_that_ships_is_sensible() -> None:
    """Low ≤ high ≤ total, and open models name their source."""
    for name, size in es._facts().sizes.items():
        low, high = size.range
        assert 0 < low <= high <= (size.total or high), name
        assert size.source or low < high, name


@pytest.mark.skipif(
    not ML_ENERGY.is_file(), reason="shared/data is not here: ML.ENERGY's measurements"
)
def test_the_fit_is_near_the_measurements_it_was_made_from() -> None:
    """GPU energy per token on H100 at batches of 64 to 512, bfloat16 up to 200 B: mostly within a
    factor 3."""
    rows = json.loads(ML_ENERGY.read_text())["configurations"]
    rows = [
        r
        for r in rows
        if "H100" in r["gpu_model"]
        and 64 <= r["max_num_seqs"] <= 512
        and r["total_params_billions"] <= 200
    ]
    ratios = []
    for row in rows:
        alpha, beta, gamma = es._ENERGY
        wh = alpha * math.exp(beta * row["max_num_seqs"]) * row["activated_params_billions"] + gamma
        ratios.append(wh * 3600 * row["num_gpus"] / row["energy_per_token_joules"])

    assert len(ratios) > 20
    assert sum(1 / 3 < r < 3 for r in ratios) / len(ratios) > 0.6
