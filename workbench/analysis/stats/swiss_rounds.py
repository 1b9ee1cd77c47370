"""Swiss rounds by simulation: pairs within equal scores, a benchmark a round, the last eliminated at random."""

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_CHUNK = 20_000  # tournaments played at once


def play(
    scores: Floats, eliminated: int, times: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Play tournaments and average the points.

    In each round, one benchmark, everyone still in meets a random other of the same points; the
    higher score gets a point, equal scores half each, who is left over gets none. After every round
    but the last, `eliminated` of those with the fewest points leave, drawn at random, as far as
    there are so many and one stays in; what they won they keep.

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
    points, firsts = np.zeros((m, players)), np.zeros((m, players))
    sets = np.repeat(np.arange(m), times)
    for start in range(0, len(sets), _CHUNK):
        which = sets[start : start + _CHUNK]
        found = _tournaments(scores[which], eliminated, rounds, rng)
        best = found >= found.max(axis=1, keepdims=True) - 1e-9
        np.add.at(points, which, found)
        np.add.at(firsts, which, best / best.sum(axis=1, keepdims=True))
    return points / times, firsts / times


def _tournaments(scores: Floats, eliminated: int, rounds: int, rng: np.random.Generator) -> Floats:
    n, players, _ = scores.shape
    points = np.zeros((n, players))
    active = np.ones((n, players), bool)
    place = np.arange(players)
    for k in range(rounds):
        standing = np.where(active, points, -1.0)
        # Points are halves: what is added below ½ only shuffles equal ones.
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
        won = np.where(np.abs(own - other) < 1e-12, 0.5, own > other)
        gained = np.zeros((n, players))
        np.put_along_axis(gained, order, np.where(inside & (sorted_ >= 0), won, 0.0), axis=1)
        points += gained
        if k < rounds - 1 and eliminated:
            active &= ~_leave(np.where(active, points, np.inf), eliminated, rng)
    return points


def _leave(standing: Floats, eliminated: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw who leaves: of those with the fewest points, as many as asked, and never the last one."""
    lowest = standing == standing.min(axis=1, keepdims=True)
    others = np.isfinite(standing).sum(axis=1) - lowest.sum(axis=1)
    most = np.minimum(eliminated, lowest.sum(axis=1) - (others == 0))
    drawn = np.where(lowest, rng.random(standing.shape), 2.0)
    rank = np.argsort(np.argsort(drawn, axis=1), axis=1)
    return np.asarray(lowest & (rank < most[:, None]))
