"""Machine time, divided among concurrent calls so that their shares add up to the busy time."""


class MachineClock:
    """Apportions a machine's busy time: a call's share is ∫ dt / n(t) while it is active.

    The shares of all calls add up to the time in which at least one call was active. One number,
    the integral since the beginning, is kept; a share is its growth between the begin and the end
    of a call.
    """

    def __init__(self) -> None:
        """Begin idle."""
        self._active, self._last, self._integral = 0, 0.0, 0.0
        self.busy_s = 0.0

    def begin(self, at_s: float) -> float:
        """Count a call as active; the returned value is an argument of `end`."""
        self._advance(at_s)
        self._active += 1
        return self._integral

    def end(self, begun: float, at_s: float) -> float:
        """Count a call as ended; returns its share in seconds."""
        self._advance(at_s)
        self._active -= 1
        return self._integral - begun

    def _advance(self, at_s: float) -> None:
        if self._active:
            self._integral += (at_s - self._last) / self._active
            self.busy_s += at_s - self._last
        self._last = at_s
