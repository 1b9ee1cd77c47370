"""Sharing a device's energy among calls: the definition by hand, by a second derivation, and
conserved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.apportioning import Shares, apportion
from workbench.records import Call
from workbench.runner.energy import windows
from workbench.runner.energy.apportion import Ledger, Occupancy, Spans
from workbench.runner.energy.baseline import Baseline, Updates, baseline
from workbench.runner.energy.lag import Lag

QUIET = Baseline(idle_w=100.0, idle_sd_w=0.0, period_s=0.1, duration_s=5.0)


def spans(*rows: tuple[int, float, float, float]) -> Spans:
    """(call, begin, end, rate) rows as arrays."""
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return Spans(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3])


def steady(watts: float, duration_s: float, step_s: float = 0.1) -> Updates:
    """A counter that moves by constant power."""
    at = np.arange(round(duration_s / step_s) + 1) * step_s
    return Updates(at, watts * at)


def total(shares: Shares, idle_j: float, loose_j: float) -> float:
    return float(shares.energy_j.sum()) + idle_j + loose_j


def test_the_hand_made_check_of_the_definition() -> None:
    """Idle 100 W, 300 W for 6 s; A is active 0–4 s (prefill to 1 s), B 2–6 s: 600 J each, idle 600
    J."""
    shared, ledger = apportion(
        steady(300.0, 6.0), QUIET, spans((0, 0, 1, 1), (0, 1, 4, 1), (1, 2, 6, 1))
    )

    assert shared.energy_j == pytest.approx([200.0, 400.0, 600.0])
    assert ledger.idle_j == pytest.approx(600.0)
    assert ledger.unattributed_j == 0.0
    assert total(shared, ledger.idle_j, ledger.unattributed_j) == pytest.approx(1800.0)
    full = shared.energy_j + 100.0 * shared.machine_s
    assert full[:2].sum() - 600.0 == pytest.approx(300.0)
    assert full[2] - 600.0 == pytest.approx(300.0)


def test_work_rates_weigh_the_time() -> None:
    """A prefill of 300 tokens in 1 s beside one sequence that decodes takes 300 parts of 301."""
    shared, _ = apportion(steady(401.0, 1.0), QUIET, spans((0, 0, 1, 300), (1, 0, 1, 1)))

    assert shared.energy_j == pytest.approx([300.0, 1.0])


def test_energy_while_nobody_is_active_is_unattributed() -> None:
    """A device that works for somebody else is no call's doing, and not idle either."""
    shared, ledger = apportion(steady(150.0, 10.0), QUIET, spans((0, 4, 5, 1)))

    assert shared.energy_j == pytest.approx([50.0])
    assert ledger.unattributed_j == pytest.approx(450.0)


def test_a_call_shorter_than_the_counters_period_does_not_read_zero() -> None:
    """It gets the energy above idle of the interval that it lies in, with bounds as wide as
    that."""
    shared, _ = apportion(steady(300.0, 6.0), QUIET, spans((0, 3.02, 3.03, 1)))

    assert shared.energy_j == pytest.approx([20.0])
    assert shared.low_j == pytest.approx([0.0])
    assert shared.high_j[0] == pytest.approx(60.0)


def test_only_a_call_that_met_no_other_is_alone() -> None:
    """Sharing a single interval of the counter is enough to be apportioned, in all of a call's
    spans."""
    shared, _ = apportion(
        steady(300.0, 6.0),
        QUIET,
        spans((0, 0.0, 1.0, 1), (0, 1.0, 2.01, 1), (1, 2.05, 3.0, 1), (2, 3.0, 4.0, 1)),
    )

    assert shared.alone.tolist() == [False, False, False, True]


def test_uncertainty_grows_with_period_noise_and_disagreement() -> None:
    """Each of the three sources of the definition widens the range by what it says."""
    span = spans((0, 1.0, 3.0, 1))
    moved = steady(300.0, 6.0)

    def half(idle: Baseline, disagreement: float = 0.0) -> float:
        shared, _ = apportion(moved, idle, span, disagreement=disagreement)
        assert shared.high_j - shared.energy_j == pytest.approx(shared.energy_j - shared.low_j)
        return float(shared.high_j[0] - shared.energy_j[0])

    assert half(QUIET) == pytest.approx(2 * 0.1 * 200.0)  # one period at each end, at 200 W
    assert half(QUIET._replace(idle_sd_w=3.0)) == pytest.approx(40.0 + 3.0 * 2.0)
    assert half(QUIET, 0.04) == pytest.approx(40.0)
    assert half(QUIET, 0.10) == pytest.approx(40.0 + 0.10 * 400.0)


