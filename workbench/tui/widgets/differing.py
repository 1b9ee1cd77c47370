"""Where two conversations part: their messages side by side, and the words that are not the other's.

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
    """Two messages that stand for each other, or one that nothing stands for."""

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
    """Match the messages of two conversations: equal ones with each other, the others by their kind."""
    left, right = [_key(e) for e in a], [_key(e) for e in b]
    start = _alike(left, right)
    found = [Pair(x, y, is_same=True) for x, y in zip(a[:start], b[:start], strict=True)]
    matcher = difflib.SequenceMatcher(None, left[start:], right[start:], autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        xs, ys = a[start + a0 : start + a1], b[start + b0 : start + b1]
        if tag == "equal":
            found += [Pair(x, y, is_same=True) for x, y in zip(xs, ys, strict=True)]
        else:
            found += _by_kind(xs, ys)
    return found


def parting(found: Sequence[Pair]) -> int | None:
    """Return the place of the first pair that differs; None where none does."""
    return next((i for i, pair in enumerate(found) if not pair.is_same), None)


def _key(entry: Entry) -> tuple[str, str, str]:
    # the hash of the whole text, where only its beginning is here
    return entry.kind, entry.title, entry.content_id or entry.text


def _by_kind(a: Sequence[Entry], b: Sequence[Entry]) -> Iterator[Pair]:
    """Walk both; whoever has to wait less for a message of the other's kind stands alone meanwhile."""
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
    """Count the messages before the next one of a kind."""
    near = entries[:AHEAD]
    return next((n for n, entry in enumerate(near) if entry.kind == kind), AHEAD)


def marks(a: str, b: str) -> Marks:
    """Find the words of two texts that the other has not, as far as they are compared."""
    left, right = _words(a), _words(b)
    start = _alike(left, right)
    xs, ys = left[start : start + MOST_WORDS], right[start : start + MOST_WORDS]
    opcodes = difflib.SequenceMatcher(None, xs, ys, autojunk=False).get_opcodes()
    changed = [code[1:] for code in opcodes if code[0] != "equal"]
    before = sum(map(len, left[:start]))
    return Marks(
        tuple(_spans(xs, before, [(a0, a1) for a0, a1, _, _ in changed])),
        tuple(_spans(ys, before, [(b0, b1) for _, _, b0, b1 in changed])),
    )


def unlike(a: str, b: str) -> tuple[bool, int]:
    """Say whether any word differs, and how many words of both `marks` leaves aside; takes no longer than reading."""
    left, right = _words(a), _words(b)
    read = _alike(left, right) + MOST_WORDS
    return left != right, max(0, len(left) - read) + max(0, len(right) - read)


def _alike(left: Sequence[object], right: Sequence[object]) -> int:
    """Count the words, or messages, that two begin with alike."""
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def _words(text: str) -> list[str]:
    return _WORD.findall(safe(text, lines=True))


def _spans(words: Sequence[str], before: int, chosen: Sequence[Span]) -> Iterator[Span]:
    """Turn stretches of words into stretches of characters."""
    places = [before]
    for word in words:
        places.append(places[-1] + len(word))
    for first, last in chosen:
        if first < last:
            yield places[first], places[last]


def stretches(line: str, before: int, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """Cut a line into what is marked and what is not.

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
    """Count the characters of a line that are no white space."""
    return len("".join(line.split()))
