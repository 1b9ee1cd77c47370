"""Power laws with an asymptote, in one or two resources.

y = a − b · x^(−c), and y = a − b · x^(−c) − d · z^(−e).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.analysis.stats.arrays import Floats

_GRID = np.geomspace(0.01, 10.0, 61)  # exponents of the coarse search
_REFINEMENTS = 25  # reductions of the step around the best exponent


class Law(NamedTuple):
    """Fitted curves, one or many: each (m,), NaN where nothing could be fitted.

    Attributes:
        asymptote: a, what no amount of x exceeds.
        scale: b ≥ 0, what is missing at x = 1.
        exponent: c > 0.
        edge: whether c is an end of the range that was searched (0.01 to 10): at the lower end the
            curve rises as log x and no asymptote is in sight; at the upper end it is flat.
        rss: residual sum of squares.
    """

    asymptote: Floats
    scale: Floats
    exponent: Floats
    edge: npt.NDArray[np.bool_]
    rss: Floats

    def at(self, x: npt.ArrayLike) -> Floats:
        """Return y at x, broadcast against (m,)."""
        y: Floats = self.asymptote - self.scale * np.asarray(x, float) ** -self.exponent
        return y

    def needed(self, gap: float) -> Floats:
        """Return the x from which y is within `gap` of the asymptote; (m,)."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x: Floats = np.where(self.scale > 0, (self.scale / gap) ** (1 / self.exponent), 0.0)
        return x


def fit(x: Floats, y: Floats, ceiling: float = np.inf) -> Law:
    """Fit many curves by least squares, with equal weights of all points.

    For a given exponent the best a and b are linear (variable projection, Golub & Pereyra 1973), so
    that only the exponent is searched: on a grid, then by ever finer steps.

    Args:
        x: (m, n) positive; (n,) where all curves have the same.
        y: (m, n).
        ceiling: the largest asymptote allowed.

    Raises:
        ValueError: fewer than three points, or an x that is not above 0.
    """
    y = np.atleast_2d(np.asarray(y, float))
    x = np.broadcast_to(np.asarray(x, float), y.shape)
    if y.shape[1] < 3 or not (x > 0).all():
        raise ValueError("a power law needs three points with x above 0")
    # In units of the geometric mean the powers are near 1.
    unit = np.exp(np.log(x).mean(axis=1, keepdims=True))
    logs = np.log(x / unit)
    best = np.full(len(y), np.inf)
    exponent = np.full(len(y), np.nan)
    for c in _GRID:
        rss = _linear(logs, y, np.full(len(y), c), ceiling)[2]
        better = rss < best
        best, exponent = np.where(better, rss, best), np.where(better, c, exponent)
    step = float(np.log(_GRID[1] / _GRID[0]))
    for _ in range(_REFINEMENTS):
        step /= 1.6
        for sign in (-1.0, 1.0):
            tried = np.clip(exponent * np.exp(sign * step), _GRID[0], _GRID[-1])
            rss = _linear(logs, y, tried, ceiling)[2]
            better = rss < best
            best, exponent = np.where(better, rss, best), np.where(better, tried, exponent)
    asymptote, scale, rss = _linear(logs, y, exponent, ceiling)
    edge = (exponent <= _GRID[0] * 1.001) | (exponent >= _GRID[-1] / 1.001)
    return Law(asymptote, scale * unit[:, 0] ** exponent, exponent, edge, rss)


def _linear(
    logs: Floats, y: Floats, exponent: Floats, ceiling: float
) -> tuple[Floats, Floats, Floats]:
    """Solve for a ≤ ceiling and b ≥ 0 of y = a − b · exp(−c · log x), c given; return a, b, RSS."""
    z = np.exp(-exponent[:, None] * logs)
    mean_z = z.mean(axis=1)
    mean_y = y.mean(axis=1)
    spread = ((z - mean_z[:, None]) ** 2).sum(axis=1)
    product = ((z - mean_z[:, None]) * (y - mean_y[:, None])).sum(axis=1)
    scale = np.maximum(np.divide(-product, spread, out=np.zeros_like(product), where=spread > 0), 0)
    asymptote = mean_y + scale * mean_z
    over = asymptote > ceiling
    if over.any():
        capped = np.maximum((z * (ceiling - y)).sum(axis=1) / (z**2).sum(axis=1), 0.0)
        scale, asymptote = np.where(over, capped, scale), np.where(over, ceiling, asymptote)
    rss = ((y - asymptote[:, None] + scale[:, None] * z) ** 2).sum(axis=1)
    return asymptote, scale, rss


