"""Parsing of table cells: numbers, flags, times and unknown values, by one rule for every reader.

Cells are text (CSV) or typed (JSON, YAML, TOML, Parquet). An ambiguous cell is never guessed: 1,234
is a number only if its column, its file or the caller gives the decimal mark, and 03/04/2026 is a
date only with a format.
"""

import datetime as dt
import decimal
import email.utils
import functools
import math
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

POINT: Final = "."
COMMA: Final = ","
DELIMITERS: Final = (",", ";", "\t", "|")
TRUE: Final = frozenset({"true", "yes", "1", "1.0", "pass", "passed", "correct", "t", "y"})
FALSE: Final = frozenset(
    {"false", "no", "0", "0.0", "fail", "failed", "incorrect", "wrong", "f", "n"}
)
NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
"""Pattern of a text that is also a number; valid in Python's re, RE2 and Rust's regex."""
_UNKNOWN = frozenset(
    {
        "null",
        "none",
        "nan",
        "na",
        "n/a",
        "#n/a",
        "n.a.",
        "nil",
        "nat",
        "<na>",
        "unknown",
        "undefined",
        "?",
        "-",
        "–",
        "—",
    }
)
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "\u2019": "'"})
_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", re.ASCII)
_DAY = re.compile(r"(?:19|20)\d{6}", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)
_YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})", re.ASCII)
_ZONE_WORD = re.compile(r"\s+(?:UTC|GMT)$")
_INTEGRAL = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?", re.ASCII)
_PLAIN_INT = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
# an exponent needs a sign or a fraction, because 1e5 alone may be a name
_PLAIN_FLOAT = re.compile(
    r"-?(?:0|[1-9]\d{0,17})(?:\.(?P<part>\d+)(?:[eE][+-]?\d{1,2})?|[eE][+-]\d{1,2})?", re.ASCII
)
_BESIDE = "[A-Za-z\u00b5\u03bc$€£¥₹%‰/]*"  # currencies and units
_DIGITS_AND_POINT = re.compile(r"(-?\d{1,300})(?:\.(\d+))?", re.ASCII)
_QUOTED = re.compile(r'"(?:[^"]|"")*"?')
_EARLIEST_S = 1e8  # 1973; a smaller number is a duration or a counter, not a time
_SECONDS_UP_TO = 1e11  # larger numbers are milliseconds, then microseconds, then nanoseconds


