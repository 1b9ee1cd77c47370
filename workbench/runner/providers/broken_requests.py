"""Broken requests of a call, reported by the sender to the session and the budget.

A call may take several requests, of which only the last becomes the call. The others were paid for
as well: the session records them, the budget counts them. The part of a cancelled request that had
arrived is reported in the same way.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from workbench.records import Call

CANCELLED = "cancelled"  # error type of a request that was cancelled before its reply was whole
Listener = Callable[[Call], object]
_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextlib.contextmanager
def listening(note: Listener) -> Iterator[None]:
    """Call a function for each broken request in this block; outer listeners are called too."""
    outer = _listener.get()

    def both(call: Call) -> None:
        note(call)
        if outer is not None:
            outer(call)

    token = _listener.set(both)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(call: Call) -> None:
    """Report a broken request to the listeners; its `error_type` is the cause."""
    listener = _listener.get()
    if listener is not None:
        listener(call)


def tokens_of(call: Call) -> float | None:
    """Input and output tokens, else the total; null where neither was reported."""
    if call.input_tokens is None or call.output_tokens is None:
        return call.total_tokens
    return call.input_tokens + call.output_tokens


def may_be_billed(call: Call) -> bool:
    """Whether a call may cost: it answered, began to, reported usage, or was abandoned."""
    is_told = tokens_of(call) is not None or call.billed_cost_usd is not None
    left_alone = call.error_type in {"timeout", CANCELLED}
    return call.error_type is None or call.ttft_s is not None or is_told or left_alone
