"""Loads and the power that they draw: schedules of calls, and a curve as a recorder would write
it."""

from pathlib import Path

import numpy as np

IDLE_W, TAU_S = 68.0, 0.08


def schedule(
    n: int,
    concurrent: int,
    rng: np.random.Generator,
    *,
    start_s: float,
    mean_s: float = 2.0,
    pause_s: tuple[float, float] = (0.001, 0.05),
) -> list[tuple[float, float]]:
    """Begin and end of n calls, a number of them at a time, back to back."""
    free = [start_s + rng.uniform(0, 0.3) for _ in range(concurrent)]
    found = []
    for _ in range(n):
        lane = int(np.argmin(free))
        begin = free[lane] + rng.uniform(*pause_s)
        end = begin + 0.15 + rng.gamma(4.0, mean_s / 4.0)
        found.append((begin, end))
        free[lane] = end
    return found


def dynamic_w(active: np.ndarray) -> np.ndarray:
    """Power above idle of a GPU that serves so many at once: a batch of one already takes most of
    it."""
    return np.where(active > 0, 180.0 + 330.0 * (1.0 - np.exp(-active / 20.0)), 0.0)


def curve(
    calls: list[tuple[float, float]],
    length_s: float,
    rng: np.random.Generator,
    step_s: float = 0.005,
) -> tuple[np.ndarray, np.ndarray]:
    """Times and watts: idle with noise, ramps of 80 ms up and down, and the noise of a busy
    device."""
    at = np.arange(0.0, length_s, step_s)
    begins, ends = np.sort([b for b, _ in calls]), np.sort([e for _, e in calls])
    active = np.searchsorted(begins, at, "right") - np.searchsorted(ends, at, "right")
    wanted = dynamic_w(active)
    power, level, keep = np.empty_like(at), 0.0, np.exp(-step_s / TAU_S)
    for k, watts in enumerate(wanted):
        level = watts + (level - watts) * keep
        power[k] = level
    noise = rng.normal(0.0, 1.0, at.size)
    return at, np.maximum(IDLE_W + power + noise * (1.5 + 0.04 * power), 20.0)


def write(path: Path, at: np.ndarray, watts: np.ndarray) -> None:
    """Write a recording as "seconds,watts" lines."""
    np.savetxt(path, np.column_stack((at, watts)), fmt="%.4f", delimiter=",")
