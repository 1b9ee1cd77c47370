"""Rows of a table (CSV, JSON, JSONL, YAML, Parquet) as dictionaries, read one by one."""

import csv
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from workbench import cells
from workbench.errors import ImportFormatError
from workbench.sources import json_bytes
from workbench.sources.report import FileReport
from workbench.sources.tables.paths import (
    EACH,
    VALUE,
    Found,
    Key,
    Row,
    Unfolding,
    Values,
    row_steps,
    shown,
)

if TYPE_CHECKING:
    import pyarrow as pa

YAML_LIMIT = 64 * 2**20  # bytes; a loaded YAML file takes about fifty times its size
ALIAS_FREE = 100_000  # values; up to this number, aliases may repeat values without limit
ALIAS_RATIO = 10  # above it, aliases may repeat each written value ten times on average
CELL_LIMIT = 2**26  # bytes
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".parquet": "parquet",
}
_ANY = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])

_SEPARATOR = re.compile(r"sep=([,;\t|])")
_NO_ROWS = "places on the path to the rows that hold none"


@dataclasses.dataclass(slots=True)
class Table:
    """The rows of one file, and the fields beside them.

    Attributes:
        header: fields beside the rows, if they are the same for all rows.
        columns: names known before the first row (CSV, Parquet), else None.
        rows: the rows, each with its place.
        is_text: whether all cells are texts, also numbers and flags (CSV).
        delimiter: the delimiter of a CSV; "" for other files.
    """

    header: Mapping[str, Any]
    columns: tuple[str, ...] | None
    rows: Iterator[Found]
    is_text: bool = False
    delimiter: str = ""


def file_kind(path: Path) -> str | None:
    """Return the kind of a file by its first bytes, else by its name; None if it is no table."""
    with path.open("rb") as file:
        head = file.read(4096)
    by_name = _SUFFIXES.get(path.suffix.lower())
    if head[:4] == b"PAR1":
        return "parquet"
    if by_name == "parquet" or b"\0" in head:
        return by_name if by_name and head[:2] in {b"\xff\xfe", b"\xfe\xff"} else None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"{" and by_name not in {"json", "yaml", "csv"}:
        return "jsonl" if b"\n{" in head or by_name == "jsonl" else "json"
    return by_name or ("json" if start == b"[" else None)


def open_table(path: Path, rows_path: str, report: FileReport, *, delimiter: str = "") -> Table:
    """Open a file of rows.

    Args:
        path: the file.
        rows_path: path to the rows in JSON or YAML; one with `[]` or `{name}` leads to rows within
            each row of the other files too.
        report: gets notes, and the rows that cannot be read.
        delimiter: delimiter of a CSV; "" detects it in the first line.

    Raises:
        ImportFormatError: the file's kind is unknown, or it is broken.
    """
    kind = file_kind(path)
    if kind is None:
        known = ", ".join(sorted(_SUFFIXES))
        raise ImportFormatError(f"{path} is not a table; the file types that are read: {known}")
    documents: dict[str, Callable[[Path, str, FileReport], Table]] = {"json": _json, "yaml": _yaml}
    if kind in documents:
        return documents[kind](path, rows_path, report)
    lists: dict[str, Callable[[Path, FileReport], Table]] = {"jsonl": _jsonl, "parquet": _parquet}
    table = _csv(path, report, delimiter) if kind == "csv" else lists[kind](path, report)
    if is_plain(rows_path):
        return table
    rows = _within_rows(table.rows, rows_path, path, report)
    return dataclasses.replace(table, rows=rows, columns=None)


def is_plain(rows_path: str) -> bool:
    """Return whether a path leads to one place, so that it has neither `[]` nor `{name}`."""
    return not any(step == EACH or isinstance(step, Key) for step in row_steps(rows_path))


