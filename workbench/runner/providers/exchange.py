"""The exchange of one request with a streaming HTTP API: sending, timing and errors.

Every HTTP provider is an `HttpProvider`: it defines the address, the body and the `PartialReply`
that assembles its events; connections, timing at the network read, errors and the key are handled
here.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

import httpx
import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ConfigError, ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import Call
from workbench.runner.providers import broken_requests, effort, ratelimits, transport
from workbench.runner.providers import usage as usages
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, cleaned
from workbench.runner.providers.protocol import CallRefused, OnChunk, Reply, Request, StreamBroken
from workbench.runner.providers.services import Quirks
from workbench.runner.providers.sse import Event, EventStream

_encode = msgspec.json.Encoder().encode
_AFTER_DONE_S = 2.0  # how long to wait for the end of a body after its last event
_ERROR_BYTES = 65_536
_BODY_BYTES = 64_000_000
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


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class _Tokens(msgspec.Struct):
    tokens: list[Any]


class HttpProvider:
    """One server that is asked over HTTP and streams its reply.

    The key is read by the caller, goes out in one header only, and is taken out of whatever the
    server says.
    """

    partial_reply: ClassVar[type[PartialReply]]
    default_name: ClassVar[str]

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 600.0,
        extra_body: Mapping[str, Any] | None = None,
        quirks: Quirks | None = None,
        http: str = "aiohttp",
        now: Callable[[], dt.datetime] = _now,
    ) -> None:
        """Bind to a server; no request is made yet."""
        self.name = name or self.default_name
        self.base = base_url.rstrip("/")
        self.quirks = quirks or Quirks()
        self._key, self._now = api_key, now
        self._timeout_s = timeout_s
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
            "accept-encoding": "identity",
            "user-agent": "workbench",
        }
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("the key holds characters that no header may hold; set it anew")
        make = functools.partial(
            transport.make_client,
            base_url,
            headers | self.headers(api_key),
            concurrency=concurrency,
            kind=http,
        )
        self.client, self._make = make(timeout_s=timeout_s), make
        self._spare: httpx.AsyncClient | None = None
        self._keeps = True
        self._tokenize = httpx.URL(self.base.removesuffix("/v1") + "/tokenize")
        self._extra = dict(extra_body or {})
        self._tokenizer: bool | None = None  # not probed yet
        self._reached = False  # whether the server has ever answered

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers of this service; the key, if any, in one of them."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def url(self, request: Request) -> httpx.URL:
        """Return the URL of a request."""
        raise NotImplementedError

    def fields(self, request: Request) -> dict[str, Any]:
        """Write the request in this service's words; ProviderRejected if it cannot."""
        raise NotImplementedError

    def outgoing(self, request: Request) -> dict[str, Any]:
        """Encode the body of a request, without fields that are None, with the further fields."""
        request, further = effort.translate(self.name, self.partial_reply.convention, request)
        body = merged(merged(self._extra, further), self.fields(request))
        return {name: value for name, value in body.items() if value is not None}

    def body(self, request: Request) -> bytes:
        """Write the request as JSON."""
        return _encode(self.outgoing(request))

    def effort_sent(self, body: Mapping[str, Any]) -> str | None:
        """Read out of an outgoing body what it says of effort and thinking; None where nothing."""
        return effort.sent(body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        if self._spare is not None:
            await self._spare.aclose()

    async def count_tokens(self, text: str) -> int | None:
        """Count with the server's `/tokenize`; None from its first refusal on."""
        field = self.quirks.tokenize_field
        if self._tokenizer is False or field is None:
            return None
        special = {"content": "add_special", "prompt": "add_special_tokens"}[field]
        body = _encode({field: text, special: False, "parse_special": True})
        response = await self._post(self._tokenize, body)
        if response is None:
            return None
        if response.status_code != 200:
            self._tokenizer = False
            return None
        self._tokenizer = True
        try:
            return len(msgspec.json.decode(response.content, type=_Tokens).tokens)
        except UNDECODABLE:
            return None

    async def _post(self, url: httpx.URL, body: bytes) -> httpx.Response | None:
        """Post, again on a new connection where a pooled one was closed; None on failure."""
        client = self._client
        for _ in range(2):
            connection = transport.Connection()
            try:
                with transport.watching(connection):
                    return await client.post(url, content=body)
            except transport.FAILURES as error:
                if not self._is_closed(connection, url, error):
                    break
                client = self._fresh
        return None

    @property
    def _client(self) -> httpx.AsyncClient:
        return self.client if self._keeps else self._fresh

    @property
    def _fresh(self) -> httpx.AsyncClient:
        """A client that makes a connection for every request."""
        if self._spare is None:
            self._spare = self._make(timeout_s=self._timeout_s, keep=False)
        return self._spare

    def _is_closed(
        self, connection: transport.Connection, url: httpx.URL, error: Exception
    ) -> bool:
        """Whether a request failed because the server had closed a pooled connection.

        llama.cpp's server closes a connection after a stream without saying so. Where that happens
        without TLS, connections are no longer kept: a new one costs next to nothing there.
        """
        if not connection.is_reused or not transport.is_stale(error):
            return False
        self._keeps = self._keeps and url.scheme != "http"
        return True

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Reply:
        """Send a request once; a closed pooled connection is replaced by a new one, once.

        A request that goes out over a connection of its own is not sent again from here: the server
        may have read it, and charge for it. What had arrived of one that is cancelled is told to
        `tries`.
        """
        url, outgoing = self.url(request), self.outgoing(request)
        body, effort_sent = _encode(outgoing), self.effort_sent(outgoing)
        client, n_sent = self._client, 0
        while True:
            attempt, n_sent = _Attempt(self, request, on_chunk, effort_sent), n_sent + 1
            connection = transport.Connection()
            try:
                with transport.watching(connection):
                    async with asyncio.timeout(self._timeout_s):
                        return _with_resends(await attempt.run(client, url, body), n_sent)
            except asyncio.CancelledError:
                broken_requests.tell(attempt.cancelled())
                raise
            except StreamBroken as broken:
                broken.n_sent = n_sent
                raise
            except transport.FAILURES as error:
                if attempt.got.is_whole:  # only the end of the body is missing
                    return _with_resends(attempt.whole(), n_sent)
                first = n_sent == 1 and attempt.status is None
                if first and self._is_closed(connection, url, error):
                    client = self._fresh
                    continue
                named = transport.transport_error(error, self.base, reached=self._reached)
                failed = attempt.failure(named)
                if isinstance(failed, StreamBroken):
                    failed.n_sent = n_sent
                raise failed from error
            finally:
                self._reached = self._reached or attempt.status is not None

    def read(self, request: Request, body: bytes) -> Reply:
        """Read a reply that came whole and in its own time, as from a batch: it has no times."""
        attempt = _Attempt(self, request, None, self.effort_sent(self.outgoing(request)))
        attempt.take_whole(body)
        return attempt.whole()

    def retime(self, timeout_s: float) -> None:
        """Set the cap of the requests to come."""
        self._timeout_s = timeout_s
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 30.0), pool=None)
        self.client.timeout = timeout
        if self._spare is not None:
            self._spare.timeout = timeout

    def redact(self, text: str) -> str:
        """Take the key out of a text that the server sent."""
        return transport.redact(text, self._key)

    def now(self) -> dt.datetime:
        """Return the wall clock's time."""
        return self._now()


