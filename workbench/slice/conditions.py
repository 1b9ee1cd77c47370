"""Conditions that a filter's terms reduce to, and their SQL and Polars expressions.

Both spellings select the same rows. A comparison with an unknown value is unknown, and a filter
keeps only what is true; `Not` is the exact complement, so every row is in a term or in its
negation. Text compared by pattern uses one regular expression that RE2 (DuckDB) and Rust's regex
(Polars) read alike, because the two engines lower-case some letters differently.
"""

import datetime as dt
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.cells import NUMBER, number_text
from workbench.slice.names import METRICS

if TYPE_CHECKING:
    import polars as pl

Value = float | str
Texts = Callable[[str], Collection[str]]


def quote(text: str) -> str:
    """Write a text as an SQL literal; a doubled quote is the only escape that SQL has."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Entry:
    """A column that a frame may have under a name of the store's own, and that SQL looks up there.

    Attributes:
        name: params.docs, settings.batch_size, metrics.rubric.
        as_number: the value as a number, null where it is none; else as text.
    """

    name: str
    as_number: bool

    @property
    def is_metric(self) -> bool:
        """Whether a scorer gave it to the trace, and not a person to the configuration."""
        return self.name.startswith(f"{METRICS}.")

    def __str__(self) -> str:
        """Write it as SQL inside of the table that holds it."""
        if self.is_metric:
            return "coalesce(metric, score)"
        return "number" if self.as_number else "value"

    def rows(self) -> str:
        """Write the rows of that table as SQL: what is looked up, and where."""
        if self.is_metric:
            scorer = self.name.partition(".")[2]
            return f"SELECT trace_id FROM scores WHERE scorer = {quote(scorer)}"
        return f"SELECT configuration_id FROM parameters WHERE name = {quote(self.name)}"

    def polars(self) -> "pl.Expr":
        """Build the column; what a text says in digits is a number too."""
        import polars as pl

        column = pl.col(self.name)
        if self.is_metric:
            return column
        text = column.cast(pl.String)
        return text.str.extract(_NUMERIC).cast(pl.Float64) if self.as_number else text

    def code(self) -> str:
        """Write the column as source."""
        column = f"pl.col({self.name!r})"
        if self.is_metric:
            return column
        text = f"{column}.cast(pl.String)"
        return f"{text}.str.extract({_NUMERIC!r}).cast(pl.Float64)" if self.as_number else text


Column = str | Entry
_NUMERIC = f"^({NUMBER})$"


def _expr(column: Column) -> "pl.Expr":
    import polars as pl

    return pl.col(column) if isinstance(column, str) else column.polars()


def _source(column: Column) -> str:
    return f'pl.col("{column}")' if isinstance(column, str) else column.code()


def _literal(value: Value) -> str:
    return quote(value) if isinstance(value, str) else number_text(value)


class Condition(ABC):
    """A condition on one trace that is true, false or unknown."""

    @abstractmethod
    def sql(self) -> str:
        """Write an SQL predicate."""

    @abstractmethod
    def polars(self, texts: Texts) -> "pl.Expr":
        """Build the expression; `texts` finds the traces whose transcript holds a text."""

    @abstractmethod
    def code(self) -> str:
        """Write the expression as source; a question about text asks a `store` in scope."""


@dataclass(frozen=True, slots=True)
class Known(Condition):
    """The column has a value, or (known=False) has none."""

    column: Column
    known: bool

    def sql(self) -> str:
        """Write IS NULL or IS NOT NULL."""
        return f"{self.column} IS {'NOT ' if self.known else ''}NULL"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build is_null or is_not_null."""
        column = _expr(self.column)
        return column.is_not_null() if self.known else column.is_null()

    def code(self) -> str:
        """Write is_null or is_not_null."""
        return f"{_source(self.column)}.is_{'not_' if self.known else ''}null()"


@dataclass(frozen=True, slots=True)
class IsBool(Condition):
    """A yes-or-no column is exactly that; unknown is neither."""

    column: Column
    value: bool

    def sql(self) -> str:
        """Write IS TRUE or IS FALSE."""
        return f"{self.column} IS {'TRUE' if self.value else 'FALSE'}"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build an equality in which null equals only null."""
        import polars as pl

        return _expr(self.column).eq_missing(pl.lit(self.value))

    def code(self) -> str:
        """Write an equality in which null equals only null."""
        return f"{_source(self.column)}.eq_missing(pl.lit({self.value}))"


@dataclass(frozen=True, slots=True)
class Matches(Condition):
    """A text column matches a regular expression somewhere."""

    column: Column
    regex: str

    def sql(self) -> str:
        """Write regexp_extract: unlike regexp_matches, DuckDB pushes it below the joins of a view.

        Only a pattern that matches the empty text has to be asked by regexp_matches.
        """
        pattern = quote(self.regex)
        if re.search(self.regex, ""):
            return f"regexp_matches({self.column}, {pattern})"
        return f"regexp_extract({self.column}, {pattern}) <> ''"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build str.contains."""
        return _expr(self.column).str.contains(self.regex)

    def code(self) -> str:
        """Write str.contains."""
        return f"{_source(self.column)}.str.contains({self.regex!r})"