def _within_rows(
    rows: Iterator[Found], rows_path: str, path: Path, report: FileReport
) -> Iterator[Found]:
    """Yield the rows within each row; the cells of the outer row are beside them."""

    def empty(_place: str) -> None:
        report.notes[_NO_ROWS] += 1

    first: Found | None = None
    has_rows = False
    for outer in rows:
        first = first or outer
        where = f"{path}, {outer.place}"
        unfolding = Unfolding(Values(), rows_path, where, empty, is_optional=True)
        try:
            for place, node, beside, names in unfolding.rows(outer.cells):
                has_rows = True
                yield _found(f"{outer.place}, {place}", node, beside, names)
        except ImportFormatError as error:
            report.bad_row(str(error), error)
    if first is not None and not has_rows and not report.bad_rows.n:
        there = ", ".join(list(first.cells)[:20])
        raise ImportFormatError(
            f"{path}: rows = {rows_path!r} leads to no row; {first.place} has {there}"
        )


def _found(place: str, node: Any, beside: Mapping[str, Any], names: Row) -> Found:
    """Return a row that `[]` or `{name}` led to; what is no object is the value of @value."""
    if isinstance(node, dict):
        return Found(place, _with_text_names(node), beside, names)
    return Found(place, {}, beside, {**names, VALUE: node})


def _csv(path: Path, report: FileReport, delimiter: str) -> Table:
    lines = text_lines(path)
    names, delimiter, n_lines = _read_csv_head(path, lines, delimiter)
    head = CsvHead(tuple(names), delimiter, 0, n_lines + 1)
    rows = csv_rows(path, lines, head, head.line, report)
    return Table({}, tuple(names), rows, is_text=True, delimiter=delimiter)


class CsvHead(NamedTuple):
    """The head of a CSV.

    Attributes:
        names: names of the columns.
        delimiter: the delimiter.
        start: offset of the first row.
        line: number of its line.
    """

    names: tuple[str, ...]
    delimiter: str
    start: int
    line: int


def csv_rows(
    path: Path, lines: Iterator[str], head: CsvHead, first: int, report: FileReport
) -> Iterator[Found]:
    """Yield the rows of lines of a CSV.

    Args:
        path: the file, for messages.
        lines: the lines below the head, or from the beginning of a later row on.
        head: the head of the file.
        first: number of the first line.
        report: gets the rows that have more or fewer cells.
    """
    names = head.names
    csv.field_size_limit(CELL_LIMIT)  # the default of 128 KiB is less than one long answer
    reader = csv.reader(lines, delimiter=head.delimiter, strict=True)
    start = first
    try:
        for cells_ in reader:
            place = f"line {start}"
            start = reader.line_num + first
            if len(cells_) == len(names):
                yield Found(place, dict(zip(names, cells_, strict=True)))
            elif cells_:
                n = f"{len(cells_)} cells, but the head names {len(names)}"
                report.bad_row(f"{path}, {place}: {n}")
    except csv.Error as error:
        raise ImportFormatError(f"{path}, line {start}: {error}") from error


def csv_head(path: Path, delimiter: str) -> CsvHead:
    """Read the head of a CSV.

    Args:
        path: the file.
        delimiter: the delimiter; "" detects it.

    Raises:
        ImportFormatError: it names no columns, or some twice, or is not UTF-8.
    """
    names, delimiter, n_lines = _read_csv_head(path, text_lines(path), delimiter)
    with path.open("rb") as file:
        for _ in range(n_lines):
            file.readline()
        return CsvHead(tuple(names), delimiter, file.tell(), n_lines + 1)


def _read_csv_head(path: Path, lines: Iterator[str], delimiter: str) -> tuple[list[str], str, int]:
    """Read the head of a CSV: (names of the columns, delimiter, number of lines read)."""
    head = [next(lines, "")]
    n_before = 0
    if separator := _SEPARATOR.fullmatch(head[0].strip()):  # spreadsheets write it before the names
        delimiter = delimiter or separator[1]
        head = [next(lines, "")]
        n_before = 1
    while cells.is_open("".join(head)) and (line := next(lines, None)) is not None:
        head.append(line)
    delimiter = delimiter or cells.delimiter("".join(head))
    try:
        names = [n.strip() for n in next(csv.reader(iter(head), delimiter=delimiter), [])]
    except csv.Error as error:
        raise ImportFormatError(f"{path}, line {n_before + 1}: {error}") from error
    if not any(names) or len(set(names)) != len(names):
        where = f"{path}, line {n_before + 1}"
        raise ImportFormatError(f"{where}: column names are missing or repeated: {names}")
    return names, delimiter, n_before + len(head)


