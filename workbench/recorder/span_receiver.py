"""The receiver of spans: OTLP over HTTP on loopback, put together to traces in the spool.

A trace is written when spans of it have come and it has grown by a quarter since it was written, or
its root has ended; it is written again when later spans come. Spans are held for ten minutes after
the last one of their trace.
"""

import asyncio
import contextlib
import json
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from workbench.errors import ImportFormatError
from workbench.sources.report import FileReport
from workbench.sources.spans import otlp
from workbench.sources.spans.span import Span
from workbench.sources.spans.traces import TraceBuilder
from workbench.spool import SpoolWriter

PORT = 4318  # that of OTLP over HTTP
_BODY_BYTES = 64_000_000
_HELD_S = 600.0
_HELD_SPANS = 200_000  # of all traces; the oldest traces give way
_GROWTH = 1.25
_TICK_S = 1.0
_PROTOBUF = "application/x-protobuf"
_HOSTS = ("127.0.0.1", "localhost", "[::1]")


class Received(NamedTuple):
    """How much was received.

    Attributes:
        n_spans: spans.
        n_traces: traces with a call of a model or a tool.
        n_refused: requests that were not understood.
        n_other: requests with metrics or logs, which are not stored.
    """

    n_spans: int
    n_traces: int
    n_refused: int
    n_other: int


class _OpenTrace:
    """The spans of one trace so far."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.n_written = 0
        self.changed_s = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether its root has come, which SDKs send last."""
        return any(not span.parent_id for span in self.spans.values())


class SpanReceiver:
    """A server for OTLP over HTTP; use it as an asynchronous context manager.

    Attributes:
        faults: what went wrong in the receiver itself, in words.
    """

    def __init__(
        self, spool: SpoolWriter, *, port: int = PORT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            spool: where the traces go.
            port: of 127.0.0.1; 0 takes a free one.
            clock: monotonic seconds.
        """
        self.faults: list[str] = []
        self._spool, self._port, self._clock = spool, port, clock
        self._traces: dict[str, _OpenTrace] = {}
        self._grown: set[str] = set()
        self._calling: set[str] = set()  # traces that had a call
        self._n_spans = self._n_refused = self._n_other = 0
        self._runner: web.AppRunner | None = None
        self._writing: asyncio.Task[None] | None = None

    @property
    def received(self) -> Received:
        """How much was received so far."""
        return Received(self._n_spans, len(self._calling), self._n_refused, self._n_other)

    @property
    def url(self) -> str:
        """The address for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> "SpanReceiver":
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=_BODY_BYTES, middlewares=[_only_local])
        app.router.add_post("/v1/traces", self._take)
        for signal in ("metrics", "logs"):
            app.router.add_post(f"/v1/{signal}", self._pass_over)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self._writing = asyncio.create_task(self._keep_writing())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, and write what is left."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        self._write_grown(all_of_them=True)

    async def _take(self, request: web.Request) -> web.Response:
        is_json = "json" in request.content_type
        try:
            data = _unpacked(await request.read(), request.headers.get("content-encoding", ""))
            where = "the request"
            if is_json:
                spans = list(otlp.spans_of_json(data, where, FileReport(otlp.NO_FILE)))
            else:
                spans = otlp.spans_of_protobuf(data, where)
        except (ImportFormatError, zlib.error) as error:
            self._n_refused += 1
            return web.Response(status=400, text=f"{error}\n")
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, _OpenTrace())
            trace.spans[span.span_id] = span
            trace.changed_s = self._clock()
            self._grown.add(span.trace_id)
        self._n_spans += len(spans)
        return _accepted(is_json=is_json)

    async def _pass_over(self, request: web.Request) -> web.Response:
        await request.read()
        self._n_other += 1
        return _accepted(is_json="json" in request.content_type)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._write_grown()
            self._forget()

    def _write_grown(self, *, all_of_them: bool = False) -> None:
        for trace_id in list(self._grown):
            trace = self._traces[trace_id]
            is_due = trace.has_ended or len(trace.spans) >= trace.n_written * _GROWTH
            if is_due or all_of_them:
                self._grown.discard(trace_id)
                trace.n_written = len(trace.spans)
                self._write(trace_id, trace)

    def _write(self, trace_id: str, trace: _OpenTrace) -> None:
        report = FileReport(otlp.NO_FILE)
        builder = TraceBuilder(otlp.NAME, None, report)
        try:
            for record in builder.records(trace.spans.values()):
                if (refused := self._spool.offer(record)) is not None:
                    self._note(str(refused))
        except Exception as fault:  # noqa: BLE001  # the traces that follow are written
            self._note(f"a trace could not be written ({type(fault).__name__}: {fault})")
        if report.rows_out:
            self._calling.add(trace_id)

    def _forget(self) -> None:
        """Let go of traces that no span has come for in a while, and of the oldest of too many."""
        now = self._clock()
        held = sum(len(trace.spans) for trace in self._traces.values())
        for trace_id, trace in sorted(self._traces.items(), key=lambda pair: pair[1].changed_s):
            if trace_id in self._grown:
                continue
            if now - trace.changed_s < _HELD_S and held <= _HELD_SPANS:
                break
            held -= len(trace.spans)
            del self._traces[trace_id]

    def _note(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)


@web.middleware
async def _only_local(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what a web page sends: it has an origin, or names another host for this address."""
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    if "origin" in request.headers or host not in _HOSTS:
        return web.Response(status=403, text="workbench listen takes no requests of web pages\n")
    return await handler(request)


def _accepted(*, is_json: bool) -> web.Response:
    if is_json:
        return web.Response(text=json.dumps({}), content_type="application/json")
    return web.Response(body=b"", content_type=_PROTOBUF)


def _unpacked(data: bytes, encoding: str) -> bytes:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return data
    if name not in {"gzip", "deflate"}:
        raise ImportFormatError(f"the encoding {name!r} is not known; send gzip or none")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS + (16 if name == "gzip" else 0))
    unpacked = unpacking.decompress(data, _BODY_BYTES)
    if unpacking.unconsumed_tail:
        raise ImportFormatError(f"the request unpacks to more than {_BODY_BYTES:,} bytes")
    return unpacked
