"""A run watched from its quiet window to its balance, in virtual time over meters that are
known."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pytest

from tests.support.fake_nvml.virtual import VirtualTime
from workbench.records import Call, EnergyBalance, EnergyReading
from workbench.runner.energy.meters import CounterMeter, Device, RaplZone, Reading, open_meter
from workbench.runner.energy.watch import Watch
from workbench.runner.energy.windows import Window, collecting

START = 1000.0


class Known:
    """A meter whose devices draw a known power: a counter that moves every period, and the
    power."""

    reason = ""

    def __init__(
        self, clock: Callable[[], float], *powers: Callable[[float], float], period_s: float = 0.1
    ) -> None:
        self._clock, self._powers, self._period_s = clock, powers, period_s
        self._counted = [(START, 0.0)] * len(powers)
        self.lost = False
        self.n_reads = 0
        self.devices: Sequence[Device] = [
            Device(f"gpu:{n}", "known counter") for n in range(len(powers))
        ]

    def read(self) -> tuple[Reading, ...]:
        now = self._clock()
        self.n_reads += 1
        if self.lost:
            return tuple(Reading(now, None, None) for _ in self._powers)
        found = []
        for n, power in enumerate(self._powers):
            at, joules = self._counted[n]
            while at + self._period_s <= now + 1e-9:
                joules += power(at + self._period_s / 2 - START) * self._period_s
                at += self._period_s
            self._counted[n] = at, joules
            found.append(Reading(now, joules, power(at - START)))
        return tuple(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def busy(
    *rows: tuple[float, float], watts: float = 300.0, idle: float = 100.0
) -> Callable[[float], float]:
    return lambda t: watts if any(b <= t < e for b, e in rows) else idle


class Stage:
    """A watch over a known meter, and a way to play calls on it."""

    def __init__(self, *powers: Callable[[float], float], quiet_s: float = 5.0) -> None:
        self.time = VirtualTime(tick_s=0.05, start_s=START)
        self.meter = Known(self.time.clock, *powers)
        self.watch = Watch(
            self.meter, hz=None, quiet_s=quiet_s, clock=self.time.clock, sleep=self.time.sleep
        )
        self.time.on_tick = self.watch.sample
        self.readings: list[EnergyReading] = []

    async def until(self, at_s: float) -> None:
        await self.time.sleep(START + at_s - self.time.now)

    async def call(
        self, n: int, *rows: tuple[float, float], settled: bool = True, **marks: Any
    ) -> None:
        """Make a call of one or more requests, and ask what it took."""
        windows: list[Window] = []
        for begin, end in rows:
            await self.until(begin)
            windows.append(self.watch.begin(self.time.now))
            await self.until(end)
            self.watch.end(windows[-1], self.time.now)
        if settled:
            ended = self.time.now
            self.readings += await self.watch.settle([(Call(ordinal=n, **marks), windows)])
            assert self.time.now - ended <= 2 * 0.1 + 0.1

    def play(self, *calls: Coroutine[Any, Any, Any], quiet: bool = True) -> list[EnergyBalance]:
        async def run() -> list[EnergyBalance]:
            await self.time.run(self.watch.start())
            await self.time.run(*calls)
            [balances] = await self.time.run(self.watch.finish("run-1", quiet=quiet))
            found: list[EnergyBalance] = balances
            return found

        return asyncio.run(run())

    def joules(self, n: int) -> dict[str | None, float]:
        return {r.phase: r.energy_j or 0.0 for r in self.readings if r.call_ordinal == n}


def test_the_hand_made_check_holds_in_a_run() -> None:
    """A 0–4 s, B 2–6 s at 300 W over 100 W of idle: 600 J each, phases, and both accountings."""
    stage = Stage(busy((5.5, 11.5)))

    [balance] = stage.play(
        stage.call(0, (5.5, 9.5), ttft_s=1.0, answer_start_s=1.0),
        stage.call(1, (7.5, 11.5), ttft_s=0.0, answer_start_s=0.0),
    )

    assert stage.joules(0) == pytest.approx({"prefill": 200.0, "answer": 400.0}, rel=0.05)
    assert stage.joules(1) == pytest.approx({"answer": 600.0}, rel=0.05)
    full = sum(r.full_j or 0.0 for r in stage.readings)
    assert full == pytest.approx(1200.0 + 600.0, rel=0.02)
    assert {r.method for r in stage.readings} == {"apportioned"}
    assert balance.calls_j == pytest.approx(1200.0, rel=0.03)
    assert balance.mismatch == pytest.approx(0.0, abs=1e-6)
    assert balance.is_conserved
    assert (balance.idle_w, balance.idle_after_w) == pytest.approx((100.0, 100.0))
    assert balance.integral_j == pytest.approx(balance.meter_j or 0.0, rel=0.02)
    assert balance.note is None


def test_waiting_for_a_tool_takes_nothing() -> None:
    """Between two calls of a trace no call is active: the idle power of that time is nobody's."""
    stage = Stage(busy((5.5, 6.5), (9.5, 10.5)))

    async def trace() -> None:
        await stage.call(0, (5.5, 6.5))
        await stage.call(1, (9.5, 10.5))

    [balance] = stage.play(trace())

    assert sum(r.full_j or 0.0 for r in stage.readings) == pytest.approx(600.0, rel=0.06)
    assert {r.method for r in stage.readings} == {"measured"}
    assert balance.unattributed_j == pytest.approx(0.0, abs=20.0)


