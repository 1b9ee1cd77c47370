"""Energy and fleet power: published figures, conversions, what is not measured."""

import json
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts
from workbench import analysis, charts
from workbench.errors import AnalysisError

CARBON = 475.0
NAMED = ("GPT OSS 120B", "H100", 2, 2048)


def trace(item: str, joules: float | None, passed: bool | None = True, group: str = "a", **more):
    """One trace of a group on an item."""
    named = {"configuration": group, "task": "t", "task_id": "t", "item": item, "item_id": item}
    return named | {"trial": 0, "energy_j": joules, "passed": passed} | more


def row(result, group: str = "a") -> dict:
    """The row of a group."""
    (found,) = result.frame.filter(configuration=group).rows(named=True)
    return found


# --- energy ---


@pytest.mark.parametrize(
    ("joules", "pue", "g_per_kwh", "grams"),
    [
        (3.6e6, 1, 475, 475),  # one kWh at the world's average
        (9599.6981, 1.2, 369.473, 1.182276),  # CodeCarbon, USA 2023
        (30, 1, 100, 30 / 3.6e6 * 100),  # Zeus' unit test
        (384 * 400 * 2808 * 3600, 1.1, 64, 30.36e6),  # training BLOOM: 474.440 MWh, 30.36 t
        (4480 * 400 * 864 * 3600, 1.1, 238, 405.3e6),  # MT-NLG: 1,703.117 MWh, 405.3 t
        (128 * 283 * 840 * 3600, 1.1, 1e3, 33.471e6),  # GPT-J: 33.471 MWh, here at 1 kg/kWh
        (992 * 400 * 792 * 3600, 1.1, 1e3, 345.692e6),  # OPT-175B: 345.692 MWh
    ],
)
def test_carbon_of_published_energies(joules, pue, g_per_kwh, grams):
    """J / 3.6e6 × PUE × g/kWh, the PUE once; joules stay those of the device."""
    found = row(analysis.energy(facts(trace("1", joules)), pue=pue, g_per_kwh=g_per_kwh))

    assert found["carbon_g"] == pytest.approx(grams, rel=2e-4 if grams > 1e5 else 1e-6)
    assert found["energy_j"] == joules


def test_identities_of_ml_energy(shared_data):
    """J/request = J/token × mean output length, on all 187 rows of the leaderboard."""
    released = json.loads((shared_data / "ml_energy" / "gpqa.json").read_text())["configurations"]
    frame = pl.DataFrame(
        [
            {
                "configuration": str(i),
                "item_id": "all",
                "output_tokens": r["avg_output_len"],
                "energy_j": r["energy_per_request_joules"],
                "e2e_s": r["energy_per_request_joules"] / r["avg_power_watts"],
            }
            for i, r in enumerate(released)
        ]
    )

    result = analysis.energy(frame)

    assert len(released) == 187
    found = {r["configuration"]: r for r in result.frame.iter_rows(named=True)}
    for i, r in enumerate(released):
        assert found[str(i)]["energy_per_token"] == pytest.approx(r["energy_per_token_joules"])
        per_token, speed = r["energy_per_token_joules"], r["output_throughput_tokens_per_sec"]
        assert found[str(i)]["power_w"] == pytest.approx(per_token * speed)
    (place,) = [
        i
        for i, r in enumerate(released)
        if (r["nickname"], r["gpu_model"], r["num_gpus"], r["max_num_seqs"]) == NAMED
    ]
    best = found[str(place)]
    assert best["energy_per_token"] == pytest.approx(0.086040, abs=5e-7)
    assert best["energy_j"] == pytest.approx(148.0717, abs=5e-5)


def test_tokens_and_watts_of_a_documented_window():
    """54,631.48 J at .093545 J/token over 97.6 s: 584,012.8 tokens, 559.749 W."""
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "item_id": "1",
            "energy_j": 54631.48,
            "output_tokens": 584012.8,
            "e2e_s": 97.6,
        }
    )

    found = row(analysis.energy(frame))

    assert found["energy_per_token"] == pytest.approx(0.093545, abs=5e-7)
    assert found["power_w"] == pytest.approx(559.749, abs=5e-4)


