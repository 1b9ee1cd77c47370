"""Conversion of a file's targets for the scorers: worked solutions, indexes, option texts."""

import re
from collections.abc import Sequence

from workbench.datasets.spec import Answers
from workbench.errors import TaskError
from workbench.scoring import LETTERS
from workbench.scoring.answers import boxed

Truths = tuple[str, ...]  # all accepted answers, the first is the target; () without a target
_LAST = re.compile(r"(?:A|Answer|The answer is):?\s+(.+?)\.?", re.IGNORECASE)


def final_answers(truths: Sequence[Truths]) -> tuple[list[Truths], str | None]:
    r"""Extract the answers from worked solutions, if all of a file mark them in the same way.

    Known marks: "#### 42" (GSM8K), a last line "A: 42" after others, \\boxed{42} (MATH).

    Returns:
        (the truths, a note on the mark or None).
    """
    texts = [t for ts in truths for t in ts]
    if not texts:
        return list(truths), None
    for mark, take in (
        ('the part after "####"', _after_hashes),
        ("the last line, after its mark", _last_line),
        ("the content of the last \\boxed{}", _boxed),
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
    answer = boxed(text)
    return answer.text.strip() or None if answer is not None else None


def to_letters(
    truths: Sequence[Truths],
    choices: Sequence[tuple[str, ...]],
    declared: Answers | None,
    path: str,
) -> tuple[list[Truths], str | None]:
    """Convert the truths of multiple choices to letters.

    Args:
        truths: the truths of each item, as in the file.
        choices: the options of each item.
        declared: the kind of the truths; None detects the kind that is valid for every row.
        path: the file, for messages.

    Returns:
        (the truths, a note on the kind; None if the file has letters).

    Raises:
        TaskError: several kinds are valid and give different letters.
    """
    pairs = list(zip(truths, choices, strict=True))
    if declared is not None:
        return [_letters_of(t, c, declared) or t for t, c in pairs], None
    readings: dict[Answers, list[Truths]] = {}
    for kind in ("letter", "text", "index0", "index1"):
        converted = [_letters_of(t, c, kind) for t, c in pairs]
        if all(f is not None for f in converted):
            readings[kind] = [f or () for f in converted]
    kinds = list(readings)
    if not kinds:
        return list(truths), None  # the check of each item reports the fault
    if any(readings[kind] != readings[kinds[0]] for kind in kinds):
        raise TaskError(
            f"{path}: the targets may be {' or '.join(_KIND_NAMES[w] for w in kinds)}, "
            "which gives different letters;"
            f' name the kind, for example answers = "{kinds[-1]}"'
        )
    note = None if kinds[0] == "letter" else f"target: {_KIND_NAMES[kinds[0]]}"
    return readings[kinds[0]], note


_KIND_NAMES = {
    "letter": "letters",
    "text": "the options' texts",
    "index0": "numbers of the options, from 0",
    "index1": "numbers of the options, from 1",
}


def _letters_of(truths: Truths, choices: tuple[str, ...], kind: Answers) -> Truths | None:
    letters = [_letter(truth, choices, kind) for truth in truths]
    return tuple(f for f in letters if f) if all(letters) else None


def _letter(truth: str, choices: tuple[str, ...], kind: Answers) -> str | None:
    valid = LETTERS[: len(choices)]
    bare = truth.strip()
    if kind == "letter":
        letter = bare.strip("().").upper()
        return letter if len(letter) == 1 and letter in valid else None
    if kind == "text":
        same = [i for i, choice in enumerate(choices[: len(LETTERS)]) if choice.strip() == bare]
        return valid[same[0]] if len(same) == 1 else None
    if not bare.isdecimal() or len(bare) > 3:
        return None
    index = int(bare) - (kind == "index1")
    return valid[index] if 0 <= index < len(valid) else None
