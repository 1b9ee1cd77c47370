"""Shuffling of multiple-choice options, for files whose own order gives the answer away.

An order follows from the item alone (its key, question and options) and a seed: it is the same in
every run, so that an attempt that is resumed, or repeated by somebody else, asks the same prompt.
"""

import random
import re
from collections.abc import Iterable, Sequence

from workbench.records import content_id
from workbench.scoring import LETTERS

FEWEST = 2  # items whose right option comes first, before that is a habit of the file
# options that speak of where others stand: their order is part of what they say
_PLACED = re.compile(
    r"(?i:\b(?:above|below|preceding|foregoing)\b)|\b[A-J]\)? ?(?:and|or|&|,) ?\(?[A-J]\b"
)


def gives_away(targets: Iterable[Sequence[str]]) -> bool:
    """Return whether the right option is the first of every item; `targets` are the letters."""
    found = list(targets)
    return len(found) >= FEWEST and all(tuple(letters) == (LETTERS[0],) for letters in found)


def order(
    seed: int, key: str, question: str, choices: Sequence[str], letters: Sequence[str]
) -> list[int] | None:
    """Draw the order of an item's options: which one, from 0, stands at each place.

    Returns:
        None where an option speaks of the places of others ("all of the above"), or where the right
        ones are no letters of options.
    """
    if any(_PLACED.search(choice) for choice in choices):
        return None
    if not all(letter and letter in LETTERS[: len(choices)] for letter in letters):
        return None
    places = list(range(len(choices)))
    random.Random(content_id("choices", seed, key, question, list(choices))).shuffle(places)  # noqa: S311  # not for secrets
    return places


def moved(letters: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    """Follow letters to where their options stand in an order.

    >>> moved(("A",), [2, 0, 1])
    ('B',)
    """
    return tuple(LETTERS[places.index(LETTERS.index(letter))] for letter in letters)
