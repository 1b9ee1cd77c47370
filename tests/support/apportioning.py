"""Apportioning of a whole run at once: the account's formulas without its bookkeeping by time."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.runner.energy.apportion import Ledger, Spans, half_width, noise_j
from workbench.runner.energy.baseline import Baseline, Floats, Updates


class Shares(NamedTuple):
    """What spans took of a device: (n,) arrays in the order of the spans.

    Attributes:
        energy_j: dynamic energy, above idle.
        low_j, high_j: its bounds; low is never negative.
        machine_s: seconds of the device: its time divided among the calls active at once.
        alone: no other call was active in any counter interval that may hold energy of the span's
            call.
    """

    energy_j: Floats
    low_j: Floats
    high_j: Floats
    machine_s: Floats
    alone: npt.NDArray[np.bool_]


def apportion(
    moved: Updates, idle: Baseline, spans: Spans, *, disagreement: float = 0.0
) -> tuple[Shares, Ledger]:
    """Share the energy of a device among calls, once all of them are known.

    Args:
        moved: the updates of its counter, from the run's first to its last.
        idle: what it draws when nothing is asked.
        spans: when calls were active; those of one call do not overlap.
        disagreement: |counter − integral of power| over the counter's energy.
    """
    begin, end, rate = spans.begin_s, spans.end_s, spans.rate
    ledger = Ledger(idle, float(moved.at_s[0]))
    calls = _extents(spans)
    ledger.close(moved, spans, calls)
    energy = np.maximum(ledger.energy_j(begin, end, rate), 0.0)
    machine_s = _machine_s(spans)
    half = half_width(
        energy,
        ledger.begin_w(begin, rate) + ledger.end_w(end, rate),
        noise_j(idle, machine_s, end - begin),
        period_s=idle.period_s,
        disagreement=disagreement,
    )
    alone = ledger.alone(calls.begin_s, calls.end_s)[np.searchsorted(calls.call, spans.call)]
    low = np.maximum(energy - half, 0.0)
    return Shares(energy, low, energy + half, machine_s, alone), ledger


def _extents(spans: Spans) -> Spans:
    """Return one row per call, from its first start to its last end, ordered by call number."""
    call, place = np.unique(spans.call, return_inverse=True)
    begin, end = np.full(call.size, np.inf), np.full(call.size, -np.inf)
    np.minimum.at(begin, place, spans.begin_s)
    np.maximum.at(end, place, spans.end_s)
    return Spans(call, begin, end, np.ones(call.size))


def _machine_s(spans: Spans) -> Floats:
    """Return each span's share of the time, as `Occupancy` does, (n,)."""
    if not spans.begin_s.size:
        return np.zeros(0)
    at = np.concatenate((spans.begin_s, spans.end_s))
    order = np.argsort(at, kind="stable")
    n = spans.begin_s.size
    active = np.cumsum(np.where(order < n, 1, -1))[:-1]
    at = at[order]
    gains = np.divide(np.diff(at), active, out=np.zeros(at.size - 1), where=active > 0)
    curve = np.concatenate(([0.0], np.cumsum(gains)))
    share: Floats = np.interp(spans.end_s, at, curve) - np.interp(spans.begin_s, at, curve)
    return share
