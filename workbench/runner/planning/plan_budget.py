"""The budgets of a plan, and how much of them its earlier launches have spent.

The budgets of a plan hold over all its launches; a limit given to a launch holds for that launch as
well. Spent is what the plan's attempts took in any run: the calls of their traces, and replies of
attempts without a trace yet. A call that may have been billed and whose amount is unknown counts as
the mean of the others, or, where none is known, as a call of typical size; an attempt that was in
flight when its collector was killed counts as the amount it had reserved. Joules and seconds are
those of the runs that made any of the attempts, idle power and waits included.

An edit of the user's code makes another configuration, but not another plan: attempts that differ
from the plan's in the code alone count as well.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from workbench import spool
from workbench.errors import StoreError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyBalance,
    Run,
    Trace,
    content_id,
    json_text,
)
from workbench.runner.attempts import journal
from workbench.runner.limits import Amounts, PriceOf
from workbench.runner.planning import claims
from workbench.runner.planning.plan import CODE_SETTINGS, Plan, Work
from workbench.runner.planning.target import Target
from workbench.runner.providers.broken_requests import CANCELLED, may_be_billed, tokens_of
from workbench.runner.providers.current_attempt import AttemptKey

if TYPE_CHECKING:
    import narwhals as nw

TEXTS = {
    "budget_usd": "${:,.4g}",
    "budget_tokens": "{:,.0f} tokens",
    "budget_j": "{:,.4g} J",
    "budget_time_s": "{:,.0f} s",
}

_SUMS = ("usd", "n_usd", "n_unpriced", "tokens", "n_tokens", "n_uncounted", "energy_j")


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts that earlier launches spent on a plan's attempts, in the units of its budgets."""

    budget_usd: float = 0.0
    budget_tokens: float = 0.0
    budget_j: float = 0.0
    budget_time_s: float = 0.0


def budgets_of(plan: Plan) -> dict[str, float]:
    """Return the budgets that a plan sets, by name."""
    limits = {name: getattr(plan, name) for name in TEXTS}
    return {name: limit for name, limit in limits.items() if limit is not None}


def remaining(plan: Plan, spent: Spent, limits: Mapping[str, float]) -> dict[str, float]:
    """Return how much one launch may spend, by name of the budget.

    That is the rest of the plan's budgets, or the launch's own `limits` where they are lower.
    """
    rest = {n: max(limit - getattr(spent, n), 0.0) for n, limit in budgets_of(plan).items()}
    return rest | {n: min(limit, rest.get(n, limit)) for n, limit in limits.items()}


def describe_spent(plan: Plan, spent: Spent) -> list[str]:
    """Describe what earlier launches spent of a plan's budgets; empty where they spent nothing."""
    return [
        f"{name} = {TEXTS[name].format(limit)} is for all launches of the plan:"
        f" {TEXTS[name].format(getattr(spent, name))} spent before,"
        f" {TEXTS[name].format(max(limit - getattr(spent, name), 0.0))} left"
        for name, limit in budgets_of(plan).items()
        if getattr(spent, name)
    ]


class _Paid(msgspec.Struct):
    """Sums over the calls of one trace, or of a run's traces that only the store holds."""

    usd: float = 0.0
    n_usd: int = 0
    n_unpriced: int = 0
    tokens: float = 0.0
    n_tokens: int = 0
    n_uncounted: int = 0
    energy_j: float = 0.0
    run_id: str = ""
    until: dt.datetime | None = None

    def add(self, call: Call, price: PriceOf | None) -> None:
        """Count a call."""
        cost = call.billed_cost_usd
        cost = price(call) if cost is None and price is not None else cost
        tokens, billed = tokens_of(call), may_be_billed(call)
        self.usd += cost or 0.0
        self.n_usd += cost is not None
        self.tokens += tokens or 0.0
        self.n_tokens += tokens is not None
        self.n_unpriced += cost is None and billed
        self.n_uncounted += tokens is None and billed

    def at_least(self, other: "_Paid") -> None:
        """Take the larger of each sum.

        Journals are written before their trace and deleted after it: a reader in between may see
        only a part of either.
        """
        for name in _SUMS:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


