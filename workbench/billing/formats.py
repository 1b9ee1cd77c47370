"""Formats of bills that are supported, and reading of a file in one of them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.billing import anthropic, deepseek, gateways, openai
from workbench.billing.bill import Bill
from workbench.billing.format import Format, Reader
from workbench.errors import ImportFormatError
from workbench.sources.report import FileReport
from workbench.sources.tables.table_rows import file_kind, open_table

FORMATS: tuple[Format, ...] = (
    *openai.FORMATS,
    *anthropic.FORMATS,
    *gateways.FORMATS,
    *deepseek.FORMATS,
)
_ROWS_TO_DETECT = 1000  # to detect the columns, because JSON omits empty ones


def read_bill(path: Path) -> Bill:
    """Read a provider's export: CSV, JSON (a page, or a list of pages or rows) or JSON lines.

    Raises:
        ImportFormatError: the format is unknown, there are no rows, or a cell is wrong.
    """
    report = FileReport(path)
    rows = _rows(path, report)
    first = list(itertools.islice(rows, _ROWS_TO_DETECT))
    if not first:
        raise ImportFormatError(f"{path} has no rows; export a period with requests")
    columns = frozenset(itertools.chain.from_iterable(row for _, row in first))
    format_ = next((f for f in FORMATS if f.matches(columns)), None)
    if format_ is None:
        known = ", ".join(dict.fromkeys(f.name for f in FORMATS))
        shown = ", ".join(sorted(map(str, columns))[:12])
        raise ImportFormatError(
            f"{path} is not a bill of a known format ({known}); its columns are: {shown}"
        )
    bill = Bill(path.name, format_.name, format_.service, format_.measures)
    reader = Reader(bill)
    for place, row in itertools.chain(first, rows):
        bill_row = format_.read(row, f"{path}, {place}", reader)
        if bill_row is not None:
            (bill.rows if bill_row.amounts else bill.periods).append(bill_row)
    if not bill.rows and not bill.periods:
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in bill.skipped.items())
        raise ImportFormatError(f"{path} contains no charge: {reasons}")
    return bill


def _rows(path: Path, report: FileReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file; a bucket of a page yields one row for each of its results."""
    if path.is_dir():
        raise ImportFormatError(f"{path} is a folder; name the bill's files")
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        raise ImportFormatError(f"{path} is a ZIP archive; unpack it and name the CSV files in it")
    for place, row, *_ in open_table(path, _rows_path(path), report).rows:
        for inner, part in _flatten(row):
            yield f"{place}{inner}", part


def _rows_path(path: Path) -> str:
    """Return the path of the rows in a JSON file: a page of an API has them in `data`."""
    if file_kind(path) != "json":
        return ""
    with path.open("rb") as file:
        is_object = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    return "data" if is_object else ""


def _flatten(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(row.get("data"), list):  # one of several pages
        for number, bucket in enumerate(row["data"]):
            if isinstance(bucket, dict):
                for inner, part in _flatten(bucket):
                    yield f".data[{number}]{inner}", part
        return
    results = row.get("results")
    if not isinstance(results, list):
        yield "", row
        return
    bucket = {name: value for name, value in row.items() if name not in {"results", "object"}}
    if not results:
        yield "", bucket
    for number, result in enumerate(results):
        if isinstance(result, dict):
            fields = {name: value for name, value in result.items() if name != "object"}
            yield f".results[{number}]", bucket | fields
