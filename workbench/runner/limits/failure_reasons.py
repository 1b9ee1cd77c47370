"""Why attempts failed, grouped for a person: how many of each reason, and one of them."""

import re

import msgspec

_NUMBERS = re.compile(r"[0-9a-fA-F]*\d[0-9a-fA-F]*")
_MOST_TEXT = 160
_MOST_REASONS = 200  # that are told apart; a server may word every one in its own way


class Reason(msgspec.Struct):
    """One reason.

    Attributes:
        kind: as in `error_type`, or "not scored" where an answer came and its scorer gave nothing.
        message: the words of the first failure for it.
        example: that attempt: task/item, trial and configuration.
        is_final: whether asking again would fail again, so that no later launch does.
    """

    kind: str
    message: str
    example: str
    is_final: bool = False
    n: int = 1

    def __str__(self) -> str:
        """Say it in one line."""
        said = " ".join(self.message.split())
        said = said if len(said) <= _MOST_TEXT else said[: _MOST_TEXT - 1] + "…"
        again = "; not asked again" if self.is_final else ""
        return f"{self.n:,} × {self.kind}: {said} (e.g. {self.example}{again})"


class Failures:
    """Groups failures by what they say; numbers in the words make no difference."""

    def __init__(self) -> None:
        """Begin without any."""
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
