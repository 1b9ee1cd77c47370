"""Attempts with a permanent id from their source: one trace for each, under that id.

Before layout 3, a sample of an Inspect log was identified by its run, item and trial, so that a
sample that eval-retry had carried over to its own log was imported twice.
"""

import duckdb
import polars as pl

from workbench.records import attempt_id, try_id

_UUID = '"uuid":"([^"]+)"'  # metadata is canonical JSON
# each table, and which of its columns begin with the id of a trace
_REFER = {
    "traces": ("trace_id",),
    "scores": ("trace_id",),
    "annotations": ("trace_id",),
    "calls": ("trace_id", "call_id"),
    "energy": ("trace_id", "call_id"),
    "tool_calls": ("trace_id", "call_id", "tool_call_id"),
    "messages": ("trace_id", "call_id", "tool_call_id"),
}
_PARTS = ("calls", "tool_calls", "scores", "energy", "messages")


def settle(connection: duckdb.DuckDBPyConnection) -> int:
    """Give the attempts of Inspect logs their ids, and keep one trace of each repeated attempt.

    Running it twice changes nothing.

    Returns:
        The number of traces deleted because another trace records the same attempt.
    """
    rows = connection.execute(
        f"""SELECT t.trace_id, regexp_extract(t.metadata, '{_UUID}', 1) AS uuid,
          t.error_type IS NOT NULL AND NOT EXISTS (FROM scores s WHERE s.trace_id = t.trace_id),
          t.item_id, t.trial, c.sent_at
        FROM traces t JOIN runs r USING (run_id)
        LEFT JOIN (SELECT trace_id, arg_max(started_at, ordinal) AS sent_at FROM calls
          WHERE started_at IS NOT NULL GROUP BY ALL) c USING (trace_id)
        WHERE r.source = 'inspect' AND t.is_replaced IS NOT TRUE AND uuid <> ''
        ORDER BY r.started_at NULLS LAST, t.run_id, t.trace_id"""
    ).fetchall()
    moved: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    present: set[str] = set()
    for old, uuid, failed, item_id, trial, sent_at in rows:
        new = try_id(item_id, trial, sent_at) if failed and sent_at else attempt_id("inspect", uuid)
        if new in present:
            again.append((old, new))
        elif old != new:
            moved.append((old, new))
        present.add(new)
    _drop(connection, again)
    _rename(connection, moved)
    return len(again)


def _rename(connection: duckdb.DuckDBPyConnection, moved: list[tuple[str, str]]) -> None:
    for table, columns in _REFER.items() if moved else ():
        _update(connection, moved, table, columns)


def _drop(connection: duckdb.DuckDBPyConnection, again: list[tuple[str, str]]) -> None:
    """Delete traces; their annotations move to the traces that are kept."""
    if again:
        _update(connection, again, "annotations", ("trace_id",))
        for table in ("traces", *_PARTS):
            connection.execute(
                f"DELETE FROM {table} WHERE trace_id IN (SELECT unnest(?))",
                [[old for old, _ in again]],
            )


def _update(
    connection: duckdb.DuckDBPyConnection,
    moved: list[tuple[str, str]],
    table: str,
    columns: tuple[str, ...],
) -> None:
    frame = pl.DataFrame(moved, schema=["was", "becomes"], orient="row")
    connection.register("moved_ids", frame)
    sets = ", ".join(f"{c} = m.becomes || substr({table}.{c}, length(m.was) + 1)" for c in columns)
    connection.execute(f"UPDATE {table} SET {sets} FROM moved_ids m WHERE {table}.trace_id = m.was")
    connection.unregister("moved_ids")