def is_empty(value: object) -> bool:
    """Return whether a cell is empty: null, NaN, or blank text."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def is_unknown(value: object) -> bool:
    """Return whether a cell is unknown: empty, or a word for unknown values such as "n/a"."""
    if isinstance(value, str):
        if value[:1].isdigit():  # fast path: most cells are numbers
            return False
        word = value.strip().lower()
        return not word or word in _UNKNOWN
    return is_empty(value)


# -- numbers -----------------------------------------------------------------------------------


class Quantity(NamedTuple):
    """A number with the text before and after it, such as "$", "%" or "ms"; else ""."""

    number: int | float
    before: str = ""
    after: str = ""


@functools.cache
def _number_pattern(mark: str) -> re.Pattern[str]:
    other = re.escape(COMMA if mark == POINT else POINT)
    point = re.escape(mark)
    grouped = rf"[1-9]\d{{0,2}}(?P<group>[{other}' _])\d{{3}}(?:(?P=group)\d{{3}})*"
    return re.compile(
        rf"(?P<sign>[+-]?)\s*(?P<before>{_BESIDE})\s*(?P<inner>[+-]?)"
        rf"(?:(?P<whole>{grouped}|\d+)(?:{point}(?P<part>\d*))?|{point}(?P<bare>\d+))"
        rf"(?P<power>[eE][+-]?\d+)?\s*(?P<after>{_BESIDE})",
        re.ASCII,
    )


def quantity(text: str, mark: str = POINT) -> Quantity:
    """Parse a number with optional thousands separators and a currency, unit or %.

    Args:
        text: as written: "1,250", "-$0.05", "81.3%", "350 ms", "1 234".
        mark: the decimal mark, POINT or COMMA; the other one may separate thousands.

    Raises:
        ValueError: the text is not a number.
    """
    if (plain := _plain(text, mark)) is not None:
        return Quantity(plain)
    match = _number_pattern(mark).fullmatch(text.strip().translate(_SPACES))
    if match is None or (match["sign"] and match["inner"]):
        name = "comma" if mark == COMMA else "point"
        msg = (
            f"not a number with a decimal {name}" if set(text) & {POINT, COMMA} else "not a number"
        )
        raise ValueError(msg)
    whole = re.sub(r"\D", "", match["whole"] or "0")
    part = (match["part"] or match["bare"] or "").rstrip("0")
    power = match["power"] or ""
    sign = match["sign"] or match["inner"]
    if part or power:
        number: int | float = float(f"{sign}{whole}.{part or 0}{power}")
    else:
        number = int(sign + whole) if len(whole) <= 300 else math.inf
    if not math.isfinite(number):
        msg = "too large"
        raise ValueError(msg)
    return Quantity(number, match["before"], match["after"])


def _plain(text: str, mark: str) -> int | float | None:
    """Parse digits with at most one point, the usual case; None for any other text."""
    match = _DIGITS_AND_POINT.fullmatch(text)
    if match is None or (match[2] and mark != POINT):
        return None
    return float(text) if match[2] and match[2].strip("0") else int(match[1])


def number(value: object, mark: str = POINT) -> int | float:
    """Parse a finite number; the only text allowed beside it is a dollar sign.

    Raises:
        ValueError: the value is not a finite number; a flag is not one.
    """
    if value is True or value is False:
        msg = "a flag, not a number"
        raise ValueError(msg)
    if isinstance(value, decimal.Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            msg = "not a finite number"
            raise ValueError(msg)
        return value
    parsed = quantity(str(value), mark)
    if parsed.before not in {"", "$"} or parsed.after:
        msg = f"{(parsed.after or parsed.before)!r} is beside the number"
        raise ValueError(msg)
    return parsed.number


def decimal_mark(text: str) -> str | None:
    """Return the decimal mark that a number must have been written with.

    Returns:
        POINT or COMMA if the text is a number with only one of them; "" if it contains neither, or
        is not a number; None if it is a number with both: 1,234 and 1.234.
    """
    if COMMA not in text and POINT not in text:
        return ""
    if (match := _DIGITS_AND_POINT.fullmatch(text)) is not None:
        whole = match[1].lstrip("-")
        return None if len(match[2]) == 3 and len(whole) <= 3 and whole[0] != "0" else POINT
    able = [mark for mark in (POINT, COMMA) if _reads(text, mark)]
    if len(able) == 2:
        return None
    return able[0] if able else ""


def _reads(text: str, mark: str) -> bool:
    try:
        quantity(text, mark)
    except ValueError:
        return False
    return True


def common_mark(texts: Iterable[object]) -> str | None:
    """Return a column's decimal mark by its unambiguous cells; None without one, or with both."""
    marks = {mark for text in texts if isinstance(text, str) and (mark := decimal_mark(text))}
    return marks.pop() if len(marks) == 1 else None


