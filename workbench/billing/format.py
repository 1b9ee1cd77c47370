"""Format of bills: how a file of it is recognised, and how its rows are read."""

import dataclasses
from collections.abc import Callable
from decimal import Decimal

from workbench.billing.bill import Bill, BillRow
from workbench.billing.cells import Row

MOST_DECIMALS = 12  # beyond them floating point, not the bill, decides


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """What a row's reader may add to the bill beside the row."""

    bill: Bill

    def money(self, value: Decimal | None, currency: object) -> Decimal | None:
        """Take an amount of money; None, and a note, where it is not in dollars."""
        if value is None:
            return None
        if str(currency or "usd").strip().lower() != "usd":
            self.bill.notes[f"amounts in {currency}, which are not compared with dollars"] += 1
            return None
        exponent = value.as_tuple().exponent
        digits = -exponent if isinstance(exponent, int) else 0
        self.bill.decimals = min(max(self.bill.decimals, digits), MOST_DECIMALS)
        return value

    def skip(self, reason: str) -> None:
        """Count a row that is no charge of a provider."""
        self.bill.passed_over[reason] += 1


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A kind of export.

    Attributes:
        name: in words.
        service: the id of the provider in genai-prices; None for a gateway to many.
        measures: what it states, of `MEASURES`.
        fits: whether a file with these columns is of this format.
        read: row, place and reader → the row of the bill; None where it is passed over. A row
            without amounts only says that the bill covers its time.
    """

    name: str
    service: str | None
    measures: frozenset[str]
    fits: Callable[[frozenset[str]], bool]
    read: Callable[[Row, str, Reader], BillRow | None]
