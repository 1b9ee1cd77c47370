"""Scorer `choice`: the letter of a multiple choice, in any usual wording."""

import re

from workbench.errors import TaskError
from workbench.scoring.answers import candidate, last_line, plain
from workbench.scoring.base import Deterministic
from workbench.scoring.items import LETTERS, TaskItem

_LEADING = re.compile(r"^[\s(\[]{0,4}(?:option |choice )?[(\[]?([A-Ja-j])(?![\w'])")
_HEDGE = re.compile(r"^[\s(\[]{0,4}[A-J][)\].]?\s?(?:or|and|,|/|&)\s?[(\[]?[A-J](?![\w'])")
_LETTER = re.compile(r"(?:\(|\b(?:option|choice) )([A-J])\b|\b([A-J])[).:](?!\w)")


def _read_choice(item: TaskItem, text: str) -> str | None:
    """Return the letter: a letter said as such, else an option quoted word by word."""
    span, marked = candidate(text)
    valid = LETTERS[: len(item.choices)]
    line = last_line(span)
    lead = None if _HEDGE.match(line) else _LEADING.match(line)
    bare = lead is not None and not line[lead.end() :].strip(" .)]!\"'")
    if lead and lead[1].upper() in valid and (bare or (marked and lead[1].isupper())):
        return lead[1].upper()
    options = [plain(choice) for choice in item.choices]
    if (whole := plain(line)) in options:
        return valid[options.index(whole)]
    if marked and _HEDGE.match(line):
        return None
    letters: list[str] = [a or b for a, b in _LETTER.findall(span) if (a or b) in valid]
    if letters:
        return letters[-1]
    named = [
        i for i, choice in enumerate(options) if choice and f" {choice} " in f" {plain(line)} "
    ]
    return valid[named[0]] if len(named) == 1 else None


def _same_choice(item: TaskItem, answer: str) -> bool:
    return answer in {target.strip().upper() for target in item.targets}


def _check(item: TaskItem) -> None:
    if not 2 <= len(item.choices) <= len(LETTERS):
        raise TaskError(
            f"{item.place}: a choice needs 2 to {len(LETTERS)} `choices`, not {len(item.choices)}"
        )
    valid = LETTERS[: len(item.choices)]
    for target in item.targets:
        if len(target) != 1 or target not in valid:
            raise TaskError(
                f"{item.place}: target {target[:200]!r} is no letter of its choices"
                f" ({valid[0]}–{valid[-1]})"
            )


CHOICE = Deterministic("choice", _read_choice, _same_choice, _check)
