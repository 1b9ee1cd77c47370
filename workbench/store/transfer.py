"""Transfer of whole tables between a store and its spool, other stores and Parquet folders."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import duckdb
import polars as pl

from workbench import formats, private, schema, spool
from workbench.errors import ImportFormatError, StoreError, StoreVersionError
from workbench.records import Attempt, Run, Trace, json_text
from workbench.store import (
    attempts,
    bundles,
    configurations,
    contradictions,
    database,
    exports,
    genuine,
    ingest,
    migrations,
    relations,
    scratch,
)
from workbench.store import frames as fr
from workbench.store.ingest import IngestReport

SPILL_BYTES = 512 << 20
_MERGED = "workbench_merged"  # the name under which another store is attached


class Staging:
    """Frames that wait for the lease: in memory, or in a folder beside the store when they grow."""

    def __init__(self, folder: Path, spill_bytes: int = SPILL_BYTES) -> None:
        self._folder = folder
        self._spill_bytes = spill_bytes
        self._held: list[fr.Frames | list[Path]] = []
        self._bytes = 0
        self._stack = contextlib.ExitStack()
        self._spilled: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, batch: fr.Frames) -> None:
        """Take one batch."""
        self._bytes += sum(int(frame.estimated_size()) for frame in batch.values())
        self._held.append(batch if self._bytes < self._spill_bytes else self._spill(batch))

    def _spill(self, batch: fr.Frames) -> list[Path]:
        if self._spilled is None:
            self._spilled = self._stack.enter_context(scratch.folder(self._folder, ".staging-"))
        folder = self._spilled / str(len(self._held))
        private.make_folder(folder)
        paths = []
        for name, frame in batch.items():
            if frame.height:
                paths.append(folder / f"{name}.parquet")
                with private.only_owner():
                    frame.write_parquet(paths[-1], compression_level=1)
        return paths

    def __iter__(self) -> Iterator[fr.Frames]:
        for held in self._held:
            yield (
                held
                if isinstance(held, dict)
                else {p.stem: pl.read_parquet(p, glob=False) for p in held}
            )


def ingest_spool(path: Path, folder: Path, store_id: str | None = None) -> IngestReport:
    """Write what waits in the spool, segment by segment; see `Store.ingest_spool`."""
    spool.check_private(folder)
    report = IngestReport()
    waiting = [
        segment
        for segment in spool.segments(folder)
        if store_id is None or spool.file_owner(segment.path) in {None, store_id}
    ]
    if not waiting:
        return report
    with database.reading(path) as connection:
        offsets = dict(connection.execute("FROM segments").fetchall())
    newest = {_run_of(s.path): s for s in waiting}
    for segment in waiting:
        offset = offsets.get(segment.path.name, 0)
        if segment.size > offset or not segment.live:
            last = newest[_run_of(segment.path)] is segment
            _ingest_segment(path, segment, offset, report, last=last, store_id=store_id)
    return report


def _run_of(segment: Path) -> str:
    return segment.stem.rsplit("-", 1)[0]


def _ingest_segment(
    path: Path,
    segment: spool.Segment,
    offset: int,
    report: IngestReport,
    *,
    last: bool,
    store_id: str | None = None,
) -> None:
    try:
        batch = spool.read_segment(segment.path, offset)
    except StoreError:
        if segment.path.exists():
            raise
        return  # another process has taken it in meanwhile
    finished = not segment.live
    with database.lease(path, store_id=store_id) as connection:
        for frames in fr.batches(batch.records):
            ingest.write_frames(connection, frames, report)
        connection.execute("DELETE FROM segments WHERE segment = ?", [segment.path.name])
        if finished and last:
            _note_interrupted(connection, segment.path, report)
        if not finished:
            connection.execute(
                "INSERT INTO segments VALUES (?, ?)", [segment.path.name, batch.end_offset]
            )
    if batch.bad:
        quarantined = spool.quarantine(segment.path, batch.bad)
        report.quarantined += len(quarantined)
        report.notes.append(
            f"{len(quarantined)} damaged lines of {segment.path.name} are kept in"
            f" {quarantined[0].parent}"
        )
    if finished:
        spool.remove(segment.path)


def _note_interrupted(
    connection: duckdb.DuckDBPyConnection, path: Path, report: IngestReport
) -> None:
    """Mark the unfinished runs of a writer that died, and count their attempts in flight."""
    try:
        records = spool.read_segment(path, 0).records
    except StoreError:
        if path.exists():
            raise
        return  # the process that ingested the segment has marked its runs
    runs = {r.run_id for r in records if isinstance(r, Run)}
    ended = {r.run_id for r in records if isinstance(r, Run) and r.ended_at is not None}
    done = {(r.configuration_id, r.item_id, r.trial) for r in records if isinstance(r, Trace)}
    for run_id in runs - ended:
        begun = {
            (r.configuration_id, r.item_id, r.trial)
            for r in records
            if isinstance(r, Attempt) and r.run_id == run_id
        }
        in_flight = len(begun - done)
        report.in_flight += in_flight
        connection.execute(
            "UPDATE runs SET status = 'interrupted', metadata = ? "
            "WHERE run_id = ? AND ended_at IS NULL",
            [json_text({"n_in_flight_at_end": in_flight}), run_id],
        )


def merge(
    path: Path,
    other: Path,
    store_id: str | None = None,
    *,
    as_tables: bool = False,
    prefer: contradictions.Prefer | None = None,
    passphrase: str | None = None,
) -> IngestReport:
    """Write what the store lacks of another store, an exported folder, a bundle, or a spool.

    Args:
        path: the store.
        other: what to read.
        store_id: of the store, so that nothing is written to another one in its place.
        as_tables: take the files of a folder as they are, whatever its manifest says or whether it
            has one.
        prefer: which side is right where both know a thing and say it differently; None takes
            nothing then.
        passphrase: of an encrypted bundle.

    Raises:
        ImportFormatError: it is not whole, or contradicts the store; nothing was written.
    """
    if bundles.is_bundle(other):
        with bundles.unpacked(other, path.parent, passphrase) as folder:
            return merge(path, folder, store_id, as_tables=as_tables, prefer=prefer)
    if other.exists() and path.exists() and other.samefile(path):
        raise ImportFormatError(f"{other} is the store itself; name another store to merge with it")
    report = IngestReport()
    if not exports.is_export(other) and spool.is_spool(other):
        return _merge_spool(path, other, store_id)
    is_folder = other.is_dir()
    if is_folder and not as_tables:
        exports.verify(other)
    if not is_folder:
        _check_layout(other)
    other = other.absolute()  # as what may be reached is named
    permissions = database.Permissions(
        folders=(other,) if is_folder else (), attached=None if is_folder else (_MERGED, other)
    )
    with database.lease(path, store_id=store_id, permissions=permissions) as connection:
        before = relations.damage(connection)
        new = _relations(connection, other, report)
        contradicting = contradictions.find(connection, new)
        if contradicting and prefer is None:
            raise ImportFormatError(_contradicted(other, contradicting))
        if contradicting and prefer is not None:
            new = contradictions.settle(connection, new, contradicting, prefer)
            report.notes += [
                f"{other} contradicts in {each}; taken: {prefer}" for each in contradicting
            ]
        ingest.write(connection, new, report)
        contradictions.complete(connection, new, report)
        configurations.settle(connection)
        _check_arrived(connection, new, other)
        if is_folder and report.rows_new.get("traces"):
            attempts.settle(connection)  # it may have been exported before layout 3
        if report.rows_new.get("prices") or contradictions.is_priced_otherwise(connection, new):
            ingest.reprice(connection)
        contradictions.derive(connection)
        _check_damage(connection, before, other)
    return report


def _relations(
    connection: duckdb.DuckDBPyConnection, other: Path, report: IngestReport
) -> dict[str, str]:
    """Name the tables of what is merged, each with exactly the columns of ours."""
    if other.is_dir():
        files = {t: other / f"{t}.parquet" for t in schema.TABLES}
        new = {t: exports.parquet(file) for t, file in files.items() if file.is_file()}
        new = {t: _whole(connection, t, relation, other) for t, relation in new.items()}
        return {t: _once(connection, t, relation, other, report) for t, relation in new.items()}
    return {t: f"{_MERGED}.main.{t}" for t in schema.TABLES}


def _contradicted(other: Path, contradicting: list[contradictions.Contradiction]) -> str:
    listed = "; ".join(map(str, contradicting))
    return (
        f"{other} contradicts this store in {listed}; nothing of it was taken. Say which is right: "
        "--prefer mine or --prefer theirs"
    )


def _check_arrived(
    connection: duckdb.DuckDBPyConnection, new: ingest.Relations, other: Path
) -> None:
    """Count the traces offered: each is in the store afterwards, new or known before."""
    if "traces" not in new:
        return
    lost = connection.execute(
        f"SELECT count(*) FROM {new['traces']} ANTI JOIN traces USING (trace_id)"
    ).fetchall()[0][0]
    if lost:
        raise ImportFormatError(
            f"{formats.counted(lost, 'trace')} of {other} did not arrive; nothing was taken"
        )


def _check_damage(
    connection: duckdb.DuckDBPyConnection, before: dict[str, int], other: Path
) -> None:
    """Run the checks of `doctor` that show damage, except for damage that was there before."""
    damage = relations.damage(connection)
    faults = [f"{n:,} {name}" for name, n in damage.items() if n > before.get(name, 0)]
    if faults:
        raise ImportFormatError(
            f"{other} is not whole, and nothing of it was taken: with it the store would have "
            f"{'; '.join(faults)}"
        )


def _merge_spool(path: Path, folder: Path, store_id: str | None) -> IngestReport:
    """Write what waits in a spool that belongs to another store, which is left as it is."""
    report = IngestReport()
    n_bad = 0
    with Staging(path.parent) as staging:
        for segment in spool.segments(folder):
            batch = spool.read_segment(segment.path)
            n_bad += len(batch.bad)
            for frames in fr.batches(batch.records):
                staging.add(frames)
        with database.lease(path, store_id=store_id) as connection:
            for frames in staging:
                ingest.write_frames(connection, frames, report)
    if n_bad:
        report.notes.append(f"{n_bad:,} damaged lines in {folder} were passed over")
    return report


def _check_layout(other: Path) -> None:
    with database.reading(other) as connection:
        layout = migrations.version(connection, other)
        genuine.check_tables(connection, other)
    if layout != schema.VERSION:
        raise StoreVersionError(
            f"{other} has layout {layout}, this store has {schema.VERSION}; "
            f"bring it up to date first with: workbench doctor --store {other}"
        )


def _whole(connection: duckdb.DuckDBPyConnection, table: str, relation: str, folder: Path) -> str:
    """Check a file's columns; those that came with a later layout than the file's are null."""
    present = {row[0] for row in connection.execute(f"DESCRIBE FROM {relation}").fetchall()}
    missing = [c for c in schema.TABLES[table].columns if c.name not in present]
    lost = [c.name for c in missing if c.since == 1]
    if lost:
        raise ImportFormatError(
            f"{folder / table}.parquet lacks the columns {', '.join(lost)}; export it again"
        )
    if not missing:
        return relation
    nulls = ", ".join(f'NULL::{c.sql_type} AS "{c.name}"' for c in missing)
    return f"(SELECT *, {nulls} FROM {relation})"


def _once(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    relation: str,
    folder: Path,
    report: IngestReport,
) -> str:
    """Remove duplicate rows of a file, as of two exports that were put together."""
    key = ", ".join(schema.TABLES[table].key)
    counted = f"SELECT count(*), count(DISTINCT ({key})) FROM"
    rows, keys = connection.execute(f"{counted} {relation}").fetchall()[0]
    if rows == keys:
        return relation
    file = folder / f"{table}.parquet"
    distinct = f"(SELECT DISTINCT * FROM {relation})"
    n_distinct = connection.execute(f"{counted} {distinct}").fetchall()[0][0]
    if n_distinct > keys:
        raise ImportFormatError(
            f"{file} has {n_distinct - keys:,} rows that contradict another one of the same {key}; "
            "import the exports that it was made of one by one"
        )
    report.notes.append(
        f"{file} holds {formats.counted(rows - keys, 'row')} more than once; taken once"
    )
    return distinct
