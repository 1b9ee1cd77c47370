"""How many items, trials or repeats it takes to see a difference; normal approximation throughout.

A difference δ of paired means is seen with chance `power` by a two-sided test at α if its variance
is (δ / z)², with z = z₁₋α⸝₂ + z_power. With t in place of the normal distribution about one item or
repeat more is needed.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def reach(alpha: float, power: float) -> float:
    """Give z₁₋α⸝₂ + z_power: how many standard errors a difference must have."""
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)


def items(variance: float, difference: float, alpha: float, power: float) -> float:
    """Items for a paired comparison: n = z² (ω² + σ_A² / K_A + σ_B² / K_B) / δ².

    Miller 2024, arXiv 2411.00640 (sample size); `variance` is the sum in parentheses.
    """
    return (reach(alpha, power) / difference) ** 2 * variance


def detectable(variance: float, n: float, alpha: float, power: float) -> float:
    """The smallest difference that n items show; the inverse of `items`."""
    return reach(alpha, power) * float(np.sqrt(variance / n))


def trials(
    between: float, within: float, n: float, difference: float, test: tuple[float, float]
) -> float:
    """Trials K of each of n items, so that z² (ω² + σ² / K) / n = δ²; NaN where none suffices.

    Args:
        between: ω², the variance over items of the true difference.
        within: σ² = σ_A² + σ_B², the variances of one trial.
        n: the number of items.
        difference: δ.
        test: α of the two-sided test, and the chance to see δ.
    """
    room = n * (difference / reach(*test)) ** 2 - between
    return within / room if room > 0 else float("nan")


def repeats(variance: float, difference: float, alpha: float, power: float) -> float:
    """Repeats per group of one fixed set of items: n = z² (s_A² + s_B²) / δ².

    With equal s it is 2 (z s / δ)² (Bjarnason et al. 2026, arXiv 2602.07150, app. A).

    Args:
        variance: s_A² + s_B², variances of the whole set's mean from repeat to repeat.
        difference: δ.
        alpha: of the two-sided test.
        power: chance to see δ.
    """
    return (reach(alpha, power) / difference) ** 2 * variance


def to_settle(value: float, low: float, high: float, n: float) -> float:
    """How many items it takes until an interval around `value` no longer holds 0, all else alike.

    A percentile or t interval shrinks as 1 / √n: n · (the end beyond 0, away from the value, over the
    value)². A rough figure: the value itself may move.
    """
    far = value - low if value > 0 else high - value
    return n * (far / value) ** 2 if value else float("inf")
