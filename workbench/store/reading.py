"""Reading of a whole store: every column of every table, to verify the checksum of each block."""

import dataclasses
from collections.abc import Iterator

from workbench import schema
from workbench.errors import QueryCancelled, StoreError, StoreLocked, StoreMissing
from workbench.slice.joining import identifier
from workbench.store import causes, genuine
from workbench.store.store import Snapshot, Store

_TRANSIENT = (QueryCancelled, StoreLocked, StoreMissing)


@dataclasses.dataclass(slots=True)
class Reading:
    """Result of reading a whole store.

    Attributes:
        n_tables, n_columns, n_rows: of the tables that are there.
        n_blocks, n_bytes: of the file that hold data.
        faults: by "table.column", or "table" where its columns cannot even be listed, what the
            engine said.
        missing: tables and columns that a store of this layout has, and this one has not.
        foreign: tables and views that are none of a store's.
        altered: views of a store's names that ask something else.
    """

    n_tables: int = 0
    n_columns: int = 0
    n_rows: int = 0
    n_blocks: int = 0
    n_bytes: int = 0
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)
    foreign: list[str] = dataclasses.field(default_factory=list)
    altered: list[str] = dataclasses.field(default_factory=list)


def read_all(store: Store) -> Reading:
    """Read every column of every table of a store, which is not changed.

    Raises:
        StoreError: its catalogue cannot be read.
    """
    reading = Reading()
    with store.snapshot() as snapshot:
        tables = _tables(snapshot)
        reading.n_tables = len(tables)
        reading.n_columns = sum(map(len, tables.values()))
        reading.n_blocks, reading.n_bytes = _size(snapshot)
        _compare_catalogue(snapshot, tables, reading)
    for table, columns in tables.items():
        try:
            reading.n_rows += _read(store, table, "COLUMNS(*)")
        except StoreError as error:
            _note(reading, table, error)
            for column, said in _faults(store, table, columns):
                reading.faults.pop(table, None)
                reading.faults[f"{table}.{column}"] = said
    return reading


def _note(reading: Reading, name: str, error: StoreError) -> None:
    if isinstance(error, _TRANSIENT):
        raise error
    reading.faults[name] = causes.first_line(error)


def _read(store: Store, table: str, columns: str) -> int:
    """Read columns of a table by what each row's values hash to; returns its rows."""
    frame = store.sql(
        f"SELECT count(*) AS n_rows, sum(hash({columns})::HUGEINT % 1000) FROM {identifier(table)}",
        time_limit_s=None,
    )
    return int(frame["n_rows"][0])


def _faults(store: Store, table: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        try:
            _read(store, table, identifier(column))
        except _TRANSIENT:
            raise
        except StoreError as error:
            yield column, causes.first_line(error)


def _tables(store: Store) -> dict[str, list[str]]:
    frame = store.sql(
        """SELECT table_name, list(column_name ORDER BY column_index) AS columns
        FROM duckdb_columns()
        SEMI JOIN (SELECT table_oid FROM duckdb_tables()
          WHERE NOT internal AND schema_name = 'main' AND database_name = current_database())
        USING (table_oid) WHERE schema_name = 'main' AND database_name = current_database()
        GROUP BY ALL ORDER BY ALL"""
    )
    return dict(frame.iter_rows())


def _size(store: Store) -> tuple[int, int]:
    row = store.sql(
        "SELECT used_blocks, block_size FROM pragma_database_size() "
        "WHERE database_name = current_database()"
    ).row(0)
    return int(row[0]), int(row[0]) * int(row[1])


def _strange(store: Store) -> list[str]:
    """List foreign objects: other schemas and their tables, functions, types, sequences."""
    here = "WHERE NOT internal AND database_name = current_database()"
    own = f"{here} AND schema_name = 'main'"
    frame = store.sql(
        f"""SELECT 'schema ' || schema_name AS name FROM duckdb_schemas()
        {here} AND schema_name <> 'main'
        UNION SELECT schema_name || '.' || table_name FROM duckdb_tables()
        {here} AND schema_name <> 'main'
        UNION SELECT schema_name || '.' || view_name FROM duckdb_views()
        {here} AND schema_name <> 'main'
        UNION SELECT 'function ' || function_name FROM duckdb_functions() {own}
        UNION SELECT 'type ' || type_name FROM duckdb_types() {own}
        UNION SELECT 'sequence ' || sequence_name FROM duckdb_sequences()
        WHERE database_name = current_database()
        UNION SELECT 'index ' || index_name FROM duckdb_indexes()
        WHERE database_name = current_database()"""
    )
    return frame["name"].to_list()


def _compare_catalogue(store: Snapshot, tables: dict[str, list[str]], reading: Reading) -> None:
    stored = dict(
        store.sql(
            "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal "
            "AND schema_name = 'main' AND database_name = current_database()"
        ).iter_rows()
    )
    for table in schema.TABLES.values():
        if table.name not in tables:
            reading.missing.append(table.name)
        else:
            lost = set(table.names) - set(tables[table.name])
            reading.missing += [f"{table.name}.{column}" for column in sorted(lost)]
    known = {*schema.TABLES, *schema.VIEWS, *genuine.BOOKKEEPING}
    reading.foreign = sorted({*tables, *stored, *_strange(store)} - known)
    reading.altered = [
        name
        for name, text in genuine.expected_texts().items()
        if name in stored and genuine.ordered(stored[name]) != genuine.ordered(text)
    ]
