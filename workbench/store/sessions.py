"""Imported sessions that still grow, or that repeat each other's calls (resumed and forked).

A log of a session is imported again when it has grown, and a resumed or forked session begins with
the calls of another. Their calls have ids of their own, so that each stands in `calls` once, for
the session that began first; `call_copies` says where else it was seen. What is in the store
follows from the sessions alone, independent of the order in which they came.
"""

from collections.abc import Iterable, Mapping

import duckdb

from workbench.store import views

# its session began first, else ended first, else has the smaller id
_FIRST = (
    "t.started_at, t.started_at + to_microseconds((coalesce(t.e2e_s, 0) * 1e6)::BIGINT), t.trace_id"
)
_MOVED = ("trace_id", "run_id", "configuration_id", "task_id", "item_id")


def note_growing(connection: duckdb.DuckDBPyConnection, new: Mapping[str, str]) -> None:
    """Put the imported runs that one side or the other saw before they ended into `growing`.

    Its columns say whether the new side alone saw the end, and whether one side alone did.
    """
    offered = new.get("runs")
    ended = "SELECT NULL AS run_id, NULL AS ended_at, NULL AS kind WHERE false"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE growing AS
        SELECT run_id, o.run_id IS NOT NULL AND n.ended_at IS NOT NULL AS ends,
          (o.ended_at IS NULL) <> (n.ended_at IS NULL) AS ended_once
        FROM runs o FULL JOIN ({f"FROM {offered}" if offered else ended}) n USING (run_id)
        WHERE coalesce(o.kind, n.kind) = 'import'
        AND ((o.run_id IS NOT NULL AND o.ended_at IS NULL)
          OR (n.run_id IS NOT NULL AND n.ended_at IS NULL))"""
    )


def remove_grown(
    connection: duckdb.DuckDBPyConnection,
    traces: str,
    calls: str | None,
    parts: Iterable[str],
    notes: list[str],
) -> int:
    """Delete imported traces that a new import extends: more messages, or the same and a later end.

    Traces without messages, as of tables, have grown where they have more calls.

    A run that has ended since replaces all traces that come: what a score means may be known at the
    end only.

    Args:
        connection: inside a lease, with the runs that may grow in `growing`.
        traces: the relation of those that come.
        calls: that of their calls, if there are any.
        parts: the tables whose rows hang on a trace, beside `calls`.
        notes: takes a sentence where there were any.

    Returns:
        How many were deleted.
    """
    counted = "(SELECT trace_id, count(*) AS n FROM {} SEMI JOIN {} USING (trace_id) GROUP BY 1)"
    known, coming = (counted.format(side, traces) for side in ("calls", calls or "calls"))
    grown = connection.execute(
        f"""SELECT trace_id FROM traces old JOIN {traces} n USING (trace_id)
        JOIN growing g ON g.run_id = old.run_id
        LEFT JOIN {known} k USING (trace_id) LEFT JOIN {coming} c USING (trace_id)
        WHERE old.is_replaced IS NOT TRUE AND n.is_replaced IS NOT TRUE
        AND (n.n_messages > old.n_messages
          OR (n.n_messages = old.n_messages AND n.e2e_s > old.e2e_s)
          OR (n.n_messages = 0 AND old.n_messages = 0 AND c.n > coalesce(k.n, 0))
          OR (g.ends AND n.n_messages = old.n_messages))"""
    ).fetchall()
    ids = [row[0] for row in grown]
    for table in ("traces", "calls", *parts) if ids else ():
        connection.execute(f"DELETE FROM {table} WHERE trace_id IN (SELECT unnest(?))", [ids])
    if ids:
        notes.append(
            f"{len(ids):,} sessions had grown since they were imported: they stand as they are now"
        )
    return len(ids)


def settle_copies(connection: duckdb.DuckDBPyConnection, fresh: str, notes: list[str]) -> None:
    """Give each shared call to the session that began first; sums the sessions that changed again.

    Args:
        connection: inside a lease, with the calls of the new traces inserted.
        fresh: the relation of the new traces.
        notes: takes a sentence where calls were there before.
    """
    seen = _seen(connection, fresh)
    if not seen:
        return
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE seen AS
        WITH shown AS (
          SELECT call_id, trace_id, ordinal, true AS here FROM calls
          WHERE call_id IN (SELECT unnest($ids))
          UNION ALL SELECT call_id, trace_id, ordinal, false FROM call_copies
          WHERE call_id IN (SELECT unnest($ids)))
        SELECT s.*, first_value(s.trace_id) OVER (PARTITION BY s.call_id ORDER BY """
        f"{_FIRST}) AS owner FROM shown s JOIN traces t USING (trace_id)",
        {"ids": seen},
    )
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT trace_id FROM seen
        WHERE call_id IN (SELECT call_id FROM seen WHERE here <> (trace_id = owner))"""
    )
    _move(connection)
    _sum(connection)
    sessions, calls = connection.execute(
        "SELECT count(DISTINCT trace_id), count(DISTINCT call_id) FROM seen WHERE trace_id <> owner"
    ).fetchall()[0]
    notes.append(
        f"{calls:,} calls stand in {sessions:,} more sessions, "
        "which were resumed or forked: counted once"
    )
    connection.execute("DROP TABLE seen; DROP TABLE touched")


def _seen(connection: duckdb.DuckDBPyConnection, fresh: str) -> list[str]:
    """List calls of new traces that other traces hold too, by the ids that their sources gave."""
    own = f"""SELECT call_id FROM calls SEMI JOIN {fresh} USING (trace_id)
        WHERE NOT starts_with(call_id, trace_id)"""
    if not connection.execute(f"SELECT count(*) FROM ({own})").fetchall()[0][0]:
        return []
    rows = connection.execute(
        f"""SELECT call_id
        FROM (SELECT call_id, trace_id FROM calls SEMI JOIN ({own}) USING (call_id)
          UNION ALL SELECT call_id, trace_id FROM call_copies SEMI JOIN ({own}) USING (call_id))
        GROUP BY call_id HAVING count(*) > 1"""
    ).fetchall()
    return [row[0] for row in rows]


def _move(connection: duckdb.DuckDBPyConnection) -> None:
    """Move calls and tool calls to the session that owns them, and update the copies."""
    moved = ", ".join(f"{name} = t.{name}" for name in _MOVED)
    # one row of each call stays, and goes to its owner; the others become copies
    connection.execute(
        """DELETE FROM calls WHERE EXISTS (FROM seen s WHERE s.call_id = calls.call_id
          AND s.trace_id = calls.trace_id AND s.trace_id <> s.owner
          AND (s.call_id, s.owner) IN (SELECT (call_id, trace_id) FROM seen WHERE here))"""
    )
    connection.execute(
        f"""UPDATE calls SET ordinal = o.ordinal, {moved} FROM seen o JOIN traces t USING (trace_id)
        WHERE o.call_id = calls.call_id AND o.trace_id = o.owner AND calls.trace_id <> o.owner"""
    )
    connection.execute("DELETE FROM call_copies WHERE call_id IN (SELECT call_id FROM seen)")
    connection.execute(
        """INSERT INTO call_copies BY NAME
        SELECT DISTINCT call_id, trace_id, ordinal FROM seen WHERE trace_id <> owner"""
    )
    connection.execute(
        """DELETE FROM tool_calls WHERE EXISTS (FROM seen s WHERE s.call_id = tool_calls.call_id
          AND s.trace_id = tool_calls.trace_id AND s.trace_id <> s.owner
          AND tool_calls.tool_call_id IN
            (SELECT k.tool_call_id FROM tool_calls k WHERE k.trace_id = s.owner))"""
    )
    connection.execute(
        """UPDATE tool_calls SET trace_id = s.owner FROM seen s
        WHERE s.call_id = tool_calls.call_id AND s.trace_id = s.owner
        AND tool_calls.trace_id <> s.owner"""
    )


def _sum(connection: duckdb.DuckDBPyConnection) -> None:
    """Sum the touched traces again."""
    sums = ", ".join(
        f"{name} = {f'coalesce(s.{name}, 0)' if name == 'n_calls' else f's.{name}'}"
        for name in views.TOTALS
    )
    calls = "(FROM calls SEMI JOIN touched USING (trace_id))"
    connection.execute(
        f"""UPDATE traces SET {sums}
        FROM (FROM touched LEFT JOIN ({views.totals(calls)}) USING (trace_id)) s
        WHERE s.trace_id = traces.trace_id"""
    )
    connection.execute(
        """UPDATE traces SET n_tool_calls = s.n, n_tool_errors = s.failed FROM (
          SELECT trace_id, count(k.tool_call_id) AS n, count(k.error_type) AS failed
          FROM touched LEFT JOIN tool_calls k USING (trace_id) GROUP BY trace_id) s
        WHERE s.trace_id = traces.trace_id"""
    )
