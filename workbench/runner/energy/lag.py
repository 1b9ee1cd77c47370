"""The lag of an energy counter behind the energy drawn, learnt during the run.

NVML's counter moves every 20 to 100 ms and is read 20 times a second: the energy of a call appears
up to one update and one reading later, perhaps after its end. So a call's energy is computed for
several delays, each weighted with the probability that the run so far gives it.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_DELAYS = 4  # closer together than two updates: a short call is not missed between two of them
_UNSURE = (
    0.1  # shared evenly among the delays whatever was learnt: a counter's lag is not quite constant
)
_CERTAIN = 1e-6  # of the energy left unexplained; less is rounding
_EVIDENCE = 0.25  # of an interval: neighbours answer for each other


class Lag:
    """Delays from when energy is drawn to when it is seen, and how probable each is.

    Attributes:
        delays_s: (m,) from 0 to the most; alone where that is 0.
        weights: (m,) their probabilities.
    """

    def __init__(self, most_s: float) -> None:
        """Begin with all delays up to `most_s` alike."""
        self.delays_s = np.linspace(0.0, most_s, _DELAYS) if most_s > 0 else np.zeros(1)
        self.weights: Floats = np.full(self.delays_s.size, 1.0 / self.delays_s.size)
        self._squares: Floats = np.zeros((self.delays_s.size, 3, 3))
        self._n = 0

    def learn(self, above_j: Floats, busy_s: Floats, work_s: Floats) -> None:
        """Weight the delays by how well the work done that much earlier explains the counter.

        The likelihood of energy = a · time in which anybody was active + b · work, with normal
        errors and the best a and b, over all intervals so far: a device draws more for two than for
        one, not twice as much.

        Args:
            above_j: (n,) energy above idle of intervals of the counter.
            busy_s: (m, n) seconds in them with anybody active, had they been seen after each delay.
            work_s: (m, n) work likewise.
        """
        if self.weights.size == 1:
            return
        some = busy_s.any(axis=0)
        energy_j = np.broadcast_to(above_j[some], busy_s[:, some].shape)
        rows = np.stack((busy_s[:, some], work_s[:, some], energy_j), axis=1)
        self._squares += rows @ rows.transpose(0, 2, 1)
        self._n += int(some.sum())
        causes, effects = self._squares[:, :2, :2], self._squares[:, :2, 2:]
        explained = effects.transpose(0, 2, 1) @ np.linalg.pinv(causes, hermitian=True) @ effects
        all_j2 = max(float(self._squares[0, 2, 2]), np.finfo(float).tiny)
        unexplained = np.maximum(1.0 - explained[:, 0, 0] / all_j2, _CERTAIN)
        likely = (unexplained / unexplained.min()) ** (-0.5 * _EVIDENCE * self._n)
        self.weights = (1.0 - _UNSURE) * likely / likely.sum() + _UNSURE / likely.size