def seconds(text: str) -> float | None:
    """Parse a duration such as 0:01:30.5 or 1 day, 2:03:04; None for any other text."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


# -- flags, times, texts -----------------------------------------------------------------------


def flag(value: object) -> bool:
    """Parse a flag: a word of TRUE or FALSE, 0 or 1.

    Raises:
        ValueError: for any other value.
    """
    text = str(value).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    msg = "neither true nor false"
    raise ValueError(msg)


def moment(value: object, form: str = "") -> dt.datetime:
    """Parse a time as UTC.

    Args:
        value: a time or date; ISO 8601 text, also with / for - or UTC for Z; an e-mail date;
            YYYYMMDD; seconds, milliseconds, microseconds or nanoseconds since 1970, distinguished
            by their size. No zone means UTC.
        form: format of the text for `datetime.strptime`; "" for the formats above.

    Raises:
        ValueError: the value is not a time, or is ambiguous (03/04/2026).
    """
    if isinstance(value, dt.datetime):
        at = value
    elif isinstance(value, dt.date):
        at = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    elif value is True or value is False:
        msg = "a flag, not a time"
        raise ValueError(msg)
    elif form:
        at = dt.datetime.strptime(str(value).strip(), form)  # noqa: DTZ007 - UTC where it has none
    elif isinstance(value, (int, float)):
        at = _since_1970(value)
    else:
        at = _written(str(value).strip())
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


def _since_1970(value: float) -> dt.datetime:
    if isinstance(value, int) and _DAY.fullmatch(str(value)):
        return _written(str(value))
    size = abs(value)
    if size < _EARLIEST_S:
        msg = "neither a date nor a time since 1970"
        raise ValueError(msg)
    micros: int | float
    for limit, times, per in ((1, 10**6, 1), (1e3, 1000, 1), (1e6, 1, 1), (math.inf, 1, 1000)):
        if size < _SECONDS_UP_TO * limit:
            micros = value * times // per if isinstance(value, int) else value * times / per
            break
    else:
        msg = "too large"
        raise ValueError(msg)
    try:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
    except OverflowError:
        msg = "too large"
        raise ValueError(msg) from None


def _written(text: str) -> dt.datetime:
    if _DIGITS.fullmatch(text) and not _DAY.fullmatch(text):
        return _since_1970(int(text) if text.lstrip("+-").isdecimal() else float(text))
    plain = _YEAR_FIRST.sub(lambda m: f"{m[1]}-{m[2]:0>2}-{m[3]:0>2}", _ZONE_WORD.sub("Z", text))
    try:
        return dt.datetime.fromisoformat(plain)
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        msg = "neither ISO 8601 nor an e-mail's date"
        raise ValueError(msg) from None


def text(value: object) -> str:
    """Write a scalar cell as text; a whole number gives the same text for every type."""
    if isinstance(value, (float, decimal.Decimal)) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def integral(value: str) -> str | None:
    """Return the text of a whole number without its empty fraction ("1.0" → "1"); else None.

    A leading zero ("007") and an exponent ("1e5") make a name, not a number.
    """
    match = _INTEGRAL.fullmatch(value.strip())
    return None if match is None else match[1]


# -- columns of texts --------------------------------------------------------------------------


class Survey:
    """Survey of the cells of one text column, to derive their common type.

    Attributes:
        is_integral: whether every cell is a whole number, perhaps with an empty fraction.
    """

    def __init__(self) -> None:
        """Start without any cell."""
        self.is_integral = True
        self.is_float = True
        self.is_flag = True
        self.n = 0
        self._marks: set[str] = set()
        self._is_open = False
        self._decimals: set[int] = set()
        self._is_padded = False

    def add(self, cell: object) -> None:
        """Add a cell; unknown cells are ignored."""
        if self.is_text or is_unknown(cell):
            return
        self.n += 1
        written = str(cell).strip()
        self.is_integral = self.is_integral and _INTEGRAL.fullmatch(written) is not None
        self.is_flag = self.is_flag and written.lower() in {"true", "false"}
        if self.is_float:
            self._try_number(written)

    def _try_number(self, written: str) -> None:
        match = _PLAIN_FLOAT.fullmatch(written.replace(COMMA, POINT))
        if match is None:
            self.is_float = False
            return
        if mark := decimal_mark(written):
            self._marks.add(mark)
        elif mark is None:
            self._is_open = self._is_open or COMMA in written
        part = match["part"] or ""
        self._decimals.add(len(part))
        self._is_padded = self._is_padded or (len(part) > 1 and part.endswith("0"))
        # numbers are padded to one width or not at all: 3.9 and 3.10 are versions
        self.is_float = not (self._is_padded and len(self._decimals) > 1)

    @property
    def is_text(self) -> bool:
        """Whether text is the only type common to all cells."""
        return not (self.is_integral or self.is_float or self.is_flag)

    def typed(self, cell: str) -> int | float | bool | str | None:
        """Convert a cell to the type of its column: whole number, number, flag or text.

        Whole numbers with empty fractions count as whole numbers, because pandas writes columns
        with gaps like this.
        """
        marks = self._marks or (set() if self._is_open else {POINT})
        is_number = self.is_float and len(marks) == 1
        if not self.n or not (self.is_integral or is_number or self.is_flag):
            return cell
        if is_unknown(cell):
            return None
        if self.is_flag:
            return cell.strip().lower() == "true"
        whole = integral(cell) if self.is_integral else None
        if whole is not None:
            return int(whole) if _PLAIN_INT.fullmatch(whole) else cell
        return float(quantity(cell, *marks).number)


def delimiter(head: str) -> str:
    """Return a CSV file's delimiter: the most frequent one outside quotes in its first line."""
    bare = _QUOTED.sub("", head)
    return max(DELIMITERS, key=bare.count)  # the comma, if frequencies are equal


def is_open(line: str) -> bool:
    """Return whether a line of a CSV file ends within quotes, so that the record continues."""
    return line.count('"') % 2 == 1


def number_text(value: float) -> str:
    """Write a number so that reading it gives the same one."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
