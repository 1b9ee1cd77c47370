"""Bulk ingest: writes only new rows and whole traces, resolves prices and sums totals."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import duckdb
import polars as pl

from workbench import formats, prices, schema
from workbench.records import NOT_RUN, AnyRecord, Price
from workbench.spool import FINAL_ERRORS
from workbench.store import aliases, configurations, sessions, views
from workbench.store import frames as fr

# tables of descriptions; below, the parts of a trace, which are written and deleted with it
_NAMED = (
    "tasks",
    "items",
    "prices",
    "saved_slices",
    "energy_balances",
    "results",
    "models",
    "model_aliases",
    "accelerators",
    "grids",
)
_PARTS = ("tool_calls", "scores", "energy", "messages", "call_copies")
PROGRESS = ("status", "ended_at", "error_message", "metadata", "n_planned")
"""What a run says of itself only once it has ended."""
_NAMES = "asked_names"  # temporary: which models the names of calls mean


@dataclasses.dataclass
class IngestReport:
    """What an ingest did, by table.

    Attributes:
        rows_in: rows offered.
        rows_new: rows that the store did not have.
        quarantined: spool lines set aside because they were damaged.
        in_flight: calls that were begun, and not answered, when their collector died.
        notes: remarks for the user, in words.
        new_traces: ids of the traces that were written, those that had grown among them.
    """

    rows_in: dict[str, int] = dataclasses.field(default_factory=dict)
    rows_new: dict[str, int] = dataclasses.field(default_factory=dict)
    quarantined: int = 0
    in_flight: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    new_traces: set[str] = dataclasses.field(default_factory=set)

    @property
    def duplicates(self) -> dict[str, int]:
        """Rows offered that the store had already."""
        return {t: n - self.rows_new.get(t, 0) for t, n in self.rows_in.items()}

    def count(self, table: str, offered: int, new: int) -> None:
        """Add to a table's counts."""
        self.rows_in[table] = self.rows_in.get(table, 0) + offered
        self.rows_new[table] = self.rows_new.get(table, 0) + new


Relations = Mapping[str, str]


def write(
    connection: duckdb.DuckDBPyConnection,
    new: Relations,
    report: IngestReport,
    *,
    known_of_calls: Sequence[str] = (),
) -> None:
    """Insert what the store lacks.

    Args:
        connection: inside a lease, so that all of it lands or nothing.
        new: by table, the name of a relation with exactly the table's columns.
        report: counts are added to it.
        known_of_calls: columns of the calls that are not all null, where the calls are in memory.
    """
    for table in _NAMED:
        if table in new:
            _insert_named(connection, table, new[table], report)
    if "configurations" in new:
        _insert_configurations(connection, new["configurations"], report)
    if "configurations" in new or "model_aliases" in new:
        aliases.read_names(connection, every="model_aliases" in new)
    if "traces" in new:
        sessions.note_growing(connection, new)
    if "runs" in new:
        _insert_runs(connection, new["runs"], report)
    if "traces" in new:
        _insert_traces(connection, new, report, known_of_calls)
        _replace_in_series(connection, new["traces"])
    if "annotations" in new:
        _insert_annotations(connection, new["annotations"], report)


def write_frames(
    connection: duckdb.DuckDBPyConnection, frames: fr.Frames, report: IngestReport
) -> None:
    """Insert frames, with the bundled price rows of the models that are new to the store."""
    _offer_prices(connection, frames)
    filled = {name: frame for name, frame in frames.items() if frame.height}
    names = {name: f"new_{name}" for name in filled}
    lent = {name: _Lent(frame) for name, frame in filled.items()}
    for name, frame in lent.items():
        connection.register(names[name], frame)
    try:
        whole = {
            name: _with_all_columns(connection, name, frame.columns, names[name])
            for name, frame in filled.items()
        }
        write(connection, whole, report, known_of_calls=_known_columns(filled.get("calls")))
    finally:
        for name, frame in lent.items():
            connection.unregister(names[name])
            frame.take_back()


