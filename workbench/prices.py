"""Dated prices: rows from genai-prices for the models in use, and from the user's own sheets.

The store keeps token counts and these rows, and derives costs: each call refers to the row in force
when it ran. The formula for the cost of a stored call, and when it is null, is in
`workbench/store/views.py`; `cost` here is the same formula for budgets. A row applies to a model
(or a machine), a period, a time of day and prompts above a size.
"""

import csv
import datetime as dt
import difflib
import functools
import math
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from workbench import cells, models
from workbench.errors import ConfigError
from workbench.records import Call, Price, as_dict
from workbench.tokens import MEDIA, contradiction
from workbench.toml_reader import toml

BUNDLED = "genai-prices"  # prefix of the bundled sheets; any other sheet takes precedence
BATCH = "batch"  # service tier of batches: a price of its own, or an unknown one
_RATES = {
    "input_usd_per_mtok": ("input_mtok",),
    "cache_read_usd_per_mtok": ("cache_read_mtok",),
    "cache_write_5m_usd_per_mtok": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h_usd_per_mtok": ("cache_write_1h_mtok", "cache_write_mtok"),
    "output_usd_per_mtok": ("output_mtok",),
    "reasoning_usd_per_mtok": ("output_reasoning_mtok",),
}
MEDIA_RATES = {
    f"{part}_{kind}_usd_per_mtok": (theirs.format(kind),)
    for part, theirs in (
        ("input", "input_{}_mtok"),
        ("cache_read", "cache_{}_read_mtok"),
        ("output", "output_{}_mtok"),
    )
    for kind in MEDIA
}
# media that providers charge as text where genai-prices has no separate price for them
AS_TEXT = ("image", "video")


@functools.lru_cache(maxsize=4096)
def rows_for(provider: str | None, model: str) -> tuple[Price, ...]:
    """List the bundled price rows of a model, under its name as recorded.

    Args:
        provider: the provider as recorded; None derives it from the model's name.
        model: the model as recorded, in any spelling of services and libraries.

    Returns:
        One row per period, time of day and tier; none if genai-prices does not have the model, or
        if the name matches entries that differ: its calls have no price then, which is not 0.
    """
    import genai_prices

    entry = models.find_price_entry(provider, model)
    if entry is None:
        return ()
    info = entry.info
    sheet = f"{BUNDLED} {genai_prices.__version__}"
    dated = info.prices if isinstance(info.prices, list) else None
    periods = [(p.constraint, p.prices) for p in dated] if dated else [(None, info.prices)]
    rows: list[Price] = []
    for place, (constraint, prices) in enumerate(periods):
        # genai-prices falls back to the first entry where no constraint holds
        when = _period(constraint) if place else {}
        identity: dict[str, Any] = {"model": model, "provider": provider, "sheet": sheet}
        rows += [Price(**identity, **when, **tier) for tier in _tiers(prices)]
        until = _next_start(periods[place + 1 :])
        for name, since, rates in _variants(info, when, until):
            tiers = _tiers(_over(prices, rates))
            rows += [Price(**identity, service_tier=name, **since, **tier) for tier in tiers]
    return tuple(rows)


_VARIANTS = {("processing", "batch"): BATCH, ("speed", "fast"): "fast"}
_VARIANTS |= {("service_tier", name): name for name in ("fast", "flex", "priority")}