class Spending:
    """Sums up what a plan's attempts have spent: first in the spool's folder, then in the store."""

    def __init__(
        self,
        work: Work,
        folder: Path,
        price: PriceOf | None,
        recorded: Iterable[Configuration] = (),
    ) -> None:
        """Read the spool and the journals.

        Args:
            work: the attempts of the plan.
            folder: the spool.
            price: gives the cost of a call.
            recorded: configurations of the store, among them those with earlier code of the plan.
        """
        in_spool = (r for r in _in_spool(folder) if isinstance(r, Configuration))
        versions = _versions(work, (*recorded, *in_spool) if has_code(work) else ())
        self._configurations = {id for ids in versions.values() for id in ids}
        self._items = {item.item_id for item in work.items}
        self._price = price
        self._typical = [typical(target, 1) for _, target, _ in work.configurations]
        self._paid: dict[str, _Paid] = {}
        self._at_kills: dict[tuple[str, AttemptKey], Amounts] = {}
        self._runs: dict[str, tuple[dt.datetime | None, dt.datetime | None]] = {}
        self._metered_j: dict[tuple[str, str], float] = {}
        # sums of each journal, by run and by the attempt's name among the journal files
        journalled: dict[tuple[str, str], _Paid] = {}
        for name, run_id, trace_id, line in _journal_lines(work, versions, folder):
            paid = self._paid.setdefault(trace_id, _Paid())
            paid.run_id = run_id
            paid.energy_j += sum(e.energy_j or 0.0 for e in line.energy or ())
            if line.reply is not None:
                paid.add(line.reply.call, price)
                journalled.setdefault((run_id, name), _Paid()).add(line.reply.call, price)
        self._journalled_traces = set(self._paid)
        self._add_kills(folder, journalled)
        self._runs_of_plan = {paid.run_id for paid in self._paid.values()}
        latest: dict[str, Trace] = {}
        for record in _in_spool(folder):
            if isinstance(record, Trace):
                known = latest.get(record.trace_id)
                if self._is_of_plan(record) and (known is None or spool.supersedes(record, known)):
                    latest[record.trace_id] = record
            elif isinstance(record, Run):
                self._runs[record.run_id] = record.started_at, record.ended_at
            elif isinstance(record, EnergyBalance) and record.meter_j is not None:
                self._metered_j[record.run_id, record.device] = record.meter_j
        for trace in latest.values():
            self._add_trace(trace)

    def _add_kills(self, folder: Path, journalled: Mapping[tuple[str, str], _Paid]) -> None:
        """Count the reservations of attempts in flight at a kill, less their journalled calls."""
        for run_id, key, reserved in claims.unfinished(folder):
            if key[0] in self._configurations and key[1] in self._items:
                paid = journalled.get((run_id, content_id(*key)), _Paid())
                self._at_kills[run_id, key] = Amounts(
                    max(reserved.usd - paid.usd, 0.0), max(reserved.tokens - paid.tokens, 0.0)
                )

    def _is_of_plan(self, trace: Trace) -> bool:
        return trace.configuration_id in self._configurations and trace.item_id in self._items

    def _add_trace(self, trace: Trace) -> None:
        paid = self._paid.setdefault(trace.trace_id, _Paid())
        paid.run_id, paid.until = trace.run_id, trace.started_at
        metered_j = sum(e.energy_j or 0.0 for e in trace.energy if e.method != "estimated")
        paid.energy_j = max(paid.energy_j, metered_j)
        in_trace = _Paid()
        for call in trace.calls:
            in_trace.add(call, self._price)
        paid.at_least(in_trace)

    def with_store(
        self, calls: "nw.LazyFrame[Any]", runs: "nw.LazyFrame[Any]", balances: "nw.LazyFrame[Any]"
    ) -> Spent:
        """Add the traces that only the store holds, and return the sums.

        Args:
            calls: `call_facts`.
            runs: the table of that name.
            balances: the table `energy_balances`.
        """
        rows = _per_trace(calls, self._configurations)
        rows = rows.filter(pl.col("item_id").is_in(list(self._items)))
        in_both = rows.filter(pl.col("trace_id").is_in(list(self._journalled_traces)))
        self._runs_of_plan |= set(in_both["run_id"])
        for row in in_both.iter_rows(named=True):
            self._paid[row["trace_id"]].at_least(_Paid(**{name: row[name] for name in _SUMS}))
        rows = rows.filter(~pl.col("trace_id").is_in(list(self._paid)))
        sums = rows.group_by("run_id").agg(pl.col(_SUMS).sum(), pl.col("until").max())
        for row in sums.iter_rows(named=True):
            self._paid[f"all of {row['run_id']}"] = _Paid(**row)
        run_ids = self._runs_of_plan | {paid.run_id for paid in self._paid.values()}
        for run_id, *times in _rows(runs, run_ids, "run_id", "started_at", "ended_at"):
            self._runs.setdefault(run_id, (times[0], times[1]))
        for run_id, device, joules in _rows(balances, run_ids, "run_id", "device", "meter_j"):
            if joules is not None:
                self._metered_j.setdefault((run_id, device), joules)
        return self._sum(run_ids)

    def _sum(self, run_ids: set[str]) -> Spent:
        paid = self._paid.values()
        at_kills = self._at_kills.values()
        metered = {run_id for run_id, _ in self._metered_j}
        joules = sum(j for (run_id, _), j in self._metered_j.items() if run_id in run_ids)
        usd = _with_estimates(
            ((p.usd, p.n_usd, p.n_unpriced) for p in paid), self._typical, self._price
        )
        tokens = _with_estimates(
            ((p.tokens, p.n_tokens, p.n_uncounted) for p in paid), self._typical, tokens_of
        )
        return Spent(
            budget_usd=sum(a.usd for a in at_kills) + usd,
            budget_tokens=sum(a.tokens for a in at_kills) + tokens,
            # a killed run has no balance: it took at least the energy of its calls
            budget_j=joules + sum(p.energy_j for p in paid if p.run_id not in metered),
            budget_time_s=sum(self._duration_s(run_id) for run_id in run_ids),
        )

    def _duration_s(self, run_id: str) -> float:
        """Seconds that a run lasted; for a killed run, until its last attempt began."""
        begun, ended = self._runs.get(run_id, (None, None))
        if ended is None:
            last = (p.until for p in self._paid.values() if p.run_id == run_id)
            ended = max((_utc(t) for t in last if t is not None), default=None)
        return max((_utc(ended) - _utc(begun)).total_seconds(), 0.0) if begun and ended else 0.0


