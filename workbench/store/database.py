"""Who has the file: readers open it read-only per query, the writer takes a short lease.

DuckDB lets one process write, and then no other may read. So nobody keeps the file: every use opens
it, and waits politely where another process has it. Within a process, many read or one writes. Across
processes a writer closes a turnstile, an advisory lock beside the store: readers that are inside finish,
new ones wait, so that many short readers cannot starve a writer.
"""

import atexit
import contextlib
import functools
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from workbench.errors import (
    QueryCancelled,
    QueryError,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreVersionError,
)

try:
    import fcntl
except ImportError:  # not a POSIX system: writers do without the turnstile
    fcntl = None  # type: ignore[assignment]  # the one platform switch of this module

WAIT_S = 30.0
_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
_OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
# DuckDB's own limit is four fifths of the memory, and it fills it with the blocks of a large file; what a
# query gives is held by Polars beside that. At half, blocks are let go earlier; what a query makes on
# its way is spilled from 1 GB on where it can be, which is no hard limit: nothing fails for it.
# Before 2.0 processes that spill at once overwrite each other's files: there the limit stays as it was.
_MEMORY = {"memory_limit": "50%"} if int(duckdb.__version__.partition(".")[0]) >= 2 else {}


class Cancel:
    """A handle with which another thread stops a query."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop the query that runs, or the next one to start."""
        with self._lock:
            self.cancelled = True
            if self._connection is not None:
                self._connection.interrupt()

    @contextlib.contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Let `cancel` reach the connection for the length of the block."""
        with self._lock:
            if self.cancelled:
                raise QueryCancelled("the query was cancelled before it began")
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None


class _Gate:
    """Many readers or one writer among the threads of this process; a waiting writer goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writing and not self._waiting, WAIT_S)
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


@contextlib.contextmanager
def _turnstile(path: Path, *, closing: bool) -> Iterator[None]:
    """Pass the turnstile of a store, or close it for the length of the block.

    It only orders who goes first; DuckDB's own lock decides who may. Where there is no spool folder
    to keep it in, or no right to write there, or it stays closed for too long, it is passed by.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                flags = os.O_RDWR | os.O_CREAT if closing else os.O_RDONLY
                if closing:
                    path.with_suffix(".spool").mkdir(exist_ok=True)
                file = os.open(path.with_suffix(".spool") / ".turnstile", flags, 0o600)
                stack.callback(os.close, file)
                _flock(file, fcntl.LOCK_EX if closing else fcntl.LOCK_SH)
        yield


def _flock(file: int, kind: int) -> None:
    deadline = time.monotonic() + WAIT_S
    for pause in _pauses():
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(pause)
        else:
            return


@contextlib.contextmanager
def reading(path: Path, cancel: Cancel | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the file read-only for the length of the block, waiting for a writer to finish.

    Raises:
        StoreMissing, StoreLocked, StoreVersionError: when opening.
        QueryError, QueryCancelled: from what is run inside the block.
    """
    with _gate(path).read():
        with _turnstile(path, closing=False):
            connection = _connect(path, read_only=True, cancel=cancel)
        try:
            with (cancel or Cancel()).watching(connection), translated():
                yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def lease(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the file for writing, in one transaction that commits at the end of the block."""
    with _gate(path).write(), _turnstile(path, closing=True):
        connection = _connect(path, read_only=False)
        try:
            with translated():
                connection.execute("BEGIN")
                try:
                    yield connection
                except BaseException:
                    with contextlib.suppress(duckdb.Error):
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        finally:
            connection.close()


def _connect(
    path: Path, *, read_only: bool, cancel: Cancel | None = None
) -> duckdb.DuckDBPyConnection:
    if read_only and not path.exists():
        raise StoreMissing(
            f"there is no store at {path}; make one with: workbench import PATH --store {path}"
        )
    deadline = time.monotonic() + WAIT_S
    for pause in _pauses():
        try:
            return _opened(path, read_only=read_only)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if not _is_lock(error):
                raise _unreadable(path, error) from error
            if time.monotonic() > deadline:
                raise StoreLocked(_who(path, error)) from error
            if cancel is not None and cancel.cancelled:
                raise QueryCancelled(
                    "the query was cancelled while it waited for the store"
                ) from error
        except duckdb.Error as error:
            raise _unreadable(path, error) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def _opened(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open the file once; queries that outgrow their memory spill, beside it if that can be written."""
    spill = {} if os.access(path.parent, os.W_OK) else {"temp_directory": _scratch()}
    settings = {**_OFFLINE, **_MEMORY, **spill}
    connection = duckdb.connect(str(path), read_only=read_only, config=dict(settings))
    if _MEMORY:
        connection.execute("SET operator_memory_limit = '1GB'")
    return connection


@functools.cache
def _scratch() -> str:
    """A folder of this process alone, for queries of a store in a folder that cannot be written."""
    folder = tempfile.mkdtemp(prefix="workbench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _pauses() -> Iterator[float]:
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


def _is_lock(error: duckdb.Error) -> bool:
    text = str(error)
    return "lock" in text.lower() or "different configuration" in text


def _who(path: Path, error: duckdb.Error) -> str:
    held = re.search(r"PID (\d+)", str(error))
    who = f"process {held[1]}" if held else "another connection"
    return (
        f"{path} is held by {who} for more than {WAIT_S:.0f} s; "
        "close the program that keeps it open for writing and try again"
    )


def _unreadable(path: Path, error: duckdb.Error) -> StoreError:
    text = str(error).splitlines()[0]
    if "not a valid DuckDB" in text:
        return StoreVersionError(f"{path} is no DuckDB database; name another file with --store")
    if "version" in text.lower() and "storage" in text.lower():
        return StoreVersionError(f"{path} was written by a newer DuckDB ({text}); upgrade duckdb")
    return StoreError(f"cannot open {path}: {text}")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the engine's errors into ours at the rim."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryCancelled("the query was cancelled") from error
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            f"the query needs more memory than it may have: {_first(error)}; "
            "narrow the slice, or group by fewer columns"
        ) from error
    except duckdb.IOException as error:
        raise StoreError(
            f"cannot read or write the store: {_first(error)}; is the disk full?"
        ) from error
    except duckdb.Error as error:
        raise QueryError(str(error)) from error


def _first(error: Any) -> str:
    return str(error).splitlines()[0]