def _variants(
    info: Any, when: dict[str, Any], until: dt.datetime | None
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield (service tier, period, rates) of the tiers with prices of their own.

    genai-prices dates them by the day on which it first recorded them. The first record of a tier
    is also applied before that day, back to the start of the current ordinary price: a batch in
    September costs the same as one in October unless the model's price changed in between.

    Args:
        info: the model's entry.
        when: the period of the ordinary prices.
        until: the end of that period; None if it has none.
    """
    known: set[str] = set()
    for variant in info.price_variants or ():
        name = _VARIANTS.get(next(iter(variant.when.items()))) if len(variant.when) == 1 else None
        if name is None:
            continue
        since = _period(variant.constraint)
        first = name not in known
        starts = since.get("starts_at")
        known.add(name)
        if starts is not None and until is not None and starts >= until:
            continue
        begun = when.get("starts_at")
        later = starts is not None and (begun is None or starts > begun)
        if first and later:
            recorded = f"recorded by genai-prices on {starts:%Y-%m-%d}"
            note = f"{recorded}; as long as the ordinary price stood"
            since = {"note": note}
        elif not later:
            since.pop("starts_at", None)
        yield name, when | since, variant.prices


def _next_start(periods: Iterable[tuple[Any, Any]]) -> dt.datetime | None:
    starts = (_period(constraint).get("starts_at") for constraint, _ in periods)
    return min((start for start in starts if start is not None), default=None)


def _over(prices: Any, variant: Any) -> Any:
    """Replace the ordinary prices by those that a variant has, as genai-prices does."""
    given = {name: value for name, value in vars(variant).items() if value is not None}
    return types.SimpleNamespace(**vars(prices) | given)


def _period(constraint: Any) -> dict[str, Any]:
    if constraint is None:
        return {}
    if hasattr(constraint, "start_date"):
        start = dt.datetime.combine(constraint.start_date, dt.time(), dt.UTC)
        return {"starts_at": start}
    return {
        "daily_from": _utc_time(constraint.start_time),
        "daily_to": _utc_time(constraint.end_time),
    }


def _utc_time(value: dt.time) -> str:
    if value.tzinfo is not None:
        value = dt.datetime.combine(dt.date(1970, 1, 1), value).astimezone(dt.UTC).time()
    return value.strftime("%H:%M:%S")


def _tiers(prices: Any) -> Iterable[dict[str, Any]]:
    """Flatten per-unit tiers to rows, one per prompt size at which any price changes."""
    prices_by_column: dict[str, Any] = {}
    for column, keys in (_RATES | MEDIA_RATES).items():
        prices_by_column[column] = next(
            (p for k in keys if (p := getattr(prices, k, None)) is not None), None
        )
    per_thousand = getattr(prices, "requests_kcount", None)
    sizes = {0} | {
        t.start for p in prices_by_column.values() if hasattr(p, "tiers") for t in p.tiers
    }
    for size in sorted(sizes):
        row = {column: _at(price, size) for column, price in prices_by_column.items()}
        if per_thousand is not None:
            row["request_usd"] = float(per_thousand) / 1000
        yield {"min_input_tokens": size, **row}


def _at(price: Any, size: int) -> float | None:
    if price is None:
        return None
    if not hasattr(price, "tiers"):
        return float(price)
    value = price.base
    for tier in price.tiers:
        if size >= tier.start > 0:
            value = tier.price
    return float(value)


_FIELDS = {f for f in Price.__struct_fields__ if f not in {"price_id", "sheet"}}
_TIMES = {"starts_at", "ends_at"}
_TEXTS = {"model", "provider", "daily_from", "daily_to", "note", "service_tier"}


def read_sheet(path: Path) -> list[Price]:
    """Read a price sheet: TOML with `[[price]]` tables, or CSV with one row per price.

    Fields are those of the `prices` table; only `model` and one price are required.

    Raises:
        ConfigError: naming the file, the entry and the field.
    """
    try:
        rows, delimiter = _read_rows(path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read the price sheet {path}: {error}") from error
    if not rows:
        raise ConfigError(f"the price sheet {path} holds no [[price]] entry; give at least one")
    numbers = [v for row in rows for k, v in row.items() if k not in _TEXTS | _TIMES]
    mark = cells.common_mark(numbers)  # a sheet has one decimal mark
    open_marks = {cells.COMMA, cells.POINT} if delimiter == ";" else {cells.COMMA}
    return [_price(path, n, row, mark, open_marks) for n, row in enumerate(rows, 1)]


def _read_rows(path: Path) -> tuple[list[Mapping[str, Any]], str]:
    """Read the rows of a sheet, and the delimiter of a CSV; "" for TOML."""
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            delimiter = cells.delimiter(head)
            rows = csv.DictReader([head, *file], delimiter=delimiter, strict=True)
            names = rows.fieldnames or ()
            if len(set(names)) < len(names):
                raise csv.Error(f"line 1: a column name occurs twice: {', '.join(names)}")
            return [{k: v for k, v in row.items() if v} for row in rows], delimiter
    rows = toml(path.read_text(encoding="utf-8")).get("price", [])
    return rows if isinstance(rows, list) else [rows], ""


def _price(
    path: Path, number: int, row: Mapping[str, Any], mark: str | None, open_marks: Set[str]
) -> Price:
    where = f"price {number} of {path}"
    if None in row:
        raise ConfigError(f"{where} has more cells than the first line has names")
    for key in row:
        if key not in _FIELDS:
            near = difflib.get_close_matches(str(key), _FIELDS, 1)
            hint = (
                f"; did you mean {near[0]}?"
                if near
                else f"; known are {', '.join(sorted(_FIELDS))}"
            )
            raise ConfigError(f"{where} has an unknown field {key!r}{hint}")
    if not row.get("model"):
        raise ConfigError(f"{where} has no model; give its name (for a machine, the machine's)")
    values = {
        key: _value(f"{where}: {key}", key, value, mark, open_marks) for key, value in row.items()
    }
    if not any(key.endswith(("_mtok", "_usd", "_hour")) for key in values):
        raise ConfigError(
            f"{where} holds no price; give input_usd_per_mtok or machine_usd_per_hour"
        )
    return Price(sheet=path.name, **values)


def _value(where: str, key: str, value: Any, mark: str | None, open_marks: Set[str]) -> Any:
    """Read a field of a price.

    Args:
        where: place of the field, for messages.
        key: the field.
        value: as written.
        mark: the sheet's decimal mark; None if no number of the sheet shows it.
        open_marks: marks that may also separate thousands.
    """
    if key in _TEXTS:
        return str(value)
    try:
        if key in _TIMES:
            return cells.moment(value)
        if (
            mark is None
            and isinstance(value, str)
            and cells.decimal_mark(value) is None
            and not open_marks.isdisjoint(value)
        ):
            role = "comma" if cells.COMMA in value else "point"
            raise ConfigError(
                f"{where} = {value!r} is ambiguous: a thousands separator or a decimal {role};"
                " write 1234 or 1.2340"
            )
        number = cells.number(value, mark or cells.POINT)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{where} = {value!r} is not understood: {error}") from error
    if number < 0:
        raise ConfigError(f"{where} = {value!r} must be a finite number of at least 0")
    if key != "min_input_tokens":
        return float(number)
    if number != int(number):
        raise ConfigError(f"{where} = {value!r} is not understood: it is a whole number of tokens")
    return int(number)


class PriceBook:
    """Prices of calls not yet in the store, for budgets; the store's view is the reference."""

    def __init__(self, rows: Iterable[Price] = ()) -> None:
        """Build a book of the user's rows, which take precedence over the bundled ones."""
        self._own: dict[str, list[Price]] = {}
        for row in rows:
            if not row.sheet.startswith(BUNDLED):
                self._own.setdefault(row.model, []).append(row)

    def row(self, call: Call, at: dt.datetime | None = None) -> Price | None:
        """Return the row in force for a call at its start, else at `at`; None without one."""
        when = call.started_at or at
        offered = [
            *(self._own.get(call.machine, ()) if call.machine else ()),
            *(price for name in _names(call) for price in self._own.get(name, ())),
            *(rows_for(call.provider, call.model) if call.model else ()),
        ]
        fitting = (p for p in offered if _applies(p, call, when))
        return max(fitting, key=lambda p: _rank(p, call), default=None)

    def cost(self, call: Call, at: dt.datetime | None = None) -> float | None:
        """Return the cost in USD; None if the price, the tokens or the machine time is unknown."""
        row = self.row(call, at)
        return None if row is None else cost(call, row)


def _names(call: Call) -> tuple[str, ...]:
    """List the names of a call's model in a user's sheet: as recorded, and canonical."""
    if not call.model:
        return ()
    return tuple(dict.fromkeys((call.model, models.canonical(call.model).model)))


def _applies(price: Price, call: Call, when: dt.datetime | None) -> bool:
    # a call that sums several requests is compared by its mean prompt
    least_tokens = price.min_input_tokens * max(call.n_requests or 1, 1)
    long_enough = not price.min_input_tokens or (call.input_tokens or 0) > least_tokens
    return (
        price.provider in {None, call.provider}
        and long_enough
        and _is_of_tier(price, call)
        and (price.starts_at is None or (when is not None and when >= price.starts_at))
        and (price.ends_at is None or (when is not None and when < price.ends_at))
        and (price.daily_from is None or (when is not None and _in_hours(price, when)))
    )


def _is_of_tier(price: Price, call: Call) -> bool:
    """Whether a row is of a call's tier; a batch without a batch price has no known price."""
    if price.machine_usd_per_hour is not None:
        return True
    if call.service_tier == BATCH:
        return price.service_tier == BATCH
    return price.service_tier in {None, call.service_tier}


def _in_hours(price: Price, when: dt.datetime) -> bool:
    clock = when.astimezone(dt.UTC).strftime("%H:%M:%S")
    start, end = price.daily_from or "", price.daily_to or "24"
    return start <= clock < end if start <= end else clock >= start or clock < end


def _rank(price: Price, call: Call) -> tuple[bool, bool, bool, bool, bool, bool, float, int, bool]:
    """Sort key of the rows that apply, best last; the same order as the store's `views.priced`."""
    return (
        not price.sheet.startswith(BUNDLED),
        price.model in {call.model, call.machine},
        price.machine_usd_per_hour is not None,
        price.provider is not None,
        price.service_tier is not None,
        price.daily_from is not None,
        price.starts_at.timestamp() if price.starts_at else -math.inf,
        price.min_input_tokens,
        _prices_media(price),
    )


def _prices_media(price: Price) -> bool:
    """Whether a row has prices of audio, images or video; rows of older versions have none."""
    return any(getattr(price, rate) is not None for rate in MEDIA_RATES)


def cost(call: Call, price: Price) -> float | None:
    """Price one call: disjoint token buckets at their rates, or its time on a machine.

    Returns:
        USD; None if a count or a price is unknown, or if the counts contradict each other.
    """
    if price.machine_usd_per_hour is not None:
        if call.machine_s is None or call.machine_s < 0:
            return None
        return call.machine_s * price.machine_usd_per_hour / 3600
    total = 0.0
    buckets = _buckets(call, price)
    if buckets is None:
        return None
    for n, rate in buckets:
        if n and rate is None:
            return None
        total += n * (rate or 0.0)
    return total / 1e6 + (price.request_usd or 0) * (call.n_requests or 1)


def _buckets(call: Call, price: Price) -> list[tuple[int, float | None]] | None:
    """Split a call's tokens by price: (tokens, USD per million); None if that is impossible."""
    if call.input_tokens is None or call.output_tokens is None or contradiction(as_dict(call)):
        return None
    text_in = price.input_usd_per_mtok
    text_out = price.output_usd_per_mtok
    short = call.cache_write_5m_tokens or 0
    long = call.cache_write_1h_tokens or 0
    read = call.cache_read_tokens or 0
    thinking = call.reasoning_tokens or 0
    fresh = call.input_tokens - read - short - long
    visible = call.output_tokens - thinking
    buckets: list[tuple[int, float | None]] = [
        (short, _or_default(price.cache_write_5m_usd_per_mtok, text_in)),
        (long, _or_default(price.cache_write_1h_usd_per_mtok, text_in)),
        (thinking, _or_default(price.reasoning_usd_per_mtok, text_out)),
    ]
    for kind in MEDIA:
        prompt = getattr(call, f"input_{kind}_tokens")
        rate = getattr(price, f"input_{kind}_usd_per_mtok")
        as_text = rate is None and kind in AS_TEXT and price.sheet.startswith(BUNDLED)
        if prompt and not as_text:
            cached = getattr(call, f"cache_read_{kind}_tokens")
            if cached is None and read:
                return None  # the cached tokens may be of this medium, or text
            cached_rate = getattr(price, f"cache_read_{kind}_usd_per_mtok")
            buckets += [
                (prompt - (cached or 0), rate),
                (cached or 0, _or_default(cached_rate, rate)),
            ]
            fresh -= prompt - (cached or 0)
            read -= cached or 0
        generated = getattr(call, f"output_{kind}_tokens") or 0
        buckets.append((generated, getattr(price, f"output_{kind}_usd_per_mtok")))
        visible -= generated
    if fresh < 0:
        return None
    cached_text = _or_default(price.cache_read_usd_per_mtok, text_in)
    return [*buckets, (fresh, text_in), (read, cached_text), (visible, text_out)]


def _or_default(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value
