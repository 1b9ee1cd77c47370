"""Diff of messages: pairs of two conversations' messages, and the words that differ.

Messages are matched whole; words only within a pair that is looked at, and only so many of them, so
that a conversation of any length is compared at once.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence

from workbench.safe import safe
from workbench.tui.widgets.conversation import Entry

MOST_MESSAGES = 2000  # of a conversation that are compared
MOST_WORDS = (
    400  # of a message, behind what is the same at its beginning; the comparison is quadratic
)
AHEAD = 8  # messages in which the next one of a kind is looked for
_WORD = re.compile(r"\w+|[^\w\s]")

Span = tuple[int, int]  # of a text without its white space: from, to


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two messages that correspond, or one without a counterpart."""

    a: Entry | None
    b: Entry | None
    is_same: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """What differs within a pair.

    Attributes:
        a, b: stretches of words that the other has not, in order; places count all but white space.
    """

    a: tuple[Span, ...] = ()
    b: tuple[Span, ...] = ()


def pairs(a: Sequence[Entry], b: Sequence[Entry]) -> list[Pair]:
    """Match the messages of two conversations: equal messages first, the others by kind."""
    left, right = [_key(e) for e in a], [_key(e) for e in b]
    start = _common_prefix(left, right)
    matched = [Pair(x, y, is_same=True) for x, y in zip(a[:start], b[:start], strict=True)]
    matcher = difflib.SequenceMatcher(None, left[start:], right[start:], autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        xs, ys = a[start + a0 : start + a1], b[start + b0 : start + b1]
        if tag == "equal":
            matched += [Pair(x, y, is_same=True) for x, y in zip(xs, ys, strict=True)]
        else:
            matched += _by_kind(xs, ys)
    return matched


def first_difference(matched: Sequence[Pair]) -> int | None:
    """Return the index of the first pair that differs; None if none does."""
    return next((i for i, pair in enumerate(matched) if not pair.is_same), None)


def _key(entry: Entry) -> tuple[str, str, str]:
    # the hash of the whole text, if only its beginning was fetched
    return entry.kind, entry.title, entry.content_id or entry.text


def _by_kind(a: Sequence[Entry], b: Sequence[Entry]) -> Iterator[Pair]:
    """Pair messages of one kind; skip on the side whose next message of that kind is nearer."""
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i].kind == b[j].kind:
            yield Pair(a[i], b[j])
            i, j = i + 1, j + 1
        elif _wait(b[j:], a[i].kind) <= _wait(a[i:], b[j].kind):
            yield Pair(None, b[j])
            j += 1
        else:
            yield Pair(a[i], None)
            i += 1
    yield from (Pair(entry, None) for entry in a[i:])
    yield from (Pair(None, entry) for entry in b[j:])


def _wait(entries: Sequence[Entry], kind: str) -> int:
    """Return the number of messages before the next one of a kind."""
    near = entries[:AHEAD]
    return next((n for n, entry in enumerate(near) if entry.kind == kind), AHEAD)


def marks(a: str, b: str) -> Marks:
    """Return the words of each text that the other lacks, as far as they are compared."""
    left, right = _words(a), _words(b)
    start = _common_prefix(left, right)
    xs, ys = left[start : start + MOST_WORDS], right[start : start + MOST_WORDS]
    opcodes = difflib.SequenceMatcher(None, xs, ys, autojunk=False).get_opcodes()
    changed = [code[1:] for code in opcodes if code[0] != "equal"]
    before = sum(map(len, left[:start]))
    return Marks(
        tuple(_spans(xs, before, [(a0, a1) for a0, a1, _, _ in changed])),
        tuple(_spans(ys, before, [(b0, b1) for _, _, b0, b1 in changed])),
    )


def unlike(a: str, b: str) -> tuple[bool, int]:
    """Return whether any word differs, and the number of words that `marks` does not compare.

    Linear in the length of the texts.
    """
    left, right = _words(a), _words(b)
    read = _common_prefix(left, right) + MOST_WORDS
    return left != right, max(0, len(left) - read) + max(0, len(right) - read)


def _common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """Return the length of the common prefix of two sequences."""
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def _words(text: str) -> list[str]:
    return _WORD.findall(safe(text, lines=True))


def _spans(words: Sequence[str], before: int, chosen: Sequence[Span]) -> Iterator[Span]:
    """Convert spans of words into spans of characters."""
    places = [before]
    for word in words:
        places.append(places[-1] + len(word))
    for first, last in chosen:
        if first < last:
            yield places[first], places[last]


def stretches(line: str, before: int, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """Split a line into marked and unmarked parts.

    Args:
        line: one line of the text that the marks are of, broken anywhere.
        before: how many characters of the text, without white space, stand before it.
        spans: the marks, in order.
    """
    place, held, text = before, False, ""
    for char in line:
        is_marked = False
        if not char.isspace():
            is_marked = any(first <= place < last for first, last in spans)
            place += 1
        elif held and text:
            # a space between two marked words is marked with them
            is_marked = any(first < place < last for first, last in spans)
        if is_marked != held:
            if text:
                yield text, held
            held, text = is_marked, ""
        text += char
    if text:
        yield text, held


def length(line: str) -> int:
    """Count the characters of a line that are not white space."""
    return len("".join(line.split()))