def has_code(work: Work) -> bool:
    """Return whether a plan's configurations depend on code of the user's, which may be edited."""
    return any(_without_code(c) != c.configuration_id for c, _, _ in work.configurations)


def _without_code(configuration: Configuration) -> str:
    """Return the id that a configuration would have if code of the user's did not count."""
    settings = msgspec.json.decode(configuration.settings or "{}")
    rest = {name: value for name, value in settings.items() if name not in CODE_SETTINGS}
    if len(rest) == len(settings):
        return configuration.configuration_id
    return msgspec.structs.replace(
        configuration, settings=json_text(rest) if rest else None, configuration_id=""
    ).configuration_id


def _versions(work: Work, recorded: Iterable[Configuration]) -> dict[str, set[str]]:
    """Return, by id of each configuration of a plan, the ids that it had with any code."""
    by_rest = defaultdict[str, set[str]](set)
    for configuration in recorded:
        by_rest[_without_code(configuration)].add(configuration.configuration_id)
    return {
        c.configuration_id: {c.configuration_id, *by_rest.get(_without_code(c), ())}
        for c, _, _ in work.configurations
    }


def typical(target: Target, n_calls: int) -> Call:
    """Return the sum of `n_calls` calls of a typical size, for budgets; it is never recorded."""
    return Call(
        provider=target.provider_name,
        model=target.model,
        input_tokens=500 * n_calls,
        cache_read_tokens=0,
        output_tokens=(target.max_tokens or 1000) * n_calls,
        machine=target.machine,
        machine_s=float(n_calls) if target.machine else None,
    )


