"""Conversion of a block's texts to typed columns, with the results that single cells would give."""

import datetime as dt
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from workbench import cells, schema
from workbench.cells import COMMA, POINT
from workbench.errors import ImportFormatError
from workbench.sources.tables.bulk import csv_blocks
from workbench.sources.tables.columns import Column, fields
from workbench.sources.tables.paths import Found, Row, steps
from workbench.sources.tables.table_records import NAMES, RowReader, numeric_paths
from workbench.sources.tables.table_rows import CsvHead
from workbench.sources.tables.units import UNITS

TYPES: dict[str, Any] = {
    "text": pl.String,
    "json": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Datetime("us"),
}
_FEW = 2_000  # different cells of a block that are converted one by one
_ROW = "@row"
_INT = r"^-?[0-9]{1,18}$"
_FLOAT = r"^-?[0-9]{1,15}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?$"
_OPEN = r"^-?[1-9][0-9]{0,2}\.[0-9]{3}(?:[eE].*)?$"  # a thousand, if the point is no decimal mark
_SINCE_1970 = r"^[1-9][0-9]{8,17}$"
_DAY, _CLOCK = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_TIME = rf"^({_DAY})[T ]({_CLOCK})(?:\.([0-9]{{1,6}}))?(?:Z|([+-])([0-9]{{2}}):([0-9]{{2}}))?$"
_WITH_EMPTY_FRACTION = r"^\s*-?(?:0|[1-9][0-9]*)\.0+\s*$"


class NotPlainError(Exception):
    """A block has a cell that only the reader of rows can judge."""


