"""Wire access to a provider's service: plain requests with its key, and errors as of calls."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import httpx
import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderUnavailable
from workbench.runner.providers import ratelimits, transport
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.received_reply import error_text

T = TypeVar("T")
_ERROR_BYTES = 65_536
_LINE_BYTES = 256_000_000  # longest line, so that an endless one does not exhaust the memory


class Wire:
    """Sends requests to any path of a provider's service."""

    def __init__(self, provider: HttpProvider) -> None:
        """Share the connections and the key of a provider."""
        self.provider = provider

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; the block reads the response.

        The path is relative to the provider's address, also where a server names another one: the
        key is sent nowhere else.

        Raises:
            ProviderRejected: a retry will not help.
            ProviderUnavailable: no or no valid answer; the request may have been carried out.
        """
        client, url = self.provider.client, httpx.URL(self.provider.base + path)
        request = client.build_request(method, url, content=content, headers=dict(headers or {}))
        try:
            response = await client.send(request, stream=True)
            try:
                if response.status_code >= 300:
                    raise await self._refusal(response)
                yield response
            finally:
                await response.aclose()
        except transport.FAILURES as error:
            named = transport.transport_error(error, self.provider.base)
            message = self.provider.redact(str(named))
            raise ProviderUnavailable(message, kind=named.kind) from None

    async def _refusal(self, response: httpx.Response) -> Exception:
        data = b""
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > _ERROR_BYTES:
                break
        wait = ratelimits.retry_after_s(response.headers, self.provider.now())
        text = self.provider.redact(error_text(data))
        return transport.status_error(response.status_code, text, wait)

    async def json(
        self,
        method: str,
        path: str,
        kind: type[T],
        content: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send a request and decode its reply; content other than bytes is sent as JSON."""
        body = (
            content
            if content is None or isinstance(content, bytes)
            else msgspec.json.encode(content)
        )
        async with self.open(method, path, body, headers) as response:
            data = b"".join([piece async for piece in response.aiter_raw()])
        try:
            return msgspec.json.decode(data, type=kind)
        except UNDECODABLE as error:
            excerpt = self.provider.redact(data[:1000].decode("utf-8", "replace"))[:200]
            message = f"{path} answered what is none of this API's: {excerpt!r} ({error})"
            raise ProviderUnavailable(message, kind="bad_response") from None

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """Read the lines of a file as they arrive, without their ends."""
        rest: list[bytes] = []
        size = 0
        async with self.open("GET", path) as response:
            async for data in response.aiter_raw():
                *whole, last = data.split(b"\n")
                for line in whole:
                    yield b"".join((*rest, line))
                    rest, size = [], 0
                rest.append(last)
                size += len(last)
                if size > _LINE_BYTES:
                    raise ProviderUnavailable(f"a line of {path} does not end", kind="bad_response")
        if line := b"".join(rest):
            yield line
