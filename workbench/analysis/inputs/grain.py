"""Grain of rows: opens the rows that an analysis takes and rejects those of another grain.

Rows of another grain have most of the columns, so that an analysis would answer, and wrongly:
traces without their tool calls look as if no tool was ever called, calls count as if each were a
trace.
"""

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import narwhals as nw

from workbench.analysis.core.declaration import Analysis
from workbench.errors import AnalysisError
from workbench.schema import VIEWS
from workbench.slice import Slice
from workbench.slice.names import is_entry

# Views by what one of their rows is, the plainest first.
_FAMILIES = (
    ("trace_facts", "trace_details", "trace_texts"),
    ("call_facts", "call_outcomes"),
    ("call_costs",),
    ("tool_facts", "tool_uses"),
    ("energy_facts",),
    ("message_facts",),
)
# Columns that tell that a row is less than what a family is made of.
_FINER = {
    "trace_facts": {"call_id", "tool_call_id"},
    "call_facts": {"tool_call_id", "content_id", "phase"},
}


@runtime_checkable
class Source(Protocol):
    """Source from which rows can be opened, as a store."""

    def facts(
        self, where: Slice | str = "", view: str = "trace_facts", **options: Any
    ) -> contextlib.AbstractContextManager[Any]:
        """Open the rows of a slice, valid inside the block; `fields` names entry columns."""


@contextlib.contextmanager
def opened(
    declared: Analysis, rows: Any, where: Slice | str, names: Iterable[str] = ()
) -> Iterator[Any]:
    """Open the rows that an analysis takes.

    Args:
        declared: the analysis.
        rows: a store, or the rows themselves.
        where: which traces of the store; of a frame its owner chooses.
        names: groups and options, among which may be columns of the store's own.

    Raises:
        AnalysisError: a slice of a frame.
    """
    # Asked of the class: a relation of DuckDB takes any attribute for a column.
    if issubclass(type(rows), Source):
        fields_option = {"fields": fields} if (fields := [*filter(is_entry, names)]) else {}
        with rows.facts(where, declared.rows, **fields_option) as frame:
            yield frame
    elif where:
        raise AnalysisError(
            f"where={str(where)!r} chooses traces of a store; give the store in place of "
            "the frame, as in "
            f"{_call(declared)}, or filter the frame"
        )
    else:
        yield rows


def are_figures(present: Collection[str]) -> bool:
    """Whether rows are published figures rather than traces."""
    return set(present) >= {"metric", "value"}


def check(declared: Analysis, rows: "nw.LazyFrame[Any]") -> None:
    """Refuse rows of another grain than the analysis takes.

    Rows put together by hand, in which no configuration has an id, are believed.

    Args:
        declared: the analysis.
        rows: some columns may be missing, and others there.

    Raises:
        AnalysisError: naming the right view, and the call that opens it.
    """
    columns = set(rows.collect_schema().names())
    if are_figures(columns):
        if not declared.aggregates:
            raise AnalysisError(
                f"{declared.name} answers from traces, and these are published figures (rows of "
                f"result_facts); give it the store: {_call(declared)}"
            )
        return
    views = (declared.rows, *declared.also_rows)
    if not any(_fit(view, columns) for view in views) and not _by_hand(rows, columns):
        others = (v for family in _FAMILIES for v in family if v not in views)
        is_of = max(others, key=lambda view: len(columns & set(VIEWS[view].names)))
        raise AnalysisError(
            f"{declared.name} takes rows of {declared.rows} ({VIEWS[declared.rows].grain}), "
            "and these are of "
            f"{is_of} ({VIEWS[is_of].grain}); give it the store: {_call(declared)}"
        )


def _call(declared: Analysis) -> str:
    """Write the call that opens the right rows by itself."""
    return f"wb.analysis.{declared.name.replace('-', '_')}(store, where=…, by=…)"


def _by_hand(rows: "nw.LazyFrame[Any]", columns: set[str]) -> bool:
    """Whether no row has the id of a configuration, which all rows of a store have."""
    if "configuration_id" not in columns:
        return True
    known = rows.filter(~nw.col("configuration_id").is_null()).select("configuration_id").head(1)
    return not len(known.collect("polars"))


def _fit(view: str, columns: set[str]) -> bool:
    """Whether rows with these columns can stand for rows of a view."""
    family = next(f for f in _FAMILIES if view in f)
    if columns & _FINER.get(family[0], set()):
        return False
    return all(columns & some for some in _tells(view))


@functools.cache
def _tells(view: str) -> tuple[set[str], ...]:
    """Return sets of columns; rows of a view have at least one column of each set."""
    family = next(f for f in _FAMILIES if view in f)
    place = family.index(view)
    column_sets = []
    if family[0] != "trace_facts":
        others = {c for f in _FAMILIES if f != family for v in f for c in VIEWS[v].names}
        family_columns = {c for v in family for c in VIEWS[v].names} - others
        # What is less than a call has its id too.
        column_sets.append(
            family_columns | {"call_id"} if family[0] == "call_facts" else family_columns
        )
    if place:
        column_sets.append(set(VIEWS[view].names) - set(VIEWS[family[place - 1]].names))
    return tuple(column_sets)