def test_a_retried_call_takes_what_its_failed_tries_took() -> None:
    """Tries that failed drew power too: a row without a phase, and a note."""
    stage = Stage(busy((5.5, 6.5), (8.0, 10.0)))

    stage.play(stage.call(0, (5.5, 6.5), (8.0, 10.0), ttft_s=0.5, answer_start_s=0.5))

    assert stage.joules(0) == pytest.approx(
        {None: 200.0, "prefill": 100.0, "answer": 300.0}, rel=0.15
    )
    assert "with 1 tries that failed" in (stage.readings[0].note or "")


def test_requests_without_a_trace_are_unattributed_and_said() -> None:
    """A cancelled call's energy is not lost, and not another call's."""
    stage = Stage(busy((5.5, 9.5)))

    [balance] = stage.play(
        stage.call(0, (5.5, 9.5)), stage.call(1, (5.5, 9.5), settled=False), quiet=False
    )

    assert balance.calls_j == pytest.approx(400.0, rel=0.05)
    assert balance.unattributed_j == pytest.approx(400.0, rel=0.1)
    assert "of 1 requests without a trace" in (balance.note or "")
    assert balance.is_conserved
    assert balance.idle_after_w is None


def test_a_run_below_its_idle_power_is_marked() -> None:
    """Idle measured too high would take energy from nowhere: the mismatch is shown, with the
    reason."""
    stage = Stage(lambda t: 100.0 if t < 5.2 else 60.0)

    [balance] = stage.play(stage.call(0, (6.0, 26.0)))

    assert balance.is_conserved is False
    assert (balance.mismatch or 0.0) > 0.5
    assert "drew less than its idle power" in (balance.note or "")
    assert "idle power went from 100 to 60 W" in (balance.note or "")


class Pass(NamedTuple):
    """A step of an engine."""

    begin_s: float
    end_s: float
    work: tuple[tuple[str, str, int], ...]


def test_energy_goes_by_tokens_where_an_engine_reports_its_steps() -> None:
    """A step of 3 prefill tokens and 1 decode token is shared 3 : 1, whatever the windows are."""
    stage = Stage(busy((6.0, 10.0)))

    async def engine() -> None:
        await stage.until(5.5)
        windows = [stage.watch.begin(stage.time.now, stepped=True) for _ in range(2)]
        for n in range(40):
            await stage.until(6.1 + 0.1 * n)
            now = stage.time.now
            phase = "prefill" if n < 10 else "thinking" if n < 30 else "answer"
            stage.watch.step(Pass(now - 0.1, now, (("long", phase, 3), ("short", "answer", 1))))
        for window in windows:
            stage.watch.end(window, stage.time.now)
        calls = [
            (Call(ordinal=0, request_id="long", ttft_s=1.5, answer_start_s=3.5), windows[:1]),
            (Call(ordinal=1, request_id="short", ttft_s=0.6, answer_start_s=0.6), windows[1:]),
        ]
        stage.readings += await stage.watch.settle(calls)

    [balance] = stage.play(engine())

    assert stage.joules(0) == pytest.approx(
        {"prefill": 150.0, "thinking": 300.0, "answer": 150.0}, rel=0.12
    )
    assert sum(stage.joules(0).values()) == pytest.approx(600.0, rel=0.05)
    assert stage.joules(1) == pytest.approx({"answer": 200.0}, rel=0.05)
    assert balance.is_conserved
    assert all("shared by time" not in (r.note or "") for r in stage.readings)


