"""Rows of a file as a mapping asks for them: joined with other files, filtered, and unpivoted."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import cells
from workbench.errors import ImportFormatError
from workbench.sources.report import FileReport
from workbench.sources.tables.columns import NULL, Condition, JoinedFile, Mapping, Unpivot
from workbench.sources.tables.paths import (
    MISSING,
    Found,
    Row,
    file_names,
    lookup,
    names_in,
    row_steps,
    shown,
)
from workbench.sources.tables.table_rows import Table, file_kind, open_table
from workbench.sources.tables.units import equals, is_null

JOINED_LIMIT = 2**28  # bytes of a joined file, which is held in memory
_BRACES = "{{{}}}"
Key = tuple[str | None, ...]


class RowStream:
    """The rows of one file that a mapping takes, and the cells that its paths lead to."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        """Bind the mapping to a file; no row is read yet."""
        self.path = path
        self.mapping = mapping
        self.file: Row = {"@stem": path.stem, "@name": path.name, "@folder": path.parent.name}
        self.file |= {"@row": 0, "@repeat": 0}
        for pattern in mapping.files:
            if (names := file_names(pattern, path.absolute())) is not None:
                self.file |= {f"@{name}": value for name, value in names.items()}
                break
        self._naming = (*mapping.files, mapping.rows)  # patterns that name what they match
        self._partners: dict[str, dict[Key, Row]] = {}

    def open(self, report: FileReport) -> Table:
        """Open the file.

        Raises:
            ImportFormatError: it is no table, or its name does not fit the patterns of [match].
        """
        self._check_name()
        mapping = self.mapping
        return open_table(self.path, mapping.rows, report, delimiter=mapping.delimiter)

    def _check_name(self) -> None:
        """Refuse a file from whose name a value is asked that it does not have."""
        of_files = {f"@{name}" for text in self.mapping.files for name in names_in(text)}
        read = {path for _, column in self.mapping.all_columns() for path in column.paths}
        missing = sorted((of_files & (read | self.paths())) - self.file.keys())
        if missing:
            raise ImportFormatError(
                f"{self.path}: the name {self.path.name!r} does not fit files ="
                f" {list(self.mapping.files)} of mapping {self.mapping.name}, which gives"
                f" {', '.join(missing)}"
            )

    def rows(self, table: Table, report: FileReport) -> Iterator[Found]:
        """Yield the rows; the report gets the number of those that [where] leaves out."""
        mapping = self.mapping
        is_plain = not (mapping.where or mapping.unpivot or mapping.joins)
        for number, found in enumerate(table.rows, 1):
            row = found._replace(number=number)
            if is_plain:
                yield row
                continue
            try:
                rows = list(self._taken(row, report))
            except ImportFormatError as error:
                report.bad_row(str(error), error)
            else:
                yield from rows

    def _taken(self, row: Found, report: FileReport) -> Iterator[Found]:
        for join in self.mapping.joins:
            row = self._joined(row, join, report)
        rows = self._unpivoted(row, self.mapping.unpivot) if self.mapping.unpivot else [row]
        for unpivoted in rows:
            if all(self._holds(unpivoted, condition) for condition in self.mapping.where):
                yield unpivoted
            else:
                report.notes["rows that [where] leaves out"] += 1

    # -- cells ---------------------------------------------------------------------------------

    def raw(self, found: Found, path: str) -> Any:
        """Return what a path leads to; MISSING if it leads nowhere."""
        if path[:1] == "@":
            if path[1:] in found.names:
                return found.names[path[1:]]
            if path in self.file:
                return found.number if path == "@row" else self.file[path]
        if "{" in path:
            path = self.bound(found, path)
        if path[:1] == "^":
            return lookup(found.beside, path[1:])
        return lookup(found.cells, path)

    def bound(self, found: Found, path: str) -> str:
        """Put the values of names in the place of the names in braces."""
        for name, value in found.names.items():
            path = path.replace(_BRACES.format(name), str(value))
        return path

    def is_property(self, path: str) -> bool:
        """Whether a path is a property of the file, or a name in braces."""
        if path in self.file or path == "@value":
            return True
        return path[:1] == "@" and (
            any(_BRACES.format(path[1:]) in text for text in self._naming)
            or (self.mapping.unpivot is not None and self.mapping.unpivot.name == path[1:])
        )

    def paths(self) -> set[str]:
        """Return the paths that are read beside those of columns."""
        mapping = self.mapping
        found = {condition.path for condition in mapping.where}
        found |= {mine for join in mapping.joins for mine, _ in join.on}
        found |= {join.name for join in mapping.joins}
        found |= {str(step) for step in row_steps(mapping.tool_rows or "")[:1]}
        return found

    def unpivoted_paths(self, paths: set[str], columns: tuple[str, ...]) -> set[str]:
        """Return the columns of a wide table that paths with the name in braces lead to."""
        unpivot = self.mapping.unpivot
        if unpivot is None:
            return set()
        values = unpivot.values or _fitting(unpivot.pattern, columns)
        braces = _BRACES.format(unpivot.name)
        patterns = {path for path in {*paths, unpivot.pattern} if braces in path}
        return {path.replace(braces, value) for path in patterns for value in values}

    # -- conditions ----------------------------------------------------------------------------

    def _holds(self, row: Found, condition: Condition) -> bool:
        value = self.raw(row, condition.path)
        value = None if value is MISSING else value
        if condition.among is not None and not _is_among(value, condition.among):
            return False
        if _is_among(value, condition.without):
            return False
        if condition.low is None and condition.high is None:
            return True
        if is_null(value, "float"):
            return False
        try:
            number = cells.number(value, self.mapping.decimal or cells.POINT)
        except ValueError as error:
            raise ImportFormatError(
                f"{self.path}, {row.place}, [where] {condition.path!r}: {shown(value)} is no"
                f" number: {error}"
            ) from error
        is_above = condition.low is None or number >= condition.low
        return is_above and (condition.high is None or number <= condition.high)

    # -- wide tables ---------------------------------------------------------------------------

    def _unpivoted(self, row: Found, unpivot: Unpivot) -> Iterator[Found]:
        values = unpivot.values or _fitting(unpivot.pattern, tuple(row.cells))
        if not values:
            raise ImportFormatError(
                f"{self.path}, {row.place}: no column fits unpivot = {unpivot.pattern!r}; there are"
                f" {', '.join(list(row.cells)[:20])}"
            )
        for value in values:
            place = f"{row.place}, {unpivot.name} {value!r}"
            yield row._replace(place=place, names={**row.names, unpivot.name: value})

    # -- joined files --------------------------------------------------------------------------

    def joined_file(self, join: JoinedFile) -> Path:
        """Return the path of a second file."""
        name = join.file
        for known, value in self.file.items():
            name = name.replace(_BRACES.format(known[1:]), str(value))
        return self.path.parent / name

    def _joined(self, row: Found, join: JoinedFile, report: FileReport) -> Found:
        """Add the row of the second file that has the same key; unknown keys have none."""
        if join.name not in self._partners:
            self._partners[join.name] = self._read_joined(join)
        key = tuple(_key(self.raw(row, mine)) for mine, _ in join.on)
        partner = self._partners[join.name].get(key)
        if partner is None:
            report.notes[f"rows without a row of [join.{join.name}]"] += 1
            return row
        return row._replace(cells={**row.cells, join.name: partner})

    def _read_joined(self, join: JoinedFile) -> dict[Key, Row]:
        """Read a joined file: its rows by key.

        Raises:
            ImportFormatError: it cannot be read, is too large, or has two rows for a key.
        """
        file = self.joined_file(join)
        where = f"{self.path}, [join.{join.name}]"
        try:
            size = file.stat().st_size
            kind = file_kind(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImportFormatError(f"{where}: {file} cannot be read: {reason}") from error
        if size > JOINED_LIMIT or kind is None:
            reason = "no table" if kind is None else f"larger than {JOINED_LIMIT >> 20} MB"
            raise ImportFormatError(f"{where}: {file} is {reason}; it cannot be joined")
        rows: dict[Key, Row] = {}
        for found in open_table(file, join.rows, FileReport(file)).rows:
            names = {f"@{name}": value for name, value in found.names.items()}
            partner = {**found.cells, **names}
            key = tuple(_key(lookup(partner, theirs)) for _, theirs in join.on)
            if None not in key and rows.setdefault(key, partner) != partner:
                named = ", ".join(map(str, key))
                raise ImportFormatError(
                    f"{where}: {file}, {found.place}: a second row for the key {named!r} differs"
                    " from the first; name more columns in on, or remove one of the rows"
                )
        return rows


def _key(value: Any) -> str | None:
    """Write a part of a key as text, so that 1, 1.0 and "1" are one."""
    if value is MISSING or is_null(value, "text"):
        return None
    written = cells.text(value).strip()
    return cells.integral(written) or written


def _is_among(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a cell is one of the values of a mapping; "@null" is an unknown one."""
    if is_null(value, "text"):
        return NULL in values
    return any(other != NULL and equals(value, other) for other in values)


@functools.lru_cache(maxsize=16)
def _fitting(pattern: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of the name in a pattern of columns, by the columns of a row."""
    start, _, rest = pattern.partition("{")
    end = rest.partition("}")[2]
    return tuple(
        name[len(start) : len(name) - len(end)]
        for name in names
        if len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end)
    )
