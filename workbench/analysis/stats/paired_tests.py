"""Paired tests of a difference: exact McNemar, sign-flip permutation, and Holm's adjustment."""

import math

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_EXACT = 16  # clusters that differ: up to 65,536 sign patterns are listed


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test of two discordant counts; 1 where there are none.

    2 · min(½, P(X ≤ min(b, c))), X binomial(b + c, ½) (McNemar 1947, exact form).
    """
    n = only_a + only_b
    k = min(only_a, only_b)
    if n == 0:
        return 1.0
    from scipy import special

    return float(2 * min(0.5, special.bdtr(k, n, 0.5)))


def sign_flip(differences: Floats, resamples: int, rng: np.random.Generator) -> tuple[float, bool]:
    """Two-sided sign-flip permutation test of a zero sum (Fisher 1935).

    Args:
        differences: (n_clusters,) summed differences; under the null each sign is a coin toss.
        resamples: patterns drawn where there are too many to list.
        rng: the source of randomness.

    Returns:
        The p-value and whether it is exact. Drawn patterns give (1 + extreme) / (1 + drawn), which
        is never 0 (Phipson & Smyth 2010).
    """
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0, True
    # A pattern that ties with the data in exact arithmetic must count, whatever the rounding.
    observed = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    if len(moved) <= _EXACT:
        bits = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        sums = (2.0 * bits - 1.0) @ moved
        return float((np.abs(sums) >= observed).mean()), True
    extreme = 0
    done = 0
    while done < resamples:
        size = min(resamples - done, max(1, 4_000_000 // len(moved)))
        signs = rng.integers(0, 2, (size, len(moved)), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ moved
        extreme += int((np.abs(sums) >= observed).sum())
        done += size
    return (1 + extreme) / (1 + resamples), False


def clusters_needed(alpha: float, n_tests: int = 1) -> int:
    """Count the clusters from which an exact test of signs can reject at all.

    The least two-sided p of C clusters that all differ in one direction is 2^(1 − C); the least of
    n_tests is multiplied by their number (Holm 1979).
    """
    return math.floor(1 + math.log2(n_tests / alpha) + 1e-9) + 1


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjust p-values for several comparisons (Holm 1979): step down, monotone, at most 1."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * (len(p) - np.arange(len(p)))
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return out
