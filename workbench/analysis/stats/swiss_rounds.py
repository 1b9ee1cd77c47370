"""Swiss rounds by simulation: a benchmark a round, pairs of equal points, random elimination."""

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_CHUNK = 20_000  # tournaments played at once


def play(
    scores: Floats, eliminated: int, times: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Play tournaments and average the points.

    In each round, one benchmark, every active player is paired with a random other of the same
    points; the higher score gets a point, equal scores half each, an unpaired player none. After
    every round but the last, `eliminated` of those with the fewest points, drawn at random, leave
    with their points, as far as there are so many and one player stays.

    Args:
        scores: (m, n_players, n_rounds): m sets of scores, in order of the rounds; none unknown.
        eliminated: how many leave after a round.
        times: tournaments per set.
        rng: the source of randomness.

    Returns:
        (m, n_players) mean points, and (m, n_players) share of tournaments with the most points,
        shared ones shared out.
    """
    m, players, rounds = scores.shape
    points = np.zeros((m, players))
    firsts = np.zeros((m, players))
    sets = np.repeat(np.arange(m), times)
    for start in range(0, len(sets), _CHUNK):
        which = sets[start : start + _CHUNK]
        tournament_points = _tournaments(scores[which], eliminated, rounds, rng)
        best = tournament_points >= tournament_points.max(axis=1, keepdims=True) - 1e-9
        np.add.at(points, which, tournament_points)
        np.add.at(firsts, which, best / best.sum(axis=1, keepdims=True))
    return points / times, firsts / times


def _tournaments(scores: Floats, eliminated: int, rounds: int, rng: np.random.Generator) -> Floats:
    n, players, _ = scores.shape
    points = np.zeros((n, players))
    active = np.ones((n, players), bool)
    place = np.arange(players)
    for k in range(rounds):
        standing = np.where(active, points, -1.0)
        # Points are multiples of ½: a random number below ½ only shuffles equal ones.
        order = np.argsort(-standing + 0.4 * rng.random((n, players)), axis=1)
        sorted_ = np.take_along_axis(standing, order, axis=1)
        begins = np.ones((n, players), bool)
        begins[:, 1:] = sorted_[:, 1:] != sorted_[:, :-1]
        first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        partner = first + ((place - first) ^ 1)
        inside = partner < players
        partner = np.minimum(partner, players - 1)
        inside &= np.take_along_axis(first, partner, axis=1) == first
        own = np.take_along_axis(scores[:, :, k], order, axis=1)
        other = np.take_along_axis(own, partner, axis=1)
        points_won = np.where(np.abs(own - other) < 1e-12, 0.5, own > other)
        gained = np.zeros((n, players))
        np.put_along_axis(gained, order, np.where(inside & (sorted_ >= 0), points_won, 0.0), axis=1)
        points += gained
        if k < rounds - 1 and eliminated:
            active &= ~_leave(np.where(active, points, np.inf), eliminated, rng)
    return points


def _leave(standing: Floats, eliminated: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw the players who leave, of those with the fewest points; the last one never leaves."""
    lowest = standing == standing.min(axis=1, keepdims=True)
    others = np.isfinite(standing).sum(axis=1) - lowest.sum(axis=1)
    most = np.minimum(eliminated, lowest.sum(axis=1) - (others == 0))
    ticket = np.where(lowest, rng.random(standing.shape), 2.0)
    rank = np.argsort(np.argsort(ticket, axis=1), axis=1)
    return np.asarray(lowest & (rank < most[:, None]))
