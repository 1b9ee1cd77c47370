"""Cells of bills: amounts as exact decimals, times, and names; an empty cell is unknown."""

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from workbench import cells
from workbench.errors import ImportFormatError

Row = Mapping[str, Any]
_MOST_DIGITS = 15  # before the point: a larger cell is a mistake, or hostile
_EXACT = Decimal("0E-12")  # added to a number, it says that no decimal was rounded away
_YEARS = range(2000, 2200)

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 1,234,567.89


def amount(row: Row, column: str, place: str) -> Decimal | None:
    """Read a number exactly as it is printed; None where the cell is empty or missing.

    Raises:
        ImportFormatError: the cell is no finite number.
    """
    cell = row.get(column)
    if cells.is_unknown(cell):
        return None
    try:
        # repr of a float is the shortest text that is the same number: as the bill printed it
        text = repr(cell) if isinstance(cell, float) else str(cell).strip().removeprefix("$")
        # 0,001 is a decimal comma, which no service writes, or damage: not a thousand times as much
        value = Decimal(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidOperation:
        value = Decimal("NaN")
    if isinstance(cell, bool) or not value.is_finite():
        raise ImportFormatError(f"{place}: {column} is {cell!r}, and no number")
    if value.adjusted() >= _MOST_DIGITS:  # arithmetic itself would fail on 1e999999999
        raise ImportFormatError(f"{place}: {column} is {cell!r}, which no bill can hold")
    # a text has the decimals that the bill prints, zeros too; a number of JSON is not rounded
    return value if isinstance(cell, str) else value + _EXACT


def count(row: Row, column: str, place: str) -> Decimal | None:
    """Read a count of tokens or requests.

    Raises:
        ImportFormatError: it is no whole number, or below 0.
    """
    value = amount(row, column, place)
    if value is not None and value < 0:
        raise ImportFormatError(f"{place}: {column} is {value}; a count cannot be below 0")
    if value is not None and value != int(value):
        raise ImportFormatError(f"{place}: {column} is {value}; a count is a whole number")
    return value


def total(*parts: Decimal | None) -> Decimal | None:
    """Add parts up; None where one is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known, Decimal(0)) if len(known) == len(parts) else None


def name(row: Row, *columns: str) -> str | None:
    """Read the first of some columns that holds a name."""
    for column in columns:
        cell = row.get(column)
        if cell is not None and str(cell).strip():
            return cells.text(cell).strip()
    return None


def time(row: Row, place: str, *columns: str) -> dt.datetime | dt.date | None:
    """Read a moment from the first of some columns that is filled; a bare date stays a date.

    A time without an offset has no `tzinfo`: it is of the zone that the bill is in.

    Raises:
        ImportFormatError: it is no time.
    """
    column = next((c for c in columns if not cells.is_unknown(row.get(c))), None)
    if column is None:
        return None
    try:
        found = _moment(row[column])
    except (ValueError, TypeError, OverflowError) as error:
        raise ImportFormatError(f"{place}: {column} is {row[column]!r}, and no time") from error
    if found.year not in _YEARS:
        raise ImportFormatError(f"{place}: {column} is {row[column]!r}, and no time of a bill")
    return found


def _moment(cell: object) -> dt.datetime | dt.date:
    text = str(cell).strip()
    try:
        if len(text) == len("2026-11-30") and not text.isdecimal():
            return dt.date.fromisoformat(text)
        if not text.isdecimal():
            return dt.datetime.fromisoformat(text)  # without an offset: of the bill's own zone
    except ValueError:
        pass  # another way to write a time
    return cells.moment(cell)


def object_of(row: Row, column: str) -> Mapping[str, Any]:
    """Read a cell that holds a JSON object, or its text; {} where it holds none."""
    cell = row.get(column)
    if isinstance(cell, str) and cell.lstrip()[:1] == "{":
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return {}
    return cell if isinstance(cell, Mapping) else {}
