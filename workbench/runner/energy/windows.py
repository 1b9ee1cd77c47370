"""Time windows in which calls were active, by which energy is apportioned.

All times are seconds on one monotonic clock, the clock of the meter's readings.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec

from workbench.records import Call

_made: contextvars.ContextVar["list[Window] | None"] = contextvars.ContextVar("made", default=None)


class Window(msgspec.Struct, eq=False):
    """One request under way: active from `begin_s` to `end_s`.

    Attributes:
        end_s: null while it is under way.
        stepped: the local engine reports its steps, and energy goes by them rather than by time.
    """

    begin_s: float
    end_s: float | None = None
    stepped: bool = False


class Step(Protocol):
    """One forward pass of the local engine, as `local.engine.Step` has it.

    Attributes:
        work: the call's `request_id`, the phase and the tokens processed, of each sequence in it.
    """

    @property
    def begin_s(self) -> float:
        """When it began."""
        ...

    @property
    def end_s(self) -> float:
        """When the device had finished."""
        ...

    @property
    def work(self) -> tuple[tuple[str, str, int], ...]:
        """What was worked on."""
        ...


class Span(NamedTuple):
    """A part of a window; `phase` is null for the whole of one whose parts are not known."""

    phase: str | None
    begin_s: float
    end_s: float


@contextlib.contextmanager
def collecting() -> Iterator[list[Window]]:
    """Collect the windows of the requests that are made in this block, and by whom it waits for."""
    windows: list[Window] = []
    token = _made.set(windows)
    try:
        yield windows
    finally:
        _made.reset(token)


def collect(window: Window) -> None:
    """Add a window to the list of the surrounding `collecting`."""
    windows = _made.get()
    if windows is not None:
        windows.append(window)


def spans(window: Window, call: Call) -> list[Span]:
    """Split a window into the phases of the call that it ended with.

    Prefill lasts until the first token of any kind, thinking until the first visible one. A call
    that was not streamed, or that failed before its first token, has one span without a phase.
    """
    begin, end = window.begin_s, window.begin_s if window.end_s is None else window.end_s
    if call.ttft_s is None or end <= begin:
        return [Span(None, begin, end)]
    first = min(begin + call.ttft_s, end)
    spans = [Span("prefill", begin, first)]
    if call.answer_start_s is None:
        spans.append(Span("thinking" if call.reasoning_tokens else "answer", first, end))
    else:
        visible = min(max(begin + call.answer_start_s, first), end)
        spans += [Span("thinking", first, visible), Span("answer", visible, end)]
    return [span for span in spans if span.end_s > span.begin_s]
