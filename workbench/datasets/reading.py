"""Reading of a user's CSV, TSV, JSON Lines, JSON or Parquet file into rows of cells.

File sizes are checked before a file is read. Every error names the file, and the line or row.
"""

import codecs
import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from workbench.cells import delimiter as delimiter_of
from workbench.cells import is_empty, is_open
from workbench.datasets.spec import Header
from workbench.decoding import UNDECODABLE
from workbench.errors import TaskError

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".json", ".parquet")
MAX_BYTES = 1 << 30
MAX_ROWS = 1_000_000
_CELL_LIMIT = 10_000_000  # the CSV reader's default of 128 KiB is less than one long document
_BATCH_ROWS = 20_000
_LIST_FIELDS = ("data", "rows", "items", "examples", "questions", "instances", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        place: file and line, or file and number of the row, for messages.
        cells: the cells by column, without empty ones, nulls and NaN.
    """

    place: str
    cells: Mapping[str, Any]


@dataclasses.dataclass(slots=True)
class Table:
    """The rows of a file, its columns in order, and notes on guesses.

    Attributes:
        has_semicolons: whether semicolons separate the cells, as where numbers may have commas.
    """

    rows: list[Row]
    columns: list[str]
    notes: list[str]
    has_semicolons: bool = False


def read(path: Path, header: Header) -> Table:
    """Read a file by its suffix; encoding, delimiter and rows are the header's or detected.

    Raises:
        TaskError: the file is missing, too large or broken.
    """
    readers: dict[str, Callable[[Path, Header, list[str]], Iterator[Row]]] = {
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".json": _json_rows,
        ".parquet": _parquet_rows,
    }
    notes: list[str] = []
    _check_size(path)
    rows: list[Row] = []
    for row in readers.get(path.suffix.lower(), _line_rows)(path, header, notes):
        if len(rows) == MAX_ROWS:
            raise TaskError(f"{path}: more than {MAX_ROWS:,} rows; split the file")
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    is_csv = path.suffix.lower() == ".csv"
    has_semicolons = is_csv and (header.delimiter == ";" or _note(";") in notes)
    return Table(rows, columns, notes, has_semicolons)


def _check_size(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise TaskError(f"{path}: there is no such task file") from error
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from error
    if not path.is_file():  # a folder, a pipe, or a device, which may be endless
        raise TaskError(f"{path}: cannot be read: it is not a regular file")
    if status.st_size > MAX_BYTES:
        raise TaskError(
            f"{path}: {status.st_size / 1e9:.1f} GB, more than {MAX_BYTES / 1e9:.1f}; "
            "split the file"
        )


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file in the given encoding, or the one of its byte-order mark, or UTF-8."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TaskError(f"{path}: there is no such task file") from error
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode(encoding or _encoding(content))
    except LookupError as error:
        raise TaskError(f"{path}: encoding = {encoding!r} is not known") from error
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path}: not {encoding or 'UTF-8'} text, at byte {error.start}; "
            "save the file as UTF-8, or name its encoding,"
            ' for example encoding = "cp1252"'
        ) from error


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _filled(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell for name, cell in raw.items() if not is_empty(cell)}


def _decode(text: str) -> Any:
    """Decode JSON; NaN, which Python writes for missing values, becomes null."""
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE:
        return json.loads(text, parse_constant=lambda _: None)


def _line_rows(path: Path, header: Header, _: list[str]) -> Iterator[Row]:
    for number, line in enumerate(read_text(path, header.encoding).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            raw = _decode(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{place}: not a JSON object: {error}") from error
        if not isinstance(raw, dict):
            raise TaskError(f"{place}: not a JSON object: it is a {type(raw).__name__}")
        yield Row(place, _filled(raw))


def _json_rows(path: Path, header: Header, notes: list[str]) -> Iterator[Row]:
    text = read_text(path, header.encoding)
    try:
        document = _decode(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(
            f"{path}: not JSON: {error} (one object per line is a .jsonl file)"
        ) from error
    for number, raw in enumerate(_list_in(document, path, header, notes), 1):
        if not isinstance(raw, dict):
            raise TaskError(f"{path}, row {number}: a {type(raw).__name__}, not an object")
        yield Row(f"{path}, row {number}", _filled(raw))


def _list_in(document: Any, path: Path, header: Header, notes: list[str]) -> list[Any]:
    """Return the rows of a JSON document: the list, a field with a list, or objects by key."""
    if header.rows is not None:
        for name in header.rows.split("."):
            document = document.get(name) if isinstance(document, dict) else None
        if not isinstance(document, list):
            raise TaskError(f"{path}: rows = {header.rows!r} is not a list in this file")
        return document
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise TaskError(f"{path}: a {type(document).__name__}, not a list of objects")
    lists = [n for n, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
    likely = [n for n in _LIST_FIELDS if n in lists] or lists
    if likely and (len(lists) == 1 or likely[0] in _LIST_FIELDS):
        notes.append(f"rows: the list in field {likely[0]!r}")
        return list(document[likely[0]])
    if document and all(isinstance(v, dict) for v in document.values()):
        notes.append("rows: the objects of the file, their keys as `item`")
        return [{"item": key, **value} for key, value in document.items()]
    reason = f"several lists ({', '.join(lists)})" if lists else "no list of objects"
    raise TaskError(f'{path}: {reason}; name the field with the rows, for example rows = "data"')


def _csv_rows(path: Path, header: Header, notes: list[str]) -> Iterator[Row]:
    text = read_text(path, header.encoding)
    delimiter = header.delimiter or _delimiter(path, text, notes)
    if len(delimiter) != 1:
        raise TaskError(f"{path}: delimiter = {delimiter!r} is not one character")
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    names: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            place = f"{path}:{line}"
            line = reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _names(cells, place)
                continue
            if len(cells) > len(names):
                raise TaskError(f"{place}: more cells than the first line has names")
            yield Row(place, _filled(dict(zip(names, cells, strict=False))))
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not readable as CSV: {error}") from error


def _names(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    repeated = sorted({n for n in names if n and names.count(n) > 1})
    if repeated:
        raise TaskError(
            f"{place}: two columns are called {repeated[0]!r}; give each a name of its own"
        )
    return names


def _delimiter(path: Path, text: str, notes: list[str]) -> str:
    """Detect the delimiter in the first record, and note one that is not a comma."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    head, _, rest = text.lstrip("\r\n").partition("\n")
    while is_open(head) and rest:
        line, _, rest = rest.partition("\n")
        head = f"{head}\n{line}"
    delimiter = delimiter_of(head)
    if delimiter != ",":
        notes.append(_note(delimiter))
    return delimiter


def _note(delimiter: str) -> str:
    return f"delimiter: {delimiter!r}"


def _parquet_rows(path: Path, _: Header, __: list[str]) -> Iterator[Row]:
    import polars as pl

    try:
        frame = pl.scan_parquet(path, glob=False)
        count = frame.select(pl.len()).collect().item()
        if count > MAX_ROWS:
            raise TaskError(f"{path}: {count:,} rows, more than {MAX_ROWS:,}; split the file")
        size = 0.0
        for start in range(0, count, _BATCH_ROWS):
            batch = frame.slice(start, _BATCH_ROWS).collect()
            size += batch.estimated_size()
            if size > 2 * MAX_BYTES:
                raise TaskError(
                    f"{path}: more than {2 * MAX_BYTES / 1e9:.1f} GB once unpacked; split the file"
                )
            for number, raw in enumerate(batch.iter_rows(named=True), start + 1):
                yield Row(f"{path}, row {number}", _filled(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise TaskError(f"{path}: not readable as Parquet: {reason}") from error