class _Lent:
    """A frame that DuckDB reads, until it is taken back.

    A transaction holds what was registered in it until it ends; so it holds this, not the frame.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)

    def take_back(self) -> None:
        self._frame = self._frame.clear()


def _known_columns(frame: pl.DataFrame | None) -> list[str]:
    """Return the columns of a frame that are not all null."""
    if frame is None:
        return []
    return [name for name in frame.columns if frame[name].null_count() < frame.height]


def _with_all_columns(
    connection: duckdb.DuckDBPyConnection, table: str, given: Iterable[str], relation: str
) -> str:
    """Return a relation with all columns of a table; those that are not given are null."""
    known = set(given)
    columns = schema.TABLES[table].columns
    if known >= {column.name for column in columns}:
        return relation
    chosen = ", ".join(
        c.name if c.name in known else f"NULL::{c.sql_type} AS {c.name}" for c in columns
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW whole_{relation} AS SELECT {chosen} FROM {relation}"
    )
    return f"whole_{relation}"


def _insert_named(
    connection: duckdb.DuckDBPyConnection, table: str, relation: str, report: IngestReport
) -> None:
    on = " AND ".join(f"old.{k} IS NOT DISTINCT FROM n.{k}" for k in schema.TABLES[table].key)
    new = _run(
        connection,
        f"INSERT INTO {table} BY NAME SELECT * FROM {relation} n "
        f"WHERE NOT EXISTS (FROM {table} old WHERE {on})",
    )
    report.count(table, _count(connection, relation), new)


def _insert_configurations(
    connection: duckdb.DuckDBPyConnection, relation: str, report: IngestReport
) -> None:
    """Insert configurations; where two share a base name, both names say in what they differ."""
    renamed = configurations.prefer_bases(connection, relation)
    before = report.rows_new.get("configurations", 0)
    _insert_named(connection, "configurations", relation, report)
    if renamed or report.rows_new["configurations"] > before:
        configurations.settle(connection)


def _insert_runs(
    connection: duckdb.DuckDBPyConnection, relation: str, report: IngestReport
) -> None:
    """Insert runs; a more complete row, as of a run that ended since, replaces the known one."""
    offered = _count(connection, relation)
    known = _count(connection, f"runs WHERE run_id IN (SELECT run_id FROM {relation})")
    further = f"{progress('n')} > {progress('o')}"
    columns = ", ".join(
        f"CASE WHEN {further} THEN n.{name} ELSE coalesce(n.{name}, o.{name}) END AS {name}"
        if name in PROGRESS
        else f"coalesce(n.{name}, o.{name}) AS {name}"
        for name in schema.TABLES["runs"].names
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE later_runs AS SELECT {columns}
        FROM runs o JOIN {relation} n USING (run_id)
        WHERE o.ended_at IS NULL AND {progress("n")} >= {progress("o")}"""
    )
    connection.execute("DELETE FROM runs WHERE run_id IN (SELECT run_id FROM later_runs)")
    connection.execute("INSERT INTO runs BY NAME FROM later_runs")
    connection.execute(
        f"INSERT INTO runs BY NAME FROM {relation} n "
        "WHERE n.run_id NOT IN (SELECT run_id FROM runs)"
    )
    connection.execute("DROP TABLE later_runs")
    report.count("runs", offered, offered - known)


def progress(run: str) -> str:
    """Write the progress of a row of `runs`: 0 running, 1 stopped, 2 ended."""
    return (
        f"CASE WHEN {run}.ended_at IS NOT NULL THEN 2 "
        f"WHEN {run}.status = 'running' THEN 0 ELSE 1 END"
    )


def _insert_annotations(
    connection: duckdb.DuckDBPyConnection, relation: str, report: IngestReport
) -> None:
    """Insert annotations of traces that are in the store; skip those of other traces."""
    _insert_named(
        connection, "annotations", f"(FROM {relation} SEMI JOIN traces USING (trace_id))", report
    )
    astray = _count(connection, f"{relation} ANTI JOIN traces USING (trace_id)")
    if astray:
        report.notes.append(f"{astray:,} annotations are of traces that are not there: left out")


def _insert_traces(
    connection: duckdb.DuckDBPyConnection,
    new: Relations,
    report: IngestReport,
    known_of_calls: Sequence[str],
) -> None:
    offered = _count(connection, new["traces"])
    replaced = _replace_tries(connection, new)
    known = _count(connection, f"{new['traces']} SEMI JOIN traces USING (trace_id)")
    if known:
        known -= _remove_grown(connection, new, report)
        known -= _remove_superseded(connection, new["traces"])
        _settle_carried_over(connection, new["traces"], report)
    report.count("traces", offered, offered - known)
    if known == offered:
        for table in ("calls", *_PARTS, "contents"):
            if table in new:
                report.count(table, _count(connection, new[table]), 0)
        return
    fresh = new["traces"]
    among = ""
    if known:
        fresh = "fresh"
        among = "SEMI JOIN fresh USING (trace_id)"
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE fresh AS "
            f"FROM {new['traces']} ANTI JOIN traces USING (trace_id)"
        )
    written = connection.execute(f"SELECT trace_id FROM {fresh}").fetchall()
    report.new_traces.update(row[0] for row in written)
    n_calls = _insert_calls(connection, fresh, among, new.get("calls"), known_of_calls)
    _count_calls(connection, new.get("calls"), n_calls, report)
    for table in _PARTS:
        if table in new:
            added = _run(connection, f"INSERT INTO {table} BY NAME FROM {new[table]} {among}")
            report.count(table, _count(connection, new[table]), added)
    if "contents" in new:
        _insert_contents(connection, new["contents"], among, new.get("messages"), report)
    if replaced:
        _mark_replaced(connection, replaced)
    sessions.settle_copies(connection, fresh, report.notes)


