"""A disk that is full, lost or not to be written: one sentence, and nothing that was paid is lost.

The disks are real: a small one is mounted in a user namespace of its own. Where that is not allowed
the tests say so and are skipped.
"""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from tests.support import making
from tests.support.small_disks import needs_mounts, on_small_disk
from workbench import spool
from workbench.records import Attempt
from workbench.spool import SpoolWriter

_COLLECT = """
import asyncio, json, logging, os, sys
from pathlib import Path
from workbench import scoring, spool
from workbench.datasets import TaskSet
from workbench.errors import StoreError
from workbench.records import Call, Task, Trace
from workbench.runner import Plan, Work, collect, strategies
from workbench.runner.execution import launch as launching
from workbench.runner.providers.protocol import Reply
from workbench.spool import SpoolWriter

disk, makes_room = Path(sys.argv[1]), sys.argv[2] == "makes room"
ballast, asked = disk / "ballast", []

def fill():
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass

class Provider:
    name = "stub"

    async def generate(self, request, on_chunk=None):
        asked.append(request.sampling["seed"])
        if len(asked) == 3:
            fill()
        text = "x" * 20_000 + "\\nAnswer: 1"
        return Reply(text=text, stop_reason="stop", call=Call(output_tokens=4))

    async def count_tokens(self, text):
        pass

    async def aclose(self):
        pass

class MakesRoom(logging.Handler):
    def emit(self, record):
        ballast.unlink(missing_ok=True)

if makes_room:
    logging.getLogger(launching.__name__).addHandler(MakesRoom())
else:
    launching.ROOM_S = 0.3
    logging.disable()

def launch(run_id):
    items = [scoring.TaskItem("sums", str(n), "1?", "1", scorer="numeric") for n in range(2)]
    task = TaskSet(Task(task="sums"), items, scoring.get("numeric"), "Answer.")
    plan = Plan(models=("m",), tasks=("sums",), strategies=("s",), seed=7, concurrency=1)
    work = Work(plan, [task], [strategies.get("self_consistency", samples=5)])
    with SpoolWriter(disk / "s.spool", run_id) as writer:
        return asyncio.run(collect(plan, spool=writer, work=work, provider=Provider())).collected

told = []
for run_id in ("r1", "r2"):
    try:
        told.append(launch(run_id))
    except StoreError as error:
        told.append(str(error))
    ballast.unlink(missing_ok=True)
records = [r for s in spool.segments(disk / "s.spool") for r in spool.read_segment(s.path).records]
traces = [r for r in records if isinstance(r, Trace)]
calls = [c for t in traces for c in t.calls if c.error_type is None]
print(json.dumps({"told": told, "asked": len(asked), "again": len(asked) - len(set(asked)),
                  "traces": len(traces), "calls": len(calls)}))
"""


@needs_mounts
def test_replies_wait_in_memory_until_a_full_disk_has_room(tmp_path: Path) -> None:
    """The third of five samples meets a full disk: it is kept; the next launch does the rest."""
    done = on_small_disk(_COLLECT, tmp_path / "small", "makes room", size="4m")
    assert done.returncode == 0, done.stderr

    told = json.loads(done.stdout)
    assert told == {"told": [1, 1], "asked": 10, "again": 0, "traces": 2, "calls": 10}
    assert "Traceback" not in done.stderr


@needs_mounts
def test_a_disk_that_stays_full_loses_what_was_in_memory_and_says_so(tmp_path: Path) -> None:
    """One sentence; what had been written is used, and only the lost reply is paid again."""
    done = on_small_disk(_COLLECT, tmp_path / "small", "stays full", size="4m")
    assert done.returncode == 0, done.stderr

    told = json.loads(done.stdout)
    first, second = told["told"]
    assert "lost" in first
    assert "No space left on device; make room" in first
    assert (second, told["traces"]) == (2, 2)
    assert told["again"] <= 5
    assert "Traceback" not in done.stderr


