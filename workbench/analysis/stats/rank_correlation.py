"""Rank correlation (Kendall's τ-b) of two orders."""

import numpy as np

from workbench.analysis.stats.arrays import Floats


def tau_b(a: Floats, b: Floats) -> Floats:
    """Kendall's τ-b between a (k,) and each row of b (…, k); NaN where one of them is all tied."""
    i, j = np.triu_indices(a.shape[-1], 1)
    signs_a = np.sign(a[i] - a[j])
    signs_b = np.sign(b[..., i] - b[..., j])
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Floats = (signs_a * signs_b).sum(-1) / np.sqrt(
            (signs_a**2).sum() * (signs_b**2).sum(-1)
        )
    return tau
