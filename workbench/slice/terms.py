"""Terms of a filter: each has a canonical text and the conditions that it means."""

import contextlib
import dataclasses
import datetime as dt
import enum
import re
from abc import ABC, abstractmethod

from workbench.cells import number_text
from workbench.slice import conditions as c
from workbench.slice.fields import Field, number
from workbench.slice.names import in_quotes, is_entry


class Presence(enum.Enum):
    """Words of a filter that test for presence: `none` for null, `any` for not null."""

    NONE = "none"
    ANY = "any"


@dataclasses.dataclass(frozen=True, slots=True)
class Glob:
    r"""A text pattern; `*`, `?` and `\` that stand for themselves are written `\*`, `\?`, `\\`."""

    escaped: str

    @classmethod
    def literal(cls, text: str) -> "Glob":
        """Make the pattern that matches this text alone."""
        return cls(re.sub(r"([*?\\])", r"\\\1", text))

    def regex(self) -> str:
        """Write the regular expression, for RE2 and for Rust's regex alike."""
        parts = re.findall(r"\\.|.", self.escaped, re.DOTALL)
        body = "".join({"*": ".*", "?": "."}.get(p) or _escape(p[-1]) for p in parts)
        start = "" if parts[:1] == ["*"] else "^"
        end = "" if parts[-1:] == ["*"] else "$"
        body = body.removeprefix(".*") if not start else body
        body = body.removesuffix(".*") if not end else body
        return f"(?is){start}{body}{end}"

    def __str__(self) -> str:
        """Write the pattern as a filter does: literal runs that need it in quotes."""
        parts = re.findall(r"\\.|[^\\]", self.escaped, re.DOTALL)
        runs: list[tuple[bool, str]] = []
        for part in parts:
            wild = part in {"*", "?"}
            if runs and runs[-1][0] == wild:
                runs[-1] = (wild, runs[-1][1] + part[-1])
            else:
                runs.append((wild, part[-1]))
        if len(runs) == 1 and not runs[0][0] and runs[0][1] in {"none", "any"}:
            return in_quotes(runs[0][1])
        return "".join(text if wild else bare(text) for wild, text in runs) or '""'


def _escape(char: str) -> str:
    return "\\" + char if char in r"\.+*?()|[]{}^$" else char


def bare(text: str, special: str = '",*?\\') -> str:
    """Write a text without quotes where it can stand so."""
    plain = text and not any(char.isspace() or char in special for char in text)
    return text if plain else in_quotes(text)


@dataclasses.dataclass(frozen=True)
class Term(ABC):
    """One condition of a filter; `negated` turns it into its exact complement."""

    negated: bool = dataclasses.field(default=False, kw_only=True)

    @abstractmethod
    def body(self) -> str:
        """Write the term without its sign."""

    @abstractmethod
    def positive(self) -> c.Condition:
        """Describe the term without its sign."""

    def condition(self) -> c.Condition:
        """Describe the term."""
        return c.Not(self.positive()) if self.negated else self.positive()

    def __str__(self) -> str:
        """Write the canonical text."""
        return ("-" if self.negated else "") + self.body()


@dataclasses.dataclass(frozen=True)
class OneOf(Term):
    """`field:a,b*,none`: any of the patterns, numbers or words."""

    field: Field
    choices: tuple[Glob | float | Presence, ...]

    def body(self) -> str:
        """Write `field:choice,choice`."""
        return f"{self.field.name}:" + ",".join(
            choice.value
            if isinstance(choice, Presence)
            else number_text(choice)
            if isinstance(choice, float)
            else str(choice)
            for choice in self.choices
        )

    def positive(self) -> c.Condition:
        """Ask for any of the choices; the numbers among them together."""
        if is_entry(self.field.column):
            return _entry_choices(self.field, self.choices)
        column = self.field.column
        numbers = tuple(v for v in self.choices if isinstance(v, float))
        parts: list[c.Condition] = [c.IsIn(column, numbers)] if numbers else []
        for choice in self.choices:
            if isinstance(choice, Presence):
                parts.append(c.Known(column, choice is Presence.ANY))
            elif isinstance(choice, Glob):
                parts.append(c.Matches(column, choice.regex()))
        return parts[0] if len(parts) == 1 else c.AnyOf(tuple(parts))


