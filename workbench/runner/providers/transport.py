"""The HTTP client: httpx's interface over aiohttp's transport, and what its failures mean.

Plain httpx delays what it reads above some 50 fast streams, so it would corrupt the latencies that we
measure; `kind="httpx"` is there to compare. One pool per provider, as large as the calls in flight.
"""

import base64
import datetime as dt
import email.utils
import functools
import json
import logging
import math
import re
import ssl
import urllib.request
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import aiohttp
import httpx

from workbench.errors import ConfigError, ProviderError, ProviderRejected, ProviderUnavailable

FAILURES: tuple[type[Exception], ...] = (
    httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, aiohttp.ClientError,
    OSError,  # TimeoutError is one
)  # fmt: skip
_STALE = (
    httpx.RemoteProtocolError, httpx.WriteError, aiohttp.ServerDisconnectedError,
    ConnectionResetError, BrokenPipeError,
)  # fmt: skip
RETRYABLE = frozenset({408, 409, 425, 429})  # and every 5xx
TEXT_LIMIT = 500
SECRET_CHARS = 8  # shorter "keys" are the placeholders that local servers take


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
) -> httpx.AsyncClient:
    """Build a client whose pool holds `concurrency` connections; silent for `timeout_s` is an error."""
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 30.0), pool=None)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    if kind == "httpx":
        # its debug log would hold the server's headers, and a server may echo the key there
        logging.getLogger("httpcore").setLevel(logging.INFO)
        return httpx.AsyncClient(headers=dict(headers), timeout=timeout, limits=limits)
    if kind != "aiohttp":
        raise ConfigError(f"there is no transport {kind!r}; there are aiohttp and httpx")
    import httpx_aiohttp

    transport = httpx_aiohttp.AiohttpTransport(limits=limits, proxy=_proxy(base_url))
    transport.client = lambda: _session(transport.ssl_context, concurrency)
    return httpx.AsyncClient(headers=dict(headers), timeout=timeout, transport=transport)


def _session(tls: ssl.SSLContext, concurrency: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=concurrency, ssl=tls, keepalive_timeout=15.0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _proxy(base_url: str) -> httpx.Proxy | None:
    """Find the proxy of the environment once, instead of once a request."""
    url = httpx.URL(base_url)
    proxy = urllib.request.getproxies().get(url.scheme)
    return None if not proxy or urllib.request.proxy_bypass(url.host) else httpx.Proxy(proxy)


def redact(text: str, secret: str | None) -> str:
    """Take the key out of a text that a server sent, however it is written there."""
    if secret and len(secret) >= SECRET_CHARS:
        for shape in _shapes(secret):
            if shape in text:
                text = text.replace(shape, "[key]")
    return text


@functools.lru_cache(maxsize=16)
def _shapes(secret: str) -> tuple[str, ...]:
    """List the ways to write a key: as it is, in JSON, in an address, in base64 within anything, in hex."""
    data = secret.encode()
    shapes = {
        secret,
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
        data.hex(),
        data.hex().upper(),
    }
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        shapes |= {quoted, re.sub("%..", lambda found: found[0].lower(), quoted)}
    for before in range(3):  # whole characters of base64, whatever stands before and after
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            shapes.add(encode(b"\0" * before + data).decode()[first:last])
    return tuple(sorted(shapes, key=len, reverse=True))


def retry_after_s(headers: Mapping[str, str], now: dt.datetime) -> float | None:
    """Read how long the server asks us to wait: milliseconds, seconds or an HTTP date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                then = email.utils.parsedate_to_datetime(text)
            except ValueError:
                continue
            if then.tzinfo is None:
                then = then.replace(tzinfo=dt.UTC)
            seconds = (then - now).total_seconds()
        if not math.isnan(seconds):
            return max(seconds, 0.0)
    return None


def status_error(status: int, text: str, wait_s: float | None) -> ProviderError:
    """Say what a status means: RETRYABLE and 5xx are worth asking again, the others are not."""
    said = " ".join(text.split())[:TEXT_LIMIT] or "nothing"
    message = f"the server answered {status}: {said}"
    if status in RETRYABLE or status >= 500:
        return ProviderUnavailable(message, kind=f"http_{status}", retry_after_s=wait_s)
    if status in {401, 403}:
        message += "; check the key in the environment variable that api_key_env names"
    if status == 404:
        message += "; check base_url and model"
    return ProviderRejected(message, kind=f"http_{status}")


def transport_error(error: BaseException, where: str) -> ProviderUnavailable:
    """Say what a failure of the connection means; all are worth asking again."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError | httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return ProviderUnavailable(f"no answer in time from {where}", kind="timeout")
    detail = str(cause) or type(cause).__name__
    return ProviderUnavailable(f"the connection to {where} failed: {detail}", kind="connection")


def is_stale(error: BaseException) -> bool:
    """Say whether the other side had closed the connection, as it does with one that was pooled."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _STALE):
            return True
        cause = cause.__cause__
    return False
