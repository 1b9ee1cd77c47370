"""A frame as lines of text: aligned for a terminal or a file, or as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from rich.cells import cell_len

from workbench.formats import value_text
from workbench.safe import one_line, safe
from workbench.schema import Column, headings

GAP = "  "
NARROWEST = 12  # cells that a text column keeps when a terminal is too narrow

Columns = Mapping[str, Column]


def _cells(frame: pl.DataFrame, columns: Columns) -> list[list[str]]:
    """Write every value, column by column, without anything that a terminal acts on."""
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
        columns: what the columns mean; the others are headed by their name.
        width: cells of the terminal; long texts are cut to fit, and rows that cannot fit are
            written one value a line. None writes everything at full width.
        bold: whether the head may be set in bold.
    """
    if not frame.width:
        return
    head, cells, right = _head(frame, columns), _cells(frame, columns), _numeric(frame)
    wide = [max(map(cell_len, [h, *c])) for h, c in zip(head, cells, strict=True)]
    fitted = wide if width is None else _fit(wide, right, width - len(GAP) * (len(wide) - 1))
    if width is not None and sum(fitted) > width - len(GAP) * (len(wide) - 1):
        yield from _tall(head, cells)
        return
    top = GAP.join(_pad(h, w, r) for h, w, r in zip(head, fitted, right, strict=True)).rstrip()
    yield f"\x1b[1m{top}\x1b[0m" if bold else top
    yield GAP.join("─" * w for w in fitted)
    for row in zip(*cells, strict=True):
        padded = (_pad(c, w, r) for c, w, r in zip(row, fitted, right, strict=True))
        yield GAP.join(padded).rstrip()


def _fit(wide: Sequence[int], numeric: Sequence[bool], room: int) -> list[int]:
    """Narrow the widest text columns until the table fits, or none can give more."""
    fitted = list(wide)
    while sum(fitted) > room:
        spare = [(w, i) for i, w in enumerate(fitted) if not numeric[i] and w > NARROWEST]
        if not spare:
            break
        widest, place = max(spare)
        second = max([w for w, i in spare if i != place], default=NARROWEST)
        fitted[place] = max(second - 1, NARROWEST, widest - (sum(fitted) - room))
    return fitted


def _pad(text: str, width: int, right: bool) -> str:
    text = one_line(text, width)
    fill = " " * (width - cell_len(text))
    return fill + text if right else text + fill


def _tall(head: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write one value a line."""
    name_width = max(map(cell_len, head))
    for number, row in enumerate(zip(*cells, strict=True), 1):
        yield f"─ row {number}"
        for name, cell in zip(head, row, strict=True):
            yield f"{name}{' ' * (name_width - cell_len(name))}{GAP}{cell}"


def markdown(frame: pl.DataFrame, columns: Columns) -> Iterator[str]:
    """Write a Markdown table; markup in values is shown, not followed."""
    from workbench.report.markdown import grid

    if frame.width:
        rows = list(zip(*_cells(frame, columns), strict=True))
        yield from grid(_head(frame, columns), rows, _numeric(frame))


def frame_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pl.DataFrame:
    """Make a frame of few rows with these columns, in this order; all-unknown columns are text."""
    frame = (
        pl.DataFrame([dict(r) for r in rows], infer_schema_length=None) if rows else pl.DataFrame()
    )
    missing = [pl.lit(None, pl.String).alias(n) for n in names if n not in frame.columns]
    frame = (
        frame.with_columns(missing)
        if rows
        else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    )
    return frame.select(names)
