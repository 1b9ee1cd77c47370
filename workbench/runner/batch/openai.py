"""OpenAI's batches: a file of requests goes up, a file of replies and one of errors come down."""

import datetime as dt
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from workbench.errors import ProviderUnavailable
from workbench.records import json_text
from workbench.runner.batch.api import BatchState, Result, batch_error, decode, moment, rejected
from workbench.runner.batch.batch_journal import Note
from workbench.runner.batch.wire import Wire
from workbench.runner.providers import transport
from workbench.runner.providers.received_reply import error_text

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_REFUSALS = frozenset(
    {
        "invalid_json_line",
        "invalid_request",
        "invalid_custom_id",
        "invalid_method",
        "invalid_url",
        "mismatched_model",
        "missing_required_parameter",
        "model_not_found",
        "too_large",
        "unsupported_model",
    }
)  # of a file that was refused: sent again, it is refused again
_MARK = "workbench"  # the name of our label in a batch's metadata
_SKEW = dt.timedelta(hours=1)  # how far the service's clock may be from ours
_BOUNDARY = "workbench-7d1f0c52b6e34a"


class Counts(msgspec.Struct):
    """How many requests there are, and how they ended."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Fault(msgspec.Struct):
    """What is wrong with a batch as a whole, or with one of its lines."""

    code: str | None = None
    message: str | None = None
    line: int | None = None


class Faults(msgspec.Struct):
    """A list of faults."""

    data: list[Fault] | None = None


class Batch(msgspec.Struct):
    """A batch."""

    id: str
    status: str = ""
    created_at: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: Counts | None = None
    metadata: dict[str, Any] | None = None
    errors: Faults | None = None


class Listing(msgspec.Struct):
    """Some batches, the newest first."""

    data: list[Batch] = []
    has_more: bool = False


class File(msgspec.Struct):
    """A file that was uploaded."""

    id: str


class Response(msgspec.Struct):
    """The reply to one request."""

    status_code: int = 0
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"{}")


class Line(msgspec.Struct):
    """One line of an output or error file."""

    custom_id: str
    response: Response | None = None
    error: Fault | None = None


class OpenAIBatches:
    """The batches of OpenAI's chat completions and Responses, and of services that copy them."""

    kind = "openai"
    most_requests = 50_000
    most_bytes = 100_000_000  # the service takes 200 MB

    def __init__(self, wire: Wire) -> None:
        """Ask over a wire."""
        self._wire = wire

    def line(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Write one request."""
        stored = {
            name: value for name, value in body.items() if name not in {"stream", "stream_options"}
        }
        return msgspec.json.encode(
            {"custom_id": custom_id, "method": "POST", "url": f"/v1{path}", "body": stored}
        )

    async def submit(self, note: Note, lines: Sequence[bytes]) -> BatchState:
        """Upload the file, then make the batch; a file whose batch is never made costs nothing."""
        form = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        file = await self._wire.json("POST", "/files", File, _form(note.label, lines), form)
        settings = {
            "input_file_id": file.id,
            "endpoint": f"/v1{note.path}",
            "completion_window": "24h",
            "metadata": {_MARK: note.label},
        }
        batch = await self._wire.json("POST", "/batches", Batch, settings)
        return self._state_of(batch)

    async def find(self, note: Note, others: Collection[str]) -> str | None:
        """Find the batch with our label among those since the note."""
        after = ""
        while True:
            page = await self._wire.json("GET", f"/batches?limit=100{after}", Listing)
            for batch in page.data:
                if (batch.metadata or {}).get(_MARK) == note.label:
                    return batch.id
            oldest = moment(page.data[-1].created_at) if page.data else None
            if not page.has_more or oldest is None or oldest < note.created_at - _SKEW:
                return None
            after = f"&after={quote(page.data[-1].id, safe='')}"

    async def poll(self, batch_id: str) -> BatchState:
        """Read the state of a batch."""
        return self._state_of(await self._batch(batch_id))

    async def _batch(self, batch_id: str) -> Batch:
        return await self._wire.json("GET", f"/batches/{quote(batch_id, safe='')}", Batch)

    def _state_of(self, batch: Batch) -> BatchState:
        counts = batch.request_counts or Counts()
        return BatchState(
            batch.id,
            batch.status,
            batch.status in _ENDED,
            counts.completed + counts.failed,
            counts.failed,
            moment(batch.created_at),
        )

    async def results(self, batch_id: str) -> AsyncIterator[bytes]:
        """Read both files; the errors of a batch that was refused as a whole are one more line."""
        batch = await self._batch(batch_id)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                async for line in self._wire.lines(f"/files/{quote(file_id, safe='')}/content"):
                    yield line
        for fault in (batch.errors.data if batch.errors else None) or ():
            where = f"#{fault.line or ''}"  # a line of the file, or all of it
            yield json_text({"custom_id": where, "error": msgspec.to_builtins(fault)}).encode()

    def parse(self, line: bytes) -> Result | None:
        """Read one line."""
        decoded: Line | None = decode(line, Line)
        if decoded is None:
            return None
        response = decoded.response
        if decoded.error is not None and (decoded.error.code or decoded.error.message):
            code, message = decoded.error.code or "error", decoded.error.message or ""
            if code in _REFUSALS:
                return Result(decoded.custom_id, None, rejected(message or code, "http_400"))
            error = batch_error(code, message)
            return Result(decoded.custom_id, None, error)
        if response is None:
            return Result(
                decoded.custom_id, None, ProviderUnavailable("an empty result", kind="bad_response")
            )
        if response.status_code != 200:
            text = error_text(bytes(response.body))
            refused = transport.status_error(response.status_code, text, None)
            return Result(decoded.custom_id, None, refused, response.request_id)
        return Result(decoded.custom_id, bytes(response.body), None, response.request_id)

    async def cancel(self, batch_id: str) -> None:
        """Ask to end it."""
        await self._wire.json("POST", f"/batches/{quote(batch_id, safe='')}/cancel", Batch)


def _form(label: str, lines: Sequence[bytes]) -> bytes:
    """Encode the upload form: its purpose, and the file."""
    head = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    file = (
        f"--{_BOUNDARY}\r\n"
        f'content-disposition: form-data; name="file"; filename="workbench-{label}.jsonl"\r\n'
    )
    kind = "content-type: application/jsonl\r\n\r\n"
    return b"".join(
        ((head + file + kind).encode(), b"\n".join(lines), f"\n\r\n--{_BOUNDARY}--\r\n".encode())
    )
