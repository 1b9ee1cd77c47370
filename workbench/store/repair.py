"""Repair of a damaged store: readable rows, then its spool, backups and other stores, in a new one.

A trace is saved whole, with calls that sum to its totals and as many messages and tool calls as it
counts. Only where no source has it whole, it is saved without the lost messages, with the number of
the remaining ones; its cost and its score stay known. The damaged file is only read.
"""

import contextlib
import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import polars as pl

from workbench import formats, schema, spool
from workbench.errors import StoreError, WorkbenchError
from workbench.records import NOT_RUN, AnyRecord
from workbench.slice.joining import identifier
from workbench.store import causes, checks, copies, database, ingest, migrations, views
from workbench.store.ingest import IngestReport
from workbench.store.open import open_store
from workbench.store.relations import OWNERS
from workbench.store.store import Store

_STEP = 122_880  # rows of a row group, the unit in which the engine writes columns
_LEAST = 2_048  # rows of a vector: less than that is not read
_PARTS = {"traces": "whole", "messages": "complete_messages"}  # relations of those that are whole
_WHOLE = ("input_tokens", "output_tokens", "reasoning_tokens", "n_calls")

ReadableRows = dict[str, list[pl.DataFrame]]


@dataclasses.dataclass(slots=True)
class RepairReport:
    """Result of the repair of a store.

    Attributes:
        traces_from: by source, the traces that came from there, in the order in which they were
            asked.
        notes: what could not be saved, in words.
        unreadable: by table of the damaged store, the rows that cannot be read, and all of them.
    """

    traces_from: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    unreadable: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def repair(path: Path, copy: Path, sources: Sequence[Path] = ()) -> RepairReport:
    """Make a sound store from the readable rows of a damaged one and its other copies.

    Args:
        path: the damaged store; it is only read.
        copy: where the sound one is made; there is nothing yet.
        sources: other copies of the store: stores, backups, exported folders, spools. What carries
            the id of another store is passed over, and said. Those beside the store are found by
            the id.

    Raises:
        StoreError: there is something at `copy` already, or it cannot be written.
    """
    path = path.resolve()
    copy = copy.resolve()
    if copy.exists():
        raise StoreError(f"{copy} is there already; name a file that --repair can make")
    done = RepairReport()
    store_id = copies.store_id(path)
    migrations.prepare(copy, new_id=store_id)  # it is to take the damaged one's place
    target = open_store(copy, take_in=False)
    readable, n_before = _read_tables(path, done)
    _add(done, str(path), _save(target, readable, without_messages=False))
    _add(done, f"the spool of {path}", _from_spool(Store(path), target, done))
    for source in _sources(path, store_id, sources):
        if refused := copies.refusal(source, store_id):
            done.notes.append(refused)
            continue
        with _note_failure(source, done):
            is_backup = source.name.endswith(copies.BACKUP)
            n_new = _from_backup(source, target) if is_backup else _merged(source, target)
            _add(done, str(source), n_new)
    bare = _save(target, readable, without_messages=True)
    if bare:
        _add(done, f"{path}, without messages that are lost", bare)
    _count_lost(done, readable, n_before, target)
    return done


def _sources(path: Path, store_id: str | None, named: Sequence[Path]) -> list[Path]:
    """List each copy of a store once: backups called after it, what has its id, what was named."""
    candidates = [*backups(path), *(copies.beside(path, store_id) if store_id else ()), *named]
    return list(dict.fromkeys(source.resolve() for source in candidates))


def backups(path: Path) -> list[Path]:
    """List the backups that are called after a store, made before its layout is raised."""
    names = (glob.escape(name) for name in {path.stem, path.name})
    return sorted(backup for name in names for backup in path.parent.glob(f"{name}.v*.backup"))


def _add(done: RepairReport, source: str, n_traces: int) -> None:
    done.traces_from[source] = done.traces_from.get(source, 0) + n_traces


@contextlib.contextmanager
def _note_failure(source: Path, done: RepairReport) -> Iterator[None]:
    """Add a note for a source that cannot be used, so that the repair continues with the next."""
    try:
        yield
    except WorkbenchError as error:
        done.notes.append(f"nothing could be taken from {source}: {causes.first_line(error)}")


