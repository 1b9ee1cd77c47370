"""Fields that a filter may name: every column of `trace_facts`, with its short names.

Columns, units and sentences come from `schema`; only the short names live here.
"""

import dataclasses
import datetime as dt
import decimal
import difflib
import math
import re
from collections.abc import Iterable

from workbench import cells, schema
from workbench.slice.names import METRICS, entry, written


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """Something that a filter can ask about.

    Attributes:
        name: how canonical text writes it, for example "thinking".
        column: the column of `trace_facts`, for example "reasoning_tokens".
        kind: text, number, time, flag, or open: whatever was given, numbers among it.
        unit: the column's unit; says which suffixes a number may carry.
        doc: one sentence.
    """

    name: str
    column: str
    kind: str
    unit: str = ""
    doc: str = ""


_KINDS = {"text": "text", "json": "text", "int": "number", "float": "number", "time": "time"}

# column → the name that canonical text uses, then other names for it
_SHORT: dict[str, tuple[str, ...]] = {
    "reasoning_tokens": ("thinking",),
    "output_tokens": ("out", "tokens"),
    "input_tokens": ("in",),
    "visible_tokens": ("visible",),
    "cache_read_tokens": ("cached",),
    "cost_usd": ("cost",),
    "billed_cost_usd": ("billed",),
    "reasoning_cost_usd": ("thinking_cost",),
    "judge_cost_usd": ("judge_cost",),
    "e2e_s": ("latency", "s", "e2e"),
    "ttft_s": ("ttft",),
    "answer_start_s": ("answer_start",),
    "energy_j": ("energy", "j"),
    "configuration": ("config",),
    "run_id": ("run",),
    "trace_id": ("trace",),
    "n_turns": ("turns",),
    "n_calls": ("calls",),
    "n_tool_calls": ("tools",),
    "n_tool_errors": ("tool_errors",),
    "n_messages": ("messages",),
    "error_type": ("error",),
    "stop_reason": ("stop",),
    "limit_type": ("limit",),
    "thinking_budget_tokens": ("budget",),
    "verifier_score": ("verifier",),
    "started_at": ("started",),
}

# flag → other names, the sentence; what each asks is in terms.py
_FLAGS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "right": (("passed", "correct"), "passed", "The answer counts as right."),
    "wrong": (("incorrect",), "passed", "The answer counts as wrong."),
    "scored": ((), "passed", "A scorer said right or wrong."),
    "unscored": ((), "passed", "No scorer said right or wrong."),
    "failed": ((), "error_type", "The attempt failed."),
    "replaced": ((), "is_replaced", "A later try took its place: it was paid, and is no answer."),
    "priced": ((), "cost_usd", "The cost is known."),
    "unpriced": ((), "cost_usd", "The cost is not known."),
}


def _fields() -> dict[str, Field]:
    by_name: dict[str, Field] = {}
    for column in schema.TRACE_FACTS.columns:
        if column.type not in _KINDS:
            continue
        names = _SHORT.get(column.name, ())
        kind = _KINDS[column.type]
        field = Field((*names, column.name)[0], column.name, kind, column.unit, column.doc)
        by_name |= dict.fromkeys((*names, column.name), field)
    for name, (others, column_name, doc) in _FLAGS.items():
        by_name |= dict.fromkeys((name, *others), Field(name, column_name, "flag", "", doc))
    for name, doc in (
        ("since", "Began at or after: 2026-10-01, 2026-10-01T12:30 (UTC) or 7d ago."),
        ("until", "Began before the end of a day, or before a time: as since."),
    ):
        by_name[name] = Field(name, "started_at", "time", "", doc)
    return by_name


FIELDS: dict[str, Field] = _fields()
"""Every name and alias → its field."""


_ENTRIES = {
    "params": "What the strategy was given as {key}.",
    "settings": "What was set as {key}.",
    "metrics": "What the scorer {key} gave, on its own scale.",
}


