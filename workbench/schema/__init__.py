"""Schema: every stored column, declared once: name, type, unit, what null means, one sentence.

DDL, Polars schemas, chart titles, the `workbench schema` command and the documentation come from
here.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping

from workbench.schema.column import KEY_NULL, Column, Table, ddl, headings
from workbench.schema.tables import (
    APART,
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
    "APART",
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
    "headings",
    "known_columns",
    "with_columns",
]

VERSION = 4  # of the layout; migrations bring an older store up to it
RELATIONS: dict[str, Table] = TABLES | VIEWS


@functools.cache
def columns_by_name() -> dict[str, Column]:
    """Index every column by name; the description in a view replaces that in a table."""
    by_name: dict[str, Column] = {}
    for table in (*VIEWS.values(), *TABLES.values()):
        for column in table.columns:
            by_name.setdefault(column.name, column)
    return by_name


_store_columns: contextvars.ContextVar[Mapping[str, Column] | None] = contextvars.ContextVar(
    "store_columns", default=None
)


@contextlib.contextmanager
def with_columns(columns: Mapping[str, Column]) -> Iterator[None]:
    """Add declarations of columns to `known_columns` within a `with` block.

    The columns are those that only one store has, or that an analysis names anew.
    """
    token = _store_columns.set({**(_store_columns.get() or {}), **columns})
    try:
        yield
    finally:
        _store_columns.reset(token)


def known_columns() -> Mapping[str, Column]:
    """Index every column by name, with those of the store that is open in this context."""
    own = _store_columns.get()
    return {**columns_by_name(), **own} if own else columns_by_name()
