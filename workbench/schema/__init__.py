"""Every stored column once: name, type, unit, what null means, one sentence.

DDL, Polars schemas, chart titles, the `workbench schema` command and the documentation come from
here.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping

from workbench.schema.column import KEY_NULL, Column, Table, ddl, headings
from workbench.schema.tables import (
    CALLS,
    CONTENTS,
    ENERGY,
    ENERGY_BALANCES,
    PRICES,
    RESULTS,
    TABLES,
)
from workbench.schema.views import CALL_FACTS, RESULT_FACTS, TRACE_FACTS, VIEWS

__all__ = [
    "CALLS",
    "CALL_FACTS",
    "CONTENTS",
    "ENERGY",
    "ENERGY_BALANCES",
    "KEY_NULL",
    "PRICES",
    "RELATIONS",
    "RESULTS",
    "RESULT_FACTS",
    "TABLES",
    "TRACE_FACTS",
    "VERSION",
    "VIEWS",
    "Column",
    "Table",
    "columns_by_name",
    "ddl",
    "described",
    "headings",
    "known_columns",
]

VERSION = 4  # of the layout; migrations bring an older store up to it
RELATIONS: dict[str, Table] = TABLES | VIEWS


@functools.cache
def columns_by_name() -> dict[str, Column]:
    """Index every column by name; what a view says of a column wins over a table."""
    by_name: dict[str, Column] = {}
    for table in (*VIEWS.values(), *TABLES.values()):
        for column in table.columns:
            by_name.setdefault(column.name, column)
    return by_name


_own: contextvars.ContextVar[Mapping[str, Column] | None] = contextvars.ContextVar(
    "own", default=None
)


@contextlib.contextmanager
def described(columns: Mapping[str, Column]) -> Iterator[None]:
    """Say what columns mean that a store has of its own, for the length of the block."""
    token = _own.set({**(_own.get() or {}), **columns})
    try:
        yield
    finally:
        _own.reset(token)


def known_columns() -> Mapping[str, Column]:
    """Index every column by name, with those of the store that is open in this context."""
    own = _own.get()
    return {**columns_by_name(), **own} if own else columns_by_name()
