"""Any frame as a grid: the table of an analysis, or what an SQL statement returned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.schema import Column
from workbench.tui import formats
from workbench.tui.safe import one_line
from workbench.tui.widgets.grid import GridColumn
from workbench.tui.widgets.rows import FrameRows

if TYPE_CHECKING:
    import polars as pl

WIDEST = 60  # cells of one column


def _writer(name: str, column: Column | None) -> Any:
    def write(row: Mapping[str, Any]) -> str:
        value = row[name]
        if isinstance(value, bytes):
            return one_line(value.hex(" "), WIDEST)
        return one_line(formats.value_text(value, column), WIDEST)

    return write


def grid_columns(frame: "pl.DataFrame", known: Sequence[Column] = ()) -> list[GridColumn]:
    """Return a grid column per column of a frame, headed and written by what is known of it."""
    by_name = {column.name: column for column in known}
    found = []
    for name, dtype in frame.schema.items():
        column = by_name.get(name)
        found.append(
            GridColumn(
                key=name,
                title=one_line(column.heading if column else name, WIDEST),
                cell=_writer(name, column),
                right=dtype.is_numeric(),
                most=WIDEST,
            )
        )
    return found


def ordered(frame: "pl.DataFrame", key: str, *, descending: bool) -> FrameRows:
    """Return a frame's rows by a column, unknown ones last; as they came where there is no such column."""
    if key in frame.columns:
        frame = frame.sort(key, descending=descending, nulls_last=True, maintain_order=True)
    return FrameRows(frame)


def said(dropped: Mapping[str, int], notes: Sequence[str]) -> str:
    """Write what an analysis left out and what a reader should know."""
    left = [f"{formats.count(n)} {reason}" for reason, n in dropped.items()]
    return "\n".join([*([f"left out: {'; '.join(left)}"] if left else []), *notes])
