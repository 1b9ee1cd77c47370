"""Inspect's score values → 0..1: C and I, P and N, numbers, yes and no, and one score per key of a dict."""

import math
from collections import Counter
from collections.abc import Iterator

from workbench.records import Score, json_text
from workbench.sources.inspect_schema import ScoreOf

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def scores_of(scores: dict[str, ScoreOf], notes: Counter[str]) -> Iterator[Score]:
    """Yield every scorer's score; a dict value gives one per key, named scorer/key."""
    for scorer, score in scores.items():
        if isinstance(score.value, dict):
            for key, value in score.value.items():
                yield _score(f"{scorer}/{key}", value, score, notes)
        else:
            yield _score(scorer, score.value, score, notes)


def _score(scorer: str, value: object, score: ScoreOf, notes: Counter[str]) -> Score:
    number = to_score(value)
    if number is not None and not 0 <= number <= 1:
        notes["scores outside 0..1: kept as text, null as a number"] += 1
        number = None
    return Score(
        scorer=scorer, score=number, passed=None if number is None else number >= 1,
        value=_text(value), answer=score.answer, explanation=score.explanation,
    )  # fmt: skip


def to_score(value: object) -> float | None:
    """Read a value as Inspect's own value_to_float does; None where that would have to guess."""
    if isinstance(value, (bool, int, float)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    if value in _LETTERS:
        return _LETTERS[value]
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json_text(value)
