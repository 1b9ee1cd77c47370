"""Grid widget: a table that fetches the rows in view; the page shows values as text only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.analysis.core.result import plain
from workbench.schema import Column

HEAD = 50  # rows in the widget's state, which are shown without a round trip
PAGE = 500  # rows of one request, at most
REACH = 100_000  # rows that can be scrolled to; browsers limit an element to some 10⁷ pixels
TEXT = 300  # characters of a cell, at most; the frame has the whole text

Row = Mapping[str, Any]
Fetch = Callable[[int, int, str, bool], Sequence[Row]]
"""(offset, limit, column to sort by or "", descending) → rows."""

_HERE = Path(__file__).parent


class Grid(anywidget.AnyWidget):
    """A scrolling table whose rows are fetched when they come into view.

    Attributes:
        columns: name, title, unit, type and meaning of each column shown; `low` and `high` name the
            columns with the ends of its interval, if it has one.
        n_rows: number of rows; those beyond `REACH` are counted, not shown.
        sort, descending: the column that the rows are sorted by, "" for the order of `fetch`.
        key: the column that identifies a row.
        picked: keys of the rows selected by click or Enter, in any order.
        caption: one line above the table.
    """

    _esm = _HERE / "grid.js"
    _css = _HERE / "grid.css"

    columns = traitlets.List(traitlets.Dict()).tag(sync=True)
    head = traitlets.List(traitlets.Dict()).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    n_rows = traitlets.Int(0).tag(sync=True)
    reach = traitlets.Int(REACH).tag(sync=True)
    sort = traitlets.Unicode("").tag(sync=True)
    descending = traitlets.Bool(default_value=False).tag(sync=True)
    key = traitlets.Unicode("").tag(sync=True)
    picked = traitlets.List(traitlets.Unicode()).tag(sync=True)
    several = traitlets.Bool(default_value=True).tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    lines = traitlets.Int(8).tag(sync=True)

    def __init__(
        self,
        columns: Sequence[Column],
        fetch: Fetch | None = None,
        *,
        key: str = "",
        intervals: Sequence[str] = (),
        lines: int = 8,
        several: bool = True,
    ) -> None:
        """Make a grid, empty until `show` is called.

        Args:
            columns: the columns to show, from the schema.
            fetch: function that returns rows; see `Fetch`.
            key: the column that identifies a row; if given, rows can be selected.
            intervals: columns whose `NAME_low` and `NAME_high` are drawn with them.
            lines: rows in view at once.
            several: whether more than one row can be selected.
        """
        self._fetch = fetch
        described = [_described(c, interval=c.name in intervals) for c in columns]
        super().__init__(columns=described, key=key, lines=lines, several=several)
        self.on_msg(self._on_message)

    def show(self, n_rows: int, caption: str = "", fetch: Fetch | None = None) -> None:
        """Replace the rows, and scroll to the first.

        Args:
            n_rows: number of rows.
            caption: one line above the table.
            fetch: function that returns rows; None keeps the present one.
        """
        self._fetch = fetch or self._fetch
        head = self._rows(0, HEAD)
        with self.hold_sync():
            self.head, self.n_rows, self.caption = head, n_rows, caption
            self.version += 1

    def _rows(self, start: int, limit: int) -> list[dict[str, Any]]:
        if self._fetch is None:
            return []
        rows = self._fetch(start, limit, self.sort, self.descending)
        return [{name: _cell(value) for name, value in row.items()} for row in rows]

    @traitlets.validate("sort")
    def _validate_sort(self, proposal: dict[str, Any]) -> str:
        """Accept only names of columns shown, because the page may send any text."""
        name: str = proposal["value"]
        return name if name in {c["name"] for c in self.columns} else self.sort

    @traitlets.observe("sort", "descending")
    def _on_sort(self, _: object) -> None:
        self.show(self.n_rows, self.caption)

    def _on_message(self, _: object, content: object, __: object) -> None:
        """Send the rows that the page requests; ignore any other message."""
        match content:
            case {
                "verb": "rows",
                "start": int(start),
                "limit": int(limit),
                "version": int(version),
            }:
                if version == self.version and 0 <= start < REACH:
                    rows = self._rows(start, max(0, min(limit, PAGE)))
                    self.send({"verb": "rows", "start": start, "version": version, "rows": rows})
            case _:
                pass


def _described(column: Column, *, interval: bool) -> dict[str, Any]:
    known = {
        "name": column.name,
        "title": column.heading,
        "unit": column.unit,
        "type": column.type,
        "doc": f"{column.doc} Unknown (—): {column.null}." if column.null else column.doc,
    }
    ends = {"low": f"{column.name}_low", "high": f"{column.name}_high"}
    return known | ends if interval else known


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= TEXT else value[: TEXT - 1] + "…"
    return plain(value)
