"""Two hundred kills over everything that writes, and damage beside: what is lost or paid twice.

Run: python tests/benchmarks/campaign.py [--seed 1] [--kills 200] [--minutes 30] [--only NAME …]

Every ordeal is a round that is repeated, each time with a seed of its own: a process is killed
(SIGKILL, one in four SIGTERM) at a random moment, the same command is given again, and what is
there at the end is compared with what an undisturbed one leaves, or with the books of a server that
notes each request and each whole reply (tests/support/ledger.py). Prints a table of figures, and
each fault with the round that shows it; ends with 1 if there was any.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.support import ledger, making
from tests.support.old_stores import old_store
from workbench import schema, spool
from workbench.errors import WorkbenchError
from workbench.records import Call, Message, Run
from workbench.runner.attempts import journal
from workbench.runner.providers.protocol import Reply
from workbench.store import checks, exports, open_store

CONCURRENCY = 4
LONGEST_S = 120.0  # of one command; what takes longer hangs
# put before the C library: the time of day is as many seconds off as a file of eight bytes says;
# the monotonic clock, by which processes sleep, is left alone
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long long *off;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("CLOCK_OFFSET_FILE");
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  void *at = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
  off = at == MAP_FAILED ? 0 : at;
  real = dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && off && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += *off;
  return failed;
}
time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""
# of an import, when it was and what wrote it; what was taken from where the file lay
VOLATILE = {"runs": ("run_id", "started_at", "ended_at", "origin"), "traces": ("run_id",)}


class Fault(Exception):
    """What must not be."""


class Round:
    """One round: a folder, a source of chance, and what is counted.

    Attributes:
        count: figures by name; `kills` is one of them.
    """

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder, self.rng, self.count = folder, random.Random(seed), Counter[str]()
        self.stderr = folder / "stderr.txt"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: object, **environ: str) -> "subprocess.Popen[bytes]":
        """Begin a command of workbench."""
        with self.stderr.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "workbench", *map(str, words)],
                cwd=ROOT,
                env=self._environ(**environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _environ(self, **more: str) -> dict[str, str]:
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")}
        return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **home, **more}

    def run(self, *words: object, may_fail: bool = False, **environ: str) -> int:
        """Give a command and wait for its end; a traceback or a hang is a fault."""
        return self.end(self.start(*words, **environ), may_fail=may_fail)

    def end(self, process: "subprocess.Popen[bytes]", *, may_fail: bool = False) -> int:
        """Wait for the end of a command that nobody kills."""
        try:
            status = process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            raise Fault(f"hangs: {process.args}") from None
        told = self.stderr.read_text(errors="replace")
        if "Traceback (most recent call last)" in told:
            raise Fault(f"traceback: {told[-600:]}")
        if status and not may_fail:
            raise Fault(f"ended with {status}: {told[-400:]}")
        return status

    def kill(self, process: "subprocess.Popen[bytes]") -> bool:
        """Kill a command, if it has not ended; says whether it had no chance to end itself."""
        if process.poll() is not None:
            return False
        self.count["kills"] += 1
        if self.rng.random() < 0.25:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LONGEST_S)
                return False
            raise Fault(f"SIGTERM does not end {process.args}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True

    def kill_within(self, seconds: float, *words: object) -> bool:
        """Begin a command and kill it at a moment of its usual time."""
        process = self.start(*words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.rng.uniform(0.3, 1.0) * seconds)
        return self.kill(process)

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


class Ordeal(NamedTuple):
    """A kind of round."""

    name: str
    play: Callable[[Round], None]


# -- what is compared ----------------------------------------------------------------------------


def content(path: Path) -> dict[str, int]:
    """A figure for what each table of a store holds, whatever the order of its rows."""
    store, found = open_store(path), {}
    for name in schema.TABLES:
        kept = [f'"{c}"' for c in schema.TABLES[name].names if c not in VOLATILE.get(name, ())]
        row = f"hash({', '.join(kept)})::HUGEINT"
        frame = store.sql(
            f"SELECT coalesce(sum({row}), 0)::VARCHAR AS h, count(*) AS n FROM {name}"
        )
        found[name] = hash(frame.row(0))
    return found


def differences(found: dict[str, int], wanted: dict[str, int]) -> list[str]:
    """The tables in which two stores differ."""
    return [name for name, figure in wanted.items() if found[name] != figure]


def must_be_sound(path: Path) -> None:
    """See that doctor finds no damage where there was none dealt."""
    broken = [f"{c.n} {c.name}" for c in checks.checks(open_store(path)) if c.is_damage]
    if broken:
        raise Fault(f"damage after a kill: {'; '.join(broken)}")


def says_damage(path: Path) -> bool:
    """Whether doctor, or the opening, says that something is wrong."""
    try:
        return any(check.is_damage for check in checks.checks(open_store(path)))
    except WorkbenchError:
        return True


def took(round_: Round, *words: object) -> float:
    """How long a command takes that nobody kills."""
    began = time.monotonic()
    round_.run(*words)
    return time.monotonic() - began


def traces(n: int, first: int = 0, run_id: str = "run-1") -> Iterator[object]:
    """Records of a run with so many traces, each with a text of its own."""
    yield making.run(run_id)
    yield making.TASK
    yield from making.ITEMS
    yield from making.CONFIGURATIONS
    for number in range(first, first + n):
        text = f"trace {number}: " + "word " * 200
        message = Message(ordinal=0, role="user", kind="text", text=text)
        yield making.trace(
            making.CONFIGURATIONS[number % 3],
            making.ITEMS[number % 5],
            number,
            run_id=run_id,
            messages=(message,),
        )


# -- the collector -------------------------------------------------------------------------------


class Plan:
    """A plan over a server, its store, and what the books must show at the end."""

    def __init__(self, round_: Round, server: ledger.Server, folder: Path, n_items: int) -> None:
        self.round, self.server = round_, server
        self.store, self.n_items = folder / "s.duckdb", n_items
        questions = [
            {"input": f"{i} + 1?", "target": "4", "scorer": "numeric"} for i in range(n_items)
        ]
        self.tasks = round_.folder / "sums.jsonl"
        self.tasks.write_text("\n".join(map(json.dumps, questions)))
        # by name, how many replies a launch may have had in memory when it was killed
        self.n_launches, self.in_memory = 0, Counter[str]()
        self.budget: int | None = None

    def launch(self, **environ: str) -> tuple[str, "subprocess.Popen[bytes]"]:
        """Begin a collector; the server's books know it by its name."""
        name, self.n_launches = f"launch{self.n_launches}", self.n_launches + 1
        plan = {
            "models": ["m"],
            "tasks": [str(self.tasks)],
            "seed": 1,
            "energy": "off",
            "max_tokens": 20,
            "base_url": self.server.url(name),
            "concurrency": CONCURRENCY,
        }
        if self.budget is not None:
            plan["budget_tokens"] = self.budget
        lines = [f"{key} = {json.dumps(value)}" for key, value in plan.items()]
        lines.append('strategies = ["direct", {name = "self_consistency", samples = 2, shots = 0}]')
        file = self.round.folder / f"{name}.toml"
        file.write_text("\n".join(lines))
        return name, self.round.start("collect", file, "--store", self.store, **environ)

    def wait_for(self, n_more: int, *processes: "subprocess.Popen[bytes]") -> None:
        """Wait until the server has given so many more replies, or a process has ended."""
        wanted, end = len(self.server.books().whole) + n_more, time.monotonic() + LONGEST_S
        while len(self.server.books().whole) < wanted:
            if any(process.poll() is not None for process in processes):
                return
            if time.monotonic() > end:
                raise Fault("no reply was asked for")
            time.sleep(0.02)

    def kill(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Kill a collector, and remember it."""
        if self.round.kill(process):
            self.in_memory[name] = CONCURRENCY

    def finish(self) -> None:
        """Give the command until nothing is left."""
        for _ in range(4):
            _, process = self.launch()
            if not self.round.end(process, may_fail=True):
                return
            if self.budget is not None:
                return

    def close_books(self) -> None:
        """Compare the store with the server's books."""
        books, store = self.server.books(), open_store(self.store)
        texts = store.sql("SELECT c.text FROM messages m JOIN contents c USING (content_id)")[
            "text"
        ]
        kept = [file.read_text(errors="replace") for file in journal.files(store.spool_dir)]
        stored = {n for text in (*texts, *kept) for n in ledger.numbers_in(text or "")}
        rows = store.sql("SELECT configuration_id, item_id, trial, error_type FROM traces")
        settled = rows.filter(rows["error_type"].is_null())
        count = self.round.count
        count["replies"] += len(books.whole)
        count["paid again"] += books.again().total()
        count["not stored"] += books.not_in(stored).total()
        must_be_sound(self.store)
        if settled.height != settled.unique().height:
            raise Fault("an attempt is in the store twice")
        if self.budget is None and settled.height != 2 * self.n_items:
            raise Fault(f"{settled.height} of {2 * self.n_items} attempts are in the store")
        if unknown := stored - set(books.asked):
            raise Fault(f"replies that nobody gave: {sorted(unknown)}")
        for what, counted in (("lost", books.not_in(stored)), ("paid again", books.again())):
            for launch, n in counted.items():
                if n > self.in_memory[launch]:
                    raise Fault(f"{launch} had {n} replies {what}; killed: {dict(self.in_memory)}")
        if self.budget is not None and books.tokens > self.budget:
            raise Fault(f"{books.tokens} tokens of a budget of {self.budget}")


def collect(round_: Round) -> None:
    """One collector, killed four times; a segment of another store is dropped among its own."""
    with ledger.Server(round_.folder / "ledger.jsonl") as server:
        plan = Plan(round_, server, round_.folder, 60)
        for _ in range(4):
            name, process = plan.launch()
            plan.wait_for(round_.rng.randrange(1, 30), process)
            plan.kill(name, process)
        drop_foreign(round_, plan.store)
        plan.finish()
        plan.close_books()
    see_foreign_is_aside(plan.store)


def drop_foreign(round_: Round, path: Path) -> None:
    """Put a segment of another store into a spool."""
    folder = round_.folder / "other.spool"
    with spool.SpoolWriter(folder, "foreign-1", store_id="0" * 32) as writer:
        for record in traces(3, 7_000_000, "foreign-1"):
            writer.append(record)  # type: ignore[arg-type]  # they are records
    for segment in spool.segments(folder):
        shutil.copy(segment.path, spool.folder_of(path))


def see_foreign_is_aside(path: Path) -> None:
    """Nothing of the other store was taken in, and its file is kept."""
    store = open_store(path)
    if store.sql("SELECT count(*) AS n FROM runs WHERE run_id = 'foreign-1'")["n"][0]:
        raise Fault("a segment of another store was taken in")
    if not list((store.spool_dir / "foreign").glob("foreign-1-*")):
        raise Fault("a segment of another store was deleted")


def launches(round_: Round) -> None:
    """Launches of one plan at once, two or five, are killed and begun again while a clock jumps."""
    n, with_budget = round_.rng.choice([2, 2, 5]), round_.rng.random() < 0.5
    several(round_, n, n_items=80, n_replies=100 if with_budget else None)


def several(round_: Round, n: int, *, n_items: int, n_replies: int | None) -> None:
    """So many launches at once, with a budget for so many replies, and as many kills."""
    with ledger.Server(round_.folder / "ledger.jsonl") as server, jumping(round_) as clock:
        plan = Plan(round_, server, round_.folder, n_items)
        plan.budget = None if n_replies is None else n_replies * ledger.TOKENS
        open_store(plan.store, create=True)
        living = [plan.launch(**clock) for _ in range(n)]
        for _ in range(n):
            plan.wait_for(round_.rng.randrange(4, 24), *(process for _, process in living))
            place = round_.rng.randrange(n)
            plan.kill(*living[place])
            living[place] = plan.launch(**clock)
        for _, process in living:
            round_.end(process, may_fail=True)
        plan.finish()
        plan.close_books()


@contextlib.contextmanager
def jumping(round_: Round) -> Iterator[dict[str, str]]:
    """Give the environment of processes whose clock jumps by hours; {} without a compiler."""
    shim, offset, ended = round_.folder / "clock.so", round_.folder / "clock", threading.Event()
    offset.write_bytes(bytes(8))
    command = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(shim), "-ldl"]
    if (
        shutil.which("cc") is None
        or subprocess.run(
            command, input=CLOCK, text=True, check=False, capture_output=True
        ).returncode
    ):
        round_.count["without clock jumps"] += 1
        yield {}
        return
    chance = random.Random(round_.rng.random())

    def jump() -> None:
        with offset.open("rb+", buffering=0) as file:
            while not ended.wait(0.3):
                file.seek(0)
                file.write(chance.randint(-36_000, 36_000).to_bytes(8, sys.byteorder, signed=True))
                round_.count["clock jumps"] += 1

    thread = threading.Thread(target=jump)
    thread.start()
    try:
        yield {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(offset)}
    finally:
        ended.set()
        thread.join()


