"""Rasch model with authors: logit P(right) = β_group − α_author − δ_item."""

from typing import NamedTuple

import numpy as np

from workbench.analysis.stats.arrays import Floats, Ints

_MAX_STEPS = 60
_TOLERANCE = 1e-9
_ENOUGH_ITEMS = 2000  # a sample of this size determines the prior standard deviations
_WIDE_SD = 10.0  # of a nearly flat prior, as for a difficulty common to all items


class Fit(NamedTuple):
    """Maximum a posteriori estimates of strengths and difficulties.

    Attributes:
        strength: (n_groups,) β, of mean 0.
        author: (n_authors,) α.
        item: (n_items,) δ.
        covariance: (n_groups, n_groups) of the strengths, mean taken out (Laplace).
        item_sd: (n_items,) standard errors of δ given the rest.
        evidence: log marginal likelihood (Laplace), up to a constant.
    """

    strength: Floats
    author: Floats
    item: Floats
    covariance: Floats
    item_sd: Floats
    evidence: float


def fit(
    n: Floats,
    right: Floats,
    author: Ints,
    sds: tuple[float, float, float],
    begin: Fit | None = None,
) -> Fit:
    """Find the maximum a posteriori under Gaussian priors, by Newton's method.

    Items are many and meet only groups and their own author: their part of the Hessian is diagonal
    and is eliminated (Schur complement), so that a step costs items × (groups + authors)².

    Args:
        n: (n_items, n_groups) trials; 0 where not tried.
        right: (n_items, n_groups) right ones.
        author: (n_items,) the number of each item's author, from 0.
        sds: prior standard deviations of strengths, authors and items.
        begin: a fit to begin from.
    """
    n_items, n_groups = n.shape
    n_authors = int(author.max()) + 1
    precision = np.concatenate([np.full(n_groups, sds[0] ** -2), np.full(n_authors, sds[1] ** -2)])
    theta = np.zeros(n_groups + n_authors)
    delta = np.zeros(n_items)
    if begin is not None:
        theta = np.concatenate([begin.strength, begin.author])
        delta = begin.item

    def evaluate(theta: Floats, delta: Floats) -> tuple[float, Floats, Floats]:
        """Return log posterior, residuals and weights at a point."""
        value, residual, weight = _likelihood(
            n, right, theta[None, :n_groups] - (theta[n_groups + author] + delta)[:, None]
        )
        prior = (precision * theta**2).sum() + ((delta / sds[2]) ** 2).sum()
        return value - float(prior) / 2, residual, weight

    value, residual, weight = evaluate(theta, delta)
    schur = np.eye(len(theta))
    diagonal = np.ones(n_items)
    for _ in range(_MAX_STEPS):
        schur, diagonal, step, drop = _newton(
            residual, weight, (theta, delta), author, (precision, sds[2] ** -2)
        )
        scale = 1.0
        before = value
        while True:
            at = theta + scale * step, delta + scale * drop
            value, residual, weight = evaluate(*at)
            # Near the top a step changes less than rounding does.
            if value >= before - 1e-12 * (1 + abs(before)) or scale < 1e-6:
                break
            scale /= 2
        theta, delta = at
        if max(np.abs(step).max(), np.abs(drop).max()) < _TOLERANCE:
            break
    inverse = np.linalg.inv(schur)[:n_groups, :n_groups]
    inverse = inverse - inverse.mean(axis=0)
    inverse = (inverse.T - inverse.mean(axis=1)).T
    priors = np.log(precision).sum() / 2 - n_items * np.log(sds[2])
    evidence = value + priors - (np.linalg.slogdet(schur)[1] + np.log(diagonal).sum()) / 2
    shift = theta[:n_groups].mean()
    return Fit(
        theta[:n_groups] - shift,
        theta[n_groups:] - shift,
        delta,
        inverse,
        np.sqrt(1 / diagonal),
        float(evidence),
    )


