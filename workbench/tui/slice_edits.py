"""Edits of a slice's text by the screens: select values, narrow, toggle flags, complete."""

import datetime as dt
import re

from workbench.errors import SliceError
from workbench.slice import Completion, Slice, Term, complete
from workbench.slice.terms import Compare, Flag, Glob, OneOf, Presence
from workbench.store import Store

Value = str | None


def read(text: str) -> Slice:
    """Parse a filter; "since:7d" counts from now."""
    return Slice.parse(text, dt.datetime.now(dt.UTC))


def fault(text: str) -> SliceError | None:
    """Return the error of a filter, or None."""
    try:
        read(text)
    except SliceError as error:
        return error
    return None


def _values(term: Term, column: str) -> set[Value] | None:
    """Return the exact values that a term requires of a column; None for any other term."""
    if isinstance(term, Compare) and term.op == "=" and term.field.column == column:
        return {value for value in term.values if isinstance(value, str)}
    if isinstance(term, OneOf) and term.field.column == column:
        exact = [_exact(choice) for choice in term.choices]
        return {value for ok, value in exact if ok} if all(ok for ok, _ in exact) else None
    return None


def _exact(choice: Glob | float | Presence) -> tuple[bool, Value]:
    if choice is Presence.NONE:
        return True, None
    if isinstance(choice, Glob):
        value = re.sub(r"\\(.)", r"\1", choice.escaped)
        return Glob.literal(value) == choice, value
    return False, None


def chosen(text: str, column: str) -> set[Value]:
    """Return the values of a column that a filter names exactly."""
    terms = [_values(term, column) for term in read(text).terms if not term.negated]
    return {value for values in terms if values is not None for value in values}


def without(text: str, column: str) -> Slice:
    """Return a filter without the terms that name exact values of a column."""
    remaining = [t for t in read(text).terms if t.negated or _values(t, column) is None]
    return Slice(tuple(remaining))


def toggled(text: str, column: str, value: Value) -> str:
    """Add a value to the exact values of a column in a filter, or remove it."""
    values = chosen(text, column) ^ {value}
    rest = without(text, column)
    if not values:
        return str(rest)
    ordered = sorted((v for v in values if v is not None), key=str)
    return str(rest.where(**{column: [*ordered, None] if None in values else ordered}))


def narrowed(text: str, **fields: Value) -> str:
    """Return a filter that also requires exact values."""
    return str(read(text).where(**fields))


def flagged(text: str, flag: str, others: tuple[str, ...]) -> str:
    """Switch a bare word on or off; `others` are words that exclude it."""
    terms = read(text).terms
    has = any(isinstance(t, Flag) and t.name == flag and not t.negated for t in terms)
    remaining = [t for t in terms if not (isinstance(t, Flag) and t.name in {flag, *others})]
    return str(Slice(tuple(remaining)) if has else Slice(tuple(remaining)).where(**{flag: True}))


def suggestions(store: Store, text: str, cursor: int) -> list[Completion]:
    """Return completions of the word at the cursor."""
    return complete(text, cursor, store.values, store.fields())[:12]
