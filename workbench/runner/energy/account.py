"""The energy account of one metered device: readings, shares of calls, and their balance."""

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
    noise_j,
)
from workbench.runner.energy.baseline import Baseline, Updates, baseline
from workbench.runner.energy.meters import Device, Reading

_DEFAULT_LATE_S = 0.1
_DRIFT = 0.05  # of the idle power from before the run to after it; beyond it the balance says so
_GUESSED = (
    "less than the noise of the counter: half of what that can hide, or of the run's mean power"
)
_SILENT = "the counter has not moved since the call began"
_BELOW = ": the device drew less than its idle power for a part of the run"


class Part(NamedTuple):
    """A part of a call with energy of its own.

    Attributes:
        phase: null for a call that cannot be split.
        rows: (begin, end, rate) in time order: one for a phase, one a step for the local engine.
        machine_s: its share of the time that the device was there for the calls active at once.
    """

    phase: str | None
    rows: Sequence[tuple[float, float, float]]
    machine_s: float


class _Taken(NamedTuple):
    """Energy of parts of a call: joules (noise may make them negative), half-width and work.

    Attributes:
        work_s: rate × time.
        machine_s: as of `Part`.
    """

    energy_j: float
    half_j: float
    noise_j: float
    work_s: float
    machine_s: float


