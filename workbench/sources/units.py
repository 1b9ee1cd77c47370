"""Foreign units → ours (s, J, USD, tokens, 0..1), and foreign cells → values of a column's type."""

import datetime as dt
import math
from typing import NamedTuple

from workbench.errors import ImportFormatError


class Unit(NamedTuple):
    """A foreign unit: times `factor` it is `ours`."""

    factor: float
    ours: str


UNITS: dict[str, Unit] = {
    "s": Unit(1, "s"), "ms": Unit(1e-3, "s"), "us": Unit(1e-6, "s"), "ns": Unit(1e-9, "s"),
    "min": Unit(60, "s"), "h": Unit(3600, "s"),
    "J": Unit(1, "J"), "mJ": Unit(1e-3, "J"), "kJ": Unit(1e3, "J"), "Wh": Unit(3600, "J"),
    "kWh": Unit(3.6e6, "J"), "W": Unit(1, "W"), "USD": Unit(1, "USD"), "cent": Unit(0.01, "USD"),
    "USD/tok": Unit(1e6, "USD/Mtok"), "USD/ktok": Unit(1e3, "USD/Mtok"),
    "USD/Mtok": Unit(1, "USD/Mtok"), "tokens": Unit(1, "tokens"), "ktok": Unit(1e3, "tokens"),
    "Mtok": Unit(1e6, "tokens"), "percent": Unit(0.01, "0..1"), "0..1": Unit(1, "0..1"),
    "tokens/s": Unit(1, "tokens/s"),
}  # fmt: skip
INT64 = 2**63 - 1
_TRUE = {"true", "yes", "1", "1.0", "pass", "passed", "correct", "t", "y"}
_FALSE = {"false", "no", "0", "0.0", "fail", "failed", "incorrect", "wrong", "f", "n"}
_NULL = {"", "null", "none", "nan", "na", "n/a", "nil", "-", "—"}


def is_null(value: object, kind: str) -> bool:
    """Whether a cell says nothing: null, NaN, empty, or for numbers a word that tables use for it."""
    if value is None or value == "":
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if kind in {"text", "json"} or not isinstance(value, str):
        return False
    return value.strip().lower() in _NULL


def equals(value: object, other: object) -> bool:
    """Whether a cell is a value that a mapping names: as a number, or as the same text."""
    if isinstance(value, bool) or isinstance(other, bool):
        return str(value).lower() == str(other).lower()
    try:
        return to_number(value) == to_number(other)
    except ValueError:
        return str(value) == str(other)


def to_number(value: object) -> float | int:
    """Read a number; thousands separators and a leading $ are allowed in text.

    Raises:
        ValueError: it is none, or it is infinite.
    """
    number: float | int
    if isinstance(value, (int, float)):
        number = value
    else:
        text = str(value).strip().replace(",", "").removeprefix("$").removesuffix("%")
        try:
            number = int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            msg = "not a number"
            raise ValueError(msg) from None
    if isinstance(number, float) and not math.isfinite(number):
        msg = "not a finite number"
        raise ValueError(msg)
    return number


def to_int(value: object, factor: float = 1, offset: float = 0) -> int:
    """Read a whole number that fits 64 bits.

    Raises:
        ValueError: it is none, has a fraction, or is too large.
    """
    number = to_number(value)
    if factor != 1 or offset:
        number = number * factor + offset
    if number != int(number):
        msg = "not a whole number"
        raise ValueError(msg)
    if abs(int(number)) > INT64:
        msg = "larger than 64 bits"
        raise ValueError(msg)
    return int(number)


def to_bool(value: object) -> bool:
    """Read a flag; raises ValueError for anything but the usual words and 0 or 1."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    msg = "neither true nor false"
    raise ValueError(msg)


def to_time(value: object) -> dt.datetime:
    """Read ISO 8601 text, a date, or seconds (or milliseconds) since 1970; no zone means UTC."""
    if isinstance(value, dt.datetime):
        moment = value
    elif isinstance(value, dt.date):
        moment = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    elif isinstance(value, (int, float)):
        seconds = value / 1000 if abs(value) > 1e11 else value
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    else:
        moment = dt.datetime.fromisoformat(str(value).strip())
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def convert(value: object, kind: str, factor: float = 1, offset: float = 0) -> object:
    """Turn a cell into the type of one of our columns: text, int, float, bool, time or json.

    Raises:
        ImportFormatError: the cell does not hold one; the caller adds where it stands.
    """
    try:
        if kind == "float":
            number = float(value) if isinstance(value, bool) else to_number(value)
            return float(number) * factor + offset
        if kind == "int":
            return to_int(value, factor, offset)
        if kind == "bool":
            return to_bool(value)
        if kind == "time":
            return to_time(value)
    except (ValueError, OverflowError, OSError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        raise ImportFormatError(f"{shown} is no {kind}: {error}") from error
    return value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (bool, int, float)):
        return str(value)
    from workbench.records import json_text

    return json_text(value)