def text_lines(path: Path, offset: int = 0) -> Iterator[str]:
    """Yield the lines of a UTF-8 file from an offset on; errors name the byte's offset."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not offset and line[:2] in {b"\xff\xfe", b"\xfe\xff"}:
                raise ImportFormatError(f"{path} is UTF-16, from byte 0 on; save it as UTF-8")
            text = line.removeprefix(b"\xef\xbb\xbf") if not offset else line
            try:
                yield text.decode()
            except UnicodeDecodeError as error:
                at = offset + len(line) - len(text) + error.start
                raise ImportFormatError(
                    f"{path} is not UTF-8 at byte {at}; save it as UTF-8"
                ) from error
            offset += len(line)


def _jsonl(path: Path, report: FileReport) -> Table:
    def rows() -> Iterator[Found]:
        for number, line in enumerate(text_lines(path), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = _as_row(json_bytes.decode(_ANY, line.encode(), where, report), where)
            except ImportFormatError as error:
                report.bad_row(str(error), error)
                continue
            yield Found(f"line {number}", row)

    return Table({}, None, rows())


class _RawNodes:
    """Nodes of a JSON document, each parsed only where a path leads."""

    def __init__(self, report: FileReport) -> None:
        self._report = report

    def members(self, node: Any, where: str) -> Mapping[str, Any] | None:
        if _first_byte(node) != b"{":
            return None
        return json_bytes.decode(_OBJECT, _view(node), where, self._report)

    def elements(self, node: Any, where: str) -> list[Any] | None:
        if _first_byte(node) != b"[":
            return None
        return json_bytes.decode(_LIST, _view(node), where, self._report)

    def value(self, node: Any, where: str) -> Any:
        return json_bytes.decode(_ANY, _view(node), where, self._report)


def _json(path: Path, rows_path: str, report: FileReport) -> Table:
    nodes = _RawNodes(report)

    def empty(_place: str) -> None:
        report.notes[_NO_ROWS] += 1

    unfolding = Unfolding(nodes, rows_path, str(path), empty)
    root = json_bytes.document(path)
    if not is_plain(rows_path):
        return Table({}, None, _json_rows(unfolding.rows(root), path, nodes, report))
    place, node, header, _ = next(unfolding.rows(root))
    if _first_byte(node) == b"{":
        parts = [node]  # an object is one row
    else:
        where = f"{path}, {rows_path or 'root'}"
        parts = json_bytes.decode(_LIST, _view(node), where, report)

    def rows() -> Iterator[Found]:
        for number, part in enumerate(parts):
            at = f"{place}[{number}]"
            where = f"{path}, {at}"
            try:
                row = _as_row(nodes.value(part, where), where)
            except ImportFormatError as error:
                report.bad_row(str(error), error)
                continue
            yield Found(at, row, header)

    return Table(header, None, rows())


def _json_rows(
    places: Iterator[tuple[str, Any, Mapping[str, Any], Row]],
    path: Path,
    nodes: _RawNodes,
    report: FileReport,
) -> Iterator[Found]:
    for place, node, beside, names in places:
        try:
            value = nodes.value(node, f"{path}, {place}")
        except ImportFormatError as error:
            report.bad_row(str(error), error)
            continue
        yield _found(place, value, beside, names)


def _first_byte(node: memoryview | msgspec.Raw) -> bytes:
    return bytes(_view(node)[:4096]).lstrip()[:1]


def _view(part: memoryview | msgspec.Raw) -> memoryview:
    return part if isinstance(part, memoryview) else memoryview(part)


def _check_aliases(root: Any, path: Path) -> None:
    """Refuse aliases that multiply the document's size, or that contain themselves.

    Args:
        root: the root node of a document; an alias is the same object as the node it refers to.
        path: the file, for the message.

    Raises:
        ImportFormatError: the document has such aliases.
    """
    sizes: dict[int, int] = {}  # number of values of a node, with aliases expanded
    entered: set[int] = set()
    stack = [] if root is None else [root]
    while stack:
        node = stack[-1]
        parts = _parts(stack[-1])
        if id(node) in sizes:
            stack.pop()
        elif id(node) in entered:
            stack.pop()
            sizes[id(node)] = 1 + sum(sizes.get(id(part), 0) for part in parts)
        else:
            entered.add(id(node))
            if any(id(part) in entered and id(part) not in sizes for part in parts):
                raise ImportFormatError(f"{path} has an alias that contains itself; not read")
            stack += [part for part in parts if id(part) not in sizes]
    if root is not None and sizes[id(root)] > ALIAS_FREE + ALIAS_RATIO * len(sizes):
        raise ImportFormatError(
            f"the aliases of {path} make {sizes[id(root)]:,} values of {len(sizes):,}; "
            "not read: write the rows out, or convert it to JSON lines"
        )


def _parts(node: Any) -> list[Any]:
    """Return the direct children of a YAML node; those of a mapping are pairs."""
    value = node.value
    if isinstance(value, str):
        return []
    return [part for pair in value for part in (pair if isinstance(pair, tuple) else (pair,))]


def _yaml(path: Path, rows_path: str, report: FileReport) -> Table:
    import yaml

    if path.stat().st_size > YAML_LIMIT:
        raise ImportFormatError(f"{path} is over 64 MB of YAML; convert it to JSON lines")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)("".join(text_lines(path)))
    try:
        node = loader.get_single_node()
        _check_aliases(node, path)  # before construction, which copies merged mappings
        value = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ImportFormatError(f"{path} is not YAML: {error}") from error
    finally:
        loader.dispose()

    def empty(_place: str) -> None:
        report.notes[_NO_ROWS] += 1

    unfolding = Unfolding(Values(), rows_path, str(path), empty)
    if not is_plain(rows_path):
        found = (_found(*place) for place in unfolding.rows(value))
        return Table({}, None, found)
    place, value, header, _ = next(unfolding.rows(value))
    if not isinstance(value, list):
        where = rows_path or "the root"
        raise ImportFormatError(f"{path}: {where} is not a list of rows, but {shown(value)}")
    rows = (
        Found(f"{place}[{i}]", _as_row(row, f"{path}, {place}[{i}]"), header)
        for i, row in enumerate(value)
    )
    return Table(header, None, rows)


def _parquet(path: Path, report: FileReport) -> Table:
    del report
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ImportFormatError(f"{path} is not a Parquet file: {error}") from error

    def rows() -> Iterator[Found]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=4096):
                for row in _readable(batch).to_pylist():
                    number += 1
                    yield Found(f"row {number}", row)
        except (pa.ArrowException, OSError) as error:
            raise ImportFormatError(f"{path}, after row {number}: {error}") from error

    return Table({}, tuple(file.schema_arrow.names), rows())


def _readable(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Convert bytes to text, because older writers do not mark text, and nanoseconds to micros."""
    import pyarrow as pa

    columns = [_readable_column(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _readable_column(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return column.cast(pa.large_string())
        except pa.ArrowInvalid:  # the bytes are not UTF-8
            return column
    return column


def _as_row(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise ImportFormatError(f"{where}: a row must be an object, not {type(value).__name__}")
    return _with_text_names(value)


def _with_text_names(value: dict[Any, Any]) -> Row:
    """Convert the names of columns to texts: a key of YAML may be a number, a flag or a date."""
    if all(isinstance(name, str) for name in value):
        return value
    return {str(name): cell for name, cell in value.items()}
