"""The books of one metered device: its readings, what calls took of them, and whether that adds up."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from workbench.records import EnergyBalance, EnergyReading
from workbench.runner.energy.apportion import (
    MOST_DISAGREEMENT,
    MOST_MISMATCH,
    Ledger,
    Spans,
    half_width,
)
from workbench.runner.energy.baseline import Baseline, Floats, Updates, baseline, updates
from workbench.runner.energy.meters import Device, Reading

_DEFAULT_PERIOD_S = 0.1
_DRIFT = 0.05  # of the idle power from before the run to after it; beyond it the balance says so
_BELOW = ": the device drew less than its idle power for a part of the run"


class Part(NamedTuple):
    """A part of a call that is told apart.

    Attributes:
        phase: null for a call that cannot be split.
        rows: (begin, end, rate) in time order: one for a phase, one a step for an engine of ours.
        machine_s: its share of the time that the device was there for the calls active at once.
    """

    phase: str | None
    rows: Sequence[tuple[float, float, float]]
    machine_s: float


@dataclasses.dataclass
class _Samples:
    """Readings since the last settled update."""

    at_s: list[float] = dataclasses.field(default_factory=list)
    energy_j: list[float] = dataclasses.field(default_factory=list)
    power_w: list[float] = dataclasses.field(default_factory=list)

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        return np.array(self.at_s), np.array(self.energy_j), np.array(self.power_w)

    def keep_from(self, n: int) -> None:
        del self.at_s[:n], self.energy_j[:n], self.power_w[:n]


class Account:
    """One device through a run."""

    def __init__(self, device: Device) -> None:
        """Begin without a reading."""
        self._device = device
        self._samples = _Samples()
        self._idle: Baseline | None = None
        self._ledger: Ledger | None = None
        self._integral_j: float | None = 0.0
        self._n_samples = self._n_failed = 0
        self._calls_j = self._begun_j = self._counted_j = 0.0
        self._updated_s = -np.inf

    def __len__(self) -> int:
        """How many readings wait to be settled."""
        return len(self._samples.at_s)

    @property
    def period_s(self) -> float:
        """Update period of the counter as seen in the quiet window."""
        return self._idle.period_s if self._idle is not None else _DEFAULT_PERIOD_S

    @property
    def closed_s(self) -> float | None:
        """The end of the last settled interval; null for a device that cannot be settled."""
        return self._ledger.closed_s if self._ledger is not None else None

    def passed(self, time_s: float) -> bool:
        """Say whether the counter has moved since a time, or never will."""
        return self._ledger is None or self._updated_s >= time_s

    @property
    def spent_j(self) -> float | None:
        """What the counter has counted since the run began, idle included; null for one that stands still."""
        return self._counted_j - self._begun_j if self._ledger is not None else None

    def add(self, reading: Reading) -> None:
        """Take one reading."""
        if reading.energy_j is None:
            self._n_failed += 1
            return
        self._n_samples += 1
        self._counted_j = reading.energy_j
        kept = self._samples
        if not kept.energy_j or reading.energy_j > kept.energy_j[-1]:
            self._updated_s = reading.at_s
        kept.at_s.append(reading.at_s)
        kept.energy_j.append(reading.energy_j)
        kept.power_w.append(np.nan if reading.power_w is None else reading.power_w)

    def begin(self) -> None:
        """End the quiet window before the run; the run begins at its last update."""
        at, energy, power = self._samples.arrays()
        self._idle = baseline(at, energy, power)
        if self._idle is None:
            return
        start_s = float(updates(at, energy).at_s[-1])
        self._samples.keep_from(int(np.searchsorted(at, start_s)))
        self._ledger = Ledger(self._idle, start_s)
        self._begun_j = self._samples.energy_j[0]

    def close(self, work: Spans, calls: Spans, until_s: float) -> None:
        """Settle the intervals that the counter has ended by a time."""
        if self._ledger is None:
            self._samples.keep_from(max(len(self) - 1, 0))
            return
        at, energy, power = self._samples.arrays()
        moved = updates(at, energy)
        moved = Updates(*(row[moved.at_s <= until_s] for row in moved))
        if not moved.at_s.size:
            return
        begun, counted = self._ledger.closed_s, energy[0]
        whole = Updates(np.append(begun, moved.at_s), np.append(counted, moved.energy_j))
        self._ledger.close(whole, work, calls)
        n = int(np.searchsorted(at, moved.at_s[-1]))
        if self._integral_j is not None and np.isfinite(power[: n + 1]).all():
            self._integral_j += float(np.trapezoid(power[: n + 1], at[: n + 1]))
        else:
            self._integral_j = None
        self._samples.keep_from(n)

    def clear(self) -> None:
        """Forget the readings of the run: a quiet window begins."""
        self._samples = _Samples()

    def forget(self, before_s: float) -> None:
        """Drop settled intervals that nobody will ask about again."""
        if self._ledger is not None:
            self._ledger.forget(before_s)

    @property
    def _disagreement(self) -> float:
        metered = self._ledger.metered_j if self._ledger is not None else 0.0
        if self._integral_j is None or metered <= 0:
            return 0.0
        return abs(metered - self._integral_j) / metered

    # -- what calls took ---------------------------------------------------------------------------

    def readings(
        self,
        ordinal: int,
        parts: Sequence[Part],
        whole: Sequence[tuple[float, float]],
        notes: Sequence[str],
        *,
        stepped: bool,
    ) -> list[EnergyReading]:
        """Tell what a call took.

        Args:
            ordinal: the call's.
            parts: what is told apart; parts of one phase are added up.
            whole: the call's requests from begin to end.
            notes: what is known already.
            stepped: the parts come from an engine's steps.
        """
        ledger = self._ledger
        if ledger is None:
            return []
        begins, ends = np.array(whole).T
        alone = bool(ledger.alone(begins, ends).all())
        why = "; ".join([*notes, *self._remarks(ends - begins, alone=alone, stepped=stepped)])
        by_phase: dict[str | None, tuple[float, float, float]] = {}
        for part in parts:
            energy, half = self._take(part)
            self._calls_j += energy
            before = by_phase.get(part.phase, (0.0, 0.0, 0.0))
            full = energy + ledger.idle.idle_w * part.machine_s
            by_phase[part.phase] = (before[0] + energy, before[1] + half, before[2] + full)
        return [
            EnergyReading(
                call_ordinal=ordinal, device=self._device.name, phase=phase,
                method="measured" if alone else "apportioned", energy_j=energy,
                low_j=max(energy - half, 0.0), high_j=energy + half, full_j=full, note=why or None,
            )
            for phase, (energy, half, full) in by_phase.items()
        ]  # fmt: skip

    def _take(self, part: Part) -> tuple[float, float]:
        """Return the energy of a part and its half-width, in joules."""
        ledger = self._ledger
        if ledger is None or not part.rows:
            return 0.0, 0.0
        begin, end, rate = np.array(part.rows).T
        energy = ledger.energy_j(begin, end, rate).sum()
        edges = ledger.begin_w(begin[:1], rate[:1]) + ledger.end_w(end[-1:], rate[-1:])
        half = half_width(
            energy, edges, ledger.noise_j(begin, end, rate).sum(),
            period_s=self.period_s, disagreement=self._disagreement,
        )  # fmt: skip
        return float(energy), float(half[0])

    def _remarks(self, lengths_s: Floats, *, alone: bool, stepped: bool) -> list[str]:
        found = []
        if lengths_s.sum() < 2 * self.period_s:
            found.append(f"shorter than two updates of the counter ({self.period_s:.3g} s each)")
        if not alone and not stepped:
            found.append("shared by time: a prefill weighs as much as a decode")
        if self._disagreement > MOST_DISAGREEMENT:
            found.append(f"counter and power differ by {self._disagreement:.0%}")
        return found

    # -- whether it adds up ------------------------------------------------------------------------

    def balance(self, run_id: str, n_calls: int, lost: Sequence[Sequence[Part]]) -> EnergyBalance:
        """Close the books of a run.

        Args:
            run_id: the run's.
            n_calls: calls that were told what they took.
            lost: requests that nobody asked about, as when a run is cancelled.
        """
        opened = EnergyBalance(
            run_id=run_id, device=self._device.name, meter=self._device.how,
            n_samples=self._n_samples, n_calls=n_calls,
        )  # fmt: skip
        ledger, idle = self._ledger, self._idle
        if ledger is None or idle is None or ledger.metered_j <= 0:
            why = "the counter did not move often enough in the quiet window"
            return msgspec.structs.replace(opened, note=why)
        lost_j = sum(self._take(part)[0] for parts in lost for part in parts)
        loose_j = ledger.unattributed_j + lost_j
        added = self._calls_j + ledger.idle_j + loose_j
        mismatch = abs(added - ledger.metered_j) / ledger.metered_j
        notes = [f"{self._n_failed} readings failed"] if self._n_failed else []
        if lost:
            notes.append(
                f"unattributed holds {lost_j:.3g} J of {len(lost)} requests without a trace"
            )
        if self._disagreement > MOST_DISAGREEMENT:
            notes.append(f"counter and power differ by {self._disagreement:.0%}")
        if mismatch > MOST_MISMATCH:
            off = added - ledger.metered_j
            notes.append(f"the sum is {off:+.3g} J off" + (_BELOW if off > 0 else ""))
        return msgspec.structs.replace(
            opened, meter_j=ledger.metered_j, calls_j=self._calls_j, idle_j=ledger.idle_j,
            unattributed_j=loose_j, mismatch=mismatch, is_conserved=mismatch <= MOST_MISMATCH,
            integral_j=self._integral_j, duration_s=ledger.duration_s, idle_w=idle.idle_w,
            idle_sd_w=idle.idle_sd_w, period_s=idle.period_s, note="; ".join(notes) or None,
        )  # fmt: skip

    def after(self, balance: EnergyBalance) -> EnergyBalance:
        """Add the idle power of the quiet window after the run."""
        again = baseline(*self._samples.arrays())
        if again is None or self._idle is None:
            return balance
        before, drift = self._idle.idle_w, again.idle_w - self._idle.idle_w
        note = balance.note
        if abs(drift) > _DRIFT * before:
            said = f"idle power went from {before:.4g} to {again.idle_w:.4g} W"
            note = f"{note}; {said}" if note else said
        return msgspec.structs.replace(balance, idle_after_w=again.idle_w, note=note)
