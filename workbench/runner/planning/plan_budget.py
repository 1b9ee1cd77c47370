"""What a plan may spend, and what its earlier launches have spent of that.

The budgets of a plan hold for the plan, over all its launches; a limit given to a launch holds for
that launch as well. What was spent is what the plan's own attempts took, whoever made them: the
calls of their traces, and replies of attempts that have no trace yet. A call that may have been
billed and whose amount nobody knows counts as the mean of the others, or, where none is known, as a
call of ordinary size; an attempt that was under way when its collector was killed counts as what it
had reserved. Joules and seconds are those of the runs that made any of the attempts, idle power and
waits included.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from workbench import spool
from workbench.errors import StoreError
from workbench.records import AnyRecord, Call, EnergyBalance, Run, Trace, content_id
from workbench.runner.attempts import journal
from workbench.runner.limits import Amounts, PriceOf
from workbench.runner.planning import claims
from workbench.runner.planning.plan import Plan, Work
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
    """What earlier launches took for a plan's attempts, in the units of the plan's budgets."""

    budget_usd: float = 0.0
    budget_tokens: float = 0.0
    budget_j: float = 0.0
    budget_time_s: float = 0.0


def budgets_of(plan: Plan) -> dict[str, float]:
    """The budgets that a plan sets, by name."""
    found = {name: getattr(plan, name) for name in TEXTS}
    return {name: limit for name, limit in found.items() if limit is not None}


def remaining(plan: Plan, spent: Spent, limits: Mapping[str, float]) -> dict[str, float]:
    """Say how much one launch may spend: what is left of the plan's budgets, and no more than its own `limits`."""
    left = {n: max(limit - getattr(spent, n), 0.0) for n, limit in budgets_of(plan).items()}
    return left | {n: min(limit, left.get(n, limit)) for n, limit in limits.items()}


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
    """What one trace took so far, or all of a run that only the store holds."""

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
        self.usd, self.n_usd = self.usd + (cost or 0.0), self.n_usd + (cost is not None)
        self.tokens, self.n_tokens = (
            self.tokens + (tokens or 0.0),
            self.n_tokens + (tokens is not None),
        )
        self.n_unpriced += cost is None and billed
        self.n_uncounted += tokens is None and billed

    def at_least(self, other: "_Paid") -> None:
        """Take the larger of each sum.

        Replies are kept before a trace has them and go once it is safe: of what is read while that
        happens, neither need be whole.
        """
        for name in _SUMS:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


class Spending:
    """Adds up what a plan's attempts took: first what waits in the spool's folder, then what the store holds."""

    def __init__(self, work: Work, folder: Path, price: PriceOf | None) -> None:
        """Read the spool and the replies that are kept; `price` gives the cost of a call."""
        self._configurations = set(work.configuration_ids)
        self._items = {item.item_id for item in work.items}
        self._price = price
        self._ordinary = [typical(target, 1) for _, target, _ in work.configurations]
        self._paid: dict[str, _Paid] = {}
        self._at_kills: dict[tuple[str, AttemptKey], Amounts] = {}
        self._runs: dict[str, tuple[dt.datetime | None, dt.datetime | None]] = {}
        self._metered_j: dict[tuple[str, str], float] = {}
        # what each run kept of an attempt, by the attempt's name among the files of replies
        kept_by: dict[tuple[str, str], _Paid] = {}
        for name, run_id, trace_id, kept in _kept(work, folder):
            paid = self._paid.setdefault(trace_id, _Paid())
            paid.run_id = run_id
            paid.energy_j += sum(e.energy_j or 0.0 for e in kept.energy or ())
            if kept.reply is not None:
                paid.add(kept.reply.call, price)
                kept_by.setdefault((run_id, name), _Paid()).add(kept.reply.call, price)
        self._kept = set(self._paid)
        self._add_kills(folder, kept_by)
        self._mine = {paid.run_id for paid in self._paid.values()}
        latest: dict[str, Trace] = {}
        for record in _in_spool(folder):
            if isinstance(record, Trace):
                known = latest.get(record.trace_id)
                if self._is_mine(record) and (known is None or spool.supersedes(record, known)):
                    latest[record.trace_id] = record
            elif isinstance(record, Run):
                self._runs[record.run_id] = record.started_at, record.ended_at
            elif isinstance(record, EnergyBalance) and record.meter_j is not None:
                self._metered_j[record.run_id, record.device] = record.meter_j
        for trace in latest.values():
            self._add_trace(trace)

    def _add_kills(self, folder: Path, kept_by: Mapping[tuple[str, str], _Paid]) -> None:
        """Count what was reserved for attempts that were under way at a kill, beyond what was kept of them."""
        for run_id, key, reserved in claims.unfinished(folder):
            if key[0] in self._configurations and key[1] in self._items:
                kept = kept_by.get((run_id, content_id(*key)), _Paid())
                self._at_kills[run_id, key] = Amounts(
                    max(reserved.usd - kept.usd, 0.0), max(reserved.tokens - kept.tokens, 0.0)
                )

    def _is_mine(self, trace: Trace) -> bool:
        return trace.configuration_id in self._configurations and trace.item_id in self._items

    def _add_trace(self, trace: Trace) -> None:
        paid = self._paid.setdefault(trace.trace_id, _Paid())
        paid.run_id, paid.until = trace.run_id, trace.started_at
        own = sum(e.energy_j or 0.0 for e in trace.energy if e.method != "estimated")
        paid.energy_j = max(paid.energy_j, own)
        told = _Paid()
        for call in trace.calls:
            told.add(call, self._price)
        paid.at_least(told)

    def with_store(
        self, calls: "nw.LazyFrame[Any]", runs: "nw.LazyFrame[Any]", balances: "nw.LazyFrame[Any]"
    ) -> Spent:
        """Add what the store holds beside that, and give the sums.

        Args:
            calls: `call_facts`.
            runs: the table of that name.
            balances: the table `energy_balances`.
        """
        rows = _per_trace(calls, self._configurations)
        rows = rows.filter(pl.col("item_id").is_in(list(self._items)))
        self._mine |= set(rows.filter(pl.col("trace_id").is_in(list(self._kept)))["run_id"])
        for row in rows.filter(pl.col("trace_id").is_in(list(self._kept))).iter_rows(named=True):
            self._paid[row["trace_id"]].at_least(_Paid(**{name: row[name] for name in _SUMS}))
        rows = rows.filter(~pl.col("trace_id").is_in(list(self._paid)))
        sums = rows.group_by("run_id").agg(pl.col(_SUMS).sum(), pl.col("until").max())
        for row in sums.iter_rows(named=True):
            self._paid[f"all of {row['run_id']}"] = _Paid(**row)
        mine = self._mine | {paid.run_id for paid in self._paid.values()}
        for run_id, *times in _rows(runs, mine, "run_id", "started_at", "ended_at"):
            self._runs.setdefault(run_id, (times[0], times[1]))
        for run_id, device, joules in _rows(balances, mine, "run_id", "device", "meter_j"):
            if joules is not None:
                self._metered_j.setdefault((run_id, device), joules)
        return self._sum(mine)

    def _sum(self, mine: set[str]) -> Spent:
        every, at_kills = self._paid.values(), self._at_kills.values()
        metered = {run_id for run_id, _ in self._metered_j}
        joules = sum(j for (run_id, _), j in self._metered_j.items() if run_id in mine)
        return Spent(
            budget_usd=sum(a.usd for a in at_kills)
            + _with_doubt(
                ((p.usd, p.n_usd, p.n_unpriced) for p in every), self._ordinary, self._price
            ),
            budget_tokens=sum(a.tokens for a in at_kills)
            + _with_doubt(
                ((p.tokens, p.n_tokens, p.n_uncounted) for p in every), self._ordinary, tokens_of
            ),
            # a run that was killed has no balance: at least what its calls took
            budget_j=joules + sum(p.energy_j for p in every if p.run_id not in metered),
            budget_time_s=sum(self._lasted_s(run_id) for run_id in mine),
        )

    def _lasted_s(self, run_id: str) -> float:
        """How long a run lasted; one that was killed at least to its last attempt."""
        begun, ended = self._runs.get(run_id, (None, None))
        if ended is None:
            last = (p.until for p in self._paid.values() if p.run_id == run_id)
            ended = max((_utc(t) for t in last if t is not None), default=None)
        return max((_utc(ended) - _utc(begun)).total_seconds(), 0.0) if begun and ended else 0.0


