"""Strengths of groups and difficulties of items: logit P(right) = β_group − α_author − δ_item."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_STEPS, _CLOSE = 60, 1e-9
_ENOUGH = 2000  # items from which the spreads are learnt
_WIDE = 10.0  # sd of what is hardly held back: a difficulty common to all


class Fit(NamedTuple):
    """The most probable strengths and difficulties.

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

    Items are many and meet only groups and their own author: their part of the Hessian is diagonal and
    is eliminated (Schur complement), so that a step costs items × (groups + authors)².

    Args:
        n: (n_items, n_groups) trials; 0 where not tried.
        right: (n_items, n_groups) right ones.
        author: (n_items,) the number of each item's author, from 0.
        sds: prior standard deviations of strengths, authors and items.
        begin: a fit to begin from.
    """
    n_items, n_groups = n.shape
    n_authors = int(author.max()) + 1
    marks = np.zeros((n_items, n_authors))
    marks[np.arange(n_items), author] = 1.0
    held = np.concatenate([np.full(n_groups, sds[0] ** -2), np.full(n_authors, sds[1] ** -2)])

    def log_posterior(theta: Floats, delta: Floats) -> float:
        eta = theta[None, :n_groups] - theta[n_groups + author, None] - delta[:, None]
        likelihood = (right * eta - n * np.logaddexp(0, eta)).sum()
        return float(likelihood - (held * theta**2).sum() / 2 - ((delta / sds[2]) ** 2).sum() / 2)

    theta, delta = np.zeros(n_groups + n_authors), np.zeros(n_items)
    if begin is not None:
        theta, delta = np.concatenate([begin.strength, begin.author]), begin.item
    value = -np.inf
    step, drop = np.zeros_like(theta), np.zeros_like(delta)
    schur, diagonal = np.eye(len(theta)), np.ones(n_items)
    for _ in range(_STEPS):
        eta = theta[None, :n_groups] - theta[n_groups + author, None] - delta[:, None]
        p = 1 / (1 + np.exp(-eta))
        weight, residual = n * p * (1 - p), right - n * p
        of_item = weight.sum(axis=1)
        top = np.diag(weight.sum(axis=0))
        cross = -weight.T @ marks
        authors = marks.T @ (marks * of_item[:, None])
        globally = np.block([[top, cross], [cross.T, authors]]) + np.diag(held)
        diagonal = of_item + sds[2] ** -2
        mixed = np.hstack([-weight, marks * of_item[:, None]])  # (n_items, n_groups + n_authors)
        gradient = np.concatenate([residual.sum(axis=0), -(marks.T @ residual.sum(axis=1))]) - held * theta  # fmt: skip
        gradient_item = -residual.sum(axis=1) - delta / sds[2] ** 2
        schur = globally - mixed.T @ (mixed / diagonal[:, None])
        step = np.linalg.solve(schur, gradient - mixed.T @ (gradient_item / diagonal))
        drop = (gradient_item - mixed @ step) / diagonal
        scale = 1.0
        before = log_posterior(theta, delta)
        while scale > 1e-6:
            value = log_posterior(theta + scale * step, delta + scale * drop)
            if value >= before - 1e-12:
                break
            scale /= 2
        theta, delta = theta + scale * step, delta + scale * drop
        if max(np.abs(step).max(), np.abs(drop).max()) < _CLOSE:
            break
    inverse = np.linalg.inv(schur)[:n_groups, :n_groups]
    inverse = inverse - inverse.mean(axis=0)
    inverse = (inverse.T - inverse.mean(axis=1)).T
    priors = np.log(held).sum() / 2 - n_items * np.log(sds[2])
    evidence = value + priors - (np.linalg.slogdet(schur)[1] + np.log(diagonal).sum()) / 2
    shift = theta[:n_groups].mean()
    return Fit(
        theta[:n_groups] - shift, theta[n_groups:] - shift, delta, inverse,
        np.sqrt(1 / diagonal), float(evidence),
    )  # fmt: skip


def learn(n: Floats, right: Floats, author: Ints) -> tuple[Fit, tuple[float, float, float]]:
    """Fit with the prior standard deviations that make the data most probable (Laplace).

    Fewer than three authors tell no spread of theirs: then theirs is wide, 10. Each is kept
    between 0.05 and 10.
    """
    from scipy import optimize

    several = int(author.max()) >= 2

    def unpack(point: Floats) -> tuple[float, float, float]:
        sds = np.exp(np.clip(point, np.log(0.05), np.log(_WIDE)))
        return float(sds[0]), float(sds[2]) if several else _WIDE, float(sds[1])

    # Of very many items an even sample tells the spreads as well.
    some = np.unique(np.linspace(0, len(n) - 1, min(len(n), _ENOUGH)).astype(int))
    kept = n[some], right[some], np.unique(author[some], return_inverse=True)[1]
    last: list[Fit] = []

    def loss(point: Floats) -> float:
        last[:] = [fit(*kept, unpack(point), last[0] if last else None)]
        return -last[0].evidence

    found = optimize.minimize(
        loss, np.zeros(3 if several else 2), method="Nelder-Mead",
        options={"xatol": 0.02, "fatol": 1e-3, "maxiter": 80},
    )  # fmt: skip
    sds = unpack(found.x)
    return fit(n, right, author, sds), sds