def test_energy_per_right_answer():
    """41.53 Wh at 38 % is 109.29 Wh a right answer."""
    frame = facts(*[trace(str(i), 41.53 * 3600, i < 38) for i in range(100)])

    found = row(analysis.energy(frame))

    assert found["energy_per_pass_j"] / 3600 == pytest.approx(109.29, abs=5e-3)
    assert (
        found["energy_per_pass_j_low"]
        < found["energy_per_pass_j"]
        < found["energy_per_pass_j_high"]
    )
    assert found["carbon_per_pass_g"] == pytest.approx(found["energy_per_pass_j"] / 3.6e6 * CARBON)


def test_what_nothing_passed_costs_infinity():
    """No success in 20: infinite, at least the energy over the one-sided bound."""
    found = row(analysis.energy(facts(*[trace(str(i), 7.0, False) for i in range(20)])))

    assert found["energy_per_pass_j"] == found["carbon_per_pass_g"] == math.inf
    assert found["energy_per_pass_j_low"] == pytest.approx(7 / (1 - 0.05 ** (1 / 20)))


def test_what_is_not_measured_is_unknown():
    """A group without a meter has a row of unknowns, never of zeros, and the last place."""
    frame = facts(
        trace("1", 5.0),
        trace("2", None),
        trace("1", None, group="api"),
        trace("3", 4.0, None),
        trace("4", 9.0, None, error_type="timeout"),
    )

    result = analysis.energy(frame)

    api = row(result, "api")
    assert result.frame["configuration"].to_list() == ["a", "api"]
    assert (api["n"], api["n_metered"], api["n_scored"]) == (1, 0, 0)
    assert all(
        api[c] is None for c in ("energy_j", "carbon_g", "energy_per_pass_j", "energy_per_token")
    )
    assert (row(result)["n_metered"], row(result)["energy_j"]) == (2, 4.5)
    assert result.dropped["failed traces"] == 1
    assert result.dropped["traces without energy_j"] == 2


def random_frame(n_items: int = 30) -> pl.DataFrame:
    """Two groups, two trials."""
    rng = np.random.default_rng(0)
    return facts(
        *[
            trace(
                str(i),
                rng.gamma(2, 50),
                bool(rng.random() < 0.6),
                g,
                trial=k,
                output_tokens=int(rng.integers(50, 500)),
                e2e_s=rng.uniform(1, 5),
            )
            for g in "ab"
            for i in range(n_items)
            for k in range(2)
        ]
    )


def test_energy_agrees_with_polars_by_hand_and_scales():
    """Items first, then groups; kilojoules; doubled imports change nothing but counts."""
    frame = random_frame()
    plain = analysis.energy(frame).frame.sort("configuration")

    means = (
        frame.group_by("configuration", "item_id")
        .agg(pl.col("energy_j", "output_tokens", "passed").mean())
        .group_by("configuration")
        .agg(pl.exclude("item_id").mean())
        .sort("configuration")
    )
    assert plain["energy_j"].to_list() == pytest.approx(means["energy_j"].to_list())
    per_token = (means["energy_j"] / means["output_tokens"]).to_list()
    assert plain["energy_per_token"].to_list() == pytest.approx(per_token)
    per_pass = (means["energy_j"] / means["passed"]).to_list()
    assert plain["energy_per_pass_j"].to_list() == pytest.approx(per_pass)
    scaled = analysis.energy(frame.with_columns(pl.col("energy_j") * 1000)).frame.sort(
        "configuration"
    )
    energies = [c for c in plain.columns if c.startswith(("energy", "carbon", "power"))]
    pl.testing.assert_frame_equal(scaled, plain.with_columns(pl.col(energies) * 1000))
    doubled = analysis.energy(pl.concat([frame, frame])).frame.sort("configuration")
    counts = ["n", "n_metered", "n_scored"]
    pl.testing.assert_frame_equal(doubled.drop(counts), plain.drop(counts))


