"""A store is somebody: its spool, exports and backups are known by its id, and those of others are
refused."""

import asyncio
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import making
from workbench import spool
from workbench.errors import QueryCancelled, StoreError, StoreMissing
from workbench.runner.attempts import journal
from workbench.runner.attempts.journal import Journal
from workbench.runner.batch.batch_journal import Note, Notes
from workbench.runner.limits import Amounts
from workbench.runner.planning import claims
from workbench.runner.planning.claims import Claims
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.providers.protocol import Reply, Request
from workbench.spool import SpoolWriter
from workbench.store import Cancel, Store, checks, open_store


def spooled(folder: Path, store_id: str | None = None) -> None:
    """Leave one run's lines in a spool."""
    with SpoolWriter(folder, "run-1", store_id=store_id) as writer:
        for record in making.records():
            writer.append(record)


def damaged_replies(store: Store) -> int | None:
    """Count the kept replies that the doctor calls damaged."""
    found = {check.name: check.n for check in checks.checks(store, quick=True)}
    return found["kept replies that are damaged"]


def count(store: Store) -> int:
    """Count its traces."""
    return store.count()


def test_stores_whose_names_differ_after_the_last_dot_have_spools_of_their_own(
    tmp_path: Path,
) -> None:
    """Opening gpt-4.5 swallowed what was paid for gpt-4.1."""
    one = open_store(tmp_path / "gpt-4.1", create=True)
    spooled(one.spool_dir, one.id)

    other = open_store(tmp_path / "gpt-4.5", create=True)

    assert one.spool_dir != other.spool_dir
    assert count(other) == 0
    assert count(open_store(one.path)) == 30


def test_a_store_keeps_its_id_and_no_two_have_the_same(tmp_path: Path) -> None:
    """It is in the database, made with it."""
    one, two = (open_store(tmp_path / name, create=True) for name in ("a.duckdb", "b.duckdb"))

    assert one.id
    assert one.id != two.id
    assert open_store(one.path).id == one.id


def test_a_store_without_an_id_gets_one_and_keeps_its_rows(tmp_path: Path) -> None:
    """As every store that was made before."""
    store = making.small_store(tmp_path)
    with store.lease() as connection:
        connection.execute("DROP TABLE identity")

    again = open_store(store.path)

    assert again.id not in {None, store.id}
    assert count(again) == count(store)


def test_a_spool_with_the_old_name_is_moved_and_taken_in(tmp_path: Path) -> None:
    """It was named after the stem; replies of unfinished attempts come along."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    old = tmp_path / "traces.spool"
    spooled(old)
    (old / "arrived").mkdir()
    (old / "arrived" / "aa-run-1-1.jsonl").write_text("x")
    (old / ".turnstile").touch()

    again = open_store(store.path)

    assert count(again) == 30
    assert not old.exists()
    assert (again.spool_dir / "arrived" / "aa-run-1-1.jsonl").read_text() == "x"


def test_an_old_spool_that_two_stores_may_own_is_left_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is opened first does not get it."""
    one = open_store(tmp_path / "gpt-4.1", create=True)
    open_store(tmp_path / "gpt-4.5", create=True)
    spooled(tmp_path / "gpt-4.spool")
    caplog.set_level(logging.WARNING)

    assert count(open_store(one.path)) == 0

    assert "may belong to gpt-4.1 or to gpt-4.5" in caplog.text
    (tmp_path / "gpt-4.spool").rename(tmp_path / "renamed.spool")
    assert one.merge(tmp_path / "renamed.spool").rows_new["traces"] == 30


def test_an_old_spool_is_not_moved_under_its_collector(tmp_path: Path) -> None:
    """It writes by the old path; what it leaves is taken in later."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    with SpoolWriter(tmp_path / "traces.spool", "run-1") as writer:
        for record in making.records():
            writer.append(record)
        assert count(open_store(store.path)) == 0
    assert count(open_store(store.path)) == 30


def test_the_spool_of_a_store_that_was_deleted_is_not_taken_in_by_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside, in words, and can be imported."""
    path = tmp_path / "s.duckdb"
    first = open_store(path, create=True)
    spooled(first.spool_dir, first.id)
    path.unlink()

    second = open_store(path, create=True)

    assert count(second) == 0
    aside = tmp_path / f"s.duckdb.{str(first.id)[:8]}.spool"
    assert f"workbench import {aside}" in caplog.text
    second.merge(aside)
    assert count(second) == 30
    assert spool.segments(aside)


