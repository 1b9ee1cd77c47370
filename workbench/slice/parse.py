"""Text → terms, with errors that point at the column.

filter   = term (space term)*              all must hold
term     = ["-"] ( flag | quoted | field op values )
op       = ":" | "=" | "!=" | ">" | ">=" | "<" | "<="
values   = value ("," value)*              any may hold
value    = run of bare characters and "quoted" pieces; * and ? are wild when bare, after ":"
"""

import datetime as dt
import re

from workbench.errors import SliceError
from workbench.slice.fields import FIELDS, Field, lookup, moment, nearest, number, units
from workbench.slice.names import HEAD, PREFIXES
from workbench.slice.terms import Compare, Flag, Glob, Moment, OneOf, Phrase, Presence, Term

_NAMELESS = re.compile(rf'({"|".join(PREFIXES)})\.(?:""|[:<>=!,]|$)', re.IGNORECASE)
MAX_PATTERN = 1_000  # characters; a longer regular expression can exhaust an engine


class Parser:
    """Reads one filter from left to right."""

    def __init__(self, text: str, now: dt.datetime | None) -> None:
        self.text, self.now, self.at = text, now, 0

    def fail(self, reason: str, column: int, hint: str = "") -> SliceError:
        """Build the error that points at a column."""
        return SliceError(reason, self.text, column, hint)

    def parse(self) -> tuple[Term, ...]:
        """Read all terms; the same one twice counts once."""
        for column, char in enumerate(self.text):
            if 0xD800 <= ord(char) <= 0xDFFF:
                raise self.fail("a character that is no valid Unicode", column)
        terms: dict[Term, None] = {}
        while True:
            self._skip_spaces()
            if self.at == len(self.text):
                return tuple(terms)
            terms[self._term()] = None

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _term(self) -> Term:
        negated = self.text[self.at] == "-"
        self.at += negated
        if self.at < len(self.text) and self.text[self.at] == '"':
            return self._phrase(negated)
        start = self.at
        if head := HEAD.match(self.text, start):
            field, op = self._field(head[1], start), head[2]
            self.at = head.end()
            return self._values(field, op, start, negated)
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1
        return self._flag(self.text[start : self.at], start, negated)

    def _phrase(self, negated: bool) -> Term:
        start = self.at
        text = self._quoted()
        if not text:
            raise self.fail("an empty text", start, 'write "some words" to search transcripts')
        if self.at < len(self.text) and not self.text[self.at].isspace():
            raise self.fail("a space is missing after the text", self.at)
        return Phrase(text, negated=negated)

    def _flag(self, word: str, start: int, negated: bool) -> Term:
        if nameless := _NAMELESS.match(word):
            known = f"for example {nameless[1].lower()}.docs:3"
            raise self.fail(f"{nameless[1]}. needs a name after the point", start, known)
        field = lookup(word)
        if field and field.kind == "flag":
            return Flag(field.name, negated=negated)
        if field:
            example = (
                ":3"
                if field.kind == "open"
                else ">1k"
                if field.kind == "number"
                else ":2026-10-01"
                if field.kind == "time"
                else ":…"
            )
            raise self.fail(
                f"{word} needs a value", start + len(word), f"for example {word}{example}"
            )
        if not word:
            raise self.fail("a term is missing after -", start)
        close = nearest(word, FIELDS)
        hint = f"did you mean {close}? " if close else ""
        raise self.fail(
            f"unknown word {word}", start, f'{hint}write "{word}" to search transcripts'
        )

    def _field(self, name: str, start: int) -> Field:
        field = lookup(name)
        if field is None:
            close = nearest(name, FIELDS)
            known = f"did you mean {close}?" if close else "for example model, task, cost, thinking"
            raise self.fail(f"unknown field {name}", start, known)
        if field.kind == "flag":
            raise self.fail(f"{name} takes no value", start, f"write {name}, or -{name}")
        return field

    def _values(self, field: Field, op: str, start: int, negated: bool) -> Term:
        begin = self.at
        values = [self._value()]
        while self.at < len(self.text) and self.text[self.at] == ",":
            self.at += 1
            values.append(self._value())
        if field.name in {"since", "until"}:
            return self._moment(field, op, values, begin, negated)
        if op == ":":
            return OneOf(field, tuple(self._choice(field, *v) for v in values), negated=negated)
        if field.kind == "time":
            raise self.fail(f"{field.name} cannot be compared", start, "use since: and until:")
        return self._compare(field, op, values, begin, negated)

    def _compare(
        self, field: Field, op: str, values: list[tuple[str, bool, int]], begin: int, negated: bool
    ) -> Term:
        exact = op in {"=", "!="}
        if not exact and len(values) > 1:
            raise self.fail(f"{op} takes one value", values[1][2])
        if field.kind == "text" or (field.kind == "open" and exact):
            if not exact:
                raise self.fail(f"{field.name} is text", begin, f"use {field.name}:pattern")
            texts = tuple(_unescape(escaped) for escaped, _, _ in values)
            return Compare(field, op, texts, negated=negated)
        numbers = tuple(self._number(field, *v) for v in values)
        return Compare(field, op, numbers, negated=negated)

    def _moment(
        self, field: Field, op: str, values: list[tuple[str, bool, int]], begin: int, negated: bool
    ) -> Term:
        if op != ":":
            raise self.fail(f"{field.name} is followed by a colon", begin - len(op))
        if len(values) > 1:
            raise self.fail(f"{field.name} takes one date", values[1][2])
        until = field.name == "until"
        try:
            at = moment(_unescape(values[0][0]), self.now, end=until)
        except ValueError as error:
            hint = "write 2026-10-01, 2026-10-01T12:30 (UTC) or an age: 30m, 12h, 7d, 2w"
            raise self.fail(str(error), begin, hint) from None
        return Moment("<" if until else ">=", at, negated=negated)

    def _choice(
        self, field: Field, escaped: str, quoted: bool, begin: int
    ) -> Glob | float | Presence:
        if not quoted and escaped in {"none", "any"}:
            return Presence(escaped)
        if field.kind == "time":
            raise self.fail(
                f"{field.name} takes none or any", begin, "use since: and until: for dates"
            )
        if field.kind == "number":
            return self._number(field, escaped, quoted, begin)
        if len(escaped) > MAX_PATTERN:
            raise self.fail("a pattern is too long", begin, f"use {field.name}=… for an exact text")
        return Glob(escaped)

    def _number(self, field: Field, escaped: str, _quoted: bool, begin: int) -> float:
        text = _unescape(escaped)
        try:
            return number(text, field)
        except ValueError as error:
            suffixes = ", ".join(units(field))
            raise self.fail(str(error), begin, f"a number, with {suffixes} if you like") from None

    def _value(self) -> tuple[str, bool, int]:
        """Read one value: its escaped pattern, whether any of it was quoted, where it begins."""
        begin, pieces, quoted = self.at, [], False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                quoted = True
                pieces.append(Glob.literal(self._quoted()).escaped)
            elif char == "," or char.isspace():
                break
            else:
                pieces.append("\\\\" if char == "\\" else char)
                self.at += 1
        if self.at == begin:
            raise self.fail("a value is missing", begin)
        return "".join(pieces), quoted, begin

    def _quoted(self) -> str:
        start = self.at
        match = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL).match(self.text, start)
        if not match:
            raise self.fail("a quote that is not closed", start)
        self.at = match.end()
        return re.sub(r'\\(["\\])', r"\1", match[1])


def _unescape(escaped: str) -> str:
    return re.sub(r"\\(.)", r"\1", escaped, flags=re.DOTALL)