def lookup(name: str) -> Field | None:
    """Find a field by a name as typed, those made of a store's content included."""
    column = entry(name)
    if column is None:
        return FIELDS.get(name.lower())
    prefix, _, key = column.partition(".")
    kind = "number" if prefix == METRICS else "open"
    return Field(written(column), column, kind, "", _ENTRIES[prefix].format(key=key))


def nearest(word: str, names: Iterable[str]) -> str:
    """Return the name most like `word`, or "" when none is."""
    close = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)
    return close[0] if close else ""


_COUNT = {"k": "1e3", "K": "1e3", "m": "1e6", "M": "1e6", "B": "1e9", "b": "1e9"}
_SECONDS = {"ms": "1e-3", "s": "1", "m": "60", "min": "60", "h": "3600", "k": "1e3"}
_JOULES = {
    "mJ": "1e-3",
    "J": "1",
    "j": "1",
    "k": "1e3",
    "kJ": "1e3",
    "kj": "1e3",
    "M": "1e6",
    "MJ": "1e6",
    "Wh": "3600",
    "wh": "3600",
    "kWh": "3.6e6",
    "kwh": "3.6e6",
}
_SCALES = {"s": _SECONDS, "J": _JOULES, "0..1": {"%": "1e-2"}, "USD": {"k": "1e3", "M": "1e6"}}


def units(field: Field) -> tuple[str, ...]:
    """List the suffixes that a number of this field may carry."""
    return suffixes(field.unit)


def suffixes(unit: str) -> tuple[str, ...]:
    """List the suffixes that a number of a unit may carry."""
    return tuple(_SCALES.get(unit, _COUNT))


def number(text: str, field: Field) -> float:
    """Read a number with a suffix, in the field's own unit; ValueError says what is wrong."""
    return amount(text, field.name, field.unit)


def amount(text: str, name: str, unit: str) -> float:
    """Read a number as it is typed anywhere: `2k`, `1.5M`, `$3`, `30min`, `4Wh`.

    Args:
        text: as typed.
        name: what it is of, for messages.
        unit: the unit of the result: tokens, count, s, J, USD, 0..1.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        found, dollar, suffix = cells.quantity(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is {error}") from None
    if dollar not in {"", "$"}:
        raise ValueError(f"{text!r} is not a number")
    if dollar and "USD" not in unit:
        raise ValueError(f"{name} is not in dollars")
    scale = "1" if not suffix else _SCALES.get(unit, _COUNT).get(suffix)
    if scale is None:
        raise ValueError(f"{name} knows no unit {suffix!r}")
    value = float(decimal.Decimal(repr(found)) * decimal.Decimal(scale))
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value + 0.0  # −0 becomes 0, so that equal filters have equal texts


_AGO = re.compile(r"(\d{1,6})(m|h|d|w)")
_AGO_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: dt.datetime | None, *, end: bool) -> dt.datetime:
    """Read a date, a time or an age ("7d") as naive UTC; ValueError says what is wrong.

    Args:
        text: 2026-10-01, 2026-10-01T12:30, with an offset if it is not UTC, or 30m, 12h, 7d, 2w.
        now: what ages count back from.
        end: whether a bare date stands for the end of its day.
    """
    age = _AGO.fullmatch(text)
    if age and now is None:
        raise ValueError("an age needs to know the time now")
    try:
        if age and now is not None:
            at = now - dt.timedelta(**{_AGO_UNITS[age[2]]: int(age[1])})
        else:
            at = dt.datetime.fromisoformat(text)
            if end and _is_date(text):
                at += dt.timedelta(days=1)
        return at.astimezone(dt.UTC).replace(tzinfo=None) if at.tzinfo else at
    except OverflowError:
        raise ValueError(f"{text!r} is out of range") from None
    except ValueError:
        raise ValueError(f"{text!r} is not a date") from None


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
