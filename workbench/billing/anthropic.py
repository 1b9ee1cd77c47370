"""Anthropic's usage and cost reports: the console's CSV files and the pages of the admin API.

A row is the sum over a bucket (UTC; a day in the CSV files). Its token counts are disjoint: input
excludes tokens read from a cache or written to one. The API's costs are texts in cents; the
console's are in dollars, with display names of models ("Claude Haiku 4.5").
"""

from decimal import Decimal

from workbench.billing import cells
from workbench.billing.bill import Amounts, BillRow
from workbench.billing.cells import Row
from workbench.billing.format import Format, Reader


def _usage_csv(row: Row, place: str, reader: Reader) -> BillRow | None:
    del reader
    read = cells.count(row, "usage_input_tokens_cache_read", place)
    written = cells.total(
        *(
            cells.count(row, column, place)
            for column in (
                "usage_input_tokens_cache_write_5m",
                "usage_input_tokens_cache_write_1h",
                "usage_input_tokens_cache_write",  # the only column before writes had two prices
            )
            if column in row
        )
    )
    fresh = cells.count(row, "usage_input_tokens_no_cache", place)
    output = cells.count(row, "usage_output_tokens", place)
    model = cells.name(row, "model_version", "model")
    return _row(row, place, model, _counts(fresh, read, written, output))


def _usage_api(row: Row, place: str, reader: Reader) -> BillRow | None:
    del reader
    if "uncached_input_tokens" not in row:  # a bucket without traffic
        return _row(row, place, None, {})
    written = cells.object_of(row, "cache_creation")
    writes = [
        cells.count(written, f"ephemeral_{lifetime}_input_tokens", place)
        for lifetime in ("5m", "1h")
    ]
    fresh = cells.count(row, "uncached_input_tokens", place)
    read = cells.count(row, "cache_read_input_tokens", place)
    output = cells.count(row, "output_tokens", place)
    model = cells.name(row, "model")
    return _row(row, place, model, _counts(fresh, read, cells.total(*writes), output))


def _counts(
    fresh: Decimal | None, read: Decimal | None, written: Decimal | None, output: Decimal | None
) -> Amounts:
    return {
        "input_tokens": cells.total(fresh, read, written),
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "output_tokens": output,
    }


def _cost_csv(row: Row, place: str, reader: Reader) -> BillRow | None:
    usd = reader.money(cells.amount(row, "cost_usd", place), "USD")
    return _row(row, place, _model(cells.name(row, "model")), {"usd": usd})


def _cost_api(row: Row, place: str, reader: Reader) -> BillRow | None:
    if "amount" not in row:  # a bucket without costs
        return _row(row, place, None, {})
    cents = cells.amount(row, "amount", place)
    usd = reader.money(None if cents is None else cents.scaleb(-2), row.get("currency"))
    model = _model(cells.name(row, "model", "description"))
    return _row(row, place, model, {"usd": usd})


def _model(shown: str | None) -> str | None:
    """Convert a display name to the API's name: "Claude Haiku 4.5" is claude-haiku-4-5."""
    if shown is None or not shown.lower().startswith("claude "):
        return shown
    return shown.lower().replace(" ", "-").replace(".", "-")


def _row(row: Row, place: str, model: str | None, amounts: Amounts) -> BillRow:
    return BillRow(
        place=place,
        start=cells.time(row, place, "usage_date_utc", "starting_at"),
        end=cells.time(row, place, "ending_at"),
        model=model,
        amounts=amounts,
        key=cells.name(row, "api_key", "api_key_name", "api_key_id"),
        project=cells.name(row, "workspace", "workspace_name", "workspace_id"),
    )


_COUNTS = frozenset({"input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"})
FORMATS = (
    Format(
        name="Anthropic usage report",
        service="anthropic",
        measures=_COUNTS,
        matches=lambda columns: columns >= {"usage_date_utc", "usage_input_tokens_no_cache"},
        read=_usage_csv,
    ),
    Format(
        name="Anthropic cost report",
        service="anthropic",
        measures=frozenset({"usd"}),
        matches=lambda columns: columns >= {"usage_date_utc", "cost_usd"},
        read=_cost_csv,
    ),
    Format(
        name="Anthropic usage report",
        service="anthropic",
        measures=_COUNTS,
        matches=lambda columns: columns >= {"starting_at", "uncached_input_tokens"},
        read=_usage_api,
    ),
    Format(
        name="Anthropic cost report",
        service="anthropic",
        measures=frozenset({"usd"}),
        matches=lambda columns: columns >= {"starting_at", "amount", "currency"},
        read=_cost_api,
    ),
)
