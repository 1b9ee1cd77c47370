"""Lengths that were cut off: the product-limit estimate and the Gamma distribution."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.analysis import intervals

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_Loss = Callable[[Floats], float]
_CLASSES = 500  # of lengths that were cut


class Steps(NamedTuple):
    """A product-limit estimate: at each observed length, the share of lengths up to it."""

    at: Floats
    share: Floats

    def quantile(self, p: float) -> float:
        """The least length that a share of p does not exceed; NaN where the cut came before."""
        place = int(np.searchsorted(self.share, p - 1e-12))
        return float(self.at[place]) if place < len(self.at) else float("nan")


def product_limit(lengths: Floats, cut: Bools) -> Steps:
    """Estimate the distribution of lengths of which some are only known to be longer.

    F(t) = 1 − Π (1 − d/r) over the lengths up to t that ended, d of r (Kaplan & Meier 1958, JASA
    53:457). Without cuts it is the share of lengths up to t.
    """
    at, ended, risk = _counts(lengths, cut)
    share = (1 - np.cumprod(1 - ended / risk)).astype(float)
    return Steps(at[ended > 0], share[ended > 0])


def _counts(lengths: Floats, cut: Bools) -> tuple[Floats, Floats, Floats]:
    """Distinct lengths, how many ended there, and how many were still going just before."""
    at, codes = np.unique(lengths, return_inverse=True)
    ended = np.bincount(codes, weights=~cut, minlength=len(at)).astype(float)
    everyone = np.bincount(codes, minlength=len(at))
    risk = everyone[::-1].cumsum()[::-1].astype(float)
    return at.astype(float), ended, risk


def quantiles(
    lengths: Floats, cut: Bools, clusters: Ints, wanted: Sequence[float], level: float = 0.95
) -> Floats:
    """Give quantiles of lengths of which some were cut, with intervals after Woodruff (1952).

    The standard error of F at the quantile comes from its influence function, summed within
    clusters (as Greenwood's where each stands alone; Williams 1995, Stat. Med. 14:1439); the
    quantiles at p ± t · SE are the ends.

    Returns:
        (len(wanted), 3): quantile, low, high; NaN where the cut came before, and ends below two
        clusters.
    """
    out = np.full((len(wanted), 3), np.nan)
    if len(lengths) == 0:
        return out
    steps = product_limit(lengths, cut)
    _, codes = np.unique(clusters, return_inverse=True)
    n_clusters = int(codes.max()) + 1
    for row, p in zip(out, wanted, strict=True):
        row[0] = steps.quantile(p)
        if n_clusters < 2 or np.isnan(row[0]):
            continue
        influence = _influence(lengths, cut, row[0])
        sums = np.bincount(codes, weights=influence, minlength=n_clusters)
        se = intervals.clustered_se(sums[:, None], [len(lengths)])
        low, high = intervals.student([p], se, [n_clusters], level)
        row[1] = steps.quantile(low[0]) if low[0] > 0 else np.nan
        row[2] = steps.quantile(high[0]) if high[0] <= 1 else np.nan
    return out


def _influence(lengths: Floats, cut: Bools, t: float) -> Floats:
    """How much each observation moves the share of lengths up to t, times n."""
    at, ended, risk = _counts(lengths, cut)
    n = len(lengths)
    upto = at <= t
    survive = float(np.prod(1 - ended[upto] / risk[upto]))
    if survive <= 0:
        return np.zeros(n)
    # The compensator up to min(own length, t); d / (r (r − d)) makes the sum exact for ties.
    steps = np.where(upto, ended / np.maximum(risk * (risk - ended), 1), 0.0).cumsum()
    codes = np.searchsorted(at, lengths)
    gone = (~cut & (lengths <= t)) * n / np.maximum(risk - ended, 1)[codes]
    result: Floats = survive * (gone - n * steps[codes])
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


def gamma(lengths: Floats, cut: Bools) -> Gamma | None:
    """Fit a Gamma distribution by maximum likelihood; lengths of 0 are no part of it.

    An ended length adds its log density, a cut one the log of the upper tail. `distance` is the
    largest gap between the fitted and the product-limit distribution. None below three distinct
    lengths that ended, or where no finite shape fits.
    """
    from scipy import special

    positive = lengths > 0
    x, gone = lengths[positive], ~cut[positive]
    if len(np.unique(x[gone])) < 3:
        return None
    unit = float(x.mean())
    y, n = x / unit, len(x)
    ended, (later, times) = y[gone], np.unique(y[~gone], return_counts=True)
    # Of what ended only three sums matter; of what was cut, each length.
    sums = len(ended), float(np.log(ended).sum()), float(ended.sum())
    variance = float(y.var())
    start = np.log([1 / variance, variance])
    exact = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    if len(later) > 2 * _CLASSES:
        # The tail of many lengths takes long: near the optimum by classes of them, then exactly.
        found = _least(
            _loss(sums, *_classes(later, times), n), start, {**exact, "xatol": 1e-6, "fatol": 1e-12}
        )
        start, exact["initial_simplex"] = (
            found.x,
            found.x + 1e-5 * np.array([[0, 0], [1, 0], [0, 1]]),
        )
    found = _least(_loss(sums, later, times, n), start, exact)
    shape, scale = np.exp(found.x)
    if not found.success or not shape < 1e5:
        return None
    steps = product_limit(x, ~gone)
    fitted = special.gammainc(shape, steps.at / unit / scale)
    before = np.concatenate([[0.0], steps.share[:-1]])
    distance = np.maximum(np.abs(fitted - steps.share), np.abs(fitted - before)).max()
    return Gamma(float(shape), float(scale) * unit, float(distance))


def _loss(sums: tuple[int, float, float], later: Floats, times: Ints, n: int) -> _Loss:
    """Make the mean negative log-likelihood, a function of the logs of shape and scale.

    Args:
        sums: of the lengths that ended: how many, the sum of their logs, their sum.
        later: (m,) distinct lengths that were cut, or means of classes of them.
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


def _classes(later: Floats, times: Ints) -> tuple[Floats, Ints]:
    """Join neighbours of rising lengths in classes: their means, and how many they are."""
    begins = np.linspace(0, len(later), _CLASSES, endpoint=False).astype(np.int64)
    count = np.add.reduceat(times, begins)
    return np.add.reduceat(later * times, begins) / count, count


def _least(loss: _Loss, start: Floats, options: dict[str, Any]) -> Any:
    from scipy import optimize

    return optimize.minimize(loss, start, method="Nelder-Mead", options=options)
