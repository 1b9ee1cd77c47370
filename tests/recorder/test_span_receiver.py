"""The receiver of spans: what SDKs send becomes traces, whoever else sends is refused."""

import gzip
import json

import httpx
import pytest

from tests.support import span_files
from tests.support.span_files import agent_run, request, span
from workbench import spool
from workbench.recorder.span_receiver import SpanReceiver
from workbench.store import open_store

JSON = {"content-type": "application/json"}


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "s.duckdb", create=True)


def receiver_of(store, **options):
    writer = spool.SpoolWriter(store.spool_dir, "receiver", store_id=store.id)
    return SpanReceiver(writer, port=0, **options)


def protobuf(*spans):
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    written = span_files.base64_ids(request(*spans))
    return ParseDict(written, ExportTraceServiceRequest()).SerializeToString()


ENCODINGS = {
    "json": (lambda *s: json.dumps(request(*s)).encode(), JSON),
    "protobuf": (protobuf, {"content-type": "application/x-protobuf"}),
    "gzip": (
        lambda *s: gzip.compress(protobuf(*s)),
        {"content-type": "application/x-protobuf", "content-encoding": "gzip"},
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_spans_in_several_requests_are_one_trace(store, encoding):
    encode, headers = ENCODINGS[encoding]
    root, *others = agent_run()
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        for one in (*others, root):
            reply = await client.post(
                f"{receiver.url}/v1/traces", content=encode(one), headers=headers
            )
            assert reply.status_code == 200
            assert reply.headers["content-type"].startswith(headers["content-type"])
    assert receiver.received == (4, 1, 0, 0)
    store.ingest_spool()
    rows = store.sql("SELECT configuration, n_calls, n_tool_calls, score, session FROM trace_facts")
    assert rows.rows() == [("gpt-4o answer", 2, 1, 1.0, "s-17")]


async def test_a_trace_is_seen_while_the_program_runs(store):
    """Children come first; without the root the strategy is not known yet."""
    root, *others = agent_run()
    receiver = receiver_of(store)
    async with receiver, httpx.AsyncClient() as client:
        for spans, expected in ((others, ("gpt-4o", 2)), ([root], ("gpt-4o answer", 2))):
            body = json.dumps(request(*spans))
            await client.post(f"{receiver.url}/v1/traces", content=body, headers=JSON)
            receiver._write_grown()
            store.ingest_spool()
            rows = store.sql("SELECT configuration, n_calls FROM trace_facts").rows()
            assert rows == [expected]


async def test_later_spans_of_a_written_trace_are_added(store):
    root, call, tool, last = agent_run()
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        for spans in ([call, root], [tool, last]):
            body = json.dumps(request(*spans))
            await client.post(f"{receiver.url}/v1/traces", content=body, headers=JSON)
            receiver._write_grown()
    store.ingest_spool()
    rows = store.sql("SELECT n_calls, n_tool_calls FROM trace_facts").rows()
    assert rows == [(2, 1)]


async def test_spans_are_not_held_for_ever(store):
    clock = Clock()
    async with receiver_of(store, clock=clock) as receiver, httpx.AsyncClient() as client:
        body = json.dumps(request(*agent_run()))
        await client.post(f"{receiver.url}/v1/traces", content=body, headers=JSON)
        receiver._write_grown()
        receiver._forget()
        assert len(receiver._traces) == 1
        clock.now = 601.0
        receiver._forget()
        assert not receiver._traces


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no json", JSON),
        (b'{"resourceSpans": 3}', JSON),
        (b"\xff\xff", {"content-type": "application/x-protobuf"}),
        (b"no gzip", JSON | {"content-encoding": "gzip"}),
        (b"{}", JSON | {"content-encoding": "br"}),
        (gzip.compress(b"\0" * 70_000_000, mtime=0), JSON | {"content-encoding": "gzip"}),
    ],
    ids=["no json", "a number", "no protobuf", "no gzip", "brotli", "too large"],
)
async def test_what_is_not_understood_is_refused_in_words(store, body, headers):
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        reply = await client.post(f"{receiver.url}/v1/traces", content=body, headers=headers)
        assert reply.status_code == 400
        assert len(reply.text) > 10
    assert receiver.received.n_refused == 1


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"host": "evil.example:4318"}]
)
async def test_web_pages_are_refused(store, headers):
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        body = json.dumps(request(*agent_run()))
        reply = await client.post(f"{receiver.url}/v1/traces", content=body, headers=JSON | headers)
        assert reply.status_code == 403
    assert receiver.received.n_spans == 0


async def test_metrics_and_logs_are_taken_and_not_stored(store):
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        for signal in ("metrics", "logs"):
            reply = await client.post(f"{receiver.url}/v1/{signal}", content=b"{}", headers=JSON)
            assert reply.status_code == 200
    assert receiver.received == (0, 0, 0, 2)


async def test_hostile_attributes_do_not_stop_it(store):
    odd = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "\x1b[31m" + "m" * 10_000}
    odd |= {"gen_ai.usage.input_tokens": -5, "gen_ai.input.messages": "[" * 5000}
    async with receiver_of(store) as receiver, httpx.AsyncClient() as client:
        for one in (span(1, "a", odd), *agent_run()):
            body = json.dumps(request(one))
            await client.post(f"{receiver.url}/v1/traces", content=body, headers=JSON)
    store.ingest_spool()
    assert not receiver.faults
    assert len(store.sql("FROM traces").rows()) == 1