def full_disk(round_: Round) -> None:
    """The disk of a collector fills up and gets room, or the collector is killed meanwhile."""
    with ledger.Server(round_.folder / "ledger.jsonl") as server, small_disk(round_) as disk:
        plan = Plan(round_, server, disk, 60)
        open_store(plan.store, create=True)
        name, process = plan.launch()
        plan.wait_for(round_.rng.randrange(1, 30), process)
        ballast = disk / "ballast"
        fill(ballast)
        time.sleep(round_.rng.uniform(0.1, 1.0))
        if round_.rng.random() < 0.5:
            plan.kill(name, process)
            if name in plan.in_memory:  # an attempt of two calls goes on to its end in memory
                plan.in_memory[name] = 2 * CONCURRENCY
            round_.run("runs", "--store", plan.store, may_fail=True)
        ballast.unlink()
        round_.end(process, may_fail=True)
        round_.count["full disks"] += 1
        plan.finish()
        plan.close_books()


@contextlib.contextmanager
def small_disk(round_: Round) -> Iterator[Path]:
    """A file system of 24 MB of its own, where one may be mounted; else the round ends."""
    disk = round_.folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "campaign", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        round_.count["without a small disk"] += 1
        raise NotHere
    try:
        yield disk
    finally:
        round_.close()
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


