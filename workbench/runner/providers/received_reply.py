"""A received reply: what came of one HTTP exchange, its events, times, errors and record.

It is fed with bytes and reads no network, so that the same code reads what the runner asks for and
what `workbench record` forwards.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import Call
from workbench.runner.providers import broken_requests, transport
from workbench.runner.providers import usage as usages
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, cleaned
from workbench.runner.providers.protocol import CallRefused, OnChunk, Reply, StreamBroken
from workbench.runner.providers.sse import Event, EventStream

ERROR_BYTES = 65_536  # what is read of an error's body
BODY_BYTES = 64_000_000  # the longest reply that is read
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"([0-9.]+)s"')  # Google says it in the body
STATUS_OF_WORDS = {  # how errors within a stream name what would have been a status
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
    "internal_server_error": 500,
    "overloaded": 529,
    "timeout_error": 504,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "invalid_api_key": 401,
    "insufficient_quota": 429,
    # Google
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ReceivedReply:
    """What was received of one exchange.

    Attributes:
        status: of HTTP; None before it has come.
        got: the reply as far as it came.
        streamed: False where it came whole; it has no times of chunks then.
        last_s: seconds from the request to the last bytes.
        request_id: the server's name for the request.
    """

    def __init__(
        self,
        got: PartialReply,
        *,
        provider: str,
        model: str,
        effort_sent: str | None,
        started_at: dt.datetime,
        redact: Callable[[str], str],
        on_chunk: OnChunk | None = None,
    ) -> None:
        """Begin with nothing received.

        Args:
            got: an empty reply of the API.
            provider: the name in records and price sheets.
            model: as it was requested.
            effort_sent: what the request says of effort and thinking.
            started_at: when the request went out, in UTC.
            redact: takes the key out of a text that the server sent.
            on_chunk: called with each visible piece of text as it arrives.
        """
        self.got, self.redact = got, redact
        self.status: int | None = None
        self.streamed = True
        self.last_s = 0.0
        self.request_id: str | None = None
        self._provider, self._model, self._effort_sent = provider, model, effort_sent
        self._started_at, self._on_chunk = started_at, on_chunk
        self._events = EventStream()

    def begin(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Take the status and the headers, whose names are in lower case."""
        self.status = status
        request_id = headers.get(b"x-request-id") or headers.get(b"request-id")
        self.request_id = request_id.decode("latin-1") if request_id else None

    def feed(self, data: bytes, at_s: float) -> None:
        """Take the next bytes of a stream.

        Args:
            data: the bytes.
            at_s: seconds from the request to their arrival.

        Raises:
            StreamBroken: the server failed, or sent what is none of this API's.
            CallRefused: the server said within the stream that it refuses.
        """
        self.last_s = at_s
        try:
            self._take(self._events.feed(data))
        except ValueError as error:
            raise self.failure(ProviderUnavailable(str(error), kind="bad_response")) from error

    def end_stream(self) -> None:
        """Take the end of a stream; it raises as `feed` does."""
        try:
            self._take(self._events.close())
        except ValueError as error:
            raise self.failure(ProviderUnavailable(str(error), kind="bad_response")) from error

    def take_whole(self, body: bytes, at_s: float) -> None:
        """Take the body of a reply that was not streamed; it raises as `feed` does."""
        self.streamed, self.got.done, self.last_s = False, True, at_s
        self._take([Event(b"message", body)])

    def whole(self) -> Reply:
        """Return the reply that has ended; what is a failure of its host is raised as one."""
        fault = self.got.fault()
        if fault is not None:
            raise self.failure(fault)
        return self.reply()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if event.type == b"ping" or not (event.data.strip() or event.type == b"error"):
                continue  # it keeps the connection open, and says nothing
            try:
                shown = self.got.take(event, self.last_s)
            except ValueError as error:
                excerpt = self.redact(event.data[:1000].decode("utf-8", "replace"))[:200]
                what = f"an event that is none of this API's: {excerpt!r} ({error})"
                raise self.failure(ProviderUnavailable(what, kind="bad_response")) from error
            except StreamFailed as failed:
                raise self.failure(self._error_event(failed.error)) from None
            if shown and self._on_chunk is not None:
                self._on_chunk(shown)

    def _error_event(self, error: object) -> ProviderError:
        """Read an error that came within the stream; without a code it is worth asking again."""
        codes = codes_of(error)
        status = next((s for s in map(_status_of, codes) if s is not None), None)
        text = error.get("message") if isinstance(error, dict) else error
        text = self.redact(text if isinstance(text, str) else repr(error))
        if status is not None or transport.is_out_of_credit(codes, text):
            return transport.status_error(status or 429, text, None, codes)
        message = f"the server broke off: {text[: transport.TEXT_LIMIT]}"
        return ProviderUnavailable(message, kind="stream_error")

    def failure(self, error: ProviderError) -> ProviderError:
        """Put what arrived beside the cause; no key in the words."""
        message = self.redact(str(error))
        if isinstance(error, StreamBroken | CallRefused):
            return error
        if isinstance(error, ProviderRejected):
            return CallRefused(message, kind=error.kind, reply=self.reply())
        return StreamBroken(
            message, kind=error.kind, reply=self.reply(), retry_after_s=error.retry_after_s
        )

    def cancelled(self) -> Call:
        """Return the record of a cancelled request, with the fields that had arrived."""
        message = "cancelled while it was in flight"
        ended = {
            "stop_reason": "error",
            "error_type": broken_requests.CANCELLED,
            "error_message": message,
        }
        return msgspec.structs.replace(self.reply().call, **ended)

    def reply(self) -> Reply:
        """Return the reply as far as it came."""
        got, clean = self.got, self.redact
        text, thinking, usage = "".join(got.text), "".join(got.thinking), got.usage_text()
        tools = tuple(
            msgspec.structs.replace(
                t, tool=clean(t.tool), arguments=t.arguments and clean(t.arguments)
            )
            for t in got.tool_calls()
        )
        times = got.times_of_chunks() if self.streamed else {}
        request_id = self.request_id or got.reply_id
        call = Call(
            provider=self._provider,
            model=self._model,
            response_model=got.model and _model_name(clean(got.model)),
            started_at=self._started_at,
            e2e_s=self.last_s or None,
            stop_reason=got.stop_reason(),
            request_id=request_id and clean(request_id)[:200],
            response_id=got.reply_id and clean(got.reply_id)[:200],
            service_tier=got.tier and clean(got.tier),
            usage=usage and clean(usage),
            logprob_sum=got.logprob_sum,
            effort_sent=self._effort_sent,
            **times,
            **usages.token_fields(
                got.usage,
                got.timings,
                got.model or self._model,
                got.convention,
                has_content=not got.is_empty,
            ),
        )
        return Reply(
            text=clean(text),
            thinking=clean(thinking) or None,
            tool_calls=tools,
            tool_ids=tuple(map(clean, got.tool_ids())),
            state=cleaned(got.state(), clean),
            stop_reason=call.stop_reason,
            call=call,
            text_ends=tuple(got.text_ends),
            text_times=tuple(got.text_times),
        )