def test_the_interval_of_the_energy_agrees_with_students():
    """A mean of 400 items: mean ± 1.966 SE, to a tenth of the width."""
    rng = np.random.default_rng(3)
    joules = rng.gamma(2, 50, 400)

    found = row(analysis.energy(facts(*[trace(str(i), float(x)) for i, x in enumerate(joules)])))

    half = 1.966 * joules.std(ddof=1) / 20
    assert found["energy_j_high"] - found["energy_j_low"] == pytest.approx(2 * half, rel=0.1)


def test_a_pue_below_one_is_refused():
    """A facility cannot draw less than its devices."""
    with pytest.raises(AnalysisError, match="below 1"):
        analysis.energy(random_frame(), pue=0.9)


# --- fleet power ---

TABLE = {  # Wh per query → (accuracy, power at 71.4 million, at 13.7 billion queries a day) in MW
    "ShareGPT": (0.32, 1.0, 182.7),
    "Reflexion": (41.53, 123.6, 23_700),
    "LATS": (22.76, 67.7, 13_000),
}


@pytest.mark.parametrize(("queries", "column"), [(71.4e6, 1), (13.7e9, 2)])
def test_powers_of_the_cost_of_dynamic_reasoning(queries, column):
    """Table IV to the printed digit."""
    frame = facts(*[trace("1", wh[0] * 3600, group=g) for g, wh in TABLE.items()])

    result = analysis.fleet_power(frame, queries_per_day=queries)

    for group, printed in TABLE.items():
        power = row(result, group)["power_mw"]
        assert power == pytest.approx(printed[column], abs=0.05 if printed[column] < 1000 else 50)
    assert row(result, "Reflexion")["times_least"] == pytest.approx(130.9, rel=0.01)


def test_daily_energy_and_its_price():
    """2.97 and 24.89 GWh a day within .2 %; 123.55175 MW; at 10 cents $296,524."""
    frame = facts(trace("1", 41.53 * 3600), trace("1", 348.41 * 3600, group="70B"))

    result = analysis.fleet_power(frame, usd_per_kwh=0.1)

    found = row(result)
    assert found["power_mw"] == pytest.approx(123.55175)
    assert found["daily_gwh"] == pytest.approx(2.97, rel=0.002)
    assert row(result, "70B")["daily_gwh"] == pytest.approx(24.89, rel=0.002)
    assert found["daily_cost_usd"] == pytest.approx(41.53e-3 * 71.4e6 * 0.1)
    assert found["query_wh"] == pytest.approx(41.53)


def test_power_is_proportional_to_queries_and_pue():
    """Twice the queries, twice the megawatts and their ends; no price, no cost."""
    frame = random_frame()
    one, two = (analysis.fleet_power(frame, queries_per_day=q).frame for q in (1e6, 2e6))
    cooled = analysis.fleet_power(frame, queries_per_day=1e6, pue=1.5).frame

    columns = ["power_mw", "power_mw_low", "power_mw_high", "daily_gwh"]
    pl.testing.assert_frame_equal(two.select(columns), one.select(pl.col(columns) * 2))
    pl.testing.assert_frame_equal(cooled.select(columns), one.select(pl.col(columns) * 1.5))
    assert one["query_wh"].to_list() == cooled["query_wh"].to_list()
    assert one["daily_cost_usd"].null_count() == 2


def test_an_unmetered_group_has_no_power():
    """Null, counted, and last; the least is among the measured ones."""
    result = analysis.fleet_power(facts(trace("1", 3600.0), trace("1", None, group="b")))

    assert row(result, "b")["power_mw"] is row(result, "b")["times_least"] is None
    assert row(result)["times_least"] == 1
    assert result.dropped == {"traces without energy_j": 1}


def test_charts_say_what_is_not_known(tmp_path):
    """A group without a meter stays on the chart in words; infinity is at the edge."""
    frame = facts(
        *[trace(str(i), 3.0 + i, False) for i in range(4)],
        *[trace(str(i), None, group="api") for i in range(4)],
    )

    picture = charts.save(charts.chart(analysis.energy(frame)), tmp_path / "c.svg").read_text()
    power = charts.save(charts.chart(analysis.fleet_power(frame)), tmp_path / "d.svg").read_text()

    assert "∞" in picture
    assert "— not known" in picture
    assert "Energy per right answer (J)" in picture
    assert "Fleet power (MW)" in power
    assert "api" in power