def test_a_step_under_way_is_waited_for() -> None:
    """One sequence ends while a long step of another goes on: nothing of that step is lost."""
    stage = Stage(busy((6.0, 9.0)))

    async def short() -> None:
        await stage.until(6.0)
        window = stage.watch.begin(stage.time.now, stepped=True)
        await stage.until(7.0)
        stage.watch.step(Pass(START + 6.0, START + 7.0, (("short", "answer", 1),)))
        stage.watch.end(window, stage.time.now)
        stage.readings += await stage.watch.settle(
            [(Call(ordinal=0, request_id="short"), [window])]
        )

    async def long() -> None:
        await stage.until(6.5)
        window = stage.watch.begin(stage.time.now, stepped=True)
        for end in (8.0, 9.0):
            await stage.until(end)
            stage.watch.step(Pass(START + end - 1.0, START + end, (("long", "prefill", 9),)))
        stage.watch.end(window, stage.time.now)
        stage.readings += await stage.watch.settle([(Call(ordinal=1, request_id="long"), [window])])

    [balance] = stage.play(short(), long())

    assert stage.joules(0) == pytest.approx({"answer": 200.0}, rel=0.06)
    assert stage.joules(1) == pytest.approx({"prefill": 400.0}, rel=0.06)
    assert balance.unattributed_j == pytest.approx(0.0, abs=20.0)


def test_a_device_that_is_lost_stops_counting_and_fails_nobody() -> None:
    """Readings that fail are counted; a call after that waits three periods at most, and is
    unknown."""
    stage = Stage(busy((6.0, 8.0), (10.0, 12.0)))

    async def calls() -> None:
        await stage.call(0, (6.0, 8.0))
        stage.meter.lost = True
        await stage.call(1, (10.0, 12.0))

    [balance] = stage.play(calls(), quiet=False)

    assert stage.joules(0) == pytest.approx({None: 400.0}, rel=0.05)
    [unknown] = [r for r in stage.readings if r.call_ordinal == 1]
    assert (unknown.energy_j, unknown.high_j) == (None, None)
    assert "not moved since" in (unknown.note or "")
    assert "readings failed" in (balance.note or "")


def short_calls(watts: float, noise_w: float) -> tuple[Stage, EnergyBalance]:
    """Two hundred calls of 20 ms at so much above an idle power with noise."""
    rng = np.random.default_rng(5)
    rows = [(5.5 + 0.46 * n, 5.52 + 0.46 * n) for n in range(200)]
    noise = rng.normal(0.0, noise_w, 4000)
    noise[:50] -= noise[:50].mean()  # the quiet window finds the idle power

    def power(t: float) -> float:
        drawn = sum(
            min(e, t + 0.05) - max(b, t - 0.05) for b, e in rows if b < t + 0.05 and e > t - 0.05
        )
        return 100.0 + watts * drawn / 0.1 + float(noise[round(t / 0.1 - 0.5)])

    stage = Stage(power)

    async def calls() -> None:
        for n, row in enumerate(rows):
            await stage.call(n, row, ttft_s=0.005, answer_start_s=0.005)

    [balance] = stage.play(calls())
    return stage, balance


def test_calls_below_the_noise_are_told_what_it_may_hide() -> None:
    """Of calls of 2 J under noise of 1 J an update none reads 0; a guess says so, and its range is
    from nothing to the mean."""
    stage, balance = short_calls(100.0, 10.0)

    energy = np.array([sum(stage.joules(n).values()) for n in range(200)])
    guesses = [r for r in stage.readings if "less than the noise" in (r.note or "")]
    assert energy.min() > 0.0
    assert 3 <= len(guesses) / 2 <= 40
    assert f"{len(guesses) // 2} calls are guesses" in (balance.note or "")
    assert {r.low_j for r in guesses} == {0.0}
    assert sum(r.high_j or 0.0 for r in guesses) / (len(guesses) / 2) > 2.0
    assert energy.mean() == pytest.approx(2.0, rel=0.2)
    assert balance.is_conserved


