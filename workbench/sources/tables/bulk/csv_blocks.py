"""Blocks of a CSV file as Polars frames of texts, where Polars reads it as the csv module does.

The csv module decides what a file says, line by line. A block is read by Polars only if its quotes
stand where both readers take them for quotes, and if counts of delimiters and lines prove that each
line has as many cells as the head; the rest of the file is left to the csv module.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

BLOCK_BYTES = 1 << 22  # four times as much is no faster, and takes 70 MB more
_MAX_LINE = 1 << 26
_BLANKS = (b"\0", b"\x1c", b"\x1d", b"\x1e", b"\x1f")  # blanks to Python, not to Polars


class Block(NamedTuple):
    """Whole lines of a file.

    Attributes:
        start: offset of the first byte.
        line: number of the first line, from 1.
        data: the bytes.
    """

    start: int
    line: int
    data: bytes


def blocks(path: Path, start: int, line: int) -> Iterator[Block]:
    """Cut a file into blocks that end with a line, outside of quotes.

    Args:
        path: the file.
        start: offset of the first row.
        line: its number.
    """
    with path.open("rb") as file:
        file.seek(start)
        rest = b""
        while True:
            read = file.read(BLOCK_BYTES)
            data = rest + read
            cut = len(data) if not read else _end_of_line(data)
            if data[:cut]:
                yield Block(start, line, data[:cut])
            if not read:
                return
            start += cut
            line += data.count(b"\n", 0, cut)
            rest = data[cut:]
            if len(rest) > _MAX_LINE:  # a line without an end: the csv module says what is wrong
                yield Block(start, line, rest + file.read())
                return


def _end_of_line(data: bytes) -> int:
    """Return the end of the last line that ends outside of quotes; 0 if none does."""
    cut = data.rfind(b"\n") + 1
    n_quotes = data.count(b'"', 0, cut)
    while cut and n_quotes % 2:
        before = data.rfind(b"\n", 0, cut - 1) + 1
        n_quotes -= data.count(b'"', before, cut)
        cut = before
    return cut


@functools.cache
def _quoted(delimiter: str) -> re.Pattern[bytes]:
    mark = re.escape(delimiter.encode())
    return re.compile(rb"(?<![^" + mark + rb'\n])"[^"]*+(?:""[^"]*+)*+"(?=[' + mark + rb"\r\n]|\Z)")


def frame(block: Block, names: tuple[str, ...], delimiter: str) -> pl.DataFrame | None:
    """Read a block as texts; None if the csv module could read it differently, or refuses it."""
    data = block.data
    if len(names) < 2 or any(blank in data for blank in _BLANKS):
        return None
    bare = _quoted(delimiter).sub(b"", data) if b'"' in data else data
    if b'"' in bare or bare.count(b"\r") != bare.count(b"\r\n"):
        return None
    try:
        rows = pl.read_csv(
            data,
            has_header=False,
            new_columns=list(names),
            separator=delimiter,
            infer_schema=False,
            empty_string_is_null=False,
            raise_if_empty=False,
        )
    except pl.exceptions.PolarsError:
        return None
    n_lines = bare.count(b"\n") + (not bare.endswith(b"\n"))
    n_delimiters = bare.count(delimiter.encode())
    is_whole = rows.height == n_lines and n_delimiters == n_lines * (len(names) - 1)
    return rows if is_whole and tuple(rows.columns) == names else None