@dataclasses.dataclass(frozen=True)
class Compare(Term):
    """`field>n`, or `field=a,b` for exactly those values (`!=`: known, and none of them)."""

    field: Field
    op: str
    values: tuple[c.Value, ...]

    def body(self) -> str:
        """Write `field op value`, without spaces."""
        return f"{self.field.name}{self.op}" + ",".join(
            bare(v, special='",\\') if isinstance(v, str) else number_text(v) for v in self.values
        )

    def positive(self) -> c.Condition:
        """Ask for the comparison."""
        if is_entry(self.field.column):
            return self._of_entry()
        if self.op in {"=", "!="}:
            return c.IsIn(self.field.column, self.values, among=self.op == "=")
        (value,) = self.values
        assert isinstance(value, float)
        return c.Compares(self.field.column, self.op, value)

    def _of_entry(self) -> c.Condition:
        number_ = c.Entry(self.field.column, as_number=True)
        text = c.Entry(self.field.column, as_number=self.field.kind == "number")
        if self.op not in {"=", "!="}:
            (value,) = self.values
            assert isinstance(value, float)
            return c.HasEntry(text, c.Compares(number_, self.op, value))
        tests: list[c.Condition] = []
        for value in self.values:
            tests += _equal(self.field, value)
        test = tests[0] if len(tests) == 1 else c.AnyOf(tuple(tests))
        return c.HasEntry(text, test if self.op == "=" else c.Not(test))


def _equal(field: Field, value: c.Value) -> list[c.Condition]:
    """Ask for a number, or for a text that may be a number too."""
    number_ = c.Entry(field.column, as_number=True)
    if not isinstance(value, str):
        return [c.IsIn(number_, (value,))]
    tests: list[c.Condition] = [c.IsIn(c.Entry(field.column, as_number=False), (value,))]
    with contextlib.suppress(ValueError):
        tests.append(c.IsIn(number_, (number(value, field),)))
    return tests


def _entry_choices(field: Field, choices: "tuple[Glob | float | Presence, ...]") -> c.Condition:
    """Ask for any of the choices of a value that may be text, number or both."""
    known = c.Entry(field.column, as_number=field.kind == "number")
    parts: list[c.Condition] = []
    tests: list[c.Condition] = []
    for choice in choices:
        if isinstance(choice, Presence):
            is_there = c.HasEntry(known)
            parts.append(is_there if choice is Presence.ANY else c.Not(is_there))
        elif isinstance(choice, Glob):
            tests.append(c.Matches(known, choice.regex()))
            with contextlib.suppress(ValueError):
                value = number(choice.escaped, field)
                tests.append(c.IsIn(c.Entry(field.column, as_number=True), (value,)))
        else:
            tests += _equal(field, choice)
    if tests:
        parts.append(c.HasEntry(known, tests[0] if len(tests) == 1 else c.AnyOf(tuple(tests))))
    return parts[0] if len(parts) == 1 else c.AnyOf(tuple(parts))


@dataclasses.dataclass(frozen=True)
class Moment(Term):
    """`since:` or `until:`; `at` is naive UTC, the start of the next day for an `until` date."""

    op: str  # ">=" or "<"
    at: dt.datetime

    def body(self) -> str:
        """Write a bare date where the time is a day's start (since) or end (until)."""
        word = "since" if self.op == ">=" else "until"
        day = self.at
        if self.op == "<" and day.date() > dt.date.min:
            day -= dt.timedelta(days=1)
        whole = self.at.time() == dt.time.min and (word == "since" or day != self.at)
        return f"{word}:{day.date().isoformat() if whole else self.at.isoformat()}"

    def positive(self) -> c.Condition:
        """Ask for the side of the moment."""
        return c.Compares("started_at", self.op, self.at)


_ASKS: dict[str, c.Condition] = {
    "right": c.IsBool("passed", value=True),
    "wrong": c.IsBool("passed", value=False),
    "scored": c.Known("passed", known=True),
    "unscored": c.Known("passed", known=False),
    "failed": c.Known("error_type", known=True),
    "replaced": c.IsBool("is_replaced", value=True),
    "priced": c.Known("cost_usd", known=True),
    "unpriced": c.Known("cost_usd", known=False),
}


@dataclasses.dataclass(frozen=True)
class Flag(Term):
    """A bare word, such as `wrong`."""

    name: str

    def body(self) -> str:
        """Write the word."""
        return self.name

    def positive(self) -> c.Condition:
        """Ask what the word means."""
        return _ASKS[self.name]


@dataclasses.dataclass(frozen=True)
class Phrase(Term):
    """`"text"`: a phrase that the transcript contains, in upper or lower case."""

    text: str

    def body(self) -> str:
        """Write the text in quotes."""
        return in_quotes(self.text)

    def positive(self) -> c.Condition:
        """Ask the transcript."""
        return c.TranscriptContains(self.text)
