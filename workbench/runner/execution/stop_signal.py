"""Signal that ends a collection from outside: from Ctrl-C, a command or the caller."""

from collections.abc import Callable


class StopSignal:
    """Ends a collection: the first call waits for the attempts in flight, the second cancels them.

    Attributes:
        n_requests: number of calls so far.
        at_once: whether the first call cancels already; for batches, which continue at the server.
    """

    def __init__(self) -> None:
        """Start with no call made."""
        self.n_requests = 0
        self.at_once = False
        self._cancel: Callable[[], object] | None = None

    def bind(self, cancel: Callable[[], object]) -> None:
        """Set the function that cancels the attempts in flight."""
        self._cancel = cancel

    def __call__(self) -> None:
        """Stop the collection; a second call cancels the attempts in flight."""
        self.n_requests += 1
        if self.is_now and self._cancel is not None:
            self._cancel()

    @property
    def is_now(self) -> bool:
        """Whether the attempts in flight are cancelled."""
        return self.n_requests > (0 if self.at_once else 1)
