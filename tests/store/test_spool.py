"""The spool: every line survives or is set aside, and a live segment is known as such."""

import datetime as dt
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ROOT, making
from workbench import spool
from workbench.cli import main
from workbench.errors import StoreError
from workbench.records import (
    Attempt,
    Call,
    Configuration,
    Item,
    Message,
    Run,
    Task,
    Trace,
    json_text,
)
from workbench.spool import SpoolWriter
from workbench.store import open_store

START = dt.datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=dt.UTC)
RUN = Run(run_id="r1", kind="collect", source="runner", status="running", started_at=START)


def trace(n: int, text: str = "hello") -> Trace:
    message = Message(ordinal=0, role="user", kind="text", text=text)
    return Trace(
        run_id="r1",
        configuration_id="c",
        task_id="t",
        item_id=f"i{n}",
        started_at=START,
        calls=(Call(input_tokens=7, ttft_s=0.5),),
        messages=(message,),
    )


def attempt(n: int) -> Attempt:
    return Attempt(run_id="r1", configuration_id="c", item_id=f"i{n}", trial=0, started_at=START)


def read_all(folder: Path) -> list:
    return [r for s in spool.segments(folder) for r in spool.read_segment(s.path).records]


def test_records_come_back_as_they_were(tmp_path):
    """Every kind of record makes the round trip, in order."""
    records = [
        RUN,
        Task(task="sums"),
        Item(task_id="t", item="1", input="1+1"),
        Configuration(model="m"),
        attempt(1),
        trace(1, "zeile\n\u2028 \U0001f9ee \x00 \x1b[31m"),
    ]

    with SpoolWriter(tmp_path, "r1") as writer:
        for record in records:
            writer.append(record)

    assert read_all(tmp_path) == records


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_makes_the_round_trip(text):
    """A line holds one record whatever its text holds."""
    line = spool.encode_line(trace(1, text))

    assert line.count(b"\n") == 1
    assert spool.decode_line(line[:-1]) == trace(1, text)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place, change):
    """A line with one byte changed is no record."""
    line = bytearray(spool.encode_line(trace(1))[:-1])
    line[place % len(line)] ^= change

    with pytest.raises(ValueError, match=r"line of a spool|checksum|no record"):
        spool.decode_line(bytes(line))


def test_a_torn_tail_waits_for_a_live_writer_and_is_bad_after_its_death(tmp_path):
    """The last line without its end is left alone only while someone may finish it."""
    writer = SpoolWriter(tmp_path, "r1")
    writer.append(trace(1))
    (segment,) = spool.segments(tmp_path)
    with segment.path.open("ab") as file:
        file.write(spool.encode_line(trace(2))[:40])

    live = spool.read_segment(segment.path)
    writer.close()
    dead = spool.read_segment(segment.path, live.end_offset)

    assert (live.records, live.bad) == ([trace(1)], [])
    assert dead.records == []
    assert [b.reason for b in dead.bad] == ["torn: the writer ended in the middle of the line"]
    assert dead.end_offset == segment.path.stat().st_size


def test_a_bad_line_is_set_aside_and_the_others_are_read(tmp_path):
    """Damage costs one line; quarantine keeps its bytes, once."""
    with SpoolWriter(tmp_path, "r1") as writer:
        for n in range(3):
            writer.append(trace(n))
    path = spool.segments(tmp_path)[0].path
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"hello", b"hullo")
    path.write_bytes(b"\n".join(lines))

    batch = spool.read_segment(path)
    first, again = spool.quarantine(path, batch.bad), spool.quarantine(path, batch.bad)

    assert batch.records == [trace(0), trace(2)]
    assert [(b.offset, b.reason) for b in batch.bad] == [
        (len(lines[0]) + 1, "checksum does not match")
    ]
    assert first == again
    assert first[0].read_bytes() == lines[1]
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_reading_goes_on_from_an_offset(tmp_path):
    """A live ingest reads each line once."""
    with SpoolWriter(tmp_path, "r1") as writer:
        writer.append(trace(1))
        path = spool.segments(tmp_path)[0].path
        first = spool.read_segment(path)
        writer.append(trace(2))

        second = spool.read_segment(path, first.end_offset)

    assert (first.records, second.records) == ([trace(1)], [trace(2)])


