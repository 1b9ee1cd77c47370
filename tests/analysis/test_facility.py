"""Steady state, token production and energy by phase: published rows, hand-made windows and
facilities, methods apart."""

import json

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facility import FAMILY, published, reading, readings, served
from tests.support.making import DIRECT, ITEMS, rich_trace, run, trace
from tests.support.making import TASK as SUMS
from workbench import analysis, sources
from workbench.analysis.families.energy.steady_state import Requests, in_flight, window
from workbench.errors import AnalysisError, ConfigError
from workbench.records import EnergyReading
from workbench.store import open_store


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- steady state: published figures ---


@pytest.fixture(scope="module")
def released(shared_data):
    """The 187 rows of the leaderboard."""
    return json.loads((shared_data / "ml_energy" / "gpqa.json").read_text())["configurations"]


def test_identities_of_the_leaderboard(released):
    """W = J/token × tokens/s and J/request = J/token × length, on all 187 rows; the filter lets
    them pass."""
    result = analysis.steady_state(published(released), family=",".join(FAMILY))

    windows = result.more["windows"]
    assert windows.height == len(released) == 187
    assert windows["identity_gap"].max() < 1e-9
    assert result.frame["n_stable"].sum() == 187  # the leaderboard shows only what passed
    best = result.frame.row(0, named=True)
    assert best["energy_per_token"] == min(r["energy_per_token_joules"] for r in released)


