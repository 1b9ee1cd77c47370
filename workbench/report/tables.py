"""Tables of a result as cells of text, before they are written in a format."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from workbench.analysis import Result
from workbench.formats import interval, is_unknown, value_text
from workbench.safe import both_ends, safe
from workbench.schema import KEY_NULL, Column

# characters of a cell, at most; a longer text loses its middle, because names of one family differ
# at their ends
WIDEST = 120
_LONG = 1000
_MAX_COLUMNS_OF_ROW = 4  # a single row with more columns is transposed
_LOW, _HIGH = "_low", "_high"


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The head of a column: its text, its meaning, and whether its cells are numbers."""

    text: str
    doc: str = ""
    is_number: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table of text that is not yet escaped.

    Attributes:
        name: name of a further table; "" for the main one.
        heads: heads of the columns.
        rows: cells as text, unescaped: one line each, without control characters.
        keys: number of columns at the left that name the row.
        n_rows: number of rows, those not shown included.
        unknown: columns without a value in any row, each with the meaning of null.
        sideways: whether the table is one row, transposed to a line per column.
    """

    name: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int
    n_rows: int
    unknown: tuple[str, ...] = ()
    sideways: bool = False

    @property
    def n_cut(self) -> int:
        """Rows that are not shown."""
        return 0 if self.sideways else self.n_rows - len(self.rows)


def tables(result: Result, most: int, fewer: int) -> list[Table]:
    """Write the tables of a result: the main one, and those further ones that are not empty.

    Args:
        result: the result.
        most: rows of the main table, at most.
        fewer: rows of a further table, at most.
    """
    known = {c.name: c for c in result.columns}
    main = table("", result.frame, known, result.by, most)
    more = {name: frame for name, frame in result.more.items() if not frame.is_empty()}
    return [main, *(table(name, frame, known, result.by, fewer) for name, frame in more.items())]


def table(
    name: str, frame: pl.DataFrame, known: Mapping[str, Column], by: Sequence[str], most: int
) -> Table:
    """Write a frame with intervals beside their figures, without columns that have no value.

    Args:
        name: name of the table; "" for the main one.
        frame: all rows.
        known: descriptions of columns by name.
        by: columns that name a group; they come first.
        most: rows to write, at most.
    """
    shown = frame.head(most)
    columns = _columns(frame, known, by)
    blank = [c for c in columns if frame.height and all(is_unknown(v) for v in frame[c].to_list())]
    filled = [c for c in columns if c not in blank]
    heads = [_head(c, frame, known.get(c)) for c in filled]
    cells = [_cells(c, shown, known.get(c)) for c in filled]
    unknown = tuple(_unknown(c, known.get(c)) for c in blank)
    keys = sum(c in by for c in filled) or int(bool(filled) and not heads[0].is_number)
    if frame.height == 1 and len(filled) > _MAX_COLUMNS_OF_ROW:
        lines = tuple((head.text, cell[0]) for head, cell in zip(heads, cells, strict=True))
        turned = (Head("figure"), Head("value", is_number=True))
        return Table(name, turned, lines, 1, 1, unknown, sideways=True)
    rows = tuple(zip(*cells, strict=True))
    return Table(name, tuple(heads), rows, keys, frame.height, unknown)


def _columns(frame: pl.DataFrame, known: Mapping[str, Column], by: Sequence[str]) -> list[str]:
    """Order the columns: groups first, counts last, without the ends of intervals."""
    names = frame.columns
    ends = {f"{c}{end}" for c in names for end in (_LOW, _HIGH) if _is_figure(frame, c)}
    first = [c for c in by if c in names]
    counts = [
        c for c in names if c in known and known[c].unit == "count" and not _is_figure(frame, c)
    ]
    after = [c for c in names if c not in ends and c not in first]
    return first + [c for c in after if c not in counts] + [c for c in after if c in counts]


def _is_figure(frame: pl.DataFrame, name: str) -> bool:
    return {f"{name}{_LOW}", f"{name}{_HIGH}"} <= set(frame.columns)


def _head(name: str, frame: pl.DataFrame, column: Column | None) -> Head:
    text = safe(column.heading if column else name)
    doc = column.doc if column else ""
    if column and doc and column.null not in {"", KEY_NULL}:
        doc = f"{doc} Unknown: {column.null}."
    return Head(text, safe(doc), frame[name].dtype.is_numeric())


def _cells(name: str, frame: pl.DataFrame, column: Column | None) -> list[str]:
    if not _is_figure(frame, name):
        return [_cell(value, column) for value in frame[name].to_list()]
    rows = frame.select(name, f"{name}{_LOW}", f"{name}{_HIGH}").iter_rows()
    return [interval(value, low, high, column) for value, low, high in rows]


def _cell(value: Any, column: Column | None) -> str:
    if isinstance(value, bytes):
        value = value[: 2 * WIDEST].hex(" ")
    text = value_text(value, column)
    if len(text) > _LONG:  # looking at megabytes takes seconds, and all but the ends goes anyway
        text = f"{text[: _LONG // 2]}…{text[-_LONG // 2 :]}"
    return both_ends(text, WIDEST)


def _unknown(name: str, column: Column | None) -> str:
    if column is None:
        return safe(name)
    return safe(f"{column.heading} ({column.null})" if column.null else column.heading)
