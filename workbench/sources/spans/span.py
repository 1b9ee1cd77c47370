"""Spans: one piece of work of a program, with its times, attributes and events.

Every tracer's file is first read as spans; `traces` makes records of them.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

Attributes = Mapping[str, Any]


@dataclasses.dataclass(slots=True)
class SpanEvent:
    """An event within a span.

    Attributes:
        name: of the event.
        attributes: by name; values are JSON-able.
        time_ns: since 1970; None where not known.
    """

    name: str
    attributes: Attributes
    time_ns: int | None = None


@dataclasses.dataclass(slots=True)
class SpanScore:
    """A score of a span or its trace."""

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None


@dataclasses.dataclass(slots=True)
class Span:
    """One span.

    Attributes:
        trace_id: hexadecimal, in lower case.
        span_id: hexadecimal, in lower case.
        parent_id: of the span above it; "" for a root.
        name: as the program named it.
        attributes: by name, with dots in the names; values are JSON-able.
        resource: attributes of the program.
        scope: name of the instrumentation.
        start_ns: since 1970; None where not known.
        end_ns: since 1970; None while it runs.
        error: what went wrong; None without an error.
        events: in order.
        scores: scores that the file gives apart from attributes.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    attributes: Attributes
    resource: Attributes = dataclasses.field(default_factory=dict)
    scope: str = ""
    start_ns: int | None = None
    end_ns: int | None = None
    error: str | None = None
    events: list[SpanEvent] = dataclasses.field(default_factory=list)
    scores: list[SpanScore] = dataclasses.field(default_factory=list)

    @property
    def started_at(self) -> dt.datetime | None:
        """The start in UTC."""
        return time_of(self.start_ns)

    @property
    def ended_at(self) -> dt.datetime | None:
        """The end in UTC."""
        return time_of(self.end_ns)

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start to the end; None if one is unknown or they are out of order."""
        if self.start_ns is None or self.end_ns is None or self.end_ns < self.start_ns:
            return None
        return (self.end_ns - self.start_ns) / 1e9


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LAST_NS = 253_402_300_799 * 10**9  # the end of the year 9999


def time_of(ns: int | None) -> dt.datetime | None:
    """Convert nanoseconds since 1970 to UTC; None for 0, which tracers write for no time."""
    if not ns or not 0 < ns < _LAST_NS:
        return None
    return _EPOCH + dt.timedelta(microseconds=ns // 1000)