def test_noise_about_the_idle_power_cancels_while_nobody_is_active() -> None:
    """A quiet stretch is one interval: its noise is not rectified into energy nobody used."""
    rng = np.random.default_rng(1)
    at = np.arange(2001) * 0.05
    power = 100.0 + rng.normal(0.0, 20.0, 2000)
    moved = Updates(at, np.concatenate(([0.0], np.cumsum(power * 0.05))))

    _, ledger = apportion(moved, QUIET, spans())

    lost = ledger.metered_j - ledger.idle_j - ledger.unattributed_j
    assert abs(lost) < 0.005 * ledger.metered_j
    assert ledger.unattributed_j < 0.005 * ledger.metered_j


def plainly(
    at: list[float], joules: list[float], idle_w: float, rows: list[tuple[int, float, float, float]]
) -> tuple[list[float], float]:
    """The definition, interval by interval and call by call."""
    energies, loose, stretch = [0.0] * len(rows), 0.0, 0.0
    for k in range(len(at) - 1):
        above = joules[k + 1] - joules[k] - idle_w * (at[k + 1] - at[k])
        work = [r * max(0.0, min(e, at[k + 1]) - max(b, at[k])) for _, b, e, r in rows]
        if sum(work) > 0:
            loose, stretch = loose + max(0.0, stretch), 0.0
            for i, part in enumerate(work):
                energies[i] += above * part / sum(work)
        else:
            stretch += above
    return energies, loose + max(0.0, stretch)


_times = st.integers(0, 400).map(lambda n: n / 50)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9000)), min_size=1, max_size=30),
    rows=st.lists(st.tuples(_times, _times, st.sampled_from([0.5, 1.0, 40.0])), max_size=12),
    cut=st.integers(1, 29),
)
def test_the_curve_equals_the_definition(
    steps: list[tuple[int, int]], rows: list[tuple[float, float, float]], cut: int
) -> None:
    """Look-ups in one curve give what the sums over intervals give, however the run is cut up."""
    at = np.cumsum([0] + [n for n, _ in steps]) / 50
    joules = np.cumsum([0] + [j for _, j in steps]) / 100
    calls = [(i, min(a, b), max(a, b), r) for i, (a, b, r) in enumerate(rows) if a != b]
    expected, loose = plainly(at.tolist(), joules.tolist(), 20.0, calls)
    given_ = spans(*calls)

    ledger = Ledger(QUIET._replace(idle_w=20.0), 0.0)
    for part in (slice(0, cut + 1), slice(min(cut, at.size - 1), None)):
        ledger.close(Updates(at[part], joules[part]), given_, given_)

    found = ledger.energy_j(given_.begin_s, given_.end_s, given_.rate)
    assert found == pytest.approx(expected, abs=1e-9)
    assert ledger.unattributed_j == pytest.approx(loose, abs=1e-9)
    assert ledger.metered_j == pytest.approx(joules[-1])
    ledger.forget(at[-1] / 2)
    late = given_.begin_s >= at[-1] / 2
    kept = ledger.energy_j(given_.begin_s, given_.end_s, given_.rate)
    assert kept[late] == pytest.approx(np.array(expected)[late], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_times, _times), min_size=1, max_size=12))
def test_shares_of_time_add_up_to_the_time_in_which_somebody_was_active(
    rows: list[tuple[float, float]],
) -> None:
    """The two ways to divide time among calls agree, and lose none of it."""
    calls = spans(*[(i, min(a, b), max(a, b) + 0.02, 1) for i, (a, b) in enumerate(rows)])
    occupancy = Occupancy()
    events = [(float(t), 1) for t in calls.begin_s] + [(float(t), -1) for t in calls.end_s]
    for at, change in sorted(events):
        occupancy.add(at, change)
    shared, _ = apportion(steady(300.0, 9.0), QUIET, calls)

    live = [occupancy.share(b, e) for b, e in zip(calls.begin_s, calls.end_s, strict=True)]
    grid = np.arange(0.01, 9.0, 0.02)
    busy = sum(bool(((calls.begin_s < t) & (calls.end_s > t)).any()) for t in grid) * 0.02
    assert live == pytest.approx(shared.machine_s)
    assert sum(live) == pytest.approx(busy)


def test_a_long_run_loses_nothing_to_rounding() -> None:
    """10,000 calls over 50,000 intervals at times as large as a clock's: the sums agree to 10⁻⁹."""
    rng = np.random.default_rng(2)
    at = 3e5 + np.arange(50_001) * 0.05
    moved = Updates(at, 1e7 + np.concatenate(([0.0], np.cumsum(rng.uniform(5.0, 15.0, 50_000)))))
    begin = 3e5 + rng.uniform(0, 2490, 10_000)
    n = begin.size
    calls = Spans(np.arange(n), begin, begin + rng.exponential(3.0, n), np.ones(n))

    shared, ledger = apportion(moved, QUIET, calls)

    sums = total(shared, ledger.idle_j, ledger.unattributed_j)
    assert sums == pytest.approx(ledger.metered_j, rel=1e-9)


