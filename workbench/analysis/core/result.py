"""Result of an analysis: its tables, the meaning of their columns, and what was left out."""

import dataclasses
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from workbench.schema import Column


def label(values: Sequence[object]) -> str:
    """Name a group by its values, as in "gpt · cot"; an unknown value is written "—"."""
    return " · ".join("—" if v is None else str(v) for v in values)


DTYPES: dict[str, type[pl.DataType]] = {
    "text": pl.String,
    "json": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Datetime,
}


def empty(by: Sequence[str], columns: Iterable[Column]) -> pl.DataFrame:
    """Make a table without rows."""
    declared = {c.name: DTYPES[c.type] for c in columns}
    return pl.DataFrame(schema=dict.fromkeys(by, DTYPES["text"]) | declared)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Return value of an analysis' function, from which the registry makes a `Result`.

    Attributes:
        frame: the rows; grain and columns as declared.
        columns: the columns whose meaning depends on options; () if all are as declared.
        more: further tables by name, for example "totals", at their own grain.
        dropped: how many traces, items or groups were left out, by reason in words.
        notes: what a reader should know, in sentences.
    """

    frame: pl.DataFrame
    columns: tuple[Column, ...] = ()
    more: Mapping[str, pl.DataFrame] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Result:
    """Result of an analysis with everything that is needed to print, draw or repeat it.

    Attributes:
        name: the analysis.
        frame: the rows.
        columns: every column of `frame` and of the tables in `more`: title, unit, meaning, null.
        dropped: how many traces, items or groups were left out, by reason in words.
        notes: sentences for the reader.
        options: the options in force, defaults included.
        by: the columns that name a group.
        more: further tables by name, for example "totals".
        source: the paper and the equation.
        outlook: the notes about what would settle the question.
    """

    name: str
    frame: pl.DataFrame
    columns: tuple[Column, ...]
    dropped: dict[str, int]
    notes: tuple[str, ...]
    options: dict[str, Any]
    by: tuple[str, ...]
    more: dict[str, pl.DataFrame] = dataclasses.field(default_factory=dict)
    source: str = ""
    outlook: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Column:
        """Return the declaration of a column; KeyError if the result has no such column."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def __repr__(self) -> str:
        """Show the tables, what was left out, and the notes."""
        parts = [f"{self.name} by {', '.join(self.by)}", str(self.frame)]
        parts += [f"{name}\n{frame}" for name, frame in self.more.items()]
        parts += [f"left out: {n:,} {reason}" for reason, n in self.dropped.items() if n]
        return "\n".join(parts + [f"note: {note}" for note in self.notes])

    def labels(self, frame: pl.DataFrame | None = None) -> list[str]:
        """Name the group of every row of a table, the main one by default."""
        frame = self.frame if frame is None else frame
        keys = [c for c in self.by if c in frame.columns]
        return [label(row) for row in frame.select(keys).iter_rows()] if keys else []

    def as_json(self, **provenance: Any) -> dict[str, Any]:
        """Return one JSON-ready object: numbers unrounded, unknown null, infinity "inf".

        `provenance` is added to the options, groups and source of the result.
        """
        own_provenance = {"by": list(self.by), "options": self.options, "source": self.source}
        document = {
            "name": self.name,
            "rows": _rows(self.frame),
            "columns": {c.name: {"title": c.title or c.name, "unit": c.unit} for c in self.columns},
            "dropped": self.dropped,
            "notes": list(self.notes),
            "provenance": plain(own_provenance | provenance),
        }
        if self.more:
            document["more"] = {name: _rows(frame) for name, frame in self.more.items()}
        return document


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{k: plain(v) for k, v in row.items()} for row in frame.iter_rows(named=True)]


def plain(value: Any) -> Any:
    """Make a value JSON-ready: NaN is null, infinity "inf" or "-inf", times are ISO 8601."""
    match value:
        case float() if math.isnan(value):
            return None
        case float() if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        case dt.datetime() | dt.date():
            return value.isoformat()
        case dict():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
    return value
