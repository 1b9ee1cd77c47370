"""Who has the file: waiting, refusing, cancelling, migrating."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.support import making
from workbench import schema
from workbench.errors import (
    QueryCancelled,
    QueryError,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreVersionError,
)
from workbench.store import Cancel, Store, database, demo_store, lazy, migrations, open_store

_LONG = "range(100000000000) AS r(i) WHERE i % 7 = 3"
_HOLD = """
import duckdb, sys, time
c = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


_TAKE_TURNS = """
import sys
from pathlib import Path
from workbench.store import database
with getattr(database, sys.argv[2])(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _started(code: str, *args: str) -> subprocess.Popen[str]:
    """Run code in another process, and wait until it has the file."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Keep a file open for writing in another process."""
    return _started(_HOLD, str(path), str(seconds))


def _let_go(process: subprocess.Popen[str]) -> None:
    """End the turn of a process that waits for a line."""
    assert process.stdin is not None
    process.communicate("\n")
    assert process.returncode == 0


def test_readers_and_writers_wait_for_a_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short lease elsewhere is waited for, without an error."""
    store = making.small_store(tmp_path)
    monkeypatch.setattr(database, "STRANGER_S", 30)
    holder = _hold(store.path, 0.5)
    assert store.count() == 31
    holder.wait()
    holder = _hold(store.path, 0.5)
    store.ingest([making.trace(making.COT, making.ITEMS[0], 50)])
    holder.wait()
    assert store.count() == 32


@pytest.mark.parametrize(
    ("ask", "how"),
    [
        (Store.count, "open for writing; close it"),
        (lambda store: store.save_slice("mine", ""), "open; close it"),
    ],
    ids=["reader", "writer"],
)
def test_a_stranger_that_keeps_the_file_is_named_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Store], object], how: str
) -> None:
    """Nobody waits as long for it as for those who take turns; the error says which process and
    what to do."""
    assert database.STRANGER_S <= 2
    store = making.small_store(tmp_path)
    monkeypatch.setattr(database, "STRANGER_S", 0.2)
    holder = _hold(store.path, 600)
    try:
        with pytest.raises(StoreLocked, match=rf"process {holder.pid} .*, which has it {how}"):
            ask(store)
    finally:
        holder.kill()
        holder.wait()


def test_a_writer_that_takes_turns_is_named_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks can say whom the query waits for, and call it off; otherwise it is answered in
    the end."""
    store = making.small_store(tmp_path)
    monkeypatch.setattr(database, "_NOTICE_AFTER_S", 0.0)
    monkeypatch.setattr(database, "WAIT_S", 600)
    holder = _started(_TAKE_TURNS, str(store.path), "lease")
    cancel, counted = Cancel(), list[int]()
    waits = threading.Thread(target=lambda: counted.append(store.count(cancel=cancel)))
    waits.start()
    while not cancel.waiting_for:
        time.sleep(0.01)
    assert cancel.waiting_for == f"workbench, process {holder.pid}"
    assert f"waiting for workbench, process {holder.pid}" in caplog.text

    called_off = Cancel()
    ended = threading.Thread(target=called_off.cancel)
    ended.start()
    with pytest.raises(QueryCancelled, match="waited for the store"):
        store.count(cancel=called_off)

    _let_go(holder)
    waits.join()
    ended.join()
    assert (counted, cancel.waiting_for) == ([31], "")


def test_a_writer_waits_longer_for_readers_that_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long query of another workbench is no stranger: it ends, and what was to be written is
    written."""
    store = making.small_store(tmp_path)
    monkeypatch.setattr(database, "STRANGER_S", 0.0)
    monkeypatch.setattr(database, "WAIT_S", 600)
    holder = _started(_TAKE_TURNS, str(store.path), "reading")
    are_inside, looks = database._are_inside, list[bool]()

    def look(path: Path) -> bool:
        looks.append(are_inside(path))
        if len(looks) == 5:
            _let_go(holder)
        return looks[-1]

    monkeypatch.setattr(database, "_are_inside", look)
    store.ingest([making.trace(making.COT, making.ITEMS[0], 50)])
    assert looks == [True] * 5
    assert store.count() == 32


def _settings(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, ...]]:
    return connection.sql(
        "SELECT name, value FROM duckdb_settings() WHERE name IN "
        "('memory_limit', 'autoload_known_extensions', 'temp_directory') ORDER BY name"
    ).fetchall()


_BARS = """
import sys
from pathlib import Path
from workbench.store import database
for name in ("reading", "lease"):
    with getattr(database, name)(Path(sys.argv[1])) as connection:
        for part in (connection, connection.cursor()):
            print(*part.execute("SELECT current_setting('enable_progress_bar')").fetchall())
