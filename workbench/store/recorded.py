"""Recorded traces of a store, an export or a spool, read back as records for replay."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from workbench import schema, spool
from workbench.errors import StoreMissing
from workbench.records import AnyRecord, Call, Configuration, Message, ToolCall, Trace
from workbench.store import database, exports

_STEP = 2_000  # traces read at a time
_PARTS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("calls", Call),
    ("tool_calls", ToolCall),
    ("messages", Message),
)


def read(path: Path) -> Iterator[AnyRecord]:
    """Read the configurations, and the traces with calls, tool calls and messages.

    Args:
        path: a store (what waits in its spool comes too), a folder that `export` wrote, or a spool.

    Raises:
        StoreMissing: it is none of these.
    """
    if exports.is_export(path):
        exports.verify(path)
        yield from _tables(None, path)
    elif path.is_dir() and spool.segments(path):
        yield from _spooled(path)
    elif path.is_file():
        yield from _tables(path, None)
        yield from _spooled(spool.folder_of(path))
    else:
        raise StoreMissing(
            f"there is no recording at {path}; give a store, or a folder of exported traces"
        )


def _spooled(folder: Path) -> Iterator[AnyRecord]:
    for segment in spool.segments(folder):
        for record in spool.read_segment(segment.path).records:
            if isinstance(record, Configuration | Trace):
                yield record


def _tables(store: Path | None, folder: Path | None) -> Iterator[AnyRecord]:
    """Read tables: those of a store, or the Parquet files of a folder."""
    ids = _fetch(store, folder, "SELECT trace_id FROM {traces} ORDER BY trace_id")["trace_id"]
    for row in _fetch(store, folder, "FROM {configurations}").iter_rows(named=True):
        yield _record(row, Configuration)
    for start in range(0, len(ids), _STEP):
        some = ids[start : start + _STEP]
        yield from _traces(store, folder, {"low": some[0], "high": some[-1]})


def _traces(store: Path | None, folder: Path | None, span: dict[str, Any]) -> Iterator[Trace]:
    within = "trace_id BETWEEN $low AND $high"
    parts: dict[str, dict[str, list[Any]]] = {}
    for table, kind in _PARTS:
        query = f"FROM {{{table}}} x WHERE {within} ORDER BY trace_id, ordinal"
        if table == "messages":
            query = (
                "SELECT m.*, c.text FROM {messages} m JOIN {contents} c USING (content_id) "
                f"WHERE {within} ORDER BY trace_id, ordinal"
            )
        for row in _fetch(store, folder, query, span).iter_rows(named=True):
            mine = parts.setdefault(
                row["trace_id"], {"calls": [], "tool_calls": [], "messages": []}
            )
            mine[table].append(_record(row | _ordinals(row, mine), kind))
    for row in _fetch(store, folder, f"FROM {{traces}} x WHERE {within}", span).iter_rows(
        named=True
    ):
        parts_of_trace = {t: tuple(rows) for t, rows in parts.get(row["trace_id"], {}).items()}
        yield _record({**row, **parts_of_trace}, Trace)


def _ordinals(row: dict[str, Any], mine: dict[str, list[Any]]) -> dict[str, Any]:
    """Name the call and the tool call that a row belongs to by their ordinals, as records do."""
    ordinals = {}
    for column, table in (("call_id", "calls"), ("tool_call_id", "tool_calls")):
        if row.get(column) is not None and "ordinal" in row:
            place = next(
                (p.ordinal for p in mine[table] if getattr(p, column) == row[column]), None
            )
            ordinals[column.replace("_id", "_ordinal")] = place
    return ordinals


def _record(row: dict[str, Any], kind: type[Any]) -> Any:
    """Make a record of a row; columns that the record does not know are left out."""
    known = {name: value for name, value in row.items() if name in kind.__struct_fields__}
    return kind(**{name: _utc(value) for name, value in known.items() if value is not None})


def _utc(value: Any) -> Any:
    return value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) else value


def _fetch(
    store: Path | None, folder: Path | None, query: str, params: dict[str, Any] | None = None
) -> pl.DataFrame:
    """Run a query whose tables stand in braces; a table that an export lacks is empty."""
    names = {}
    for table in schema.TABLES.values():
        file = folder / f"{table.name}.parquet" if folder else None
        if file is None:
            names[table.name] = table.name
        elif file.is_file():
            names[table.name] = exports.parquet(file)
        else:
            columns = ", ".join(f'NULL::{c.sql_type} AS "{c.name}"' for c in table.columns)
            names[table.name] = f"(SELECT {columns} WHERE false)"
    with _opened(store) as connection:
        frame: pl.DataFrame = connection.sql(query.format(**names), params=params or None).pl()
        return frame


@contextlib.contextmanager
def _opened(store: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    if store is not None:
        with database.reading(store) as connection:
            yield connection
    else:
        with contextlib.closing(duckdb.connect()) as connection, database.translated():
            connection.execute("SET enable_progress_bar = false")
            yield connection
