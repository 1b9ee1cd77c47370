"""Slice: which traces. One filter language for every face, written as SQL or as Polars.

`model:gpt* task:gsm8k wrong thinking>2000 cost>0.1 since:2026-10-01 "text in transcript"`

- A space means and; a comma between values means or; a leading `-` negates one term.
- `field:pattern` ignores case, `*` and `?` are wild, quoted pieces are literal; `field:none` and
  `field:any` ask whether there is a value. `field=a,b` asks for exactly those values.
- `field>n`, `>=`, `<`, `<=`, `=`, `!=` compare numbers: 2k, 1.5M, 50%, 500ms, 2h, 3kJ, $0.1.
- `params.docs`, `settings.batch_size` and `metrics.rubric` ask what the configuration was given,
  and what a scorer gave on its own scale; `:` and `=` take numbers and texts alike, keys with
  spaces stand in quotes.
- `tokens` means output tokens; `s` and `latency` mean end-to-end seconds.
- **Unknown** (null) satisfies no comparison and no pattern, `!=` included; a negated term is the
  exact complement, so it keeps the unknown: `-thinking>2000` are the traces not known to think
  longer. SQL and Polars agree on this.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import SliceError
from workbench.slice import conditions
from workbench.slice.complete import Completion, complete
from workbench.slice.fields import FIELDS, Field, lookup, nearest
from workbench.slice.names import in_quotes
from workbench.slice.parse import Parser
from workbench.slice.terms import Compare, Flag, Glob, OneOf, Phrase, Presence, Term

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FIELDS", "Completion", "Field", "Slice", "Term", "complete", "lookup"]

Given = str | float | bool | None


@dataclasses.dataclass(frozen=True)
class Slice:
    """Which traces: a conjunction of terms; empty means all."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str, now: dt.datetime | None = None) -> "Slice":
        """Read a filter.

        Args:
            text: the filter, as typed.
            now: what ages such as `since:7d` count back from; canonical text holds the date.

        Raises:
            SliceError: with the column of the fault and what to write instead.
        """
        return cls(Parser(text, now).parse())

    @classmethod
    def of(cls, where: "Slice | str", now: dt.datetime | None = None) -> "Slice":
        """Return a slice as it is, and a text parsed."""
        return where if isinstance(where, Slice) else cls.parse(where, now)

    def __str__(self) -> str:
        """Write the canonical text; parsing it gives an equal slice."""
        return " ".join(map(str, self.terms))

    def __bool__(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.terms)

    def __and__(self, other: "Slice") -> "Slice":
        """Ask for both."""
        return Slice(tuple(dict.fromkeys(self.terms + other.terms)))

    def where(self, **fields: Given | Sequence[Given]) -> "Slice":
        """Add exact values: `where(model=["a", "b"], task="gsm8k", right=True)`; None is unknown.

        A list that holds None beside texts matches the texts in any case.

        Raises:
            SliceError: if there is no such field, or it cannot hold the value.
        """
        return self & Slice(tuple(_given(name, value) for name, value in fields.items()))

    @property
    def needs_text(self) -> bool:
        """Whether a term looks into transcripts."""
        return any(isinstance(term, Phrase) for term in self.terms)

    def sql(self) -> str:
        """Write a predicate over `trace_facts` for a WHERE clause: what is unknown is not kept."""
        return " AND ".join(t.condition().sql() for t in self.terms) or "TRUE"

    def polars(self, texts: conditions.Texts | None = None) -> "pl.Expr":
        """Build the expression that keeps the same rows of a `trace_facts` frame.

        Args:
            texts: finds the `trace_id`s whose transcript holds a text; transcripts are not in the
                frame, so a slice that `needs_text` needs it.

        Raises:
            SliceError: if a text is asked for and `texts` is not given.
        """
        import polars as pl

        def refuse(text: str) -> list[str]:
            whole, term = str(self), in_quotes(text)
            column = whole.find(term)
            raise SliceError("a frame holds no transcripts", whole, column, "use store.traces(…)")

        parts = [t.condition().polars(texts or refuse) for t in self.terms]
        return pl.all_horizontal(*parts) if parts else pl.lit(value=True)

    def polars_code(self) -> str:
        """Write the expression as source code; text terms ask a `store` in scope."""
        return " & ".join(t.condition().code() for t in self.terms) or "pl.lit(True)"


def _given(name: str, value: Given | Sequence[Given]) -> Term:
    field = FIELDS.get(name) or lookup(name)
    if field is None or field.kind == "time":
        close = nearest(name, FIELDS)
        hint = f"did you mean {close}?" if close else ""
        raise SliceError(f"unknown field {name}", name, 0, hint)
    if field.kind == "flag":
        return Flag(field.name, negated=not value)
    values = (value,) if value is None or isinstance(value, str | float | int) else tuple(value)
    if not values:
        raise SliceError(f"no value for {name}", name, 0, "leave the field out to ask for all")
    if None not in values:
        return Compare(field, "=", tuple(_value(field, v) for v in values if v is not None))
    choices = [_value(field, v) for v in values if v is not None]
    shown = [Glob.literal(v) if isinstance(v, str) else v for v in choices]
    return OneOf(field, (*shown, Presence.NONE))


def _value(field: Field, value: str | float) -> conditions.Value:
    if field.kind == "text":
        return str(value)
    if field.kind == "open" and isinstance(value, bool):
        return "true" if value else "false"
    if field.kind == "open" and isinstance(value, str):
        return value
    if isinstance(value, str):
        raise SliceError(f"{field.name} is a number", value, 0)
    return float(value) + 0.0
