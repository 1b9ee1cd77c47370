"""Dated prices: rows from genai-prices for the models in use, and from the user's own sheets.

Tokens are facts and cost is derived: the store keeps these rows and points each call at the one in
force. The cost of a stored call, and when it is null, is the formula in `workbench/store/views.py`;
`cost` here gives the same for budgets. A row holds for a model (or a machine), a period, a time of
day and prompts above a size.
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

BUNDLED = "genai-prices"  # sheets of this name give way to any other
BATCH = "batch"  # the service tier of calls that have a price of their own, or none that is known
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
# what genai-prices gives no price of its own is charged as text by the providers it lists
AS_TEXT = ("image", "video")


@functools.lru_cache(maxsize=4096)
def rows_for(provider: str | None, model: str) -> tuple[Price, ...]:
    """List the bundled price rows of a model under the names it was asked by.

    Args:
        provider: the provider as recorded; None lets the model's name tell it.
        model: the model as recorded, in whatever way services and libraries write it.

    Returns:
        One row per period, time of day and tier; none where genai-prices does not know the model,
        or where the name fits entries that differ: its calls stay unpriced rather than free.
    """
    import genai_prices

    entry = models.find(provider, model)
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
        given: dict[str, Any] = {"model": model, "provider": provider, "sheet": sheet}
        rows += [Price(**given, **when, **tier) for tier in _tiers(prices)]
        until = _next_start(periods[place + 1 :])
        for name, since, rates in _variants(info, when, until):
            laid = _tiers(_over(prices, rates))
            rows += [Price(**given, service_tier=name, **since, **tier) for tier in laid]
    return tuple(rows)


_VARIANTS = {("processing", "batch"): BATCH, ("speed", "fast"): "fast"}
_VARIANTS |= {("service_tier", name): name for name in ("fast", "flex", "priority")}


def _variants(
    info: Any, when: dict[str, Any], until: dt.datetime | None
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield (service tier, period, rates) of the tiers with prices of their own.

    genai-prices dates them by the day on which it first recorded them. Until a tier's first record
    it is taken to have had the same price as long as the ordinary price stood: a batch of September
    costs what one of October does, unless the model's price changed between.

    Args:
        info: the model's entry.
        when: the period of the ordinary prices.
        until: its end; None where it has none.
    """
    known: set[str] = set()
    for variant in info.price_variants or ():
        name = _VARIANTS.get(next(iter(variant.when.items()))) if len(variant.when) == 1 else None
        if name is None:
            continue
        since = _period(variant.constraint)
        first, starts = name not in known, since.get("starts_at")
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
    """Lay the prices of a variant over the ordinary ones, as genai-prices does."""
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
    """Flatten per-unit tiers to rows: one for each prompt size at which any price changes."""
    found: dict[str, Any] = {}
    for column, keys in (_RATES | MEDIA_RATES).items():
        found[column] = next((p for k in keys if (p := getattr(prices, k, None)) is not None), None)
    per_thousand = getattr(prices, "requests_kcount", None)
    sizes = {0} | {t.start for p in found.values() if hasattr(p, "tiers") for t in p.tiers}
    for size in sorted(sizes):
        row = {column: _at(price, size) for column, price in found.items()}
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
    mark = cells.common_mark(numbers)  # one sheet is written in one way
    open_marks = {cells.COMMA, cells.POINT} if delimiter == ";" else {cells.COMMA}
    return [_price(path, n, row, mark, open_marks) for n, row in enumerate(rows, 1)]


