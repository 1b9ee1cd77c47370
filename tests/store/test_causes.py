"""Why a store cannot be opened, read or written: told by facts and codes, whatever words a path
has."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import making
from tests.support.small_disks import needs_mounts, on_small_disk
from workbench.errors import QueryError, StoreError, StoreLocked, StoreMissing, StoreVersionError
from workbench.store import Store, causes, database, open_store

# words that messages were once searched for
WORDS = "blocksworld different configuration version of storage PID 12 disk full"
BLOCK_AT = 12288  # where the blocks of a database file begin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / WORDS
    made.mkdir()
    return made


def _no_folder(path: Path) -> None:
    path.parent.rmdir()


def _folder(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("hello " * 1000)


def _cut(path: Path) -> None:
    """Leave the headers and little else: the blocks that hold the tables are missing."""
    path.write_bytes(making.small_store(path.parent).path.read_bytes()[:16_384])


def _flipped_header(path: Path) -> None:
    data = bytearray(making.small_store(path.parent).path.read_bytes())
    data[5000] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (_no_folder, StoreMissing, "no folder|no store at"),
        (_folder, StoreError, "it is a folder"),
        (_text, StoreVersionError, "no DuckDB database"),
        (_cut, StoreError, "Could not read enough bytes"),
        (_flipped_header, StoreError, "is damaged"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_cannot_be_opened_is_named_as_what_it_is(
    folder: Path,
    make: Callable[[Path], None],
    kind: type[StoreError],
    says: str,
    *,
    read_only: bool,
) -> None:
    """Nobody is waited for or blamed who does not have the file, whatever the path says."""
    path = folder / "s.duckdb"
    make(path)
    opened = database.reading(path) if read_only else database.lease(path)
    began = time.monotonic()
    with pytest.raises(kind, match=says) as caught, opened:
        pass
    assert not isinstance(caught.value, StoreLocked)
    assert time.monotonic() - began < database.WAIT_S / 2


def test_a_holder_is_named_by_the_lock_that_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file whose path has another number in it the process that holds it is named."""
    monkeypatch.setattr(database, "STRANGER_S", 0.1)
    store = making.small_store(folder)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(StoreLocked, match=rf"is held by process {holder.pid} "):
            store.count()
    finally:
        holder.kill()
        holder.communicate()
    assert store.count() == 31


@pytest.mark.parametrize(
    ("query", "kind", "says"),
    [
        ("FROM read_parquet('{there}/none.parquet')", StoreError, "No files found"),
        ("FROM read_csv('{there}/none.csv')", StoreError, "No files found"),
        ("SELECT error('lock: is the disk full?')", QueryError, "Invalid Input"),
    ],
)
def test_what_is_wrong_with_a_query_is_not_put_down_to_the_store(
    folder: Path, query: str, kind: type[StoreError], says: str
) -> None:
    """No disk is asked about where none is full, and nothing is said to be damaged."""
    store = Store(making.small_store(folder).path, allow_files=True)
    with pytest.raises(kind, match=says) as caught:
        store.sql(query.format(there=folder))
    assert "make room" not in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_a_block_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    """A flipped bit is told as such, with what to do, and not as a fault of the query."""
    path = making.small_store(tmp_path).path
    data = bytearray(path.read_bytes())
    for at in range(BLOCK_AT + 100, len(data), 262144):
        data[at] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"is damaged: .*checksum.*doctor --repair"):
        Store(path).sql("FROM traces, calls, messages, contents")


def test_a_store_that_is_gone_is_said_to_be_gone(folder: Path) -> None:
    """Whoever deleted it, or unmounted its disk, while it was read."""
    store = making.small_store(folder)
    with database.reading(store.path) as connection:
        store.path.unlink()
        with pytest.raises(StoreMissing, match="is gone"), database.translated(store.path):
            connection.sql("FROM read_parquet('nowhere')")


_FILL = """
import os, sys
from pathlib import Path
from tests.support import making
from workbench.errors import StoreError
from workbench.records import Message
disk = Path(sys.argv[1])
store = making.small_store(disk)
long = tuple(
    Message(ordinal=n, role="user", kind="text", text=os.urandom(500_000).hex()) for n in range(60)
)
try:
    store.ingest([making.trace(making.COT, making.ITEMS[0], 50, messages=long)])
except StoreError as error:
    print(type(error).__name__, error)
print(store.count())
"""


@needs_mounts
def test_a_full_disk_is_said_to_be_full_and_nothing_is_half_written(tmp_path: Path) -> None:
    """One sentence with what to do; the store is what it was."""
    done = on_small_disk(_FILL, tmp_path / "small", size="40m")
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.splitlines()
    assert said.startswith(f"StoreUnwritable cannot write {tmp_path / 'small' / 'traces.duckdb'}: ")
    assert "make room" in said
    assert count == "31"


def test_a_disk_that_takes_a_write_is_not_full(tmp_path: Path) -> None:
    """What is asked is the operating system."""
    assert causes.refusal(tmp_path) is None
    refused = causes.refusal(tmp_path / "none")
    assert refused is not None
    assert "folder is gone" in causes.reason(refused)
    assert open_store(tmp_path / "s.duckdb", create=True).count() == 0