def _remove_grown(
    connection: duckdb.DuckDBPyConnection, new: Relations, report: IngestReport
) -> int:
    traces, calls = new["traces"], new.get("calls")
    return sessions.remove_grown(connection, traces, calls, _PARTS, report.notes)


def _count_calls(
    connection: duckdb.DuckDBPyConnection, calls: str | None, n_new: int, report: IngestReport
) -> None:
    if calls:
        report.count("calls", _count(connection, calls), n_new)


def _replace_in_series(connection: duckdb.DuckDBPyConnection, traces: str) -> None:
    """Mark failed traces that a later run of the same series repeated, as after a cancellation."""
    series = f"runs WHERE series_id IS NOT NULL AND run_id IN (SELECT run_id FROM {traces})"
    if not _count(connection, series):
        return
    again = connection.execute(
        f"""SELECT DISTINCT old.trace_id
        FROM runs first JOIN runs later
        ON later.series_id = first.series_id AND later.started_at > first.started_at
        JOIN traces old ON old.run_id = first.run_id
        JOIN traces n ON n.run_id = later.run_id AND n.item_id = old.item_id AND n.trial = old.trial
        WHERE first.series_id IN (SELECT series_id FROM {series}) AND n.is_replaced IS NOT TRUE
        AND old.is_replaced IS NOT TRUE AND old.error_type IS NOT NULL
        AND old.passed IS NULL AND old.score IS NULL"""
    ).fetchall()
    _mark_replaced(connection, [row[0] for row in again])


def _settle_carried_over(
    connection: duckdb.DuckDBPyConnection, traces: str, report: IngestReport
) -> None:
    """Give an attempt that stands in two logs to the run that began first, whichever came first.

    A try that failed and is not marked as repeated is of its own run: the later try supersedes it.
    """
    final = ", ".join(f"'{kind}'" for kind in sorted(FINAL_ERRORS))
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE carried_over AS
        SELECT trace_id, n.run_id, (coalesce(theirs.started_at, 'infinity'), n.run_id)
          < (coalesce(mine.started_at, 'infinity'), old.run_id)
          AND (coalesce(old.is_replaced, n.is_replaced, false)
            OR coalesce(old.error_type IN ({final}), true)
              AND coalesce(n.error_type IN ({final}), true)) AS is_earlier
        FROM {traces} n JOIN traces old USING (trace_id)
        LEFT JOIN runs mine ON mine.run_id = old.run_id
        LEFT JOIN runs theirs ON theirs.run_id = n.run_id
        WHERE old.run_id <> n.run_id"""
    )
    n_known = _count(connection, "carried_over")
    if not n_known:
        return
    for table in ("traces", "calls"):
        connection.execute(
            f"UPDATE {table} SET run_id = c.run_id FROM carried_over c "
            f"WHERE c.trace_id = {table}.trace_id AND c.is_earlier"
        )
    attempts = formats.counted(n_known, "attempt")
    report.notes.append(
        f"{attempts} carried over from or to another log: counted once, for the run that began"
        " first"
    )


def _replace_tries(connection: duckdb.DuckDBPyConnection, new: Relations) -> list[str]:
    """Merge two files' rows of one failed try; returns the traces to mark once all are inserted.

    A later log says that a try was repeated, and holds only its last request; the log of the try
    itself holds all. The row with more calls is kept and marked, in either order of imports.
    """
    traces = new["traces"]
    marked = connection.execute(f"SELECT trace_id FROM {traces} WHERE is_replaced").fetchall()
    _mark_replaced(connection, [row[0] for row in marked])
    if "calls" not in new or not _count(connection, "traces WHERE is_replaced"):
        return []
    note_replaced(connection, new)
    fuller = connection.execute("SELECT trace_id FROM replaced WHERE n_theirs > n_mine").fetchall()
    trace_ids = [row[0] for row in fuller]
    delete_traces(connection, trace_ids)
    return trace_ids


def note_replaced(connection: duckdb.DuckDBPyConnection, new: Relations) -> None:
    """Put traces that either side says were replaced into `replaced`, with each side's calls."""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE replaced AS
        SELECT trace_id FROM traces old JOIN {new["traces"]} n USING (trace_id)
        WHERE old.is_replaced OR n.is_replaced"""
    )
    counted = (
        "(SELECT trace_id, count(*) AS n FROM {} SEMI JOIN replaced USING (trace_id) GROUP BY 1)"
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE replaced AS
        SELECT trace_id, coalesce(m.n, 0) AS n_mine, coalesce(t.n, 0) AS n_theirs FROM replaced
        LEFT JOIN {counted.format("calls")} m USING (trace_id)
        LEFT JOIN {counted.format(new["calls"])} t USING (trace_id)"""
    )


