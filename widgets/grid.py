"""`Grid`: a table of any length that asks for the rows in sight; values reach the page as text only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.analysis.core.result import plain
from workbench.schema import Column

HEAD = 50  # rows that travel with the widget's state, so that they show without a round trip
PAGE = 500  # most rows that one question may ask for
REACH = 100_000  # rows that can be scrolled to; a page cannot be made taller than some 10⁷ pixels
TEXT = 300  # characters of a cell; the whole text is in the frame

Row = Mapping[str, Any]
Fetch = Callable[[int, int, str, bool], Sequence[Row]]
"""(offset, limit, column to sort by or "", descending) → rows."""

_HERE = Path(__file__).parent


class Grid(anywidget.AnyWidget):
    """A scrolling table whose rows are fetched as they come into sight.

    Attributes:
        columns: name, title, unit, type and meaning of each column shown; `low` and `high` name the
            ends of its interval, where it has one.
        n_rows: rows there are; those beyond `REACH` are counted, not shown.
        sort, descending: the column in whose order they stand, "" for their own.
        key: the column that identifies a row.
        picked: keys of the rows chosen by click or Enter, in any order.
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
            columns: what is shown, from the schema.
            fetch: answers with rows; see `Fetch`.
            key: the column that identifies a row; rows can be picked if given.
            intervals: columns whose `NAME_low` and `NAME_high` are drawn with them.
            lines: rows in sight at once.
            several: whether more than one row can be picked.
        """
        self._fetch = fetch
        described = [_described(c, interval=c.name in intervals) for c in columns]
        super().__init__(columns=described, key=key, lines=lines, several=several)
        self.on_msg(self._answer)

    def show(self, n_rows: int, caption: str = "", fetch: Fetch | None = None) -> None:
        """Show other rows, from the first one on.

        Args:
            n_rows: how many there are.
            caption: one line above the table.
            fetch: answers with rows from now on; as before where None.
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
    def _known(self, proposal: dict[str, Any]) -> str:
        """Refuse to sort by anything but a column shown: the page may send any text."""
        name: str = proposal["value"]
        return name if name in {c["name"] for c in self.columns} else self.sort

    @traitlets.observe("sort", "descending")
    def _on_sort(self, _: object) -> None:
        self.show(self.n_rows, self.caption)

    def _answer(self, _: object, content: object, __: object) -> None:
        """Answer the page's question for rows; anything else it says is passed over."""
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
