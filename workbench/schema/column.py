"""Declarations of a column and a table, and their DDL."""

import dataclasses
from collections.abc import Mapping, Sequence

KEY_NULL = "never null"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, a view or a result.

    Attributes:
        type: text, int, float, bool, time (UTC, microseconds) or json (text holding JSON).
        unit: "s", "USD", "J", "tokens", "bytes", "0..1" … or "" where there is none.
        doc: one sentence.
        null: what a missing value means; `KEY_NULL` where there is always one.
        title: what a table head or an axis says; made from the name where empty.
        since: the layout that brought the column; folders exported before it are read without it.
        scale: the lowest and the highest value that there can be, None where an end is open or not
            known.
        direction: higher or lower: which values are better; "" where it is not known, or no matter
            of better.
    """

    name: str
    type: str
    unit: str = ""
    doc: str = ""
    null: str = "not reported"
    title: str = ""
    since: int = 1
    scale: tuple[float | None, float | None] = (None, None)
    direction: str = ""

    @property
    def sql_type(self) -> str:
        """The DuckDB type."""
        return _SQL[self.type]

    @property
    def heading(self) -> str:
        """The title with its unit, as a table head or an axis shows it."""
        title = self.title or _humanise(self.name)
        show = self.unit and self.unit not in {"0..1", "tokens", "count"}
        return f"{title} ({self.unit})" if show else title


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A stored table or a stable view: its grain and its columns."""

    name: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    compressed: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Column:
        """Find a column by name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def since(self) -> int:
        """The layout that brought the table."""
        return min(c.since for c in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(c.name for c in self.columns)


_SQL = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "time": "TIMESTAMP",
}
_SUFFIXES = ("_s", "_usd", "_j", "_w", "_id", "_at")


def _humanise(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removeprefix("n_").replace("_", " ")


def headings(names: Sequence[str], known: Mapping[str, Column]) -> list[str]:
    """Write the heads of a table: where two columns would bear one, the longer name stands itself.

    Args:
        names: of the columns, in order.
        known: the columns that are described, by name.
    """
    heads = [known[name].heading if name in known else name for name in names]
    plain = [name.replace("_", " ") for name in names]
    shared = [heads.count(head) > 1 for head in heads]
    return [p if s else h for h, p, s in zip(heads, plain, shared, strict=True)]


def ddl(table: Table) -> str:
    """Write the CREATE TABLE statement; long text is kept zstd-compressed."""
    lines = [
        f'"{c.name}" {c.sql_type}'
        + (" USING COMPRESSION zstd" if c.name in table.compressed else "")
        for c in table.columns
    ]
    return f"CREATE TABLE IF NOT EXISTS {table.name} (\n  " + ",\n  ".join(lines) + "\n)"
