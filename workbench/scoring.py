r"""Scorers: what a model wrote and what was asked → a `Score`; deterministic, by name.

A scorer looks for the answer where the model says that it is: after the last "Answer:" (or "the answer
is"), in the last \\boxed{…}, else at the end of the text. Only the last of several answers counts. Text is
hostile: every search is linear in its length, and what is parsed is cut to a window first.
"""

import dataclasses
import datetime as dt
import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Protocol

from workbench.errors import TaskError
from workbench.records import Score

LETTERS = "ABCDEFGHIJ"
_WINDOW = 2_000  # characters of a candidate that are parsed


@dataclasses.dataclass(frozen=True, slots=True)
class TaskItem:
    """One question of a task set.

    Attributes:
        task: name of the set.
        item: key within the set.
        target: the accepted truth, as text; of a choice, its letter.
        scorer: name of the scorer that reads the answer.
        difficulty: the higher the harder, on the set's own scale; null where not graded.
        cluster: items that share a template are not independent; null is a cluster of its own.
        choices: options of a multiple choice, A first; empty where the answer is free.
        metadata: what the scorer may need (`tolerance`, `pattern`) and what the author adds.
    """

    task: str
    item: str
    input: str
    target: str
    scorer: str = "exact"
    tags: tuple[str, ...] = ()
    difficulty: float | None = None
    cluster: str | None = None
    choices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def question(self) -> str:
        """The input with its lettered options, as the model sees it."""
        options = [f"{letter}) {text}" for letter, text in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.input, *options])


class Scorer(Protocol):
    """Compares what a model wrote with an item's target."""

    @property
    def name(self) -> str:
        """What task sets and `scores.scorer` call it."""
        ...

    def __call__(self, item: TaskItem, text: str | None) -> Score:
        """Score a text; null text (the call failed) gives a score of nulls."""
        ...


