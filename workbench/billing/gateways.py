"""Gateways: OpenRouter's logs and activity, and LiteLLM's spend logs; the logs list requests."""

from decimal import Decimal

from workbench.billing import cells
from workbench.billing.bill import BillRow
from workbench.billing.cells import Row
from workbench.billing.format import Format, Reader

_ONE = Decimal(1)


def _openrouter_log(row: Row, place: str, reader: Reader) -> BillRow | None:
    """Read one generation; dollars that a provider charged to the user's key are included."""
    usd = cells.amount(row, "cost_total", place)
    byok_usd = cells.amount(row, "byok_usage_inference", place)
    if byok_usd:
        reader.bill.notes[
            "rows with dollars that a provider charged to a key of your own (BYOK): they are in"
            " the bill's sum, and a collected call has only what OpenRouter charged"
        ] += 1
    counted = {
        measure: cells.count(
            row, f"native_{column}" if f"native_{column}" in row else column, place
        )
        for measure, column in (
            ("input_tokens", "tokens_prompt"),
            ("cache_read_tokens", "tokens_cached"),
            ("output_tokens", "tokens_completion"),
        )
    }
    dollars = reader.money(usd if usd is None or byok_usd is None else usd + byok_usd, "USD")
    return BillRow(
        place=place,
        start=cells.time(row, place, "created_at"),
        model=cells.name(row, "model_permaslug", "model"),
        amounts={"requests": _ONE, "usd": dollars} | counted,
        id=cells.name(row, "generation_id"),
        key=cells.name(row, "api_key_name"),
        project=cells.name(row, "app_name"),
    )


def _openrouter_activity(row: Row, place: str, reader: Reader) -> BillRow | None:
    return BillRow(
        place=place,
        start=cells.time(row, place, "date"),
        model=cells.name(row, "model_permaslug", "model"),
        amounts={
            "requests": cells.count(row, "requests", place),
            "input_tokens": cells.count(row, "prompt_tokens", place),
            "output_tokens": cells.count(row, "completion_tokens", place),
            "usd": reader.money(cells.amount(row, "usage", place), "USD"),
        },
    )


def _litellm(row: Row, place: str, reader: Reader) -> BillRow | None:
    if str(row.get("cache_hit") or "").strip().lower() == "true":
        reader.skip("answers from the gateway's cache: no request was sent to a provider")
        return None
    usd = cells.amount(row, "spend", place)
    total = cells.count(row, "total_tokens", place)
    if row.get("status") == "failure" and not usd and not total:
        reader.skip("failed requests without tokens and without a charge")
        return None
    more = cells.object_of(row, "metadata")
    used = cells.object_of(more, "usage_object")
    read = cells.object_of(more, "additional_usage_values")
    cached = cells.count(read, "cache_read_input_tokens", place)
    if cached is None:
        cached = cells.count(cells.object_of(used, "prompt_tokens_details"), "cached_tokens", place)
    return BillRow(
        place=place,
        start=cells.time(row, place, "startTime"),
        model=cells.name(row, "model", "model_group"),
        amounts={
            "requests": _ONE,
            "input_tokens": cells.count(row, "prompt_tokens", place),
            "cache_read_tokens": cached,
            "output_tokens": cells.count(row, "completion_tokens", place),
            "usd": reader.money(usd, "USD"),
        },
        id=cells.name(row, "request_id"),
        key=cells.name(more, "user_api_key_alias") or cells.name(row, "api_key"),
        project=cells.name(more, "user_api_key_team_alias") or cells.name(row, "team_id"),
    )


_ALL = frozenset({"requests", "input_tokens", "cache_read_tokens", "output_tokens", "usd"})
FORMATS = (
    Format(
        name="OpenRouter log",
        service="openrouter",
        measures=_ALL,
        matches=lambda columns: columns >= {"generation_id", "cost_total"},
        read=_openrouter_log,
    ),
    Format(
        name="OpenRouter activity",
        service="openrouter",
        measures=_ALL - {"cache_read_tokens"},
        matches=lambda columns: columns >= {"date", "usage", "requests", "prompt_tokens"},
        read=_openrouter_activity,
    ),
    Format(
        name="LiteLLM spend logs",
        service=None,
        measures=_ALL,
        matches=lambda columns: columns >= {"request_id", "spend", "startTime"},
        read=_litellm,
    ),
)
