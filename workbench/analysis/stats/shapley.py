"""Shapley values of the factors of a cost: shares of a difference between two bills."""

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np

from workbench.analysis.stats.arrays import Floats

Factors = Mapping[str, Floats]


def shapley(cost: Callable[[Factors], Floats], one: Factors, other: Factors) -> dict[str, Floats]:
    """Split cost(one) − cost(other) among the factors (Shapley 1953).

    Factors join one after the other: those in a coalition have the values of `one`, the rest those
    of `other`. A factor's part is what its joining changes, averaged over all orders; the parts add
    up to the difference. Every coalition is evaluated, 2^k of them.

    Args:
        cost: what the factors cost together.
        one: (n,) by factor.
        other: the same factors.
    """
    names = list(one)
    k = len(names)
    value_of = {
        frozenset(chosen): cost({f: one[f] if f in chosen else other[f] for f in names})
        for size in range(k + 1)
        for chosen in itertools.combinations(names, size)
    }
    parts = {}
    for name in names:
        rest = [c for c in value_of if name not in c]
        gains = (
            math.factorial(len(c))
            * math.factorial(k - len(c) - 1)
            / math.factorial(k)
            * (value_of[c | {name}] - value_of[c])
            for c in rest
        )
        parts[name] = np.asarray(sum(gains))
    return parts