def test_the_spool_follows_a_store_that_was_renamed(tmp_path: Path) -> None:
    """It is found by the id."""
    first = open_store(tmp_path / "a.duckdb", create=True)
    spooled(first.spool_dir, first.id)
    first.path.rename(tmp_path / "b.duckdb")

    assert count(open_store(tmp_path / "b.duckdb")) == 30


def test_the_spool_of_a_copy_stays_with_the_original(tmp_path: Path) -> None:
    """A copy has the same id, and the original is still there."""
    first = open_store(tmp_path / "a.duckdb", create=True)
    (tmp_path / "b.duckdb").write_bytes(first.path.read_bytes())
    spooled(first.spool_dir, first.id)

    assert count(open_store(tmp_path / "b.duckdb")) == 0
    assert count(open_store(first.path)) == 30


def test_a_segment_of_another_store_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was copied into the wrong folder."""
    one, two = (open_store(tmp_path / name, create=True) for name in ("a.duckdb", "b.duckdb"))
    spooled(one.spool_dir, one.id)
    segment = spool.segments(one.spool_dir)[0].path
    segment.rename(two.spool_dir / segment.name)

    assert count(open_store(two.path)) == 0

    assert (two.spool_dir / "foreign" / segment.name).exists()
    assert str(one.id)[:8] in caplog.text


def leave_files(folder: Path) -> list[Path]:
    """Leave what a killed collector leaves beside its segments; returns the files."""
    key, request = ("c", "i", 0), Request(model="m", prompt="2+2?")

    async def work() -> None:
        with await Claims.open(folder, "run-1") as mine:
            await mine.exclusively(lambda: mine.append("begin", key, Amounts(1.0, 10.0)))
        attempt = Journal(folder, "run-1").open(key)
        await attempt.keep(attempt.recall(request, "subject").request_id, Reply(text="4"))
        attempt.close()

    asyncio.run(work())
    ids = {"kind": "openai", "base": "b", "path": "/p", "model": "m"}
    note = Note(label="l1", created_at=making.START, custom_ids=["1"], attempts=["a"], **ids)
    Notes(folder).write(note)
    (folder / spool.BATCHES / "l1.results.jsonl").write_text('{"custom_id":"1"}\n')
    patterns = ("claims/*.jsonl", "arrived/*.jsonl", "batches/*")
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def seen(folder: Path) -> list[int]:
    """Count what a collector would go on with: claims of the dead, journals, batches."""
    return [
        len(list(claims.unfinished(folder))),
        len(journal.files(folder)),
        len(list(Notes(folder))),
    ]


def test_journals_claims_and_batches_carry_the_stores_id(tmp_path: Path) -> None:
    """As segments do, each in its first line or its note; and they read as before."""
    store = open_store(tmp_path / "a.duckdb", create=True)
    spool.write_owner(store.spool_dir, str(store.id))

    files = leave_files(store.spool_dir)

    named = [spool.file_owner(path) for path in files if not path.name.endswith("results.jsonl")]
    assert named == [store.id] * 3
    assert seen(store.spool_dir) == [1, 1, 1]
    assert damaged_replies(store) == 0
    with next(f for f in files if f.parent.name == "arrived").open("ab") as file:
        file.write(b"00000000 {}\n")
    assert damaged_replies(store) == 1
    kept = Journal(store.spool_dir, "run-2").open(("c", "i", 0))
    found = kept.recall(Request(model="m", prompt="2+2?"), "subject").reply
    assert found is not None
    assert found.text == "4"


@pytest.mark.parametrize("can_move", [True, False])
def test_journals_claims_and_batches_of_another_store_are_refused_in_words(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    can_move: bool,
) -> None:
    """Paid answers of one store are no answers of the other; its claims keep nobody waiting."""
    one, two = (open_store(tmp_path / name, create=True) for name in ("a.duckdb", "b.duckdb"))
    for store in (one, two):
        spool.write_owner(store.spool_dir, str(store.id))
    files = leave_files(one.spool_dir)
    for folder in ("claims", "arrived", "batches"):
        shutil.copytree(one.spool_dir / folder, two.spool_dir / folder)
    spooled(one.spool_dir, one.id)
    [segment] = spool.segments(one.spool_dir)
    shutil.copy(segment.path, two.spool_dir)

    assert seen(two.spool_dir) == [0, 0, 0]
    assert spool.segments(two.spool_dir) == []
    if not can_move:
        (two.spool_dir / "foreign").write_text("in the way")
    open_store(two.path)

    assert str(one.id)[:8] in caplog.text or "cannot be moved" in caplog.text
    assert seen(two.spool_dir) == [0, 0, 0]
    if can_move:
        names = {path.relative_to(one.spool_dir) for path in [*files, segment.path]}
        aside = two.spool_dir / "foreign"
        assert {p.relative_to(aside) for p in aside.rglob("*") if p.is_file()} == names
        assert "import" in caplog.text
    assert seen(one.spool_dir) == [1, 1, 1]


def test_a_living_collector_of_another_store_holds_nothing_of_this_one(tmp_path: Path) -> None:
    """Its store's file was replaced under it, and it goes on: nobody here waits for its traces."""
    store = open_store(tmp_path / "a.duckdb", create=True)
    folder, key = store.spool_dir, ("c", "i", 0)
    (folder / "store").write_text("f" * 32)

    async def work() -> set[AttemptKey]:
        with await Claims.open(folder, "run-1") as other:
            (folder / "store").write_text(f"{store.id}\n")
            with await Claims.open(folder, "run-2") as mine:
                await other.exclusively(lambda: other.append("begin", key, Amounts()))
                await mine.exclusively(lambda: None)
                assert claims.live_runs(folder) == {"run-2"}
                return mine.taken

    assert asyncio.run(work()) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks")
