"""Source of tables in CSV, JSON, JSONL, YAML or Parquet, read with a mapping.

If the user gives no mapping, the shipped ones are tried.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Rows, Run, content_id, json_text
from workbench.sources.report import FileReport
from workbench.sources.tables.columns import Mapping
from workbench.sources.tables.mapping import load, load_shipped
from workbench.sources.tables.paths import Found, file_names
from workbench.sources.tables.row_stream import RowStream
from workbench.sources.tables.table_records import RowReader
from workbench.sources.tables.table_rows import Table, open_table


class Tables:
    """Source of files of rows."""

    name = "table"
    title = "CSV, JSON, JSONL, YAML or Parquet rows, with a mapping"

    def detect(self, path: Path) -> bool:
        """Return whether a shipped mapping matches the file."""
        return find_mapping(path) is not None

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then each row's records, each one after those that it refers to.

        Raises:
            ImportFormatError: no mapping matches, or a cell, row or the mapping is wrong.
        """
        for piece in self.read_rows(path, report=report, mapping=mapping, in_bulk=False):
            assert not isinstance(piece, Rows), "rows come in bulk only where that is asked for"
            yield piece

    def read_rows(
        self,
        path: Path,
        *,
        report: FileReport,
        mapping: str | Path | None = None,
        in_bulk: bool = True,
    ) -> Iterator[AnyRecord | Rows]:
        """Yield as `read` does, and many rows at once where the file and its mapping allow it."""
        chosen = load(mapping) if mapping else find_mapping(path)
        if chosen is None:
            raise ImportFormatError(why_not(path))
        report.format = f"{self.name}:{chosen.name}"
        yield from records(path, chosen, report, in_bulk=in_bulk)


SOURCE = Tables()


def find_mapping(path: Path) -> Mapping | None:
    """Return the shipped mapping that matches a file; None without one."""
    names_by_path: dict[str, tuple[set[str], set[str]]] = {}
    for mapping in load_shipped():
        if not matches_name(mapping, path):
            continue
        if mapping.rows not in names_by_path:
            names_by_path[mapping.rows] = _names(path, mapping.rows)
        keys, columns = names_by_path[mapping.rows]
        if columns and set(mapping.keys) <= keys and set(mapping.match_columns) <= columns:
            return mapping
    return None


def matches_name(mapping: Mapping, path: Path) -> bool:
    """Return whether a file's name matches the mapping's patterns."""
    return not mapping.files or any(
        file_names(pattern, path.absolute()) is not None for pattern in mapping.files
    )


def _names(path: Path, rows: str) -> tuple[set[str], set[str]]:
    """Return the names of the fields beside the rows, and those of the first row."""
    try:
        table = open_table(path, rows, FileReport(path))
        first = next(table.rows, None)
    except (ImportFormatError, OSError):
        return set(), set()
    beside = set(first.beside) if first else set()
    return set(table.header) | beside | {rows}, set(first.cells) if first else set()


def why_not(path: Path) -> str:
    """Explain which formats were tried on a file, and what to do."""
    from workbench.sources import sources

    formats = ", ".join(s.title for s in sources().values() if s.name != Tables.name)
    mappings = ", ".join(m.name for m in load_shipped())
    columns = ""
    try:
        table = open_table(path, "", FileReport(path))
        first = next(table.rows, None)
        if first:
            columns = f" (its columns: {', '.join(list(first.cells)[:20])})"
    except (ImportFormatError, OSError):
        columns = ""
    return (
        f"{path} is of no known format{columns}; tried: {formats}, and the mappings {mappings}. "
        "To import any table of rows, write a mapping and pass it with --mapping FILE.toml: "
        "[columns] item = …, model = …, score = … gives the columns, [constants] the values that "
        "all rows share; workbench docs mapping explains the rest"
    )


def records(
    path: Path, mapping: Mapping, report: FileReport, *, in_bulk: bool
) -> Iterator[AnyRecord | Rows]:
    """Yield the records of a file by a mapping.

    Raises:
        ImportFormatError: a cell or row is wrong, or the mapping does not fit the file.
    """
    stream = RowStream(path, mapping)
    table = stream.open(report)
    digests = [_digest(file) for file in (path, *map(stream.joined_file, mapping.joins))]
    run_id = content_id("table", mapping.name, *digests)
    reader = RowReader(stream, table, run_id)
    if table.columns is not None:
        reader.check_columns(set(table.columns), final=False)
    if mapping.kind != "prices":
        yield Run(
            run_id=run_id,
            kind="import",
            source=f"table:{mapping.name}",
            origin=path.name,
            status="done",
            metadata=json_text({"sha256": digests[0]}),
        )
    for found in _pieces(reader, table, report, in_bulk=in_bulk):
        if not isinstance(found, Found):
            yield found
            continue
        report.rows_in += 1
        if table.columns is None:
            reader.columns_seen.update(found.cells)
        try:
            records = _row_records(reader, mapping.kind, found, report)
        except ImportFormatError as error:
            report.bad_row(str(error), error, read=0)
        else:
            yield from records
    yield from reader.grouped(report)
    if report.rows_in:
        reader.check_columns(reader.columns_seen, final=True)
        reader.note_unread(report)
    report.totals += reader.totals()


def _pieces(
    reader: RowReader, table: Table, report: FileReport, *, in_bulk: bool
) -> Iterator[Found | AnyRecord | Rows]:
    """Yield the rows one by one, or in bulk where the file and its mapping allow it."""
    if in_bulk and table.is_text:
        from workbench.sources.tables.bulk import table_frames  # Polars takes a while to load

        if table_frames.is_plain(reader.mapping):
            yield from table_frames.FrameReader(reader, table.delimiter).pieces(report)
            return
    yield from reader.stream.rows(table, report)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImportFormatError(f"{path} cannot be read: {reason}") from error


def _row_records(reader: RowReader, kind: str, found: Found, report: FileReport) -> list[AnyRecord]:
    """Build the records of one row; no record is returned if one of its cells is wrong."""
    if kind == "traces":
        return reader.trace(found, report)
    records: list[AnyRecord] = (
        [reader.price(found, report)] if kind == "prices" else reader.results(found, report)
    )
    report.rows_out += 1
    return records
