"""The store's own reference rows of models, accelerators and grids; they override shipped ones."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import duckdb
import polars as pl

from workbench import hardware, schema
from workbench.store import ingest

_TABLES = ("models", "accelerators", "grids")


def read(connection: duckdb.DuckDBPyConnection) -> hardware.Reference:
    """Read the rows of a store that is open."""
    return rows(lambda query: connection.sql(query).pl())


def rows(ask: Callable[[str], pl.DataFrame]) -> hardware.Reference:
    """Read the rows of the store that answers queries, `Store.sql` for one."""
    tables = {name: ask(f"FROM {name} ORDER BY ALL").to_dicts() for name in _TABLES}
    return hardware.of_rows(tables["models"], tables["accelerators"], tables["grids"])


def add(
    lease: AbstractContextManager[duckdb.DuckDBPyConnection], reference: hardware.Reference
) -> dict[str, int]:
    """Replace reference rows of the same name in the leased store; returns rows by table.

    Laws of latency have no table; keep them in a file.
    """
    frames = {
        name: _frame(name, found)
        for name, found in (
            ("models", reference.models),
            ("accelerators", reference.accelerators),
            ("grids", reference.grids),
        )
        if found
    }
    report = ingest.IngestReport()
    with lease as connection:
        for name, frame in frames.items():
            on = " AND ".join(
                f"old.{key} IS NOT DISTINCT FROM new_rows.{key}" for key in schema.TABLES[name].key
            )
            connection.register("new_rows", frame)
            connection.execute(f"DELETE FROM {name} old USING new_rows WHERE {on}")
            connection.unregister("new_rows")
        ingest.write_frames(connection, frames, report)
    return report.rows_new


def _frame(name: str, records: tuple[Any, ...]) -> pl.DataFrame:
    """Rows as the table has them: the last of a name counts, fields that it lacks are left out."""
    table = schema.TABLES[name]
    types: dict[str, Any] = {
        "text": pl.String,
        "int": pl.Int64,
        "float": pl.Float64,
        "time": pl.Datetime("us"),
    }
    values = [{c.name: getattr(row, c.name, None) for c in table.columns} for row in records]
    frame = pl.DataFrame(values, schema={c.name: types[c.type] for c in table.columns})
    return frame.unique(table.key, keep="last", maintain_order=True)
