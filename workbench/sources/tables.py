"""Tables in CSV, JSON, JSONL, YAML or Parquet, read by a mapping; shipped mappings are detected."""

import fnmatch
import hashlib
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Run, content_id, json_text
from workbench.sources.mapping import Mapping, load, load_shipped
from workbench.sources.report import FileReport
from workbench.sources.table_records import RowReader
from workbench.sources.table_rows import Row, open_table


class Tables:
    """Files of rows. Without a mapping, the shipped ones are tried."""

    name = "table"
    title = "CSV, JSON, JSONL, YAML or Parquet rows, with a mapping"

    def detect(self, path: Path) -> bool:
        """Whether a shipped mapping fits the file."""
        return match(path) is not None

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then tasks, items and configurations before what refers to them.

        Raises:
            ImportFormatError: no mapping fits, or a cell, row or the mapping is wrong.
        """
        chosen = load(mapping) if mapping else match(path)
        if chosen is None:
            raise ImportFormatError(why_not(path))
        report.format = f"{self.name}:{chosen.name}"
        yield from _records(path, chosen, report)


SOURCE = Tables()


def match(path: Path) -> Mapping | None:
    """Find the shipped mapping that fits a file."""
    opened: dict[str, tuple[set[str], set[str]]] = {}
    for mapping in load_shipped():
        if not named_by(mapping, path):
            continue
        if mapping.rows not in opened:
            opened[mapping.rows] = _names(path, mapping.rows)
        keys, columns = opened[mapping.rows]
        if columns and set(mapping.keys) <= keys and set(mapping.match_columns) <= columns:
            return mapping
    return None


def named_by(mapping: Mapping, path: Path) -> bool:
    """Whether a file's name is one that the mapping is for."""
    return not mapping.files or any(fnmatch.fnmatch(path.name, f) for f in mapping.files)


def _names(path: Path, rows: str) -> tuple[set[str], set[str]]:
    """Names beside the rows and in the first row; none where there are no such rows."""
    try:
        table = open_table(path, rows, FileReport(path))
        first = next(table.rows, None)
    except (ImportFormatError, OSError):
        return set(), set()
    return set(table.header) | {rows}, set(first[1]) if first else set()


def why_not(path: Path) -> str:
    """Say what was tried on a file that no mapping fits, and what to do."""
    from workbench.sources import sources

    formats = ", ".join(s.title for s in sources().values() if s.name != Tables.name)
    tried = ", ".join(m.name for m in load_shipped())
    columns = ""
    try:
        table = open_table(path, "", FileReport(path))
        first = next(table.rows, None)
        if first:
            columns = f" (its columns: {', '.join(list(first[1])[:20])})"
    except (ImportFormatError, OSError):
        columns = ""
    return (
        f"{path} is of no known format{columns}; tried: {formats}, and the mappings {tried}. "
        "To import any table of rows, write a mapping and pass it with --mapping FILE.toml: "
        "[columns] item = …, model = …, score = … name its columns, [constants] what is the same "
        "for all rows; workbench import --mapping-help shows the rest"
    )


def _records(path: Path, mapping: Mapping, report: FileReport) -> Iterator[AnyRecord]:
    table = open_table(path, mapping.rows, report, delimiter=mapping.delimiter)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    run_id = content_id("table", mapping.name, digest)
    reader = RowReader(path, table, mapping, run_id)
    if table.columns is not None:
        reader.check_columns(set(table.columns), final=False)
    if mapping.kind != "prices":
        yield Run(
            run_id=run_id,
            kind="import",
            source=f"table:{mapping.name}",
            origin=path.name,
            status="done",
            metadata=json_text({"sha256": digest}),
        )
    for place, row in table.rows:
        report.rows_in += 1
        if table.columns is None:
            reader.columns_seen.update(row)
        try:
            made = _made(reader, mapping.kind, row, place, report)
        except ImportFormatError as error:
            report.bad_row(str(error), error, read=0)
        else:
            yield from made
    if report.rows_in:
        reader.check_columns(reader.columns_seen, final=True)
        reader.note_unread(report)
    report.totals += reader.totals()


def _made(
    reader: RowReader, kind: str, row: Row, place: str, report: FileReport
) -> list[AnyRecord]:
    """Make the records of one row; all of its cells are read before the first one is given."""
    if kind == "traces":
        return reader.trace(row, place, report)
    made: list[AnyRecord] = (
        [reader.price(row, place, report)]
        if kind == "prices"
        else reader.results(row, place, report)
    )
    report.rows_out += 1
    return made
