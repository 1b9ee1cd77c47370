"""Lazy Polars frames over the store: each collect opens the file, pushes down, and lets go."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from workbench import schema
from workbench.store import database
from workbench.store.frames import polars_schema


def scan(path: Path, query: str, table: schema.Table) -> pl.LazyFrame:
    """Scan a query with a table's columns.

    Args:
        path: the store's file, opened read-only at each collect.
        query: what to select; filters, columns and `head` of the lazy frame are added to it.
        table: names and types of what the query returns.
    """

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        del batch_size
        with database.reading(path) as connection:
            frame = connection.sql(query).pl(lazy=True)
            if predicate is not None:
                frame = frame.filter(predicate)
            if with_columns is not None:
                frame = frame.select(with_columns)
            if n_rows is not None:
                frame = frame.head(n_rows)
            collected = frame.collect()
        yield collected

    return register_io_source(read, schema=polars_schema(table), validate_schema=True)