class CellSeries:
    """Converter of the columns of a CSV's blocks."""

    def __init__(self, reader: RowReader, head: CsvHead) -> None:
        """Bind to the reader of rows, and to the head of its file."""
        self.reader = reader
        self.head = head
        reader.distinct_texts = self._distinct

    def column(
        self, texts: pl.DataFrame, column: Column, field: schema.Column, *, first: int
    ) -> pl.Series:
        """Convert the cells of a column to a field's type and unit.

        Args:
            texts: the block.
            column: the column.
            field: the field.
            first: number of the block's first row.

        Raises:
            NotPlainError: a cell is not plain.
        """
        path = column.path
        if path == _ROW and not (column.unit or column.offset or column.values or column.null_if):
            numbers = pl.int_range(first, first + texts.height, dtype=pl.Int64, eager=True)
            return numbers.cast(TYPES[field.type]) if field.type != "time" else self._refuse()
        if path not in texts.columns:
            return self._constant(texts, column, field)
        self.reader.read_paths.add(path)
        found = texts[path]
        if field.type in {"text", "json"} and column.values is None and not column.null_if:
            return _known_texts(found)
        if column.values is None and (many := self._many(found, column, field)) is not None:
            return many
        return self._few(found, column, field)

    def different(
        self, texts: pl.DataFrame, paths: list[str], *, limit: int | None = _FEW
    ) -> tuple[list[Found], pl.Series]:
        """Return the different rows of some columns, and for each row of the block which it is.

        Raises:
            NotPlainError: there are more than the limit, or a path leads into a cell.
        """
        keys = [path for path in dict.fromkeys(paths) if path in texts.columns]
        if _ROW in paths or any(self._is_inside(path, texts) for path in paths):
            raise NotPlainError
        if not keys:
            return [Found("", {})], pl.repeat(0, texts.height, dtype=pl.UInt32, eager=True)
        different = texts.select(keys).unique(maintain_order=True)
        if limit is not None and different.height > limit:
            raise NotPlainError
        numbered = different.with_row_index("\0")
        joined = texts.select(keys).join(numbered, on=keys, how="left", maintain_order="left")
        return [Found("", row) for row in different.iter_rows(named=True)], joined["\0"]

    def of_row(self, row: Found, columns: Mapping[str, Column]) -> Row:
        """Read some fields of one row, and the constants.

        Raises:
            NotPlainError: a cell is wrong, or there is no task or model.
        """
        values = dict(self.reader.constants)
        for name, column in columns.items():
            [value] = self._converted([row.cells], column, fields()[name])
            is_name = name in NAMES and isinstance(value, str)
            values[name] = value.strip() if is_name else value
        if not values.get("task") or not values.get("model"):
            raise NotPlainError
        return values

    def group(self, row: Found, columns: Mapping[str, Column]) -> str | None:
        """Read named columns into one JSON text."""
        try:
            return self.reader.group(row, columns)
        except ImportFormatError:
            raise NotPlainError from None

    def _refuse(self) -> pl.Series:
        raise NotPlainError

    def _is_inside(self, path: str, texts: pl.DataFrame) -> bool:
        """Whether a path leads into a cell."""
        return path not in texts.columns and str(steps(path)[0]) in texts.columns

    def _constant(self, texts: pl.DataFrame, column: Column, field: schema.Column) -> pl.Series:
        """Convert a property of the file, or what an optional column is where there is none."""
        if column.path == _ROW or self._is_inside(column.path, texts):
            raise NotPlainError
        [value] = self._converted([{}], column, field)
        return pl.repeat(value, texts.height, dtype=TYPES[field.type], eager=True)

    def _converted(self, rows: list[Any], column: Column, field: schema.Column) -> list[Any]:
        try:
            values = [self.reader.cell(Found("", row), column, field) for row in rows]
        except ImportFormatError:
            raise NotPlainError from None
        if field.type == "time":
            return [v and v.astimezone(dt.UTC).replace(tzinfo=None) for v in values]
        return values

    def _few(self, found: pl.Series, column: Column, field: schema.Column) -> pl.Series:
        """Convert each different cell by itself."""
        different = found.unique()
        if different.len() > _FEW:
            raise NotPlainError
        rows = [{column.path: text} for text in different]
        try:
            values = pl.Series(self._converted(rows, column, field), dtype=TYPES[field.type])
        except (OverflowError, TypeError, pl.exceptions.PolarsError):
            raise NotPlainError from None
        return found.replace_strict(different, values, return_dtype=TYPES[field.type])

    # -- columns of many different cells -------------------------------------------------------

    def _many(self, found: pl.Series, column: Column, field: schema.Column) -> pl.Series | None:
        """Convert plain numbers and times at once; None if a cell is not plain."""
        if field.type == "time":
            return None if column.form or column.unit or column.null_if else _times(found)
        if field.type not in {"int", "float"}:
            return None
        numbers = self._numbers(found, column, field)
        if numbers is None or not all(type(v) in {int, float} for v in column.null_if):
            return None
        if column.null_if:
            numbers = _where(~_is_one_of(numbers, column.null_if), numbers)
        return _in_unit(numbers, column, field)

    def _numbers(self, found: pl.Series, column: Column, field: schema.Column) -> pl.Series | None:
        """Read plain numbers in their own unit."""
        stripped = found.str.strip_chars()
        pattern = _INT if field.type == "int" else _FLOAT
        is_number = stripped.str.contains(pattern)
        others = stripped.filter(~is_number).unique()
        if others.len() > _FEW or not all(cells.is_unknown(text) for text in others):
            return None
        written = _where(is_number, stripped)
        if not self._has_points(written, column):
            return None
        numbers = written.cast(TYPES[field.type], strict=False)
        if numbers.null_count() != written.null_count():
            return None
        is_minus_zero = ((numbers == 0) & written.str.starts_with("-")).any()  # a 0 if it is whole
        return None if is_minus_zero else numbers

    def check_marks(self, texts: pl.DataFrame) -> None:
        """Refuse numbers whose decimal mark the file's other numbers may decide, in their order.

        Raises:
            NotPlainError: there may be such numbers.
        """
        if self.reader.mapping.decimal:
            return
        for path in numeric_paths(self.reader.mapping) & set(texts.columns):
            found = texts[path]
            if found.str.contains(COMMA, literal=True).any():
                raise NotPlainError
            if found.str.contains(POINT, literal=True).any() and self._has_commas:
                raise NotPlainError

    def _has_points(self, written: pl.Series, column: Column) -> bool:
        """Whether the point is the decimal mark of a column's numbers."""
        mark = column.decimal or self.reader.mapping.decimal
        if mark or self.head.delimiter != ";":
            return mark != COMMA
        return not written.str.contains(_OPEN).any()

    @functools.cached_property
    def _has_commas(self) -> bool:
        """Whether a number of the file may have a comma."""
        if self.head.delimiter == COMMA and not self._has_quotes():
            return False
        paths = [path for path in numeric_paths(self.reader.mapping) if path in self.head.names]
        for texts in self._blocks():
            if texts is None:
                return True
            if any(texts[path].str.contains(COMMA, literal=True).any() for path in paths):
                return True
        return False

    def _has_quotes(self) -> bool:
        head = self.head
        path = self.reader.path
        return any(b'"' in b.data for b in csv_blocks.blocks(path, head.start, head.line))

    def _blocks(self) -> Iterator[pl.DataFrame | None]:
        head = self.head
        for block in csv_blocks.blocks(self.reader.path, head.start, head.line):
            yield csv_blocks.frame(block, head.names, head.delimiter)

    def _distinct(self, paths: frozenset[str]) -> list[dict[str, str]] | None:
        """Return the different texts of some columns; None if only the rows can tell."""
        known = [path for path in paths if path in self.head.names]
        if any(str(steps(path)[0]) in self.head.names for path in paths - set(known)):
            return None
        seen = {path: pl.Series(path, [], dtype=pl.String) for path in known}
        for texts in self._blocks():
            if texts is None:
                return None
            for path in known:
                seen[path] = pl.concat([seen[path], texts[path].unique()]).unique()
        return [{path: text} for path, column in seen.items() for text in column]