def web_page(data: bytes, redact: Callable[[str], str]) -> ProviderError:
    """Name what is no reply of any API: a proxy's page to sign in, a wrong address."""
    text = redact(" ".join(data.decode("utf-8", "replace").split()))[: transport.TEXT_LIMIT]
    message = f"the server answered with a web page, not a reply: {text}; check base_url"
    return ProviderUnavailable(message, kind="bad_response")


def refusal(
    status: int,
    data: bytes,
    wait_s: float | None,
    *,
    location: str,
    redact: Callable[[str], str],
) -> ProviderError:
    """Return the error of a status that is not 200.

    Args:
        status: of HTTP.
        data: the beginning of the body.
        wait_s: how long the headers ask to wait.
        location: where a redirect leads.
        redact: takes the key out of the server's text.
    """
    if wait_s is None and (delay := _RETRY_DELAY.search(data)):
        wait_s = float(delay[1])
    text = error_text(data)
    if 300 <= status < 400:
        text = (
            f"a redirect to {location}, which is not followed with a key; put it into base_url."
            f" {text}"
        )
    return transport.status_error(status, redact(text), wait_s, codes_of(_json_of(data)))


def codes_of(body: object) -> tuple[str, ...]:
    """List what an error object calls itself: its numbers and words, not its sentence.

    >>> codes_of({"error": {"message": "no", "type": "server_error", "code": 503}})
    ('503', 'server_error')
    """
    if not isinstance(body, Mapping):
        return ()
    inner = body.get("error")
    if isinstance(inner, Mapping):
        body = inner
    words = [body.get(name) for name in ("code", "status", "status_code", "type")]
    return tuple(str(w) for w in words if isinstance(w, str | int) and not isinstance(w, bool))


def _status_of(code: str) -> int | None:
    """Return the HTTP status that a code in an error stands for; None for other codes."""
    if code.isdecimal() and len(code) == 3 and code >= "400":
        return int(code)
    return STATUS_OF_WORDS.get(code)


def _model_name(model: str) -> str:
    """Cut a path on the server's disk, as llama.cpp gives it, to the file's name."""
    return model.rpartition("/")[2] if model.startswith("/") else model


def _json_of(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except UNDECODABLE:
        return None


def error_text(data: bytes) -> str:
    """Find the sentence in an error body; the body itself where there is none."""
    text, value = data.decode("utf-8", "replace"), _json_of(data)
    inner = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(inner, dict):
        inner = inner.get("message") or inner.get("detail") or inner
    return inner if isinstance(inner, str) else text
