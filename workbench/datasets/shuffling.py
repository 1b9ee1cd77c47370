"""Shuffling of multiple-choice options, for files whose first option is always the right one.

The order depends only on the item (its key, question and options) and a seed. It is the same in
every run, so that resumed and repeated attempts have the same prompt.
"""

import random
import re
from collections.abc import Iterable, Sequence

from workbench.records import content_id
from workbench.scoring import LETTERS

MIN_ITEMS = 2  # a single item whose first option is right proves nothing about the file
# options that refer to the places of others, as "all of the above"
_REFERS_TO_PLACES = re.compile(
    r"(?i:\b(?:above|below|preceding|foregoing)\b)|\b[A-J]\)? ?(?:and|or|&|,) ?\(?[A-J]\b"
)


def is_always_first(targets: Iterable[Sequence[str]]) -> bool:
    """Return whether the right option is the first of every item; `targets` are the letters."""
    letters_by_item = list(targets)
    return len(letters_by_item) >= MIN_ITEMS and all(
        tuple(letters) == (LETTERS[0],) for letters in letters_by_item
    )


def shuffled_places(
    seed: int, key: str, question: str, choices: Sequence[str], letters: Sequence[str]
) -> list[int] | None:
    """Draw the order of an item's options.

    Returns:
        The index of the option at each place, from 0; None if an option refers to the places of
        others ("all of the above"), or if the targets are not letters of options.
    """
    if any(_REFERS_TO_PLACES.search(choice) for choice in choices):
        return None
    if not all(letter and letter in LETTERS[: len(choices)] for letter in letters):
        return None
    places = list(range(len(choices)))
    digest = content_id("choices", seed, key, question, list(choices))
    random.Random(digest).shuffle(places)  # noqa: S311  # not for secrets
    return places


def letters_after(letters: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    """Return the letters of options after they were put in an order.

    >>> letters_after(("A",), [2, 0, 1])
    ('B',)
    """
    return tuple(LETTERS[places.index(LETTERS.index(letter))] for letter in letters)
