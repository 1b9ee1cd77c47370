"""What a batch API must be able to do, whoever offers it."""

import datetime as dt
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.batch.batch_journal import Note
from workbench.runner.providers import transport
from workbench.runner.providers.exchange import STATUS_OF_WORDS


class Seen(NamedTuple):
    """A batch as the service tells of it.

    Attributes:
        status: in the service's words.
        ended: whether its results can be had.
        n_done: requests that have ended, well or not; `n_failed` of them not.
    """

    batch_id: str
    status: str
    ended: bool
    n_done: int = 0
    n_failed: int = 0
    created_at: dt.datetime | None = None


class Result(NamedTuple):
    """What came of one request: the body of a reply, or an error."""

    custom_id: str
    body: bytes | None
    error: ProviderError | None = None
    request_id: str | None = None


class Undecided(Exception):
    """Whether a batch was made cannot be told yet; look again later."""


class BatchApi(Protocol):
    """One service's way to take many requests at once.

    Methods raise ProviderRejected and ProviderUnavailable as `Wire.open` does.

    Attributes:
        kind: names the API in notes.
        most_requests, most_bytes: of one batch.
    """

    kind: str
    most_requests: int
    most_bytes: int

    def line(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Write one request of a batch."""
        ...

    async def submit(self, note: Note, lines: Sequence[bytes]) -> Seen:
        """Make a batch of the lines, marked so that `find` knows it."""
        ...

    async def find(self, note: Note, others: Collection[str]) -> str | None:
        """Look for the batch that a note meant to make; None if there is none.

        Args:
            note: what was meant.
            others: batches that are known to be of other notes.

        Raises:
            Undecided: it cannot be told yet.
        """
        ...

    async def poll(self, batch_id: str) -> Seen:
        """Look how far a batch is."""
        ...

    def results(self, batch_id: str) -> AsyncIterator[bytes]:
        """Read the results of an ended batch, a line each, in any order."""
        ...

    def parse(self, line: bytes) -> Result | None:
        """Read one line of results; None if it is none."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """End a batch early; what was not begun will not be paid."""
        ...


def batch_error(word: str, message: str) -> ProviderError:
    """Name the failure of one request of a batch by the service's word for it."""
    status = STATUS_OF_WORDS.get(word)
    if status is not None:
        return transport.status_error(status, message or word, None, (word,))
    return ProviderUnavailable(f"the batch gave no answer: {message or word}", kind=word)


def missing(status: str) -> ProviderError:
    """Name what became of a request of which an ended batch says nothing."""
    return ProviderUnavailable(
        f"the batch ended ({status}) without this request", kind=f"batch_{status}"
    )


def rejected(message: str, kind: str) -> ProviderRejected:
    """Say that asking again will not help."""
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