class NotHere(Exception):
    """The machine does not let this be tried."""


def fill(ballast: Path) -> None:
    """Take all the room that there is."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65_536)
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")


# -- what is taken in, merged, written out and brought up ----------------------------------------


def again_until_equal(
    round_: Round, path: Path, command: Sequence[object], prepare: Callable[[Path], None], n: int
) -> None:
    """Kill a command n times, give it once more, and compare with one that nobody killed.

    Args:
        round_: the round.
        path: the store.
        command: what is killed; it works on the store.
        prepare: makes what the command begins with, in a folder.
        n: kills.
    """
    prepare(path.parent)
    seconds = took(round_, *command)
    wanted = content(path)
    clear(path.parent)
    prepare(path.parent)
    for _ in range(n):
        round_.kill_within(seconds, *command)
        round_.stderr.write_bytes(b"")
        if path.exists() and round_.rng.random() < 0.3:
            must_be_sound(path)
    round_.run(*command)
    must_be_sound(path)
    if wrong := differences(content(path), wanted):
        raise Fault(f"{', '.join(wrong)} differ from an undisturbed {command[0]}")
    leftovers(path)


def clear(folder: Path) -> None:
    """Empty a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def leftovers(path: Path) -> None:
    """See that what killed commands leave beside a store goes with a later one."""
    left = [p.name for p in path.parent.iterdir() if p.name.startswith((".staging-", ".export."))]
    if left:
        raise Fault(f"left for ever: {', '.join(left)}")


