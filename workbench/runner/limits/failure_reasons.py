"""Reasons of failed attempts, grouped for the report: a count and an example of each."""

import re

import msgspec

_NUMBERS = re.compile(r"[0-9a-fA-F]*\d[0-9a-fA-F]*")
_MOST_TEXT = 160
_MOST_REASONS = 200  # distinct ones; a server may word every failure differently


class Reason(msgspec.Struct):
    """One reason with its number of failures.

    Attributes:
        kind: as in `error_type`, or "not scored" where a scorer gave no score to an answer.
        message: the message of its first failure.
        example: that attempt: task/item, trial and configuration.
        is_final: whether a retry would fail again, so that no later launch makes one.
    """

    kind: str
    message: str
    example: str
    is_final: bool = False
    n: int = 1

    def __str__(self) -> str:
        """Format it in one line."""
        text = " ".join(self.message.split())
        text = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
        final = "; not asked again" if self.is_final else ""
        return f"{self.n:,} × {self.kind}: {text} (e.g. {self.example}{final})"


class Failures:
    """Groups failures by their messages, ignoring numbers in them."""

    def __init__(self) -> None:
        """Start without failures."""
        self._reasons: dict[tuple[str, str], Reason] = {}

    def add(self, kind: str, message: str, example: str, *, is_final: bool = False) -> None:
        """Count a failure."""
        words = _NUMBERS.sub("#", message)[:_MOST_TEXT]
        key = (kind, words)
        if key not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            key = (kind, "")
        known = self._reasons.get(key)
        if known is None:
            self._reasons[key] = Reason(kind, message, example, is_final)
        else:
            known.n += 1

    def listing(self) -> tuple[Reason, ...]:
        """List the reasons, the commonest first."""
        return tuple(sorted(self._reasons.values(), key=lambda reason: -reason.n))
