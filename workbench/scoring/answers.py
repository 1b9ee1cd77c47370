r"""Extraction of answers from output: after the last "Answer:", the last \boxed{…}, else the end.

Only the last of several answers counts. Text is hostile: every search is linear in its length, and
what is parsed is cut to a window first.
"""

import re
import unicodedata
from typing import NamedTuple

WINDOW = 2_000  # characters of a candidate that are parsed
_MARK = re.compile(r"(?i)\banswer(?: is)?\s{0,4}(?:[:=]|(?<=is)\b)[*_\s]{0,8}")
_BOXED = "\\boxed"
_TRIES = 8  # boxes that may be left open before one that is whole
_MAP = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u2011": "-",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "*": "",
        "`": "",
        "$": "",
    }
)


def clean(text: str) -> str:
    """Fold typographic variants and drop markup; for a window, not for a whole text."""
    return unicodedata.normalize("NFKC", text.translate(_MAP)).translate(_MAP).strip()


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last_match = None
    for last_match in pattern.finditer(text):  # noqa: B007  # the last match is what we are after
        pass
    return last_match


class Span(NamedTuple):
    """A part of a text, and where it ends."""

    text: str
    end: int


def boxed(text: str) -> Span | None:
    r"""Find what is in the last \boxed{…} that is closed, braces within it included.

    >>> boxed(r"so \boxed{\frac{1}{2}}.").text
    '\\frac{1}{2}'
    """
    at = len(text)
    for _ in range(_TRIES):
        at = text.rfind(_BOXED, 0, at)
        if at < 0:
            return None
        begin = text.find("{", at, at + len(_BOXED) + 2)
        depth = 1
        for place in range(begin + 1, min(begin + WINDOW, len(text)) if begin > 0 else 0):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return Span(text[begin + 1 : place], place + 1)
    return None


def marked(text: str) -> Span | None:
    """Find the line after the last "Answer:", and where the mark ends."""
    mark = _last(_MARK, text)
    if mark is None:
        return None
    rest = text[mark.end() : mark.end() + WINDOW].lstrip()
    return Span(rest.partition("\n")[0], mark.end())


def candidate(text: str) -> tuple[str, bool]:
    """Find the span that holds the answer: (cleaned span, whether the model marked it).

    Unmarked, the span is the end of the text. An empty mark ("Answer:" and nothing) is an empty
    span.
    """
    mark, box = marked(text), boxed(text)
    if box and (not mark or box.end > mark.end):
        return clean(box.text), True
    if mark:
        return clean(mark.text), True
    return clean(text[-WINDOW:]), False


def last_line(span: str) -> str:
    """Return the last line of a span that is not empty."""
    return span.rstrip().rpartition("\n")[2]


def plain(text: str) -> str:
    """Fold case, spaces, surrounding punctuation and a leading article."""
    words = text.casefold().split()
    if len(words) > 1 and words[0] in {"the", "a", "an"}:
        del words[0]
    return " ".join(words).strip(" .,;:!?'\"()[]{}<>")
