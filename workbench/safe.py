"""Safe display of untrusted text: the one function for CLI, app and notebooks.

Names, answers and messages are written by models and by whoever made a file. They may hold escape
sequences, direction overrides, invisible characters or half a surrogate pair. None of these may
reach the terminal, and none may vanish either: what cannot be shown as itself is shown by name.
"""

import re
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f"
)
_INVISIBLE += "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
_UNUSABLE = "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\U000f0000-\U0010ffff"
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_HOSTILE = re.compile(
    f"(?P<pile>(?<=[{_MARKS}]{{4}})[{_MARKS}]+)"  # more than four accents on one letter
    f"|(?P<variant>[\ufe0e\ufe0f])"
    f"|(?P<char>[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_BIDI}{_INVISIBLE}{_UNUSABLE}])"
)
_LINE_END = re.compile("\r\n|\n")
TAB = 4  # cells


def _show(match: re.Match[str]) -> str:
    if match["pile"] or match["variant"]:
        return ""  # stacked accents and emoji variants make the width of a line unknowable
    code = ord(match["char"])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"⟨{code:04X}⟩"


def safe(text: object, *, lines: bool = False) -> str:
    """Return `text` with every character that a terminal would act on shown by name.

    Args:
        text: anything; None gives "".
        lines: keep line ends; otherwise they are shown as "⏎", so that the result is one line.
    """
    if text is None:
        return ""
    value = str(text)
    if value.isascii() and value.isprintable():
        return value
    if not lines:
        value = _LINE_END.sub("⏎", value)
    value = value.replace("\r\n", "\n").expandtabs(TAB)
    return _HOSTILE.sub(_show, value)


def masked(text: str) -> str:
    """Return `text` with one harmless character for each hostile one, so that places stay right."""

    def mask(match: re.Match[str]) -> str:
        return "".join(chr(0x2400 + ord(c)) if ord(c) < 0x20 else "▯" for c in match[0])

    return _HOSTILE.sub(mask, text.replace("\n", "⏎").replace("\t", " "))


def one_line(text: object, width: int) -> str:
    """Return the beginning of `text` as safe text of at most `width` cells, with "…" where cut."""
    value = str(text) if text is not None else ""
    cut = len(value) > width * 4 + 8
    value = safe(value[: width * 4 + 8] if cut else value)
    if not cut and (len(value) <= width if value.isascii() else cell_len(value) <= width):
        return value
    return set_cell_size(value, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def both_ends(text: str, width: int) -> str:
    """Return safe text of at most `width` cells, cut in the middle: names differ at the end."""
    value = safe(text)
    if cell_len(value) <= width:
        return value
    tail = value[-(width // 2) :] if width > 8 else ""
    return one_line(value, width - cell_len(tail)) + tail


def distinct_ends(texts: Iterable[str], width: int) -> dict[str, str]:
    """Cut texts to `width` cells so that different ones look different, as far as the room allows.

    Those that `both_ends` makes alike begin, after "…", with the word in which they differ first.
    """
    cut = {text: both_ends(text, width) for text in texts}
    alike: dict[str, list[str]] = {}
    for text, short in cut.items():
        alike.setdefault(short, []).append(text)
    for family in alike.values():
        if len(family) > 1:
            columns = enumerate(zip(*family, strict=False))
            first = next((n for n, chars in columns if len(set(chars)) > 1), 0)
            start = family[0].rfind(" ", 0, first) + 1
            cut |= {text: "…" + one_line(text[start:], width - 1) for text in family}
    return cut


def clipboard_text(text: str) -> str:
    """Return `text` as it may be copied: unchanged, but for halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")
