"""Sample sizes: the items, trials or repeats needed to detect a difference.

A difference δ of paired means is detected with probability `power` by a two-sided test at α if its
variance is (δ / z)², with z = z₁₋α⸝₂ + z_power: a normal approximation. With `t` it is Student's
test, whose variance is estimated, and about one repeat or two items more are needed.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

POWER = 0.8  # the probability of detection that plans aim at


def required_z(alpha: float, power: float, df: float = math.inf) -> float:
    """Return z₁₋α⸝₂ + z_power: the number of standard errors that a difference must have.

    With finite `df` it is that of a t test: the λ at which noncentral t exceeds t₁₋α⸝₂ with
    probability `power`. The opposite tail is neglected.
    """
    if not math.isinf(df):
        from scipy import special

        return float(special.nctdtrinc(df, 1 - power, special.stdtrit(df, 1 - alpha / 2)))
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)


def items(
    variance: float, difference: float, alpha: float, power: float, *, t: bool = False
) -> float:
    """Items for a paired comparison: n = z² (ω² + σ_A² / K_A + σ_B² / K_B) / δ².

    Miller 2024, arXiv 2411.00640 (sample size); `variance` is the sum in parentheses. By `t`
    with n − 1 degrees of freedom, and at least 2.
    """
    if t:
        one = variance / difference**2
        return _solved(lambda n: one * required_z(alpha, power, n - 1) ** 2)
    return (required_z(alpha, power) / difference) ** 2 * variance


def detectable(variance: float, n: float, alpha: float, power: float, *, t: bool = False) -> float:
    """Return the smallest difference that n items detect; the inverse of `items`."""
    return required_z(alpha, power, n - 1 if t else math.inf) * float(np.sqrt(variance / n))


def trials(
    between: float,
    within: float,
    n: float,
    difference: float,
    test: tuple[float, float],
    *,
    t: bool = False,
) -> float:
    """Trials K of each of n items, so that z² (ω² + σ² / K) / n = δ²; NaN where none suffices.

    Args:
        between: ω², the variance over items of the true difference.
        within: σ² = σ_A² + σ_B², the variances of one trial.
        n: the number of items.
        difference: δ.
        test: α of the two-sided test, and the chance to see δ.
        t: whether it is a t test.
    """
    room = n * (difference / required_z(*test, n - 1 if t else math.inf)) ** 2 - between
    return within / room if room > 0 else float("nan")


def repeats(
    variance: float, difference: float, alpha: float, power: float, *, t: bool = False
) -> float:
    """Repeats per group of one fixed set of items: n = z² (s_A² + s_B²) / δ².

    With equal s it is 2 (z s / δ)² (Bjarnason et al. 2026, arXiv 2602.07150, app. A).

    Args:
        variance: s_A² + s_B², variances of the whole set's mean from repeat to repeat.
        difference: δ.
        alpha: of the two-sided test.
        power: chance to see δ.
        t: a t test of two groups of one variance, with 2 n − 2 degrees of freedom; at least 2.
    """
    if t:
        one = variance / difference**2
        return _solved(lambda n: one * required_z(alpha, power, 2 * n - 2) ** 2)
    return (required_z(alpha, power) / difference) ** 2 * variance


def _solved(needed: Callable[[float], float]) -> float:
    """Solve n = needed(n) for n ≥ 2; `needed` falls as n rises."""
    from scipy import optimize

    first = needed(2.0)
    return 2.0 if first <= 2 else float(optimize.brentq(lambda n: n - needed(n), 2.0, first))


def items_to_settle(
    half: float, difference: float, n: float, level: float = 0.95, power: float = POWER
) -> float:
    """Estimate the items at which an interval excludes the neutral value with probability `power`.

    n ((z₁₋α⸝₂ + z_power) / z₁₋α⸝₂)² (half / difference)², for an interval whose width falls as 1 /
    √n: Miller's sample size with the variance that the interval shows, n (half / z₁₋α⸝₂)². At a
    power of one half it would just touch. The observed difference is taken for the true one.

    Args:
        half: the interval's half width, on the side of the neutral value.
        difference: how far the estimate is from the neutral value.
        n: the items behind the interval.
        level: its nominal coverage, two-sided.
        power: the chance wanted.
    """
    if not difference:
        return math.inf
    touching = NormalDist().inv_cdf((1 + level) / 2)
    return n * (required_z(1 - level, power) / touching * half / difference) ** 2


def difference_half_width(half_a: float, half_b: float) -> float:
    """Half width of the interval of a difference of independent figures: √(h_a² + h_b²).

    Each half width is that on the side of the other figure (MOVER; Zou & Donner 2008, Stat. Med.
    27:1693). Figures of the same items are mostly positively correlated, and then the interval of
    their difference is narrower.
    """
    return math.hypot(half_a, half_b)