class _Attempt:
    """One request on the wire."""

    def __init__(
        self,
        provider: HttpProvider,
        request: Request,
        on_chunk: OnChunk | None,
        effort_sent: str | None,
    ) -> None:
        self.provider, self.request, self.on_chunk = provider, request, on_chunk
        self.effort_sent = effort_sent
        self.status: int | None = None
        self.got = provider.partial_reply()
        self.streamed = True
        self.last_s = 0.0
        self.request_id: str | None = None
        self.started_at = provider.now()
        self._start = time.perf_counter()

    async def run(self, client: httpx.AsyncClient, url: httpx.URL, body: bytes) -> Reply:
        request = client.build_request("POST", url, content=body)
        self._start = time.perf_counter()
        response = await client.send(request, stream=True)
        try:
            self.status = response.status_code
            headers = {name.lower(): value for name, value in response.headers.raw}
            ratelimits.tell(headers, self.provider.now())
            request_id = headers.get(b"x-request-id") or headers.get(b"request-id")
            self.request_id = request_id.decode("latin-1") if request_id else None
            if self.status != 200:
                raise self.failure(await self._refusal(response))
            kind = headers.get(b"content-type", b"")
            if kind.startswith(b"text/html"):
                raise self.failure(await self._page(response))
            if b"json" in kind:
                await self._whole(response)
            else:
                await self._stream(response)
        finally:
            await response.aclose()
        return self.whole()

    def whole(self) -> Reply:
        """Return the reply that has ended; what is a failure of its host is raised as one."""
        fault = self.got.fault()
        if fault is not None:
            raise self.failure(fault)
        return self.reply()

    async def _stream(self, response: httpx.Response) -> None:
        events, read = EventStream(), self._pieces(response)
        try:
            async for data in read:
                self.last_s = time.perf_counter() - self._start
                self._take(events.feed(data))
                if self.got.done:
                    return await _drain(read)
            self._take(events.close())
        except ValueError as error:
            raise self.failure(ProviderUnavailable(str(error), kind="bad_response")) from error

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if event.type == b"ping" or not (event.data.strip() or event.type == b"error"):
                continue  # it keeps the connection open, and says nothing
            try:
                shown = self.got.take(event, self.last_s)
            except ValueError as error:
                excerpt = self.provider.redact(event.data[:1000].decode("utf-8", "replace"))[:200]
                what = f"an event that is none of this API's: {excerpt!r} ({error})"
                raise self.failure(ProviderUnavailable(what, kind="bad_response")) from error
            except StreamFailed as failed:
                raise self.failure(self._error_event(failed.error)) from None
            if shown and self.on_chunk is not None:
                self.on_chunk(shown)

    async def _whole(self, response: httpx.Response) -> None:
        """Read a reply of a server that does not stream."""
        self.streamed = False
        parts, size = [], 0
        async for data in self._pieces(response):
            parts.append(data)
            size += len(data)
            if size > _BODY_BYTES:
                raise self.failure(ProviderUnavailable("the body is too long", kind="bad_response"))
        self.last_s = time.perf_counter() - self._start
        self.take_whole(b"".join(parts))

    def take_whole(self, body: bytes) -> None:
        """Take the body of a reply that was not streamed."""
        self.streamed, self.got.done = False, True
        self._take([Event(b"message", body)])

    def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            return transport.pieces(response)
        except ProviderError as error:
            raise self.failure(error) from None

    async def _beginning(self, response: httpx.Response) -> bytes:
        data = b""
        async for piece in self._pieces(response):
            data += piece
            if len(data) > _ERROR_BYTES:
                break
        self.last_s = time.perf_counter() - self._start
        return data

    async def _page(self, response: httpx.Response) -> ProviderError:
        """Name what is no reply of any API: a proxy's page to sign in, a wrong address."""
        text = " ".join((await self._beginning(response)).decode("utf-8", "replace").split())
        shown = self.provider.redact(text)[: transport.TEXT_LIMIT]
        message = f"the server answered with a web page, not a reply: {shown}; check base_url"
        return ProviderUnavailable(message, kind="bad_response")

    async def _refusal(self, response: httpx.Response) -> ProviderError:
        data = await self._beginning(response)
        wait = ratelimits.retry_after_s(response.headers, self.provider.now())
        if wait is None and (delay := _RETRY_DELAY.search(data)):
            wait = float(delay[1])
        text = error_text(data)
        if 300 <= response.status_code < 400:
            leads = response.headers.get("location", "nowhere")
            text = (
                f"a redirect to {leads}, which is not followed with a key; put it into base_url."
                f" {text}"
            )
        text = self.provider.redact(text)
        codes = codes_of(_json_of(data))
        return transport.status_error(response.status_code, text, wait, codes)

    def _error_event(self, error: object) -> ProviderError:
        """Read an error that came within the stream; without a code it is worth asking again."""
        codes = codes_of(error)
        status = next((s for s in map(_status_of, codes) if s is not None), None)
        text = error.get("message") if isinstance(error, dict) else error
        text = self.provider.redact(text if isinstance(text, str) else repr(error))
        if status is not None or transport.is_out_of_credit(codes, text):
            return transport.status_error(status or 429, text, None, codes)
        message = f"the server broke off: {text[: transport.TEXT_LIMIT]}"
        return ProviderUnavailable(message, kind="stream_error")

    def failure(self, error: ProviderError) -> ProviderError:
        """Put what arrived beside the cause; no key in the words."""
        message = self.provider.redact(str(error))
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
        got, clean = self.got, self.provider.redact
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
            provider=self.provider.name,
            model=self.request.model,
            response_model=got.model and _model_name(clean(got.model)),
            started_at=self.started_at,
            e2e_s=self.last_s or None,
            stop_reason=got.stop_reason(),
            request_id=request_id and clean(request_id)[:200],
            response_id=got.reply_id and clean(got.reply_id)[:200],
            service_tier=got.tier and clean(got.tier),
            usage=usage and clean(usage),
            logprob_sum=got.logprob_sum,
            effort_sent=self.effort_sent,
            **times,
            **usages.token_fields(
                got.usage,
                got.timings,
                got.model or self.request.model,
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


def _with_resends(reply: Reply, n_sent: int) -> Reply:
    """Count in a reply's call how often its request had gone out before."""
    if n_sent == 1:
        return reply
    return msgspec.structs.replace(
        reply, call=msgspec.structs.replace(reply.call, n_retries=n_sent - 1)
    )


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


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one request over another; objects within are laid over each other too."""
    combined = dict(under)
    for name, value in over.items():
        below = combined.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        # `both` holds where each of them is a mapping
        combined[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return combined


def _model_name(model: str) -> str:
    """Cut a path on the server's disk, as llama.cpp gives it, to the file's name."""
    return model.rpartition("/")[2] if model.startswith("/") else model


async def _drain(read: AsyncIterator[bytes]) -> None:
    """Read the rest of a body, so that the connection can be reused; some servers never end it."""
    with contextlib.suppress(*transport.FAILURES):
        async with asyncio.timeout(_AFTER_DONE_S):
            async for _ in read:
                pass


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
