"""Evidence on a file's cells from their columns: decimal marks, types, whole numbers; lazy."""

import functools
from collections.abc import Callable, Iterable

from workbench.cells import COMMA, POINT, Survey, decimal_mark
from workbench.errors import ImportFormatError

Texts = Callable[[frozenset[str]], Iterable[dict[str, str]]]


class Evidence:
    """Columns of a text file, read in one pass when a cell alone is ambiguous."""

    def __init__(
        self,
        rows: Texts,
        numeric: frozenset[str],
        named: frozenset[str],
        delimiter: Callable[[], str] = str,
    ) -> None:
        """Take what tells of a file.

        Args:
            rows: gives the texts of some columns row by row.
            numeric: the columns of numbers.
            named: the columns of any type.
            delimiter: gives what stands between the cells of a CSV; "" in other files.
        """
        self._rows, self._numeric, self._named = rows, numeric, named
        self._delimiter = delimiter
        self._marks: dict[str, str] = {}

    @functools.cached_property
    def _surveys(self) -> dict[str, Survey]:
        found = {path: Survey() for path in self._named}
        for row in self._rows(self._named):
            for path, cell in row.items():
                found[path].add(cell)
        return found

    def of(self, path: str) -> Survey:
        """What the cells of a column of any type have in common."""
        return self._surveys[path]

    def mark(self, path: str, text: str, kind: str) -> str:
        """Return a number's decimal mark, by the number, its column, then the file's other numbers.

        Raises:
            ImportFormatError: it could be either, and a thousandfold is between the two.
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
            return POINT  # a count has no fraction, least of all one of three digits
        mark, role = (COMMA, "comma") if COMMA in text else (POINT, "point")
        msg = (
            f"{text!r} may have a decimal {role} or thousands set apart by {mark!r}, "
            "and no other cell "
            'tells which; say decimal = "." or decimal = "," in the mapping'
        )
        raise ImportFormatError(msg)

    @functools.cached_property
    def _may_have_commas(self) -> bool:
        """Files with a decimal comma separate cells by semicolons: 1.234 is a thousand there."""
        return self._delimiter() == ";"

    @functools.cached_property
    def _told(self) -> dict[str, set[str]]:
        """The decimal marks of the numbers that leave no choice, by column."""
        found: dict[str, set[str]] = {path: set() for path in self._numeric}
        for row in self._rows(self._numeric):
            for path, cell in row.items():
                if mark := decimal_mark(cell):
                    found[path].add(mark)
        return found

    @functools.cached_property
    def _column_marks(self) -> dict[str, str]:
        return {path: next(iter(marks)) for path, marks in self._told.items() if len(marks) == 1}

    @functools.cached_property
    def _file_mark(self) -> str | None:
        marks = set().union(*self._told.values())
        return marks.pop() if len(marks) == 1 else None