def test_calls_that_draw_nothing_read_next_to_nothing() -> None:
    """Where the device stays idle, as for calls answered elsewhere, there is no energy to tell."""
    stage, balance = short_calls(0.0, 0.0)

    assert balance.calls_j == pytest.approx(0.0, abs=1e-6)
    assert sum(r.high_j or 0.0 for r in stage.readings) == pytest.approx(0.0, abs=1e-6)
    assert balance.mismatch == pytest.approx(0.0, abs=1e-6)


def test_a_device_that_works_for_others_too_costs_a_call_two_updates_at_most() -> None:
    """What is drawn just before and after a call may be its own: that much is doubtful, and no
    more."""
    stage = Stage(busy((5.5, 100.0)))

    async def calls() -> None:
        for n in range(20):
            await stage.call(n, (6.0 + 4 * n, 9.0 + 4 * n))

    [balance] = stage.play(calls(), quiet=False)

    for reading in stage.readings:
        assert (reading.low_j or 0.0) <= 600.01 <= (reading.high_j or 0.0)
        assert 599.99 <= (reading.energy_j or 0.0) <= 600.0 + 0.25 * 200.0
    assert balance.is_conserved


def test_a_device_that_stands_still_is_unknown_while_another_counts() -> None:
    """A counter that does not move in the quiet window gives no energy, not 0."""
    stage = Stage(busy((6.0, 8.0)), lambda _: 0.0)

    balances = stage.play(stage.call(0, (6.0, 8.0)))

    assert {r.device for r in stage.readings} == {"gpu:0"}
    assert balances[1].meter_j is None
    assert "did not move often enough" in (balances[1].note or "")


def test_without_devices_a_watch_costs_nothing_and_says_why() -> None:
    """No quiet window, no thread, no reading: one row with the reason."""
    watch = Watch(CounterMeter((), reason="no meter here"))

    async def run() -> list[EnergyBalance]:
        threads, begun = threading.active_count(), time.process_time()
        await watch.start()
        window = watch.begin(0.0)
        watch.end(window, 1.0)
        assert await watch.settle([(Call(), [window])]) == ()
        assert threading.active_count() == threads
        assert time.process_time() - begun < 0.5
        return await watch.finish("run-1")

    [balance] = asyncio.run(run())
    assert (balance.device, balance.note) == ("none", "no meter here")
    assert balance.meter_j is None


def test_a_long_run_is_settled_without_anybody_asking_and_forgets() -> None:
    """Ten minutes without a call, then a hundred calls: what is kept stays small, and it still adds
    up."""
    stage = Stage(busy(*((600.0 + 4 * n, 603.0 + 4 * n) for n in range(100))))

    async def calls() -> None:
        for n in range(100):
            await stage.call(n, (600.0 + 4 * n, 603.0 + 4 * n))

    [balance] = stage.play(calls(), quiet=False)

    assert balance.is_conserved
    assert balance.calls_j == pytest.approx(100 * 600.0, rel=0.01)
    assert all(len(account) < 5000 for account in stage.watch._accounts)
    assert all(account._ledger._n < 200 for account in stage.watch._accounts if account._ledger)


def test_the_thread_reads_while_the_run_goes_on() -> None:
    """With its own thread a watch samples by itself, and ends it."""
    meter = Known(time.perf_counter, lambda _: 50.0, period_s=0.01)
    meter._counted = [(time.perf_counter(), 0.0)]

    async def run() -> tuple[Sequence[EnergyReading], list[EnergyBalance], Watch]:
        watch = await Watch(meter, hz=100.0, quiet_s=0.2).start()
        window = watch.begin(time.perf_counter())
        while meter.n_reads < 30:  # noqa: ASYNC110  # the watch reads in a thread of its own
            await asyncio.sleep(0.01)
        watch.end(window, time.perf_counter())
        readings = await watch.settle([(Call(), [window])])
        return readings, await watch.finish("run-1"), watch

    [reading], [balance], watch = asyncio.run(run())
    assert reading.method == "measured"
    assert balance.idle_w == pytest.approx(50.0, rel=0.2)
    assert balance.n_samples > 20
    assert watch._thread is None