"""


def test_no_query_writes_a_bar_between_rows(tmp_path: Path) -> None:
    """In `python -c` and the REPL, DuckDB shows one on stdout after two seconds."""
    path = making.small_store(tmp_path).path

    done = subprocess.run(
        [sys.executable, "-c", _BARS, str(path)], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["(False,)"] * 4


def test_a_plain_connection_of_this_process_is_no_obstacle(tmp_path: Path) -> None:
    """Who reads the file with DuckDB in the same kernel, first or second, keeps settings of their
    own."""
    store = making.small_store(tmp_path)
    with duckdb.connect(store.path, read_only=True) as theirs:
        usual = _settings(theirs)
        assert store.count() == 31
        assert _settings(theirs) == usual

    with database.reading(store.path) as ours:
        assert _settings(ours) != usual
        theirs = duckdb.connect(store.path, read_only=True)
    assert _settings(theirs) == usual
    assert theirs.sql("SELECT count(*) FROM traces").fetchall() == [(31,)]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_connection_of_this_process_that_is_an_obstacle_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    """No writer is claimed where there is none."""
    store = making.small_store(tmp_path)
    monkeypatch.setattr(database, "STRANGER_S", 0.1)
    ask = (lambda: store.save_slice("mine", "")) if read_only else store.count
    wanted = "for writing" if read_only else "read-only"
    said = rf"another DuckDB connection of this process, which .* another way than {wanted}"
    with duckdb.connect(store.path, read_only=read_only), pytest.raises(StoreLocked, match=said):
        ask()


def test_threads_read_and_write_one_store_at_once(tmp_path: Path) -> None:
    """Eight threads asking and writing meet no lock error."""
    store = making.small_store(tmp_path)
    errors: list[BaseException] = []

    def ask(n: int) -> None:
        try:
            for k in range(5):
                store.count()
                if n % 2:
                    store.ingest([making.trace(making.COT, making.ITEMS[n % 5], 100 + 10 * n + k)])
        except BaseException as error:  # noqa: BLE001 - collected for the assertion
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert store.count() == 31 + 20


def test_a_query_can_be_stopped_from_another_thread(tmp_path: Path) -> None:
    """Cancel ends a long query soon, and a cancelled handle starts none."""
    store = making.small_store(tmp_path)
    cancel = Cancel()
    threading.Timer(0.3, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(QueryCancelled):
        store.sql(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a) < hash(b)",
            cancel=cancel,
        )
    assert time.monotonic() - began < 10
    with pytest.raises(QueryCancelled):
        store.count(cancel=cancel)


def test_a_query_that_waits_for_a_writer_of_this_process_can_be_stopped(tmp_path: Path) -> None:
    """Whoever waits need not wait until the writer has ended."""
    store = making.small_store(tmp_path)
    cancel, ended = Cancel(), list[BaseException]()

    def ask() -> None:
        try:
            store.count(cancel=cancel)
        except QueryCancelled as error:
            ended.append(error)

    with database.lease(store.path):
        waits = threading.Thread(target=ask)
        waits.start()
        cancel.cancel()
        waits.join(database.WAIT_S / 2)
        assert not waits.is_alive()
    assert len(ended) == 1


def test_a_cancel_before_a_query_executes_is_not_lost(tmp_path: Path) -> None:
    """The engine forgets an interrupt before it executes; the query would then run for ever."""
    store = making.small_store(tmp_path)
    cancel = Cancel()
    with store.snapshot(cancel=cancel) as snapshot:
        cancel.cancel()  # nothing runs yet
        with pytest.raises((QueryCancelled, duckdb.InterruptException)):
            snapshot.sql(f"SELECT count(*) AS n FROM {_LONG}")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM traces",
        "CREATE TABLE x (i INT)",
        "DROP VIEW trace_facts",
        "INSERT INTO runs FROM runs",
    ],
)
def test_sql_cannot_change_the_store(tmp_path: Path, statement: str) -> None:
    """Queries run read-only."""
    store = making.small_store(tmp_path)
    with pytest.raises(QueryError, match="read-only"):
        store.sql(statement)
    assert store.count() == 31


def test_a_missing_store_says_what_to_do(tmp_path: Path) -> None:
    """No file appears by looking for one."""
    path = tmp_path / "none.duckdb"
    with pytest.raises(StoreMissing, match="workbench import"):
        open_store(path)
    with pytest.raises(StoreMissing):
        Store(path).count()
    assert not path.exists()


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    """A text file, a foreign DuckDB file and a newer store are named as what they are."""
    text = tmp_path / "text.duckdb"
    text.write_text("hello " * 1000)
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("CREATE TABLE t (i INT)")
    newer = making.small_store(tmp_path).path
    with duckdb.connect(str(newer)) as connection:
        connection.execute("INSERT INTO migrations (version, name) VALUES (99, 'from the future')")
    before = {p: p.read_bytes() for p in (text, foreign, newer)}

    with pytest.raises(StoreVersionError, match="no DuckDB database"):
        open_store(text, create=True)
    with pytest.raises(StoreVersionError, match="no store of workbench"):
        open_store(foreign, create=True)
    with pytest.raises(StoreVersionError, match="layout 99, newer than"):
        open_store(newer)
    assert {p: p.read_bytes() for p in before} == before


def _add_column(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE runs ADD COLUMN mood VARCHAR")


def _fail(connection: duckdb.DuckDBPyConnection) -> None:
    _add_column(connection)
    raise duckdb.ConstraintException("no")


def test_a_migration_is_recorded_after_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older layout is copied beside the store, then brought up."""
    store = making.small_store(tmp_path)
    today = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", today + 1)
    monkeypatch.setitem(migrations.STEPS, today + 1, ("add a mood", _add_column))

    open_store(store.path)

    versions = store.sql("SELECT version FROM migrations ORDER BY version")["version"].to_list()
    assert versions == list(range(1, today + 2))
    assert "mood" in store.sql("FROM runs").columns
    backup = duckdb.connect(str(tmp_path / f"traces.duckdb.v{today}.backup"), read_only=True)
    assert backup.execute("SELECT count(*) FROM traces").fetchall() == [(31,)]


