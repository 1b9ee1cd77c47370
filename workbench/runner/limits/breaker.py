"""Circuit breaker of a configuration: stops it when its failures are not those of single items."""

import re

from workbench.errors import ProviderError, ProviderRejected
from workbench.runner.providers.protocol import FATAL

# the configuration is wrong whatever the item: the key, the account, the model, a parameter
_WRONG_KINDS = frozenset({"http_401", "http_402", "http_404", "http_405"})
_WRONG = re.compile(
    r"api.?key|authenticat|permission|billing|credit balance|insufficient.?quota"
    r"|unsupported|not supported|does not support|unrecognized|unknown (?:parameter|field|model)"
    r"|model.{0,60}(?:not found|does not exist|not exist)|extra inputs are not permitted"
    r"|invalid (?:value|type) for|deprecated",
    re.IGNORECASE,
)
# the item is wrong: too long for this model, or refused for its content
_ITEM = re.compile(
    r"context.?(?:length|window|size)|too (?:long|large|many tokens)|maximum.{0,30}tokens"
    r"|content.?(?:filter|management|policy)|flagged|moderation|safety|prohibited|blocked"
    r"|exceeds? the (?:available|maximum)|invalid.?image|could not process",
    re.IGNORECASE,
)
_ITEM_KINDS = frozenset({"http_413", "content_filter"})
_SURE, _UNSURE, _ALL_ITEMS = 5, 10, 100


class Breaker:
    """Stops one configuration when its failures predict that the next item would fail too.

    It counts the items in a row that failed in one way; an answered item resets the count:

    - a failure that every request would meet (no credit, no such host, no trusted TLS): 1
    - a refusal that names the configuration (401, 404, an unsupported parameter): 5
    - a refusal that names the item (too long, filtered): never once any item has passed, else 100
    - any other refusal: 10 while no item has passed; ten times as many after
    - no answer after all tries (429, 5xx, timeouts): `passing` of them, of whatever kind
    """

    def __init__(self, passing: int) -> None:
        """Stop after `passing` items in a row without an answer."""
        self._passing = passing
        self._passed = False
        self._kind, self._row = "", 0

    def note(self, error: ProviderError | None) -> int | None:
        """Count the result of an item; returns the row's length if it stops the configuration."""
        if error is None:
            self._passed, self._kind, self._row = True, "", 0
            return None
        kind = _kind(error)
        self._row = self._row + 1 if kind == self._kind else 1
        self._kind = kind
        most = self._most(kind)
        return self._row if most is not None and self._row >= most else None

    def _most(self, kind: str) -> int | None:
        if kind == "fatal":
            return 1
        if kind == "configuration":
            return _SURE
        if kind == "item":
            return None if self._passed else _ALL_ITEMS
        if kind == "refused":
            return _UNSURE * 10 if self._passed else _UNSURE
        return self._passing


def _kind(error: ProviderError) -> str:
    """Classify a failure by its scope.

    Returns:
        "fatal" (every request), "configuration", "item", "refused" (not known) or "unavailable".
    """
    if not isinstance(error, ProviderRejected):
        return "unavailable"
    if error.kind in FATAL:
        return "fatal"
    text = str(error)
    if error.kind in _ITEM_KINDS or _ITEM.search(text):
        return "item"
    if error.kind in _WRONG_KINDS or _WRONG.search(text):
        return "configuration"
    return "refused"
