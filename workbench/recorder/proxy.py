"""The proxy on loopback: forwards requests to model APIs byte by byte, and observes the replies.

Its addresses hold a random token, so that no other program and no web page can use it. The keys in
the requests are forwarded and kept in memory, to be taken out of recorded texts.
"""

import dataclasses
import datetime as dt
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from workbench.errors import ConfigError, ProviderError, ProviderUnavailable
from workbench.recorder import requests
from workbench.records import Call
from workbench.runner.providers import ratelimits, transport
from workbench.runner.providers.protocol import Reply
from workbench.runner.providers.received_reply import (
    BODY_BYTES,
    ERROR_BYTES,
    ReceivedReply,
    refusal,
    web_page,
)
from workbench.runner.providers.registry import KINDS
from workbench.runner.providers.services import name_of

_REQUEST_BYTES = 256_000_000
# hop-by-hop (RFC 9110, 7.6.1), and what is made anew
_NOT_FORWARDED = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "accept-encoding",
    }
)
_READABLE = ("gzip", "deflate", "identity")  # encodings that can be read here
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")


@dataclasses.dataclass(frozen=True)
class Upstream:
    """One API whose address the proxy takes.

    Attributes:
        name: in the proxy's addresses.
        url: where its requests go.
        variables: of the environment, which programs read its address from.
    """

    name: str
    url: str
    variables: tuple[str, ...]


