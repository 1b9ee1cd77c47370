"""Foreign units → ours (s, J, USD, tokens, 0..1), and foreign cells → values of a column's type."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from workbench import cells
from workbench.errors import ImportFormatError


class Unit(NamedTuple):
    """A foreign unit: × `times`, ÷ `per` gives `ours`; whole numbers, so that 57 % is 0.57."""

    times: int
    per: int
    ours: str


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
_OURS = Unit(1, 1, "")
_MARKS = {"%": "percent", "$": "USD", "US$": "USD", "sec": "s", "\u03bcs": "µs"}
INT64 = 2**63 - 1


def in_ours(number: float, unit: str) -> float:
    """Turn a number of a foreign unit into ours."""
    return number * UNITS[unit].times / UNITS[unit].per


class Reading(NamedTuple):
    """How the cells of a column are written, as far as it must be told.

    Attributes:
        unit: theirs; "" where it is ours already.
        offset: added after the unit.
        mark: the decimal mark of numbers in text.
        form: of times, as `datetime.strptime` takes it.
    """

    unit: str = ""
    offset: float = 0
    mark: str = cells.POINT
    form: str = ""


PLAIN = Reading()


def is_null(value: object, kind: str) -> bool:
    """Whether a cell says nothing: empty, or for all but texts a word that tables use for it."""
    return cells.is_empty(value) if kind in {"text", "json"} else cells.is_unknown(value)


def equals(value: object, other: object) -> bool:
    """Whether a cell is a value that a mapping names: as a number, or as the same text."""
    if isinstance(value, bool) or isinstance(other, bool):
        return str(value).lower() == str(other).lower()
    try:
        return cells.number(value) == cells.number(other)
    except ValueError:
        return str(value) == str(other)


def convert(value: object, kind: str, ours: str = "", reading: Reading = PLAIN) -> object:
    """Turn a cell into the type of one of our columns: text, int, float, bool, time or json.

    Args:
        value: the cell; not null.
        kind: the column's type.
        ours: the column's unit.
        reading: how the cell is written.

    Raises:
        ImportFormatError: the cell does not hold one; the caller adds where it stands.
    """
    try:
        if kind in {"int", "float"}:
            return _number(value, kind, ours, reading)
        if kind == "bool":
            return cells.flag(value)
        if kind == "time":
            return _moment(value, reading.form)
    except (ValueError, OverflowError, OSError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        raise ImportFormatError(f"{shown} is no {kind}: {error}") from error
    return value if isinstance(value, str) else _text(value)


def _number(value: object, kind: str, ours: str, reading: Reading) -> int | float:
    unit, offset = reading.unit, reading.offset
    if kind == "float" and ours in {"", "0..1"} and _is_flag(value):
        return float(cells.flag(value))
    if ours == "s" and (length := _length(value)) is not None:
        return length + offset
    number: int | float
    if isinstance(value, str):
        number, before, after = cells.quantity(value, reading.mark)
        for mark in filter(None, (before, after)):
            unit = _unit(mark, unit, ours)
    else:
        number = cells.number(value)
    times, per, _ = UNITS[unit] if unit else _OURS
    if kind == "float":
        return float(number) * times / per + offset
    return _whole(number, times, per, offset)


def _is_flag(value: object) -> bool:
    """Whether a score is a pass or none in words; 1 and 0 are numbers."""
    if isinstance(value, str):
        word = value.strip().lower()
        return word.isalpha() and word in cells.TRUE | cells.FALSE
    return isinstance(value, bool)


def _length(value: object) -> float | None:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return cells.seconds(value) if isinstance(value, str) and ":" in value else None


def _unit(mark: str, said: str, ours: str) -> str:
    """Choose between what a cell says beside its number and what the mapping says of the column."""
    name = _MARKS.get(mark, mark)
    if name == "USD" and ours.startswith("USD/"):
        return said
    if name not in UNITS or UNITS[name].ours != ours:
        msg = f"{mark!r} is no unit of {ours or 'a plain number'}"
        raise ValueError(msg)
    if name == "percent" and not said:
        msg = 'a percentage; say so of the column: unit = "percent"'
        raise ValueError(msg)
    if said and UNITS[said] != UNITS[name]:
        msg = f"it says {mark}, and the mapping says {said}"
        raise ValueError(msg)
    return name


def _moment(value: object, form: str) -> dt.datetime:
    try:
        return cells.moment(value, form)
    except ValueError as error:
        if form:
            raise
        msg = f'{error}; any other is told by format = "%d/%m/%Y"'
        raise ValueError(msg) from error


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
