"""Latency model and time to result: published laws, recovered coefficients, deadlines, profiles by
hand."""

import math

import numpy as np
import polars as pl
import polars.testing
import pytest
from scipy import optimize

from tests.support.facts import facts, trace
from workbench import analysis, hardware
from workbench.analysis.families.latency.latency_model import (
    decoding,
    nonnegative,
    prefill,
    steps_within,
)
from workbench.analysis.families.latency.time_to_result import ratios
from workbench.errors import AnalysisError, ConfigError

CALLS = {
    "configuration": pl.String,
    "item_id": pl.String,
    "call_id": pl.String,
    "role": pl.String,
    "input_tokens": pl.Int64,
    "cache_read_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "ttft_s": pl.Float64,
    "e2e_s": pl.Float64,
    "error_type": pl.String,
}


def call(
    item: str, prompt: int | None, out: int | None, ttft: float | None, end: float | None, **more
):
    """A call of a group."""
    named = {"configuration": "a", "item_id": item, "call_id": item, "role": "subject"}
    named |= {"input_tokens": prompt, "output_tokens": out, "ttft_s": ttft, "e2e_s": end}
    return named | more


def calls(*rows: dict) -> pl.DataFrame:
    """Rows of call_outcomes."""
    return pl.DataFrame([dict.fromkeys(CALLS) | r for r in rows], schema=CALLS)


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- latency model ---


def test_the_published_law_of_an_edge_device():
    """DSR1-Llama-8B on 1,000 prompt and 500 output tokens: 1.0979320 + 50.6244886 = 51.7224206
    s."""
    law = hardware.bundled().latency("DSR1-Llama-8B")
    padded, prompt, out = (np.array([float(x)]) for x in (1024, 1000, 500))

    assert prefill((law.a, law.b, law.c), padded)[0] == pytest.approx(1.0979320, abs=5e-8)
    assert decoding((law.m, law.n), prompt, out)[0] == pytest.approx(50.6244886, abs=5e-8)
    found = row(analysis.latency_model(calls(call("1", 1000, 500, 1.0, 60.0)), law="DSR1-Llama-8B"))
    assert found["predicted_s"] == pytest.approx(51.7224206, abs=1e-7)
    assert found["measured_s"] == 60
    assert found["predicted_ttft_s"] == pytest.approx(1.0979320, abs=5e-8)


def test_nothing_to_decode_takes_no_time():
    """O = 0 → 0."""
    assert decoding((1e-6, 0.1), np.array([1000.0]), np.array([0.0]))[0] == 0


