"""The current attempt, for providers that must tell which attempt sent a request (replay, batches).

A replay gives every trial its own recorded reply, and a batch that outlives the program gives every
answer to the attempt that paid for it. Neither is possible by the order of requests alone.
"""

from contextvars import ContextVar
from typing import NamedTuple

from workbench.records import Configuration

AttemptKey = tuple[str, str, int]  # configuration_id, item_id, trial


class CurrentAttempt(NamedTuple):
    """An attempt, as the providers know it."""

    configuration: Configuration
    item_id: str
    trial: int

    @property
    def key(self) -> AttemptKey:
        """What identifies it from run to run."""
        return self.configuration.configuration_id, self.item_id, self.trial


# set by the launch for each attempt, and by its session before each call; None where not known
CURRENT_ATTEMPT: ContextVar[CurrentAttempt | None] = ContextVar("CURRENT_ATTEMPT", default=None)
ORDINAL: ContextVar[int | None] = ContextVar("ORDINAL", default=None)