def test_a_failing_migration_leaves_the_old_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is atomic."""
    store = making.small_store(tmp_path)
    today = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", today + 1)
    monkeypatch.setitem(migrations.STEPS, today + 1, ("fail", _fail))
    with pytest.raises(StoreError):
        open_store(store.path)
    monkeypatch.setattr(schema, "VERSION", today)
    assert "mood" not in open_store(store.path).sql("FROM runs").columns


def test_lazy_frames_push_filters_and_columns_into_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the rows and columns asked for leave the engine."""
    store = making.small_store(tmp_path)
    seen: list[pl.DataFrame] = []
    collect = pl.LazyFrame.collect

    def watching(self: pl.LazyFrame, *args: object, **options: object) -> pl.DataFrame:
        frame = collect(self, *args, **options)
        seen.append(frame)
        return frame

    lazily = store.traces("model:gpt-4o").filter(pl.col("trial") == 1).select("item", "passed")
    monkeypatch.setattr(pl.LazyFrame, "collect", watching)
    frame = lazily.collect()

    assert sorted(frame["item"]) == ["0", "1", "2", "3", "4"]
    inner = seen[0]
    assert inner.height == 5
    assert set(inner.columns) <= {"item", "passed", "trial"}
    assert (
        lazy.scan(store.path, "FROM trace_facts", schema.TRACE_FACTS).head(3).collect().height == 3
    )


def test_pages_order_unknown_last_and_ties_by_id(tmp_path: Path) -> None:
    """Paging over a tied column shows each trace once."""
    store = making.small_store(tmp_path)
    pages = [
        store.page(columns=["trace_id", "cost_usd"], order_by="cost_usd", offset=o, limit=10)
        for o in range(0, 40, 10)
    ]
    whole = pl.concat(pages)
    assert whole["trace_id"].n_unique() == whole.height == 31
    assert whole["cost_usd"][-1] is None
    with pytest.raises(QueryError, match="no column"):
        store.page(columns=["cost_usd; DROP TABLE traces"])


def test_messages_come_in_windows_with_long_texts_cut(tmp_path: Path) -> None:
    """A ten-megabyte message costs a screenful, and is there whole when asked for."""
    from workbench.records import Message

    store = open_store(tmp_path / "s.duckdb", create=True)
    long = "x" * 10_000_000
    messages = tuple(
        Message(ordinal=n, role="assistant", kind="text", text=long if n == 150 else f"turn {n}")
        for n in range(300)
    )
    trace = making.trace(making.DIRECT, making.ITEMS[0], messages=messages)
    store.ingest([making.run(), making.DIRECT, trace])

    window = store.messages(trace.trace_id, start=100, limit=100, max_chars=50)

    assert window["ordinal"].to_list() == list(range(100, 200))
    row = window.row(50, named=True)
    assert (len(row["text"]), row["n_bytes"]) == (50, 10_000_000)
    assert store.text(row["content_id"]) == long


def test_the_stamp_changes_with_the_content(tmp_path: Path) -> None:
    """Live views look again only when something was written."""
    store = making.small_store(tmp_path)
    first = store.stamp()
    store.count()
    assert store.stamp() == first
    store.ingest([making.trace(making.COT, making.ITEMS[0], 60)])
    assert store.stamp() != first