def _read_tables(path: Path, done: RepairReport) -> tuple[ReadableRows, int | None]:
    """Read every readable row; returns also how many traces there were, None if unknown."""
    store = Store(path)
    readable = ReadableRows()
    n_traces: int | None = None
    with _note_failure(path, done):
        present = set(store.sql("SELECT table_name FROM duckdb_tables()")["table_name"])
        for name in schema.TABLES:
            if name not in present:
                done.notes.append(f"table {name} is missing in {path}")
                continue
            with _note_failure(Path(f"{path}, table {name}"), done):
                n_rows = int(store.sql(f"SELECT count(*) AS n FROM {name}")["n"][0])
                n_traces = n_rows if name == "traces" else n_traces
                readable[name] = list(_readable(store, name, n_rows))
                n_lost = n_rows - sum(frame.height for frame in readable[name])
                if n_lost:
                    done.unreadable[name] = (n_lost, n_rows)
    return readable, n_traces


def _readable(store: Store, table: str, n_rows: int) -> Iterator[pl.DataFrame]:
    last = store.sql(f"SELECT max(rowid) AS last FROM {table}")["last"][0] if n_rows else None
    if last is not None:
        for start in range(0, int(last) + 1, _STEP):
            yield from _rows(store, table, start, min(start + _STEP, int(last) + 1))


def _rows(store: Store, table: str, start: int, end: int) -> Iterator[pl.DataFrame]:
    """Read rows from `start` up to `end`; halves where some cannot be read."""
    columns = store.sql(f"DESCRIBE {table}")["column_name"].to_list()
    known = [c for c in schema.TABLES[table].columns if c.name in columns]
    chosen = ", ".join(identifier(c.name) for c in known)
    missing = "".join(
        f", NULL::{c.sql_type} AS {identifier(c.name)}"
        for c in schema.TABLES[table].columns
        if c.name not in columns
    )
    query = f"SELECT {chosen}{missing} FROM {table} WHERE rowid >= {start} AND rowid < {end}"
    try:
        yield store.sql(query, time_limit_s=None)
    except StoreError:
        middle = (start + end) // 2
        if end - start > _LEAST:
            yield from _rows(store, table, start, middle)
            yield from _rows(store, table, middle, end)


def _save(target: Store, readable: ReadableRows, *, without_messages: bool) -> int:
    """Write the traces that are whole, with all that they refer to; returns how many were new."""
    whole = ((table, pl.concat(parts)) for table, parts in readable.items() if parts)
    frames = {table: frame for table, frame in whole if frame.height}
    report = IngestReport()
    with database.lease(target.path) as connection:
        for name, frame in frames.items():
            connection.register(f"readable_{name}", frame)
        _complete(connection, set(frames))
        _choose(connection, without_messages=without_messages)
        new = {name: _part(schema.TABLES[name]) for name in frames}
        if without_messages:  # backups were read before, whose notes are older
            for name in new.keys() & {"annotations", "saved_slices"}:
                same = " AND ".join(f"n.{key} = {name}.{key}" for key in schema.TABLES[name].key)
                connection.execute(
                    f"DELETE FROM {name} WHERE EXISTS (FROM {new[name]} n WHERE {same})"
                )
        ingest.write(connection, new, report)
        for name in frames:
            connection.unregister(f"readable_{name}")
    return report.rows_new.get("traces", 0)


def _part(table: schema.Table) -> str:
    """Write SQL that selects the readable rows to save."""
    relation = _PARTS.get(table.name, f"readable_{table.name}")
    if table.name == "traces":
        return relation
    if "trace_id" in table.names:
        return f"(FROM {relation} SEMI JOIN whole USING (trace_id))"
    return f"(FROM {relation} n {_owned(table)})"


def _complete(connection: duckdb.DuckDBPyConnection, filled: set[str]) -> None:
    """Name an empty relation for each table without readable rows."""
    for table in schema.TABLES.values():
        if table.name not in filled:
            columns = ", ".join(
                f"NULL::{c.sql_type} AS {identifier(c.name)}" for c in table.columns
            )
            connection.execute(
                f"CREATE OR REPLACE TEMP VIEW readable_{table.name} AS SELECT {columns} WHERE false"
            )


def _owned(table: schema.Table) -> str:
    """Write the condition that every row to which `n` refers is present."""
    tests = (
        f"(n.{key} IS NULL OR n.{key} IN "
        f"(SELECT {key} FROM {owner} UNION ALL SELECT {key} FROM readable_{owner}))"
        for key, owner in OWNERS.items()
        if key in table.names and owner not in {table.name, "prices"}
    )
    return f"WHERE {' AND '.join(('true', *tests))}"


