"""The recorder's spool: conversations are written again as they grow, and the store keeps one."""

import datetime as dt
import json
import threading

import msgspec
import pytest

from workbench import spool
from workbench.errors import StoreError
from workbench.recorder.conversations import Recording
from workbench.recorder.proxy import ForwardedCall
from workbench.recorder.recorder import Recorder
from workbench.recorder.requests import RawRequest
from workbench.records import Call, Run, Trace
from workbench.runner.providers.protocol import Reply
from workbench.store import open_store

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
RUN = Run(run_id="run-1", kind="import", source="record", started_at=START)


def turn(n):
    """The nth call of one conversation."""
    messages = [{"role": "user", "content": "question 0"}]
    for k in range(n):
        messages.append({"role": "assistant", "content": f"answer {k}"})
        messages.append({"role": "user", "content": f"question {k + 1}"})
    body = json.dumps({"model": "m", "messages": messages}).encode()
    at = START + dt.timedelta(minutes=n)
    call = Call(model="", started_at=at, output_tokens=1, usage="{}", stop_reason="stop")
    request = RawRequest("chat", "/chat/completions", body)
    return ForwardedCall(request, Reply(text=f"answer {n}"), call, at + dt.timedelta(seconds=5))


def recorder_of(store, **options):
    writer = spool.SpoolWriter(store.spool_dir, RUN.run_id, store_id=store.id)
    recording = Recording(RUN.run_id, task="t", strategy="agent", metadata={})
    return Recorder(recording, writer, RUN, **options), writer


def traces(store):
    return store.sql("SELECT n_calls, n_messages, answer FROM traces").to_dicts()


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "s.duckdb", create=True)


def test_a_conversation_is_one_trace_with_all_its_calls(store):
    recorder, writer = recorder_of(store)
    with writer, recorder:
        for n in range(40):
            recorder.take(turn(n))
    store.ingest_spool()

    [trace] = traces(store)
    assert trace == {"n_calls": 40, "n_messages": 80, "answer": "answer 39"}
    [run] = store.sql("SELECT kind, source, ended_at IS NOT NULL AS ended FROM runs").to_dicts()
    assert run == {"kind": "import", "source": "record", "ended": True}


def test_what_is_written_again_is_a_few_times_the_conversation(store):
    recorder, writer = recorder_of(store)
    with writer, recorder:
        for n in range(200):
            recorder.take(turn(n))
    written = [
        record
        for segment in spool.segments(store.spool_dir)
        for record in spool.read_segment(segment.path).records
        if isinstance(record, Trace)
    ]
    assert sum(len(trace.calls) for trace in written) < 7 * 200


def test_a_conversation_that_goes_on_is_seen_meanwhile(store):
    """A reader that takes the spool in early gets the first calls, and all of them later."""
    recorder, writer = recorder_of(store)
    written = threading.Semaphore(0)
    append = writer.append

    def noted(record):
        append(record)
        if isinstance(record, Trace):
            written.release()

    writer.append = noted
    with writer, recorder:
        recorder.take(turn(0))
        assert written.acquire(timeout=60)
        store.ingest_spool()
        assert traces(store)[0]["n_calls"] == 1
        recorder.take(turn(1))
        assert written.acquire(timeout=60)
        store.ingest_spool()
        assert traces(store)[0]["n_calls"] == 2
    store.ingest_spool()
    assert traces(store) == [{"n_calls": 2, "n_messages": 4, "answer": "answer 1"}]


def test_ingesting_twice_changes_nothing(store, tmp_path):
    recorder, writer = recorder_of(store)
    with writer, recorder:
        for n in range(3):
            recorder.take(turn(n))
    [segment] = spool.segments(store.spool_dir)
    copy = segment.path.read_bytes()
    store.ingest_spool()
    segment.path.write_bytes(copy)
    store.ingest_spool()
    assert [trace["n_calls"] for trace in traces(store)] == [3]


def test_a_call_that_cannot_be_recorded_is_said_and_the_others_are(store):
    recorder, writer = recorder_of(store)
    with writer, recorder:
        recorder.take(turn(0)._replace(request=RawRequest("none", "/", b"")))
        recorder.take(turn(0))
    store.ingest_spool()
    assert len(traces(store)) == 1
    assert recorder.faults == ["a call could not be recorded (KeyError: 'none')"]


def test_what_a_full_disk_refuses_is_written_when_there_is_room(store):
    recorder, writer = recorder_of(store)
    append, full = writer.append, [True]

    def refused(record):
        if full[0] and isinstance(record, Trace):
            raise StoreError("the spool cannot be written: no space left on device")
        append(record)

    writer.append = refused
    with writer, recorder:
        recorder.take(turn(0))
        recorder.take(turn(1))
        while writer.n_held < 1:
            threading.Event().wait(0.001)
        full[0] = False
    store.ingest_spool()
    assert traces(store)[0]["n_calls"] == 2
    assert recorder.faults == ["the spool cannot be written: no space left on device"]


def test_calls_without_usage_and_failures_are_counted(store):
    recorder, writer = recorder_of(store)
    without = msgspec.structs.replace(turn(0).call, usage=None)
    failed = msgspec.structs.replace(without, error_type="http_500")
    with writer, recorder:
        recorder.take(turn(0)._replace(call=without))
        recorder.take(turn(1)._replace(call=failed))
    assert (recorder.n_without_usage, recorder.n_failed) == (1, 1)
