"""OpenAI's usage and cost exports: the console's CSV files and the pages of the usage API.

A row is the sum over a bucket (a minute, an hour or a day, UTC). Usage exports have requests and
tokens; cost exports have dollars by line item. Columns by which an export was not grouped are
empty.
"""

from workbench.billing import cells
from workbench.billing.bill import Amounts, BillRow
from workbench.billing.cells import Row
from workbench.billing.format import Format, Reader


def _usage(row: Row, place: str, reader: Reader) -> BillRow | None:
    del reader
    counted = {
        "requests": cells.count(row, "num_model_requests", place),
        "input_tokens": cells.count(row, "input_tokens", place),
        "cache_read_tokens": cells.count(row, "input_cached_tokens", place),
        "output_tokens": cells.count(row, "output_tokens", place),
    }
    is_empty = all(value is None for value in counted.values())
    return _row(row, place, cells.name(row, "model"), {} if is_empty else counted)


def _costs(row: Row, place: str, reader: Reader) -> BillRow | None:
    amount = cells.object_of(row, "amount")  # the API nests it, the CSV does not
    flat = dict(row) | {f"amount_{name}": value for name, value in amount.items()}
    usd = reader.money(cells.amount(flat, "amount_value", place), flat.get("amount_currency"))
    item = cells.name(flat, "line_item")
    # a line item is the model and the kind of tokens: "gpt-5-2025-08-07, cached input"
    model = item.partition(",")[0].strip() if item else None
    is_empty = cells.name(flat, "amount_value") is None
    return _row(row, place, model, {} if is_empty else {"usd": usd})


def _row(row: Row, place: str, model: str | None, amounts: Amounts) -> BillRow:
    return BillRow(
        place=place,
        start=cells.time(row, place, "start_time_iso", "start_time"),
        end=cells.time(row, place, "end_time_iso", "end_time"),
        model=model,
        amounts=amounts,
        key=cells.name(row, "api_key_name", "api_key_id"),
        project=cells.name(row, "project_name", "project_id"),
    )


_BUCKET = frozenset({"start_time", "end_time"})
FORMATS = (
    Format(
        name="OpenAI usage export",
        service="openai",
        measures=frozenset({"requests", "input_tokens", "cache_read_tokens", "output_tokens"}),
        matches=lambda columns: columns >= _BUCKET | {"num_model_requests", "input_tokens"},
        read=_usage,
    ),
    Format(
        name="OpenAI cost export",
        service="openai",
        measures=frozenset({"usd"}),
        matches=lambda columns: (
            columns >= _BUCKET
            and (
                "amount_value" in columns or ("amount" in columns and "starting_at" not in columns)
            )
        ),
        read=_costs,
    ),
    Format(  # of a period without requests
        name="OpenAI usage export",
        service="openai",
        measures=frozenset({"requests"}),
        matches=lambda columns: (
            _BUCKET <= columns <= _BUCKET | {"start_time_iso", "end_time_iso", "object"}
        ),
        read=lambda row, place, _: _row(row, place, None, {}),
    ),
)