def typical(target: Target, n_calls: int) -> Call:
    """Make up calls of an ordinary size, added up, to see whether they can be priced; never recorded."""
    return Call(
        provider=target.provider_name,
        model=target.model,
        input_tokens=500 * n_calls,
        cache_read_tokens=0,
        output_tokens=(target.max_tokens or 1000) * n_calls,
        machine=target.machine,
        machine_s=float(n_calls) if target.machine else None,
    )


def _with_doubt(
    parts: Iterable[tuple[float, int, int]], ordinary: Iterable[Call], amount_of: PriceOf | None
) -> float:
    """Add up (known amount, calls that it is of, calls of unknown amount)."""
    known, n, n_unknown = 0.0, 0, 0
    for amount, of, without in parts:
        known, n, n_unknown = known + amount, n + of, n_unknown + without
    if n or not n_unknown:
        return known * (1 + n_unknown / n) if n else 0.0
    found = [amount_of(call) for call in ordinary] if amount_of is not None else []
    return n_unknown * max((a for a in found if a is not None), default=0.0)


def _utc(at: dt.datetime) -> dt.datetime:
    """Times in the store are UTC without saying so."""
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def _per_trace(calls: "nw.LazyFrame[Any]", configurations: set[str]) -> pl.DataFrame:
    """Reduce `call_facts` to the fields of `_Paid`, one row a trace."""
    import narwhals as nw

    cost = nw.coalesce(nw.col("billed_cost_usd"), nw.col("cost_usd"))
    both = nw.col("input_tokens") + nw.col("output_tokens")
    tokens = nw.coalesce(both, nw.col("total_tokens")).cast(nw.Float64)
    error = nw.col("error_type")
    left_alone = error.is_in(["timeout", CANCELLED])
    billed = (
        error.is_null() | ~nw.col("ttft_s").is_null() | left_alone
    )  # what told its usage is known
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


def _kept(work: Work, folder: Path) -> Iterator[tuple[str, str, str, journal.JournalLine]]:
    """Walk what is kept of a plan's unfinished attempts: its name, the run, the trace, a line of it."""
    found = journal.files(folder)
    mine = {content_id(*planned.key) for planned in work} if found else set()
    for path in found:
        name, _, rest = path.stem.partition("-")
        for kept in journal.read(path) if name in mine else ():
            yield name, rest.rpartition("-")[0], kept.trace_id or path.stem, kept


def _in_spool(folder: Path) -> Iterator[AnyRecord]:
    """Walk what waits in the spool; a segment that was taken into the store meanwhile is there."""
    for segment in spool.segments(folder):
        try:
            yield from spool.read_segment(segment.path).records
        except StoreError:
            if segment.path.exists():
                raise
