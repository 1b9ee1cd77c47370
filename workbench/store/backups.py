"""Backups beside a store: taken under the writer's lock, verified before they get their name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from workbench.errors import StoreError
from workbench.store import database, exports

_SAVED = "workbench_backup"  # the name under which the copy is attached


def path_of(path: Path, layout: int) -> Path:
    """Return a layout's backup path: a suffix after the whole name (`gpt-4.1`, `gpt-4.5`)."""
    return path.with_name(f"{path.name}.v{layout}.backup")


def _partial(path: Path, layout: int) -> Path:
    backup = path_of(path, layout)
    return backup.with_name(f"{backup.name}.partial")


def permissions(path: Path, layout: int) -> database.Permissions:
    """Return the permissions that a lease needs so that `take` can be called in it."""
    return database.Permissions(files=(_partial(path, layout),))


def take(connection: duckdb.DuckDBPyConnection, path: Path, layout: int) -> Path:
    """Copy a store, with what its write-ahead log holds, and check the copy.

    The engine copies it: a handle of our own to the file would let go of the lock when it is
    closed.

    Args:
        connection: inside a lease, in which nothing is to be rolled back any more; a new
            transaction is begun.
        path: the store.
        layout: of the store as it is.

    Raises:
        StoreError: the copy differs from the store; the copy is removed.
    """
    backup = path_of(path, layout)
    partial = _partial(path, layout)
    partial.unlink(missing_ok=True)
    connection.execute("COMMIT")
    connection.execute("CHECKPOINT")
    try:
        with _attached(connection, partial, f"STORAGE_VERSION '{database.STORAGE}'"):
            connection.execute(f"COPY FROM DATABASE {_own_name(connection)} TO {_SAVED}")
        with _attached(connection, partial, "READ_ONLY"):
            _compare(connection, partial)
        partial.replace(backup)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    connection.execute("BEGIN")
    return backup


@contextlib.contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, file: Path, how: str) -> Iterator[None]:
    connection.execute(f"ATTACH '{exports.quoted(file)}' AS {_SAVED} ({how})")
    try:
        yield
    finally:
        connection.execute(f"DETACH {_SAVED}")


def _own_name(connection: duckdb.DuckDBPyConnection) -> str:
    name = str(connection.execute("SELECT current_database()").fetchall()[0][0])
    return '"' + name.replace('"', '""') + '"'


def _compare(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND NOT temporary"
    ).fetchall()
    for (name,) in tables:
        mine, saved = (
            connection.execute(f'SELECT count(*) FROM {where}."{name}"').fetchall()[0][0]
            for where in (f"{_own_name(connection)}.main", f"{_SAVED}.main")
        )
        if mine != saved:
            raise StoreError(
                f"the backup {file} has {saved:,} rows of {name} where the store has {mine:,};"
                " it was deleted, and the store is as it was; try again"
            )
