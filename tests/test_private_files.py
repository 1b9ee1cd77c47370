"""What any face writes is its user's alone, whatever the mask: files 0600, folders 0700."""

import asyncio
import datetime as dt
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from tests.support import making
from workbench import private, scoring, spool
from workbench.datasets import TaskSet
from workbench.errors import StoreError
from workbench.records import Call, Task
from workbench.runner import Plan, Work, collect, strategies
from workbench.runner.batch.batch_journal import Note, Notes
from workbench.runner.providers.protocol import Reply, Request
from workbench.scoring import TaskItem
from workbench.spool import SpoolWriter
from workbench.store import backups, database, open_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such modes")


@pytest.fixture(params=[0o022, 0o000], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A mask of the process that lets others read, or even write."""
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param


def wide(folder: Path) -> dict[str, str]:
    """List what others may read, write or enter below a folder, and the folder itself."""
    modes = {p: stat.S_IMODE(p.lstat().st_mode) for p in (folder, *folder.rglob("*"))}
    return {str(p.relative_to(folder)): oct(mode) for p, mode in modes.items() if mode & 0o077}


@pytest.mark.usefixtures("mask")
def test_a_store_made_from_python_is_private_at_every_moment(tmp_path: Path) -> None:
    """The file, its write-ahead log while a lease is open, the spool, and folders on the way."""
    folder = tmp_path / "a"
    source = making.small_store(tmp_path / "other")
    store = wb.open(folder / "b" / "s.duckdb", create=True)
    store.merge(source.path)
    with store.lease() as connection:
        connection.execute("CREATE TABLE big AS SELECT range AS n FROM range(100_000)")
        during = wide(folder)
    assert store.count() == source.count()

    assert during == wide(folder) == {}


@pytest.mark.usefixtures("mask")
def test_the_write_ahead_log_that_a_killed_writer_leaves_is_private(tmp_path: Path) -> None:
    """It holds what was written last."""
    store = making.small_store(tmp_path / "made")
    child = os.fork()
    if not child:
        lease = store.lease()
        connection = lease.__enter__()
        connection.execute("CREATE TABLE t (n INTEGER)")
        connection.execute("COMMIT")
        connection.execute("BEGIN")
        os._exit(0)
    os.waitpid(child, 0)

    assert store.path.with_name(f"{store.path.name}.wal").stat().st_size > 0
    assert wide(store.path.parent) == {}


@pytest.mark.usefixtures("mask")
def test_exports_and_backups_are_private(tmp_path: Path) -> None:
    """Tables, manifest, and the copy before a layout is raised."""
    store = making.small_store(tmp_path / "made")
    store.export(tmp_path / "x" / "out")
    store.export(str(tmp_path / "x" / "out"))  # in the place of the first
    with database.lease(store.path, permissions=backups.permissions(store.path, 1)) as connection:
        backups.take(connection, store.path, 1)

    assert (tmp_path / "x" / "out" / "manifest.json").exists()
    assert backups.path_of(store.path, 1).exists()
    assert wide(tmp_path / "x") == wide(tmp_path / "made") == {}


@pytest.mark.usefixtures("mask")
def test_reports_and_charts_are_private(tmp_path: Path) -> None:
    """From Python as from the command line."""
    from workbench import charts, report

    store = making.small_store(tmp_path / "made")
    folder = tmp_path / "written"
    folder.mkdir(mode=0o700)
    report.save(
        report.of([store.analyze("summary")], made_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        folder / "r.html",
    )
    charts.save(charts.chart(store.analyze("frontier")), folder / "c.json")

    assert len(list(folder.iterdir())) == 2
    assert wide(folder) == {}


class Looks:
    """A provider that answers, and lists what others may read of the spool while it is asked."""

    name = "stub"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, str] = {}
        self.names: set[str] = set()

    async def generate(self, request: Request, on_chunk: object = None) -> Reply:
        """Look, and answer."""
        self.seen |= wide(self.folder)
        self.names |= {p.name for p in self.folder.rglob("*")}
        return Reply(text="Answer: 1", stop_reason="stop", call=Call(output_tokens=4))

    async def count_tokens(self, text: str) -> None:
        """Count nothing."""

    async def aclose(self) -> None:
        """Hold nothing."""


@pytest.mark.usefixtures("mask")
def test_a_collection_from_python_is_private_while_it_runs(tmp_path: Path) -> None:
    """Segments, replies of unfinished attempts, claims, and what it is steered by."""
    item = TaskItem("sums", "0", "1?", "1", scorer="numeric")
    task = TaskSet(Task(task="sums"), [item], scoring.get("numeric"), "Answer.")
    plan = Plan(models=("m",), tasks=("sums",), strategies=("self_consistency",), seed=7)
    work = Work(plan, [task], [strategies.get("self_consistency", samples=3)])
    provider = Looks(tmp_path / "a")
    with SpoolWriter(tmp_path / "a" / "s.spool", "r1") as writer:
        asyncio.run(collect(plan, spool=writer, work=work, provider=provider))

    assert {spool.ARRIVED, "claims"} <= provider.names
    assert provider.seen == wide(tmp_path / "a") == {}


@pytest.mark.usefixtures("mask")
def test_notes_of_batches_and_quarantined_lines_are_private(tmp_path: Path) -> None:
    """Notes name the items of a batch; a bad line may be most of a transcript."""
    folder = tmp_path / "a" / "s.spool"
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    Notes(folder).write(
        Note(
            label="n",
            kind="openai",
            base="http://x/v1",
            path="/",
            model="m",
            created_at=moment,
            custom_ids=["a"],
            attempts=["p"],
        )
    )
    spool.quarantine(folder / "r1-000000.jsonl", [spool.BadLine(0, "torn", b"{")])

    assert len(list(folder.rglob("*"))) == 4
    assert wide(tmp_path / "a") == {}


@pytest.mark.usefixtures("mask")
def test_what_spills_lies_in_a_folder_that_nobody_else_can_enter(tmp_path: Path) -> None:
    """DuckDB names the files and gives them the process's mask; the folder above hides them."""
    store = making.small_store(tmp_path / "made")
    with database.reading(store.path) as connection:
        told = connection.sql("SELECT current_setting('temp_directory')").fetchall()[0][0]

    assert Path(told).parent == store.spool_dir
    assert stat.S_IMODE(store.spool_dir.stat().st_mode) == 0o700


@pytest.mark.usefixtures("mask")
def test_a_file_that_is_there_keeps_its_mode_and_no_new_one_is_wider(tmp_path: Path) -> None:
    """Whoever gave a file away did so on purpose; writing again widens nothing."""
    given, narrow = tmp_path / "given", tmp_path / "narrow"
    for path, mode in ((given, 0o640), (narrow, 0o400)):
        path.touch()
        path.chmod(mode)
    private.write_text(given, "a")
    private.write_text(tmp_path / "new", "a\n")

    assert stat.S_IMODE(given.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert (tmp_path / "new").read_bytes() == b"a\n"


def test_the_mask_comes_back_when_the_last_block_of_all_threads_is_left() -> None:
    """Blocks overlap without an order."""
    before = os.umask(0o027)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with private.only_owner():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    try:
        with private.only_owner():
            thread.start()
            entered.wait()
        assert os.umask(0o077) == 0o077  # the other one is still inside
        leave.set()
        thread.join()
        assert os.umask(0o027) == 0o027
    finally:
        leave.set()
        os.umask(before)


@pytest.mark.parametrize(
    ("spool_mode", "above_mode", "said"),
    [
        (0o702, 0o755, "every user of this machine can write to .*; look at it, then: chmod go-w"),
        (0o770, 0o755, "its group can write to .*; look at it, then: chmod go-w"),
        (0o700, 0o777, "can put another folder in the place of .*; type: chmod o-w"),
        (0o700, 0o1777, None),
        (0o700, 0o775, None),
        (0o755, 0o755, None),
    ],
)
def test_a_spool_that_others_can_write_or_replace_is_refused(
    tmp_path: Path, spool_mode: int, above_mode: int, said: str | None
) -> None:
    """Everybody, the group, or by way of the folder above; a sticky one and a team's are fine."""
    store = making.small_store(tmp_path / "made")
    store.spool_dir.mkdir(exist_ok=True)
    store.spool_dir.chmod(spool_mode)
    store.path.parent.chmod(above_mode)

    if said is None:
        SpoolWriter(store.spool_dir, "r1").close()
        assert open_store(store.path).count() == store.count()
        return
    with pytest.raises(StoreError, match=said):
        open_store(store.path)
    with pytest.raises(StoreError, match=said):
        SpoolWriter(store.spool_dir, "r1")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)
def test_a_spool_that_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    """Who made it first in a folder like /tmp reads and writes all that lies there."""
    store = making.small_store(tmp_path / "made")
    store.spool_dir.mkdir(exist_ok=True)
    os.chown(store.spool_dir, 12345, -1)

    with pytest.raises(StoreError, match=r"belongs to another user \(id 12345\).*chown 0"):
        open_store(store.path)
    os.chown(store.path, 12345, -1)  # whose store it is may have its spool
    spool.check_private(store.spool_dir)
