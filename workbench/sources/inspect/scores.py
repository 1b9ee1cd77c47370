"""Conversion of Inspect's score values (C, I, P, N, yes, no, numbers, dicts) to scores 0..1.

A scorer with any number outside of 0..1 has a scale of its own. Then all its numbers are metrics
and none is a score: a 1 on a rubric from 0 to 10 is not a pass.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from workbench.records import Score, json_text
from workbench.sources.inspect.log_schema import ScoreOf

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


class Scales:
    """Scorers of a log with a scale of their own, learned from all samples before any is read."""

    def __init__(self) -> None:
        """Start without any."""
        self._own_scales: set[str] = set()

    def learn(self, scores: Mapping[str, ScoreOf]) -> None:
        """Add the scores of one sample."""
        for scorer, value, _ in _values(scores):
            number = _number(value)
            if number is not None and not 0 <= number <= 1:
                self._own_scales.add(scorer)

    @property
    def n_own(self) -> int:
        """How many scorers have a scale of their own, as far as the samples have told."""
        return len(self._own_scales)

    def has_own_scale(self, scorer: str) -> bool:
        """Return whether a scorer has a scale of its own."""
        return scorer in self._own_scales

    def primary(self, scores: tuple[Score, ...]) -> Score | None:
        """Return the score of the attempt: that of the first scorer with the scale 0..1."""
        return next((s for s in scores if not self.has_own_scale(s.scorer)), None)


def scores_of(
    scores: Mapping[str, ScoreOf], scales: Scales, notes: Counter[str]
) -> Iterator[Score]:
    """Yield every scorer's score; a dict yields one per key, named scorer/key."""
    scales.learn(scores)
    for scorer, value, score in _values(scores):
        number = to_score(value)
        metric = None
        if scales.has_own_scale(scorer):
            metric = _number(value)
            number = None if _number(value) is not None else number
        if metric is not None:
            notes[f"scores of {scorer}, outside of 0..1: imported as the metric {scorer}"] += 1
        elif number is None:
            notes[f"scores of {scorer} that are not numbers: null"] += 1
        yield Score(
            scorer=scorer,
            score=number,
            passed=None if number is None else number >= 1,
            value=_text(value),
            answer=score.answer,
            explanation=score.explanation,
            metric=metric,
        )


def _values(scores: Mapping[str, ScoreOf]) -> Iterator[tuple[str, object, ScoreOf]]:
    for scorer, score in scores.items():
        if isinstance(score.value, dict):
            for key, value in score.value.items():
                yield f"{scorer}/{key}", value, score
        else:
            yield scorer, score.value, score


def to_score(value: object) -> float | None:
    """Convert a value as Inspect's value_to_float does; None if that function would guess."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        if value in _LETTERS:
            return _LETTERS[value]
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
    return _number(value)


def _number(value: object) -> float | None:
    """Parse a finite number, or a text that is one; None for a bool and any other text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json_text(value)