def _with_estimates(
    parts: Iterable[tuple[float, int, int]],
    typical_calls: Iterable[Call],
    amount_of: PriceOf | None,
) -> float:
    """Add up parts, with the mean known amount for every call of unknown amount.

    Args:
        parts: (known amount, number of calls it is of, number of calls of unknown amount).
        typical_calls: their largest amount is used where no call has a known one.
        amount_of: the amount of a call.
    """
    known = 0.0
    n_known = 0
    n_unknown = 0
    for amount, n_with, n_without in parts:
        known += amount
        n_known += n_with
        n_unknown += n_without
    if n_known or not n_unknown:
        return known * (1 + n_unknown / n_known) if n_known else 0.0
    amounts = [amount_of(call) for call in typical_calls] if amount_of is not None else []
    return n_unknown * max((a for a in amounts if a is not None), default=0.0)


def _utc(at: dt.datetime) -> dt.datetime:
    """Add the time zone to a time of the store, which holds UTC without one."""
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def _per_trace(calls: "nw.LazyFrame[Any]", configurations: set[str]) -> pl.DataFrame:
    """Reduce `call_facts` to the fields of `_Paid`, one row a trace."""
    import narwhals as nw

    cost = nw.coalesce(nw.col("billed_cost_usd"), nw.col("cost_usd"))
    both = nw.col("input_tokens") + nw.col("output_tokens")
    tokens = nw.coalesce(both, nw.col("total_tokens")).cast(nw.Float64)
    error = nw.col("error_type")
    is_abandoned = error.is_in(["timeout", CANCELLED])
    # may have been billed (see `may_be_billed`); calls that reported usage have a known amount
    billed = error.is_null() | ~nw.col("ttft_s").is_null() | is_abandoned
    chosen = calls.filter(nw.col("configuration_id").is_in(sorted(configurations)))
    rows = chosen.select(
        "trace_id",
        "item_id",
        "run_id",
        "started_at",
        usd=cost,
        n_usd=(~cost.is_null()).cast(nw.Int64),
        n_unpriced=(cost.is_null() & billed).cast(nw.Int64),
        tokens=tokens,
        n_tokens=(~tokens.is_null()).cast(nw.Int64),
        n_uncounted=(tokens.is_null() & billed).cast(nw.Int64),
        energy_j=nw.coalesce(nw.col("energy_j"), nw.lit(0.0)),
    )
    grouped = rows.group_by("trace_id", "item_id", "run_id").agg(
        *(nw.col(name).sum() for name in _SUMS), nw.col("started_at").max().alias("until")
    )
    frame: pl.DataFrame = grouped.collect("polars").to_native()
    counts = pl.col("n_usd", "n_unpriced", "n_tokens", "n_uncounted").cast(pl.Int64)
    return frame.with_columns(pl.col("usd", "tokens").fill_null(0.0), counts)


def _rows(frame: "nw.LazyFrame[Any]", runs: set[str], *columns: str) -> Iterator[tuple[Any, ...]]:
    import narwhals as nw

    if not runs:
        return iter(())
    chosen = frame.filter(nw.col("run_id").is_in(sorted(runs))).select(*columns)
    native: pl.DataFrame = chosen.collect("polars").to_native()
    return native.iter_rows()


def _journal_lines(
    work: Work, versions: Mapping[str, Iterable[str]], folder: Path
) -> Iterator[tuple[str, str, str, journal.JournalLine]]:
    """Yield the journal lines of a plan's attempts: attempt name, run id, trace id and line."""
    paths = journal.files(folder)
    keys = (planned.key for planned in work) if paths else ()
    names = {content_id(id, *rest) for planned, *rest in keys for id in versions[planned]}
    for path in paths:
        name, _, rest = path.stem.partition("-")
        for line in journal.read(path) if name in names else ():
            yield name, rest.rpartition("-")[0], line.trace_id or path.stem, line


def _in_spool(folder: Path) -> Iterator[AnyRecord]:
    """Yield the records of the spool, except of segments that were imported meanwhile."""
    for segment in spool.segments(folder):
        try:
            yield from spool.read_segment(segment.path).records
        except StoreError:
            if segment.path.exists():
                raise
