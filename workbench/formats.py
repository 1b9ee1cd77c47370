"""Formats of numbers, times and unknown values in a cell, shared by CLI, app and notebooks."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any, Protocol

UNKNOWN = "—"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# least width of an interval in units of its last digit: 0.42 [0.38, 0.46], not 0.4 [0.4, 0.5]
_UNITS = 7.5
_AS_GIVEN = {"temperature", "top_p"}  # settings, not measurements: 0.7, not 0.7000
_BLOCKS = " ▏▎▍▌▋▊▉█"


class Described(Protocol):
    """A column as far as its values are written: a name and a unit."""

    @property
    def name(self) -> str:
        """The name of the column."""

    @property
    def unit(self) -> str:
        """The unit of its values; "" where they have none."""


def is_unknown(value: Any) -> bool:
    """Whether a cell has nothing to show: null, or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def count(value: float | None) -> str:
    """Write a whole number with thousands separators."""
    return UNKNOWN if value is None or is_unknown(value) else f"{value:,.0f}"


def counted(n: float, noun: str, plural: str = "") -> str:
    """Write a number of things with their noun in singular or plural.

    >>> counted(1, "trace"), counted(1_250, "trace"), counted(0, "entry", "entries")
    ('1 trace', '1,250 traces', '0 entries')
    """
    return f"{count(n)} {noun if n == 1 else plural or noun + 's'}"


def clock(seconds: float | None) -> str:
    """Write a duration as 1:02:03; unknown is a dash."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Write a number with `digits` significant digits; an exponent below 1e-7 and from 1e7 on."""
    if value is None or is_unknown(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -7 <= size < 7:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(0, digits - 1 - size)}f}"
    return text.replace("-", "−")


def usd(value: float | None) -> str:
    """Write dollars: with cents from ten dollars on, with three significant digits below."""
    if value is None or is_unknown(value) or math.isinf(value):
        return decimal(value)
    return f"${value:,.2f}" if abs(value) >= 10 or value == 0 else f"${decimal(value)}"


def si(value: float | None, unit: str) -> str:
    """Write a quantity with an SI prefix, as in "41.2 kJ"."""
    if value is None or is_unknown(value):
        return UNKNOWN
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale:
            return f"{decimal(value / scale)} {prefix}{unit}"
    return f"{decimal(value)} {unit}"


def seconds(value: float | None) -> str:
    """Write seconds: with milliseconds below one second, else with three significant digits."""
    if value is None or is_unknown(value):
        return UNKNOWN
    return f"{value:.3f}" if abs(value) < 1 else decimal(value)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share (0..1) in percent, without the % sign."""
    return UNKNOWN if value is None or is_unknown(value) else f"{value * 100:.{digits}f}"


def when(value: dt.datetime | None) -> str:
    """Write a time (UTC) to the second."""
    return UNKNOWN if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def bar(share: float | None, width: int) -> str:
    """Draw a share (0..1) as a bar of eighths of a cell, exactly `width` cells long."""
    if share is None or is_unknown(share):
        return " " * width
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(width)


def value_text(value: Any, column: Described | None = None) -> str:
    """Write any cell: by its column's unit if that is known, else by its Python type."""
    if is_unknown(value):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dt.datetime):
        return when(value)
    if column is not None and column.name in _AS_GIVEN:
        return f"{value:.12g}"
    return _number_text(value, column) if isinstance(value, int | float) else str(value)


def _number_text(value: float, column: Described | None) -> str:
    unit = column.unit if column else ""
    whole = isinstance(value, int) or value.is_integer()
    if unit in {"USD", "s"} and math.isfinite(value):
        return usd(value) if unit == "USD" else seconds(value)
    if unit in {"tokens", "count", "bytes"} or (isinstance(value, int) and unit != "0..1"):
        is_year = column is not None and column.name == "year"
        return str(value) if is_year else count(value) if whole else decimal(value)
    return decimal(value, 4)


def interval(value: Any, low: Any, high: Any, column: Described | None = None) -> str:
    """Write a value with its interval, "0.42 [0.38, 0.46]", with decimal places by its width.

    All three numbers have the least number of decimal places at which the width is at least
    `_UNITS` units of the last place, or one more if the value would have a single digit. A value
    without an interval is written alone.

    >>> interval(0.42413, 0.37987, 0.45991), interval(3.1, None, None)
    ('0.42 [0.38, 0.46]', '3.100')
    """
    known = [e for e in (value, low, high) if not is_unknown(e)]  # the value first
    if is_unknown(value) or (is_unknown(low) and is_unknown(high)):
        return value_text(value, column)
    places = _places(known)
    written = _placed(value, column, places)
    ends = [_placed(e, column, places).replace("$", "") for e in (low, high)]
    return f"{written} [{ends[0]}, {ends[1]}]"


def _places(known: Sequence[float]) -> int | None:
    """Return the decimal places that a width allows; None if each number has its own format."""
    finite = [float(e) for e in known if math.isfinite(e)]
    width = max(finite) - min(finite) if finite else 0.0
    if not width > 0 or max(map(abs, finite)) >= 1e7:
        return None
    places = max(0, math.ceil(math.log10(_UNITS / width)))
    size = abs(known[0])
    if math.isfinite(size) and 0 < round(size * 10**places) < 10:
        places += 1
    return places if places <= 9 else None


def _placed(value: Any, column: Described | None, places: int | None) -> str:
    if is_unknown(value) or not math.isfinite(value) or places is None:
        return value_text(value, column)
    money = "$" if column is not None and column.unit == "USD" else ""
    text = f"{abs(value):,.{places}f}"
    sign = "−" if value < 0 and text.strip("0,.") else ""  # no minus sign if it rounds to 0
    return f"{sign}{money}{text}"
