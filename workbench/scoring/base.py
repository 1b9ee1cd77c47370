"""Base of scorers: the protocol, and the scorer made of a reader and a comparison."""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from workbench.errors import TaskError
from workbench.records import Score
from workbench.scoring.items import TaskItem

Read = Callable[[TaskItem, str], str | None]
Same = Callable[[TaskItem, str], bool]
Check = Callable[[TaskItem], None]


@runtime_checkable
class Scorer(Protocol):
    """Compares what a model wrote with an item's target.

    A scorer that is also callable, `(item, text) -> Score`, is pure and instant (`InlineScorer`).
    The others need something to run with (a sandbox, a thread, a judge);
    `workbench.runner.attempts.grading` gives it to them.
    """

    @property
    def name(self) -> str:
        """What task sets and `scores.scorer` call it."""
        ...

    @property
    def identity(self) -> str | None:
        """Part of the task's version that changes with the scorer; null if only a release does."""
        ...

    def check(self, item: TaskItem) -> None:
        """Refuse an item that this scorer could not score, with a TaskError."""
        ...


@runtime_checkable
class InlineScorer(Scorer, Protocol):
    """A deterministic scorer that needs nothing but the text."""

    def __call__(self, item: TaskItem, text: str | None) -> Score:
        """Score a text; null text (the call failed) gives a score of nulls."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Deterministic:
    """A scorer made of a reader (text → answer in canonical form) and a comparison with the target.

    Attributes:
        refuse: raises TaskError for an item whose target or settings are of no use to the
            comparison.
    """

    name: str
    read: Read
    same: Same
    refuse: Check = lambda _: None

    @property
    def identity(self) -> None:
        """Ships with the workbench."""
        return

    def check(self, item: TaskItem) -> None:
        """Refuse an item that could not be scored."""
        self.refuse(item)

    def __call__(self, item: TaskItem, text: str | None) -> Score:
        """Score a text.

        The answer is null where none was found; that counts as wrong, because the model was asked
        for one.
        """
        if text is None:
            return Score(scorer=self.name)
        answer = self.read(item, text)
        passed = answer is not None and self.same(item, answer)
        note = None if answer is not None else "no answer found in the text"
        return Score(
            scorer=self.name,
            score=float(passed),
            passed=passed,
            value="C" if passed else "I",
            answer=answer,
            explanation=note,
        )


def number_option(
    item: TaskItem, name: str, default: float, *, least: float = 0.0, most: float = math.inf
) -> float:
    """Read a finite number of an item's settings; TaskError outside [least, most]."""
    value = item.option(name, default)
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or not least <= value <= most:
        bound = f"from {least:g} up" if math.isinf(most) else f"of {least:g} to {most:g}"
        raise TaskError(f"{item.place}: {name} = {value!r} is no number {bound}")
    return float(value)


def word_option(item: TaskItem, name: str, words: tuple[str, ...]) -> str:
    """Read one of some words from an item's settings; the first is the default."""
    value = item.option(name, words[0])
    if value not in words:
        raise TaskError(f"{item.place}: {name} = {value!r} is none of {', '.join(words)}")
    return str(value)


def share_score(name: str, item: TaskItem, share: float, answer: str | None, note: str) -> Score:
    """Make a score of a share 0..1; it passed from the item's `pass_from` on (1 by default)."""
    passed = share >= number_option(item, "pass_from", 1.0, most=1.0)
    return Score(
        scorer=name,
        score=share,
        passed=passed,
        value=f"{share:.6g}",
        answer=answer,
        explanation=note or None,
    )
