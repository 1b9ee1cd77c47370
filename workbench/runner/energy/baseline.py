"""What a device draws when nothing is asked of it: measured in every run, never assumed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MIN_QUIET_S = 5.0


class Baseline(NamedTuple):
    """Idle power of one device.

    Attributes:
        idle_w: mean power; from the counter, so that it and the run's energy are read by one instrument.
        idle_sd_w: standard deviation of the power samples, or of the counter's power from update to update
            where the device gives none; null with fewer than two.
        period_s: median time between two updates of the counter, as seen.
        duration_s: length of the window, from the first update in it to the last.
    """

    idle_w: float
    idle_sd_w: float | None
    period_s: float
    duration_s: float


class Updates(NamedTuple):
    """When a counter moved, and what it read then: (n,) seconds and (n,) joules."""

    at_s: Floats
    energy_j: Floats


def updates(at_s: Floats, energy_j: Floats) -> Updates:
    """Keep the readings at which a counter had moved; the first reading is not known to be one.

    Between two updates a counter says nothing: a window shorter than its period would read 0 J. A counter that
    stood still at the reading before moved somewhere since then: half-way is the best guess. One that moves
    between any two readings did so just before the later.
    """
    moves = np.diff(energy_j) > 0
    moved = np.flatnonzero(moves) + 1
    stood = np.concatenate(([False], ~moves))[moved - 1] & (moved > 1)
    at = np.where(stood, (at_s[moved - 1] + at_s[moved]) / 2, at_s[moved])
    return Updates(at, energy_j[moved])


def baseline(at_s: Floats, energy_j: Floats, power_w: Floats) -> Baseline | None:
    """Measure idle power over a quiet window.

    Args:
        at_s: (n,) times of the readings, ascending.
        energy_j: (n,) counter readings, never decreasing.
        power_w: (n,) power samples, NaN where the device gave none.

    Returns:
        None where the counter moved less than three times: the window was too short for it.
    """
    moved = updates(at_s, energy_j)
    moved = Updates(
        moved.at_s[1:], moved.energy_j[1:]
    )  # the first may lie anywhere before its reading
    if moved.at_s.size < 2:
        return None
    duration = float(moved.at_s[-1] - moved.at_s[0])
    mean = float(moved.energy_j[-1] - moved.energy_j[0]) / duration
    samples = power_w[np.isfinite(power_w)]
    if samples.size < 2:
        samples = np.diff(moved.energy_j) / np.diff(moved.at_s)
    sd = float(np.std(samples, ddof=1)) if samples.size > 1 else None
    return Baseline(mean, sd, float(np.median(np.diff(moved.at_s))), duration)
