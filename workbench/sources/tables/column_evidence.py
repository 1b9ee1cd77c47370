"""Column evidence: decimal marks and types of a file's columns, for cells that are ambiguous."""

import functools
from collections.abc import Callable, Iterable

from workbench.cells import COMMA, POINT, Survey, decimal_mark
from workbench.errors import ImportFormatError

TextsByColumn = Callable[[frozenset[str]], Iterable[dict[str, str]]]


class ColumnEvidence:
    """Decimal marks and types of a text file's columns, read in one pass on first use."""

    def __init__(
        self,
        rows: TextsByColumn,
        numeric: frozenset[str],
        named: frozenset[str],
        delimiter: Callable[[], str] = str,
    ) -> None:
        """Prepare the evidence; nothing is read yet.

        Args:
            rows: returns the texts of some columns, row by row.
            numeric: the columns of numbers.
            named: the columns of any type.
            delimiter: returns the delimiter of a CSV; "" for other files.
        """
        self._rows = rows
        self._numeric = numeric
        self._named = named
        self._delimiter = delimiter
        self._marks: dict[str, str] = {}

    @functools.cached_property
    def _surveys(self) -> dict[str, Survey]:
        surveys = {path: Survey() for path in self._named}
        for row in self._rows(self._named):
            for path, cell in row.items():
                surveys[path].add(cell)
        return surveys

    def survey(self, path: str) -> Survey:
        """Return the survey of a column of any type."""
        return self._surveys[path]

    def mark(self, path: str, text: str, kind: str) -> str:
        """Return a number's decimal mark, by the number, its column, then the file's other numbers.

        Raises:
            ImportFormatError: the number is ambiguous by a factor of 1000.
        """
        if COMMA not in text and POINT not in text:
            return POINT
        known = self._marks.get(path)
        if known is not None:
            return known
        mark = decimal_mark(text) or self._column_marks.get(path) or self._file_mark
        if mark:
            self._marks[path] = mark
            return mark
        if kind == "float" and COMMA not in text and not self._may_have_commas:
            return POINT
        if kind == "int" and POINT not in text:
            return POINT  # a count has no fraction, so that the comma separates thousands
        mark, role = (COMMA, "comma") if COMMA in text else (POINT, "point")
        msg = (
            f"{text!r} is ambiguous: a decimal {role} or a separator of thousands, and no other"
            ' cell decides; set decimal = "." or decimal = "," in the mapping'
        )
        raise ImportFormatError(msg)

    @functools.cached_property
    def _may_have_commas(self) -> bool:
        """Whether numbers may have decimal commas: files with them use semicolons as delimiter."""
        return self._delimiter() == ";"

    @functools.cached_property
    def _marks_by_column(self) -> dict[str, set[str]]:
        """The decimal marks of the unambiguous numbers, by column."""
        marks: dict[str, set[str]] = {path: set() for path in self._numeric}
        for row in self._rows(self._numeric):
            for path, cell in row.items():
                if mark := decimal_mark(cell):
                    marks[path].add(mark)
        return marks

    @functools.cached_property
    def _column_marks(self) -> dict[str, str]:
        return {
            path: next(iter(marks))
            for path, marks in self._marks_by_column.items()
            if len(marks) == 1
        }

    @functools.cached_property
    def _file_mark(self) -> str | None:
        marks = set().union(*self._marks_by_column.values())
        return marks.pop() if len(marks) == 1 else None