def counts(traces: str) -> str:
    """Count messages, tool calls, and those that failed, as `traces` have them.

    Args:
        traces: a relation with `trace_id`.
    """
    return f"""SELECT trace_id, coalesce(m.n, 0) AS n_messages, coalesce(k.n, 0) AS n_tool_calls,
      coalesce(k.failed, 0) AS n_tool_errors FROM {traces}
    LEFT JOIN (SELECT trace_id, count(*) AS n FROM messages SEMI JOIN {traces} USING (trace_id)
      GROUP BY trace_id) m USING (trace_id)
    LEFT JOIN (SELECT trace_id, count(*) AS n, count(error_type) AS failed FROM tool_calls
      SEMI JOIN {traces} USING (trace_id)
      WHERE error_type IS DISTINCT FROM '{NOT_RUN}' GROUP BY trace_id) k USING (trace_id)"""


def _mark_replaced(connection: duckdb.DuckDBPyConnection, trace_ids: list[str]) -> None:
    if trace_ids:
        connection.execute(
            "UPDATE traces SET is_replaced = true WHERE trace_id IN (SELECT unnest(?))", [trace_ids]
        )


def delete_traces(connection: duckdb.DuckDBPyConnection, trace_ids: list[str]) -> None:
    """Delete traces and their parts."""
    for table in ("traces", "calls", *_PARTS) if trace_ids else ():
        connection.execute(f"DELETE FROM {table} WHERE trace_id IN (SELECT unnest(?))", [trace_ids])


def _remove_superseded(connection: duckdb.DuckDBPyConnection, traces: str) -> int:
    """Delete failed traces that later tries replace; `spool.supersedes` in SQL."""
    final = "(" + ", ".join(f"'{kind}'" for kind in sorted(FINAL_ERRORS)) + ")"
    superseded = connection.execute(
        f"""SELECT old.trace_id FROM traces old JOIN {traces} n USING (trace_id)
        WHERE old.error_type NOT IN {final}
        AND old.is_replaced IS NOT TRUE AND n.is_replaced IS NOT TRUE
        AND (n.error_type IS NULL OR n.error_type IN {final} OR n.started_at > old.started_at)"""
    ).fetchall()
    delete_traces(connection, [row[0] for row in superseded])
    return len(superseded)


def _insert_calls(
    connection: duckdb.DuckDBPyConnection,
    fresh: str,
    among: str,
    calls: str | None,
    known: Sequence[str],
) -> int:
    """Insert new traces with the sums of their calls, and the calls; returns how many calls."""
    source = f"(FROM {calls} {among})" if calls else "(FROM calls LIMIT 0)"
    with _with_prices(connection, source, fresh, known) as priced:
        if calls:
            connection.execute(f"INSERT INTO calls BY NAME FROM {priced}")
        rows, traces = connection.execute(
            f"SELECT count(*), count(DISTINCT trace_id) FROM {priced}"
        ).fetchall()[0]
        sums = ", ".join(f"s.{name} AS {name}" for name in views.TOTALS if name != "n_calls")
        connection.execute(
            f"""INSERT INTO traces BY NAME
            SELECT t.* REPLACE ({sums}, coalesce(s.n_calls, 0) AS n_calls) FROM {fresh} t
            LEFT JOIN ({views.totals(priced, single=rows == traces)}) s USING (trace_id)"""
        )
    return int(rows)


@contextlib.contextmanager
def _with_prices(
    connection: duckdb.DuckDBPyConnection, calls: str, traces: str, known: Sequence[str]
) -> Iterator[str]:
    """Yield a relation of calls with their prices.

    A temporary table takes its memory until the transaction ends; where the calls come from a
    frame, and it is said which columns are known, another frame takes its place.
    """
    if not known:
        price(connection, calls, traces, "fresh_calls")
        yield "fresh_calls"
        connection.execute("DROP TABLE fresh_calls")
        return
    columns = tuple(dict.fromkeys([*known, "price_id"]))
    query = f"SELECT {', '.join(columns)} FROM ({_priced(connection, calls, traces)})"
    frame: pl.DataFrame = connection.sql(query).pl()
    lent = _Lent(frame)
    connection.register("priced_calls", lent)
    try:
        yield _with_all_columns(connection, "calls", frame.columns, "priced_calls")
    finally:
        connection.unregister("priced_calls")
        lent.take_back()