Read = Callable[[TaskItem, str], str | None]
Same = Callable[[TaskItem, str], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Deterministic:
    """A scorer made of a reader (text → answer in a canonical form) and a comparison with the target."""

    name: str
    read: Read
    same: Same

    def __call__(self, item: TaskItem, text: str | None) -> Score:
        """Score a text.

        The answer is null where none was found; that counts as wrong, because the model was asked for one.
        """
        if text is None:
            return Score(scorer=self.name)
        answer = self.read(item, text)
        passed = answer is not None and self.same(item, answer)
        note = None if answer is not None else "no answer found in the text"
        return Score(
            scorer=self.name, score=float(passed), passed=passed, value="C" if passed else "I",
            answer=answer, explanation=note,
        )  # fmt: skip


# ---- where the answer is --------------------------------------------------------------------------

_MARK = re.compile(r"(?i)\banswer(?: is)?\s{0,4}(?:[:=]|(?<=is)\b)[*_\s]{0,8}")
_BOXED = re.compile(r"\\boxed\s?\{([^{}]{0,500})\}")
_MAP = str.maketrans({
    "\u2212": "-", "\u2013": "-", "\u2011": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "*": "", "`": "", "$": "",
})  # fmt: skip


def _clean(text: str) -> str:
    """Fold typographic variants and drop markup; for a window, not for a whole text."""
    return unicodedata.normalize("NFKC", text.translate(_MAP)).translate(_MAP).strip()


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007  # the last match is what we are after
        pass
    return found


def candidate(text: str) -> tuple[str, bool]:
    """Find the span that holds the answer: (cleaned span, whether the model marked it).

    Unmarked, the span is the end of the text. An empty mark ("Answer:" and nothing) is an empty span.
    """
    mark, boxed = _last(_MARK, text), _last(_BOXED, text)
    if boxed and (not mark or boxed.end() > mark.end()):
        return _clean(boxed[1]), True
    if mark:
        rest = text[mark.end() : mark.end() + _WINDOW].lstrip()
        return _clean(rest.partition("\n")[0]), True
    return _clean(text[-_WINDOW:]), False


def _last_line(span: str) -> str:
    return span.rstrip().rpartition("\n")[2]


# ---- exact ----------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Fold case, spaces, surrounding punctuation and a leading article."""
    words = text.casefold().split()
    if len(words) > 1 and words[0] in {"the", "a", "an"}:
        del words[0]
    return " ".join(words).strip(" .,;:!?'\"()[]{}<>")


def _read_exact(_: TaskItem, text: str) -> str | None:
    span, _marked = candidate(text)
    return _plain(_last_line(span)) or None


def _same_exact(item: TaskItem, answer: str) -> bool:
    return answer == _plain(_clean(item.target))


# ---- numeric --------------------------------------------------------------------------------------

_NUMBER = re.compile(
    r"(?<![\w.])(?:^[-+]\s?|[-+])?"
    r"(?:\d{1,3}(?:,\d{3}){1,8}(?![\d,])|\d{1,40}(?!\d))(?:\.\d{1,40})?(?:[eE][-+]?\d{1,2}\b)?(?:\s?/\s?\d{1,40}(?!\d))?"
)


def _numbers(span: str) -> list[str]:
    """List the numbers in a span as `Fraction` reads them: no separators, no spaces."""
    return [re.sub(r"[,\s]", "", m[0]) for m in _NUMBER.finditer(span)]


def _fraction(text: str) -> Fraction | None:
    above, _, below = text.partition("/")
    try:
        return Fraction(above) / Fraction(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def _read_number(_: TaskItem, text: str) -> str | None:
    span, marked = candidate(text)
    found = [n for n in _numbers(span) if _fraction(n) is not None]
    if not found:
        return None
    return found[0] if marked and "=" not in span else found[-1]


def _same_number(item: TaskItem, answer: str) -> bool:
    """Compare exactly, or within the item's absolute `tolerance`."""
    given, wanted = _fraction(answer), _fraction("".join(_numbers(_clean(item.target))[:1]))
    if wanted is None:
        raise TaskError(f"{item.task}, item {item.item}: target {item.target!r} is not a number")
    tolerance = Fraction(str(item.metadata.get("tolerance", 0)))
    return given is not None and abs(given - wanted) <= tolerance


# ---- multiple choice ------------------------------------------------------------------------------

_LEADING = re.compile(r"^[\s(\[]{0,4}(?:option |choice )?[(\[]?([A-Ja-j])(?![\w'])")
_HEDGE = re.compile(r"^[\s(\[]{0,4}[A-J][)\].]?\s?(?:or|and|,|/|&)\s?[(\[]?[A-J](?![\w'])")
_LETTER = re.compile(r"(?:\(|\b(?:option|choice) )([A-J])\b|\b([A-J])[).:](?!\w)")


def _read_choice(item: TaskItem, text: str) -> str | None:
    """Return the letter: a letter said as such, else an option quoted word by word."""
    span, marked = candidate(text)
    valid = LETTERS[: len(item.choices)]
    line = _last_line(span)
    lead = None if _HEDGE.match(line) else _LEADING.match(line)
    bare = lead is not None and not line[lead.end() :].strip(" .)]!\"'")
    if lead and lead[1].upper() in valid and (bare or (marked and lead[1].isupper())):
        return lead[1].upper()
    said = [_plain(choice) for choice in item.choices]
    if (whole := _plain(line)) in said:
        return valid[said.index(whole)]
    if marked and _HEDGE.match(line):
        return None
    letters: list[str] = [a or b for a, b in _LETTER.findall(span) if (a or b) in valid]
    if letters:
        return letters[-1]
    named = [i for i, choice in enumerate(said) if choice and f" {choice} " in f" {_plain(line)} "]
    return valid[named[0]] if len(named) == 1 else None


def _same_choice(item: TaskItem, answer: str) -> bool:
    return answer == item.target.strip().upper()


# ---- regular expression ---------------------------------------------------------------------------

_NESTED = re.compile(r"\([^()]*[+*}][^()]*\)\s?[+*{]")


def _same_pattern(item: TaskItem, answer: str) -> bool:
    """Match the whole answer, case folded, with the item's `pattern` (else its target)."""
    pattern = str(item.metadata.get("pattern", item.target))
    if _NESTED.search(pattern):
        raise TaskError(
            f"{item.task}, item {item.item}: pattern {pattern!r} repeats a repeated group, which can take"
            " for ever on hostile text; write it without"
        )
    try:
        return re.fullmatch(pattern, answer[:500], re.IGNORECASE) is not None
    except re.error as error:
        raise TaskError(
            f"{item.task}, item {item.item}: pattern {pattern!r} is no regular expression: {error}"
        ) from error


# ---- list -----------------------------------------------------------------------------------------


def _parts(line: str) -> str:
    body = line.strip().strip("[](){}.")
    raw = (
        re.split(r"[,;\n]|\s->\s|\band\b", body)
        if re.search(r"[,;]|->|\band\b", body)
        else body.split()
    )
    return ", ".join(p for p in (_plain(part) for part in raw) if p)


def _read_list(_: TaskItem, text: str) -> str | None:
    span, _marked = candidate(text)
    return _parts(_last_line(span)) or None


def _same_list(item: TaskItem, answer: str) -> bool:
    """Compare element by element, in order."""
    return answer == _parts(_clean(item.target))


# ---- dates ----------------------------------------------------------------------------------------

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_M = "(" + "|".join(f"{m[:3]}(?:{m[3:]})?" if m != "may" else "may" for m in _MONTHS) + r")\.?"
_DATE = re.compile(
    r"(?i)\b(?:(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"
    rf"|(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m2>{_M}),? (?P<y2>\d{{4}})"
    rf"|(?P<m3>{_M}) (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y3>\d{{4}})"
    rf"|(?P<month>{'|'.join(_MONTHS)})|(?P<day>{'|'.join(_DAYS)}))\b"
)


def _as_date(match: re.Match[str]) -> str | None:
    """Write a date as ISO, a month or a day of the week as its lower-case name."""
    if match["month"] or match["day"]:
        return (match["month"] or match["day"]).lower()
    year, day = (match[k] or match[f"{k}2"] or match[f"{k}3"] for k in "yd")
    word = match["m2"] or match["m3"]
    names = [m[:3] for m in _MONTHS]
    month = names.index(word[:3].lower()) + 1 if word else int(match["m"])
    try:
        return dt.date(int(year), month, int(day)).isoformat()
    except ValueError:
        return None


def _dates(span: str) -> list[str]:
    return [d for d in map(_as_date, _DATE.finditer(span)) if d]


def _read_date(item: TaskItem, text: str) -> str | None:
    """Return the last date of the target's kind: day of the week, month, or full date."""
    span, marked = candidate(text)
    kind = _kind(next(iter(_dates(item.target)), ""))
    found = [d for d in _dates(span) if _kind(d) == kind]
    if not found:
        return None
    return found[0] if marked else found[-1]


def _kind(date: str) -> str:
    return "day" if date in _DAYS else "month" if date in _MONTHS else "date"


def _same_date(item: TaskItem, answer: str) -> bool:
    wanted = _dates(item.target)
    if not wanted:
        raise TaskError(f"{item.task}, item {item.item}: target {item.target!r} is no date")
    return answer == wanted[0]


# ---- by name --------------------------------------------------------------------------------------

_SCORERS: dict[str, Deterministic] = {
    s.name: s
    for s in (
        Deterministic("exact", _read_exact, _same_exact),
        Deterministic("numeric", _read_number, _same_number),
        Deterministic("choice", _read_choice, _same_choice),
        Deterministic("regex", _read_exact, _same_pattern),
        Deterministic("list", _read_list, _same_list),
        Deterministic("date", _read_date, _same_date),
    )
}


def names() -> tuple[str, ...]:
    """List the scorers."""
    return tuple(_SCORERS)


def get(name: str) -> Scorer:
    """Find a scorer by name; TaskError with the nearest name if there is none."""
    try:
        return _SCORERS[name]
    except KeyError:
        near = difflib.get_close_matches(name, _SCORERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_SCORERS)}"
        raise TaskError(f"no scorer is called {name!r}; {hint}") from None
