"""The wish to end a collection, from outside: signals, commands, callers."""

from collections.abc import Callable


class Stop:
    """A way to end a collection from outside: once is after what is in flight, twice is now.

    Attributes:
        at_once: the first time is now: what is in flight, in a batch, goes on without us.
    """

    def __init__(self) -> None:
        """Begin without a wish to stop."""
        self.asked, self.at_once = 0, False
        self._now: Callable[[], object] | None = None

    def bind(self, now: Callable[[], object]) -> None:
        """Say what ends the collection at once."""
        self._now = now

    def __call__(self) -> None:
        """Ask to stop; ask twice to cancel what is in flight."""
        self.asked += 1
        if self.is_now and self._now is not None:
            self._now()

    @property
    def is_now(self) -> bool:
        """Whether what is in flight is not waited for."""
        return self.asked > (0 if self.at_once else 1)
