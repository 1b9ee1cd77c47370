"""Scorer `numeric`: numbers compared exactly, or within a tolerance."""

import re
from fractions import Fraction

from workbench.errors import TaskError
from workbench.scoring.answers import candidate, clean
from workbench.scoring.base import Deterministic, number_option
from workbench.scoring.items import TaskItem

_NUMBER = re.compile(
    r"(?<![\w.])(?:^[-+]\s?|[-+])?"
    r"(?:\d{1,3}(?:,\d{3}){1,8}(?![\d,])|\d{1,40}(?!\d))(?:\.\d{1,40})?"
    r"(?:[eE][-+]?\d{1,2}\b)?(?:\s?/\s?\d{1,40}(?!\d))?"
)


def _numbers(span: str) -> list[str]:
    """List the numbers in a span as `Fraction` reads them: no separators, no spaces."""
    return [re.sub(r"[,\s]", "", m[0]) for m in _NUMBER.finditer(span)]


def _fraction(text: str) -> Fraction | None:
    above, _, below = text.partition("/")
    try:
        return Fraction(above) / Fraction(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def number_in(text: str) -> Fraction | None:
    """Read the first number of a short text; None where there is none."""
    return _fraction("".join(_numbers(clean(text))[:1]))


def is_number(text: str) -> bool:
    """Whether a text is one number and nothing else but a currency or percent sign."""
    bare = clean(text).strip(" %€£¥")
    whole = _NUMBER.fullmatch(bare)
    return whole is not None and _fraction(re.sub(r"[,\s]", "", bare)) is not None


def _read_number(_: TaskItem, text: str) -> str | None:
    span, marked = candidate(text)
    numbers = [n for n in _numbers(span) if _fraction(n) is not None]
    if not numbers:
        return None
    return numbers[0] if marked and "=" not in span else numbers[-1]


def near(item: TaskItem, given: Fraction, wanted: Fraction) -> bool:
    """Compare exactly, or within `tolerance` or `relative_tolerance` (of the target), the wider."""
    absolute = number_option(item, "tolerance", 0.0)
    relative = number_option(item, "relative_tolerance", 0.0)
    if not absolute and not relative:
        return given == wanted
    # through their decimal text: 0.01 means one hundredth, not its nearest double
    room = max(Fraction(str(absolute)), Fraction(str(relative)) * abs(wanted))
    return abs(given - wanted) <= room


def _same_number(item: TaskItem, answer: str) -> bool:
    given = _fraction(answer)
    return given is not None and any(
        near(item, given, _target(item, target)) for target in item.targets
    )


def _target(item: TaskItem, target: str) -> Fraction:
    wanted = number_in(target)
    if wanted is None:
        raise TaskError(f"{item.place}: target {target[:200]!r} is not a number")
    return wanted


def _check(item: TaskItem) -> None:
    for target in item.targets:
        near(item, Fraction(0), _target(item, target))


NUMERIC = Deterministic("numeric", _read_number, _same_number, _check)
