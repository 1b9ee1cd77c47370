"""Stored calls that a bill may charge for, with their tokens, cost and ids."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import models
from workbench.billing.bill import Amounts, day_of

if TYPE_CHECKING:
    from workbench.slice import Slice
    from workbench.store import Store

_COLUMNS = (
    "call_id",
    "trace_id",
    "call_provider",
    "call_model",
    "response_model",
    "response_id",
    "request_id",
    "started_at",
    "n_requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "billed_cost_usd",
    "cost_usd",
    "error_type",
    "retried_as",
)
_CUT_OFF = ("http_408", "http_499")  # the server had the request, and may have begun
_NOT_SENT = ("connect", "dns", "tls")  # no connection was made


@dataclasses.dataclass(frozen=True, slots=True)
class StoredCall:
    """One call of the store, with the measures of a bill.

    Attributes:
        models: canonical names of the model that answered and of the requested one.
        ids: the provider's ids of the reply and of the request.
        amounts: by measure; None is unknown.
        has_reported_usd: whether the provider reported the dollars; else they are computed from
            prices.
        is_certain: whether a reply came or its tokens are known. Whether a failed request without
            either was charged is not known.
        is_replaced: whether it is of a try that was repeated: paid, but excluded from analyses.
    """

    call_id: str
    trace_id: str
    provider: str | None
    service: str | None
    models: tuple[str, ...]
    ids: tuple[str, ...]
    day: dt.date | None
    amounts: Amounts
    has_reported_usd: bool
    is_certain: bool
    is_replaced: bool


def read(
    store: "Store", where: "Slice | str", ids: Iterable[str], days: "Days"
) -> list[StoredCall]:
    """Read the calls that have one of the bill's ids, or were made in its days.

    Calls for which nothing was sent (answers from a cache, `n_requests` 0; servers that could not
    be reached) are left out, and those that the server refused unless the bill has their id.

    Args:
        store: the store.
        where: filter of the traces.
        ids: the ids in the bill.
        days: the days that the bill covers.
    """
    bill_ids = pl.Series("id", list(ids), pl.String).implode()
    frame = store.calls(where).select(_COLUMNS).collect()
    frame = frame.filter(pl.col("n_requests").fill_null(1) > 0)
    has_bill_id = pl.col("response_id").is_in(bill_ids) | pl.col("request_id").is_in(bill_ids)
    kind = pl.col("error_type").fill_null("")
    has_amount = pl.col("input_tokens").is_not_null() | pl.col("billed_cost_usd").is_not_null()
    is_refusal = kind.str.starts_with("http_4") & ~kind.is_in(_CUT_OFF)
    was_refused = ~has_amount & (kind.is_in(_NOT_SENT) | is_refusal)
    frame = frame.filter(
        has_bill_id.fill_null(False) | (days.contains("started_at") & ~was_refused)
    )
    replaced_traces = store.traces(where).filter("is_replaced").select("trace_id").collect()
    replaced = set(replaced_traces["trace_id"])
    aliases = store.model_aliases()
    canonical_names: dict[tuple[str | None, str], str] = {}

    def canonical(provider: str | None, model: str) -> str:
        key = (provider, model)
        if key not in canonical_names:
            canonical_names[key] = aliases.canonical(provider, model).model
        return canonical_names[key]

    calls = []
    for row in frame.iter_rows(named=True):
        provider = row["call_provider"]
        names = [row["response_model"], row["call_model"]]
        if row["call_model"] and aliases.find(provider, row["call_model"]):
            names.reverse()  # the user declared what the requested name stands for
        calls.append(
            StoredCall(
                call_id=row["call_id"],
                trace_id=row["trace_id"],
                provider=provider,
                service=models.service_of(provider) if provider else None,
                models=tuple(dict.fromkeys(canonical(provider, name) for name in names if name)),
                ids=tuple(dict.fromkeys(filter(None, (row["response_id"], row["request_id"])))),
                day=days.day_of(row["started_at"]),
                amounts=_amounts(row),
                has_reported_usd=row["billed_cost_usd"] is not None,
                is_certain=_is_certain(row),
                is_replaced=row["trace_id"] in replaced,
            )
        )
    return calls


def _is_certain(row: Mapping[str, Any]) -> bool:
    is_counted = row["input_tokens"] is not None or row["billed_cost_usd"] is not None
    return is_counted or (row["error_type"] is None and row["retried_as"] is None)


def _amounts(row: Mapping[str, Any]) -> Amounts:
    written = [row["cache_write_5m_tokens"], row["cache_write_1h_tokens"]]
    known = [n for n in written if n is not None]
    usd = row["billed_cost_usd"] if row["billed_cost_usd"] is not None else row["cost_usd"]
    return {
        # a call with an id is one request, even if its source does not count requests
        "requests": _exact(row["n_requests"] or (1 if row["response_id"] else None)),
        "input_tokens": _exact(row["input_tokens"]),
        "cache_read_tokens": _exact(row["cache_read_tokens"]),
        "cache_write_tokens": _exact(sum(known)) if known else None,
        "output_tokens": _exact(row["output_tokens"]),
        "usd": _exact(usd),
    }


def _exact(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(repr(value))


@dataclasses.dataclass(frozen=True, slots=True)
class Days:
    """The days that bills cover, in their zone; None if no row has a time."""

    first: dt.date | None
    last: dt.date | None
    zone: dt.tzinfo

    def day_of(self, moment: dt.datetime | None) -> dt.date | None:
        """Return the day of a stored time, which is UTC without a zone."""
        return None if moment is None else day_of(moment.replace(tzinfo=dt.UTC), self.zone)

    def contains(self, column: str) -> pl.Expr:
        """Return an expression for whether a stored time is within the days; null is not."""
        if self.first is None or self.last is None:
            return pl.lit(False)
        begin = self._utc(self.first)
        end = self._utc(self.last + dt.timedelta(days=1))
        return ((pl.col(column) >= begin) & (pl.col(column) < end)).fill_null(False)

    def _utc(self, day: dt.date) -> dt.datetime:
        midnight = dt.datetime.combine(day, dt.time(), tzinfo=self.zone)
        return midnight.astimezone(dt.UTC).replace(tzinfo=None)