# -- counters that are late ------------------------------------------------------------------------


def late(calls: Spans, watts: float, lag_s: float, period_s: float, end_s: float) -> Updates:
    """A counter that counts what calls draw above 100 W so much later, to its last update."""
    at = np.arange(round(end_s / period_s) + 1) * period_s
    grid = np.arange(0.0, end_s, 1e-3)
    begun, ended = (
        np.searchsorted(np.sort(t), grid, "right") for t in (calls.begin_s, calls.end_s)
    )
    drawn = np.concatenate(([0.0], np.cumsum(100.0 + watts * (begun > ended)) * 1e-3))
    return Updates(at, np.interp(at - lag_s, np.append(grid, end_s), drawn, left=0.0) + 1e3)


@pytest.mark.parametrize("lag_s", [0.0, 0.03, 0.1, 0.15])
def test_what_is_counted_after_a_call_ended_is_still_its_own(lag_s: float) -> None:
    """Calls of 20 ms, anywhere in a period of 100 ms, take 4 J each however late the counter is."""
    begin = 1.0 + 0.437 * np.arange(60)
    calls = spans(*((n, b, b + 0.02, 1.0) for n, b in enumerate(begin)))
    moved = late(calls, 200.0, lag_s, 0.1, 30.0)

    shared, ledger = apportion(moved, QUIET._replace(look_s=0.05), calls)

    assert shared.energy_j == pytest.approx(np.full(60, 4.0), rel=0.01)
    assert ledger.unattributed_j == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("concurrent", [1, 8])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_run_teaches_how_late_its_counter_is(step: int, concurrent: int) -> None:
    """The delay by which energy follows activity becomes the likely one, for one call at a time and
    for more."""
    rng = np.random.default_rng(step)
    begin = np.sort(rng.uniform(1.0, 95.0, 100 * concurrent))
    calls = spans(*((n, b, b + rng.uniform(0.05, 0.4), 1.0) for n, b in enumerate(begin)))
    moved = late(calls, 200.0, 0.05 * step, 0.1, 100.0)
    ledger = Ledger(QUIET._replace(look_s=0.05), 0.0)

    ledger.close(moved, calls, calls)

    assert ledger._lag.delays_s == pytest.approx([0.0, 0.05, 0.1, 0.15])
    assert int(np.argmax(ledger._lag.weights)) == step
    assert ledger._lag.weights[step] > 0.8
    assert ledger._lag.weights.min() > 0.02  # never quite sure
    assert ledger._lag.weights.sum() == pytest.approx(1.0)


def test_a_load_that_never_changes_teaches_nothing_of_the_lag() -> None:
    """Where every delay explains the counter alike, all stay as likely as they were."""
    lag = Lag(0.15)
    for _ in range(50):
        lag.learn(np.full(20, 20.0), np.full((4, 20), 0.1), np.full((4, 20), 0.4))

    assert lag.weights == pytest.approx(np.full(4, 0.25))


def test_energy_near_its_neighbours_is_a_calls_own_once_the_lag_is_known() -> None:
    """Of calls that draw 100 and 300 W in turn, 0.1 s apart, each is told its own and not the mean
    of both."""
    begin = 1.0 + 0.4 * np.arange(200)
    calls = spans(*((n, b, b + 0.3, 1.0) for n, b in enumerate(begin)))
    grid = np.arange(0.0, 90.0, 1e-3)
    inside = (calls.begin_s[:, None] <= grid) & (grid < calls.end_s[:, None])
    watts = 100.0 + np.where(np.arange(200) % 2, 300.0, 100.0) @ inside
    drawn = np.concatenate(([0.0], np.cumsum(watts) * 1e-3))
    at = np.arange(900) * 0.1
    moved = Updates(at, np.interp(at - 0.1, np.append(grid, 90.0), drawn))

    shared, _ = apportion(moved, QUIET._replace(look_s=0.05), calls)

    assert shared.energy_j[0::2].mean() == pytest.approx(30.0, rel=0.25)
    assert shared.energy_j[1::2].mean() == pytest.approx(90.0, rel=0.1)