def test_the_leaderboard_through_its_mapping_and_the_store(shared_data, tmp_path):
    """File → mapping → store → published figures: the identities hold, but for a row measured
    twice."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    store.ingest(sources.read(shared_data / "ml_energy" / "gpqa.json"))

    result = analysis.steady_state(store.results(), by=("model", "configuration_id"))

    windows = result.more["windows"]
    gaps = windows["identity_gap"].sort(descending=True)
    assert windows.height == 186
    assert gaps[1] < 1e-9 < gaps[0]
    assert sum("several values" in note for note in result.notes) == 1
    assert any("max_batch_size is not published" in note for note in result.notes)


def test_what_is_not_published_is_worked_out(released):
    """Without watts and joules per request the identities give them."""
    bare = published(released, without=("power_w", "energy_per_request_j"))
    result = analysis.steady_state(bare)

    for r in result.frame.rows(named=True):
        source = released[int(r["configuration"])]
        assert r["power_w"] == pytest.approx(source["avg_power_watts"])
        assert r["energy_per_request_j"] == pytest.approx(source["energy_per_request_joules"])
    assert result.more["windows"]["identity_gap"].null_count() == 187


def test_the_documented_window_of_the_benchmark():
    """0.093545 J/token and 54,631.48 J in 97.6 s: 584,012.8 tokens, 559.749 W."""
    tokens_per_s = 54_631.48 / 0.093545 / 97.6
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "metric": ["energy_per_token_j", "output_tokens_per_s", "window_s"],
            "value": [0.093545, tokens_per_s, 97.6],
        }
    )
    found = row(analysis.steady_state(frame))
    assert found["power_w"] == pytest.approx(559.749, abs=5e-4)
    assert found["token_rate"] * 97.6 == pytest.approx(584_012.8, abs=0.05)


def test_published_figures_that_contradict_themselves_are_named(released):
    """Watts that are twice what the rest implies."""
    wrong = [released[0] | {"avg_power_watts": 2 * released[0]["avg_power_watts"]}]
    result = analysis.steady_state(published(wrong))
    assert result.more["windows"]["identity_gap"][0] == pytest.approx(1)
    assert any("off their own identities" in note for note in result.notes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"window_s": 19.0}, "shorter than 20 s"),
        ({"energy_per_token_j": 0.0}, "not above 0"),
        ({"energy_per_token_j": None}, "not known"),
        ({"batch_size": 6.7}, "less than 85 %"),
        ({"window_s": 20.0, "batch_size": 6.8}, None),
    ],
)
def test_the_filter(changes, why):
    """Each rule of the stability filter, at its edge."""
    values = {"energy_per_token_j": 0.5, "batch_size": 8.0, "max_batch_size": 8.0, "window_s": 60.0}
    frame = pl.DataFrame(
        [{"configuration": "a", "metric": m, "value": v} for m, v in (values | changes).items()]
    )
    (found,) = analysis.steady_state(frame).more["windows"].rows(named=True)
    assert found["is_stable"] == (why is None)
    assert why is None or why in found["why"]


def test_larger_batches_fall_with_an_unsteady_one():
    """In the same family alone, and only from there on up."""
    sizes = [("x", 8, 8.0), ("x", 16, 12.0), ("x", 32, 32.0), ("y", 32, 32.0)]
    frame = pl.DataFrame(
        [
            {"configuration": f"{m}{b}", "gpu": m, "metric": k, "value": v}
            for m, b, n in sizes
            for k, v in (
                ("energy_per_token_j", 1.0),
                ("max_batch_size", float(b)),
                ("batch_size", n),
            )
        ]
    )
    result = analysis.steady_state(frame, family="gpu")
    steady = dict(result.frame.select("configuration", "n_stable").iter_rows())
    assert steady == {"x8": 1, "x16": 0, "x32": 0, "y32": 1}
    apart = analysis.steady_state(frame)
    assert row(apart, "x32")["n_stable"] == 1


# --- steady state: our own calls ---


def test_the_window_opens_with_the_batch_and_closes_before_it_thins_out():
    """B = 2, n = 6: open at the second first token, closed when three have finished."""
    sent = np.array([0.0, 0.0, 3, 4, 5, 6])
    requests = Requests(sent, sent + 1, sent + 3, np.ones(6), np.ones(6))
    assert window(requests, 2) == (1.0, 6.0)
    assert window(requests, 5) is None
    assert in_flight(requests) == 3
    assert in_flight(Requests(*[np.array([0.0, 1.0])] * 2, np.array([1.0, 2.0]), sent, sent)) == 1


def test_a_server_that_is_always_full():
    """40 J and 400 tokens every 2 s: in the window as many as its length implies, at the decoding's
    share."""
    result = analysis.steady_state(served(), least_window_s=10.0)

    (found,) = result.more["windows"].rows(named=True)
    assert found["max_batch_size"] == 4
    assert found["window_s"] == pytest.approx(18.0 - 0.5)  # 35 of 40 have finished at the ninth end
    assert found["batch_size"] == pytest.approx(4)
    # joules run evenly at 20 W; tokens in each round's last three quarters
    joules = 20 * found["window_s"]
    tokens = 400 * (found["window_s"] - 8 * 0.5) / 1.5
    assert found["energy_per_token"] == pytest.approx(joules / tokens)
    assert found["token_rate"] == pytest.approx(tokens / found["window_s"])
    assert found["power_w"] == pytest.approx(20)
    assert row(result)["energy_per_request_j"] == pytest.approx(100 * joules / tokens)


def test_two_runs_have_an_interval_and_one_has_none():
    """Mean ± t · SE of two windows around the ratio of their sums."""
    one = analysis.steady_state(served(), least_window_s=10.0)
    both = pl.concat([served(), served(joules=12.0).with_columns(run_id=pl.lit("s"))])
    two = analysis.steady_state(both, least_window_s=10.0)

    assert row(one)["energy_per_token_low"] is None
    assert row(two)["n_stable"] == 2
    assert row(two)["energy_per_token"] == pytest.approx(1.1 * row(one)["energy_per_token"])
    half = 12.7062 * abs(0.2 * row(one)["energy_per_token"]) / 2
    assert row(two)["energy_per_token_high"] - row(two)["energy_per_token"] == pytest.approx(
        half, rel=1e-4
    )


def test_what_keeps_a_window_from_counting():
    """Unknown joules, unknown times, failures, judges, too short: null, with a reason each."""
    no_meter = served().with_columns(energy_j=pl.lit(None, pl.Float64))
    no_clock = served().with_columns(started_at=pl.lit(None, pl.Datetime("us")))
    failed = served().with_columns(error_type=pl.lit("timeout"))
    judged = pl.concat([served(), served().with_columns(role=pl.lit("judge"))])

    for frame, least, says in (
        (no_meter, 10, "energy not known"),
        (no_clock, 10, "no window"),
        (served(), 20, "shorter than 20 s"),
    ):
        result = analysis.steady_state(frame, least_window_s=least)
        assert row(result)["energy_per_token"] is None
        assert says in result.more["windows"]["why"][0]
    assert analysis.steady_state(failed).dropped == {"failed requests": 40}
    pl.testing.assert_frame_equal(
        analysis.steady_state(judged).frame, analysis.steady_state(served()).frame
    )
    with pytest.raises(AnalysisError, match="column of family"):
        analysis.steady_state(served(), family="gpu")


# --- token production ---


def metered(joules: float | None, tokens: int | None = 100, **more) -> pl.DataFrame:
    """Ten traces of a group."""
    return pl.DataFrame(
        [
            {
                "configuration": "a",
                "model": "m",
                "item_id": str(i),
                "energy_j": joules,
                "output_tokens": tokens,
                "passed": i < 5,
                "e2e_s": 2.0,
                "error_type": None,
            }
            | more
            for i in range(10)
        ],
        schema_overrides={
            "energy_j": pl.Float64,
            "output_tokens": pl.Int64,
            "error_type": pl.String,
        },
    )


def test_a_facility_of_one_megawatt():
    """PUE 1.25, .5 J, 80 %: 1.28e6 tokens/s; 4,480 accelerators at 40 % and 80 %: 1.0127e7; power
    binds."""
    options = {
        "joules_per_token": 0.5,
        "power_share": 0.8,
        "flops_per_token": 1.4e11,
        "usd_per_kwh": 0.1,
        "n_accelerators": 4480,
        "compute_share": 0.8 * 0.4,
    }
    found = row(analysis.token_production(metered(None), **options))

    assert found["power_ceiling"] == pytest.approx(1.28e6)
    assert found["compute_ceiling"] == pytest.approx(1.0127e7, rel=1e-4)
    assert (found["token_rate"], found["binding"]) == (pytest.approx(1.28e6), "power")
    assert found["usd_per_mtok"] == pytest.approx(0.01736, abs=5e-6)
    assert found["facility_joules_per_token"] == pytest.approx(0.625)
    assert found["right_rate"] == pytest.approx(1.28e6 / 100 * 0.5)


def test_the_crossover_is_where_the_ceilings_meet():
    """At that many joules per token they are the same; a little more and power binds, a little less
    and compute."""
    first = row(
        analysis.token_production(metered(None), joules_per_token=0.5, flops_per_token=1e11)
    )
    at = first["crossover_j"]
    met = row(analysis.token_production(metered(None), joules_per_token=at, flops_per_token=1e11))
    assert met["power_ceiling"] == pytest.approx(met["compute_ceiling"])
    for factor, binding in ((1.01, "power"), (0.99, "compute")):
        found = row(
            analysis.token_production(
                metered(None), joules_per_token=at * factor, flops_per_token=1e11
            )
        )
        assert found["binding"] == binding


def test_cooling_binds_where_it_carries_less_than_the_power():
    """600 kW of heat against 800 kW of IT."""
    options = {"joules_per_token": 0.5, "flops_per_token": 1e9}
    cool = row(analysis.token_production(metered(None), cooling_w=6e5, **options))
    warm = row(analysis.token_production(metered(None), cooling_w=9e5, **options))
    assert (cool["binding"], cool["token_rate"]) == ("cooling", pytest.approx(1.2e6))
    assert (warm["binding"], warm["token_rate"]) == ("power", pytest.approx(1.6e6))


def test_joules_are_measured_where_they_can_be():
    """Mean energy over mean tokens of the traces that have both, with an interval that scales the
    ceiling."""
    rng = np.random.default_rng(0)
    frame = metered(1.0).with_columns(energy_j=pl.Series(rng.gamma(4, 10, 10)))
    frame = pl.concat([frame, metered(99.0, None).with_columns(item_id=pl.lit("10"))])
    found = row(analysis.token_production(frame, flops_per_token=1e9, pue=1.0))

    mean = frame.head(10)["energy_j"].mean() / 100
    assert found["joules_per_token"] == pytest.approx(mean)
    assert found["n_metered"] == 10
    assert found["power_ceiling"] == pytest.approx(1e6 / mean)
    assert found["power_ceiling_low"] == pytest.approx(
        1e6 / found["joules_per_token_high"], rel=1e-6
    )
    assert found["joules_per_token_low"] < mean < found["joules_per_token_high"]


def test_one_known_ceiling_binds_nothing():
    """No meter: arithmetic alone; no shape: power alone; each said; neither: null."""
    compute = analysis.token_production(metered(None, model="Qwen3-8B"))
    power = analysis.token_production(metered(50.0))
    nothing = analysis.token_production(metered(None))

    found = row(compute)
    assert found["flops_per_token"] == pytest.approx(2 * 8.19e9)
    assert (found["token_rate"], found["binding"]) == (found["compute_ceiling"], None)
    assert any("energy per token" in note for note in compute.notes)
    assert (row(power)["token_rate"], row(power)["binding"]) == (pytest.approx(1.6e6), None)
    assert any("no parameters known of m" in note for note in power.notes)
    assert row(nothing)["token_rate"] is None
    assert nothing.dropped == {"traces without energy_j or output_tokens": 10}


def test_experts_take_turns_and_unknown_peaks_are_said():
    """Twice the active parameters; an accelerator without a peak has no ceiling; an unknown one is
    refused."""
    found = row(analysis.token_production(metered(None, model="openai/gpt-oss-120b")))
    assert found["flops_per_token"] == pytest.approx(2 * 5.1e9)
    orin = analysis.token_production(
        metered(5.0, model="Qwen3-8B"), accelerator="Jetson-AGX-Orin-64GB"
    )
    assert row(orin)["compute_ceiling"] is None
    assert any("peak of Jetson" in note for note in orin.notes)
    with pytest.raises(ConfigError, match="unknown accelerator"):
        analysis.token_production(metered(5.0), accelerator="TPU")


def test_tokens_are_proportional_to_power():
    """Twice the facility, twice the tokens: with as many accelerators as it feeds."""
    one, two = (
        row(analysis.token_production(metered(50.0, model="Qwen3-8B"), facility_w=w))
        for w in (7e6, 14e6)
    )
    for column in ("token_rate", "power_ceiling", "compute_ceiling"):
        assert two[column] == pytest.approx(2 * one[column])
    assert two["crossover_j"] == pytest.approx(one["crossover_j"])


# --- energy by phase ---


def phase(result, name: str | None, **more) -> dict:
    """The row of a phase."""
    keys = pl.col("phase").eq_missing(name)
    for column, value in more.items():
        keys &= pl.col(column) == value
    (found,) = result.frame.filter(keys).rows(named=True)
    return found


def test_each_phase_is_divided_by_its_own_tokens():
    """600 J as in the hand-made check: prefill 200 over 100, thinking 300 over 30, answer 100 over
    20."""
    rows = [
        reading(i, p, j)
        for i in "12"
        for p, j in (("prefill", 200), ("thinking", 300), ("answer", 100))
    ]
    result = analysis.energy_by_phase(readings(*rows))

    figures = {p: phase(result, p) for p in ("prefill", "thinking", "answer")}
    assert [f["energy_per_token"] for f in figures.values()] == pytest.approx([2, 10, 5])
    assert [f["share"] for f in figures.values()] == pytest.approx([1 / 3, 1 / 2, 1 / 6])
    assert [f["tokens"] for f in figures.values()] == [
        "input_tokens",
        "reasoning_tokens",
        "visible_tokens",
    ]
    assert figures["thinking"]["energy_per_call_j"] == 300
    assert result.frame["phase"].to_list() == ["prefill", "thinking", "answer"]


def test_calls_weigh_by_their_tokens():
    """Sum over sum, not the mean of ratios; the interval is that of items."""
    rng = np.random.default_rng(1)
    tokens, joules = rng.integers(10, 200, 30), rng.gamma(3, 10, 30)
    rows = [
        reading(str(i), "thinking", float(j), reasoning_tokens=int(t), output_tokens=500)
        for i, (t, j) in enumerate(zip(tokens, joules, strict=True))
    ]
    found = phase(analysis.energy_by_phase(readings(*rows), resamples=20_000), "thinking")
    ratio = joules.sum() / tokens.sum()
    se = np.sqrt(((joules - ratio * tokens) ** 2).sum()) / tokens.sum()

    assert found["energy_per_token"] == pytest.approx(ratio)
    width = found["energy_per_token_high"] - found["energy_per_token_low"]
    assert width == pytest.approx(2 * 1.96 * se, rel=0.1)


def test_methods_stand_in_rows_of_their_own_and_it_is_said():
    """Measured and estimated of the same group are neither added up nor averaged."""
    rows = [reading(str(i), None, 50.0) for i in range(3)]
    rows += [
        reading(str(i), None, 500.0, method="estimated", low_j=250.0, high_j=1000.0)
        for i in range(3)
    ]
    result = analysis.energy_by_phase(readings(*rows))

    one, two = (phase(result, None, method=m) for m in ("measured", "estimated"))
    assert (one["energy_per_token"], two["energy_per_token"]) == (1, 10)
    assert (two["range_low"], two["range_high"]) == (5, 20)
    assert one["range_low"] is None
    assert (one["share"], two["share"]) == (1, 1)
    assert any("estimated, measured" in note for note in result.notes)
    assert result.more["together"].height == 2


def test_devices_are_apart_and_added_up_only_where_they_cover_the_same_calls():
    """CPU and GPU of the same calls add up; a device that missed one does not."""
    rows = [reading(i, "answer", 40.0, device=d) for i in "12" for d in ("gpu:0", "cpu")]
    rows += [reading(i, "thinking", 30.0, device="gpu:0") for i in "12"]
    rows += [reading("1", "thinking", 30.0, device="cpu")]
    together = {
        r["phase"]: r
        for r in analysis.energy_by_phase(readings(*rows)).more["together"].rows(named=True)
    }

    assert (together["answer"]["n_devices"], together["answer"]["energy_per_token"]) == (2, 4)
    assert together["thinking"]["energy_per_token"] is None


def test_unknown_is_null_and_counted():
    """No thinking tokens, no joules, a wait: null; failed traces and judges are left out."""
    rows = [
        reading("1", "thinking", 30.0),
        reading("2", "thinking", 60.0, reasoning_tokens=None),
        reading("3", "thinking", None),
        reading("4", "thinking", 1e9, role="judge"),
        reading("5", "thinking", 1e9, trace_error_type="timeout"),
        reading("1", "tool_wait", 5.0),
        reading("6", "thinking", 0.0, reasoning_tokens=0, output_tokens=20),
    ]
    result = analysis.energy_by_phase(readings(*rows))

    thinking, wait = phase(result, "thinking"), phase(result, "tool_wait")
    assert (thinking["energy_per_token"], thinking["n"], thinking["n_metered"]) == (1, 4, 2)
    assert (wait["energy_per_token"], wait["tokens"], wait["energy_per_call_j"]) == (None, None, 5)
    assert result.dropped["failed traces"] == 1
    assert result.dropped["readings without energy or tokens of their phase"] == 3
    whole = analysis.energy_by_phase(readings(*rows), judges=True)
    assert phase(whole, "thinking")["n"] == 5


def test_idle_is_added_in_a_column_of_its_own():
    """Dynamic 600 J and 900 J in full: both per token."""
    found = phase(analysis.energy_by_phase(readings(reading("1", None, 600.0, full_j=900.0))), None)
    assert (found["energy_per_token"], found["full_per_token"]) == (12, 18)


def test_the_view_of_a_store_is_what_it_takes(tmp_path):
    """Through records, ingest and the view: phases of two calls, the judge's apart."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    energy = tuple(
        EnergyReading(
            call_ordinal=0, device="gpu:0", phase=p, method="measured", energy_j=j, full_j=2 * j
        )
        for p, j in (("prefill", 50.0), ("thinking", 40.0), ("answer", 10.0))
    )
    traces = [trace(DIRECT, item, energy=energy) for item in ITEMS]
    store.ingest([run(), SUMS, *ITEMS, DIRECT, *traces, rich_trace()])

    with store.facts("", "energy_facts") as frame:
        result = analysis.energy_by_phase(frame)

    assert phase(result, "thinking", method="measured")["energy_per_token"] == pytest.approx(4)
    assert phase(result, "answer", method="measured")["energy_per_token"] == pytest.approx(0.5)
    assert phase(result, "prefill", method="measured")["full_per_token"] == pytest.approx(1)
    assert phase(result, "prefill", method="apportioned")["n"] == 2
    assert any("several ways" in note for note in result.notes)


def test_energy_by_phase_scales_and_traces_are_said():
    """Kilojoules; rows of traces know no phases."""
    rows = readings(*[reading(str(i), "answer", 10.0 + i) for i in range(5)])
    one = analysis.energy_by_phase(rows).frame
    two = analysis.energy_by_phase(rows.with_columns(pl.col("energy_j") * 1000)).frame
    figures = [c for c in one.columns if c.startswith("energy_per")]
    pl.testing.assert_frame_equal(two, one.with_columns(pl.col(figures) * 1000))
    plain = analysis.energy_by_phase(metered(50.0))
    assert plain.frame["energy_per_token"][0] == pytest.approx(0.5)
    assert any("energy_facts" in note for note in plain.notes)