def _read_rows(path: Path) -> tuple[list[Mapping[str, Any]], str]:
    """Read the rows of a sheet, and what stands between the cells of a CSV."""
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            delimiter = cells.delimiter(head)
            rows = csv.DictReader([head, *file], delimiter=delimiter, strict=True)
            names = rows.fieldnames or ()
            if len(set(names)) < len(names):
                raise csv.Error(f"line 1: a column name stands there twice: {', '.join(names)}")
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
        raise ConfigError(f"{where} names no model (for a machine, the machine's name)")
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
        where: for messages.
        key: the field.
        value: as written.
        mark: the sheet's decimal mark, None where no number tells it.
        open_marks: marks that may set thousands apart just as well.
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
                f"{where} = {value!r} may be a thousand or have a decimal {role}; "
                "write 1234 or 1.2340"
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
        """Take rows that win over the bundled ones."""
        self._own: dict[str, list[Price]] = {}
        for row in rows:
            if not row.sheet.startswith(BUNDLED):
                self._own.setdefault(row.model, []).append(row)

    def row(self, call: Call, at: dt.datetime | None = None) -> Price | None:
        """Find the row in force for a call (at its own start, else at `at`); None without one."""
        when = call.started_at or at
        offered = [
            *(self._own.get(call.machine, ()) if call.machine else ()),
            *(price for name in _names(call) for price in self._own.get(name, ())),
            *(rows_for(call.provider, call.model) if call.model else ()),
        ]
        fitting = (p for p in offered if _applies(p, call, when))
        return max(fitting, key=lambda p: _rank(p, call), default=None)

    def cost(self, call: Call, at: dt.datetime | None = None) -> float | None:
        """Cost in USD; None where the price, the tokens or the machine time is unknown."""
        row = self.row(call, at)
        return None if row is None else cost(call, row)


def _names(call: Call) -> tuple[str, ...]:
    """List the names of a call's model in a user's sheet: its own, else the one that it means."""
    if not call.model:
        return ()
    return tuple(dict.fromkeys((call.model, models.canonical(call.model).model)))


def _applies(price: Price, call: Call, when: dt.datetime | None) -> bool:
    prompts = price.min_input_tokens * max(
        call.n_requests or 1, 1
    )  # of a sum, the mean prompt counts
    long_enough = not price.min_input_tokens or (call.input_tokens or 0) > prompts
    return (
        price.provider in {None, call.provider}
        and long_enough
        and _is_of_tier(price, call)
        and (price.starts_at is None or (when is not None and when >= price.starts_at))
        and (price.ends_at is None or (when is not None and when < price.ends_at))
        and (price.daily_from is None or (when is not None and _in_hours(price, when)))
    )


def _is_of_tier(price: Price, call: Call) -> bool:
    """Batches cost less than other calls: without a price of their own theirs is unknown."""
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
    """Order rows that all apply; the store's `views.priced` orders them alike."""
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
    """Whether a row prices audio, images or video: the rows of older versions did not."""
    return any(getattr(price, rate) is not None for rate in MEDIA_RATES)


def cost(call: Call, price: Price) -> float | None:
    """Price one call: disjoint token buckets at their rates, or its share of a machine's hours.

    Returns:
        USD; None where a count or a price is unknown, or the counts contradict themselves.
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
    """Split a call's tokens by price: (tokens, USD per million); None where that is impossible."""
    if call.input_tokens is None or call.output_tokens is None or contradiction(as_dict(call)):
        return None
    text_in, text_out = price.input_usd_per_mtok, price.output_usd_per_mtok
    short, long = call.cache_write_5m_tokens or 0, call.cache_write_1h_tokens or 0
    read, thinking = call.cache_read_tokens or 0, call.reasoning_tokens or 0
    fresh, visible = call.input_tokens - read - short - long, call.output_tokens - thinking
    found: list[tuple[int, float | None]] = [
        (short, _either(price.cache_write_5m_usd_per_mtok, text_in)),
        (long, _either(price.cache_write_1h_usd_per_mtok, text_in)),
        (thinking, _either(price.reasoning_usd_per_mtok, text_out)),
    ]
    for kind in MEDIA:
        given = getattr(call, f"input_{kind}_tokens")
        rate = getattr(price, f"input_{kind}_usd_per_mtok")
        as_text = rate is None and kind in AS_TEXT and price.sheet.startswith(BUNDLED)
        if given and not as_text:
            cached = getattr(call, f"cache_read_{kind}_tokens")
            if cached is None and read:
                return None  # what was cached may be of this kind, or text
            again = getattr(price, f"cache_read_{kind}_usd_per_mtok")
            found += [(given - (cached or 0), rate), (cached or 0, _either(again, rate))]
            fresh, read = fresh - given + (cached or 0), read - (cached or 0)
        made = getattr(call, f"output_{kind}_tokens") or 0
        found.append((made, getattr(price, f"output_{kind}_usd_per_mtok")))
        visible -= made
    if fresh < 0:
        return None
    cached_text = _either(price.cache_read_usd_per_mtok, text_in)
    return [*found, (fresh, text_in), (read, cached_text), (visible, text_out)]


def _either(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value
