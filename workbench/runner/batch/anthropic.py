"""Anthropic's message batches: the requests go up in one body, the results come down as lines."""

import datetime as dt
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from workbench.errors import ProviderUnavailable
from workbench.runner.batch.api import BatchState, Result, Undecided, batch_error, decode
from workbench.runner.batch.batch_journal import Note
from workbench.runner.batch.wire import Wire

_PATH = "/messages/batches"
_SKEW = dt.timedelta(hours=1)  # how far the service's clock may be from ours
_WORDS = {"canceled": "batch_cancelled", "expired": "batch_expired"}


class Counts(msgspec.Struct):
    """How many requests there are, and how they ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class Batch(msgspec.Struct):
    """A batch."""

    id: str
    processing_status: str = ""
    created_at: dt.datetime | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)


class Listing(msgspec.Struct):
    """Some batches, the newest first."""

    data: list[Batch] = []
    has_more: bool = False
    last_id: str | None = None


class Inner(msgspec.Struct):
    """The error itself."""

    type: str | None = None
    message: str | None = None


class Fault(msgspec.Struct):
    """An error, or its envelope."""

    type: str | None = None
    message: str | None = None
    error: Inner | None = None


class Ending(msgspec.Struct):
    """How one request ended."""

    type: str = ""
    message: msgspec.Raw = msgspec.Raw(b"")
    error: Fault | None = None


class Line(msgspec.Struct):
    """One line of the results."""

    custom_id: str
    result: Ending


class AnthropicBatches:
    """The batches of Anthropic's Messages.

    A batch carries no label. One that may have been made when the program was killed is told by the
    moment, by the number of its requests, and in the end by the ids of its requests, which its
    results show.
    """

    kind = "anthropic"
    most_requests = 100_000
    most_bytes = 100_000_000  # the service takes 256 MB

    def __init__(self, wire: Wire) -> None:
        """Ask over a wire."""
        self._wire = wire

    def line(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Write one request."""
        params = {name: value for name, value in body.items() if name != "stream"}
        return msgspec.json.encode({"custom_id": custom_id, "params": params})

    async def submit(self, note: Note, lines: Sequence[bytes]) -> BatchState:
        """Make the batch."""
        body = b'{"requests":[' + b",".join(lines) + b"]}"
        return _state_of(await self._wire.json("POST", _PATH, Batch, body))

    async def find(self, note: Note, others: Collection[str]) -> str | None:
        """Find the batch among those since the note with the same number of requests."""
        after, open_ones = "", 0
        while True:
            page = await self._wire.json("GET", f"{_PATH}?limit=100{after}", Listing)
            for batch in page.data:
                if batch.id in others or not _may_be(batch, note):
                    continue
                if batch.processing_status != "ended":
                    open_ones += 1
                elif await self._is(batch, note):
                    return batch.id
            oldest = page.data[-1].created_at if page.data else None
            if not page.has_more or oldest is None or oldest < note.created_at - _SKEW:
                break
            after = f"&after_id={quote(page.last_id or page.data[-1].id, safe='')}"
        if open_ones:
            raise Undecided
        return None

    async def _is(self, batch: Batch, note: Note) -> bool:
        """Whether the first result of a batch is of one of our requests."""
        ours = set(note.custom_ids)
        async for line in self.results(batch.id):
            result = self.parse(line)
            return result is not None and result.custom_id in ours
        return False

    async def poll(self, batch_id: str) -> BatchState:
        """Read the state of a batch."""
        return _state_of(await self._wire.json("GET", f"{_PATH}/{quote(batch_id, safe='')}", Batch))

    async def results(self, batch_id: str) -> AsyncIterator[bytes]:
        """Read the results; the address that the service gives for them is not followed."""
        async for line in self._wire.lines(f"{_PATH}/{quote(batch_id, safe='')}/results"):
            yield line

    def parse(self, line: bytes) -> Result | None:
        """Read one line."""
        decoded: Line | None = decode(line, Line)
        if decoded is None:
            return None
        ending = decoded.result
        if ending.type == "succeeded":
            return Result(decoded.custom_id, bytes(ending.message))
        if ending.type == "errored":
            fault = ending.error or Fault()
            inner = fault.error or Inner(fault.type, fault.message)
            error = batch_error(inner.type or "error", inner.message or "")
            return Result(decoded.custom_id, None, error)
        kind = _WORDS.get(ending.type, "bad_response")
        error = ProviderUnavailable(f"the batch gave no answer: {ending.type}", kind=kind)
        return Result(decoded.custom_id, None, error)

    async def cancel(self, batch_id: str) -> None:
        """Ask to end it."""
        await self._wire.json("POST", f"{_PATH}/{quote(batch_id, safe='')}/cancel", Batch)


def _state_of(batch: Batch) -> BatchState:
    counts = batch.request_counts
    failed = counts.errored + counts.canceled + counts.expired
    return BatchState(
        batch.id,
        batch.processing_status,
        batch.processing_status == "ended",
        counts.succeeded + failed,
        failed,
        batch.created_at,
    )


def _may_be(batch: Batch, note: Note) -> bool:
    counts = batch.request_counts
    total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
    at = batch.created_at
    return total == len(note.custom_ids) and at is not None and at >= note.created_at - _SKEW
