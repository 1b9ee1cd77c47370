"""Lazy Polars frames over the store: each collect opens the file, pushes down, and closes it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from workbench import schema
from workbench.slice.joining import joined
from workbench.store import database
from workbench.store.frames import polars_schema


def scan(
    path: Path, query: str, table: schema.Table, own: Sequence[schema.Column] = ()
) -> pl.LazyFrame:
    """Scan a query with a table's columns.

    Args:
        path: the store's file, opened read-only at each collect.
        query: what to select; filters, columns and `head` of the lazy frame are added to it.
        table: names and types of what the query returns.
        own: columns of the store's own, which are joined if the frame's reader wants them.
    """

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        del batch_size
        wanted = {c.name for c in own} if with_columns is None else set(with_columns)
        wanted |= set() if predicate is None else set(predicate.meta.root_names())
        own_columns = {f"own {n}": c for n, c in enumerate(own) if c.name in wanted}
        with database.reading(path) as connection:
            rows = joined(f"({query})", list(own_columns.values()), list(own_columns))
            frame = connection.sql(rows).pl(lazy=True)
            frame = frame.rename({alias: c.name for alias, c in own_columns.items()})
            if predicate is not None:
                frame = frame.filter(predicate)
            if with_columns is not None:
                frame = frame.select(with_columns)
            if n_rows is not None:
                frame = frame.head(n_rows)
            collected = frame.collect()
        yield collected

    columns = polars_schema(dataclasses.replace(table, columns=(*table.columns, *own)))
    return register_io_source(read, schema=columns, validate_schema=True)
