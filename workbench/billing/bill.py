"""Bill: rows of charged amounts, each for a request or for a period."""

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
"""Amounts that a bill may state; tokens are inclusive: input holds cache reads and writes."""

Amounts = Mapping[str, Decimal | None]


@dataclasses.dataclass(frozen=True, slots=True)
class BillRow:
    """One row of a bill.

    Attributes:
        place: where it stands, for messages.
        start: when the request was made or the period begins; a date where the bill has no time.
        end: when the period ends (exclusive); None for a request or a day.
        model: as the bill writes it; None where the bill does not tell models apart.
        amounts: by measure; None where the row leaves a measure of its format empty. What the
            format does not state is absent.
        id: the provider's id of the reply or the request; None for a sum.
        key: name or id of the API key; None where the bill does not say.
        project: name or id of the project or workspace; None where the bill does not say.
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
        """Return the day that the row counts for; a date is a day of the bill's own zone."""
        return day_of(self.start, zone)

    def last_day(self, zone: dt.tzinfo) -> dt.date | None:
        """Return the last day of the row's period."""
        if self.end is None:
            return self.day(zone)
        if isinstance(self.end, dt.datetime):
            return day_of(self.end - dt.timedelta(microseconds=1), zone)
        return self.end - dt.timedelta(days=1)


def day_of(moment: dt.datetime | dt.date | None, zone: dt.tzinfo) -> dt.date | None:
    """Return the day of a moment in a zone; a time without an offset is a time of that zone."""
    if not isinstance(moment, dt.datetime):
        return moment
    return (moment.astimezone(zone) if moment.tzinfo else moment).date()


@dataclasses.dataclass(slots=True)
class Bill:
    """A bill as read from one file.

    Attributes:
        name: of the file.
        format: in words, for example "OpenAI usage export".
        service: the id of the provider in genai-prices; None for a gateway to many.
        measures: what the format states.
        rows: the rows that charge something.
        periods: rows that charge nothing: they only say that the bill covers their time.
        decimals: digits after the point that its dollars are printed with.
        passed_over: reason → rows that are no charge of a provider.
        notes: sentences for the reader.
    """

    name: str
    format: str
    service: str | None
    measures: frozenset[str]
    rows: list[BillRow] = dataclasses.field(default_factory=list)
    periods: list[BillRow] = dataclasses.field(default_factory=list)
    decimals: int = 0
    passed_over: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def has_ids(self) -> bool:
        """Whether its rows are single requests that it names."""
        return any(row.id is not None for row in self.rows)

    def days(self, zone: dt.tzinfo) -> tuple[dt.date, dt.date] | None:
        """Return the first and the last day that the bill covers; None where no row has a time."""
        every = [*self.rows, *self.periods]
        first = [day for row in every if (day := row.day(zone)) is not None]
        last = [day for row in every if (day := row.last_day(zone)) is not None]
        return (min(first), max(last)) if first and last else None

    def keep(self, *, keys: frozenset[str], projects: frozenset[str]) -> None:
        """Keep the rows of some keys and projects; an empty set keeps all.

        Raises:
            ImportFormatError: the bill has no such key or project; the message lists what it has.
        """
        for what, names in (("key", keys), ("project", projects)):
            if not names:
                continue
            known = {getattr(row, what) for row in self.rows} - {None}
            if missing := sorted(names - known):
                has = ", ".join(sorted(known)) or "none"
                raise ImportFormatError(
                    f"{self.name} has no {what} {', '.join(missing)}; it has: {has}"
                )
            self.rows = [row for row in self.rows if getattr(row, what) in names]