def price(connection: duckdb.DuckDBPyConnection, calls: str, traces: str, into: str) -> None:
    """Copy calls to a temporary table, each with the price row in force when it was made."""
    query = _priced(connection, calls, traces)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS {query}")


def _priced(connection: duckdb.DuckDBPyConnection, calls: str, traces: str) -> str:
    """Write the query for calls with the price row in force when each was made.

    A call without a time of its own takes its trace's, else its run's.
    """
    undated = _count(connection, f"{calls} WHERE started_at IS NULL")
    if undated:
        at = "coalesce(c.started_at, c.begun_at)"
        calls = f"""(SELECT c.*, coalesce(t.started_at, r.started_at) AS begun_at FROM {calls} c
        LEFT JOIN (SELECT trace_id, started_at FROM {traces}) t USING (trace_id)
        LEFT JOIN (SELECT run_id, started_at FROM runs) r USING (run_id))"""
    else:
        at = "c.started_at"
    drop = "EXCLUDE (begun_at)" if undated else ""
    aliases.note_names(connection, calls, _NAMES)
    return f"SELECT * {drop} FROM ({views.priced(calls, at, _NAMES)})"


def _insert_contents(
    connection: duckdb.DuckDBPyConnection,
    contents: str,
    among: str,
    messages: str | None,
    report: IngestReport,
) -> None:
    """Insert the texts that the new messages show and the store lacks."""
    shown = (
        f"WHERE n.content_id IN (SELECT content_id FROM {messages} {among})"
        if among and messages
        else ""
    )
    added = _run(
        connection,
        f"""INSERT INTO contents BY NAME SELECT n.* FROM {contents} n
        ANTI JOIN contents USING (content_id) {shown}""",
    )
    report.count("contents", _count(connection, contents), added)


def reprice(connection: duckdb.DuckDBPyConnection) -> int:
    """Resolve the price of every call again; returns the traces whose cost changed."""
    offer_known_models(connection)
    price(connection, "calls", "traces", "repriced")
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE moved AS SELECT a.call_id, a.trace_id, a.price_id
        FROM repriced a JOIN calls c USING (call_id) WHERE a.price_id IS DISTINCT FROM c.price_id"""
    )
    connection.execute(
        "UPDATE calls SET price_id = moved.price_id FROM moved WHERE moved.call_id = calls.call_id"
    )
    sets = ", ".join(f"{name} = s.{name}" for name in views.PRICED)
    touched = "(FROM calls SEMI JOIN moved USING (trace_id))"
    connection.execute(
        f"UPDATE traces SET {sets} FROM ({views.totals(touched)}) s "
        "WHERE s.trace_id = traces.trace_id"
    )
    moved = _count(connection, "(SELECT DISTINCT trace_id FROM moved)")
    connection.execute("DROP TABLE moved; DROP TABLE repriced")
    return moved


def offer_known_models(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the bundled price rows for every model that the store's calls asked for."""
    pairs = connection.execute("SELECT DISTINCT provider, model FROM calls").fetchall()
    _add_prices(connection, pairs)


def _offer_prices(connection: duckdb.DuckDBPyConnection, frames: fr.Frames) -> None:
    if "calls" in frames and frames["calls"].height:
        _add_prices(connection, frames["calls"].select("provider", "model").unique().rows())


def _add_prices(
    connection: duckdb.DuckDBPyConnection, pairs: Iterable[tuple[str | None, str | None]]
) -> None:
    explained = aliases.known(connection)
    rows: list[AnyRecord] = [
        row
        for provider, model in pairs
        if model
        for row in (*prices.rows_for(provider, model), *explained.prices(provider, model))
    ]
    add_prices(connection, rows)


def add_prices(connection: duckdb.DuckDBPyConnection, rows: Iterable[Price | AnyRecord]) -> int:
    """Add price rows that the store lacks; returns how many were new."""
    frame = next(fr.batches(rows))["prices"]
    report = IngestReport()
    if frame.height:
        connection.register("new_prices", frame)
        _insert_named(connection, "prices", "new_prices", report)
        connection.unregister("new_prices")
    return report.rows_new.get("prices", 0)


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])


def _run(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    """Run a statement that changes rows; returns how many."""
    return int(connection.execute(statement).fetchall()[0][0])
