"""The exchange of one request with a streaming HTTP API: sending, timing and errors.

Every HTTP provider is an `HttpProvider`: it defines the address, the body and the `PartialReply`
that assembles its events; connections, timing at the network read, errors and the key are handled
here.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

import httpx
import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ConfigError, ProviderError, ProviderUnavailable
from workbench.runner.providers import broken_requests, effort, ratelimits, transport
from workbench.runner.providers.partial_reply import PartialReply
from workbench.runner.providers.protocol import OnChunk, Reply, Request, StreamBroken
from workbench.runner.providers.received_reply import (
    BODY_BYTES,
    ERROR_BYTES,
    ReceivedReply,
    refusal,
    web_page,
)
from workbench.runner.providers.services import Quirks

_encode = msgspec.json.Encoder().encode
_AFTER_DONE_S = 2.0  # how long to wait for the end of a body after its last event


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
        attempt.take_whole(body, 0.0)
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


class _Attempt(ReceivedReply):
    """One request on the wire."""

    def __init__(
        self,
        provider: HttpProvider,
        request: Request,
        on_chunk: OnChunk | None,
        effort_sent: str | None,
    ) -> None:
        super().__init__(
            provider.partial_reply(),
            provider=provider.name,
            model=request.model,
            effort_sent=effort_sent,
            started_at=provider.now(),
            redact=provider.redact,
            on_chunk=on_chunk,
        )
        self._host = provider
        self._start = time.perf_counter()

    async def run(self, client: httpx.AsyncClient, url: httpx.URL, body: bytes) -> Reply:
        request = client.build_request("POST", url, content=body)
        self._start = time.perf_counter()
        response = await client.send(request, stream=True)
        try:
            headers = {name.lower(): value for name, value in response.headers.raw}
            ratelimits.tell(headers, self._host.now())
            self.begin(response.status_code, headers)
            if self.status != 200:
                raise self.failure(await self._refusal(response))
            kind = headers.get(b"content-type", b"")
            if kind.startswith(b"text/html"):
                raise self.failure(web_page(await self._beginning(response), self.redact))
            if b"json" in kind:
                await self._whole(response)
            else:
                await self._stream(response)
        finally:
            await response.aclose()
        return self.whole()

    async def _stream(self, response: httpx.Response) -> None:
        read = self._pieces(response)
        async for data in read:
            self.feed(data, time.perf_counter() - self._start)
            if self.got.done:
                await _drain(read)
                return
        self.end_stream()

    async def _whole(self, response: httpx.Response) -> None:
        """Read a reply of a server that does not stream."""
        self.streamed = False
        parts, size = [], 0
        async for data in self._pieces(response):
            parts.append(data)
            size += len(data)
            if size > BODY_BYTES:
                raise self.failure(ProviderUnavailable("the body is too long", kind="bad_response"))
        self.take_whole(b"".join(parts), time.perf_counter() - self._start)

    def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            return transport.pieces(response)
        except ProviderError as error:
            raise self.failure(error) from None

    async def _beginning(self, response: httpx.Response) -> bytes:
        data = b""
        async for piece in self._pieces(response):
            data += piece
            if len(data) > ERROR_BYTES:
                break
        self.last_s = time.perf_counter() - self._start
        return data

    async def _refusal(self, response: httpx.Response) -> ProviderError:
        data = await self._beginning(response)
        wait = ratelimits.retry_after_s(response.headers, self._host.now())
        leads = response.headers.get("location", "nowhere")
        return refusal(response.status_code, data, wait, location=leads, redact=self.redact)


def _with_resends(reply: Reply, n_sent: int) -> Reply:
    """Count in a reply's call how often its request had gone out before."""
    if n_sent == 1:
        return reply
    return msgspec.structs.replace(
        reply, call=msgspec.structs.replace(reply.call, n_retries=n_sent - 1)
    )


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one request over another; objects within are laid over each other too."""
    combined = dict(under)
    for name, value in over.items():
        below = combined.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        # `both` holds where each of them is a mapping
        combined[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return combined


async def _drain(read: AsyncIterator[bytes]) -> None:
    """Read the rest of a body, so that the connection can be reused; some servers never end it."""
    with contextlib.suppress(*transport.FAILURES):
        async with asyncio.timeout(_AFTER_DONE_S):
            async for _ in read:
                pass