def test_a_new_segment_begins_with_the_run_and_what_is_open(tmp_path):
    """The newest segment alone tells what was in flight."""
    with SpoolWriter(tmp_path, "r1", segment_bytes=2000) as writer:
        writer.append(RUN)
        writer.append(attempt(1))
        writer.append(attempt(2))
        writer.append(trace(2))
        n = 10
        while len(spool.segments(tmp_path)) < 2:
            writer.append(trace(n))
            n += 1
    last = spool.segments(tmp_path)[-1]

    records = spool.read_segment(last.path).records

    assert records[:2] == [RUN, attempt(1)]
    assert len(records) == 3


def test_a_segment_that_cannot_be_begun_leaves_nothing_and_the_next_one_has_its_head(
    tmp_path, monkeypatch
):
    """A segment has its head before its name: the newest always tells what is open."""
    writer = SpoolWriter(tmp_path, "r1", segment_bytes=1)
    writer.append(RUN)
    writer.append(attempt(1))
    writer.append(attempt(2))
    before = set(tmp_path.iterdir())
    real, left = os.write, [1]

    def full(fd, data):
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        return real(fd, data)

    monkeypatch.setattr(spool.os, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        writer.append(attempt(3))
    after = set(tmp_path.iterdir())
    monkeypatch.undo()
    writer.append(attempt(4))
    writer.close()

    assert after == before
    newest = spool.read_segment(spool.segments(tmp_path)[-1].path).records
    assert newest == [RUN, attempt(1), attempt(2), attempt(4)]


def test_a_segment_is_live_until_its_writer_ends(tmp_path):
    """Only a segment that nobody writes may be removed."""
    writer = SpoolWriter(tmp_path, "r1")
    writer.append(trace(1))
    path = spool.segments(tmp_path)[0].path

    assert spool.is_live(path)
    with pytest.raises(StoreError, match="still being written"):
        spool.remove(path)
    writer.close()
    assert not spool.is_live(path)
    spool.remove(path)
    assert spool.segments(tmp_path) == []
    assert not spool.is_live(path)


def test_kill_9_leaves_every_appended_line_and_no_live_segment(tmp_path):
    """A line is the system's as soon as append returns."""
    code = f"""
        import sys
        from pathlib import Path
        from workbench.records import Task
        from workbench.spool import SpoolWriter
        writer = SpoolWriter(Path({str(tmp_path)!r}), "r9")
        for n in range(1000):
            writer.append(Task(task=f"task{{n}}"))
        print("written", flush=True)
        sys.stdin.read()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    child.stdout.readline()
    live = [s.live for s in spool.segments(tmp_path)]

    os.kill(child.pid, signal.SIGKILL)
    child.communicate()

    assert live == [True]
    assert [s.live for s in spool.segments(tmp_path)] == [False]
    assert [r.task for r in read_all(tmp_path)] == [f"task{n}" for n in range(1000)]


def test_two_writers_of_one_run_do_not_share_a_segment(tmp_path):
    """A name that exists is never written to again."""
    with SpoolWriter(tmp_path, "r1") as one, SpoolWriter(tmp_path, "r1") as two:
        one.append(trace(1))
        two.append(trace(2))
        one.append(trace(3))

    names = sorted(s.path.name for s in spool.segments(tmp_path))
    assert names == ["r1-000000.jsonl", "r1-000001.jsonl"]
    assert sorted(t.item_id for t in read_all(tmp_path)) == ["i1", "i2", "i3"]


def test_a_full_disk_is_a_clear_error_and_leaves_no_half_line(tmp_path, monkeypatch):
    """What was written stays readable; the error says what to do."""
    writer = SpoolWriter(tmp_path, "r1")
    writer.append(trace(1))
    real = os.write

    def full(fd, data):
        if len(data) > 50:
            return real(fd, data[:50])  # as the kernel does: part of it, then the error
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.os, "write", full)
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        writer.append(trace(2, "x" * 100))
    monkeypatch.undo()
    writer.append(trace(3))
    writer.close()

    batch = spool.read_segment(spool.segments(tmp_path)[0].path)
    assert (batch.records, batch.bad) == ([trace(1), trace(3)], [])


def test_sync_from_a_thread_meets_no_closed_file(tmp_path):
    """Rotation and group commit do not get into each other's way."""
    writer = SpoolWriter(tmp_path, "r1", segment_bytes=500)
    stop, faults = threading.Event(), []

    def commit():
        while not stop.is_set():
            try:
                writer.sync()
            except (OSError, StoreError) as error:
                faults.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    for n in range(60):
        writer.append(trace(n))
    stop.set()
    thread.join()
    writer.close()

    assert faults == []
    assert len([r for r in read_all(tmp_path) if isinstance(r, Trace)]) == 60


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "a b", "a\x00b"])
def test_a_run_id_that_is_no_file_name_is_refused(tmp_path, run_id):
    """A run id cannot reach outside its folder."""
    with pytest.raises(StoreError, match="run id"):
        SpoolWriter(tmp_path, run_id)


