"""Server-sent events (SSE), parsed incrementally from raw bytes, however they are chunked.

Follows the HTML standard's event stream format, with one leniency: an event that the end of the
stream leaves without its blank line is still given, because some servers end so.
"""

from typing import NamedTuple

MAX_EVENT_BYTES = 64_000_000  # a server that never ends a line must not exhaust the memory


class Event(NamedTuple):
    """One event: its type ("message" where the server gives none) and its data."""

    type: bytes
    data: bytes


class EventStream:
    """Feed it bytes as they arrive; it gives the events that they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Begin a stream."""
        self._limit = max_event_bytes
        self._held: list[bytes] = []  # pieces of a line that has not ended
        self._held_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._type = b""
        self._after_cr = False
        self._first = True
        self._open = False  # whether an event has begun

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; ValueError if one event outgrows the limit."""
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 10:
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._held:
            if b"\n" not in data:
                self._hold(data)
                return []
            data = b"".join((*self._held, data))
            self._held, self._held_size = [], 0
        *blocks, rest = data.split(b"\n\n")
        events: list[Event] = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block and not self._open:
                self._first = False  # by far the commonest block: one line of data
                events.append(Event(b"message", block[6:]))
            else:
                for line in block.split(b"\n"):
                    self._line(line, events)
                self._line(b"", events)
        *lines, incomplete = rest.split(b"\n")
        for line in lines:
            self._line(line, events)
        self._hold(incomplete)
        return events

    def close(self) -> list[Event]:
        """End the stream; gives the event that was left open, if any."""
        events: list[Event] = []
        if self._held:
            self._line(b"".join(self._held), events)
            self._held = []
        self._line(b"", events)
        return events

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._held_size += len(piece)
            self._check(self._held_size)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ValueError(f"an event of more than {self._limit:,} bytes")

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(Event(self._type or b"message", b"\n".join(self._data)))
                self._data, self._data_size = [], 0
            self._type, self._open = b"", False
        else:
            self._open = True
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._add(value)
            elif field == b"event":
                self._type = value
            elif field == b"error":  # older llama.cpp servers report a failure as a field
                events.append(Event(b"error", value))

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._data_size += len(value)
        self._check(self._data_size)
