"""The protocol of a batch API, which each service implements."""

import datetime as dt
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.batch.batch_journal import Note
from workbench.runner.providers import transport
from workbench.runner.providers.received_reply import STATUS_OF_WORDS


class BatchState(NamedTuple):
    """The state of a batch at the service.

    Attributes:
        status: in the service's words.
        ended: whether its results are available.
        n_done: requests that have ended; `n_failed` of them failed.
    """

    batch_id: str
    status: str
    ended: bool
    n_done: int = 0
    n_failed: int = 0
    created_at: dt.datetime | None = None


class Result(NamedTuple):
    """The result of one request: the body of a reply, or an error."""

    custom_id: str
    body: bytes | None
    error: ProviderError | None = None
    request_id: str | None = None


class Undecided(Exception):
    """The service cannot tell yet whether a batch was made; ask again later."""


class BatchApi(Protocol):
    """The batch API of one service.

    Methods raise ProviderRejected and ProviderUnavailable as `Wire.open` does.

    Attributes:
        kind: names the API in notes.
        most_requests, most_bytes: of one batch.
    """

    kind: str
    most_requests: int
    most_bytes: int

    def line(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Encode one request of a batch."""
        ...

    async def submit(self, note: Note, lines: Sequence[bytes]) -> BatchState:
        """Make a batch of the lines, marked so that `find` knows it."""
        ...

    async def find(self, note: Note, others: Collection[str]) -> str | None:
        """Return the id of a note's batch; None if it was not made.

        Args:
            note: written before the batch was sent.
            others: ids of batches that belong to other notes.

        Raises:
            Undecided: the service cannot tell yet.
        """
        ...

    async def poll(self, batch_id: str) -> BatchState:
        """Read the state of a batch."""
        ...

    def results(self, batch_id: str) -> AsyncIterator[bytes]:
        """Read the results of an ended batch, a line each, in any order."""
        ...

    def parse(self, line: bytes) -> Result | None:
        """Decode one line of results; None if it is no result."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """End a batch early; requests not begun are not charged."""
        ...


def batch_error(word: str, message: str) -> ProviderError:
    """Return the error of one request of a batch from the service's error type."""
    status = STATUS_OF_WORDS.get(word)
    if status is not None:
        return transport.status_error(status, message or word, None, (word,))
    return ProviderUnavailable(f"the batch gave no answer: {message or word}", kind=word)


def missing(status: str) -> ProviderError:
    """Return the error of a request that an ended batch has no result for."""
    return ProviderUnavailable(
        f"the batch ended ({status}) without this request", kind=f"batch_{status}"
    )


def rejected(message: str, kind: str) -> ProviderRejected:
    """Return an error that a retry will not cure."""
    return ProviderRejected(message, kind=kind)


def moment(seconds: float | None) -> dt.datetime | None:
    """Read a time in seconds since 1970."""
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def decode(line: bytes, kind: type[Any]) -> Any:
    """Decode a line of results; None if it is of another form."""
    try:
        return msgspec.json.decode(line, type=kind)
    except UNDECODABLE:
        return None