def test_a_file_where_the_folder_should_be_is_a_clear_error(tmp_path):
    """The error names the place."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(StoreError, match="taken"):
        SpoolWriter(tmp_path / "taken", "r1")


def test_a_glance_sees_what_a_whole_reading_sees(tmp_path):
    """Runs, attempts and traces with their keys; a damaged line was never done, a torn one
    neither."""
    trace = making.trace(making.COT, making.ITEMS[0], 1, run_id="r1")
    key = {f: getattr(trace, f) for f in ("run_id", "configuration_id", "item_id", "trial")}
    failed = msgspec.structs.replace(trace, trial=0, trace_id="", error_type="http_429")
    attempt = Attempt(**key, started_at=making.run().started_at)
    run = making.run(run_id="r1")
    path = tmp_path / "r1-000000.jsonl"
    records = [run, making.TASK, *making.ITEMS, attempt, trace, failed]
    good = b"".join(spool.encode_line(r) for r in records)
    damaged = spool.encode_line(trace).replace(b'"trial":1', b'"trial":7')
    path.write_bytes(good + damaged + b"no line\n\n" + spool.encode_line(trace)[:-5])

    found = list(spool.read_summaries(path))

    assert found == [
        run,
        spool.AttemptStart(**key, started_at=attempt.started_at),
        spool.TraceEnd(**key),
        spool.TraceEnd(**key | {"trial": 0}, error_type="http_429"),
    ]
    assert list(spool.read_summaries(path, attempts=False)) == [found[0], *found[2:]]
    assert list(spool.read_summaries(tmp_path / "gone-000000.jsonl")) == []


HOSTILE = (
    ',"calls":[',
    '","error_type":"http_400","calls":[{',
    '\\","calls":[',
    "\u2028\x00\n",
    '"}}',
)


@given(
    text=st.text() | st.sampled_from(HOSTILE),
    error_type=st.none() | st.sampled_from(["timeout", *HOSTILE]),
    calls=st.integers(0, 2),
    trial=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_no_text_misleads_a_reading_of_summaries(tmp_path_factory, text, error_type, calls, trial):
    """Whatever texts a trace holds, a glance sees its key and its error as a whole reading does."""
    whole = Trace(
        run_id="r1",
        configuration_id=text,
        task_id=text,
        item_id=text,
        trial=trial,
        answer=text,
        error_type=error_type,
        error_message=text,
        metadata=json_text({"calls": [text]}),
        calls=(Call(error_type="http_500", usage=text),) * calls,
        messages=(Message(ordinal=0, role="user", kind="text", text=text),),
    )
    path = tmp_path_factory.mktemp("spool") / "r1-000000.jsonl"
    path.write_bytes(spool.encode_line(whole))

    seen = list(spool.read_summaries(path))

    assert seen == [
        spool.TraceEnd(**{f: getattr(whole, f) for f in spool.TraceEnd.__struct_fields__})
    ]


def test_what_a_glance_needs_of_a_trace_is_written_before_its_lists():
    """The glance stops reading where the calls begin."""
    fields = Trace.__struct_fields__

    assert set(spool.TraceEnd.__struct_fields__) < set(fields[: fields.index("calls")])


def test_a_pipe_in_a_spool_is_not_waited_for(tmp_path: Path) -> None:
    """The open of one waits for a writer that never comes: every command on the store hung."""
    store = making.small_store(tmp_path)
    for name in (
        ".readers",
        ".turnstile",
        "store",
        "a-b.jsonl",
        "quarantine/a",
        "claims/a-b.jsonl",
    ):
        pipe = store.spool_dir / name
        pipe.parent.mkdir(exist_ok=True, mode=0o700)
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o600)

    again = open_store(store.path)

    assert again.count() == store.count()
    assert spool.file_owner(store.spool_dir / "a-b.jsonl") is None
    assert spool.owner(store.spool_dir) == store.id
    assert main(["doctor", "--store", str(store.path)]) == 0
