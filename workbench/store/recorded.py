"""Recorded traces of a store, an export or a spool, read back as records for replay."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from workbench import schema, spool
from workbench.errors import StoreMissing
from workbench.records import AnyRecord, Call, Configuration, Message, Score, ToolCall, Trace
from workbench.store import database, exports

_STEP = 2_000  # traces read at a time
_PARTS: Mapping[str, type[msgspec.Struct]] = {
    "calls": Call,
    "tool_calls": ToolCall,
    "messages": Message,
}


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


def traces(store: Path, ids: Sequence[str]) -> Iterator[Trace]:
    """Read traces of a store with calls, tool calls, messages and scores, in the order of the ids.

    Args:
        store: the file; its spool is not read.
        ids: which traces. A few thousand at a time are held in memory.
    """
    for start in range(0, len(ids), _STEP):
        some = list(ids[start : start + _STEP])
        found = _traces(store, None, {"ids": some}, "trace_id IN (SELECT unnest($ids))", _ALL)
        known = {trace.trace_id: trace for trace in found}
        yield from (known[id_] for id_ in some if id_ in known)


_ALL: Mapping[str, type[msgspec.Struct]] = {**_PARTS, "scores": Score}


def _traces(
    store: Path | None,
    folder: Path | None,
    params: dict[str, Any],
    within: str = "trace_id BETWEEN $low AND $high",
    kinds: Mapping[str, type[msgspec.Struct]] = _PARTS,
) -> Iterator[Trace]:
    parts: dict[str, dict[str, list[Any]]] = {}
    ordinals: dict[tuple[str, str], int] = {}  # (trace, call or tool call) → ordinal
    for table, kind in kinds.items():
        order = "scorer" if table == "scores" else "ordinal"
        query = f"FROM {{{table}}} x WHERE {within} ORDER BY trace_id, {order}"
        if table == "messages":
            query = (
                "SELECT m.*, c.text FROM {messages} m JOIN {contents} c USING (content_id) "
                f"WHERE {within} ORDER BY trace_id, ordinal"
            )
        for row in _fetch(store, folder, query, params).iter_rows(named=True):
            id_ = row["trace_id"]
            mine = parts.setdefault(id_, {name: [] for name in kinds})
            mine[table].append(_record(row | _ordinals(row, ordinals), kind))
            if table in _KEYS:
                ordinals[id_, row[_KEYS[table]]] = row["ordinal"]
    for row in _fetch(store, folder, f"FROM {{traces}} x WHERE {within}", params).iter_rows(
        named=True
    ):
        parts_of_trace = {t: tuple(rows) for t, rows in parts.get(row["trace_id"], {}).items()}
        yield _record({**row, **parts_of_trace}, Trace)


_KEYS = {"calls": "call_id", "tool_calls": "tool_call_id"}


def _ordinals(row: dict[str, Any], ordinals: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """Name the call and the tool call that a row belongs to by their ordinals, as records do."""
    return {
        column.replace("_id", "_ordinal"): ordinals.get((row["trace_id"], row[column]))
        for column in _KEYS.values()
        if row.get(column) is not None
    }


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