_NOTHING = _Taken(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass
class _Samples:
    """Readings since the last settled update; `moved_s` is NaN where the counter stood still."""

    at_s: list[float] = dataclasses.field(default_factory=list)
    energy_j: list[float] = dataclasses.field(default_factory=list)
    power_w: list[float] = dataclasses.field(default_factory=list)
    moved_s: list[float] = dataclasses.field(default_factory=list)

    def baseline(self) -> Baseline | None:
        return baseline(np.array(self.at_s), np.array(self.energy_j), np.array(self.power_w))

    def keep_from(self, n: int) -> None:
        del self.at_s[:n], self.energy_j[:n], self.power_w[:n], self.moved_s[:n]


class Account:
    """One device through a run."""

    def __init__(self, device: Device) -> None:
        """Begin without a reading."""
        self._device = device
        self._samples = _Samples()
        self._idle: Baseline | None = None
        self._ledger: Ledger | None = None
        self._integral_j: float | None = 0.0
        self._n_samples = self._n_failed = self._n_guessed = 0
        self._calls_j = self._guessed_j = self._begun_j = self._counted_j = 0.0
        self._updated_s: float | None = None

    def __len__(self) -> int:
        """How many readings wait to be settled."""
        return len(self._samples.at_s)

    @property
    def late_s(self) -> float:
        """How long after it was drawn energy is seen in the counter, at most."""
        return self._idle.late_s if self._idle is not None else _DEFAULT_LATE_S

    @property
    def closed_s(self) -> float | None:
        """The end of the last settled interval; null for a device that cannot be settled."""
        return self._ledger.closed_s if self._ledger is not None else None

    @property
    def paid_s(self) -> float | None:
        """End of the time whose energy is settled completely; null as above."""
        return self._ledger.closed_s - self.late_s if self._ledger is not None else None

    def passed(self, time_s: float) -> bool:
        """Whether the counter includes the energy until a time, or never will."""
        if self._ledger is None:
            return True
        return self._updated_s is not None and self._updated_s >= time_s + self.late_s

    @property
    def spent_j(self) -> float | None:
        """Joules of the counter since the run began, idle included; null for a stuck counter."""
        return self._counted_j - self._begun_j if self._ledger is not None else None

    def add(self, reading: Reading) -> None:
        """Take one reading."""
        if reading.energy_j is None:
            self._n_failed += 1
            return
        self._n_samples += 1
        self._counted_j = reading.energy_j
        kept, moved_s = self._samples, np.nan
        if kept.energy_j and reading.energy_j > kept.energy_j[-1] and self._idle is not None:
            moved_s = self._idle.moved_s(kept.at_s[-1], reading.at_s, self._updated_s)
            self._updated_s = moved_s
        kept.at_s.append(reading.at_s)
        kept.energy_j.append(reading.energy_j)
        kept.power_w.append(np.nan if reading.power_w is None else reading.power_w)
        kept.moved_s.append(moved_s)

    def begin(self) -> None:
        """End the quiet window before the run; the run begins at its last update."""
        samples = self._samples
        at, energy = np.array(samples.at_s), np.array(samples.energy_j)
        self._idle = samples.baseline()
        if self._idle is None:
            return
        self._updated_s = start_s = float(self._idle.updates(at, energy).at_s[-1])
        samples.keep_from(int(np.searchsorted(energy, energy[-1])))
        self._ledger = Ledger(self._idle, start_s)
        self._begun_j = samples.energy_j[0]

    def close(self, work: Spans, calls: Spans, until_s: float) -> None:
        """Settle the intervals that the counter has ended by a time."""
        samples = self._samples
        if self._ledger is None:
            samples.keep_from(max(len(self) - 1, 0))
            return
        moved = np.flatnonzero(np.array(samples.moved_s[1:]) <= until_s) + 1
        if not moved.size:
            return
        at = np.append(self._ledger.closed_s, np.array(samples.moved_s)[moved])
        self._ledger.close(Updates(at, np.array(samples.energy_j)[[0, *moved]]), work, calls)
        n = int(moved[-1])
        power = np.array(samples.power_w[: n + 1])
        if self._integral_j is not None and np.isfinite(power).all():
            self._integral_j += float(np.trapezoid(power, samples.at_s[: n + 1]))
        else:
            self._integral_j = None
        samples.keep_from(n)

    def clear(self) -> None:
        """Forget the readings of the run: a quiet window begins."""
        self._samples = _Samples()

    def forget(self, before_s: float) -> None:
        """Drop settled intervals that are not needed any more."""
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
        """Return the energy readings of a call.

        Args:
            ordinal: the call's.
            parts: the parts distinguished; parts of one phase are added up.
            whole: the call's requests from begin to end.
            notes: what is known already.
            stepped: the parts come from an engine's steps.
        """
        ledger = self._ledger
        if ledger is None:
            return []
        begins, ends = np.array(whole).T
        if ledger.closed_s <= begins.min():
            name = self._device.name
            return [
                EnergyReading(call_ordinal=ordinal, device=name, method="measured", note=_SILENT)
            ]
        alone = bool(ledger.alone(begins, ends).all())
        phases = dict.fromkeys(part.phase for part in parts)
        taken = {p: self._take([part for part in parts if part.phase == p]) for p in phases}
        given, is_guessed = self._give(list(taken.values()), ledger.mean_w)
        is_short = float((ends - begins).sum()) < 2 * ledger.idle.period_s
        remarks = self._remarks(is_short=is_short, is_shared=not alone and not stepped)
        # a sensor that looks for a part of a period, 25 of 100 ms on A100 and H100, may have missed
        # a short call
        likely_w = ledger.mean_w if is_short or is_guessed else 0.0
        why = "; ".join([*notes, *remarks, *([_GUESSED] if is_guessed else [])])
        return [
            EnergyReading(
                call_ordinal=ordinal,
                device=self._device.name,
                phase=phase,
                method="measured" if alone else "apportioned",
                energy_j=energy,
                low_j=0.0 if is_guessed else max(energy - took.half_j, 0.0),
                high_j=max(energy + took.half_j, likely_w * took.work_s),
                full_j=energy + ledger.idle.idle_w * took.machine_s,
                note=why or None,
            )
            for (phase, took), energy in zip(taken.items(), given, strict=True)
        ]

    def _give(self, taken: Sequence[_Taken], mean_w: float) -> tuple[list[float], bool]:
        """Return the energy of a call's phases, none below zero, and whether it is a guess.

        Where the call is above the noise, phases below it are 0, and the others so much less. Where
        it is not, it took from nothing to what the noise hides, and hardly more than the mean of
        the run: half.
        """
        counted_j = sum(t.energy_j for t in taken)
        if counted_j > 0:
            above = [max(t.energy_j, 0.0) for t in taken]
            self._calls_j += counted_j
            return [counted_j * j / sum(above) for j in above], False
        work_s = sum(t.work_s for t in taken)
        guess_j = min(mean_w * work_s, sum(t.noise_j for t in taken)) / 2
        self._calls_j += guess_j
        self._guessed_j += guess_j - counted_j
        self._n_guessed += guess_j > 0
        return [guess_j * t.work_s / work_s if work_s else 0.0 for t in taken], True

    def _take(self, parts: Sequence[Part]) -> _Taken:
        """Return what parts took together."""
        ledger = self._ledger
        parts = [part for part in parts if part.rows]
        if ledger is None or not parts:
            return _NOTHING
        begin, end, rate = np.array([row for part in parts for row in part.rows]).T
        machine_s, length_s = sum(part.machine_s for part in parts), float((end - begin).sum())
        energy = ledger.energy_j(begin, end, rate).sum()
        firsts, lasts = (np.array([part.rows[n] for part in parts]) for n in (0, -1))
        edges = ledger.begin_w(firsts[:, 0], firsts[:, 2]).sum()
        edges += ledger.end_w(lasts[:, 1], lasts[:, 2]).sum()
        noise = noise_j(ledger.idle, np.array(machine_s), np.array(length_s))
        half = half_width(
            np.maximum(energy, 0.0),
            edges,
            noise,
            period_s=ledger.idle.period_s,
            disagreement=self._disagreement,
        )
        work_s = float((rate * (end - begin)).sum())
        return _Taken(float(energy), float(half), float(noise), work_s, machine_s)

    def _remarks(self, *, is_short: bool, is_shared: bool) -> list[str]:
        notes = []
        if is_short and self._idle is not None:
            period_s = self._idle.period_s
            notes.append(f"shorter than two updates of the counter ({period_s:.3g} s each)")
        if is_shared:
            notes.append("shared by time: a prefill weighs as much as a decode")
        if self._disagreement > MOST_DISAGREEMENT:
            notes.append(f"counter and power differ by {self._disagreement:.0%}")
        return notes

    # -- whether it adds up ------------------------------------------------------------------------

    def balance(self, run_id: str, n_calls: int, lost: Sequence[Sequence[Part]]) -> EnergyBalance:
        """Close the books of a run.

        Args:
            run_id: the run's.
            n_calls: calls that were told what they took.
            lost: requests that were never settled, as when a run is cancelled.
        """
        opened = EnergyBalance(
            run_id=run_id,
            device=self._device.name,
            meter=self._device.how,
            n_samples=self._n_samples,
            n_calls=n_calls,
        )
        ledger, idle = self._ledger, self._idle
        if ledger is None or idle is None or ledger.metered_j <= 0:
            why = "the counter did not move often enough in the quiet window"
            return msgspec.structs.replace(opened, note=why)
        lost_j = sum(max(self._take(parts).energy_j, 0.0) for parts in lost)
        # guesses above the counted energy are taken from the unattributed part
        loose_j = max(ledger.unattributed_j - self._guessed_j, 0.0) + lost_j
        added = self._calls_j + ledger.idle_j + loose_j
        mismatch = abs(added - ledger.metered_j) / ledger.metered_j
        notes = [f"{self._n_failed} readings failed"] if self._n_failed else []
        if lost:
            notes.append(
                f"unattributed holds {lost_j:.3g} J of {len(lost)} requests without a trace"
            )
        if self._n_guessed:
            notes.append(f"{self._n_guessed} calls are guesses, as they took less than the noise")
        if self._disagreement > MOST_DISAGREEMENT:
            notes.append(f"counter and power differ by {self._disagreement:.0%}")
        if mismatch > MOST_MISMATCH:
            off = added - ledger.metered_j
            notes.append(f"the sum is {off:+.3g} J off" + (_BELOW if off > 0 else ""))
        return msgspec.structs.replace(
            opened,
            meter_j=ledger.metered_j,
            calls_j=self._calls_j,
            idle_j=ledger.idle_j,
            unattributed_j=loose_j,
            mismatch=mismatch,
            is_conserved=mismatch <= MOST_MISMATCH,
            integral_j=self._integral_j,
            duration_s=ledger.duration_s,
            idle_w=idle.idle_w,
            idle_sd_w=idle.idle_sd_w,
            period_s=idle.period_s,
            note="; ".join(notes) or None,
        )

    def after(self, balance: EnergyBalance) -> EnergyBalance:
        """Add the idle power of the quiet window after the run."""
        again = self._samples.baseline()
        if again is None or self._idle is None:
            return balance
        before, drift = self._idle.idle_w, again.idle_w - self._idle.idle_w
        note = balance.note
        if abs(drift) > _DRIFT * before:
            change = f"idle power went from {before:.4g} to {again.idle_w:.4g} W"
            note = f"{note}; {change}" if note else change
        return msgspec.structs.replace(balance, idle_after_w=again.idle_w, note=note)