def test_reading_needs_no_right_to_write(tmp_path: Path) -> None:
    """A store on a read-only medium can be read."""
    store = making.small_store(tmp_path)
    store.path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert Store(store.path).count() == 31
    finally:
        tmp_path.chmod(0o755)
    assert os.access(store.path, os.R_OK)


@pytest.mark.skipif(not database._MEMORY, reason="before DuckDB 2.0 there is no limit of ours")
@pytest.mark.parametrize("writable", [True, False])
def test_a_query_that_outgrows_its_memory_spills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, writable: bool
) -> None:
    """It is answered from a file on disk: beside the store, or elsewhere if that cannot be
    written."""
    monkeypatch.setattr(database, "_MEMORY", {"memory_limit": "64MB"})
    store = making.small_store(tmp_path)
    many = (
        "SELECT count(*) AS n FROM (SELECT range % 600000 AS k,"
        " max(range::VARCHAR || 'long enough') FROM range(1200000) GROUP BY k)"
    )
    if not writable:  # root may write everywhere, so that it must be told
        monkeypatch.setattr(database.os, "access", lambda *_: False)
    with database.reading(store.path) as connection:
        told = connection.sql("SELECT current_setting('temp_directory')").fetchall()

        assert connection.sql(many).fetchall() == [(600_000,)]

    assert (Path(told[0][0]).parent == store.spool_dir) is writable
    assert not list(store.spool_dir.glob("spilled/*"))


def test_the_demo_replaces_no_store_that_holds_traces(tmp_path: Path) -> None:
    """A user's own store, older than the shipped samples, is opened and left as it is."""
    store = making.small_store(tmp_path)
    os.utime(store.path, (1e9, 1e9))
    assert demo_store(store.path).count() == 31
    assert demo_store(tmp_path / "new.duckdb").count() == 5265


def test_samples_of_an_older_version_are_completed(tmp_path: Path) -> None:
    """Where all runs of a store are among the shipped ones, those that came later join; nothing is
    there twice."""
    older = demo_store(tmp_path / "demo.duckdb")
    with duckdb.connect(older.path) as connection:
        newest = connection.execute("SELECT max(run_id) FROM traces").fetchall()[0][0]
        for table in ("calls", "tool_calls", "scores", "messages"):
            connection.execute(
                f"DELETE FROM {table} WHERE trace_id IN (SELECT trace_id FROM traces"
                " WHERE run_id = ?)",
                [newest],
            )
        for table in ("traces", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [newest])
    assert older.count() < 5265

    for _ in range(2):
        again = demo_store(older.path)
        assert again.count() == 5265
        assert again.sql("SELECT count(*) AS n FROM calls")["n"].to_list() == [8978]


def test_saved_slices_are_checked_and_replaced(tmp_path: Path) -> None:
    """A name holds one filter; what does not parse is refused."""
    from workbench.errors import SliceError

    store = making.small_store(tmp_path)
    store.save_slice("mine", "model:gpt*", now=making.START)
    store.save_slice("mine", "wrong", now=making.START)
    with pytest.raises(SliceError):
        store.save_slice("bad", "modle:x")
    assert store.saved_slices() == {"mine": "wrong"}


def test_a_cancel_before_the_query_executes_is_not_lost(tmp_path: Path) -> None:
    """DuckDB forgets an interrupt while nothing runs; the handle repeats it until the query
    ends."""
    path = open_store(tmp_path / "s.duckdb", create=True).path
    cancel = database.Cancel()

    def asks() -> None:
        with database.reading(path, cancel) as connection:
            cancel.cancel()
            connection.sql(f"SELECT count(*) FROM {_LONG}").fetchall()

    with pytest.raises(QueryCancelled, match="cancelled"):
        asks()


def test_a_snapshot_answers_from_one_state(tmp_path: Path) -> None:
    """Its moment is shared by snapshots between which nothing was written, and by no others."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    with store.snapshot() as first:
        assert first.count() == 0
        assert first.overview().n_traces == 0
    with store.snapshot() as again:
        assert again.moment == first.moment
    store.save_slice("all", "")
    with store.snapshot() as later:
        assert later.moment != first.moment
        assert later.saved_slices() == {"all": ""}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order", ["started_at", "cost_usd", "task", "trial"])
def test_the_place_of_a_trace_is_where_its_page_has_it(
    tmp_path: Path, order: str, descending: bool
) -> None:
    """Whatever the order, with ties and unknown values; a trace outside the slice has none."""
    store = making.small_store(tmp_path)
    ids = store.page(order_by=order, descending=descending)["trace_id"].to_list()

    places = [store.place(i, order_by=order, descending=descending) for i in ids]

    assert places == list(range(len(ids)))
    assert store.place(ids[0], "cost>1000") is None
