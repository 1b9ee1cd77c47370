"""Backups hold what the store holds, and a store opens in the versions of DuckDB that we run
with."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.support import ROOT, making
from workbench import schema
from workbench.errors import StoreError
from workbench.store import Store, backups, database, genuine, migrations, open_store


def _mood(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE runs ADD COLUMN mood VARCHAR")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> int:
    """Know a layout after today's; returns today's."""
    today = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", today + 1)
    monkeypatch.setitem(migrations.STEPS, today + 1, ("add a mood", _mood))
    return today


def open_read_only(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a file as any other program does."""
    return duckdb.connect(str(path), read_only=True)


def test_a_backup_has_what_the_log_beside_the_file_holds(tmp_path: Path, request) -> None:
    """The file alone was copied: rows in the write-ahead log were not in it."""
    store = making.small_store(tmp_path)
    writer = duckdb.connect(str(store.path))
    writer.execute("SET checkpoint_threshold = '1TB'; PRAGMA disable_checkpoint_on_shutdown")
    writer.execute("INSERT INTO saved_slices VALUES ('late', 'model:x', now()::TIMESTAMP)")
    writer.close()
    assert store.path.with_name("traces.duckdb.wal").exists()
    today = request.getfixturevalue("newer")

    open_store(store.path)

    with open_read_only(backups.path_of(store.path, today)) as saved:
        assert saved.execute("SELECT name FROM saved_slices").fetchall() == [("late",)]
        assert saved.execute("SELECT store_id FROM identity").fetchall() == [(store.id,)]
        assert saved.execute("SELECT count(*) FROM trace_facts").fetchall() == [(31,)]


def test_stores_whose_names_differ_after_the_last_dot_have_backups_of_their_own(
    tmp_path: Path, request
) -> None:
    """The second overwrote that of the first."""
    paths = [tmp_path / "gpt-4.1", tmp_path / "gpt-4.5"]
    for path in paths:
        open_store(path, create=True)
    open_store(paths[0]).ingest(making.records())
    today = request.getfixturevalue("newer")

    for path in paths:
        open_store(path)

    counts = []
    for path in paths:
        with open_read_only(backups.path_of(path, today)) as saved:
            counts.append(saved.execute("SELECT count(*) FROM traces").fetchall()[0][0])
    assert counts == [30, 0]


def test_a_backup_that_is_not_like_the_store_stops_the_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request
) -> None:
    """It is opened and counted before anything changes; nothing half-made stays."""
    store = making.small_store(tmp_path)
    today = request.getfixturevalue("newer")

    def differ(*_: object) -> None:
        raise StoreError("the backup has 30 rows of traces where the store has 31")

    monkeypatch.setattr(backups, "_compare", differ)
    with pytest.raises(StoreError, match="the backup has 30"):
        open_store(store.path)

    assert not list(tmp_path.glob("*.backup*"))
    assert Store(store.path).sql("SELECT max(version) AS v FROM migrations")["v"][0] == today


def test_a_copy_that_lacks_rows_is_told_by_counting(tmp_path: Path) -> None:
    """Table by table."""
    store, other = making.small_store(tmp_path), tmp_path / "copy.duckdb"
    other.write_bytes(store.path.read_bytes())
    with duckdb.connect(str(other)) as connection:
        connection.execute("DELETE FROM scores")
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(f"ATTACH '{other}' AS workbench_backup (READ_ONLY)")
        n = connection.execute("SELECT count(*) FROM scores").fetchall()[0][0]

        with pytest.raises(StoreError, match=f"0 rows of scores where the store has {n}"):
            backups._compare(connection, other)


def test_a_new_store_and_its_backup_have_the_storage_version_of_the_oldest_duckdb(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """DuckDB 2 writes files by default that 1.5 cannot open; byte 12 holds the version's number."""
    store = making.small_store(tmp_path)
    today = request.getfixturevalue("newer")
    open_store(store.path)

    for file in (store.path, backups.path_of(store.path, today)):
        assert int.from_bytes(file.read_bytes()[12:20], "little") == 68, file


def test_views_are_written_alike_in_memory_and_in_files_of_the_older_version(
    tmp_path: Path,
) -> None:
    """Else every opening would find them altered and write them again."""
    store = making.small_store(tmp_path)

    with database.reading(store.path) as connection:
        assert genuine.has_our_views(connection)


_OTHER_DUCKDB = """
import sys
import duckdb
from pathlib import Path
from tests.support import making
from workbench.store import checks, open_store
store = open_store(Path(sys.argv[1]), create=True)
store.ingest(making.records())
assert not [c for c in checks.checks(store) if c.is_damage]
print(duckdb.__version__, store.overview())
"""


@pytest.mark.slow
def test_two_versions_of_duckdb_open_a_store_in_turn(tmp_path: Path) -> None:
    """WORKBENCH_OTHER_DUCKDB names a folder of packages with another DuckDB, such as 1.5.5."""
    other = os.environ.get("WORKBENCH_OTHER_DUCKDB")
    if not other:
        pytest.skip("WORKBENCH_OTHER_DUCKDB names no folder with another version of duckdb")
    root = str(ROOT)
    said = []
    for first in (root, f"{other}:{root}", root, f"{other}:{root}"):
        done = subprocess.run(
            [sys.executable, "-c", _OTHER_DUCKDB, str(tmp_path / "s.duckdb")],
            env={**os.environ, "PYTHONPATH": first},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.partition(" "))

    assert len({version for version, _, _ in said}) == 2
    assert len({overview for _, _, overview in said}) == 1