def _known_texts(found: pl.Series) -> pl.Series:
    """Make blank texts unknown."""
    return _where(found.str.strip_chars() != "", found)


def _where(mask: pl.Series, values: pl.Series) -> pl.Series:
    """Make values unknown where a mask is false."""
    return pl.select(pl.when(mask).then(values)).to_series()


def _is_one_of(numbers: pl.Series, values: tuple[Any, ...]) -> pl.Series:
    fitting = [v for v in values if numbers.dtype == pl.Float64 or float(v).is_integer()]
    dtype = numbers.dtype
    wanted = pl.Series([float(v) if dtype == pl.Float64 else int(v) for v in fitting], dtype=dtype)
    return numbers.is_in(wanted.implode()).fill_null(value=False)


def _in_unit(numbers: pl.Series, column: Column, field: schema.Column) -> pl.Series | None:
    """Convert to the store's unit; None if a number is outside of its range."""
    unit = UNITS.get(column.unit)
    if field.type == "int":
        is_same = (unit is None or unit.times == unit.per) and not column.offset
        return numbers if is_same else None
    if unit is not None:
        numbers = numbers * float(unit.times) / float(unit.per)
    if column.offset:
        numbers = numbers + column.offset
    low, high = (0, 1) if field.unit == "0..1" else (column.low, column.high)
    is_outside = (numbers.is_infinite()).any()
    is_outside |= low is not None and bool((numbers < low).any())
    is_outside |= high is not None and bool((numbers > high).any())
    return None if is_outside else numbers


def _times(found: pl.Series) -> pl.Series | None:
    """Convert times in ISO 8601, or whole numbers since 1970; None for any other text."""
    stripped = found.str.strip_chars()
    written = _where(stripped != "", stripped)
    if written.str.contains(_SINCE_1970).all():
        return _since_1970(written)
    if not written.str.contains(_TIME).all():
        return None
    part = [written.str.extract(_TIME, group) for group in range(1, 7)]
    base = (part[0] + "T" + part[1]).str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)
    if base.null_count() != written.null_count():
        return None
    micros = part[2].fill_null("0").str.pad_end(6, "0").cast(pl.Int64)
    hours, minutes = (p.fill_null("0").cast(pl.Int64) for p in part[4:])
    if (hours > 23).any() or (minutes > 59).any():
        return None
    zone = (hours * 60 + minutes) * 60_000_000
    offset = pl.select(pl.when(part[3] == "-").then(-zone).otherwise(zone)).to_series()
    at = base.cast(pl.Datetime("us")).cast(pl.Int64) + micros - offset
    times = at.cast(pl.Datetime("us"))
    return None if (times.dt.year() < 1).any() or (times.dt.year() > 9999).any() else times


def _since_1970(written: pl.Series) -> pl.Series:
    numbers = written.cast(pl.Int64)
    frame = pl.DataFrame({"n": numbers})
    n = pl.col("n")
    micros = (
        pl.when(n < 10**11)
        .then(n * 10**6)
        .when(n < 10**14)
        .then(n * 1000)
        .when(n < 10**17)
        .then(n)
        .otherwise(n // 1000)
    )
    return frame.select(micros.cast(pl.Datetime("us")))["n"]
