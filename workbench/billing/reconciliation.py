"""Reconciliation of bills with the store: by the provider's ids, and by sums over (day, model).

Rules:

- If the bill's rows have ids, calls are matched by `response_id` or `request_id`. A matched call
  counts for the bill's day and model, so that a request around midnight makes no difference.
- All other calls count for the day on which they were sent, in the bill's zone, and for the model
  that answered (else the requested one), by its canonical name.
- Tokens and requests must be equal. Dollars may differ by half a unit of the last decimal place
  that the bill prints, for each row in the sum.
- All paid requests count, including those of failed attempts and repeated tries, which analyses
  exclude.
- Stored dollars are those that the provider reported with the reply, else the cost of the tokens at
  the price in force. A sum over calls with an unknown value is unknown.
"""

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench import models
from workbench.billing.bill import MEASURES, Amounts, Bill, BillRow
from workbench.billing.formats import read_bill
from workbench.billing.stored import Days, StoredCall, read
from workbench.errors import ImportFormatError
from workbench.formats import counted

if TYPE_CHECKING:
    from workbench.slice import Slice
    from workbench.store import Store

AGREES = "agrees"
UNKNOWN = "cannot be compared"
ONLY_BILL = "only in the bill"
ONLY_STORE = "only in the store"
BILL_TWICE = "twice in the bill"
STORE_TWICE = "twice in the store"
NO_ID = "stored without an id"
_FLOOR = Decimal("1e-9")  # USD; smaller differences are errors of floating point
Group = tuple[dt.date | None, str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciliation:
    """Result of a comparison of bills with a store.

    Attributes:
        frame: one row per day and model: `verdict`, and for each measure of the bills the billed
            and stored amounts and the difference (billed − stored). A row without a model is about
            all models of a day, for bills that do not state the model.
        calls: one row per request, for bills that list requests; by default without those that
            agree. None if no bill lists requests.
        total: the sum of the rows of `frame` that have a model, or of all if none has.
        notes: the rules in force, and limits of the comparison.
        provenance: files, formats and settings.
    """

    frame: pl.DataFrame
    calls: pl.DataFrame | None
    total: pl.DataFrame
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether all rows agree: no difference, and nothing on one side only."""
        frames = [self.frame, *([self.calls] if self.calls is not None else [])]
        return all((frame["verdict"] == AGREES).all() for frame in frames)


def reconcile(
    store: "Store",
    *paths: Path | str,
    where: "Slice | str" = "",
    providers: Collection[str] = (),
    keys: Collection[str] = (),
    projects: Collection[str] = (),
    zone: dt.tzinfo = dt.UTC,
    tolerance_usd: float | None = None,
    every: bool = False,
) -> Reconciliation:
    """Compare a provider's usage and cost exports with the calls in the store.

    Args:
        store: the store.
        paths: the exports; usage and costs of one provider may be two files.
        where: compare the calls of these traces only.
        providers: providers of the store's calls to compare, by their names in the store. By
            default those of the bill's service; for a gateway, those of the matched calls.
        keys: keep the bill's rows of these API keys only.
        projects: keep the bill's rows of these projects or workspaces only.
        zone: time zone of the bill's days, and of its times without an offset.
        tolerance_usd: largest allowed difference in dollars; None for half a unit of the last
            decimal place that the bill prints, for each row in the sum.
        every: list also the requests that agree.

    Raises:
        ImportFormatError: a file is of no known format or is broken, or the bills are of different
            providers.
    """
    bills = [read_bill(Path(path)) for path in paths]
    if not bills:
        raise ImportFormatError("name at least one bill")
    services = sorted({str(bill.service or bill.format) for bill in bills})
    if len(services) > 1:
        raise ImportFormatError(
            f"the files are bills of {' and of '.join(services)}; compare one provider at a time"
        )
    notes = _drop_repeated_rows(bills)
    for bill in bills:
        bill.select(keys=frozenset(keys), projects=frozenset(projects))
    ids = {row.id for bill in bills for row in bill.rows if row.id is not None}
    covered = [span for bill in bills if (span := bill.days(zone)) is not None]
    first = min((d[0] for d in covered), default=None)
    last = max((d[1] for d in covered), default=None)
    days = Days(first, last, zone)
    stored = read(store, where, ids, days)
    comparison = _Comparison(bills, stored, days, tolerance_usd, providers)
    notes += comparison.notes(keys, projects)
    return Reconciliation(
        frame=comparison.frame(),
        calls=comparison.calls(every=every) if ids else None,
        total=comparison.total(),
        notes=tuple(notes),
        provenance={
            "store": str(store.path),
            "where": str(where),
            "bills": [{"file": bill.name, "format": bill.format} for bill in bills],
            "from": first and first.isoformat(),
            "to": last and last.isoformat(),
            "zone": str(zone),
            "providers": sorted(comparison.providers),
        },
    )


def _drop_repeated_rows(bills: Sequence[Bill]) -> list[str]:
    """Drop rows that are in an earlier file too, as in exports of overlapping periods."""
    seen: set[tuple[object, ...]] = set()
    n = 0
    for bill in bills:
        identified = [(row, _identity(bill, row)) for row in bill.rows]
        bill.rows = [row for row, identity in identified if identity not in seen]
        n += len(identified) - len(bill.rows)
        seen |= {identity for _, identity in identified}
    return [f"{counted(n, 'row')} in two of the files: counted once"] if n else []


def _identity(bill: Bill, row: BillRow) -> tuple[object, ...]:
    amounts = tuple(sorted(row.amounts.items(), key=lambda pair: pair[0]))
    place = () if bill.has_ids else (row.end,)
    return (bill.format, row.start, row.model, row.id, row.key, row.project, *place, amounts)


@dataclasses.dataclass(slots=True)
class _Sum:
    """Sum of amounts; a measure is unknown if one of its parts is."""

    amounts: dict[str, Decimal | None] = dataclasses.field(default_factory=dict)
    n: int = 0
    n_priced: int = 0  # number of parts with dollars, each of them rounded

    def add(self, amounts: Amounts) -> None:
        self.n += 1
        self.n_priced += "usd" in amounts
        for measure, value in amounts.items():
            before = self.amounts.get(measure, Decimal(0))
            self.amounts[measure] = None if before is None or value is None else before + value

    def merge(self, other: "_Sum") -> None:
        n = self.n + other.n
        n_priced = self.n_priced + other.n_priced
        if other.n:
            self.add(other.amounts)
        self.n = n
        self.n_priced = n_priced


@dataclasses.dataclass(slots=True)
class _Side:
    """Billed and stored sums of one day and model."""

    billed: _Sum = dataclasses.field(default_factory=_Sum)
    stored: _Sum = dataclasses.field(default_factory=_Sum)
    n_uncertain: int = 0


class _Comparison:
    """Comparison of bills with stored calls."""

    def __init__(
        self,
        bills: Sequence[Bill],
        stored: Sequence[StoredCall],
        days: Days,
        tolerance_usd: float | None,
        providers: Collection[str],
    ) -> None:
        self._bills = bills
        self._days = days
        stated = frozenset().union(*(bill.measures for bill in bills))
        self._measures = [measure for measure in MEASURES if measure in stated]
        self._tolerance = None if tolerance_usd is None else Decimal(repr(tolerance_usd))
        self._half_unit = max(
            (Decimal(5).scaleb(-bill.decimals - 1) for bill in bills if "usd" in bill.measures),
            default=_FLOOR,
        )
        self._stored = stored
        self._pairs: list[tuple[BillRow, StoredCall]] = []
        self._unmatched: list[tuple[BillRow, str]] = []
        self._match()
        self.providers = self._in_scope(frozenset(providers))
        matched = {call.call_id for _, call in self._pairs}
        self._repeated = [
            call for call in stored if call.call_id in self._same_id and call.call_id not in matched
        ]
        self._other_calls = [
            call
            for call in stored
            if call.call_id not in matched
            and call.provider in self.providers
            and call.day is not None
        ]
        self._models = {
            model
            for bill in bills
            for row in bill.rows
            if row.model is not None
            for model in [_canonical(row.model)]
        }

    def _match(self) -> None:
        """Match rows and calls with the same id, each at most once."""
        by_id: dict[str, list[StoredCall]] = defaultdict(list)
        for call in self._stored:
            for name in call.ids:
                by_id[name].append(call)
        matched: set[str] = set()
        self._same_id: set[str] = set()  # calls with the id of a matched one
        for bill in self._bills:
            for row in bill.rows:
                if row.id is None:
                    continue
                candidates = by_id.get(row.id, [])
                available = [call for call in candidates if call.call_id not in matched]
                if available:
                    matched.add(available[0].call_id)
                    self._pairs.append((row, available[0]))
                    self._same_id |= {call.call_id for call in available[1:]}
                else:
                    self._unmatched.append((row, BILL_TWICE if candidates else ONLY_BILL))

    def _in_scope(self, chosen: frozenset[str]) -> frozenset[str | None]:
        """Return the providers whose calls the bill must contain."""
        if chosen:
            return chosen
        services = {bill.service for bill in self._bills} - {None}
        own_providers = {call.provider for call in self._stored if call.service in services}
        return frozenset(own_providers or {call.provider for _, call in self._pairs})

    # -- sums ------------------------------------------------------------------------------------

    def _groups(self) -> dict[Group, _Side]:
        groups: dict[Group, _Side] = defaultdict(_Side)
        call_by_row = {id(row): call for row, call in self._pairs}
        without_model: set[dt.date | None] = set()
        for bill in self._bills:
            for row in bill.rows:
                model = None if row.model is None else _canonical(row.model)
                day = row.day(self._days.zone)
                if model is None:
                    without_model.add(day)
                side = groups[day, model]
                side.billed.add(row.amounts)
                if id(row) in call_by_row:
                    self._count_call(side, call_by_row[id(row)])
        for call in self._other_calls:
            self._count_call(groups[call.day, self._model_of(call)], call)
            if call.day in without_model:
                self._count_call(groups[call.day, None], call)
        if not self._models and without_model:  # the bill states no model at all
            return {group: side for group, side in groups.items() if group[1] is None}
        return dict(groups)

    def _count_call(self, side: _Side, call: StoredCall) -> None:
        if call.is_certain:
            side.stored.add(call.amounts)
        else:
            side.n_uncertain += 1

    def _model_of(self, call: StoredCall) -> str | None:
        """Return the name of a call's model that is in the bill, else its first name."""
        shared = [model for model in call.models if model in self._models]
        return next(iter(shared or call.models), None)

    def frame(self) -> pl.DataFrame:
        """Return one row per day and model."""
        rows = [
            {"day": day, "model": model} | self._comparison_row(side)
            for (day, model), side in sorted(
                self._groups().items(), key=lambda g: (str(g[0][0]), g[0][1] or "")
            )
        ]
        return self._table(rows, {"day": pl.Date, "model": pl.String})

    def total(self) -> pl.DataFrame:
        """Return one row with the sum over all days and models."""
        groups = self._groups()
        has_models = any(model is not None for _, model in groups)
        both_sides = _Side()
        for (_, model), side in groups.items():
            if (model is not None) == has_models:
                both_sides.billed.merge(side.billed)
                both_sides.stored.merge(side.stored)
                both_sides.n_uncertain += side.n_uncertain
        return self._table([self._comparison_row(both_sides)], {})

    def _comparison_row(self, side: _Side) -> dict[str, Any]:
        """Build one row: the amounts of both sides, and the verdict."""
        billed = {m: side.billed.amounts.get(m) for m in self._measures}
        is_stated = {m: m in side.billed.amounts for m in self._measures}
        stored = {m: side.stored.amounts.get(m) for m in self._measures}
        if not side.stored.n and side.n_uncertain:  # no stored call is certain to be charged
            stored = dict.fromkeys(self._measures, Decimal(0))
        if not side.billed.n:
            verdict = ONLY_STORE
        elif not side.stored.n and not side.n_uncertain:
            verdict = ONLY_BILL
        else:
            verdict = self._verdict(
                {m: (billed[m], stored[m]) for m in self._measures if is_stated[m]},
                side.billed.n_priced,
            )
        row: dict[str, Any] = {"verdict": verdict}
        for measure in self._measures:
            row |= _difference_columns(measure, billed[measure], stored[measure])
        return row | {"n_uncertain": side.n_uncertain}

    def _verdict(
        self, amounts: Mapping[str, tuple[Decimal | None, Decimal | None]], n_rows: int
    ) -> str:
        differences = []
        compared = 0
        for measure, (billed, stored) in amounts.items():
            if billed is None or stored is None:
                continue
            compared += measure != "requests"  # equal numbers of requests prove nothing alone
            allowed = Decimal(0)
            if measure == "usd":
                allowed = (
                    self._tolerance if self._tolerance is not None else n_rows * self._half_unit
                )
                allowed = max(allowed, _FLOOR)
            if abs(billed - stored) > allowed:
                differences.append(f"{measure} {_signed_text(billed - stored, measure)}")
        if differences:
            return f"differs: {', '.join(differences)}"
        return AGREES if compared else UNKNOWN

    # -- requests --------------------------------------------------------------------------------

    def calls(self, *, every: bool) -> pl.DataFrame:
        """Return one row per request that does not agree, or per request."""
        rows = []
        for row, call in self._pairs:
            verdict = self._verdict(
                {m: (row.amounts.get(m), call.amounts.get(m)) for m in row.amounts}, 1
            )
            if every or verdict != AGREES:
                rows.append(self._request_row(row, call, verdict))
        rows += [self._request_row(row, None, verdict) for row, verdict in self._unmatched]
        rows += [self._request_row(None, call, STORE_TWICE) for call in self._repeated]
        repeated = {call.call_id for call in self._repeated}
        for call in self._other_calls:
            if call.is_certain and call.call_id not in repeated:
                rows.append(self._request_row(None, call, ONLY_STORE if call.ids else NO_ID))
        kinds = dict.fromkeys(("id", "verdict", "model", "call_id", "trace_id"), pl.String)
        return self._table(rows, {"day": pl.Date, **kinds})

    def _request_row(
        self, row: BillRow | None, call: StoredCall | None, verdict: str
    ) -> dict[str, Any]:
        row_values: dict[str, Any] = {"id": None, "day": None, "model": None}
        if row is not None:
            model = None if row.model is None else _canonical(row.model)
            row_values = {"id": row.id, "day": row.day(self._days.zone), "model": model}
        elif call is not None:
            model = self._model_of(call)
            row_values = {"id": next(iter(call.ids), None), "day": call.day, "model": model}
        row_values["verdict"] = verdict
        for measure in self._measures:
            billed = None if row is None else row.amounts.get(measure)
            stored = None if call is None else call.amounts.get(measure)
            row_values |= _difference_columns(measure, billed, stored)
        ids = {"call_id": call and call.call_id, "trace_id": call and call.trace_id}
        return row_values | ids

    def _table(self, rows: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> pl.DataFrame:
        figures: dict[str, Any] = {}
        for measure in self._measures:
            kind = pl.Float64 if measure == "usd" else pl.Int64
            figures |= dict.fromkeys(_column_names(measure), kind)
        last = {name: more[name] for name in ("call_id", "trace_id") if name in more}
        first = {name: kind for name, kind in more.items() if name not in last}
        schema = {**first, "verdict": pl.String, **figures}
        schema |= last or {"n_uncertain": pl.Int64}
        return pl.DataFrame(
            [[row.get(name) for name in schema] for row in rows], schema=schema, orient="row"
        )

    # -- words -----------------------------------------------------------------------------------

    def notes(self, keys: Collection[str], projects: Collection[str]) -> list[str]:
        """List the rules in force and the limits of the comparison."""
        days = self._days
        notes = []
        if days.first is not None:
            span = f"{days.first} to {days.last}" if days.first != days.last else f"{days.first}"
            notes.append(f"compared: {span}, in days of {days.zone}")
        notes += self._rules()
        for what, chosen in (("key", keys), ("project", projects)):
            known_names = {getattr(row, what) for bill in self._bills for row in bill.rows} - {None}
            if len(known_names) > 1 and not chosen:
                shown = ", ".join(sorted(known_names)[:5])
                notes.append(
                    f"the bill has {len(known_names)} {what}s ({shown}), and the store does not"
                    f" know the {what} of a call; keep one with --{what}"
                )
        for bill in self._bills:
            notes += [f"{bill.name}: rows skipped: {n:,}: {t}" for t, n in bill.skipped.items()]
            notes += [f"{bill.name}: {text}: {n:,}" for text, n in bill.notes.items()]
        return [*notes, *self._store_notes()]

    def _rules(self) -> Iterable[str]:
        if "usd" not in self._measures:
            yield "tokens and requests must be equal"
            return
        if self._tolerance is not None:
            allowed = f"dollars by at most {self._tolerance:f}"
        else:
            allowed = (
                f"dollars by at most {max(self._half_unit, _FLOOR):f} for each row that is summed"
            )
        others = "tokens and requests must be equal; " if len(self._measures) > 1 else ""
        yield f"{others}{allowed} may differ (rounding)"
        calls = [*(call for _, call in self._pairs), *self._other_calls]
        n_reported = sum(call.has_reported_usd for call in calls)
        yield (
            f"stored dollars: of {n_reported:,} calls as the provider reported them, of"
            f" {len(calls) - n_reported:,} from tokens and prices"
        )

    def _store_notes(self) -> Iterable[str]:
        if not self.providers:
            providers = sorted({call.provider or "—" for call in self._stored})
            yield (
                f"the store has no calls of the bill's provider in this time; it has calls of:"
                f" {', '.join(providers) or 'no provider'}; name those of the bill with --provider"
            )
        calls = [*(call for _, call in self._pairs), *self._other_calls]
        if n_replaced := sum(call.is_replaced for call in calls):
            yield (
                f"calls of tries that were made again: {n_replaced:,}; they were paid and are in"
                " the bill, but analyses exclude them"
            )
        for model, first, second in self._midnight_shifts():
            yield (
                f"{model}: the differences of {first} and {second} cancel, as of requests around"
                " midnight: a bill may count them for the day on which they ended"
            )
        uncertain = sum(not call.is_certain for call in self._other_calls)
        if uncertain:
            yield (
                f"{counted(uncertain, 'failed request')} without a reply and without tokens in no"
                " sum: whether they were charged is not known (n_uncertain)"
            )
        if self._has_ids and (n := sum(not call.ids for call in self._other_calls)):
            yield f"{counted(n, 'call')} stored without an id: compared by sums only"

    def _midnight_shifts(self) -> Iterable[tuple[str, dt.date, dt.date]]:
        """Yield (model, day, next day) whose differences are each other's opposite."""
        tokens = [
            name
            for measure in self._measures
            for name in _column_names(measure)[2:]
            if measure != "usd"
        ]
        rows = {(row["day"], row["model"]): row for row in self.frame().iter_rows(named=True)}
        for (day, model), row in rows.items():
            following = rows.get((day + dt.timedelta(days=1), model)) if day else None
            if following is None:
                continue
            pairs = [(row[n], following[n]) for n in tokens if row[n] is not None]
            cancels = all(b is not None and a + b == 0 for a, b in pairs)
            if cancels and any(a for a, _ in pairs):
                yield model or "all models", day, following["day"]

    @property
    def _has_ids(self) -> bool:
        return any(bill.has_ids for bill in self._bills)


def _canonical(model: str) -> str:
    return models.canonical(model).model


def _column_names(measure: str) -> tuple[str, str, str]:
    return f"billed_{measure}", f"stored_{measure}", f"{measure}_difference"


def _difference_columns(
    measure: str, billed: Decimal | None, stored: Decimal | None
) -> dict[str, Any]:
    kind = float if measure == "usd" else int
    values = (billed, stored, None if billed is None or stored is None else billed - stored)
    pairs = zip(_column_names(measure), values, strict=True)
    return {name: None if value is None else kind(value) for name, value in pairs}


def _signed_text(value: Decimal, measure: str) -> str:
    text = f"{value:+,.6f}".rstrip("0").rstrip(".") if measure == "usd" else f"{value:+,f}"
    return text.replace("-", "−")
