"""Rows of the CSV files that meters of energy write, checked for broken ones."""

import csv
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import ImportFormatError
from workbench.sources import heads
from workbench.sources.report import FileReport

KWH_J = 3.6e6
_MAX_FIELDS = 500


def header(path: Path) -> list[str]:
    """Return the column names of a CSV file, by its first line; [] if it is no text."""
    line = heads.start(path).split(b"\n", 1)[0].strip()
    try:
        names = next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    return [name.strip() for name in names] if len(names) <= _MAX_FIELDS else []


def rows(
    path: Path, report: FileReport, *, unquoted: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, values by column); a row with another number of values than columns is bad.

    Args:
        path: the file.
        report: gets the bad rows.
        unquoted: a column that is written without quotes, so that its commas split it; it is put
            together again.

    Raises:
        ImportFormatError: the file is not UTF-8, or a row cannot be read and rows are not skipped.
    """
    names = header(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                surplus = len(values) - len(names)
                if unquoted is not None and surplus > 0:
                    at = names.index(unquoted)
                    values[at : at + surplus + 1] = [",".join(values[at : at + surplus + 1])]
                if len(values) != len(names):
                    report.bad_row(
                        f"{path}, line {reader.line_num} has {len(values)} values for"
                        f" {len(names)} columns"
                    )
                    continue
                yield reader.line_num, dict(zip(names, values, strict=True))
    except UnicodeDecodeError as error:
        raise ImportFormatError(f"{path} is not UTF-8; save it as UTF-8") from error
    except csv.Error as error:
        raise ImportFormatError(f"{path} is no CSV: {error}") from error


def joules(text: str | None, scale: float = 1.0) -> float | None:
    """Return an energy in joules; None if the text is no number of at least 0."""
    from workbench.sources.serving.measured import number

    try:
        return number(float(text), scale) if text else None
    except ValueError:
        return None
