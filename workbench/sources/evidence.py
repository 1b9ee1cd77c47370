"""What the columns of a file tell about its cells: decimal marks, types, whole numbers; read once, if needed."""

import functools
from collections.abc import Callable, Iterable

from workbench.cells import COMMA, POINT, Survey, decimal_mark
from workbench.errors import ImportFormatError

Texts = Callable[[], Iterable[dict[str, object]]]


class Evidence:
    """The columns of one file of texts, surveyed in one pass over it when a cell cannot speak for itself."""

    def __init__(self, rows: Texts, numeric: frozenset[str]) -> None:
        """Take what gives the cells of the mapped columns row by row, and which of them hold numbers."""
        self._rows, self._numeric = rows, numeric
        self._marks: dict[str, str] = {}

    @functools.cached_property
    def columns(self) -> dict[str, Survey]:
        """The survey of every mapped column."""
        found: dict[str, Survey] = {}
        for row in self._rows():
            for path, cell in row.items():
                found.setdefault(path, Survey()).add(cell)
        return found

    def of(self, path: str) -> Survey:
        """The survey of one column."""
        return self.columns.get(path) or Survey()

    def mark(self, path: str, text: str, kind: str) -> str:
        """Tell the decimal mark of a number: by the number, its column, then the file's other numbers.

        Raises:
            ImportFormatError: it could be either, and a thousandfold is between the two.
        """
        if COMMA not in text and POINT not in text:
            return POINT
        known = self._marks.get(path)
        if known is not None:
            return known
        mark = decimal_mark(text) or self.of(path).mark or self._of_file
        if mark:
            self._marks[path] = mark
            return mark
        if kind == "float" and COMMA not in text:
            return POINT
        if kind == "int" and POINT not in text:
            return POINT  # a count has no fraction, least of all one of three digits
        mark, role = (COMMA, "comma") if COMMA in text else (POINT, "point")
        msg = (
            f"{text!r} may have a decimal {role} or thousands set apart by {mark!r}, and no other cell "
            'tells which; say decimal = "." or decimal = "," in the mapping'
        )
        raise ImportFormatError(msg)

    @functools.cached_property
    def _of_file(self) -> str | None:
        marks = {m for path in self._numeric for m in self.of(path).marks}
        return marks.pop() if len(marks) == 1 else None
