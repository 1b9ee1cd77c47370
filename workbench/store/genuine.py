"""Check for a genuine store: its tables and views are ours, as a file may come from a stranger.

A view is a query that runs when it is read, and so is a table that is really a view. Neither can
read a file (see `database.Permissions`), but both can give other figures than the rows do. So the
views are compared with those of this package by their text, tables must be base tables, and
functions of the file must not hide the engine's.
"""

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import duckdb

from workbench import config, private, schema
from workbench.errors import StoreVersionError
from workbench.records import content_id
from workbench.store.views import VIEWS

BOOKKEEPING = ("identity", "migrations", "segments")
"""The tables that a store has beside those of `schema`."""
_EXCLUDED = re.compile(r"EXCLUDE \(([^()]*)\)")


def view_query(name: str) -> str:
    """Write the query of one of our views, with its columns in the documented order."""
    columns = ", ".join(f'"{c}"' for c in schema.VIEWS[name].names)
    return f"SELECT {columns} FROM ({VIEWS[name]})"


def check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Check that the tables are tables, and that the functions are the engine's own, not macros.

    Args:
        connection: in which the file is the database in use.
        path: the file, for the message.

    Raises:
        StoreVersionError: a table is a view, a view is a table, or a function hides one of
            DuckDB's.
    """
    views = _names(connection, "SELECT view_name FROM duckdb_views() WHERE NOT internal")
    tables = _names(connection, "SELECT table_name FROM duckdb_tables() WHERE NOT internal")
    own = {*BOOKKEEPING, *schema.TABLES}
    wrong = sorted((views & own) | (tables & set(VIEWS)))
    if wrong:
        kind = "a view" if wrong[0] in views else "a table"
        raise StoreVersionError(
            f"{path} was not made by workbench as it is: {wrong[0]} is {kind} there; "
            "do not trust what it shows, and ask for an export where it came from"
        )
    mine = "SELECT function_name FROM duckdb_functions() WHERE NOT internal"
    hidden = (
        _names(
            connection,
            f"{mine} AND function_name IN "
            "(SELECT function_name FROM duckdb_functions() WHERE internal)",
        )
        if _names(connection, mine)
        else set()
    )
    if hidden:
        raise StoreVersionError(
            f"{path} has a function of its own, {min(hidden)}, that hides DuckDB's; "
            f"do not trust what it shows, or remove it with: DROP MACRO {min(hidden)}"
        )


def _names(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    condition = "database_name = current_database()"
    return {row[0] for row in connection.execute(f"{query} AND {condition}").fetchall()}


def has_our_views(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether each view of the file in use is, word for word, ours."""
    texts = _texts(connection)
    return set(VIEWS) <= set(texts) and _digest({n: texts[n] for n in VIEWS}) == _expected()


def _texts(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows = connection.execute(
        "SELECT view_name, sql FROM duckdb_views() "
        "WHERE NOT internal AND schema_name = 'main' AND database_name = current_database()"
    ).fetchall()
    return dict(rows)


def ordered(text: str) -> str:
    """Order the columns that a view leaves out: the engine writes an EXCLUDE down in any order."""
    return _EXCLUDED.sub(lambda match: " ".join(sorted(match[1].split(", "))), text)


def _digest(texts: Mapping[str, str]) -> str:
    return content_id({name: ordered(text) for name, text in sorted(texts.items())})


@functools.cache
def expected_texts() -> Mapping[str, str]:
    """Write our views as this engine writes them down, by name; it takes 0.1 s."""
    with contextlib.closing(duckdb.connect(":memory:", config={"threads": 1})) as connection:
        for table in schema.TABLES.values():
            connection.execute(schema.ddl(table))
        for name in VIEWS:
            connection.execute(f"CREATE VIEW {name} AS {view_query(name)}")
        return MappingProxyType(_texts(connection))


@functools.cache
def _expected() -> str:
    """Return the digest of our views, cached in the user's cache folder."""
    version = content_id([schema.ddl(t) for t in schema.TABLES.values()], [*map(view_query, VIEWS)])
    cache_file = config.cache_dir() / f"views-{version}-duckdb-{duckdb.__version__}"
    with contextlib.suppress(OSError, AttributeError):  # not a POSIX system: computed each time
        if cache_file.stat().st_uid == os.getuid() and (
            cached := cache_file.read_text(encoding="ascii")
        ):
            return cached
    digest = _digest(expected_texts())
    with contextlib.suppress(OSError):
        private.make_folder(cache_file.parent)
        part = cache_file.with_name(f"{cache_file.name}.{os.getpid()}")
        private.write_text(part, digest)
        part.replace(cache_file)
    return digest