UPSTREAMS = (
    Upstream("openai", "https://api.openai.com/v1", ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    Upstream("anthropic", "https://api.anthropic.com", ("ANTHROPIC_BASE_URL",)),
    Upstream("gemini", "https://generativelanguage.googleapis.com", ("GOOGLE_GEMINI_BASE_URL",)),
)


def upstreams(environ: Mapping[str, str]) -> list[Upstream]:
    """Return the APIs with the addresses that the environment gives them, or their own.

    Raises:
        ConfigError: a variable holds no address.
    """
    chosen = []
    for upstream in UPSTREAMS:
        name = next((v for v in upstream.variables if environ.get(v)), None)
        url = environ[name].rstrip("/") if name else upstream.url
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ConfigError(f"{name} is {url!r}, which is no http address; correct or unset it")
        chosen.append(dataclasses.replace(upstream, url=url))
    return chosen


class ForwardedCall(NamedTuple):
    """One request that was forwarded, and what came of it.

    Attributes:
        request: as it came, not read yet.
        reply: what arrived.
        call: the record of the call; it does not name the model yet, which stands in the request.
        ended_at: when the last of it arrived, in UTC.
    """

    request: requests.RawRequest
    reply: Reply
    call: Call
    ended_at: dt.datetime


class Keys:
    """The keys that were seen in requests; they are taken out of every text, and kept nowhere."""

    def __init__(self) -> None:
        """Begin without a key."""
        self._keys: set[str] = set()

    def see(self, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        """Note the keys of a request."""
        for name in _KEY_HEADERS:
            self._keys.add(headers.get(name, "").removeprefix("Bearer ").strip())
        self._keys.add(query.get("key", ""))
        self._keys.discard("")

    def redact(self, text: str) -> str:
        """Take the keys out of a text."""
        for key in self._keys:
            text = transport.redact(text, key)
        return text


class Proxy:
    """A server that forwards to upstreams; use it as an asynchronous context manager.

    Attributes:
        n_forwarded: requests that were forwarded but are not recorded, as lists of models.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        on_call: Callable[[ForwardedCall], None],
        *,
        keys: Keys,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            upstreams: the APIs.
            on_call: called in the loop's thread with every call that ended.
            keys: takes the keys of the requests.
            now: the time of day in UTC.
        """
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        # those of the environment; its .netrc is not read, which would send a password
        self._proxies = {u.name: transport.proxy_of(u.url) for u in self._upstreams.values()}
        self._on_call, self._keys, self._now = on_call, keys, now
        self._token = secrets.token_urlsafe(16)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0
        self.n_forwarded = 0

    async def __aenter__(self) -> "Proxy":
        """Listen on a free port of 127.0.0.1."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30.0),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        app = web.Application(client_max_size=_REQUEST_BYTES)
        app.router.add_route("*", "/{token}/{upstream}/{path:.*}", self._handle)
        # a client that is gone cancels its request, which closes the connection to the upstream
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, auto_decompress=False
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening; requests in flight are cancelled and recorded as such."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that lead a program to the proxy.

        Args:
            environ: the program's environment; where it names a proxy of its own, 127.0.0.1 is
                excepted from that.
        """
        addresses = {
            variable: self.url_of(upstream.name)
            for upstream in self._upstreams.values()
            for variable in upstream.variables
        }
        if not any(name.lower() in {"http_proxy", "all_proxy"} for name in environ):
            return addresses
        excepted = environ.get("no_proxy") or environ.get("NO_PROXY")
        hosts = ",".join(filter(None, (excepted, "127.0.0.1")))
        return addresses | {"no_proxy": hosts, "NO_PROXY": hosts}

    def url_of(self, upstream: str) -> str:
        """Return the address that stands for an upstream's."""
        return f"http://127.0.0.1:{self._port}/{self._token}/{upstream}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token, name = request.match_info["token"], request.match_info["upstream"]
        upstream = self._upstreams.get(name)
        if not secrets.compare_digest(token.encode(), self._token.encode()) or upstream is None:
            return web.Response(status=404, text="workbench record has no such address\n")
        if "upgrade" in request.headers.get("connection", "").lower():
            return web.Response(status=501, text="workbench record forwards no WebSocket\n")
        body = await request.read()
        self._keys.see(request.headers, request.query)
        path = "/" + request.match_info["path"]
        endpoint = requests.endpoint_of(path) if request.method == "POST" else None
        exchange = _Exchange(upstream.url, endpoint or "chat", self._now, self._keys.redact)
        try:
            return await self._forward(request, upstream, body, exchange)
        finally:
            if endpoint is None:
                self.n_forwarded += 1
            else:
                encoding = request.headers.get("content-encoding", "")
                asked = requests.RawRequest(endpoint, path, body, encoding)
                self._on_call(exchange.ended(asked))

    async def _forward(
        self, request: web.Request, upstream: Upstream, body: bytes, exchange: "_Exchange"
    ) -> web.StreamResponse:
        assert self._session is not None  # a request can only come after __aenter__
        _, _, path = request.raw_path.partition(f"/{upstream.name}")
        exchange.sent()
        try:
            answer = await self._session.request(
                request.method,
                URL(upstream.url + path, encoded=True),
                headers=_to_upstream(request.headers),
                data=body or None,
                allow_redirects=False,
                proxy=self._proxies[upstream.name],
            )
        except (aiohttp.ClientError, OSError) as error:
            failed = transport.transport_error(error, upstream.url)
            exchange.failed(failed)
            return web.Response(status=502, text=f"workbench record: {failed}\n")
        async with answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend(_to_client(answer.headers))
            response.content_length = answer.content_length
            exchange.begin(answer.status, answer.headers)
            await response.prepare(request)
            while True:
                try:
                    data = await answer.content.readany()
                except (aiohttp.ClientError, OSError) as error:
                    exchange.failed(transport.transport_error(error, upstream.url))
                    if request.transport is not None:
                        request.transport.abort()  # the client must see that the reply broke off
                    return response
                if not data:
                    break
                at = time.perf_counter()
                await response.write(data)
                exchange.feed(data, at)
            await response.write_eof()
            exchange.end()
        return response


class _Exchange:
    """What is observed of one request and its reply; it never fails the request."""

    def __init__(
        self,
        url: str,
        endpoint: str,
        now: Callable[[], dt.datetime],
        redact: Callable[[str], str],
    ) -> None:
        self._url, self._endpoint, self._now, self._redact = url, endpoint, now, redact
        self._start = time.perf_counter()
        self._received = self._begun()
        self._unpack: Callable[[bytes], bytes] = bytes
        self._headers: Mapping[str, str] = {}
        self._kind = ""
        self._whole: list[bytes] = []
        self._size = 0
        self._at_s = 0.0
        self._error: ProviderError | None = None
        self._has_ended = False

    def _begun(self) -> ReceivedReply:
        return ReceivedReply(
            KINDS[self._endpoint].partial_reply(),
            provider=name_of(self._url),
            model="",
            effort_sent=None,
            started_at=self._now(),
            redact=self._redact,
        )

    def sent(self) -> None:
        """Note that the request goes out now."""
        self._received = self._begun()
        self._start = time.perf_counter()

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the status and the headers."""
        self._headers = headers
        self._received.begin(
            status, {k.lower().encode(): v.encode("utf-8", "replace") for k, v in headers.items()}
        )
        self._kind = headers.get("content-type", "")
        self._unpack = _unpacker(headers.get("content-encoding", ""))

    @property
    def _is_stream(self) -> bool:
        kind = self._kind
        return (
            self._received.status == 200
            and not kind.startswith("text/html")
            and ("json" not in kind)
        )

    def feed(self, data: bytes, at: float) -> None:
        """Take bytes that arrived at a time of `perf_counter`."""
        if self._error is not None:
            return
        self._at_s = at - self._start
        try:
            data = self._unpack(data)
            if self._is_stream:
                self._received.feed(data, self._at_s)
                return
            self._size += len(data)
            if self._size > BODY_BYTES:
                raise ProviderUnavailable("the body is too long", kind="bad_response")
            self._whole.append(data)
        except ProviderError as error:
            self._error = error
        except zlib.error as error:
            text = f"the body could not be decompressed: {error}"
            self._error = ProviderUnavailable(text, kind="bad_response")

    def end(self) -> None:
        """Take the end of the body."""
        self._has_ended = True
        if self._error is not None:
            return
        received, body = self._received, b"".join(self._whole)
        try:
            if received.status != 200:
                raise self._refused(body)
            if self._is_stream:
                received.end_stream()
            elif self._kind.startswith("text/html"):
                raise web_page(body[:ERROR_BYTES], self._redact)
            elif body.lstrip()[:1] == b"[":  # Gemini's stream without `alt=sse`
                for piece in msgspec.json.decode(body, type=list[msgspec.Raw]):
                    received.take_whole(bytes(piece), self._at_s)
            else:
                received.take_whole(body, self._at_s)
            received.whole()
        except ProviderError as error:
            self._error = error
        except msgspec.DecodeError as error:
            self._error = ProviderUnavailable(f"the body is no JSON: {error}", kind="bad_response")

    def _refused(self, body: bytes) -> ProviderError:
        status = self._received.status or 0
        self._received.last_s = self._at_s
        wait_s = ratelimits.retry_after_s(self._headers, self._now())
        location = self._headers.get("location", "nowhere")
        return refusal(status, body[:ERROR_BYTES], wait_s, location=location, redact=self._redact)

    def failed(self, error: ProviderError) -> None:
        """Note that the connection to the upstream failed; what is whole has not."""
        if not self._received.got.is_whole:
            self._error = self._error or error
        self._has_ended = True

    def ended(self, request: requests.RawRequest) -> ForwardedCall:
        """Return the call, with all that arrived of its reply."""
        received = self._received
        if not self._has_ended and not received.got.is_whole:  # the client went away
            return ForwardedCall(request, received.reply(), received.cancelled(), self._now())
        reply = received.reply()
        call = reply.call
        if self._error is not None:
            call = msgspec.structs.replace(
                call,
                stop_reason="error",
                error_type=self._error.kind,
                error_message=self._redact(str(self._error)),
            )
        return ForwardedCall(request, reply, call, self._now())


def _to_upstream(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a request as they are forwarded; encodings are those that are read."""
    accepted = [word.strip() for word in headers.get("accept-encoding", "").split(",")]
    readable = [word for word in accepted if word.partition(";")[0].strip().lower() in _READABLE]
    forwarded = [(k, v) for k, v in headers.items() if k.lower() not in _NOT_FORWARDED]
    return [*forwarded, ("Accept-Encoding", ", ".join(readable) or "identity")]


def _to_client(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(k, v) for k, v in headers.items() if k.lower() not in _NOT_FORWARDED]


def _unpacker(encoding: str) -> Callable[[bytes], bytes]:
    """Return a function that decompresses a body piece by piece."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return bytes
    if name not in {"gzip", "x-gzip", "deflate"}:
        return _unreadable
    unpacking = zlib.decompressobj(zlib.MAX_WBITS + (0 if name == "deflate" else 16))

    def unpack(data: bytes) -> bytes:
        unpacked = unpacking.decompress(data, BODY_BYTES)
        if unpacking.unconsumed_tail:
            raise ProviderUnavailable("the body is too long", kind="bad_response")
        return unpacked

    return unpack


def _unreadable(data: bytes) -> bytes:
    del data
    raise ProviderUnavailable(
        "the body came in an encoding that was not asked for", kind="bad_response"
    )
