"""Unbiased estimators of pass@k and pass^k from n ≥ k recorded trials, without replacement."""

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_MOST_COUNTED = 2000  # up to this count, pairs of counts are tabulated instead of sorted
_MOST_SIZES = 25  # points of a curve


def pass_at_k(passed: npt.ArrayLike, n: npt.ArrayLike, k: int) -> Floats:
    """Chance that at least one of k trials passes: 1 − C(n − c, k) / C(n, k).

    Source: Chen et al. 2021, arXiv 2107.03374, eq. 1.

    Args:
        passed: (...) counts c of trials that passed, 0 ≤ c ≤ n.
        n: (...) counts of trials; NaN where nothing was tried.
        k: how many trials are drawn.

    Returns:
        (...) chances; NaN where there are fewer than k trials.
    """
    n = np.asarray(n, float)
    return 1.0 - all_marked(n - np.asarray(passed, float), n, k)


def pass_all_k(passed: npt.ArrayLike, n: npt.ArrayLike, k: int) -> Floats:
    """Chance that all of k trials pass, pass^k: C(c, k) / C(n, k).

    Source: Yao et al. 2024, arXiv 2406.12045. Arguments and result as in `pass_at_k`.
    """
    return all_marked(passed, n, k)


def all_marked(marked: npt.ArrayLike, n: npt.ArrayLike, k: int) -> Floats:
    """Chance that k draws from n trials are all among the marked ones: C(m, k) / C(n, k).

    `pass_at_k` and `pass_all_k` are computed from it.

    Args:
        marked: (...) counts of marked trials, 0 ≤ m ≤ n.
        n: (...) counts of trials; NaN where nothing was tried.
        k: how many are drawn.

    Returns:
        (...) chances; NaN where there are fewer than k trials.
    """
    m, size = np.broadcast_arrays(np.asarray(marked, float), np.asarray(n, float))
    enough = size >= k
    # The same few pairs of counts occur over and over: the product is taken once for each.
    pairs = np.stack([m[enough], size[enough]], axis=-1)
    distinct, place = _distinct(pairs)
    draws = np.arange(k)
    remaining = distinct[:, :1] - draws
    total = distinct[:, 1:] - draws
    chance = np.prod(np.maximum(remaining, 0.0) / total, axis=1)
    out = np.full(m.shape, np.nan)
    out[enough] = chance[place]
    return out


def _distinct(pairs: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """List distinct pairs of whole numbers, and for every row the place of its pair."""
    if not len(pairs):
        return np.empty((0, 2)), np.empty(0, np.intp)
    width = int(pairs.max()) + 1
    codes = (pairs[:, 0] * width + pairs[:, 1]).astype(np.int64)
    if width > _MOST_COUNTED:
        codes, place = np.unique(codes, return_inverse=True)
    else:
        here = np.zeros(width * width, bool)
        here[codes] = True
        codes, place = np.flatnonzero(here), (np.cumsum(here) - 1)[codes]
    return np.column_stack([codes // width, codes % width]).astype(float), place


def curve_sizes(most: int) -> list[int]:
    """The subset sizes of a curve: all up to 25, else 25 that are even in the logarithm."""
    if most <= _MOST_SIZES:
        return list(range(1, most + 1))
    return sorted({round(k) for k in np.geomspace(1, most, _MOST_SIZES).tolist()})
