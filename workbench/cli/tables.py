"""Tables of text from frames: aligned for a terminal or a file, or as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from rich.cells import cell_len

from workbench.formats import value_text
from workbench.safe import one_line, safe
from workbench.schema import Column, headings

GAP = "  "
MIN_TEXT_WIDTH = 12  # terminal cells; a text column is not cut below this

Columns = Mapping[str, Column]


def _cells(frame: pl.DataFrame, columns: Columns) -> list[list[str]]:
    """Write every value as text, column by column, with control characters escaped."""
    return [
        [safe(value_text(value, columns.get(name))) for value in frame[name].to_list()]
        for name in frame.columns
    ]


def _head(frame: pl.DataFrame, columns: Columns) -> list[str]:
    return [safe(head) for head in headings(frame.columns, columns)]


def _numeric(frame: pl.DataFrame) -> list[bool]:
    return [dtype.is_numeric() for dtype in frame.dtypes]


def lines(
    frame: pl.DataFrame, columns: Columns, *, width: int | None = None, bold: bool = False
) -> Iterator[str]:
    """Write a table, one line per row.

    Args:
        frame: the rows.
        columns: descriptions of columns by name; a column without one is headed by its name.
        width: width of the terminal in cells. Long texts are cut to fit; if the table cannot fit,
            every value is written on a line of its own. None writes everything at full width.
        bold: whether to write the head in bold.
    """
    if not frame.width:
        return
    head, cells, right = _head(frame, columns), _cells(frame, columns), _numeric(frame)
    widths = [max(map(cell_len, [h, *c])) for h, c in zip(head, cells, strict=True)]
    if width is not None:
        available = width - len(GAP) * (len(widths) - 1)
        widths = _fit(widths, right, available)
        if sum(widths) > available:
            yield from _one_value_per_line(head, cells)
            return
    top = GAP.join(_pad(h, w, r) for h, w, r in zip(head, widths, right, strict=True)).rstrip()
    yield f"\x1b[1m{top}\x1b[0m" if bold else top
    yield GAP.join("─" * w for w in widths)
    for row in zip(*cells, strict=True):
        padded = (_pad(c, w, r) for c, w, r in zip(row, widths, right, strict=True))
        yield GAP.join(padded).rstrip()


def _fit(widths: Sequence[int], numeric: Sequence[bool], available: int) -> list[int]:
    """Narrow the widest text columns until the table fits, or all are at their minimum."""
    fitted = list(widths)
    while sum(fitted) > available:
        shrinkable = [(w, i) for i, w in enumerate(fitted) if not numeric[i] and w > MIN_TEXT_WIDTH]
        if not shrinkable:
            break
        widest, index = max(shrinkable)
        second = max([w for w, i in shrinkable if i != index], default=MIN_TEXT_WIDTH)
        fitted[index] = max(second - 1, MIN_TEXT_WIDTH, widest - (sum(fitted) - available))
    return fitted


def _pad(text: str, width: int, right: bool) -> str:
    text = one_line(text, width)
    fill = " " * (width - cell_len(text))
    return fill + text if right else text + fill


def _one_value_per_line(head: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write every value on a line of its own, under the number of its row."""
    name_width = max(map(cell_len, head))
    for number, row in enumerate(zip(*cells, strict=True), 1):
        yield f"─ row {number}"
        for name, cell in zip(head, row, strict=True):
            yield f"{name}{' ' * (name_width - cell_len(name))}{GAP}{cell}"


def markdown(frame: pl.DataFrame, columns: Columns) -> Iterator[str]:
    """Write a Markdown table; markup in values is escaped."""
    from workbench.report.markdown import grid

    if frame.width:
        rows = list(zip(*_cells(frame, columns), strict=True))
        yield from grid(_head(frame, columns), rows, _numeric(frame))


def frame_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pl.DataFrame:
    """Make a frame with these columns, in this order; a column without values is text."""
    if not rows:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    frame = pl.DataFrame([dict(r) for r in rows], infer_schema_length=None)
    missing = [pl.lit(None, pl.String).alias(n) for n in names if n not in frame.columns]
    return frame.with_columns(missing).select(names)