@pytest.mark.parametrize("m", [0.0, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("seconds", [0.05, 0.1001, 1.0, 50.0, 51.0])
def test_the_budget_is_the_last_step_that_fits(m, seconds):
    """One step more would be late; against counting one by one."""
    prompt = np.array([1000.0])
    found = steps_within((np.array([m]), np.array([0.1])), prompt, np.array([seconds]))[0]

    one_by_one = 0
    while decoding((m, 0.1), prompt, np.array([one_by_one + 1.0]))[0] <= seconds * (1 + 1e-9):
        one_by_one += 1
    assert found == one_by_one


def test_coefficients_are_recovered_and_the_deadline_is_met():
    """Noise-free calls of a known law; the first token is inside the time to first token."""
    a, b, c, m, n = 2e-7, 3e-4, 0.05, 5e-7, 0.02
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        prompt, out = int(rng.integers(50, 4000)), int(rng.integers(1, 800))
        first = float(prefill((a, b, c), np.array(float(prompt))))
        later = float(decoding((m, n), np.array(float(prompt)), np.array(out - 1.0)))
        rows.append(call(str(i), prompt, out, first, first + later))

    found = row(analysis.latency_model(calls(*rows), deadline_s=5.0, prompt_tokens=1000))

    fitted = [found[f"prefill_{x}"] for x in "abc"] + [found[f"decode_{x}"] for x in "mn"]
    assert fitted == pytest.approx([a, b, c, m, n], rel=1e-5)
    assert found["r2_prefill"] == pytest.approx(1)
    assert found["r2_decode"] == pytest.approx(1)
    assert found["predicted_s"] == pytest.approx(found["measured_s"])
    start, whole = a * 1e6 + b * 1000 + c, found["budget_tokens"]
    ends = [
        start + float(decoding((m, n), np.array(1000.0), np.array(whole - 1 + k))) for k in (0, 1)
    ]
    assert ends[0] <= 5.0 < ends[1]
    assert found["budget_tokens_low"] == pytest.approx(found["budget_tokens_high"], abs=1)


def test_the_fit_is_scipys_least_squares_without_negatives():
    """nnls of the same rows, where some coefficients are bound."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = rng.normal(1, 1, (30, 3)), rng.normal(0.3, 1, 30)
        found = nonnegative(x.T @ x, x.T @ y)
        assert found == pytest.approx(optimize.nnls(x, y)[0], abs=1e-8)


def test_prompts_are_padded_and_cached_tokens_may_be_free():
    """129 tokens are computed as 256; with `fresh` only what was not cached."""
    rows = [
        call(str(i), p, 2, -(-(p - q) // 128) * 128 * 0.001, 10.0, cache_read_tokens=q)
        for i, (p, q) in enumerate([(129, 0), (300, 100), (700, 500), (1000, 0), (90, 10)])
    ]
    found = row(analysis.latency_model(calls(*rows), pad_tokens=128, fresh=True))
    assert (found["prefill_b"], found["prefill_c"]) == (
        pytest.approx(0.001),
        pytest.approx(0, abs=1e-9),
    )
    assert found["r2_prefill"] == pytest.approx(1)
    whole = row(analysis.latency_model(calls(*rows), pad_tokens=128))
    assert whole["r2_prefill"] < 0.99


def test_what_does_not_serve_is_counted():
    """Judges are no part; calls without a first token, tokens or an end, and failed ones, are left
    out."""
    frame = calls(
        call("1", 100, 10, 0.5, 2.0),
        call("2", 100, 10, None, 2.0),
        call("3", None, 10, 0.5, 2.0),
        call("4", 100, 10, 0.5, 2.0, error_type="timeout"),
        call("5", 100, 10, 0.5, 2.0, role="judge"),
    )
    result = analysis.latency_model(frame)

    assert (row(result)["n"], row(result)["n_timed"]) == (3, 1)
    assert result.dropped == {
        "failed traces": 1,
        "calls without tokens, time to first token or end": 2,
    }
    assert row(result)["budget_tokens_low"] is None
    traces = facts(
        trace("a", "1", True, input_tokens=9, output_tokens=9, ttft_s=1, e2e_s=2, n_calls=2)
    )
    assert row(analysis.latency_model(traces))["n_timed"] == 0
    assert any("streamed" in note for note in analysis.latency_model(traces).notes)


def test_a_prompt_longer_than_the_deadline_leaves_nothing():
    """0 tokens, not a negative number."""
    rows = [call(str(i), 1000 + 10 * i, 5 + i, 2.0 + 0.01 * i, 3.0 + 0.2 * i) for i in range(9)]
    assert row(analysis.latency_model(calls(*rows), deadline_s=1.0))["budget_tokens"] == 0


def test_the_interval_of_a_budget_covers_the_truth():
    """Nominal 90 % over 100 simulated runs of 40 calls, to 6 points."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        prompt, out = rng.integers(100, 2000, 40), rng.integers(50, 400, 40)
        first = 0.1 + 1e-4 * prompt + rng.normal(0, 0.02, 40)
        end = first + (out - 1) * (0.02 + rng.normal(0, 0.004, 40))
        frame = pl.DataFrame(
            {
                "configuration": "a",
                "item_id": [str(i) for i in range(40)],
                "input_tokens": prompt,
                "output_tokens": out,
                "ttft_s": first,
                "e2e_s": end,
            }
        )
        asked = {"deadline_s": 4.2, "prompt_tokens": 1000.0, "level": 0.9, "resamples": 200}
        found = row(analysis.latency_model(frame, **asked))
        hits += found["budget_tokens_low"] <= 201 <= found["budget_tokens_high"]
    assert hits / 100 == pytest.approx(0.9, abs=0.06)


def test_an_unknown_law_is_told():
    """With the nearest names."""
    with pytest.raises(ConfigError, match="dsr1-llama-8b"):
        analysis.latency_model(calls(call("1", 1, 1, 1.0, 1.0)), law="DSR1-Llama-9B")


# --- time to result ---


def profiles(**groups) -> pl.DataFrame:
    """Group → seconds per item; negative: wrong."""
    return facts(
        *[
            trace(g, str(i), s > 0, e2e_s=abs(s))
            for g, times in groups.items()
            for i, s in enumerate(times)
        ]
    )


def test_a_profile_by_hand():
    """Times (1, 4, 3) and (2, 2, never): first on 2 and 1 of 3, within twice on 3 and 2."""
    result = analysis.time_to_result(profiles(a=[1, 4, 3], b=[2, 2, -5]), most=4.0)

    profile = result.more["profile"]
    for group, at, share in (
        ("a", 1.0, 2 / 3),
        ("a", 4.0, 1.0),
        ("b", 1.0, 1 / 3),
        ("b", 4.0, 2 / 3),
    ):
        (found,) = profile.filter(
            (pl.col("configuration") == group) & ((pl.col("ratio") - at).abs() < 1e-9)
        )["share"]
        assert found == pytest.approx(share)
    assert (row(result)["first"], row(result, "b")["first"]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )
    assert (row(result)["reached"], row(result, "b")["reached"]) == (1, pytest.approx(2 / 3))
    assert row(result)["area"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert row(result, "b")["area"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert (row(result)["median_ratio"], row(result, "b")["median_ratio"]) == (1, 2)


def test_the_area_is_the_integral_of_the_profile():
    """Closed form against trapezia over a fine grid, as the score of AlgoPerf is computed."""
    rng = np.random.default_rng(2)
    times = {g: rng.gamma(2, 1, 40) * (1 + k) for k, g in enumerate("abc")}
    result = analysis.time_to_result(profiles(**times), most=4.0)

    matrix = np.array(list(times.values()))
    ratio = matrix / matrix.min(axis=0)
    grid = np.linspace(1, 4, 20_001)
    for k, g in enumerate("abc"):
        share = (ratio[k][:, None] <= grid).mean(axis=0)
        area = ((share[1:] + share[:-1]) / 2).mean()
        assert row(result, g)["area"] == pytest.approx(area, abs=1e-3)
        assert row(result, g)["first"] == pytest.approx((ratio[k] == 1).mean())
    assert sum(row(result, g)["first"] for g in "abc") == pytest.approx(1)
    assert result.frame["configuration"].to_list() == list("abc")


def test_an_expected_time_counts_the_attempts_that_fail():
    """Half of the attempts right: twice the time of one."""
    frame = facts(
        trace("a", "1", True, 0, e2e_s=3.0),
        trace("a", "1", False, 1, e2e_s=1.0),
        trace("b", "1", True, 0, e2e_s=4.0),
    )
    result = analysis.time_to_result(frame)
    assert row(result)["median_ratio"] == row(result, "b")["median_ratio"] == 1  # a tie: both first


def test_workloads_without_a_result_and_groups_that_were_not_there():
    """Nobody right: left out and counted; not tried is not lost."""
    ratio = ratios(
        np.array([[np.nan, np.nan], [2.0, 1.0], [5.0, np.nan]]),
        np.array([[0.0, 0.0], [1.0, 1.0], [1.0, np.nan]]),
    )
    assert np.isnan(ratio[0]).all()
    assert ratio[1].tolist() == [2, 1]
    assert ratio[2, 0] == 1
    assert math.isnan(ratio[2, 1])
    result = analysis.time_to_result(profiles(a=[-1, 2], b=[-3, 1]))
    assert result.dropped == {"workloads of which no group has a result": 1}
    assert row(result)["n_workloads"] == 1
    assert row(result)["area_low"] is None


def test_tasks_as_workloads_and_a_target_score():
    """Unit task: mean time over the share that reaches the target, per task."""
    rows = [
        trace(g, f"{t}{i}", None, score=s, e2e_s=e, task=t, task_id=t)
        for g, t, i, s, e in (
            ("a", "x", 0, 0.9, 2.0),
            ("a", "x", 1, 0.1, 4.0),
            ("b", "x", 0, 0.8, 3.0),
            ("a", "y", 0, 0.9, 1.0),
            ("b", "y", 0, 0.2, 1.0),
        )
    ]
    result = analysis.time_to_result(facts(*rows), unit="task", target=0.75)

    assert row(result)["n_workloads"] == 2
    assert row(result)["first"] == pytest.approx(1 / 2)  # x: 6 against 3; y: only a
    assert row(result, "b")["reached"] == pytest.approx(1 / 2)
    with pytest.raises(AnalysisError, match="do not group by task"):
        analysis.time_to_result(facts(*rows), unit="task", by=("configuration", "task"))
    with pytest.raises(AnalysisError, match="unknown measure"):
        analysis.time_to_result(facts(*rows), measure="answer")


def test_no_unit_of_time_matters_and_profiles_rise():
    """Milliseconds for seconds; a share never falls with the ratio, and lies between 0 and 1."""
    rng = np.random.default_rng(3)
    frame = profiles(a=rng.gamma(2, 1, 25), b=-rng.gamma(2, 1, 25), c=rng.gamma(3, 1, 25))
    one = analysis.time_to_result(frame)
    two = analysis.time_to_result(frame.with_columns(pl.col("e2e_s") * 1000))

    pl.testing.assert_frame_equal(one.frame, two.frame)
    for _, part in one.more["profile"].group_by("configuration"):
        assert part["share"].is_sorted()
        assert part["share"].is_between(0, 1).all()
    assert row(one, "b")["reached"] == 0
    assert row(one, "b")["median_ratio"] == math.inf
