"""Ratios of sums over clustered rows, with intervals."""

from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats, Ints

AMOUNT = (0.0, np.inf)  # bounds of counts and measured amounts


def ratio(
    top: Floats,
    bottom: Floats,
    codes: Ints,
    level: float,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float, float]:
    """Estimate Σ top / Σ bottom with the interval of its linearisation, t · SE clustered.

    The interval of amounts (`bounds` = `AMOUNT`) is corrected for skewness.
    With `bottom` of ones it is a mean. SE = √(C / (C − 1) Σ_c (Σ_{i∈c} (top − R · bottom))²) / Σ
    bottom (Cochran 1977, Sampling Techniques, §6.3), one degree of freedom fewer than clusters.

    Args:
        top: (n,) finite.
        bottom: (n,) finite.
        codes: (n,) the number of each row's cluster.
        level: nominal coverage.
        bounds: the limits of the interval.

    Returns:
        Ratio, low and high; NaN where the bottom adds up to 0, ends also below two clusters or
        where all rows have the same ratio, which gives no estimate of the spread.
    """
    nan = float("nan")
    whole = float(bottom.sum())
    if not whole > 0:
        return nan, nan, nan
    value = float(top.sum()) / whole
    sums = np.bincount(numbered(codes), weights=top - value * bottom)
    se = float(intervals.clustered_se(sums[:, None], [whole], [len(sums)])[0])
    if len(sums) < 2 or se <= 1e-12 * max(abs(value), 1e-300):
        return value, nan, nan
    if bounds == AMOUNT:
        ends = intervals.skewed(value, se, intervals.bend(sums), len(sums), level)
    else:
        ends = intervals.student(value, se, len(sums), level)
    low, high = (float(x) for x in ends)
    return value, max(low, bounds[0]), min(high, bounds[1])


def mean(
    values: Floats, codes: Ints, level: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float, float]:
    """Average the known values, (n,), NaN where unknown; the interval as in `ratio`."""
    known = ~np.isnan(values)
    return ratio(values[known], np.ones(int(known.sum())), codes[known], level, bounds)


def share(values: Floats, codes: Ints, level: float) -> tuple[float, float, float]:
    """Average known values between 0 and 1, (n,); the interval of `intervals.clustered_share`.

    Unlike that of `mean` it has ends at rates of 0 and 1; NaN below two clusters.
    """
    known = ~np.isnan(values)
    nan = float("nan")
    if not known.any():
        return nan, nan, nan
    x = values[known]
    rate = float(x.mean())
    sums = np.bincount(numbered(codes[known]), weights=x - rate)
    if len(sums) < 2:
        return rate, nan, nan
    se = intervals.clustered_se(sums[:, None], [len(x)], [len(sums)])
    low, high = intervals.clustered_share([rate], se, [len(sums)], level)
    return rate, float(low[0]), float(high[0])


def numbered(codes: npt.NDArray[np.integer[Any]]) -> Ints:
    """Number codes from 0 without a gap, (n,), in their order; their range must be small."""
    if not len(codes):
        return codes.astype(np.int64)
    places = codes - codes.min()
    seen = np.zeros(int(places.max()) + 1, bool)
    seen[places] = True
    return np.asarray((np.cumsum(seen) - 1)[places])


def figures(name: str, estimate: tuple[float, float, float]) -> dict[str, Any]:
    """Make the three cells of a figure: `name`, `name_low`, `name_high`; null where unknown."""
    cells = zip(("", "_low", "_high"), estimate, strict=True)
    return {f"{name}{end}": None if np.isnan(v) else float(v) for end, v in cells}
