"""Latency: percentiles, their intervals, objectives and what needs calls."""

import datetime as dt

import duckdb
import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import DTYPES, facts
from workbench import analysis, charts
from workbench.analysis.stats import quantiles
from workbench.schema import CALL_FACTS

CALLS = {c.name: DTYPES[c.type] for c in CALL_FACTS.columns}
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)  # as the views give times


def timed(item: str, e2e: float | None = 2.0, group: str = "a", **more) -> dict:
    """One trace of one call."""
    named = {"configuration": group, "task": "t", "task_id": "t", "item": item, "item_id": item}
    return named | {"trial": 0, "e2e_s": e2e, "n_calls": 1} | more


def figures(result, measure: str, group: str = "a") -> dict:
    """The row of a group and a measure."""
    (found,) = result.frame.filter(configuration=group, measure=measure).rows(named=True)
    return found


# --- quantiles ---


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_equal_numpys(seed):
    """The estimate is numpy's linear quantile, ties included."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 9, 37).astype(float)

    found = quantiles.quantiles(values, np.arange(37), (0.0, 0.5, 0.9, 0.99, 1.0))

    assert found[:, 0] == pytest.approx(np.quantile(values, (0.0, 0.5, 0.9, 0.99, 1.0)))


def test_the_interval_of_independent_values_is_the_textbooks():
    """400 values 1..400: ranks .5 ± t · √(.25/399); t of 399 degrees of freedom is 1.965927."""
    values = np.arange(1.0, 401.0)

    (_, low, high), *_ = quantiles.quantiles(values, np.arange(400), (0.5,))

    half = 1.965927 * np.sqrt(0.25 / 399)
    assert (low, high) == pytest.approx((1 + 399 * (0.5 - half), 1 + 399 * (0.5 + half)), abs=1e-3)


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_the_interval_covers_what_it_should(p):
    """Log-normal times that come in items of four trials: 95 % within two points, 1,200 times."""
    rng = np.random.default_rng(3)
    n_items, trials, runs = 80, 4, 1200
    clusters = np.repeat(np.arange(n_items), trials)
    from scipy import stats

    truth = np.exp(stats.norm.ppf(p) * np.sqrt(0.5**2 + 0.5**2))
    hits = 0
    for _ in range(runs):
        item = rng.normal(0, 0.5, n_items)[clusters]
        ((_, low, high),) = quantiles.quantiles(
            np.exp(item + rng.normal(0, 0.5, len(clusters))), clusters, (p,)
        )
        hits += low <= truth <= (np.inf if np.isnan(high) else high)

    assert hits / runs == pytest.approx(0.95, abs=0.02)


def test_too_few_traces_leave_an_end_open():
    """The 99th percentile of ten has no upper end; a single item has neither."""
    ten = quantiles.quantiles(np.arange(10.0), np.arange(10), (0.99,))[0]
    one = quantiles.quantiles(np.arange(10.0), np.zeros(10, int), (0.5,))[0]

    assert np.isfinite(ten[1])
    assert np.isnan(ten[2])
    assert np.isnan(one[1:]).all()
    assert np.isnan(quantiles.quantiles(np.empty(0), np.empty(0, int), (0.5,))).all()


def test_equal_values_have_an_interval_of_no_width():
    """All alike: every quantile is that value, and so are its ends."""
    found = quantiles.quantiles(np.full(20, 3.0), np.arange(20), (0.5, 0.99))

    assert found.tolist() == [[3.0] * 3] * 2


# --- latency ---


def test_percentiles_are_over_traces_and_agree_with_a_plain_sort():
    """Every trace weighs alike; the reference sorts and interpolates by hand."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 1, 41)
    frame = facts(*[timed(str(i % 20), float(v), trial=i // 20) for i, v in enumerate(values)])

    found = figures(analysis.latency(frame), "e2e_s")

    ordered = sorted(values)
    for p in (50, 90, 99):
        place = p / 100 * 40
        k = int(place)
        by_hand = ordered[k] + (place - k) * (ordered[min(k + 1, 40)] - ordered[k])
        assert found[f"p{p}_s"] == pytest.approx(by_hand)
    assert (found["n"], found["n_items"], found["n_unknown"]) == (41, 20, 0)
    assert found["mean_s"] == pytest.approx(values.mean())
    assert found["spread"] == pytest.approx(found["p90_s"] / found["p50_s"])
    assert found["p50_s_low"] < found["p50_s"] < found["p50_s_high"]


def test_tpot_is_of_single_calls_alone():
    """(3 − 1) / (101 − 1) = .02; a trace of two calls, of one token or without streaming has
    none."""
    frame = facts(
        timed("1", 3.0, ttft_s=1.0, output_tokens=101),
        timed("2", 3.0, ttft_s=1.0, output_tokens=101, n_calls=2),
        timed("3", 3.0, ttft_s=1.0, output_tokens=1),
        timed("4", 3.0, output_tokens=101),
    )

    found = figures(analysis.latency(frame), "tpot_s")

    assert (found["n"], found["n_unknown"]) == (1, 3)
    assert found["p50_s"] == pytest.approx(0.02)


def test_calls_have_gaps_and_waits_for_a_slot():
    """Given call_facts the measures of calls appear, TPOT as the view has it."""
    rows = [
        dict.fromkeys(CALLS)
        | {
            "configuration": "a",
            "call_id": str(i),
            "trace_id": str(i),
            "item_id": str(i),
            "e2e_s": 1.0 + i,
            "queue_s": 0.1 * i,
            "gap_p50_s": 0.01,
            "gap_p99_s": 0.2,
            "gap_max_s": 0.5,
            "tpot_s": 0.03,
            "task_id": "t",
        }
        for i in range(5)
    ]

    result = analysis.latency(pl.DataFrame(rows, schema=CALLS))

    assert figures(result, "queue_s")["p50_s"] == pytest.approx(0.2)
    assert figures(result, "gap_max_s")["max_s"] == 0.5
    assert figures(result, "tpot_s")["mean_s"] == pytest.approx(0.03)
    assert not any("call_facts" in note for note in result.notes)


def test_what_is_not_known_is_said_and_has_no_row():
    """No streaming: one measure, and a note that names the others and who has them."""
    result = analysis.latency(facts(timed("1"), timed("2"), timed("3", None, group="b")))

    assert result.frame["measure"].to_list() == ["e2e_s"]
    assert "ttft_s" in result.notes[0]
    assert "call_facts" in result.notes[1]
    assert result.dropped == {"groups without a known time": 1}


def objective_frame() -> pl.DataFrame:
    """Six traces a second apart: four in time, one late, one failed; one never streamed."""
    rows = [
        timed(str(i), 4.0, ttft_s=1.0 if i < 4 else 3.0, started_at=START + dt.timedelta(seconds=i))
        for i in range(5)
    ]
    return facts(
        *rows,
        timed("5", 0.5, error_type="timeout", started_at=START + dt.timedelta(seconds=5)),
        timed("6", 4.0, started_at=START + dt.timedelta(seconds=6)),
    )


def test_goodput_is_the_share_in_time():
    """4 of 5 with a known first token; over the 8 s from first start to last end .5 a second."""
    result = analysis.latency(objective_frame(), max_ttft_s=2)

    found = result.more["goodput"].row(0, named=True)
    assert (found["n_met"], found["n_judged"], found["goodput"]) == (4, 5, 0.8)
    assert found["goodput_per_second"] == pytest.approx(4 / 8)
    # Wilson's interval of 4 in 5.
    assert (found["goodput_low"], found["goodput_high"]) == pytest.approx(
        (0.37553, 0.96379), abs=1e-4
    )
    assert result.dropped == {"failed traces": 1}


def test_failed_traces_miss_where_they_count():
    """With errors as wrong the failure is judged and misses, however quick it was."""
    result = analysis.latency(objective_frame(), max_ttft_s=2, errors_as_wrong=True)

    found = result.more["goodput"].row(0, named=True)
    assert (found["n_met"], found["n_judged"]) == (4, 6)
    assert figures(result, "e2e_s")["n"] == 6
    assert list(result.dropped) == ["failed traces, left out of the percentiles"]


def test_all_objectives_must_be_met():
    """Two objectives: only what meets both; tighter never means more."""
    both = analysis.latency(objective_frame(), max_ttft_s=2, max_e2e_s=3).more["goodput"]
    shares = [
        analysis.latency(objective_frame(), max_ttft_s=t).more["goodput"]["goodput"].item()
        for t in (0.5, 1, 2, 3, 9)
    ]

    assert both["n_met"].item() == 0
    assert both["goodput_per_second"].item() == 0
    assert shares == sorted(shares)
    assert "goodput" not in analysis.latency(objective_frame()).more


def test_latency_scales_with_the_unit_and_ignores_order():
    """Milliseconds are a thousand times seconds; a shuffled frame and an engine agree."""
    rng = np.random.default_rng(2)
    frame = facts(
        *[
            timed(
                str(i),
                rng.gamma(2),
                g,
                ttft_s=rng.uniform(0.1, 1),
                cluster=f"c{i % 7}",
                output_tokens=50,
            )
            for g in "ab"
            for i in range(30)
        ]
    )
    plain = analysis.latency(frame, max_e2e_s=2)
    times = [c for c in plain.frame.columns if "_s" in c and c != "n_items"]

    scaled = analysis.latency(frame.with_columns(pl.col("e2e_s", "ttft_s") * 1000))
    shuffled = analysis.latency(frame.sample(fraction=1, shuffle=True, seed=1), max_e2e_s=2)
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())
    engine = analysis.latency(connection.table("facts"), max_e2e_s=2)

    pl.testing.assert_frame_equal(scaled.frame, plain.frame.with_columns(pl.col(times) * 1000))
    for other in (shuffled, engine):
        pl.testing.assert_frame_equal(other.frame, plain.frame)
        pl.testing.assert_frame_equal(other.more["goodput"], plain.more["goodput"])


def test_clustered_times_have_wider_intervals():
    """Thirty alike trials of ten items say less than three hundred items."""
    rng = np.random.default_rng(5)
    values = np.repeat(rng.gamma(2, 1, 10), 30)
    alike = facts(*[timed(str(i // 30), float(v), trial=i % 30) for i, v in enumerate(values)])
    apart = facts(*[timed(str(i), float(v)) for i, v in enumerate(values)])

    wide, narrow = (figures(analysis.latency(f), "e2e_s") for f in (alike, apart))

    assert wide["p50_s"] == narrow["p50_s"]
    assert wide["p50_s_high"] - wide["p50_s_low"] > narrow["p50_s_high"] - narrow["p50_s_low"]


def test_the_chart_has_a_band_per_measure(tmp_path):
    """Both measures are on it with their units; a single column can be asked for."""
    frame = facts(*[timed(str(i), 2.0 + i, ttft_s=0.1 * (i + 1)) for i in range(6)])
    result = analysis.latency(frame)

    picture = charts.save(charts.chart(result), tmp_path / "c.svg").read_text()
    single = charts.save(charts.chart(result, x="max_s"), tmp_path / "d.svg").read_text()

    assert "Time to first token (s)" in picture
    assert "End to end (s)" in picture
    assert "Longest (s)" in single
