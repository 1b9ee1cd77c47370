"""DeepSeek's console export: amount-*.csv with a row per kind of token, cost-*.csv with costs."""

from workbench.billing import cells
from workbench.billing.bill import Amounts, BillRow
from workbench.billing.cells import Row
from workbench.billing.format import Format, Reader

# type of an amount → measures that include it; cache hits and misses are disjoint
_PARTS = {
    "input_cache_hit_tokens": ("input_tokens", "cache_read_tokens"),
    "input_cache_miss_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "request_count": ("requests",),
}


def _amount(row: Row, place: str, reader: Reader) -> BillRow | None:
    measures = _PARTS.get(str(row.get("type")).strip())
    if measures is None:
        reader.skip(f"amounts of the unknown type {row.get('type')}")
        return None
    value = cells.count(row, "amount", place)
    return _row(row, place, dict.fromkeys(measures, value))


def _cost(row: Row, place: str, reader: Reader) -> BillRow | None:
    usd = reader.money(cells.amount(row, "cost", place), row.get("currency"))
    return _row(row, place, {"usd": usd})


def _row(row: Row, place: str, amounts: Amounts) -> BillRow:
    return BillRow(
        place=place,
        start=cells.time(row, place, "start_time_iso"),
        end=cells.time(row, place, "end_time_iso"),
        model=cells.name(row, "model"),
        amounts=amounts,
        key=cells.name(row, "api_key_name"),
    )


FORMATS = (
    Format(
        name="DeepSeek amounts",
        service="deepseek",
        measures=frozenset({"requests", "input_tokens", "cache_read_tokens", "output_tokens"}),
        matches=lambda columns: columns >= {"start_time_iso", "type", "amount"},
        read=_amount,
    ),
    Format(
        name="DeepSeek costs",
        service="deepseek",
        measures=frozenset({"usd"}),
        matches=lambda columns: columns >= {"start_time_iso", "wallet_type", "cost"},
        read=_cost,
    ),
)
