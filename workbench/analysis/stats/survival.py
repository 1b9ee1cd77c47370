"""Survival analysis of censored lengths: Kaplan–Meier estimate and Gamma distribution."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Bools, Floats, Ints

_Loss = Callable[[Floats], float]
_COARSE_CLASSES = 40  # of censored lengths, for a first fit
_FINE_CLASSES = 200  # for the final fit
_MOST_COUNTED = 10_000_000  # up to this length whole numbers are counted, not sorted


class Steps(NamedTuple):
    """A product-limit estimate: at each observed length, the share of lengths up to it."""

    at: Floats
    share: Floats

    def quantile(self, p: float) -> float:
        """Return the least length that a share of p does not exceed; NaN if censored before."""
        place = int(np.searchsorted(self.share, p - 1e-12))
        return float(self.at[place]) if place < len(self.at) else float("nan")


class LengthSample(NamedTuple):
    """A sample of lengths.

    Attributes:
        at: (m,) the distinct lengths, rising.
        place: (n,) the index of each observation's length in `at`.
        ended, cut: (m,) how many ended at that length, and how many were censored there.
    """

    at: Floats
    place: Ints
    ended: Floats
    cut: Floats

    @property
    def risk(self) -> Floats:
        """Number at risk just before each length, (m,)."""
        at_risk: Floats = (self.ended + self.cut)[::-1].cumsum()[::-1]
        return at_risk

    def steps(self) -> Steps:
        """Estimate the distribution; see `product_limit`."""
        share = (1 - np.cumprod(1 - self.ended / self.risk)).astype(float)
        return Steps(self.at[self.ended > 0], share[self.ended > 0])


def count_lengths(lengths: Floats, cut: Bools) -> LengthSample:
    """Count the distinct lengths of a sample."""
    at, place = _distinct(lengths)
    everyone = np.bincount(place, minlength=len(at)).astype(float)
    ended = np.bincount(place, weights=~cut, minlength=len(at)).astype(float)
    return LengthSample(at, place, ended, everyone - ended)


def _distinct(lengths: Floats) -> tuple[Floats, Ints]:
    """List distinct lengths, and the index of each observation; whole numbers need no sorting."""
    if len(lengths) and lengths.min() >= 0 and lengths.max() < _MOST_COUNTED:
        whole = lengths.astype(np.int64)
        if (whole == lengths).all():
            here = np.bincount(whole) > 0
            return np.flatnonzero(here).astype(float), (np.cumsum(here) - 1)[whole]
    at, place = np.unique(lengths, return_inverse=True)
    return at.astype(float), place


def product_limit(lengths: Floats, cut: Bools) -> Steps:
    """Estimate the distribution of right-censored lengths (Kaplan–Meier).

    F(t) = 1 − Π (1 − d/r) over the lengths up to t that ended, d of r (Kaplan & Meier 1958, JASA
    53:457). Without censoring it is the share of lengths up to t.
    """
    return count_lengths(lengths, cut).steps()


def quantiles(
    sample: LengthSample,
    cut: Bools,
    clusters: Ints,
    probabilities: Sequence[float],
    level: float = 0.95,
) -> Floats:
    """Estimate quantiles of right-censored lengths, with intervals after Woodruff (1952).

    The standard error of F at the quantile comes from its influence function, summed within
    clusters (as Greenwood's where each stands alone; Williams 1995, Stat. Med. 14:1439); the
    quantiles at p ± t · SE are the ends.

    Args:
        sample: the lengths.
        cut: (n,) which were cut.
        clusters: (n,) the cluster of each, 0 or more.
        probabilities: of the quantiles, 0..1.
        level: nominal coverage.

    Returns:
        (len(probabilities), 3): quantile, low, high; NaN if censored before, and ends below two
        clusters.
    """
    out = np.full((len(probabilities), 3), np.nan)
    if len(cut) == 0:
        return out
    steps = sample.steps()
    n_clusters = int((np.bincount(clusters) > 0).sum())
    for row, p in zip(out, probabilities, strict=True):
        row[0] = steps.quantile(p)
        if n_clusters < 2 or np.isnan(row[0]):
            continue
        sums = np.bincount(clusters, weights=_influence(sample, cut, row[0]))
        se = intervals.clustered_se(sums[:, None], [len(cut)], [n_clusters])
        low, high = intervals.student([p], se, [n_clusters], level)
        row[1] = steps.quantile(low[0]) if low[0] > 0 else np.nan
        row[2] = steps.quantile(high[0]) if high[0] <= 1 else np.nan
    return out


def _influence(sample: LengthSample, cut: Bools, t: float) -> Floats:
    """Influence of each observation on the share of lengths up to t, times n."""
    ended = sample.ended
    risk = sample.risk
    n = len(cut)
    upto = sample.at <= t
    survive = float(np.prod(1 - ended[upto] / risk[upto]))
    if survive <= 0:
        return np.zeros(n)
    # The compensator up to min(own length, t); d / (r (r − d)) makes the sum exact for ties.
    steps = np.where(upto, ended / np.maximum(risk * (risk - ended), 1), 0.0).cumsum()
    gone = np.where(upto, n / np.maximum(risk - ended, 1), 0.0)
    # Per length, of those that were cut there and of those that ended.
    moved = survive * np.stack([-n * steps, gone - n * steps])
    result: Floats = moved[(~cut).astype(np.int64), sample.place]
    return result


class Gamma(NamedTuple):
    """A fitted Gamma distribution, and how far it is from the product-limit estimate."""

    shape: float
    scale: float
    distance: float

    @property
    def mean(self) -> float:
        """Shape times scale."""
        return self.shape * self.scale


def gamma(sample: LengthSample) -> Gamma | None:
    """Fit a Gamma distribution by maximum likelihood; lengths of 0 are no part of it.

    An ended length adds its log density, a censored one the log of the upper tail. Many censored
    lengths are joined in classes of neighbours, each as two lengths with the first three moments of
    the class (Gauss). `distance` is the largest gap between the fitted and the product-limit
    distribution. None below three distinct lengths that ended, or where no finite shape fits.
    """
    from scipy import special

    x, ended, cut = (v[sample.at > 0] for v in (sample.at, sample.ended, sample.cut))
    if (ended > 0).sum() < 3:
        return None
    n = (ended + cut).sum()
    unit = float(x @ (ended + cut) / n)
    y = x / unit
    # Ended lengths enter by three sums; censored ones each by their length.
    sums = float(ended.sum()), float(ended @ np.log(y)), float(ended @ y)
    censored = y[cut > 0]
    times = cut[cut > 0]
    variance = float((ended + cut) @ (y - 1) ** 2 / n)
    start = np.log([1 / variance, variance])
    exact = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    if len(censored) > 2 * _COARSE_CLASSES:
        optimum = _minimise(
            _loss(sums, *_classes(censored, times, _COARSE_CLASSES), n),
            start,
            {**exact, "xatol": 1e-6, "fatol": 1e-12},
        )
        start = optimum.x
        nearby = 1e-5 * np.array([[0, 0], [1, 0], [0, 1]])
        exact["initial_simplex"] = optimum.x + nearby
    optimum = _minimise(_loss(sums, *_classes(censored, times, _FINE_CLASSES), n), start, exact)
    shape, scale = np.exp(optimum.x)
    if not optimum.success or not shape < 1e5:
        return None
    steps = LengthSample(x, sample.place, ended, cut).steps()
    fitted = special.gammainc(shape, steps.at / unit / scale)
    before = np.concatenate([[0.0], steps.share[:-1]])
    distance = np.maximum(np.abs(fitted - steps.share), np.abs(fitted - before)).max()
    return Gamma(float(shape), float(scale) * unit, float(distance))


def _loss(sums: tuple[float, float, float], later: Floats, times: Floats, n: float) -> _Loss:
    """Make the mean negative log-likelihood, a function of the logs of shape and scale.

    Args:
        sums: of the lengths that ended: how many, the sum of their logs, their sum.
        later: (m,) lengths that were cut.
        times: (m,) how often each occurs.
        n: all lengths.
    """
    from scipy import special

    n_ended, logs, total = sums

    def loss(point: Floats) -> float:
        shape, scale = np.exp(point)
        constant = special.gammaln(shape) + shape * point[1]
        density = (shape - 1) * logs - total / scale - n_ended * constant
        tail = times @ np.log(np.maximum(special.gammaincc(shape, later / scale), 1e-300))
        return float(-(density + tail) / n)

    return loss


def _classes(later: Floats, times: Floats, n_classes: int) -> tuple[Floats, Floats]:
    """Join neighbours of rising lengths; of each class two lengths, and how often each occurs.

    They have the number, mean, variance and skewness of the class, so that the sum over a smooth
    function errs by its fourth derivative alone.
    """
    if len(later) <= 2 * n_classes:
        return later, times
    begins = np.linspace(0, len(later), n_classes, endpoint=False).astype(np.int64)

    def total(values: Floats) -> Floats:
        return np.add.reduceat(values * times, begins)

    count = np.add.reduceat(times, begins)
    mean = total(later) / count
    away = later - np.repeat(mean, np.diff(np.append(begins, len(later))))
    variance = total(away**2) / count
    half = total(away**3) / count / variance / 2
    root = np.sqrt(half**2 + variance)
    below = half - root
    above = half + root
    share = count * above / (2 * root)
    return np.concatenate([mean + below, mean + above]), np.concatenate([share, count - share])


def _minimise(loss: _Loss, start: Floats, options: dict[str, Any]) -> Any:
    from scipy import optimize

    return optimize.minimize(loss, start, method="Nelder-Mead", options=options)
