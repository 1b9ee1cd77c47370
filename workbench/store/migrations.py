"""Migrations of the store's layout: created new, or upgraded in recorded, atomic steps."""

import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb

from workbench import models, private, schema
from workbench.errors import StoreVersionError
from workbench.records import content_id
from workbench.store import aliases, attempts, backups, causes, configurations, database, genuine
from workbench.store.views import CONTRADICTORY, PRICED, VIEWS, totals

_META = """CREATE TABLE IF NOT EXISTS migrations (
  version INTEGER, name VARCHAR, applied_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC'))"""
# The id of the store does not depend on its path; its spool, exports and backups carry the id.
_IDENTITY = """CREATE TABLE IF NOT EXISTS identity (
  store_id VARCHAR, made_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC'))"""
# segments of the spool that are partly ingested: where to go on
_SEGMENTS = "CREATE TABLE IF NOT EXISTS segments (segment VARCHAR, next_offset BIGINT)"

Step = Callable[[duckdb.DuckDBPyConnection], None]


def _first_layout(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_SEGMENTS)
    for table in schema.TABLES.values():
        connection.execute(schema.ddl(table))


def _added(layout: int) -> Step:
    """Make the step that adds what `schema` says came with a layout; a new store has it already."""

    def step(connection: duckdb.DuckDBPyConnection) -> None:
        for table in schema.TABLES.values():
            connection.execute(schema.ddl(table))
            for column in table.columns:
                if column.since == layout:
                    connection.execute(
                        f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS "
                        f'"{column.name}" {column.sql_type}'
                    )

    return step


def _third_layout(connection: duckdb.DuckDBPyConnection) -> None:
    _added(3)(connection)
    configurations.settle(connection)
    attempts.settle(connection)
    _unprice_contradictions(connection)


def _unprice_contradictions(connection: duckdb.DuckDBPyConnection) -> None:
    """Recompute the cost of calls with contradictory counts: it was negative."""
    if connection.execute("FROM calls LIMIT 1").fetchone() is None:
        return  # a new store: planning the sums would take a quarter of the time to make it
    touched = (
        f"(FROM calls WHERE trace_id IN (SELECT c.trace_id FROM calls c WHERE {CONTRADICTORY}))"
    )
    sets = ", ".join(f"{name} = s.{name}" for name in PRICED)
    connection.execute(
        f"UPDATE traces SET {sets} FROM ({totals(touched)}) s WHERE s.trace_id = traces.trace_id"
    )


STEPS: dict[int, tuple[str, Step]] = {
    1: ("first layout", _first_layout),
    2: ("energy balances, energy with idle, effort as sent", _added(2)),
    3: ("scores on their own scale, replaced attempts, broken requests", _third_layout),
    4: ("the provider's id of a reply", _added(4)),
}


def version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Read the layout's version; 0 for an empty database.

    Raises:
        StoreVersionError: for a database that is not a store.
    """
    tables, ours = connection.execute(
        "SELECT count(*), count(*) FILTER (table_name = 'migrations') FROM duckdb_tables()"
    ).fetchall()[0]
    if tables == 0:
        return 0
    if ours == 0:
        raise StoreVersionError(
            f"{path} is a DuckDB database but no store of workbench; name another file with --store"
        )
    return int(connection.execute("SELECT max(version) FROM migrations").fetchall()[0][0] or 0)


def prepare(path: Path, cancel: database.Cancel | None = None, *, new_id: str | None = None) -> str:
    """Make the store if there is none, or bring an older one up, after a backup beside it.

    Args:
        path: the file.
        cancel: stops waiting for the process that has it open.
        new_id: the id of a store that has none yet; None makes one at random.

    Returns:
        The store's id.
    """
    current = 0
    permissions = database.STORE_ONLY
    if path.exists() and not causes.is_empty(path):
        with database.reading(path, cancel) as connection:
            current = version(connection, path)
            is_current = False
            if 0 < current <= schema.VERSION:
                genuine.check_tables(connection, path)
                is_current = _noted(connection) == _rules() and genuine.has_our_views(connection)
            store_id = database.identity(connection)
        if current > schema.VERSION:
            raise StoreVersionError(
                f"{path} has layout {current}, newer than the {schema.VERSION} known here; "
                "upgrade workbench"
            )
        if current == schema.VERSION and is_current and store_id is not None:
            return store_id
        if 0 < current < schema.VERSION:
            permissions = backups.permissions(path, current)
    else:
        private.make_folder(path.parent)
    with database.lease(path, create=True, permissions=permissions) as connection:
        connection.execute(_META)
        store_id = _identify(connection, new_id)
        now = version(connection, path)  # another process may have brought it up meanwhile
        if 0 < now < schema.VERSION and now == current:
            backups.take(connection, path, now)
        for number in range(now + 1, schema.VERSION + 1):
            name, step = STEPS[number]
            step(connection)
            connection.execute(
                "INSERT INTO migrations (version, name) VALUES (?, ?)", [number, name]
            )
        for name in VIEWS:
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {genuine.view_query(name)}")
        aliases.read_names(connection, every=True)
        connection.execute(f"COMMENT ON VIEW trace_facts IS '{_rules()}'")
    return store_id


def _identify(connection: duckdb.DuckDBPyConnection, new_id: str | None) -> str:
    """Give a store without an id one; returns the id."""
    connection.execute(_IDENTITY)
    known = database.identity(connection)
    if known is not None:
        return known
    store_id = new_id or uuid.uuid4().hex
    connection.execute("INSERT INTO identity (store_id) VALUES (?)", [store_id])
    return store_id


def _rules() -> str:
    """Return the id of the rules that made the rows, beside the layout: views, columns, models."""
    columns = {name: table.names for name, table in schema.VIEWS.items()}
    return content_id(VIEWS, columns, models.RULES)


def _noted(connection: duckdb.DuckDBPyConnection) -> str | None:
    rows = connection.execute(
        "SELECT comment FROM duckdb_views() WHERE view_name = 'trace_facts'"
    ).fetchall()
    return rows[0][0] if rows else None