def ingest(round_: Round) -> None:
    """A spool of dead collectors is taken in."""
    folder = round_.folder / "stores"
    folder.mkdir()
    path = folder / "s.duckdb"

    def prepare(_: Path) -> None:
        store = open_store(path, create=True)
        for number in range(6):
            with spool.SpoolWriter(store.spool_dir, f"run-{number}", store_id=store.id) as writer:
                for record in traces(200, 1000 * number, f"run-{number}"):
                    writer.append(record)  # type: ignore[arg-type]  # they are records
        (torn,) = store.spool_dir.glob("run-3-*")
        torn.write_bytes(torn.read_bytes()[:-300])  # as a writer leaves it that is killed

    again_until_equal(round_, path, ("runs", "--store", path), prepare, 4)


def import_(round_: Round) -> None:
    """Tables are imported, a transaction each."""
    folder, tables = round_.folder / "stores", round_.folder / "tables"
    folder.mkdir()
    tables.mkdir()
    path, mapping = folder / "s.duckdb", round_.folder / "map.toml"
    columns = {n: n for n in ("item", "model", "task", "passed", "input_tokens", "output_tokens")}
    lines = [f'{name} = "{column}"' for name, column in columns.items()]
    mapping.write_text('kind = "traces"\n[columns]\n' + "\n".join(lines))
    for number in range(10):
        rows = [
            {"item": f"{number}-{i}", "model": f"m{i % 3}", "task": "t", "passed": i % 2 == 0}
            | {"input_tokens": i, "output_tokens": 2 * i}
            for i in range(400)
        ]
        (tables / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("import", tables, "--mapping", mapping, "--store", path)
    again_until_equal(round_, path, command, lambda folder: None, 4)


def merge(round_: Round) -> None:
    """Another store, or a folder that one was exported to, is merged."""
    folder = round_.folder / "stores"
    folder.mkdir()
    path, other = folder / "s.duckdb", round_.folder / "other.duckdb"
    store = open_store(other, create=True)
    store.ingest(traces(2500, 500, "run-2"))  # type: ignore[arg-type]  # they are records
    if round_.rng.random() < 0.5:
        other = round_.folder / "other"
        store.export(other)

    def prepare(_: Path) -> None:
        open_store(path, create=True).ingest(traces(300))  # type: ignore[arg-type]  # they are

    again_until_equal(round_, path, ("import", other, "--store", path), prepare, 4)


def migrate(round_: Round) -> None:
    """A store of the first layout is brought up."""
    folder, source = round_.folder / "stores", round_.folder / "source"
    folder.mkdir()
    source.mkdir()
    old, path = old_store(source), folder / "old.duckdb"

    def prepare(_: Path) -> None:
        shutil.copy(old, path)

    again_until_equal(round_, path, ("runs", "--store", path), prepare, 4)
    backup = folder / "old.duckdb.v1.backup"
    if not backup.is_file():
        raise Fault("there is no backup of the old layout")


def export(round_: Round) -> None:
    """A store is exported, once over an earlier export."""
    path, folder = round_.folder / "s.duckdb", round_.folder / "export"
    store = open_store(path, create=True)
    store.ingest(traces(1500))  # type: ignore[arg-type]  # they are records
    command = ("export", "all", "--folder", folder, "--store", path)
    seconds = took(round_, *command)
    wanted = {name: part.sha256 for name, part in exports.verify(folder).tables.items()}
    for number in range(4):
        if number == 2:
            shutil.rmtree(folder, ignore_errors=True)
        had_one = folder.exists()
        round_.kill_within(seconds, *command)
        if folder.exists():
            exports.verify(folder)
        elif had_one:
            raise Fault("an earlier export is gone, and the new one is not there")
    round_.run(*command)
    found = {name: part.sha256 for name, part in exports.verify(folder).tables.items()}
    if found != wanted:
        raise Fault("the export is another than an undisturbed one")
    if left := [p.name for p in folder.parent.iterdir() if p.name.startswith(".export.")]:
        raise Fault(f"left for ever: {', '.join(left)}")


def app(round_: Round) -> None:
    """The app, in a terminal, takes in what a collector has left, and is killed."""
    folder = round_.folder / "stores"
    folder.mkdir()
    path = folder / "s.duckdb"
    store = open_store(path, create=True)
    store.ingest(traces(300))  # type: ignore[arg-type]  # they are records
    for number in range(4):
        with spool.SpoolWriter(store.spool_dir, f"late-{number}", store_id=store.id) as writer:
            for record in traces(100, 10_000 + 1000 * number, f"late-{number}"):
                writer.append(record)  # type: ignore[arg-type]  # they are records
        play_app(round_, path)
    must_be_sound(path)
    n = open_store(path).count()
    if n != 700:
        raise Fault(f"{n} of 700 traces are in the store")


def play_app(round_: Round, path: Path) -> None:
    """Open the app, press keys, and kill it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "tui", str(path)],
        cwd=ROOT,
        env=round_._environ(TERM="xterm-256color", COLUMNS="120", LINES="40"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    reader = threading.Thread(target=_drain, args=(master,))
    reader.start()
    end = time.monotonic() + round_.rng.uniform(0.5, 4.0)
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            os.write(master, round_.rng.choice([b"j", b"k", b"\r", b"n", b"\x1b", b"2", b"3"]))
        time.sleep(0.05)
    try:
        round_.kill(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(10)
        os.close(master)


def _drain(master: int) -> None:
    """Read what the app draws, so that it never waits for its terminal."""
    with contextlib.suppress(OSError):
        while os.read(master, 65_536):
            pass


# -- damage --------------------------------------------------------------------------------------


def hurt(round_: Round, path: Path) -> str:
    """Flip a bit of a file, or cut it; says what was done."""
    data = bytearray(path.read_bytes())
    at = round_.rng.randrange(len(data))
    if round_.rng.random() < 0.3:
        path.write_bytes(data[:at])
        return f"{path.name} was cut at {at:,} of {len(data):,}"
    data[at] ^= 1 << round_.rng.randrange(8)
    path.write_bytes(data)
    return f"{path.name} had a bit flipped at {at:,} of {len(data):,}"


def damage(round_: Round) -> None:
    """Bits flip, and files are cut: doctor says so, or what is read is as it was."""
    for deal in (hurt_store, hurt_export, hurt_segment, hurt_journal):
        folder = round_.folder / deal.__name__
        folder.mkdir()
        for _ in range(5):
            round_.count["damages"] += 1
            deal(round_, folder)
            clear(folder)


def hurt_store(round_: Round, folder: Path) -> None:
    """A store: doctor finds it, or every table reads equal."""
    path = folder / "s.duckdb"
    open_store(path, create=True).ingest(traces(300))  # type: ignore[arg-type]  # they are records
    wanted = content(path)
    done = hurt(round_, path)
    if not says_damage(path) and (wrong := differences(content(path), wanted)):
        raise Fault(f"doctor says ok; {done}; other rows in {', '.join(wrong)}")


def hurt_export(round_: Round, folder: Path) -> None:
    """An export: it is refused, or nothing of the damage arrives."""
    store = open_store(folder / "s.duckdb", create=True)
    store.ingest(traces(100))  # type: ignore[arg-type]  # they are records
    store.export(folder / "export")
    done = hurt(round_, round_.rng.choice(sorted((folder / "export").iterdir())))
    other = open_store(folder / "t.duckdb", create=True)
    with contextlib.suppress(WorkbenchError):
        other.merge(folder / "export")
        if wrong := differences(content(other.path), content(store.path)):
            raise Fault(f"a damaged export was taken; {done}; other rows in {', '.join(wrong)}")


def hurt_segment(round_: Round, folder: Path) -> None:
    """A segment of the spool: doctor says that lines are damaged or torn, or a run did not end."""
    store = open_store(folder / "s.duckdb", create=True)
    with spool.SpoolWriter(store.spool_dir, "run-9", store_id=store.id) as writer:
        for record in traces(20, 0, "run-9"):
            writer.append(record)  # type: ignore[arg-type]  # they are records
        ended = making.START + dt.timedelta(seconds=9)
        writer.append(
            Run(run_id="run-9", kind="collect", source="test", status="done", ended_at=ended)
        )
    (segment,) = spool.segments(store.spool_dir)
    whole = folder / "whole.duckdb"
    open_store(whole, create=True).merge(store.spool_dir)
    wanted = content(whole)
    done = hurt(round_, segment.path)
    try:
        found = checks.checks(open_store(store.path))
    except WorkbenchError:
        return
    told = [c for c in found if c.n and ("spool lines" in c.name or "runs that ended" in c.name)]
    if not told and (wrong := differences(content(store.path), wanted)):
        waiting = list(store.spool_dir.rglob("run-9*"))
        raise Fault(f"doctor says nothing; {done}; other rows in {', '.join(wrong)}; {waiting}")


def hurt_journal(round_: Round, folder: Path) -> None:
    """The replies of an unfinished attempt: doctor says it, or all of them are read."""
    store = open_store(folder / "s.duckdb", create=True)
    spool.SpoolWriter(store.spool_dir, "run-9", store_id=store.id).close()
    attempt = journal.Journal(store.spool_dir, "run-9").open(("c", "i", 0), "t")
    for number in range(4):
        asyncio.run(attempt.keep(f"{number}", Reply(call=Call(output_tokens=number))))
    attempt.close()
    (file,) = journal.files(store.spool_dir)
    before = journal.read(file)
    done = hurt(round_, file)
    found = [c for c in checks.checks(open_store(store.path)) if c.n and c.is_damage]
    after = journal.read(file)
    is_shorter = after == before[: len(after)] and "cut" in done
    if not found and after != before and not is_shorter:
        raise Fault(f"doctor says nothing of lost replies; {done}")


# -- the campaign --------------------------------------------------------------------------------

ORDEALS: tuple[Ordeal, ...] = (
    Ordeal("collect", collect),
    Ordeal("launches", launches),
    Ordeal("ingest", ingest),
    Ordeal("import", import_),
    Ordeal("merge", merge),
    Ordeal("export", export),
    Ordeal("migrate", migrate),
    Ordeal("app", app),
    Ordeal("full disk", full_disk),
    Ordeal("damage", damage),
)


def campaign(
    seed: int, kills: int, minutes: float, only: Iterable[str], keep: Path | None = None
) -> int:
    """Play rounds until there were so many kills, or the time is over; returns how many faults."""
    chosen = [o for o in ORDEALS if o.name in set(only)] or list(ORDEALS)
    figures = {ordeal.name: Counter[str]() for ordeal in chosen}
    faults: list[str] = []
    began, number = time.monotonic(), 0
    while sum(count["kills"] for count in figures.values()) < kills:
        if time.monotonic() - began > 60 * minutes:
            break
        ordeal = chosen[number % len(chosen)]
        told = play(ordeal, f"{seed}-{number}", figures[ordeal.name], keep)
        if told is not None:
            faults.append(f"{ordeal.name}, round {seed}-{number}: {told}")
            print(f"FAULT {faults[-1]}", flush=True)
        number += 1
        if all(ordeal.name == "damage" for ordeal in chosen) and number >= kills:
            break
    print(table(figures, time.monotonic() - began))
    return len(faults)


def play(ordeal: Ordeal, seed: str, count: Counter[str], keep: Path | None) -> str | None:
    """Play one round; returns its fault."""
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as folder:
        round_ = Round(Path(folder), seed)
        try:
            ordeal.play(round_)
        except NotHere:
            return None
        except (Fault, WorkbenchError, OSError) as fault:
            round_.count["faults"] += 1
            if keep is not None:
                round_.close()
                shutil.copytree(folder, keep / seed, ignore_dangling_symlinks=True)
            return f"{type(fault).__name__}: {fault}"
        finally:
            round_.close()
            round_.count["rounds"] += 1
            count.update(round_.count)
    return None


def table(figures: dict[str, Counter[str]], seconds: float) -> str:
    """The figures, a line an ordeal."""
    names = ["rounds", "kills", "replies", "not stored", "paid again", "damages", "faults"]
    more = sorted({n for count in figures.values() for n in count} - set(names))
    names += more
    lines = [" | ".join(["ordeal".ljust(10), *names])]
    for ordeal, count in figures.items():
        cells = [f"{count[n]:,}".rjust(len(n)) if n in count else "—".rjust(len(n)) for n in names]
        lines.append(" | ".join([ordeal.ljust(10), *cells]))
    total = Counter[str]()
    for count in figures.values():
        total.update(count)
    cells = [f"{total[name]:,}".rjust(len(name)) for name in names]
    lines.append(" | ".join(["together".ljust(10), *cells]))
    return "\n".join([*lines, f"in {seconds:,.0f} s"])


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", nargs="*", default=(), choices=[o.name for o in ORDEALS])
    parser.add_argument("--keep", type=Path, help="a folder for what a round with a fault left")
    o = parser.parse_args()
    return 1 if campaign(o.seed, o.kills, o.minutes, o.only, o.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
