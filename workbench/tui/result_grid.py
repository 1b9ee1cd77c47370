"""Result grid: a frame of an analysis or an SQL statement as columns and rows of a grid."""

import operator
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench import formats
from workbench.safe import one_line
from workbench.schema import Column, headings
from workbench.tui.widgets.grid import GridColumn
from workbench.tui.widgets.rows import FrameRows, ListRows

if TYPE_CHECKING:
    import polars as pl

WIDEST = 60  # terminal cells of a column, at most
LONGEST = 2000  # terminal cells of a value that is shown on lines of its own, at most


def _writer(name: str, column: Column | None, most: int) -> Any:
    def write(row: Mapping[str, Any]) -> str:
        value = row[name]
        if isinstance(value, bytes):
            return one_line(value.hex(" "), most)
        return one_line(formats.value_text(value, column), most)

    return write


def grid_columns(
    frame: "pl.DataFrame", known: Sequence[Column] = (), most: int = WIDEST
) -> list[GridColumn]:
    """Return a grid column per column of a frame, with heads and formats of the schema."""
    by_name = {column.name: column for column in known}
    columns = []
    heads = headings(frame.columns, by_name)
    for (name, dtype), head in zip(frame.schema.items(), heads, strict=True):
        column = by_name.get(name)
        columns.append(
            GridColumn(
                key=name,
                title=one_line(head, WIDEST),
                cell=_writer(name, column, most),
                right=dtype.is_numeric(),
                most=most,
            )
        )
    return columns


def height(frame: "pl.DataFrame") -> str:
    """Write the number of rows."""
    return formats.counted(frame.height, "row")


def record(
    frame: "pl.DataFrame", known: Sequence[Column], width: int
) -> tuple[ListRows, list[GridColumn]]:
    """Transpose a frame of one row: a line per column, or several for a long text."""
    row = frame.row(0, named=True)
    lines = []
    for column in grid_columns(frame, known, LONGEST):
        parts = textwrap.wrap(str(column.cell(row)), max(20, width)) or [""]
        lines += [{"what": column.title, "value": parts[0]}]
        lines += [{"what": "", "value": part} for part in parts[1:]]
    what = GridColumn("what", "", operator.itemgetter("what"), sortable=False)
    value = GridColumn("value", "", operator.itemgetter("value"), most=LONGEST, sortable=False)
    return ListRows(lines), [what, value]


def ordered(frame: "pl.DataFrame", key: str, *, descending: bool) -> FrameRows:
    """Return the rows sorted by a column, nulls last; unsorted if there is no such column."""
    if key in frame.columns:
        frame = frame.sort(key, descending=descending, nulls_last=True, maintain_order=True)
    return FrameRows(frame)


def notes_text(dropped: Mapping[str, int], notes: Sequence[str]) -> str:
    """Write the dropped rows and the notes of an analysis, one a line."""
    reasons = [f"{formats.count(n)} {reason}" for reason, n in dropped.items()]
    lines = [f"left out: {'; '.join(reasons)}"] if reasons else []
    return "\n".join([*lines, *notes])
