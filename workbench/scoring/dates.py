"""Scorer `date`: full dates, months and days of the week, in every usual form."""

import datetime as dt
import re

from workbench.errors import TaskError
from workbench.scoring.answers import candidate
from workbench.scoring.base import Deterministic
from workbench.scoring.items import TaskItem

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_M = "(" + "|".join(f"{m[:3]}(?:{m[3:]})?" if m != "may" else "may" for m in _MONTHS) + r")\.?"
_DATE = re.compile(
    r"(?i)\b(?:(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"
    rf"|(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m2>{_M}),? (?P<y2>\d{{4}})"
    rf"|(?P<m3>{_M}) (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y3>\d{{4}})"
    rf"|(?P<month>{'|'.join(_MONTHS)})|(?P<day>{'|'.join(_DAYS)}))\b"
)


def _as_date(match: re.Match[str]) -> str | None:
    """Write a date as ISO, a month or a day of the week as its lower-case name."""
    if match["month"] or match["day"]:
        return (match["month"] or match["day"]).lower()
    year, day = (match[k] or match[f"{k}2"] or match[f"{k}3"] for k in "yd")
    word = match["m2"] or match["m3"]
    names = [m[:3] for m in _MONTHS]
    month = names.index(word[:3].lower()) + 1 if word else int(match["m"])
    try:
        return dt.date(int(year), month, int(day)).isoformat()
    except ValueError:
        return None


def _dates(span: str) -> list[str]:
    return [d for d in map(_as_date, _DATE.finditer(span)) if d]


def _read_date(item: TaskItem, text: str) -> str | None:
    """Return the last date of the target's kind: day of the week, month, or full date."""
    span, marked = candidate(text)
    kind = _kind(next(iter(_dates(item.target)), ""))
    dates = [d for d in _dates(span) if _kind(d) == kind]
    if not dates:
        return None
    return dates[0] if marked else dates[-1]


def _kind(date: str) -> str:
    return "day" if date in _DAYS else "month" if date in _MONTHS else "date"


def _same_date(item: TaskItem, answer: str) -> bool:
    return any(answer == _target(item, target) for target in item.targets)


def _target(item: TaskItem, target: str) -> str:
    wanted = _dates(target)
    if not wanted:
        raise TaskError(f"{item.place}: target {target[:200]!r} is no date")
    return wanted[0]


def _check(item: TaskItem) -> None:
    for target in item.targets:
        _target(item, target)


DATE = Deterministic("date", _read_date, _same_date, _check)
