"""Parsing of cells of bills: exact amounts, counts, times and names; an empty cell is unknown."""

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from workbench import cells
from workbench.errors import ImportFormatError

Row = Mapping[str, Any]
_MAX_DIGITS = 15  # before the point; larger amounts are refused as errors
_UNROUNDED = Decimal("0E-12")  # added to a number, it gives it the decimals of an exact value
_YEARS = range(2000, 2200)

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 1,234,567.89


def amount(row: Row, column: str, place: str) -> Decimal | None:
    """Read a number exactly as printed; None if the cell is empty or missing.

    Raises:
        ImportFormatError: the cell is not a finite number.
    """
    cell = row.get(column)
    if cells.is_unknown(cell):
        return None
    try:
        # repr of a float is the shortest text of the same number, which is that of the bill
        text = repr(cell) if isinstance(cell, float) else str(cell).strip().removeprefix("$")
        # 0,001 is refused: no service writes decimal commas, and without the comma it would be 1
        value = Decimal(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidOperation:
        value = Decimal("NaN")
    if isinstance(cell, bool) or not value.is_finite():
        raise ImportFormatError(f"{place}: {column} is {cell!r}, which is not a number")
    if value.adjusted() >= _MAX_DIGITS:  # arithmetic would fail on 1e999999999
        raise ImportFormatError(f"{place}: {column} is {cell!r}, too large for a bill")
    # a text has the decimals that the bill prints, zeros included; a JSON number is exact
    return value if isinstance(cell, str) else value + _UNROUNDED


def count(row: Row, column: str, place: str) -> Decimal | None:
    """Read a count of tokens or requests.

    Raises:
        ImportFormatError: the cell is not a whole number of at least 0.
    """
    value = amount(row, column, place)
    if value is not None and value < 0:
        raise ImportFormatError(f"{place}: {column} is {value}; a count cannot be below 0")
    if value is not None and value != int(value):
        raise ImportFormatError(f"{place}: {column} is {value}; a count is a whole number")
    return value


def total(*parts: Decimal | None) -> Decimal | None:
    """Add parts up; None if one of them is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known, Decimal(0)) if len(known) == len(parts) else None


def name(row: Row, *columns: str) -> str | None:
    """Return the first cell of some columns that is not empty, as text."""
    for column in columns:
        cell = row.get(column)
        if cell is not None and str(cell).strip():
            return cells.text(cell).strip()
    return None


def time(row: Row, place: str, *columns: str) -> dt.datetime | dt.date | None:
    """Read a time from the first of some columns that is not empty; a date stays a date.

    A time without an offset has no `tzinfo`: it is in the bill's zone.

    Raises:
        ImportFormatError: the cell is not a time.
    """
    column = next((c for c in columns if not cells.is_unknown(row.get(c))), None)
    if column is None:
        return None
    try:
        moment = _parse_time(row[column])
    except (ValueError, TypeError, OverflowError) as error:
        raise ImportFormatError(
            f"{place}: {column} is {row[column]!r}, which is not a time"
        ) from error
    if moment.year not in _YEARS:
        raise ImportFormatError(
            f"{place}: {column} is {row[column]!r}, not a time from {_YEARS[0]} to {_YEARS[-1]}"
        )
    return moment


def _parse_time(cell: object) -> dt.datetime | dt.date:
    text = str(cell).strip()
    try:
        if len(text) == len("2026-11-30") and not text.isdecimal():
            return dt.date.fromisoformat(text)
        if not text.isdecimal():
            return dt.datetime.fromisoformat(text)  # without an offset it is in the bill's zone
    except ValueError:
        pass  # another format
    return cells.moment(cell)


def object_of(row: Row, column: str) -> Mapping[str, Any]:
    """Read a cell with a JSON object or its text; {} if it is neither."""
    cell = row.get(column)
    if isinstance(cell, str) and cell.lstrip()[:1] == "{":
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return {}
    return cell if isinstance(cell, Mapping) else {}
