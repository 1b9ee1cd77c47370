"""Scorers of words: `exact`, `regex` and `list`."""

import re

from workbench.errors import TaskError
from workbench.scoring.answers import candidate, clean, last_line, plain
from workbench.scoring.base import Deterministic
from workbench.scoring.items import TaskItem

_LONGEST = 500  # characters of an answer that a pattern sees


def read_exact(_: TaskItem, text: str) -> str | None:
    """Return the folded last line of the answer."""
    span, _marked = candidate(text)
    return plain(last_line(span)) or None


def _same_exact(item: TaskItem, answer: str) -> bool:
    return any(answer == plain(clean(target)) for target in item.targets)


def need_target(item: TaskItem) -> None:
    """Refuse an item without a target."""
    if not item.target.strip():
        raise TaskError(f"{item.place}: the target is empty; scorer {item.scorer!r} needs one")


def matches(
    item: TaskItem, pattern: str, text: str, *, whole: bool = True, fold: bool = True
) -> bool:
    """Match a text with a pattern in time linear in its length; the whole of it, or any part.

    Patterns come from task files, so they are read by the engine of Polars (Rust's `regex`), which
    never backtracks: no look-around and no back-references, and no text for which a pattern takes
    for ever.

    Raises:
        TaskError: it is no regular expression, or needs what that engine leaves out.
    """
    import polars as pl

    hay = text[:_LONGEST].encode("utf-8", "replace").decode()
    try:
        inner = f"(?i:{pattern})" if fold else f"(?:{pattern})"
        anchored = rf"\A{inner}\z" if whole else inner
        return bool(pl.Series([hay]).str.contains(anchored)[0])
    except pl.exceptions.ComputeError as error:
        why = str(error).partition("\n\nThis error")[0].rpartition("error: ")[2].strip()
        raise TaskError(
            f"{item.place}: pattern {pattern[:200]!r} is no regular expression "
            f"that is read here: {why};"
            " look-around and back-references are left out, so that no text can take for ever"
        ) from error


def _pattern(item: TaskItem) -> str:
    return str(item.option("pattern", item.target))


def _check_pattern(item: TaskItem) -> None:
    if not _pattern(item):
        raise TaskError(
            f"{item.place}: no pattern; write it as the target or into metadata.pattern"
        )
    for whole in (False, True):  # "a)|(b" is a pattern only within the anchors
        matches(item, _pattern(item), "", whole=whole)


def _same_pattern(item: TaskItem, answer: str) -> bool:
    return matches(item, _pattern(item), answer)


def _parts(line: str) -> str:
    body = line.strip().strip("[](){}.")
    raw = (
        re.split(r"[,;\n]|\s->\s|\band\b", body)
        if re.search(r"[,;]|->|\band\b", body)
        else body.split()
    )
    return ", ".join(p for p in (plain(part) for part in raw) if p)


def _read_list(_: TaskItem, text: str) -> str | None:
    span, _marked = candidate(text)
    return _parts(last_line(span)) or None


def _same_list(item: TaskItem, answer: str) -> bool:
    """Compare element by element; in order, unless the item's `any_order` says otherwise."""
    wanted = [_parts(clean(target)) for target in item.targets]
    if item.option("any_order", default=False) is True:
        return sorted(answer.split(", ")) in [sorted(w.split(", ")) for w in wanted]
    return answer in wanted


EXACT = Deterministic("exact", read_exact, _same_exact, need_target)
REGEX = Deterministic("regex", read_exact, _same_pattern, _check_pattern)
LIST = Deterministic("list", _read_list, _same_list, need_target)
