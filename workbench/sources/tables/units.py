"""Units of table cells, and conversion of cells to the type and unit of a column of the store.

The store's units are s, J, W, USD, USD/Mtok, tokens, tokens/s and 0..1.
"""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from workbench import cells
from workbench.errors import ImportFormatError


class Unit(NamedTuple):
    """Unit of a file: × `times` ÷ `per` gives `store_unit`.

    The factors are whole numbers, so that 57 % is exactly 0.57.
    """

    times: int
    per: int
    store_unit: str


UNITS: dict[str, Unit] = {
    "s": Unit(1, 1, "s"),
    "ms": Unit(1, 10**3, "s"),
    "us": Unit(1, 10**6, "s"),
    "µs": Unit(1, 10**6, "s"),
    "ns": Unit(1, 10**9, "s"),
    "min": Unit(60, 1, "s"),
    "h": Unit(3600, 1, "s"),
    "J": Unit(1, 1, "J"),
    "mJ": Unit(1, 10**3, "J"),
    "kJ": Unit(10**3, 1, "J"),
    "Wh": Unit(3600, 1, "J"),
    "kWh": Unit(3_600_000, 1, "J"),
    "W": Unit(1, 1, "W"),
    "USD": Unit(1, 1, "USD"),
    "cent": Unit(1, 100, "USD"),
    "USD/tok": Unit(10**6, 1, "USD/Mtok"),
    "USD/ktok": Unit(10**3, 1, "USD/Mtok"),
    "USD/Mtok": Unit(1, 1, "USD/Mtok"),
    "tokens": Unit(1, 1, "tokens"),
    "ktok": Unit(10**3, 1, "tokens"),
    "Mtok": Unit(10**6, 1, "tokens"),
    "percent": Unit(1, 100, "0..1"),
    "0..1": Unit(1, 1, "0..1"),
    "tokens/s": Unit(1, 1, "tokens/s"),
}
_UNCHANGED = Unit(1, 1, "")
_MARKS = {"%": "percent", "$": "USD", "US$": "USD", "sec": "s", "\u03bcs": "µs"}
INT64 = 2**63 - 1


def to_stored_unit(number: float, unit: str) -> float:
    """Convert a number to the store's unit."""
    return number * UNITS[unit].times / UNITS[unit].per


class CellFormat(NamedTuple):
    """Format of the cells of a column.

    Attributes:
        unit: the unit of the file; "" if it is the store's.
        offset: number to add after the conversion of the unit.
        mark: the decimal mark of numbers in text.
        form: format of times for `datetime.strptime`; "" for the usual formats.
    """

    unit: str = ""
    offset: float = 0
    mark: str = cells.POINT
    form: str = ""


PLAIN_FORMAT = CellFormat()


def is_null(value: object, kind: str) -> bool:
    """Return whether a cell is unknown: empty or, except in texts, a word such as "n/a"."""
    return cells.is_empty(value) if kind in {"text", "json"} else cells.is_unknown(value)


def equals(value: object, other: object) -> bool:
    """Return whether a cell equals a value in a mapping: as a number, else as a text."""
    if isinstance(value, bool) or isinstance(other, bool):
        return str(value).lower() == str(other).lower()
    try:
        return cells.number(value) == cells.number(other)
    except ValueError:
        return str(value) == str(other)


def convert(
    value: object, kind: str, target_unit: str = "", cell_format: CellFormat = PLAIN_FORMAT
) -> object:
    """Convert a cell to the type of a column: text, int, float, bool, time or json.

    Args:
        value: the cell; not null.
        kind: the column's type.
        target_unit: the column's unit.
        cell_format: format of the cell.

    Raises:
        ImportFormatError: the cell cannot be converted; the caller adds its place.
    """
    try:
        if kind in {"int", "float"}:
            return _number(value, kind, target_unit, cell_format)
        if kind == "bool":
            return cells.flag(value)
        if kind == "time":
            return _time(value, cell_format)
    except (ValueError, OverflowError, OSError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        raise ImportFormatError(f"{shown} is not a value of type {kind}: {error}") from error
    return value if isinstance(value, str) else _text(value)


def _number(value: object, kind: str, target_unit: str, cell_format: CellFormat) -> int | float:
    unit = cell_format.unit
    offset = cell_format.offset
    if kind == "float" and target_unit in {"", "0..1"} and _is_flag(value):
        return float(cells.flag(value))
    if target_unit == "s" and (duration_s := _duration_s(value)) is not None:
        return duration_s + offset
    number: int | float
    if isinstance(value, str):
        number, before, after = cells.quantity(value, cell_format.mark)
        for mark in filter(None, (before, after)):
            unit = _choose_unit(mark, unit, target_unit)
    else:
        number = cells.number(value)
    times, per, _ = UNITS[unit] if unit else _UNCHANGED
    if kind == "float":
        return float(number) * times / per + offset
    return _whole(number, times, per, offset)


def _is_flag(value: object) -> bool:
    """Whether a score is a flag or a word for one; 1 and 0 are numbers."""
    if isinstance(value, str):
        word = value.strip().lower()
        return word.isalpha() and word in cells.TRUE | cells.FALSE
    return isinstance(value, bool)


def _duration_s(value: object) -> float | None:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return cells.seconds(value) if isinstance(value, str) and ":" in value else None


def _choose_unit(mark: str, declared: str, target_unit: str) -> str:
    """Return the unit: the one in the cell, which must agree with the one in the mapping."""
    unit = _MARKS.get(mark, mark)
    if unit == "USD" and target_unit.startswith("USD/"):
        return declared
    if unit not in UNITS or UNITS[unit].store_unit != target_unit:
        msg = f"{mark!r} is no unit of {target_unit or 'a plain number'}"
        raise ValueError(msg)
    if unit == "percent" and not declared:
        msg = 'a percentage; set unit = "percent" for the column'
        raise ValueError(msg)
    if declared and UNITS[declared] != UNITS[unit]:
        msg = f"its unit is {mark}, but the mapping's is {declared}"
        raise ValueError(msg)
    return unit


def _time(value: object, cell_format: CellFormat) -> dt.datetime:
    form = cell_format.form
    if cell_format.unit and not form:
        return _since_1970(cells.number(value), UNITS[cell_format.unit])
    try:
        return cells.moment(value, form)
    except ValueError as error:
        if form:
            raise
        msg = f'{error}; for other formats set format = "%d/%m/%Y"'
        raise ValueError(msg) from error


def _since_1970(number: float, unit: Unit) -> dt.datetime:
    """Return the time that lies a number of a unit after the beginning of 1970."""
    micros = Fraction(number) * unit.times * 10**6 / unit.per
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=round(micros))


def _whole(number: float, times: int, per: int, offset: float) -> int:
    if isinstance(number, int) and times == per and not offset and abs(number) <= INT64:
        return number
    exact = Fraction(repr(number)) * times / per + Fraction(repr(offset))
    if exact.denominator != 1:
        msg = "not a whole number"
        raise ValueError(msg)
    if abs(exact.numerator) > INT64:
        msg = "larger than 64 bits"
        raise ValueError(msg)
    return exact.numerator


def _text(value: object) -> str:
    if isinstance(value, (bool, int, float, Decimal)):
        return cells.text(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    from workbench.records import json_text

    return json_text(value)
