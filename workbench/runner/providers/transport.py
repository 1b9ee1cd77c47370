"""The HTTP transport: httpx's interface over aiohttp, and the errors that its failures become.

Plain httpx delays reads above some 50 fast streams, which would distort the measured latencies;
`kind="httpx"` is there to compare. One pool per provider, as large as the calls in flight.
"""

import base64
import contextlib
import functools
import importlib.util
import json
import logging
import re
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import httpx

from workbench.errors import ConfigError, ProviderError, ProviderRejected, ProviderUnavailable

FAILURES: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.StreamError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,  # TimeoutError is one
)
_STALE = (
    httpx.RemoteProtocolError,
    httpx.WriteError,
    aiohttp.ServerDisconnectedError,
    ConnectionResetError,
    BrokenPipeError,
)
RETRYABLE = frozenset({408, 409, 425, 429})  # and every 5xx
TEXT_LIMIT = 500
_CREDIT_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
    }
)
_CREDIT = re.compile(r"(?i)credit balance is too low|insufficient (?:balance|credits|funds)")
_ENCODINGS = frozenset({"identity", "gzip", "deflate", "zstd"}) | (
    {"br"} if any(map(importlib.util.find_spec, ("brotli", "brotlicffi"))) else frozenset()
)
SECRET_CHARS = 8  # shorter "keys" are the placeholders that local servers take


class Connection:
    """How one request went out.

    Attributes:
        is_reused: whether over a connection that had served before, which the server may have
            closed.
    """

    def __init__(self) -> None:
        """Nothing is known before the request has gone out."""
        self.is_reused = False


_connection: ContextVar[Connection | None] = ContextVar("_connection", default=None)


@contextlib.contextmanager
def watching(connection: Connection) -> Iterator[None]:
    """Note of the request that is sent in this block whether its connection had served before."""
    token = _connection.set(connection)
    try:
        yield
    finally:
        _connection.reset(token)


async def _reused(*_: Any) -> None:
    if (connection := _connection.get()) is not None:
        connection.is_reused = True


async def _traced(request: httpx.Request) -> None:
    """Have httpx's own transport tell whether it makes a connection for a request."""
    connection = _connection.get()
    if connection is None:
        return
    connection.is_reused = True

    async def trace(event: str, _: Any) -> None:
        if event.startswith("connection.connect_"):
            connection.is_reused = False

    request.extensions["trace"] = trace


@functools.lru_cache(maxsize=256)
def address(url: str) -> httpx.URL:
    """Parse an address, once: it costs as much as a chunk."""
    return httpx.URL(url)


def make_client(
    base_url: str,
    headers: Mapping[str, str],
    *,
    concurrency: int,
    timeout_s: float,
    kind: str = "aiohttp",
    keep: bool = True,
) -> httpx.AsyncClient:
    """Build a client with a pool of `concurrency` connections; `timeout_s` limits each read.

    Without `keep` each request has a connection of its own.
    """
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 30.0), pool=None)
    n_kept = concurrency if keep else 0
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=n_kept)
    if kind == "httpx":
        # its debug log would hold the server's headers, and a server may echo the key there
        logging.getLogger("httpcore").setLevel(logging.INFO)
        hooks = {"request": [_traced]}
        return httpx.AsyncClient(
            headers=dict(headers), timeout=timeout, limits=limits, event_hooks=hooks
        )
    if kind != "aiohttp":
        raise ConfigError(f"there is no transport {kind!r}; there are aiohttp and httpx")
    import httpx_aiohttp

    url = proxy_of(base_url)
    proxy = None if url is None else httpx.Proxy(url)
    transport = httpx_aiohttp.AiohttpTransport(limits=limits, proxy=proxy)
    transport.client = lambda: _session(transport.ssl_context, concurrency, keep=keep)
    return httpx.AsyncClient(headers=dict(headers), timeout=timeout, transport=transport)


def _session(tls: ssl.SSLContext, concurrency: int, *, keep: bool) -> aiohttp.ClientSession:
    connection_options: dict[str, Any] = (
        {"keepalive_timeout": 15.0} if keep else {"force_close": True}
    )
    connector = aiohttp.TCPConnector(limit=concurrency, ssl=tls, **connection_options)
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_reused)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace]
    )


def proxy_of(base_url: str) -> str | None:
    """Find the environment's proxy for an address; ask once, not with every request."""
    url = httpx.URL(base_url)
    proxy = urllib.request.getproxies().get(url.scheme)
    return None if urllib.request.proxy_bypass(url.host) else proxy or None


def redact(text: str, secret: str | None) -> str:
    """Take the key out of a text that a server sent, however it is written there."""
    if secret and len(secret) >= SECRET_CHARS:
        for shape in _shapes(secret):
            if shape in text:
                text = text.replace(shape, "[key]")
    return text


