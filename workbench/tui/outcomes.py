"""How a trace ended, as a sign, a word and a colour."""

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


def told(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the outcome in a word, after its sign, and the theme's colour of it."""
    sign, _ = outcome(facts)
    word, colour = _WORDS[sign]
    return f"{sign} {word}", colour
