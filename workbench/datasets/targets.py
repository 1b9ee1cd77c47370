"""Targets of other people's files → targets for our scorers: "#### 42", indexes, option texts."""

import re
from collections.abc import Sequence

from workbench.datasets.spec import Answers
from workbench.errors import TaskError
from workbench.scoring import LETTERS
from workbench.scoring.answers import boxed

Truths = tuple[str, ...]  # all that are accepted, the first is the target; () where there is none
_LAST = re.compile(r"(?:A|Answer|The answer is):?\s+(.+?)\.?", re.IGNORECASE)


def final_answers(truths: Sequence[Truths]) -> tuple[list[Truths], str | None]:
    r"""Take the answer out of worked solutions, where every one of a file marks it the same way.

    Known marks: "#### 42" (GSM8K), a last line "A: 42" after others, \\boxed{42} (MATH).

    Returns:
        the truths, and what was done as a sentence; null where nothing was.
    """
    texts = [t for ts in truths for t in ts]
    if not texts:
        return list(truths), None
    for mark, take in (
        ('the part after "####"', _after_hashes),
        ("the last line, after its mark", _last_line),
        ("what is in the last \\boxed{}", _boxed),
    ):
        if all(take(t) is not None for t in texts):
            return [tuple(take(t) or "" for t in ts) for ts in truths], f"target: {mark}"
    return list(truths), None


def _after_hashes(text: str) -> str | None:
    head, mark, tail = text.rpartition("####")
    return tail.strip() or None if mark and head is not None else None


def _last_line(text: str) -> str | None:
    head, _, last = text.strip().rpartition("\n")
    match = _LAST.fullmatch(last.strip()) if head.strip() else None
    return match[1].strip() if match else None


def _boxed(text: str) -> str | None:
    found = boxed(text)
    return found.text.strip() or None if found is not None else None


def letters(
    truths: Sequence[Truths], choices: Sequence[tuple[str, ...]], told: Answers | None, path: str
) -> tuple[list[Truths], str | None]:
    """Turn the truths of multiple choices into letters.

    Args:
        truths: as the file has them.
        choices: the options of each item, as many.
        told: what the truths say; found out where None: what makes sense of every row.
        path: for messages.

    Returns:
        the truths, and what was found out; null where the file has letters.

    Raises:
        TaskError: they can be read in two ways that differ, or in none.
    """
    pairs = list(zip(truths, choices, strict=True))
    if told is not None:
        return [_read(t, c, told) or t for t, c in pairs], None
    readings: dict[Answers, list[Truths]] = {}
    for way in ("letter", "text", "index0", "index1"):
        found = [_read(t, c, way) for t, c in pairs]
        if all(f is not None for f in found):
            readings[way] = [f or () for f in found]
    ways = list(readings)
    if not ways:
        return list(truths), None  # each item's own check says what is wrong with it
    if any(readings[way] != readings[ways[0]] for way in ways):
        raise TaskError(
            f"{path}: the targets may be {' or '.join(_SAID[w] for w in ways)}, "
            "and that makes a difference;"
            f' say which, for example answers = "{ways[-1]}"'
        )
    note = None if ways[0] == "letter" else f"target: {_SAID[ways[0]]}"
    return readings[ways[0]], note


_SAID = {
    "letter": "letters",
    "text": "the options' texts",
    "index0": "numbers of the options, from 0",
    "index1": "numbers of the options, from 1",
}


def _read(truths: Truths, choices: tuple[str, ...], way: Answers) -> Truths | None:
    found = [_letter(truth, choices, way) for truth in truths]
    return tuple(f for f in found if f) if all(found) else None


def _letter(truth: str, choices: tuple[str, ...], way: Answers) -> str | None:
    valid = LETTERS[: len(choices)]
    bare = truth.strip()
    if way == "letter":
        letter = bare.strip("().").upper()
        return letter if len(letter) == 1 and letter in valid else None
    if way == "text":
        same = [i for i, choice in enumerate(choices[: len(LETTERS)]) if choice.strip() == bare]
        return valid[same[0]] if len(same) == 1 else None
    if not bare.isdecimal() or len(bare) > 3:
        return None
    index = int(bare) - (way == "index1")
    return valid[index] if 0 <= index < len(valid) else None
