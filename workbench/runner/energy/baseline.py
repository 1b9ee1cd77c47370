"""The baseline of a device, measured in every run: idle power and the counter's period."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MIN_QUIET_S = 5.0
_SLOWER = 1.2  # looks that a counter's period must last for it to be seen standing still


class Updates(NamedTuple):
    """When a counter moved, and what it read then: (n,) seconds and (n,) joules."""

    at_s: Floats
    energy_j: Floats


class Baseline(NamedTuple):
    """Idle power of one device, and the rhythm of its counter.

    Attributes:
        idle_w: mean power; from the counter, so that it and the run's energy are read by one
            instrument.
        idle_sd_w: standard deviation of the power samples, or of the counter's power from update to
            update where the device gives none; null with fewer than two.
        period_s: mean time between two updates of the counter, as seen.
        duration_s: length of the window, from the first update in it to the last.
        look_s: median time between two readings; 0 where it is known when the counter moved.
        jump_sd_j: standard deviation of what the counter counts above the mean from update to
            update.
    """

    idle_w: float
    idle_sd_w: float | None
    period_s: float
    duration_s: float
    look_s: float = 0.0
    jump_sd_j: float = 0.0

    @property
    def late_s(self) -> float:
        """How long after it was drawn energy is seen in the counter, at most.

        A counter may be an update late, as driver and sensor buffer; and an update is seen at the
        next look.
        """
        return self.period_s + self.look_s if self.look_s else 0.0

    @property
    def _stands(self) -> bool:
        return self.period_s > _SLOWER * self.look_s

    def moved_s(self, looked_s: float, seen_s: float, last_s: float | None) -> float:
        """Estimate when a counter moved between two readings.

        It is due a period after its last update. Reckoned from a look that saw it moved, and with a
        period that is rather too long, an error leaves it late, not before the energy was drawn.
        """
        is_one = (
            self._stands and seen_s - looked_s < self.period_s
        )  # not several since a look that was late
        if last_s is None or not is_one:
            return seen_s
        due = last_s + self.period_s * (1.0 + self.look_s / self.duration_s)
        return min(max(due, looked_s), seen_s)

    def updates(self, at_s: Floats, energy_j: Floats, last_s: float | None = None) -> Updates:
        """Keep the readings at which a counter had moved; the first reading is not known to be one.

        Between two updates a counter says nothing: a window shorter than its period would read 0 J.
        """
        moved = _moved(energy_j)
        moments = np.empty(moved.size)
        for n, k in enumerate(moved):
            last_s = self.moved_s(float(at_s[k - 1]), float(at_s[k]), last_s)
            moments[n] = last_s
        return Updates(moments, energy_j[moved])


def baseline(at_s: Floats, energy_j: Floats, power_w: Floats) -> Baseline | None:
    """Measure idle power over a quiet window.

    Args:
        at_s: (n,) times of the readings, ascending.
        energy_j: (n,) counter readings, never decreasing.
        power_w: (n,) power samples, NaN where the device gave none.

    Returns:
        None where the counter moved less than three times: the window was too short for it.
    """
    # the first update may lie anywhere before its reading
    moved = _moved(energy_j)[1:]
    if moved.size < 2:
        return None
    duration = float(at_s[moved[-1]] - at_s[moved[0]])
    look = float(np.median(np.diff(at_s)))
    rhythm = Baseline(np.nan, None, duration / (moved.size - 1), duration, look)
    since = moved[0] - 1
    at, energy = rhythm.updates(at_s[since:], energy_j[since:])
    dt, gained = np.diff(at), np.diff(energy)
    # the slope through all updates: the times of two ends alone would be off by a look
    mean = float(np.polyfit(at - at[0], energy - energy[0], 1)[0])
    samples = power_w[np.isfinite(power_w)]
    if samples.size < 2:
        samples = gained / dt
    return rhythm._replace(
        idle_w=mean,
        idle_sd_w=float(np.std(samples, ddof=1)) if samples.size > 1 else None,
        jump_sd_j=float(np.std(gained - mean * dt, ddof=1)) if dt.size > 1 else 0.0,
    )


def _moved(energy_j: Floats) -> Ints:
    return np.flatnonzero(np.diff(energy_j) > 0) + 1
