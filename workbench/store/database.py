"""Access to the database file: readers open it read-only per query, the writer takes a lease.

DuckDB lets one process write, and then no other may read. So no process keeps the file open: every
use opens it, and waits while another process has it. Within a process, many read or one writes.
Across processes a writer closes a turnstile, an advisory lock beside the store: readers that are
inside finish, new ones wait, so that many short readers cannot starve a writer.

Processes that use the turnstile release the file soon: they are waited for. Any other program that
has it open, a DuckDB shell or a connection of the notebook, may keep it for hours: after
`STRANGER_S`, `StoreLocked` names it.
"""

import atexit
import contextlib
import dataclasses
import datetime as dt
import functools
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from duckdb.sqltypes import DuckDBPyType

from workbench import private, spool
from workbench.errors import (
    QueryCancelled,
    QueryError,
    StoreError,
    StoreLocked,
    StoreMissing,
)
from workbench.slice.joining import identifier
from workbench.store import causes, memory

try:
    import fcntl
except ImportError:  # not a POSIX system: writers do without the turnstile
    fcntl = None  # type: ignore[assignment]  # the one platform switch of this module

WAIT_S = 30.0  # for processes that use the turnstile
STRANGER_S = 1.2  # for other programs: named within 2 s, the start of a command included
_NOTICE_AFTER_S = 1.0  # of waiting, before the log and `Cancel.waiting_for` name the process
# A process may release the file before it is looked up. After so many failures in a row without a
# process that has the file, the cause is no lock.
_UNSEEN = 20
_UNKNOWN = "another process"
TIME_LIMIT_S = 600.0
"""How long a query of the user may run, unless something else is asked for."""
_LOG = logging.getLogger(__name__)
_FETCHED_ROWS = 100_000  # at a time
# types that Polars has not, or reads as other values
_WITHOUT_POLARS = frozenset(
    ["interval", "union", "bignum", "bit", "geometry", "variant", "uhugeint", "time with time zone"]
)
_NESTED = frozenset(("list", "array", "struct", "map", "tuple"))
_DAY_TICKS = {"ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_EPOCH = dt.date(1970, 1, 1)
_FIRST_DAY = (dt.date.min - _EPOCH).days
_LAST_DAY = (dt.date.max - _EPOCH).days + 1
_INSIST_S = 0.02  # between interrupts of a query that was cancelled
_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
_BESIDE = ("", ".wal", ".wal.checkpoint", ".wal.recovery")  # the files of one database
_STORE = "store"  # the name under which an instance has the file
STORAGE = "v1.5.0"
"""Storage version of new stores: the newest that every DuckDB of pyproject's range can open."""
# neither can be turned on again where it was turned off, or not by a SELECT
_CONFINED = ("enable_external_access = false", "python_enable_replacements = false")
# another instance of this process has the file
_CONFLICT = (getattr(duckdb, "ResourceInUseException", duckdb.BinderException),)  # before DuckDB 2
# in a session without a script file DuckDB would write a bar to stdout, between rows of a result
_SILENT = {"enable_progress_bar": "false"}
_OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
# DuckDB's own limit is four fifths of the memory, and it fills it with the blocks of a large file;
# what a query gives is held by Polars beside that. At half, blocks are let go earlier; what a query
# makes on its way is spilled from 1 GB on where it can be, which is no hard limit: nothing fails
# for it. Before 2.0 processes that spill at once overwrite each other's files: there the limit
# stays as it was.
_MEMORY = {"memory_limit": "50%"} if int(duckdb.__version__.partition(".")[0]) >= 2 else {}


@dataclasses.dataclass(frozen=True, slots=True)
class Permissions:
    """Permissions of a connection: what its SQL can use besides the store.

    Neither stores nor queries are trusted: by default SQL can use no other file, no network and no
    Python object.

    Attributes:
        folders: folders in which files may be read and written.
        files: databases that may be read and written, with their write-ahead logs.
        attached: the name and the path of another store that is attached for reading.
        all_files: every file that this user may read or write; only at the user's request.
        locked: no setting can be changed; for queries of others.
    """

    folders: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    attached: tuple[str, Path] | None = None
    all_files: bool = False
    locked: bool = False


STORE_ONLY = Permissions()


class Cancel:
    """A handle with which another thread stops a query, and reads which process it waits for.

    DuckDB forgets an interrupt that arrives before a query executes, as while it is bound. So it is
    repeated until the block that `watching` opened is left.

    Attributes:
        cancelled: whether the query is to stop.
        waiting_for: the process that has the file, while the query waits for it; "" otherwise.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._left = threading.Event()
        self.cancelled = False
        self.waiting_for = ""

    def cancel(self) -> None:
        """Stop the query that runs, or the next one to start."""
        with self._lock:
            was_cancelled = self.cancelled
            self.cancelled = True
            if self._connection is not None and not was_cancelled:
                threading.Thread(target=self._insist, daemon=True).start()

    @contextlib.contextmanager
    def after(self, limit_s: float | None) -> Iterator[None]:
        """Cancel what runs longer than a limit, for the length of the block."""
        if limit_s is None:
            yield
            return
        over = threading.Event()

        def stop() -> None:
            over.set()
            self.cancel()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        except QueryCancelled as error:
            if over.is_set():
                raise QueryCancelled(
                    f"the query ran longer than the {limit_s:g} s that it may; narrow it, or allow"
                    " more: --time-limit-s of workbench sql, time_limit_s of store.sql"
                ) from error
            raise
        finally:
            timer.cancel()

    def _insist(self) -> None:
        while True:
            with self._lock:
                if self._connection is None:
                    return
                self._connection.interrupt()
            self._left.wait(_INSIST_S)

    @contextlib.contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Let `cancel` reach the connection for the length of the block."""
        with self._lock:
            if self.cancelled:
                raise QueryCancelled("the query was cancelled before it began")
            self._connection = connection
            self._left.clear()
        try:
            yield
        finally:
            with self._lock:
                self._connection = None
            self._left.set()


class _Gate:
    """Many readers or one writer among the threads of this process; a waiting writer goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @contextlib.contextmanager
    def read(self, cancel: Cancel | None = None) -> Iterator[None]:
        wait = _Wait(cancel)
        with self._condition:
            while (self._writing or self._waiting) and not wait.over(WAIT_S):
                self._condition.wait(_PAUSES_S[-1])
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        with self._condition:
            self._waiting += 1
            try:
                free = self._condition.wait_for(
                    lambda: not self._writing and not self._readers, WAIT_S
                )
            finally:
                self._waiting -= 1
                self._condition.notify_all()
            if not free:
                raise StoreLocked("this process still reads the store; close the long query first")
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()


_gates: dict[Path, _Gate] = {}
_gates_lock = threading.Lock()


def _gate(path: Path) -> _Gate:
    with _gates_lock:
        return _gates.setdefault(path, _Gate())


class _Wait:
    """One wait for a file: its duration, the process that has the file, and its cancellation."""

    def __init__(self, cancel: Cancel | None) -> None:
        self._cancel = cancel
        self._began = time.monotonic()
        self._is_logged = False

    def over(self, limit_s: float) -> bool:
        """Whether the wait is longer than a limit; QueryCancelled where it was called off."""
        if self._cancel is not None and self._cancel.cancelled:
            raise QueryCancelled("the query was cancelled while it waited for the store")
        return time.monotonic() - self._began > limit_s

    def name(self, path: Path, holder: str, *, aloud: bool) -> None:
        """Report the process that has the file, once the wait is long enough to be noticed."""
        if not self.over(_NOTICE_AFTER_S):
            return
        if self._cancel is not None:
            self._cancel.waiting_for = holder
        if aloud and not self._is_logged:
            self._is_logged = True
            _LOG.warning("waiting for %s, which has %s open", holder, path)

    def end(self) -> None:
        """Clear `Cancel.waiting_for`."""
        if self._cancel is not None:
            self._cancel.waiting_for = ""


def _beside(path: Path, name: str, flags: int) -> int:
    """Open a lock file in the folder of the spool; a pipe of that name is not waited for."""
    return os.open(spool.folder_of(path) / name, flags | getattr(os, "O_NONBLOCK", 0), 0o600)


@contextlib.contextmanager
def _turnstile(
    path: Path, *, closing: bool, cancel: Cancel | None = None, store_id: str | None = None
) -> Iterator[None]:
    """Pass the turnstile of a store, or close it for the length of the block.

    It only sets the order of processes; DuckDB's own lock gives access. Without a spool folder to
    keep it in, or without write permission there, or where it stays closed longer than `WAIT_S`,
    the block runs without it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                flags = os.O_RDWR | os.O_CREAT if closing else os.O_RDONLY
                if closing:
                    spool.folder_of(path).mkdir(mode=0o700, exist_ok=True)
                    os.close(_beside(path, ".readers", os.O_RDONLY | os.O_CREAT))
                file = _beside(path, ".turnstile", flags)
                stack.callback(os.close, file)
                entered = _flock(file, fcntl.LOCK_EX if closing else fcntl.LOCK_SH, path, cancel)
                if entered and closing:  # the name of this process, for those that wait
                    stack.callback(os.ftruncate, file, 0)
                    os.pwrite(file, f"{os.getpid()} {store_id or ''}".strip().encode(), 0)
        yield


def _holder(note: bytes, path: Path) -> str:
    """Name the writer that closed a turnstile: its process, and its store where that is another."""
    process, _, store_id = note.decode("ascii", "replace").partition(" ")
    if not process.isdecimal():
        return "another workbench"
    owner = spool.owner(spool.folder_of(path))
    is_foreign = bool(store_id) and owner not in {None, store_id}
    other = f", which writes to another store (id {store_id[:8]})" if is_foreign else ""
    return f"workbench, process {process}{other}"


def _flock(file: int, kind: int, path: Path, cancel: Cancel | None) -> bool:
    """Lock a file; False where another process keeps it locked longer than `WAIT_S`."""
    wait = _Wait(cancel)
    try:
        for pause in _pauses():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                return True
            if wait.over(WAIT_S):
                break
            wait.name(path, _holder(os.pread(file, 100, 0), path), aloud=True)
            time.sleep(pause)
    finally:
        wait.end()
    return False


@contextlib.contextmanager
def _inside(path: Path) -> Iterator[None]:
    """Register as a reader for the length of the block, where a writer made the folder for it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                file = _beside(path, ".readers", os.O_RDONLY)
                stack.callback(os.close, file)
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def _are_inside(path: Path) -> bool:
    """Return whether readers that use the turnstile have the file; for a writer."""
    if os.name != "posix":  # unknown; assume so, and wait `WAIT_S`
        return True
    with contextlib.suppress(OSError):
        file = _beside(path, ".readers", os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False


@contextlib.contextmanager
def reading(
    path: Path, cancel: Cancel | None = None, *, permissions: Permissions = STORE_ONLY
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the file read-only for the length of the block, waiting for a writer to finish.

    Args:
        path: the store's file.
        cancel: stops the wait, or the query.
        permissions: what the queries can use besides the store.

    Raises:
        StoreMissing, StoreLocked, StoreVersionError: when opening.
        QueryError, QueryCancelled: from what is run inside the block.
    """
    with _gate(path).read(cancel), contextlib.ExitStack() as stack:
        with _turnstile(path, closing=False, cancel=cancel):
            connection, shared = _connect(
                path, read_only=True, cancel=cancel, permissions=permissions
            )
            stack.callback(_close, path, connection, shared=shared)
            stack.enter_context(_inside(path))
        with (cancel or Cancel()).watching(connection), translated(path):
            yield connection


@contextlib.contextmanager
def lease(
    path: Path,
    *,
    store_id: str | None = None,
    create: bool = False,
    permissions: Permissions = STORE_ONLY,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the file for writing, in one transaction that commits at the end of the block.

    Args:
        path: the file.
        store_id: the store that is meant; None takes any.
        create: make the file where there is none.
        permissions: what SQL can use besides the store.

    Raises:
        StoreMissing: the file is gone.
        StoreError: another store is in its place.
    """
    if "?" in str(path):
        raise StoreError(
            f"{path} has a question mark in its path, and DuckDB would put the file of changes"
            " elsewhere; name another file or folder with --store"
        )
    if not create:
        _must_exist(path)
    with (
        _gate(path).write(),
        _turnstile(path, closing=True, store_id=store_id),
        private.only_owner(),
        _whole_or_gone(path) if create else contextlib.nullcontext(),
    ):
        if not create:
            _must_exist(path)
        connection, shared = _connect(path, read_only=False, permissions=permissions)
        try:
            with translated(path, writing=True):
                connection.execute("BEGIN")
                try:
                    _must_be(connection, path, store_id)
                    yield connection
                except BaseException:
                    with contextlib.suppress(duckdb.Error):
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        finally:
            _close(path, connection, shared=shared)


@contextlib.contextmanager
def _whole_or_gone(path: Path) -> Iterator[None]:
    """Take a new file away again where making the store fails, as on a full disk.

    An empty file holds nothing, and is one that was begun before; DuckDB would refuse it.
    """
    if causes.is_empty(path):
        path.unlink()
    if path.exists():
        yield
        return
    try:
        yield
    except BaseException:
        for suffix in _BESIDE:
            with contextlib.suppress(OSError):
                path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
        raise


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise StoreMissing(
            f"there is no store at {path} any more: it was moved or deleted meanwhile, nothing was"
            " written; put it back, or open it where it is now"
        )


def _must_be(connection: duckdb.DuckDBPyConnection, path: Path, store_id: str | None) -> None:
    if store_id is not None and identity(connection) != store_id:
        raise StoreError(
            f"{path} is not the store that was opened: it was replaced by another one meanwhile;"
            " nothing was written. Open it again, or put the first one back"
        )


def identity(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Read the id of the store that a connection is to; None where it has none yet."""
    # asked for first: a name that the database lacks is looked up among the variables of Python
    known = connection.execute(
        "SELECT 1 FROM duckdb_tables() "
        "WHERE table_name = 'identity' AND database_name = current_database()"
    ).fetchall()
    rows = connection.execute("SELECT store_id FROM identity").fetchall() if known else []
    return str(rows[0][0]) if rows else None


def _connect(
    path: Path, *, read_only: bool, permissions: Permissions, cancel: Cancel | None = None
) -> tuple[duckdb.DuckDBPyConnection, bool]:
    if read_only and not path.exists():
        raise StoreMissing(
            f"there is no store at {path}; make one with: workbench import PATH --store {path}"
        )
    wait = stranger = _Wait(cancel)
    unseen = 0  # failures in a row in which no process was seen that has the file
    try:
        for pause in _pauses():
            try:
                return _opened(path, read_only=read_only, permissions=permissions)
            except (duckdb.IOException, *_CONFLICT) as error:
                holder = _held_by(path, error)
                unseen = 0 if holder else unseen + 1
                if not holder and (fault := _fault(path, error, unseen, read_only=read_only)):
                    raise fault from error
                # Writers that take turns have closed the turnstile, so that only a stranger keeps a
                # reader out.
                turns = not read_only and _are_inside(path)
                if turns:  # another program has its own limit, once these readers are gone
                    stranger = _Wait(cancel)
                if wait.over(WAIT_S) or (not turns and stranger.over(STRANGER_S)):
                    if holder is None:  # a slow machine counts fewer failures than it waits seconds
                        raise causes.opening_failed(path, error) from error
                    raise StoreLocked(_refused(path, holder, error, read_only=read_only)) from error
                wait.name(path, holder or _UNKNOWN, aloud=turns)
            except duckdb.Error as error:
                raise causes.opening_failed(path, error) from error
            time.sleep(pause)
    finally:
        wait.end()
    raise AssertionError("unreachable")


_open: dict[Path, int] = {}  # connections of ours, by file
_shared: dict[Path, duckdb.DuckDBPyConnection] = {}  # instances of readers
_users: dict[Path, int] = {}  # number of connections that use each
_opening = threading.Lock()


def _opened(
    path: Path, *, read_only: bool, permissions: Permissions
) -> tuple[duckdb.DuckDBPyConnection, bool]:
    """Open the file in an instance that has nothing but it; whether the instance is shared.

    An instance of its own keeps our settings from other connections of the process, and theirs from
    ours. Readers of one file without permissions share one, as its blocks are read once
    then.
    """
    shared = read_only and permissions == STORE_ONLY
    with _opening:
        if not shared:
            connection = _instance(path, read_only=read_only, permissions=permissions)
        else:
            if path not in _shared:
                _shared[path] = _instance(path, read_only=True, permissions=permissions)
            connection = _shared[path].cursor()
            _enter(connection)
            _users[path] = _users.get(path, 0) + 1
        _open[path] = _open.get(path, 0) + 1
    return connection, shared


def _instance(
    path: Path, *, read_only: bool, permissions: Permissions
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"temp_directory": _spill_folder(path)})
    try:
        for name, value in {**_SILENT, **_OFFLINE, **_MEMORY}.items():
            connection.execute(f"SET {name} = $value", {"value": value})
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        if not read_only and not path.exists():
            mode += f", STORAGE_VERSION '{STORAGE}'"
        connection.execute(f"ATTACH {_text(path)} AS {_STORE} (TYPE duckdb, {mode})")
        _enter(connection)
        if not permissions.all_files:
            _confine(connection, permissions)
        if permissions.attached is not None:
            name, other = permissions.attached
            connection.execute(f"ATTACH {_text(other)} AS {name} (TYPE duckdb, READ_ONLY)")
        if permissions.locked:
            connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def is_open(path: Path) -> bool:
    """Return whether this process has a connection of ours to a file."""
    with _opening:
        return path in _open


def _confine(connection: duckdb.DuckDBPyConnection, permissions: Permissions) -> None:
    """Shut a connection in for good: what is turned off here cannot be turned on again."""
    folders = [str(folder.absolute()) for folder in permissions.folders]
    folders += [re.sub(r"[*?[]", r"[\g<0>]", folder) for folder in folders]  # as a pattern
    databases = [*permissions.files, *([permissions.attached[1]] if permissions.attached else [])]
    files = [f"{file}{suffix}" for file in databases for suffix in _BESIDE]
    if folders:
        connection.execute("SET allowed_directories = $folders", {"folders": folders})
    if files:
        connection.execute("SET allowed_paths = $files", {"files": files})
    for setting in _CONFINED:
        connection.execute(f"SET {setting}")


def _enter(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"USE {_STORE}")
    if _MEMORY:
        connection.execute("SET operator_memory_limit = '1GB'")


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _close(path: Path, connection: duckdb.DuckDBPyConnection, *, shared: bool) -> None:
    """Close a connection, and its instance where no other connection uses it."""
    with _opening:
        _decrement(_open, path)
        connection.close()
        if shared and not _decrement(_users, path):
            _shared.pop(path).close()


def _decrement(counts: dict[Path, int], path: Path) -> int:
    """Decrement a count; returns the new count."""
    n_left = counts.pop(path) - 1
    if n_left:
        counts[path] = n_left
    return n_left


def _spill_folder(path: Path) -> str:
    """Return the folder for queries that outgrow their memory; other users cannot enter it.

    DuckDB makes the files with the mask of the process, so that the folder above has to hide them.
    """
    beside = spool.folder_of(path)
    if beside.is_dir() and os.access(beside, os.W_OK):
        return str(beside / "spilled")
    return _scratch()


@functools.cache
def _scratch() -> str:
    """Make a folder of this process, for queries of a store whose folder cannot be written."""
    folder = tempfile.mkdtemp(prefix="workbench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _pauses() -> Iterator[float]:
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


def _held_by(path: Path, error: duckdb.Error) -> str | None:
    """Name the process that has the file; None where none is seen (it may just have closed it)."""
    if isinstance(error, _CONFLICT):
        return "another DuckDB connection of this process"
    with _opening:  # so that no connection of ours comes and loses its lock to the look
        return None if path in _open else causes.holder(path)


def _fault(path: Path, error: duckdb.Error, unseen: int, *, read_only: bool) -> StoreError | None:
    """Return what other than a lock prevents opening the file; None while a lock is possible."""
    with _opening:
        known = None if path in _open else causes.unopenable(path, read_only=read_only)
    if known is None and unseen >= _UNSEEN:
        return causes.opening_failed(path, error)
    return known


def _refused(path: Path, holder: str | None, error: duckdb.Error, *, read_only: bool) -> str:
    """Write which process has the file, how it has it open where known, and what to do."""
    where = f"{path} is held by {holder or _UNKNOWN}"
    if isinstance(error, _CONFLICT):
        mine = "read-only" if read_only else "for writing"
        return (
            f"{where}, which has it open in another way than {mine}; "
            "close it (con.close(), or %sql --close) and try again, "
            "or open it with duckdb.connect(path, read_only=True) and no config to only read"
        )
    how = ", which has it open for writing" if read_only else ", which has it open"
    return f"{where}{how}; close it there and try again"


# a PIVOT is several statements to the engine, which names what it finds by a temporary type
_READS = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,
}


def select(
    connection: duckdb.DuckDBPyConnection, query: str, params: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyRelation:
    """Prepare one statement that reads.

    Raises:
        QueryError: it is another kind of statement, or more than one.
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in _READS:
        raise QueryError(
            "the store is read-only here: give one statement that reads, "
            "with SELECT, FROM, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
        )
    relation = connection.sql(query, params=dict(params) if params else None)
    if relation is None:
        raise QueryError("the statement returns no rows; ask with SELECT, FROM, DESCRIBE or SHOW")
    return relation


def fetch(relation: duckdb.DuckDBPyRelation, most_bytes: int | None = None) -> pl.DataFrame:
    """Fetch a result in pieces: the engine's memory limit does not count the rows already fetched.

    Values of types that Polars lacks (intervals, unions, bit strings …) come as text.

    Args:
        relation: what to fetch.
        most_bytes: how large it may be; None for a quarter of this machine's memory.

    Raises:
        QueryError: it is larger, has two columns of one name, or holds a time outside the years 1
            to 9999.
    """
    import pyarrow as pa

    columns = relation.columns
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise QueryError(f"two columns of the result are named {twice!r}; rename one with AS")

    most = most_bytes or memory.total_bytes() // 4
    reader = _representable(relation).to_arrow_reader(_FETCHED_ROWS)
    batches = []
    size = 0
    for batch in reader:
        size += batch.nbytes
        if size > most:
            raise QueryError(
                f"the result is larger than the {most / 1e9:.3g} GB that it may have; "
                "ask for fewer rows or columns, or for sums"
            )
        batches.append(batch)
    frame = pl.from_arrow(pa.Table.from_batches(batches, reader.schema))
    assert isinstance(frame, pl.DataFrame)
    for column in frame:
        if not _in_calendar(column):
            raise QueryError(
                f"column {column.name!r} holds a time outside the years 1 to 9999; "
                f"cast it to text in the query: {identifier(column.name)}::VARCHAR"
            )
    return frame


def _representable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Cast the columns whose type Polars cannot take, or takes as another value, to text."""
    foreign = [_holds(kind, _WITHOUT_POLARS) for kind in relation.types]
    if not any(foreign):
        return relation
    columns = (  # by position: two columns may have one name
        f"#{place}::VARCHAR AS {identifier(name)}" if cast else f"#{place} AS {identifier(name)}"
        for place, (name, cast) in enumerate(zip(relation.columns, foreign, strict=True), start=1)
    )
    return relation.project(", ".join(columns))


def _holds(kind: DuckDBPyType, ids: frozenset[str]) -> bool:
    """Return whether a type, or one that it is made of, is one of these."""
    if kind.id in ids:
        return True
    if kind.id not in _NESTED:
        return False
    return any(isinstance(part, type(kind)) and _holds(part, ids) for _, part in kind.children)


def _in_calendar(column: pl.Series) -> bool:
    """Return whether Python's calendar has every time of a column; it ends with the year 9999."""
    kind = column.dtype
    if isinstance(kind, pl.Date | pl.Datetime):
        day = _DAY_TICKS[kind.time_unit] if isinstance(kind, pl.Datetime) else 1
        physical = column.to_physical().drop_nulls()
        return physical.is_between(_FIRST_DAY * day, _LAST_DAY * day, closed="left").all()
    if isinstance(kind, pl.List | pl.Array):
        return _in_calendar(column.explode()) if column.len() else True
    if isinstance(kind, pl.Struct):
        return all(map(_in_calendar, column.struct.unnest()))
    return True


@contextlib.contextmanager
def translated(path: Path | None = None, *, writing: bool = False) -> Iterator[None]:
    """Turn the engine's errors into ours at the rim.

    Args:
        path: the store that is read or written; None where there is none.
        writing: whether it is being written.
    """
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryCancelled("the query was cancelled") from error
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            f"the query needs more memory than it may have: {causes.first_line(error)}; "
            "narrow the slice, or group by fewer columns"
        ) from error
    except duckdb.PermissionException as error:
        fault = None if path is None else causes.use_failed(path, error, writing=writing)
        raise fault or QueryError(
            f"{causes.first_line(error)}. If you trust the query, let it use your files: "
            "workbench sql --allow-files, or wb.open(…, allow_files=True)"
        ) from error
    except duckdb.Error as error:
        fault = None if path is None else causes.use_failed(path, error, writing=writing)
        raise fault or QueryError(str(error)) from error