def test_noise_of_idle_does_not_raise_the_energy_of_short_calls() -> None:
    """2,000 calls of 1 J under noise of 1 J an update: the mean is right within 3 %, not that of
    positive parts."""
    rng = np.random.default_rng(3)
    begin = 1.0 + 0.5 * np.arange(2000)
    calls = spans(*((n, b, b + 0.01, 1.0) for n, b in enumerate(begin)))
    moved = late(calls, 100.0, 0.0, 0.1, 1010.0)
    noise = rng.normal(0.0, 1.0, moved.at_s.size - 1)
    noisy = Updates(moved.at_s, moved.energy_j + np.append(0.0, np.cumsum(noise)))
    ledger = Ledger(QUIET, 0.0)

    ledger.close(noisy, calls, calls)
    energy = ledger.energy_j(calls.begin_s, calls.end_s, calls.rate)

    assert energy.mean() == pytest.approx(1.0, rel=0.05)
    assert ledger.mean_w == pytest.approx(100.0, rel=0.05)


@pytest.mark.parametrize("period_s", [0.07, 0.1003, 0.13])
def test_updates_between_looks_are_placed_by_the_counters_period(period_s: float) -> None:
    """A steady power stays steady: looks 50 ms apart do not make idle power swing by tens of
    watts."""
    at = np.arange(0.0, 20.0, 0.05)
    energy = 100.0 * np.floor(at / period_s) * period_s
    found = baseline(at, energy, np.full(at.size, np.nan))

    assert found is not None
    assert found.period_s == pytest.approx(period_s, rel=0.01)
    assert found.idle_w == pytest.approx(100.0, rel=0.005)
    assert found.late_s == pytest.approx(period_s + 0.05, rel=0.01)
    moved = found.updates(at, energy)
    power = np.diff(moved.energy_j) / np.diff(moved.at_s)
    assert np.std(power[5:]) < 8.0  # 25 to 40 W where an update is placed at the look that saw it
    behind = moved.at_s - moved.energy_j / 100.0
    assert behind.min() > -0.002
    assert behind.max() < 0.055


def test_a_pause_in_the_looks_does_not_shift_what_was_drawn_in_it() -> None:
    """After a second without a look, the update is placed at the end of it, not a period after the
    last."""
    at = np.concatenate((np.arange(0.0, 10.0, 0.05), np.arange(11.02, 13.0, 0.05)))
    energy = 100.0 * np.floor(at / 0.1 + 1e-6) * 0.1
    found = Baseline(100.0, 0.0, 0.1, 5.0, look_s=0.05)

    moved = found.updates(at, energy)

    above = np.diff(moved.energy_j) - 100.0 * np.diff(moved.at_s)
    assert np.abs(above[10:]).max() < 5.0  # of the 110 J that the counter grew by in it


# -- idle
# --------------------------------------------------------------------------------------------


def test_idle_power_is_the_counters_and_its_noise_is_the_powers() -> None:
    """The mean comes from the instrument that meters the run; the deviation from the samples of
    power."""
    at = np.arange(101) * 0.05
    energy = np.floor(at / 0.1 + 1e-9) * 0.1 * 70.0
    power = np.where(np.arange(101) % 2, 74.0, 76.0)

    found = baseline(at, energy, power)

    assert found is not None
    assert found.idle_w == pytest.approx(70.0)
    assert found.idle_sd_w == pytest.approx(1.0, rel=0.02)
    assert found.period_s == pytest.approx(0.1)
    assert found.late_s == pytest.approx(0.15)


def test_without_power_samples_the_deviation_is_the_counters() -> None:
    """RAPL gives no power: what the counter says from update to update stands in."""
    at = np.arange(5) * 1.0
    found = baseline(at, np.array([0.0, 9.0, 19.0, 31.0, 45.0]), np.full(5, np.nan))

    assert found is not None
    assert (found.idle_w, found.idle_sd_w) == pytest.approx((13.0, np.sqrt(2.0)))


def test_a_counter_that_stands_still_has_no_baseline() -> None:
    """Idle power is measured or it is unknown."""
    assert baseline(np.arange(3.0), np.ones(3), np.full(3, 70.0)) is None


# -- phases
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            Call(ttft_s=1.0, answer_start_s=3.0),
            [("prefill", 10, 11), ("thinking", 11, 13), ("answer", 13, 15)],
        ),
        (Call(ttft_s=1.0, answer_start_s=1.0), [("prefill", 10, 11), ("answer", 11, 15)]),
        (Call(ttft_s=1.0, reasoning_tokens=9), [("prefill", 10, 11), ("thinking", 11, 15)]),
        (Call(ttft_s=1.0), [("prefill", 10, 11), ("answer", 11, 15)]),
        (Call(ttft_s=9.0, answer_start_s=9.0), [("prefill", 10, 15)]),
        (Call(), [(None, 10, 15)]),
    ],
)
def test_a_window_is_cut_where_tokens_begin(
    call: Call, expected: list[tuple[str | None, float, float]]
) -> None:
    """Prefill to the first token, thinking to the first visible one; unknown marks leave it
    whole."""
    window = windows.Window(10.0, 15.0)

    assert [tuple(s) for s in windows.spans(window, call)] == expected
