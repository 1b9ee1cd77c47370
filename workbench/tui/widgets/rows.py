"""Rows of a grid: from a list or a frame in memory, or from pages fetched on demand."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import polars as pl

Row = Mapping[str, Any]
PAGE = 256  # rows fetched at a time
KEPT = 64  # pages in memory


class Rows(Protocol):
    """Rows by position; `get` answers None for a row that has not arrived."""

    @property
    def n(self) -> int:
        """How many rows there are."""

    def get(self, index: int) -> Row | None:
        """Return the row at a position, or None while it is not here."""

    def missing(self, first: int, last: int) -> list[int]:
        """Return the page numbers to fetch before rows `first`..`last` can be drawn."""

    def here(self) -> Iterator[tuple[int, Row]]:
        """Go through the rows that are here, each with its position."""


class ListRows:
    """Rows that are all here."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._rows = rows

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def get(self, index: int) -> Row | None:
        """Return the row at a position."""
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def missing(self, first: int, last: int) -> list[int]:
        """Return nothing: every row is here."""
        return []

    def here(self) -> Iterator[tuple[int, Row]]:
        """Go through the rows, each with its position."""
        return enumerate(self._rows)


class FrameRows(ListRows):
    """Rows of a Polars frame, turned into Python values only when they are looked at."""

    def __init__(self, frame: "pl.DataFrame") -> None:
        super().__init__()
        self.frame = frame

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.frame.height

    def get(self, index: int) -> Row | None:
        """Return the row at a position."""
        return self.frame.row(index, named=True) if 0 <= index < self.frame.height else None

    def here(self) -> Iterator[tuple[int, Row]]:
        """Go through the rows, each with its position."""
        return enumerate(self.frame.iter_rows(named=True))


class PagedRows:
    """Rows of a query too long to hold: pages of `PAGE` rows, the least used forgotten first."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._pages: OrderedDict[int, Sequence[Row]] = OrderedDict()

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self._n

    def get(self, index: int) -> Row | None:
        """Return the row at a position, or None while its page is not here."""
        page = self._pages.get(index // PAGE)
        if page is None:
            return None
        self._pages.move_to_end(index // PAGE)
        place = index % PAGE
        return page[place] if place < len(page) else None

    def missing(self, first: int, last: int) -> list[int]:
        """Return the page numbers to fetch before rows `first`..`last` can be drawn."""
        pages = range(max(0, first) // PAGE, min(last, self._n - 1) // PAGE + 1)
        return [page for page in pages if page not in self._pages]

    def here(self) -> Iterator[tuple[int, Row]]:
        """Go through the rows of the pages that are here, each with its position."""
        for page, rows in self._pages.items():
            yield from enumerate(rows, page * PAGE)

    def put(self, page: int, rows: Iterable[Row]) -> None:
        """Keep a fetched page."""
        self._pages[page] = list(rows)
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
