"""Unmatched values: those in a slice that no row of the store has, and the nearest known ones.

A filter may be older than the store is now: a saved slice, a copied command. A configuration whose
name was completed since, as its twin came, is not found by the name it had; that is said rather
than nothing shown.
"""

import difflib
import re
from collections.abc import Iterator

import duckdb

from workbench.slice import Slice
from workbench.slice.terms import Compare, Glob, OneOf, Presence

# column → the table of few rows that holds all of its values
_HOMES = {
    "configuration": "configurations",
    "model": "configurations",
    "provider": "configurations",
    "strategy": "configurations",
    "effort": "configurations",
    "precision": "configurations",
    "machine": "configurations",
    "task": "tasks",
}
_SHOWN = 4


def sentences(connection: duckdb.DuckDBPyConnection, where: Slice) -> list[str]:
    """Name the nearest values for every value of a slice that no trace has."""
    return [
        _sentence(connection, column, text)
        for column, regex, text in _wanted(where)
        if not _has(connection, column, regex)
    ]


def _wanted(where: Slice) -> Iterator[tuple[str, str, str]]:
    """List the texts that positive terms ask for: column, regular expression, as typed."""
    for term in where.terms:
        if isinstance(term, OneOf) and not term.negated and term.field.column in _HOMES:
            if any(isinstance(choice, Presence) for choice in term.choices):
                continue
            for choice in term.choices:
                if isinstance(choice, Glob):
                    yield term.field.column, choice.regex(), re.sub(r"\\(.)", r"\1", choice.escaped)
        if isinstance(term, Compare) and not term.negated and term.field.column in _HOMES:
            for value in term.values if term.op == "=" else ():
                yield term.field.column, f"(?s)^{re.escape(str(value))}$", str(value)


def _values(connection: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    query = f"SELECT DISTINCT {column} FROM {_HOMES[column]} WHERE {column} IS NOT NULL"
    return sorted(value for (value,) in connection.execute(query).fetchall())


def _has(connection: duckdb.DuckDBPyConnection, column: str, regex: str) -> bool:
    return any(re.search(regex, value) for value in _values(connection, column))


def _sentence(connection: duckdb.DuckDBPyConnection, column: str, text: str) -> str:
    values = _values(connection, column)
    if not values:
        return f"the store has no {column}"
    completed = _completed(connection, text) if column == "configuration" else []
    near = completed or _nearest(text, values)
    more = f", and {len(near) - _SHOWN} more" if len(near) > _SHOWN else ""
    listed = "; ".join(near[:_SHOWN]) + more
    if completed:
        return f"no configuration is called {text!r}; several were, and are now: {listed}"
    return f"no {column} matches {text!r}; the nearest: {listed}"


def _completed(connection: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    rows = connection.execute(
        "SELECT configuration FROM configurations WHERE lower(base_name) = lower(?) ORDER BY ALL",
        [text],
    )
    return [name for (name,) in rows.fetchall()]


def _nearest(text: str, values: list[str]) -> list[str]:
    lower: dict[str, str] = {value.lower(): value for value in values}
    near = difflib.get_close_matches(text.lower(), list(lower), n=_SHOWN, cutoff=0.3)
    return [lower[n] for n in near] or values[:_SHOWN]
