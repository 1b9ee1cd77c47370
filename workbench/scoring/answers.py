r"""Where the answer is in what a model wrote: after the last "Answer:", in the last \boxed{…}, else at the end.

Only the last of several answers counts. Text is hostile: every search is linear in its length, and what is
parsed is cut to a window first.
"""

import re
import unicodedata

WINDOW = 2_000  # characters of a candidate that are parsed
_MARK = re.compile(r"(?i)\banswer(?: is)?\s{0,4}(?:[:=]|(?<=is)\b)[*_\s]{0,8}")
_BOXED = re.compile(r"\\boxed\s?\{([^{}]{0,500})\}")
_MAP = str.maketrans({
    "\u2212": "-", "\u2013": "-", "\u2011": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "*": "", "`": "", "$": "",
})  # fmt: skip


def clean(text: str) -> str:
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
        return clean(boxed[1]), True
    if mark:
        rest = text[mark.end() : mark.end() + WINDOW].lstrip()
        return clean(rest.partition("\n")[0]), True
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