def _choose(connection: duckdb.DuckDBPyConnection, *, without_messages: bool) -> None:
    """Make the temporary tables `whole` (traces) and `complete_messages` (with their texts)."""
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE complete_messages AS
        FROM readable_messages WHERE content_id IN (
        SELECT content_id FROM readable_contents UNION ALL SELECT content_id FROM contents)"""
    )
    sums = " AND ".join(
        f"t.{name} IS NOT DISTINCT FROM s.{name}" for name in _WHOLE if name != "n_calls"
    )
    is_complete = "true" if without_messages else "t.n_messages = coalesce(m.n, 0)"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE whole AS
        SELECT t.* REPLACE (coalesce(m.n, 0) AS n_messages)
        FROM (FROM readable_traces n {_owned(schema.TABLES["traces"])}) t
        LEFT JOIN ({views.totals("readable_calls")}) s USING (trace_id)
        LEFT JOIN (SELECT trace_id, count(*) AS n FROM complete_messages GROUP BY ALL) m
        USING (trace_id)
        LEFT JOIN (SELECT trace_id, count(*) AS n FROM readable_tool_calls
          WHERE error_type IS DISTINCT FROM '{NOT_RUN}' GROUP BY ALL) k USING (trace_id)
        WHERE {is_complete} AND t.n_tool_calls = coalesce(k.n, 0)
          AND t.n_calls = coalesce(s.n_calls, 0)
          AND (s.trace_id IS NULL AND t.n_calls = 0 OR {sums})"""
    )


def _from_spool(store: Store, target: Store, done: RepairReport) -> int:
    """Take what waits in the spool, which stays where it is."""
    segments = spool.segments(store.spool_dir)
    live = [segment.path.name for segment in segments if segment.live]
    if live:
        done.notes.append(f"a collector still writes {', '.join(live)}; repair again when it ended")
    records: list[AnyRecord] = []
    n_bad = 0
    for segment in segments:
        batch = spool.read_segment(segment.path)
        records += batch.records
        n_bad += len(batch.bad)
    if n_bad:
        done.notes.append(
            f"{formats.counted(n_bad, 'line')} of the spool {store.spool_dir} cannot be read"
        )
    for folder in (spool.ARRIVED, spool.BATCHES):
        if (store.spool_dir / folder).is_dir() and any((store.spool_dir / folder).iterdir()):
            done.notes.append(
                f"what unfinished attempts have received stays in {store.spool_dir / folder}"
            )
    return target.ingest(records).rows_new.get("traces", 0) if records else 0


def _from_backup(backup: Path, target: Store) -> int:
    """Merge a backup by way of a copy, which can be brought up to date."""
    with copies.open_backup(backup, target.path.parent) as store:
        return _merged(store.path, target)


def _merged(source: Path, target: Store) -> int:
    """Merge a source; returns how many traces were new.

    Rows of the damaged store that could be read are newer than those of its backups.
    """
    return target.merge(source, prefer="mine").rows_new.get("traces", 0)


def _count_lost(
    done: RepairReport, readable: ReadableRows, n_before: int | None, target: Store
) -> None:
    for table, (n_lost, n_rows) in done.unreadable.items():
        n_there = int(target.sql(f"SELECT count(*) AS n FROM {table}")["n"][0])
        if n_there < n_rows:  # else another source had them, or they follow from other rows
            done.notes.append(
                f"{n_lost:,} of {formats.counted(n_rows, 'row')} of {table} cannot be read;"
                f" {n_there:,} are in the copy"
            )
    there = set(target.sql("SELECT trace_id FROM traces")["trace_id"])
    named = {i for frame in readable.get("traces", ()) for i in frame["trace_id"]}
    lost = sorted(named - there)
    if lost:
        done.notes.append(
            f"lost: {formats.counted(len(lost), 'trace')} whose calls, "
            f"or what they refer to, is damaged: {checks.listed(lost)}"
        )
    if parts := _without_traces(readable, there):
        done.notes.append(f"lost with their traces, though they could be read: {', '.join(parts)}")
    if n_before is None:
        done.notes.append("how many traces there were is not known")
    elif n_before > len(named):
        done.notes.append(
            f"{formats.counted(n_before - len(named), 'trace')} could not be read; "
            "what backups had of them is there"
        )


def _without_traces(readable: ReadableRows, there: set[str]) -> list[str]:
    """Count, by table, the rows that were read of traces that could not be saved."""
    counted = []
    for table, frames in readable.items():
        if "trace_id" not in schema.TABLES[table].names or table == "traces":
            continue
        lost = [row for frame in frames for row in frame["trace_id"] if row not in there]
        if lost:
            counted.append(
                f"{formats.counted(len(lost), 'row')} of {table} "
                f"(of {checks.listed(sorted(set(lost)), 3)})"
            )
    return counted
