"""Bill: rows of charged amounts, each for one request or one period."""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from workbench.errors import ImportFormatError

MEASURES = (
    "requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "usd",
)
"""Amounts that a bill may state; tokens are inclusive: input includes cache reads and writes."""

Amounts = Mapping[str, Decimal | None]


@dataclasses.dataclass(frozen=True, slots=True)
class BillRow:
    """One row of a bill.

    Attributes:
        place: file and place of the row, for messages.
        start: time of the request, or start of the period; a date if the bill has no time of day.
        end: end of the period (exclusive); None for a request or a day.
        model: as written in the bill; None if the row is not of one model.
        amounts: by measure; None if the row's cell is empty. Measures that the format does not
            state are absent.
        id: the provider's id of the reply or the request; None for a sum.
        key: name or id of the API key; None if unknown.
        project: name or id of the project or workspace; None if unknown.
    """

    place: str
    start: dt.datetime | dt.date | None
    model: str | None
    amounts: Amounts
    end: dt.datetime | dt.date | None = None
    id: str | None = None
    key: str | None = None
    project: str | None = None

    def day(self, zone: dt.tzinfo) -> dt.date | None:
        """Return the day of the row; a date is a day in the bill's zone."""
        return day_of(self.start, zone)

    def last_day(self, zone: dt.tzinfo) -> dt.date | None:
        """Return the last day of the row's period."""
        if self.end is None:
            return self.day(zone)
        if isinstance(self.end, dt.datetime):
            return day_of(self.end - dt.timedelta(microseconds=1), zone)
        return self.end - dt.timedelta(days=1)


def day_of(moment: dt.datetime | dt.date | None, zone: dt.tzinfo) -> dt.date | None:
    """Return the day of a time in a zone; a time without an offset is in that zone."""
    if not isinstance(moment, dt.datetime):
        return moment
    return (moment.astimezone(zone) if moment.tzinfo else moment).date()


@dataclasses.dataclass(slots=True)
class Bill:
    """A bill as read from one file.

    Attributes:
        name: name of the file.
        format: title of the format, for example "OpenAI usage export".
        service: id of the provider in genai-prices; None for a gateway to several.
        measures: the measures that the format states.
        rows: the rows with amounts.
        periods: rows without amounts, which only extend the time that the bill covers.
        decimals: decimal places of its dollars.
        skipped: reason → number of rows that are not charges of a provider.
        notes: sentence for the reader → number of rows.
    """

    name: str
    format: str
    service: str | None
    measures: frozenset[str]
    rows: list[BillRow] = dataclasses.field(default_factory=list)
    periods: list[BillRow] = dataclasses.field(default_factory=list)
    decimals: int = 0
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def has_ids(self) -> bool:
        """Whether its rows are single requests with ids."""
        return any(row.id is not None for row in self.rows)

    def days(self, zone: dt.tzinfo) -> tuple[dt.date, dt.date] | None:
        """Return the first and the last day that the bill covers; None if no row has a time."""
        rows = [*self.rows, *self.periods]
        first_days = [day for row in rows if (day := row.day(zone)) is not None]
        last_days = [day for row in rows if (day := row.last_day(zone)) is not None]
        return (min(first_days), max(last_days)) if first_days and last_days else None

    def select(self, *, keys: frozenset[str], projects: frozenset[str]) -> None:
        """Select the rows of some keys and projects; an empty set selects all.

        Raises:
            ImportFormatError: the bill has no such key or project; the message lists the others.
        """
        for what, names in (("key", keys), ("project", projects)):
            if not names:
                continue
            known = {getattr(row, what) for row in self.rows} - {None}
            if missing := sorted(names - known):
                known_names = ", ".join(sorted(known)) or "none"
                raise ImportFormatError(
                    f"{self.name} has no {what} {', '.join(missing)}; it has: {known_names}"
                )
            self.rows = [row for row in self.rows if getattr(row, what) in names]
