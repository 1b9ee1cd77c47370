"""Bradley–Terry strengths from pairwise wins: P(i beats j) = 1 / (1 + exp(θ_j − θ_i)).

Source: Bradley & Terry 1952, Biometrika 39:324.
"""

import numpy as np

from workbench.analysis.stats.arrays import Floats

_MAX_STEPS = 10_000
_TOLERANCE = 1e-11


def connected(wins: Floats) -> bool:
    """Whether a chain of wins leads from each group to every other.

    If not, the likelihood has no maximum: some strength would be infinite (Ford 1957).
    """
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins).bit_length()):
        reach = (reach.astype(float) @ reach.astype(float)) > 0
    return bool(reach.all())


def strengths(wins: Floats) -> Floats:
    """Fit θ by maximum likelihood, of mean 0; ties are entered as half a win for each.

    Newton's method with the steps of the concave log likelihood halved until it rises.

    Args:
        wins: (n, n) how often i beat j, 0 on the diagonal; `connected`.
    """
    n = len(wins)
    theta = np.zeros(n)
    for _ in range(_MAX_STEPS):
        gradient, information = derivatives(wins, theta)
        step = np.linalg.solve(information + np.ones((n, n)), gradient)
        while _likelihood(wins, theta + step) < _likelihood(wins, theta) - 1e-12:
            step = step / 2
        theta = theta + step
        if np.abs(step).max() < _TOLERANCE:
            break
    return np.asarray(theta - theta.mean())


def derivatives(wins: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Return the gradient, (n,), and Fisher's information, (n, n), of the log likelihood."""
    games = wins + wins.T
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    weight = games * p * (1 - p)
    gradient = (wins - games * p).sum(axis=1)
    return gradient, np.diag(weight.sum(axis=1)) - weight


def _likelihood(wins: Floats, theta: Floats) -> float:
    return -float((wins * np.logaddexp(0.0, theta[None, :] - theta[:, None])).sum())
