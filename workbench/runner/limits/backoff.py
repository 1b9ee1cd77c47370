"""Back-off: the waits between the tries of one call that failed, as by a 429.

Which failures may be retried is decided where the status is read (`RETRYABLE` in
`providers/transport.py`); `caller.py` asks for the wait, and sends the call again after it.
"""

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Settings of the waits between tries.

    The wait is exponential with full jitter (uniform below the ceiling), but at least the
    Retry-After of the server, which is capped as well. Where that is longer than all waits may
    take, the call fails at once with the server's message.

    Attributes:
        retries: tries after the first one.
        base_s: ceiling of the first wait; it doubles from try to try.
        most_s: cap of one wait.
        total_s: cap of all waits of one call; a wait that would pass it ends the tries.
    """

    retries: int = 5
    base_s: float = 1.0
    most_s: float = 60.0
    total_s: float = 300.0

    def wait_s(
        self, failures: int, waited_s: float, asked_s: float | None, rng: random.Random
    ) -> float | None:
        """Return the wait after the n-th failure in a row; None to give up."""
        if failures > self.retries or (asked_s or 0.0) > self.total_s:
            return None
        ceiling = min(self.base_s * 2.0 ** (failures - 1), self.most_s)
        wait = max(rng.uniform(0.0, ceiling), min(asked_s or 0.0, self.most_s))
        return None if waited_s + wait > self.total_s else wait