class Surface(NamedTuple):
    """A law in two resources: y = a − b · x^(−c) − d · z^(−e)."""

    asymptote: float
    scale: float
    exponent: float
    scale_2: float
    exponent_2: float
    rss: float

    def at(self, x: npt.ArrayLike, z: npt.ArrayLike) -> Floats:
        """Return y at (x, z)."""
        first = self.scale * np.asarray(x, float) ** -self.exponent
        return np.asarray(
            self.asymptote - first - self.scale_2 * np.asarray(z, float) ** -self.exponent_2
        )


_COARSE = np.geomspace(0.03, 4.0, 22)


def fit_two(x: Floats, z: Floats, y: Floats, ceiling: float = np.inf) -> Surface:
    """Fit y = a − b · x^(−c) − d · z^(−e), b and d ≥ 0, by least squares.

    After Hoffmann et al. 2022, arXiv 2203.15556, eq. 2.

    The exponents are searched on a grid that is refined around the best pair; a, b, d are then
    non-negative least squares.

    Args:
        x: (n,) above 0; five points or more.
        z: (n,) above 0, the second resource.
        y: (n,).
        ceiling: the largest asymptote allowed, finite where the search must be bounded.

    Raises:
        ValueError: fewer than five points, or a resource that is not above 0.
    """
    if len(y) < 5 or not ((x > 0).all() and (z > 0).all()):
        raise ValueError("a law in two resources needs five points with both above 0")
    units = float(np.exp(np.log(x).mean())), float(np.exp(np.log(z).mean()))
    logs = np.log(x / units[0]), np.log(z / units[1])
    c, e = min(
        ((c, e) for c in _COARSE for e in _COARSE), key=lambda p: _plane(logs, y, p, ceiling)[1]
    )
    step = float(np.log(_COARSE[1] / _COARSE[0]))
    best = _plane(logs, y, (c, e), ceiling)[1]
    for _ in range(30):
        step /= 1.5
        around = [
            (c * np.exp(i * step), e * np.exp(j * step)) for i in (-1, 0, 1) for j in (-1, 0, 1)
        ]
        nearby = min(around, key=lambda p: _plane(logs, y, p, ceiling)[1])
        rss = _plane(logs, y, nearby, ceiling)[1]
        if rss < best:
            (c, e), best = nearby, rss
    (a, b, d), rss = _plane(logs, y, (c, e), ceiling)
    return Surface(
        float(a), float(b * units[0] ** c), float(c), float(d * units[1] ** e), float(e), rss
    )


def _plane(
    logs: tuple[Floats, Floats], y: Floats, exponents: tuple[float, float], ceiling: float
) -> tuple[Floats, float]:
    """Solve for a ≤ ceiling, b ≥ 0, d ≥ 0 by trying each active set; also return the RSS."""
    powers = [np.exp(-c * log) for c, log in zip(exponents, logs, strict=True)]
    best = np.array([y.mean(), 0.0, 0.0])
    least = np.inf
    for use in ((0, 1), (0,), (1,), ()):
        columns = [-powers[k] for k in use]
        for capped in (False, True):
            if capped and not np.isfinite(ceiling):
                continue
            remainder = y - ceiling if capped else y
            design = columns if capped else [np.ones_like(y), *columns]
            if not design:
                solved = np.zeros(0)
                rss = float((remainder**2).sum())
            else:
                matrix = np.column_stack(design)
                solved = np.linalg.lstsq(matrix, remainder, rcond=None)[0]
                rss = float(((remainder - matrix @ solved) ** 2).sum())
            coefficients = np.zeros(3)
            coefficients[0] = ceiling if capped else solved[0]
            for place, k in enumerate(use):
                coefficients[1 + k] = solved[place + (0 if capped else 1)]
            if rss < least and coefficients[0] <= ceiling + 1e-12 and (coefficients[1:] >= 0).all():
                best = coefficients
                least = rss
    return best, least