def test_the_requests_that_a_block_waits_for_are_collected() -> None:
    """Whoever asks gets the windows of its own requests, also when many ask at once."""
    watch = Watch(CounterMeter((), reason="none"))

    async def ask(n: int) -> int:
        with collecting() as made:
            for _ in range(n):
                with watch.request():
                    await asyncio.sleep(0)
        assert all(w.end_s is not None for w in made)
        return len(made)

    async def run() -> list[int]:
        return list(await asyncio.gather(*(ask(n) for n in range(4))))

    assert asyncio.run(run()) == [0, 1, 2, 3]


def test_a_run_knows_what_it_has_spent_so_far() -> None:
    """A budget in joules reads the counters from the end of the quiet window on, idle included."""
    stage = Stage(busy((6.0, 8.0)))
    spent: list[float | None] = [stage.watch.spent_j]

    async def look() -> None:
        await stage.until(10.0)
        spent.append(stage.watch.spent_j)

    stage.play(look(), quiet=False)

    assert spent[0] is None
    assert spent[1] == pytest.approx(5.0 * 100.0 + 400.0, rel=0.03)


# -- meters
# ------------------------------------------------------------------------------------------


def _zone(folder: Path, name: str, joules: float, range_j: float = 100.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_j * 1e6:.0f}\n")
    (folder / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    return folder


def test_rapl_is_found_through_zeus_and_counts_past_its_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package and its DRAM, as the kernel shows them; a counter that starts again has turned
    once."""
    rapl = pytest.importorskip("zeus.device.cpu.rapl", reason="zeus is not installed")
    import zeus.device.cpu as zeus_cpu

    package = _zone(tmp_path / "intel-rapl:0", "package-0", 90.0)
    _zone(package / "intel-rapl:0:0", "dram", 5.0)
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    monkeypatch.setattr(zeus_cpu, "_cpus", None)
    rapl.rapl_is_available.cache_clear()
    meter = open_meter()
    rapl.rapl_is_available.cache_clear()
    monkeypatch.setattr(zeus_cpu, "_cpus", None)
    names = [d.name for d in meter.devices]
    package_at, dram_at = names.index("cpu:0"), names.index("dram:0")

    first = meter.read()
    _zone(package, "package-0", 20.0)
    second = meter.read()

    assert first[dram_at].energy_j == pytest.approx(5.0)
    gained = (second[package_at].energy_j or 0.0) - (first[package_at].energy_j or 0.0)
    assert gained == pytest.approx(30.0)
    assert second[package_at].power_w is None


def test_a_device_that_cannot_be_read_is_null_and_comes_back(tmp_path: Path) -> None:
    """A file that is gone for a moment costs a reading, not the run."""
    path = tmp_path / "energy_uj"
    meter = CounterMeter([RaplZone(path, 100.0, Device("cpu:0", "rapl counter"))])

    assert meter.read()[0].energy_j is None
    path.write_text("5000000")
    assert meter.read()[0].energy_j == pytest.approx(5.0)


class _PowerOnly:
    device = Device("gpu:0", "power, integrated")

    def look(self) -> tuple[float | None, float | None]:
        return None, 200.0


def test_power_is_integrated_where_there_is_no_counter() -> None:
    """Old GPUs give power alone: the counter is made from it."""
    now = iter([0.0, 0.5, 1.5])
    meter = CounterMeter([_PowerOnly()], clock=lambda: next(now))

    found = [meter.read()[0].energy_j for _ in range(3)]

    assert found == [0.0, 100.0, 300.0]


def test_who_cannot_wait_loses_the_quiet_window_and_not_the_balance() -> None:
    """Cancelled while the idle power is looked at once more, the books are closed all the same."""
    never = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (never.wait() if seconds == 30.0 else asyncio.sleep(seconds))

    async def run() -> list[EnergyBalance]:
        begun = time.perf_counter()
        meter = Known(lambda: START + time.perf_counter() - begun, lambda _: 100.0, period_s=0.02)
        watch = Watch(meter, hz=100.0, quiet_s=0.5, clock=meter._clock, sleep=sleep)
        await watch.start()
        watch._quiet_s = 30.0
        while meter.n_reads < 10:  # noqa: ASYNC110  # the watch reads in a thread of its own
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(watch.finish("r"))
        await asyncio.sleep(0.3)
        closing.cancel()
        return await closing

    (balance,) = asyncio.run(run())
    assert balance.meter_j is not None
    assert balance.meter_j > 0