@dataclass(frozen=True, slots=True)
class IsIn(Condition):
    """A column equals one of the values (all numbers or all texts), or, not among, equals none."""

    column: Column
    values: tuple[Value, ...]
    among: bool = True

    @property
    def _numeric(self) -> bool:
        return isinstance(self.values[0], float)

    def sql(self) -> str:
        """Write IN, or = for one value."""
        if len(self.values) == 1:
            return f"{self.column} {'=' if self.among else '<>'} {_literal(self.values[0])}"
        listed = ", ".join(map(_literal, self.values))
        return f"{self.column} {'' if self.among else 'NOT '}IN ({listed})"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build is_in; numbers are compared as floats, whatever the column is."""
        import polars as pl

        column = _expr(self.column)
        expression = (column.cast(pl.Float64) if self._numeric else column).is_in(list(self.values))
        return expression if self.among else ~expression

    def code(self) -> str:
        """Write is_in."""
        cast = ".cast(pl.Float64)" if self._numeric else ""
        source = f"{_source(self.column)}{cast}.is_in({list(self.values)!r})"
        return source if self.among else f"~{source}"


@dataclass(frozen=True, slots=True)
class Compares(Condition):
    """A column is on one side of a number or of a time (naive UTC)."""

    column: Column
    op: str  # > >= < <=
    value: float | dt.datetime

    def sql(self) -> str:
        """Write the comparison."""
        if isinstance(self.value, dt.datetime):
            return f"{self.column} {self.op} TIMESTAMP '{self.value.isoformat(sep=' ')}'"
        return f"{self.column} {self.op} {number_text(self.value)}"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build the comparison."""
        import polars as pl

        method = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}[self.op]
        compared: pl.Expr = getattr(_expr(self.column), method)(pl.lit(self.value))
        return compared

    def code(self) -> str:
        """Write the comparison."""
        value = self.value
        if isinstance(value, dt.datetime):
            parts = (value.year, value.month, value.day, value.hour, value.minute, value.second)
            listed = ", ".join(map(str, parts))
            micro = f", {value.microsecond}" if value.microsecond else ""
            return f"({_source(self.column)} {self.op} pl.datetime({listed}{micro}))"
        return f"({_source(self.column)} {self.op} {number_text(value)})"


@dataclass(frozen=True, slots=True)
class TranscriptContains(Condition):
    """The text appears in the transcript, in any case."""

    text: str

    def _query(self) -> str:
        return (
            "SELECT m.trace_id FROM messages AS m JOIN contents AS c USING (content_id) "
            f"WHERE contains(lower(c.text), lower({quote(self.text)}))"
        )

    def sql(self) -> str:
        """Write IN over the transcripts."""
        return f"trace_id IN ({self._query()})"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build is_in over the traces that `texts` finds."""
        import polars as pl

        return pl.col("trace_id").is_in(list(texts(self.text)))

    def code(self) -> str:
        """Write is_in over what the store finds."""
        return f'pl.col("trace_id").is_in(store.sql({self._query()!r})["trace_id"].to_list())'


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """At least one of the parts holds."""

    parts: tuple[Condition, ...]

    def sql(self) -> str:
        """Write the parts with OR between them."""
        return "(" + " OR ".join(part.sql() for part in self.parts) + ")"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build the disjunction."""
        import polars as pl

        return pl.any_horizontal(*(part.polars(texts) for part in self.parts))

    def code(self) -> str:
        """Write the parts with | between them."""
        return "(" + " | ".join(part.code() for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class HasEntry(Condition):
    """A value of the store's own is known, and meets a test if there is one."""

    entry: Entry
    test: Condition | None = None

    def sql(self) -> str:
        """Write IN over the configurations, or the traces, that have such a value."""
        key = "trace_id" if self.entry.is_metric else "configuration_id"
        test = f"{self.entry} IS NOT NULL" if self.test is None else self.test.sql()
        return f"{key} IN ({self.entry.rows()} AND {test})"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build the test of a value that is there."""
        known = self.entry.polars().is_not_null()
        return known if self.test is None else known & self.test.polars(texts)

    def code(self) -> str:
        """Write the test of a value that is there."""
        known = f"{self.entry.code()}.is_not_null()"
        return known if self.test is None else f"({known} & {self.test.code()})"


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The part does not hold: it is false or unknown."""

    part: Condition

    def sql(self) -> str:
        """Write NOT; what may be unknown counts as false first."""
        if isinstance(self.part, Known | IsBool | TranscriptContains | HasEntry):
            return f"NOT ({self.part.sql()})"
        return f"NOT coalesce({self.part.sql()}, FALSE)"

    def polars(self, texts: Texts) -> "pl.Expr":
        """Build the complement."""
        return ~self.part.polars(texts).fill_null(value=False)

    def code(self) -> str:
        """Write the complement."""
        return f"~({self.part.code()}).fill_null(False)"
