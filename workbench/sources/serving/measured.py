"""Measured requests and figures of serving benchmarks: values with units, gaps, shares of time.

Times are seconds in records; the formats have seconds, milliseconds or nanoseconds. A value that is
no finite number of at least 0 is unknown.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from workbench.records import Configuration, Result, Run, Task

_QUANTILES = {"gap_p50_s": 0.5, "gap_p90_s": 0.9, "gap_p99_s": 0.99}
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d+)?)")
_STATISTICS = {
    "mean": "mean",
    "avg": "mean",
    "median": "p50",
    "std": "sd",
    "std_dev": "sd",
    "min": "min",
    "max": "max",
}
LOWER = "lower"
HIGHER = "higher"
MAX_ERROR = 2_000  # characters of an error message; some have a traceback


class Figure(NamedTuple):
    """An aggregate that a benchmark states.

    Attributes:
        metric: name with its unit's suffix.
        value: in that unit; None is unknown.
        unit: the unit.
        direction: which values are better: higher or lower; None if neither.
        n: number of requests behind it.
    """

    metric: str
    value: float | None
    unit: str | None
    direction: str | None = None
    n: int | None = None


def number(value: object, scale: float = 1.0) -> float | None:
    """Return a finite number of at least 0 times a scale; None for all other values."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        scaled = float(value) * scale
    except OverflowError:
        return None
    return scaled if math.isfinite(scaled) and scaled >= 0 else None


def positive(value: object, scale: float = 1.0) -> float | None:
    """Return a finite number above 0 times a scale: tools write 0 for a time not measured."""
    return number(value, scale) or None


def count(value: object) -> int | None:
    """Return a whole number of at least 0 that the store can hold; None for all other values."""
    if number(value) is None or not isinstance(value, int | float):
        return None
    return int(value) if value < 2**62 and value == int(value) else None


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile of sorted values, linear between neighbours."""
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def gaps(values: Iterable[object], scale: float = 1.0) -> dict[str, Any]:
    """Return the columns of a call's gaps between chunks: three quantiles and the longest.

    Args:
        values: the gaps; unusable ones are left out.
        scale: seconds per unit of the values.
    """
    known = sorted(gap for gap in (number(value, scale) for value in values) if gap is not None)
    if not known:
        return {}
    quantiles = {name: quantile(known, q) for name, q in _QUANTILES.items()}
    return quantiles | {"gap_max_s": known[-1]}


def machine_shares(intervals: Sequence[tuple[float, float] | None]) -> list[float | None]:
    """Divide a machine's busy time among the requests that were active at once.

    The shares add up to the time in which at least one request was active.

    Args:
        intervals: (start, end) of each request in seconds; None if unknown.

    Returns:
        Seconds by request; None if its interval is unknown.
    """
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return [None] * len(intervals)
    events = sorted([(start, 1) for start, _ in known] + [(end, -1) for _, end in known])
    integral = {events[0][0]: 0.0}
    active = 0
    last = events[0][0]
    total = 0.0
    for at, change in events:
        total += (at - last) / active if active else 0.0
        integral[at] = total
        active += change
        last = at
    return [
        None if interval is None else integral[interval[1]] - integral[interval[0]]
        for interval in intervals
    ]


def statistic(name: str) -> str | None:
    """Return our name of a statistic: mean, sd, min, max, p50, p99; None if it is none of them."""
    match = _PERCENTILE.fullmatch(name)
    if match is None:
        return _STATISTICS.get(name)
    digits = match[1]
    # GuideLLM writes p999 for 99.9 and p001 for 0.1
    if "." not in digits and len(digits) == 3 and digits != "100":
        digits = f"{int(digits) / 10:g}"
    return f"p{float(digits):g}"


def statistics(
    metric: str,
    suffix: str,
    values: Mapping[str, Any],
    *,
    unit: str,
    scale: float = 1.0,
    direction: str | None = None,
) -> Iterator[Figure]:
    """Yield the figures of a distribution: its mean, standard deviation, extremes, percentiles.

    Args:
        metric: its name without the statistic, as ttft.
        suffix: the suffix of its unit, as s.
        values: by the tool's names of statistics; others are left out.
        unit: the unit of the figures.
        scale: units per unit of the values.
        direction: which values are better.
    """
    n = count(values.get("count"))
    for name, value in values.items():
        ours = statistic(name)
        scaled = number(value, scale)
        if ours is not None and scaled is not None:
            better = None if ours == "sd" else direction
            yield Figure(f"{metric}_{ours}_{suffix}", scaled, unit, better, n)


def results(
    figures: Iterable[Figure],
    ids: tuple[Run, Configuration, Task],
    metadata: str | None = None,
) -> Iterator[Result]:
    """Make results of figures; those that are unknown are left out."""
    run, configuration, task = ids
    for figure in figures:
        if figure.value is not None:
            yield Result(
                run_id=run.run_id,
                configuration_id=configuration.configuration_id,
                task_id=task.task_id,
                metric=figure.metric,
                value=figure.value,
                unit=figure.unit,
                n=figure.n,
                date=run.ended_at or run.started_at,
                direction=figure.direction,
                metadata=metadata,
            )


_KINDS = (
    ("timeout", re.compile(r"(?i)timed?[ _-]?out|\b(408|504)\b")),
    ("rate_limit", re.compile(r"(?i)too many requests|\b429\b")),
    ("cancelled", re.compile(r"(?i)cancel")),
    ("server_error", re.compile(r"(?i)server error|\b5\d\d\b|bad gateway|unavailable")),
    ("bad_request", re.compile(r"(?i)bad request|client error|\b4\d\d\b")),
    ("connection", re.compile(r"(?i)connect|broken pipe|reset by peer")),
)


def error(text: str) -> dict[str, Any]:
    """Return the columns of an error: a stable word for it, and its message.

    Of a traceback, the last line says what happened.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    is_traceback = bool(lines) and lines[0].startswith("Traceback (")
    message = lines[-1].strip() if is_traceback else text.strip()
    kind = next((name for name, pattern in _KINDS if pattern.search(message)), "error")
    return {"error_type": kind, "error_message": message[:MAX_ERROR] or kind}
