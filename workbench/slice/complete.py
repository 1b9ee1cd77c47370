"""Fuzzy completion of a filter being typed: names first, then values."""

import dataclasses
import re
from collections.abc import Callable, Iterable

from workbench.slice.fields import FIELDS, lookup
from workbench.slice.names import HEAD, in_quotes
from workbench.slice.terms import bare

MAX_COMPLETIONS = 50
_AGES = {"1d": "a day ago", "7d": "a week ago", "30d": "thirty days ago"}
_WORDS = {"any": "is known", "none": "is unknown"}


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A proposal: put `text` in place of `[start:end]` of the filter; `detail` says what it is."""

    text: str
    start: int
    end: int
    detail: str


def rank(typed: str, name: str) -> tuple[int, int, int] | None:
    """Score a name against what was typed, lower is better; None where it does not fit.

    Prefix beats start of a word beats subsequence; then the tighter fit, then the shorter name.
    """
    low, want = name.lower(), typed.lower()
    if low.startswith(want):
        return (0, 0, len(name))
    for found in re.finditer(r"(?<=[\W_])\w|(?<=\d)[^\W\d_]|(?<=[^\W\d_])\d", low):
        if low.startswith(want, found.start()):
            return (1, found.start(), len(name))
    place, first = -1, -1
    for char in want:
        place = low.find(char, place + 1)
        if place < 0:
            return None
        first = place if first < 0 else first
    return (2, place - first, len(name))


def complete(
    text: str,
    cursor: int,
    values: Callable[[str, str], list[str]],
    own: Iterable[str] = (),
) -> list[Completion]:
    """Propose what the word at the cursor may become, best first.

    Args:
        text: the filter so far; it need not parse.
        cursor: 0-based place of the cursor in `text`.
        values: `(column, prefix)` → values of a text column, commonest first.
        own: columns that the store has of its own, such as "params.docs".
    """
    cursor = min(max(cursor, 0), len(text))
    start = _word_start(text, cursor)
    if start < cursor and text[start] == "-":
        start += 1
    typed = text[start:cursor]
    if typed.startswith('"'):
        return []
    head = HEAD.match(typed)
    if head is None:
        return _names(typed, start, _word_end(text, cursor), own)
    begin = start + _last_comma(typed, head.end())
    return _values(head[1], head[2], text[begin:cursor], (begin, _word_end(text, cursor)), values)


def _word_start(text: str, cursor: int) -> int:
    """Find where the word at the cursor begins; spaces in quotes do not end a word."""
    start, quoted, place = 0, False, 0
    while place < cursor:
        char = text[place]
        if quoted and char == "\\":
            place += 1
        elif char == '"':
            quoted = not quoted
        elif char.isspace() and not quoted:
            start = place + 1
        place += 1
    return start


def _word_end(text: str, cursor: int) -> int:
    match = re.compile(r'[\s,"]').search(text, cursor)
    return match.start() if match else len(text)


def _last_comma(typed: str, start: int) -> int:
    quoted, place = False, start
    while place < len(typed):
        if quoted and typed[place] == "\\":
            place += 1
        elif typed[place] == '"':
            quoted = not quoted
        elif typed[place] == "," and not quoted:
            start = place + 1
        place += 1
    return start


def _names(typed: str, start: int, end: int, own: Iterable[str]) -> list[Completion]:
    proposals: dict[str, tuple[tuple[int, int, int], str]] = {}
    fields = [f for f in map(lookup, own) if f is not None]
    for alias, field in (*FIELDS.items(), *((f.name, f) for f in fields)):
        score = rank(typed, alias)
        if score is None:
            continue
        sign = {"flag": "", "number": ">"}.get(field.kind, ":")
        proposal = field.name + sign
        if proposal not in proposals or score < proposals[proposal][0]:
            unit = f" ({field.unit})" if field.unit not in {"", "0..1", "tokens", "count"} else ""
            proposals[proposal] = (score, f"{field.doc}{unit}")
    best = sorted(proposals, key=lambda p: (proposals[p][0], p))[:MAX_COMPLETIONS]
    return [Completion(p, start, end, proposals[p][1]) for p in best]


def _values(
    name: str,
    op: str,
    typed: str,
    span: tuple[int, int],
    values: Callable[[str, str], list[str]],
) -> list[Completion]:
    field = lookup(name)
    if field is None or field.kind == "flag":
        return []
    want = typed.replace('"', "")
    offered: dict[str, str] = {}
    if field.kind in {"text", "open"}:
        for value in [*values(field.column, want), *values(field.column, "")]:
            offered.setdefault(_shown(value, op), "")
    elif field.name in {"since", "until"}:
        offered |= _AGES
    if op == ":" and field.name not in {"since", "until"}:
        offered |= {word: f"{field.name} {what}" for word, what in _WORDS.items()}
    return [Completion(v, *span, offered[v]) for v in _best(want, offered)]


def _shown(value: str, op: str) -> str:
    if op == ":":
        return in_quotes(value) if value in _WORDS else bare(value)
    return bare(value, special='",\\')


def _best(want: str, offered: Iterable[str]) -> list[str]:
    scored = [(rank(want, value.strip('"')), place, value) for place, value in enumerate(offered)]
    fits = [(score[:2], place, value) for score, place, value in scored if score is not None]
    return [value for _, _, value in sorted(fits)][:MAX_COMPLETIONS]