_COMMANDS = """
import contextlib, io, json, os, shutil, subprocess, sys
from pathlib import Path
from tests.support import making
from workbench.cli.app import main
from workbench.errors import StoreError
from workbench.store import open_store

disk, source, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
ballast = disk / "ballast"

def block():
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        return
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass

def unblock():
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    ballast.unlink(missing_ok=True)

def run(*args):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*args])
    return status, err.getvalue()

shutil.copy(source, disk / "s.duckdb")
here = ["--store", str(disk / "s.duckdb")]
run("sql", "SELECT 1", *here)
commands = {
    "import": ["import", str(source), "--store", str(disk / "new.duckdb")],
    "export": ["export", "all", "--folder", str(disk / "out"), *here],
    "sql csv": ["sql", "FROM messages", "-o", str(disk / "m.csv"), *here],
    "sql parquet": ["sql", "FROM messages", "-o", str(disk / "m.parquet"), *here],
    "analyze": ["analyze", "summary", "-o", str(disk / "a.json"), *here],
    "chart": ["analyze", "frontier", "-o", str(disk / "a.json"), *here],
    "report": ["report", "-o", str(disk / "r.md"), *here],
    "docs": ["docs", "summary", "-o", str(disk / "docs")],
    "repair": ["doctor", "--repair", str(disk / "copy.duckdb"), *here],
}
told = {}
for name, command in commands.items():
    before = {p.name for p in disk.iterdir() if not p.name.endswith(".spool")}
    block()
    first = run(*command)
    after = {p.name for p in disk.iterdir() if not p.name.endswith(".spool")}
    unblock()
    told[name] = (*first, sorted(after - before - {"ballast", "docs"}), *run(*command))
print(json.dumps(told))
"""


@needs_mounts
@pytest.mark.parametrize(
    ("how", "words"), [("full", "the disk is full; make room"), ("read-only", "is read-only")]
)
def test_every_command_says_in_one_sentence_that_the_disk_refuses(
    tmp_path: Path, how: str, words: str
) -> None:
    """Exit status 1, no traceback, nothing half-written; with room again, all is done."""
    source = making.small_store(tmp_path / "made").path
    done = on_small_disk(_COMMANDS, tmp_path / "small", str(source), how, size="24m")
    assert done.returncode == 0, done.stderr

    for name, (status, said, left, later, said_later) in json.loads(done.stdout).items():
        assert (name, status, left) == (name, 1, []), said
        assert words in said, (name, said)
        assert "Traceback" not in said, name
        assert (name, later) == (name, 0), said_later


_WAITING = """
import contextlib, sys
from pathlib import Path
from tests.support import making
from workbench.errors import StoreUnwritable
from workbench.spool import SpoolWriter
from workbench.store import open_store

disk = Path(sys.argv[1])
store = making.small_store(disk)
before = store.count()
with SpoolWriter(store.spool_dir, "r9", store_id=store.id) as writer:
    writer.append(making.trace(making.COT, making.ITEMS[0], 77))
with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
    for size in (65536, 1):
        with contextlib.suppress(OSError):
            while file.write(bytes(size)) == size:
                pass
print(open_store(store.path).count() - before)
try:
    store.ingest_spool()
except StoreUnwritable as error:
    print(error)
(disk / "ballast").unlink()
print(open_store(store.path).count() - before)
"""


@needs_mounts
def test_a_store_on_a_full_disk_can_be_read_though_its_spool_waits(tmp_path: Path) -> None:
    """A warning says that it was not taken in; with room it is."""
    done = on_small_disk(_WAITING, tmp_path / "small", size="12m")
    assert done.returncode == 0, done.stderr

    read, refused, taken_in = done.stdout.splitlines()
    assert (read, taken_in) == ("0", "1")
    assert "the disk is full; make room" in refused
    assert "was not taken in" in done.stderr


def _attempt(trial: int) -> Attempt:
    return Attempt(
        run_id="r1",
        configuration_id="c",
        item_id="i",
        trial=trial,
        started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )


def _trials(folder: Path) -> list[int]:
    batches = [spool.read_segment(s.path) for s in spool.segments(folder)]
    return [r.trial for b in batches for r in b.records if isinstance(r, Attempt)]


def test_a_spool_whose_disk_is_unmounted_holds_lines_until_it_is_back(tmp_path: Path) -> None:
    """Nobody would find what is written to a file without a name."""
    here, away = tmp_path / "spool", tmp_path / "away"
    with SpoolWriter(here, "r1") as writer:
        writer.append(_attempt(0))
        here.rename(away)
        for trial in (1, 2):
            error = writer.offer(_attempt(trial))
            assert "No such file" in str(error)
        assert (writer.n_held, _trials(away)) == (2, [0])
        away.rename(here)
        assert writer.retry() is None

        assert (writer.n_held, _trials(here)) == (0, [0, 1, 2])


def test_at_the_end_lines_go_to_a_spool_that_was_moved_and_not_to_a_deleted_one(
    tmp_path: Path,
) -> None:
    """The open file is the last resort; one that was deleted keeps nothing."""
    here, away = tmp_path / "spool", tmp_path / "away"
    with SpoolWriter(here, "r1") as writer:
        writer.append(_attempt(0))
        here.rename(away)
        assert writer.offer(_attempt(1)) is not None
        assert writer.retry_elsewhere() is None
        assert _trials(away) == [0, 1]
        shutil.rmtree(away)

        assert "deleted" in str(writer.offer(_attempt(2)))
        assert writer.retry_elsewhere() is not None