@functools.lru_cache(maxsize=16)
def _shapes(secret: str) -> tuple[str, ...]:
    """List the forms of a key to redact: plain, in JSON, in a URL, in base64 and in hex."""
    data = secret.encode()
    shapes = {
        secret,
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
        data.hex(),
        data.hex().upper(),
    }
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        shapes |= {quoted, re.sub("%..", lambda match: match[0].lower(), quoted)}
    for before in range(3):  # whole characters of base64, whatever stands before and after
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            shapes.add(encode(b"\0" * before + data).decode()[first:last])
    return tuple(sorted(shapes, key=len, reverse=True))


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Read a body as it arrives, decoded where the server compressed it without being asked.

    Raises:
        ProviderUnavailable: it came in an encoding that cannot be read here.
    """
    encoding = response.headers.get("content-encoding", "")
    encodings = {word.strip().lower() for word in encoding.split(",")} - {"", "identity"}
    if not encodings:
        return response.aiter_raw()
    if encodings - _ENCODINGS:
        what = (
            f"the body came in the encoding {encoding!r}, which was not asked for and cannot be"
            " read"
        )
        raise ProviderUnavailable(what, kind="bad_response")
    return response.aiter_bytes()


def is_out_of_credit(codes: Collection[str], text: str) -> bool:
    """Whether an error means that the account has no money left, with any status."""
    return not _CREDIT_CODES.isdisjoint(codes) or _CREDIT.search(text) is not None


def status_error(
    status: int, text: str, wait_s: float | None, codes: Collection[str] = ()
) -> ProviderError:
    """Return the error of an HTTP status: RETRYABLE and 5xx can be retried, others cannot.

    Args:
        status: of HTTP, or the one that an error within a stream stands for.
        text: the server's sentence.
        wait_s: how long it asks to wait.
        codes: what the error calls itself. An account without credit is `insufficient_quota`, which
            no waiting mends, though it comes as a 429.
    """
    shown = " ".join(text.split())[:TEXT_LIMIT] or "nothing"
    message = f"the server answered {status}: {shown}"
    if status != 402 and is_out_of_credit(codes, text):
        message += "; the account has no credit left: add some, then collect again"
        return ProviderRejected(message, kind="insufficient_quota")
    if status in RETRYABLE or status >= 500:
        return ProviderUnavailable(message, kind=f"http_{status}", retry_after_s=wait_s)
    if status in {401, 403}:
        message += "; check the key in the environment variable that api_key_env names"
    if status == 404:
        message += "; check base_url and model"
    return ProviderRejected(message, kind=f"http_{status}")


def transport_error(error: BaseException, where: str, *, reached: bool = False) -> ProviderError:
    """Return the error of a failed connection.

    Most may pass and are worth asking again. A certificate that is not trusted, a server that
    speaks no TLS, and a host that has no address are not: they are the same for every request.

    Args:
        error: what the transport raised.
        where: the server, for the message.
        reached: whether the server has answered before: then a name that is not found for the
            moment is a passing trouble.
    """
    chain = list(_causes(error))
    cause = error.__cause__ or error
    detail = str(cause) or type(cause).__name__
    connecting = any(
        isinstance(e, httpx.ConnectError | aiohttp.ClientConnectorError) for e in chain
    )
    if connecting and (name := next((e for e in chain if isinstance(e, socket.gaierror)), None)):
        message = f"the host of {where} was not found: {detail}"
        if reached and name.errno == socket.EAI_AGAIN:
            return ProviderUnavailable(message, kind="dns")
        return ProviderRejected(f"{message}; check base_url and the network", kind="dns")
    if connecting and any(_is_tls(e) for e in chain):
        message = f"no trusted TLS connection to {where}: {detail}"
        return ProviderRejected(
            f"{message}; check base_url, the server's certificate and SSL_CERT_FILE", kind="tls"
        )
    if isinstance(error, TimeoutError | httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return ProviderUnavailable(f"no answer in time from {where}", kind="timeout")
    if isinstance(error, httpx.DecodingError):
        message = f"the body from {where} could not be decompressed: {detail}"
        return ProviderUnavailable(message, kind="bad_response")
    # a bill has no request that could not be sent
    kind = "connect" if connecting else "connection"
    return ProviderUnavailable(f"the connection to {where} failed: {detail}", kind=kind)


def _is_tls(error: BaseException) -> bool:
    """Whether an error is one of TLS itself, not a connection that broke off meanwhile."""
    passing = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError
    return isinstance(error, ssl.SSLError) and not isinstance(error, passing)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error to what caused it; the cause of an aiohttp error may be its attribute."""
    seen: set[int] = set()
    unvisited: list[BaseException | None] = [error]
    while unvisited:
        current = unvisited.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        unvisited += [current.__cause__, current.__context__]
        unvisited += [getattr(current, name, None) for name in ("os_error", "certificate_error")]


def is_stale(error: BaseException) -> bool:
    """Whether the server had closed the connection, as happens with pooled ones."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _STALE):
            return True
        cause = cause.__cause__
    return False
