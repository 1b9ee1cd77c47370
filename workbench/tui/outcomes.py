"""Outcomes of traces as a sign, a word and a colour."""

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "✓": ("right", "success"),
    "✗": ("wrong", "error"),
    "⚠": ("failed", "warning"),
    "·": ("not scored", ""),
}


def outcome(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the sign and the tone of a trace's outcome."""
    if facts["error_type"] is not None:
        return "⚠", "warn"
    if facts["passed"] is None:
        return "·", "dim"
    return ("✓", "good") if facts["passed"] else ("✗", "bad")


def outcome_text(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the outcome as a sign and a word, and its colour in the theme."""
    sign, _ = outcome(facts)
    word, colour = _WORDS[sign]
    return f"{sign} {word}", colour