def test_a_writer_names_its_store_at_the_turnstile(tmp_path: Path) -> None:
    """Whoever waits is told if it is for another store, whose file lay there before."""
    store = open_store(tmp_path / "a.duckdb", create=True)
    turnstile = store.spool_dir / ".turnstile"
    with store.lease():
        assert turnstile.read_text() == f"{os.getpid()} {store.id}"

    import fcntl

    with turnstile.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        told = []
        for said in (f"12 {store.id}", "12", f"12 {'f' * 32}", ""):
            file.truncate(0)
            os.pwrite(file.fileno(), said.encode(), 0)
            cancel = Cancel()
            reader = threading.Thread(target=refuse_cancelled, args=(store, cancel))
            reader.start()
            while not cancel.waiting_for:
                time.sleep(0.01)
            told.append(cancel.waiting_for)
            cancel.cancel()
            reader.join()

    other = "workbench, process 12, which writes to another store (id ffffffff)"
    assert told == ["workbench, process 12"] * 2 + [other, "another workbench"]


def refuse_cancelled(store: Store, cancel: Cancel) -> None:
    """Read until it is called off."""
    with pytest.raises(QueryCancelled):
        store.sql("SELECT 1", cancel=cancel)


def test_files_without_an_id_belong_to_the_store_whose_folder_they_are_in(tmp_path: Path) -> None:
    """Earlier versions wrote none."""
    store = open_store(tmp_path / "a.duckdb", create=True)
    folder = store.spool_dir
    (folder / "store").unlink(missing_ok=True)
    files = leave_files(folder)
    assert [spool.file_owner(path) for path in files] == [None] * 4

    again = open_store(store.path)

    assert spool.owner(folder) == again.id
    assert seen(folder) == [1, 1, 1]


def test_nobody_writes_to_a_spool_of_another_store(tmp_path: Path) -> None:
    """A collector is told before it pays."""
    store = open_store(tmp_path / "a.duckdb", create=True)

    with pytest.raises(StoreError, match="belongs to another store"):
        SpoolWriter(store.spool_dir, "run-1", store_id="f" * 32)


def test_a_store_that_is_gone_is_not_made_anew_by_a_write(tmp_path: Path) -> None:
    """It was moved while it was open: the rows would have gone to an empty database without
    tables."""
    store = making.small_store(tmp_path)
    store.path.rename(tmp_path / "elsewhere.duckdb")

    with pytest.raises(StoreMissing, match="moved or deleted"):
        store.save_slice("mine", "model:gpt-5")

    assert not store.path.exists()


def test_a_store_that_was_replaced_is_noticed_before_the_next_write(tmp_path: Path) -> None:
    """By its id, whatever its name and size."""
    store = making.small_store(tmp_path)
    other = open_store(tmp_path / "other.duckdb", create=True)
    other.path.replace(store.path)

    for write in (
        lambda: store.ingest(making.records()),
        lambda: store.save_slice("mine", "model:gpt-5"),
        lambda: store.add_prices([]),
        lambda: store.add_aliases([]),
    ):
        with pytest.raises(StoreError, match="replaced by another one"):
            write()
    assert Store(store.path).count() == 0


def test_the_head_of_a_segment_is_no_damaged_line(tmp_path: Path) -> None:
    """It names the store; every record after it is read."""
    spooled(tmp_path / "spool", "a" * 32)
    segment = spool.segments(tmp_path / "spool")[0].path

    batch = spool.read_segment(segment)

    assert spool.file_owner(segment) == "a" * 32
    assert batch.bad == []
    assert len(batch.records) == len(list(making.records()))