def _newton(
    residual: Floats,
    weight: Floats,
    at: tuple[Floats, Floats],
    author: Ints,
    precisions: tuple[Floats, float],
) -> tuple[Floats, Floats, Floats, Floats]:
    """Compute a Newton step: the Schur complement, the items' diagonal, and the two steps.

    Args:
        residual: right minus expected, (n_items, n_groups).
        weight: n p (1 − p), as many.
        at: strengths and authors, and items, as they are.
        author: (n_items,) the number of each item's author.
        precisions: prior precisions, which are added to the diagonal, for those two.
    """
    (theta, delta), (of_others, of_items) = at, precisions
    n_groups = weight.shape[1]
    n_authors = len(theta) - n_groups
    of_item = weight.sum(axis=1)
    diagonal = of_item + of_items
    # What is left of an item's rows of the Hessian once the item itself is eliminated.
    scaled_weight = weight / diagonal[:, None]
    schur = np.diag(np.concatenate([weight.sum(axis=0), np.zeros(n_authors)]) + of_others)
    schur[:n_groups, :n_groups] -= weight.T @ scaled_weight
    cross = _by_author(scaled_weight * of_items, author, n_authors)
    schur[n_groups:, :n_groups], schur[:n_groups, n_groups:] = -cross, -cross.T
    schur[n_groups:, n_groups:] += np.diag(cross.sum(axis=1))
    of_residual = residual.sum(axis=1)
    drop = (-of_residual - delta * of_items) / diagonal
    gradient = (
        np.concatenate(
            [
                residual.sum(axis=0) + drop @ weight,
                -np.bincount(author, of_residual + drop * of_item, n_authors),
            ]
        )
        - of_others * theta
    )
    step: Floats = np.linalg.solve(schur, gradient).astype(np.float64)
    drop += scaled_weight @ step[:n_groups] - of_item / diagonal * step[n_groups + author]
    return schur, diagonal, step, drop


def _likelihood(n: Floats, right: Floats, eta: Floats) -> tuple[float, Floats, Floats]:
    """Return log likelihood at log odds, right minus expected, and the weights n p (1 − p)."""
    small = np.exp(-np.abs(eta))
    chance = np.where(eta >= 0, 1.0, small) / (1 + small)
    value = float((right * eta - n * (np.maximum(eta, 0) + np.log(1 + small))).sum())
    expected = n * chance
    return value, right - expected, expected * (1 - chance)


def _by_author(values: Floats, author: Ints, n_authors: int) -> Floats:
    """Add up the items of each author: (n_items, k) → (n_authors, k)."""
    return np.stack([np.bincount(author, column, n_authors) for column in values.T], axis=1)


def learn(n: Floats, right: Floats, author: Ints) -> tuple[Fit, tuple[float, float, float]]:
    """Fit with the prior standard deviations that make the data most probable (Laplace).

    Fewer than three authors do not determine their standard deviation, which is then 10. Each is
    limited to 0.05 to 10.
    """
    from scipy import optimize

    several = int(author.max()) >= 2

    def unpack(point: Floats) -> tuple[float, float, float]:
        sds = np.exp(np.clip(point, np.log(0.05), np.log(_WIDE_SD)))
        return float(sds[0]), float(sds[2]) if several else _WIDE_SD, float(sds[1])

    # Of very many items an evenly spaced sample suffices for the standard deviations.
    some = np.unique(np.linspace(0, len(n) - 1, min(len(n), _ENOUGH_ITEMS)).astype(int))
    sample = n[some], right[some], np.unique(author[some], return_inverse=True)[1]
    last: list[Fit] = []

    def loss(point: Floats) -> float:
        last[:] = [fit(*sample, unpack(point), last[0] if last else None)]
        return -last[0].evidence

    optimum = optimize.minimize(
        loss,
        np.zeros(3 if several else 2),
        method="Nelder-Mead",
        options={"xatol": 0.02, "fatol": 1e-3, "maxiter": 80},
    )
    sds = unpack(optimum.x)
    return fit(n, right, author, sds), sds
