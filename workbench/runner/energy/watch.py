"""The watch over the meters during a run, which gives each call its energy readings.

A thread reads the devices twenty times a second and does nothing else; energy is apportioned when a
call is settled. Each interval is settled once, while other calls are still in flight: their phases
are not known then, so all calls have equal weights per second, prefill too, and later phase splits
do not change settled shares. The local engine reports its steps; there energy goes by tokens
processed.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from workbench.records import Call, EnergyBalance, EnergyReading
from workbench.runner.energy.account import Account, Part
from workbench.runner.energy.apportion import Occupancy, Spans
from workbench.runner.energy.baseline import MIN_QUIET_S
from workbench.runner.energy.meters import Meter
from workbench.runner.energy.windows import Span, Step, Window, collect, spans

HZ = 20.0
_PATIENCE = 2.0  # × how late a counter may be: how long a call waits for it to pass its end
_STEP_S = 2.0  # how long it waits for the step of the local engine that is under way
_MANY = 4096  # readings that are settled without anybody asking
_RETRIED = "with {n} tries that failed"

Ended = tuple[Call, Sequence[Window]]


class _Worked(NamedTuple):
    """A step's part that was one sequence's: when, what, and which fraction of the step."""

    begin_s: float
    end_s: float
    phase: str
    fraction: float


class Watch:
    """The meters of a run: `start`, then `begin` and `end` around each request, `settle`, `finish`.

    All but the sampling happens in one thread, the event loop's.

    Attributes:
        reason: why devices are missing; "" where none is.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        hz: float | None = HZ,
        quiet_s: float = MIN_QUIET_S,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to read a meter.

        Args:
            meter: what is read; one without devices makes every method do nothing.
            hz: readings a second by a thread; None leaves it to the caller of `sample`.
            quiet_s: length of the idle windows before and after.
            clock: the meter's clock, and that of the windows.
            sleep: waits.
        """
        self._meter, self.reason = meter, meter.reason
        self._hz, self._quiet_s = hz, quiet_s
        self._clock, self._sleep = clock, sleep
        self._accounts = [Account(device) for device in meter.devices]
        self._occupancy = Occupancy()
        self._windows: list[Window] = []  # not settled yet
        self._recent: list[Window] = []  # those in intervals that are not settled yet
        self._worked: dict[str, list[_Worked]] = {}
        self._steps: list[tuple[float, float]] = []  # those in intervals that are not settled yet
        self._stepped_s = -np.inf  # the end of the last step
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._n_calls = 0

    @property
    def spent_j(self) -> float | None:
        """Joules of all devices since the run began, idle included; null while not known."""
        with self._lock:
            known = [a.spent_j for a in self._accounts if a.spent_j is not None]
        return sum(known) if known else None

    @property
    def measures(self) -> bool:
        """Whether there is a device to read."""
        return bool(self._accounts)

    # -- the run -----------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Begin to read, and wait through the quiet window before the run."""
        if not self.measures:
            return self
        self.sample()
        if self._hz is not None:
            self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
            self._thread.start()
        await self._sleep(self._quiet_s)
        with self._lock:
            for account in self._accounts:
                account.begin()
        return self

    async def finish(self, run_id: str, *, quiet: bool = True) -> list[EnergyBalance]:
        """Close the books: one row a device, or one that says why nothing was measured.

        Args:
            run_id: the run's.
            quiet: wait through the window after the run; a run that was cancelled does not, and one
                that is cancelled in it waits no longer.
        """
        if not self.measures:
            note = self.reason or "no meter"
            return [EnergyBalance(run_id=run_id, device="none", note=note)]
        ended = self._clock()
        for window in self._windows:
            if window.end_s is None:
                self.end(window, ended)
        await self._passed(ended)
        with self._lock:
            self._close(np.inf)
            lost = self._lost()
            balances = [a.balance(run_id, self._n_calls, lost) for a in self._accounts]
            for account in self._accounts:
                account.clear()
        if quiet:
            # a cancelled wait loses this window, not the balance
            with contextlib.suppress(asyncio.CancelledError):
                await self._sleep(self._quiet_s)
            with self._lock:
                balances = [
                    account.after(balance)
                    for account, balance in zip(self._accounts, balances, strict=True)
                ]
        self.stop()
        return balances

    def stop(self) -> None:
        """End the thread; nothing is settled any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = 1.0 / (self._hz or HZ)
        due = time.monotonic() + pause
        while not self._stop.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + pause, time.monotonic())
            self.sample()

    def sample(self) -> None:
        """Read every device once."""
        readings = self._meter.read()
        with self._lock:
            for account, reading in zip(self._accounts, readings, strict=True):
                account.add(reading)
            if max((len(account) for account in self._accounts), default=0) > _MANY:
                self._close(np.inf)

    # -- the calls ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def request(self, *, stepped: bool = False) -> Iterator[Window]:
        """Count a request in for the length of the block, and out however it ends.

        Args:
            stepped: the local engine will report its steps (see `step`).
        """
        window = self.begin(self._clock(), stepped=stepped)
        collect(window)
        try:
            yield window
        finally:
            self.end(window, self._clock())

    def begin(self, at_s: float, *, stepped: bool = False) -> Window:
        """Count a request in."""
        window = Window(at_s, stepped=stepped)
        if self.measures:
            with self._lock:
                self._windows.append(window)
                self._recent.append(window)
                self._occupancy.add(at_s, 1)
        return window

    def end(self, window: Window, at_s: float) -> None:
        """Count a request out."""
        with self._lock:
            window.end_s = at_s
            if self.measures:
                self._occupancy.add(at_s, -1)

    def step(self, step: Step) -> None:
        """Record a step of the local engine, from any thread; settled intervals do not change."""
        tokens = sum(n for _, _, n in step.work)
        with self._lock:
            self._stepped_s = max(self._stepped_s, step.end_s)
            begin = max([step.begin_s, *self._closed_s()])
            if step.end_s <= begin or tokens <= 0 or not self.measures:
                return
            self._steps.append((begin, step.end_s))
            for key, phase, n in step.work:
                worked = _Worked(begin, step.end_s, phase, n / tokens)
                self._worked.setdefault(key, []).append(worked)

    async def settle(self, ended: Sequence[Ended]) -> tuple[EnergyReading, ...]:
        """Return the readings of calls once the counters have updated, which takes two updates.

        Args:
            ended: finished calls, each with its requests: the last is the one that answered.

        Returns:
            One reading a call, device and phase; none for calls that made no request here.
        """
        ended = [(call, windows) for call, windows in ended if windows]
        if not self.measures or not ended:
            return ()
        last = max(w.end_s or 0.0 for _, windows in ended for w in windows)
        await self._passed(last)
        with self._lock:
            known = self._horizon_s()
            self._close(np.inf if known < last + self._late_s() else known)
            readings = [reading for call, windows in ended for reading in self._tell(call, windows)]
            settled_windows = {id(w) for _, windows in ended for w in windows}
            self._windows = [w for w in self._windows if id(w) not in settled_windows]
            for call, _ in ended:
                self._worked.pop(call.request_id or "", None)
            self._n_calls += len(ended)
            self._forget()
        return tuple(readings)

    # -- inside ------------------------------------------------------------------------------------

    async def _passed(self, time_s: float) -> None:
        """Wait until the counters include the energy drawn so far, which takes one update."""
        late = self._late_s()
        deadline = self._clock() + _PATIENCE * late
        patience = self._clock() + _STEP_S
        while self._clock() < patience:
            with self._lock:
                stepped = self._horizon_s() >= time_s + late
                if stepped and all(account.passed(time_s) for account in self._accounts):
                    return
            if stepped and self._clock() >= deadline:
                return
            await self._sleep(late / 3)

    def _late_s(self) -> float:
        return max(account.late_s for account in self._accounts)

    def _horizon_s(self) -> float:
        """Time until which all work is known: the local engine reports a step when it has ended."""
        under_way = any(w.stepped and w.end_s is None for w in self._windows)
        return self._stepped_s if under_way else np.inf

    def _close(self, until_s: float) -> None:
        """Settle the intervals that the counters have ended by a time."""
        calls = _rows(self._recent)
        plain = _rows(w for w in self._recent if not w.stepped)
        steps = _spans(self._steps)
        work = Spans(*(np.concatenate(pair) for pair in zip(plain, steps, strict=True)))
        for account in self._accounts:
            account.close(work, calls, until_s)
        paid = min((a.paid_s for a in self._accounts if a.paid_s is not None), default=np.inf)
        self._recent = [w for w in self._recent if w.end_s is None or w.end_s > paid]
        self._steps = [step for step in self._steps if step[1] > paid]

    def _closed_s(self) -> list[float]:
        return [a.closed_s for a in self._accounts if a.closed_s is not None]

    def _forget(self) -> None:
        begins = [window.begin_s for window in self._windows]
        oldest = min([*begins, *self._closed_s()], default=-np.inf)
        self._occupancy.forget(oldest)
        for account in self._accounts:
            account.forget(oldest)

    def _tell(self, call: Call, windows: Sequence[Window]) -> list[EnergyReading]:
        parts = [part for w in windows[:-1] for part in self._parts(w, None)]
        parts += self._parts(windows[-1], call)
        notes = [_RETRIED.format(n=len(windows) - 1)] if len(windows) > 1 else []
        begins = [w.begin_s for w in windows]
        ends = [w.begin_s if w.end_s is None else w.end_s for w in windows]
        whole = list(zip(begins, ends, strict=True))
        stepped = windows[-1].stepped
        return [
            reading
            for account in self._accounts
            for reading in account.readings(call.ordinal, parts, whole, notes, stepped=stepped)
        ]

    def _parts(self, window: Window, call: Call | None) -> list[Part]:
        """Cut a request into what is paid: its phases, or its parts of an engine's steps."""
        begin = window.begin_s
        end = begin if window.end_s is None else window.end_s
        phases = spans(window, call) if call is not None else [Span(None, begin, end)]
        if not window.stepped:
            return [Part(s.phase, [(s.begin_s, s.end_s, 1.0)], self._time(s)) for s in phases]
        worked = self._worked.get(call.request_id or "", ()) if call is not None else ()
        return _by_phase(worked, {s.phase: self._time(s) for s in phases})

    def _time(self, span: Span) -> float:
        return self._occupancy.share(span.begin_s, span.end_s)

    def _lost(self) -> list[list[Part]]:
        """Return the parts of unsettled requests, or sequences of the local engine."""
        plain = [self._parts(w, None) for w in self._windows if not w.stepped]
        return [*plain, *(_by_phase(worked, {}) for worked in self._worked.values())]


def _by_phase(worked: Sequence[_Worked], times_s: Mapping[str | None, float]) -> list[Part]:
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for w in worked:
        rows.setdefault(w.phase, []).append((w.begin_s, w.end_s, w.fraction))
    return [Part(phase, found, times_s.get(phase, 0.0)) for phase, found in rows.items()]


def _rows(windows: Iterable[Window]) -> Spans:
    return _spans((w.begin_s, np.inf if w.end_s is None else w.end_s) for w in windows)


def _spans(pairs: Iterable[tuple[float, float]]) -> Spans:
    rows = np.array(list(pairs), dtype=np.float64).reshape(-1, 2)
    n = rows.shape[0]
    return Spans(np.arange(n), rows[:, 0], rows[:, 1], np.ones(n))
