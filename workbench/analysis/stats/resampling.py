"""Resampling by the bootstrap over clusters of items, paired over groups.

A resample is a vector of counts, how often each cluster was drawn, so that all sums of a resample
are one matrix product. Statistics are functions of sums; rows are never gathered. The random
generator is an argument; `analysis.run` makes it from the seed.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats, Ints

_MOST_BAGS = 4000  # more clusters than this are resampled in bags
_CHUNK_CELLS = 100_000  # counts in memory at once: they fit in the cache
# Of many clusters a cache holds the counts of few resamples, and a product of few rows mostly waits
# for memory and threads: then more rows, but no more than this many cells (32 MB).
_CHUNK_ROWS = 128
_MOST_CELLS = 4_000_000
# clusters from which counting each resample separately costs less than one long count
_ROW_BY_ROW = 1000
_ONE_THREAD = 200_000  # multiplications below which OpenBLAS does not share the work out
_ROWS = 64  # of such a product
_COLUMNS = 64


def bags(n_clusters: int, rng: np.random.Generator) -> Ints:
    """Put clusters into at most 4,000 bags at random, all of one size but for a smaller last one.

    Random bags are independent and identically distributed, as clusters are, so that resampled bags
    have the sums of resampled clusters: the same mean and, on average over ways to fill the bags,
    the same variance and skewness (random groups; Wolter 2007, Introduction to Variance Estimation,
    ch. 2). There are at least 2,000 of them, so that the random assignment changes a standard error
    by 1.6 % at most, as do 2,000 resamples: 1 / √(2 · 2,000).

    Args:
        n_clusters: how many clusters.
        rng: the source of randomness; not used where each cluster is its own bag.

    Returns:
        (n_clusters,) the bag of each cluster, from 0.
    """
    size = -(-n_clusters // _MOST_BAGS)
    if size == 1:
        return np.arange(n_clusters)
    return np.asarray(rng.permutation(n_clusters) // size, np.int64)


def resampled_sums(sums: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw clusters with replacement, many in `bags`, and add up their columns.

    Args:
        sums: (n_clusters, k) the contribution of each cluster to each of k sums; finite, at least
            one row.
        resamples: how many resamples.
        rng: the source of randomness.

    Returns:
        (resamples, k) sums.
    """
    if len(sums) > _MOST_BAGS:
        bag = bags(len(sums), rng)
        sums = np.column_stack([np.bincount(bag, column) for column in sums.T])
    n, k = sums.shape
    out = np.empty((resamples, k))
    chunk = max(_CHUNK_CELLS // n, min(_CHUNK_ROWS, _MOST_CELLS // n), 1)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        _multiply(_weights(size, n, rng), sums, out[start : start + size])
    return out


def _weights(size: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw n of n clusters with replacement, size times: how often each was drawn, (size, n)."""
    draws = rng.integers(0, n, (size, n), dtype=np.uint32)
    if n >= _ROW_BY_ROW:
        counts = np.empty((size, n))
        for count, row in zip(counts, draws, strict=True):
            count[:] = np.bincount(row, minlength=n)
        return counts
    placed = draws + np.arange(size, dtype=np.int64)[:, None] * n
    return np.bincount(placed.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _multiply(weights: Floats, sums: Floats, out: Floats) -> None:
    """Multiply in blocks small enough for the linear algebra library to stay on one thread.

    Waking its threads costs more than a small product, and very much more on a busy machine.
    """
    out[:] = 0.0
    for first in range(0, sums.shape[1], _COLUMNS):
        part = sums[:, first : first + _COLUMNS]
        target = out[:, first : first + _COLUMNS]
        depth = _ONE_THREAD // (min(_ROWS, len(weights)) * part.shape[1])
        for start in range(0, len(sums), depth):
            factor = part[start : start + depth]
            counts = weights[:, start : start + depth]
            for top in range(0, len(weights), _ROWS):
                target[top : top + _ROWS] += counts[top : top + _ROWS] @ factor


def left_out_sums(sums: Floats) -> Floats:
    """Return the sums without each cluster in turn (jackknife), (n_clusters, k)."""
    remainder: Floats = sums.sum(axis=0) - sums
    return remainder


def percentile(
    draws: Floats,
    level: float = 0.95,
    clusters: npt.ArrayLike | None = None,
    freedom: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Percentile interval (Efron 1979) down the first axis; undefined draws (NaN) are left out.

    With infinite draws the ends are order statistics, the lower one below and the upper above.

    Args:
        draws: (resamples, k) the statistic on resamples.
        level: nominal coverage.
        clusters: the number of clusters resampled, for all or (k,): the interval is then widened
            for a small number, see `tails`.
        freedom: degrees of freedom, where they are not clusters − 1.
    """
    tail = np.broadcast_to(tails(level, clusters, freedom), draws.shape[1:])
    low, high = np.empty((2, *draws.shape[1:]))
    for share in np.unique(tail):
        same = tail == share
        low[same], high[same] = _ends(draws if same.all() else draws[:, same], float(share))
    return low, high


def tails(
    level: float, clusters: npt.ArrayLike | None = None, freedom: npt.ArrayLike | None = None
) -> Floats:
    """Share of the distribution over resamples that an interval excludes on either side.

    Resampling n of n has a variance divided by n where n − 1 is due, and a normal instead of a t
    distribution. Φ(−√(n / (n − 1)) t), t the quantile with n − 1 degrees of freedom, corrects both:
    the expanded percentile interval (Hesterberg 2015, The American Statistician 69:371). Where
    strata of n each are resampled, `freedom` is their number times n − 1.

    Exactly (1 − level) / 2 where `clusters` is None or below two.
    """
    plain = (1 - level) / 2
    if clusters is None:
        return np.asarray(plain)
    from scipy import special

    n = np.maximum(np.asarray(clusters, float), 2.0)
    wide = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1 if freedom is None else freedom, 1 - plain)
    return np.where(np.asarray(clusters) > 1, special.ndtr(-wide), plain)


def _ends(draws: Floats, tail: float) -> tuple[Floats, Floats]:
    if np.isinf(draws).any():
        return _quantile(draws, tail, "lower"), _quantile(draws, 1 - tail, "higher")
    low, high = _quantile(draws, (tail, 1 - tail), "linear")
    return low, high


def _quantile(
    draws: Floats, q: float | tuple[float, float], method: Literal["linear", "lower", "higher"]
) -> Floats:
    missing = np.isnan(draws)
    if not missing.any():
        return np.asarray(np.quantile(draws, q, axis=0, method=method))
    columns = [draws[~missing[:, j], j] for j in range(draws.shape[1])]
    unknown = np.full(np.shape(q), np.nan)
    quantiles = [np.quantile(c, q, method=method) if len(c) else unknown for c in columns]
    return np.stack(quantiles, axis=-1)


def bca(
    estimate: Floats,
    draws: Floats,
    jackknife: Floats,
    level: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated interval (Efron 1987, JASA 82:171, eq. 2.3 and 6.6).

    Args:
        estimate: (k,) the statistic on the data.
        draws: (resamples, k) the statistic on resamples; undefined draws (NaN) are left out.
        jackknife: (n_clusters, k) the statistic without each cluster.
        level: nominal coverage.
        clusters: as in `percentile`.

    Where every draw or every jackknife value is the same, or something is infinite, the percentile
    interval is given.
    """
    from scipy import special

    low, high = percentile(draws, level, clusters)
    reach = special.ndtri(np.broadcast_to(tails(level, clusters), np.shape(estimate)))
    for j in range(len(estimate)):
        column = draws[:, j]
        without_one = jackknife[:, j]
        column = column[~np.isnan(column)]
        if (
            not (np.isfinite(column).all() and np.isfinite(without_one).all())
            or np.ptp(without_one) == 0
        ):
            continue
        below = ((column < estimate[j]).mean() + (column <= estimate[j]).mean()) / 2
        if not 0 < below < 1:
            continue
        bias = special.ndtri(below)
        away = without_one.mean() - without_one
        acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
        z = bias + np.array([reach[j], -reach[j]])
        low[j], high[j] = np.quantile(column, special.ndtr(bias + z / (1 - acceleration * z)))
    return low, high
