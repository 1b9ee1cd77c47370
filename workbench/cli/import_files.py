"""Import of the files that a walk found: small ones together, unchanged ones not again."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import sources
from workbench.cli.import_report import ImportOutcome
from workbench.errors import StoreError, WorkbenchError
from workbench.records import AnyRecord, Rows, Trace
from workbench.store.groups import Group
from workbench.store.imported_files import MAX_TRACES, ImportedFiles
from workbench.store.ingest import IngestReport
from workbench.version import __version__

if TYPE_CHECKING:
    from workbench.sources import DetectedFile, FileReport, Source
    from workbench.store import Store

SMALL_BYTES = 16 << 20  # larger files are read as a stream, each in a transaction of its own
GROUP_BYTES = 64 << 20


class FileImporter:
    """Imports files; those that are small share a transaction, so that each costs less."""

    def __init__(
        self,
        store: "Store | None",
        *,
        mapping: str | None = None,
        source: "Source | None" = None,
        skip_bad_rows: bool = False,
    ) -> None:
        """Prepare.

        Args:
            store: where to; None reads only.
            mapping: mapping of tables.
            source: source of all files; None detects each.
            skip_bad_rows: skip rows that cannot be read.
        """
        self._reading: FileReport | None = None
        self._n_bytes_done = 0
        self._store = store
        self._mapping = mapping
        self._source = source
        self._skip_bad_rows = skip_bad_rows
        # what was read in another way says nothing on what this way would read
        usual = mapping is None and source is None and not skip_bad_rows
        self._known = ImportedFiles(store, __version__) if store is not None and usual else None
        self._group = Group()
        self._group_bytes = 0
        self._waiting: list[ImportOutcome | _Read] = []

    def files(
        self, files: Iterable["DetectedFile"], *, named: Path | None = None
    ) -> Iterator[ImportOutcome]:
        """Import files; yields their outcomes in order, some later than the file was read.

        Args:
            files: the files.
            named: the file that the user named, if it is one: it is read although it did not
                change, and it fails if its format is unknown.
        """
        for file in files:
            yield from self._file(file, is_named=file.path == named)
            self._reading = None
            self._n_bytes_done += size_of(file.path)
        yield from self._flush()
        if self._known is not None:
            self._known.save()

    @property
    def n_bytes_read(self) -> int:
        """Bytes of the files that were read, and so far of the one that is being read."""
        reading = self._reading
        return self._n_bytes_done + (reading.n_bytes if reading is not None else 0)

    def _unchanged(self, path: Path) -> list[str] | None:
        if self._known is None:
            return None
        try:
            return self._known.traces(path, path.stat())
        except OSError:
            return None

    def _file(self, file: "DetectedFile", *, is_named: bool) -> Iterator[ImportOutcome]:
        path = file.path
        if file.read_with is not None:
            self._waiting.append(ImportOutcome(path, skipped="read with another file"))
            return
        if file.source is None:
            reason = sources.why_not(path)
            self._waiting.append(
                ImportOutcome(path, failed=reason)
                if is_named
                else ImportOutcome(path, skipped=reason, is_unknown=True)
            )
            return
        known = None if is_named else self._unchanged(path)
        if known is not None:
            ingested = IngestReport()
            ingested.count("traces", len(known), 0)
            self._waiting.append(ImportOutcome(path, ingest=ingested, is_unchanged=True))
            return
        yield from self._read(file)

    def _read(self, file: "DetectedFile") -> Iterator[ImportOutcome]:
        """Read a file; a small one joins the group, a large one is ingested as it is read."""
        report = sources.FileReport(file.path, skip_bad_rows=self._skip_bad_rows)
        self._reading = report
        try:
            status = file.path.stat()
            source = self._source or file.source
            records = sources.read_rows(
                file.path, report=report, mapping=self._mapping, source=source
            )
            if self._store is None:
                for _ in records:
                    pass
                yield ImportOutcome(file.path, report=report, skipped=report.why_empty)
                return
            read = _Read(file, report, status)
            n_bytes = status.st_size
            if source is not None:  # the index of a run is small, what it names may not be
                n_bytes += sum(map(size_of, sources.parts(file.path, source)))
            if n_bytes > SMALL_BYTES or hasattr(source, "read_rows"):
                yield from self._flush()
                yield self._done(read, self._store.ingest(read.noted(records)))
                return
            held = list(read.noted(records))
            if self._group_bytes + n_bytes > GROUP_BYTES or not self._group.takes(held):
                yield from self._flush()
                if not self._group.takes(held):
                    yield self._done(read, self._store.ingest(held))
                    return
            self._group_bytes += n_bytes
            self._waiting.append(read)
        except (WorkbenchError, OSError) as error:
            self._waiting.append(_failed(file.path, report, error))

    def _flush(self) -> Iterator[ImportOutcome]:
        """Ingest the group and yield all outcomes that wait."""
        group, waiting = self._group, self._waiting
        self._group, self._waiting, self._group_bytes = Group(), [], 0
        results = _ingested(group, self._store) if self._store is not None else iter(())
        for one in waiting:
            if isinstance(one, ImportOutcome):
                yield one
                continue
            result = next(results)
            if isinstance(result, WorkbenchError):
                yield _failed(one.file.path, one.report, result)
            else:
                yield self._done(one, result)

    def _done(self, read: "_Read", ingested: IngestReport) -> ImportOutcome:
        """Note a file that was imported whole, so that it is not read again."""
        path, report = read.file.path, read.report
        is_whole = report.is_whole or bool(report.why_empty)
        # of files that are read together each may change
        if self._known is not None and is_whole and not hasattr(read.file.source, "parts"):
            self._known.add(path, read.status, read.trace_ids)
        return ImportOutcome(path, report=report, ingest=ingested, skipped=report.why_empty)


@dataclasses.dataclass
class _Read:
    """A file that was read, and the traces in it."""

    file: "DetectedFile"
    report: "FileReport"
    status: os.stat_result
    trace_ids: list[str] = dataclasses.field(default_factory=list)

    def noted(self, records: Iterable[AnyRecord | Rows]) -> Iterator[AnyRecord | Rows]:
        """Yield records, and note the ids of traces; so many that no list holds them are cut."""
        for record in records:
            if isinstance(record, Rows):
                self.trace_ids = ["rows"] * (MAX_TRACES + 1)
            elif isinstance(record, Trace) and len(self.trace_ids) <= MAX_TRACES:
                self.trace_ids.append(record.trace_id)
            yield record


def size_of(path: Path) -> int:
    """Return the size of a file; 0 if it has vanished."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _failed(path: Path, report: "FileReport | None", error: Exception) -> ImportOutcome:
    if isinstance(error, OSError):
        return ImportOutcome(path, report=report, failed=f"{path}: {error.strerror or error}")
    is_busy = isinstance(error, StoreError)
    return ImportOutcome(path, report=report, failed=str(error), is_store_busy=is_busy)


def _ingested(group: Group, store: "Store") -> Iterator[IngestReport | WorkbenchError]:
    """Yield the report of each file of a group; one that is refused leaves the others."""
    try:
        reports, notes = group.ingest(store)
    except WorkbenchError as error:
        if len(group.files) == 1:
            yield error
            return
        for records in group.files:
            try:
                yield store.ingest(records)
            except WorkbenchError as refused:
                yield refused
        return
    if reports:
        reports[-1].notes += notes
    yield from reports
