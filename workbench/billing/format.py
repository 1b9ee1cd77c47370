"""Format of bills: how its files are recognised, and how their rows are read."""

import dataclasses
from collections.abc import Callable
from decimal import Decimal

from workbench.billing.bill import Bill, BillRow
from workbench.billing.cells import Row

MAX_DECIMALS = 12  # further decimals are errors of floating point


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """Context for reading the rows of one bill: decimals, notes and skipped rows."""

    bill: Bill

    def money(self, value: Decimal | None, currency: object) -> Decimal | None:
        """Return an amount in dollars; None, with a note, if it is in another currency."""
        if value is None:
            return None
        if str(currency or "usd").strip().lower() != "usd":
            self.bill.notes[f"amounts in {currency}, which are not compared with dollars"] += 1
            return None
        exponent = value.as_tuple().exponent
        digits = -exponent if isinstance(exponent, int) else 0
        self.bill.decimals = min(max(self.bill.decimals, digits), MAX_DECIMALS)
        return value

    def skip(self, reason: str) -> None:
        """Count a row that is not a charge of a provider."""
        self.bill.skipped[reason] += 1


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """Format of an export.

    Attributes:
        name: title for people.
        service: id of the provider in genai-prices; None for a gateway to several.
        measures: the members of `MEASURES` that it states.
        matches: returns whether a file with these columns is of this format.
        read: (row, place, reader) → row of the bill, or None for a skipped one. A row without
            amounts only extends the time that the bill covers.
    """

    name: str
    service: str | None
    measures: frozenset[str]
    matches: Callable[[frozenset[str]], bool]
    read: Callable[[Row, str, Reader], BillRow | None]
