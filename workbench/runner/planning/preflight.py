"""Preflight of a plan: its expected cost, time and energy, from the history in the store.

Each configuration × task of the plan is a cell. Its missing attempts are assumed to be like those
of the nearest history in the store: of the same configuration on the task, else of the same model
and strategy on the task, else of the configuration on other tasks, else of the model (always at the
same provider).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.records import Call
from workbench.runner.planning import plan_budget
from workbench.runner.planning.history import (
    MEASURES,
    CellCounts,
    Source,
    count,
    nearest_source,
    priced,
)
from workbench.runner.planning.plan import Work
from workbench.runner.planning.plan_budget import Spent
from workbench.runner.providers.broken_requests import tokens_of
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.strategies.custom import Unimported

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 1000
_MOST_CELLS = 20_000_000  # counts drawn in all: fewer resamples for very long histories
_CHUNK_CELLS = 500_000


class Estimate(msgspec.Struct, frozen=True):
    """A sum over missing attempts, with its prediction interval.

    Attributes:
        mean: expected value; null where unknown.
        low, high: ends of the 95 % interval; null where the history has one item only.
        why: why the mean or the interval is unknown.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration on one task.

    Attributes:
        planned, there, missing: attempts; `there` and `missing` are null where the strategy is code
            that was not imported.
        basis: the history used for the estimates; null where there is none, or nothing is missing.
        n_items, n_traces: of that history.
        estimates: by measure: cost_usd (judges included), input_tokens, output_tokens, time_s
            (latencies added up, waits for slots and retries left out), energy_j.
    """

    configuration_id: str
    configuration: str
    task: str
    planned: int
    there: int | None
    missing: int | None
    basis: str | None
    n_items: int
    n_traces: int
    estimates: Mapping[str, Estimate]


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """A plan's cells, and their totals.

    Attributes:
        total: as `Cell.estimates`, over all cells; unknown as soon as one of them is.
        elapsed_s: duration of the run: the sum of the latencies divided by the number of concurrent
            attempts. Queues at the server, rate limits and retries are not included.
        warnings: budgets that will not, or may not, suffice.
        notes: sentences that explain the figures.
    """

    cells: tuple[Cell, ...]
    total: Mapping[str, Estimate]
    elapsed_s: Estimate
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def planned(self) -> int:
        """Attempts of the plan."""
        return sum(c.planned for c in self.cells)

    @property
    def missing(self) -> int | None:
        """Attempts still to be made; null where that is not known of all cells."""
        counts = [c.missing for c in self.cells if c.missing is not None]
        return sum(counts) if len(counts) == len(self.cells) else None


def estimate(
    work: Work,
    *,
    history: pl.DataFrame,
    settled: pl.DataFrame,
    waiting: Iterable[AttemptKey] = (),
    price: Callable[[Call], float | None] | None = None,
    rng: np.random.Generator,
    spent: Spent | None = None,
    limits: Mapping[str, float] | None = None,
) -> Preflight:
    """Estimate the cost, time and energy of a plan's missing attempts, without listing them.

    The interval is a prediction interval: items of the history are resampled (the same ones for
    every configuration), which varies the mean, and future items scatter around it as those of the
    history do, equally in all trials of an item and jointly in all configurations, so that totals
    add up without cancelling.

    Args:
        work: the expanded plan.
        history: as `history.history_of` returns it.
        settled: as `history.settled_of` returns it.
        waiting: settled attempts that are not in the store yet.
        price: the present cost of a call, for history without a cost.
        rng: randomness of the resamples.
        spent: amounts of the plan's budgets that earlier launches spent.
        limits: budgets of this launch alone.
    """
    counted = count(work, settled, waiting)
    history = priced(history, price)
    sources = [nearest_source(history, row) if row.missing else None for row in counted]
    draws = _draw(counted, sources, rng)
    cells = tuple(
        _cell(row, source, draws[:, place])
        for place, (row, source) in enumerate(zip(counted, sources, strict=True))
    )
    unknown = tuple(_unknown_cells(work))
    total = _totals((*cells, *unknown), draws)
    missing = sum(c.planned if c.missing is None else c.missing for c in (*cells, *unknown))
    at_once = max(1, min(work.plan.at_once, missing))
    before = spent or Spent()
    remaining = plan_budget.remaining(work.plan, before, limits or {})
    elapsed = _divided(total["time_s"], at_once)
    return Preflight(
        cells=(*cells, *unknown),
        total=total,
        elapsed_s=elapsed,
        warnings=(
            *plan_budget.describe_spent(work.plan, before),
            *_warnings(remaining, total, elapsed, missing, _least_call(work, remaining, price)),
        ),
        notes=(*_notes(cells, at_once), *_wants(work)),
    )


def _draw(
    counted: Sequence[CellCounts], sources: Sequence[Source | None], rng: np.random.Generator
) -> Floats:
    """Draw totals, (resamples, cells, measures); NaN where there is no interval."""
    ids = sorted({i for s in sources if s is not None for i in s.items["item_id"]})
    n_cells, k = len(counted), len(MEASURES)
    resamples = max(100, min(RESAMPLES, _MOST_CELLS // max(1, len(ids))))
    out = np.full((resamples, n_cells, k), np.nan)
    if not ids:
        return out
    places = {item: place for place, item in enumerate(ids)}
    tasks = sorted({row.task_id for row in counted})
    scatter = rng.standard_normal((resamples, len(tasks), k))
    known = {id(s): _columns(s, places) for s in sources if s is not None}
    means = {key: np.empty((resamples, k)) for key in known}
    chunk = max(1, _CHUNK_CELLS // len(ids))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        weights = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size).astype(float)
        for key, (values, present) in known.items():
            with np.errstate(invalid="ignore", divide="ignore"):
                means[key][start : start + size] = (weights @ values) / (weights @ present)
    for place, (row, source) in enumerate(zip(counted, sources, strict=True)):
        if source is not None:
            spread = _spread(source) * np.sqrt(row.squares)
            noise = spread * scatter[:, tasks.index(row.task_id)]
            out[:, place] = row.missing * means[id(source)] + noise
    return out


def _columns(source: Source, places: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Spread a source's item means over all items.

    Returns:
        Values and 0/1 presence, both (n_items, measures).
    """
    values = np.zeros((len(places), len(MEASURES)))
    present = np.zeros_like(values)
    rows = [places[i] for i in source.items["item_id"]]
    means = source.means
    values[rows] = np.nan_to_num(means)
    present[rows] = ~np.isnan(means)
    return values, present


def _spread(source: Source) -> Floats:
    """Standard deviation between items (ddof 1) of each measure; NaN below two items."""
    means = source.means
    n = (~np.isnan(means)).sum(axis=0)
    spread = np.full(means.shape[1], np.nan)
    for j in np.flatnonzero(n > 1):
        spread[j] = np.nanstd(means[:, j], ddof=1)
    return spread


def _cell(row: CellCounts, source: Source | None, draws: Floats) -> Cell:
    estimates = {m: _estimate(m, row, source, draws[:, k]) for k, m in enumerate(MEASURES)}
    return Cell(
        configuration_id=row.configuration.configuration_id,
        configuration=row.configuration.configuration,
        task=row.task,
        planned=row.planned,
        there=row.planned - row.missing,
        missing=row.missing,
        basis=source.basis if source is not None else None,
        n_items=source.items.height if source is not None else 0,
        n_traces=source.n_traces if source is not None else 0,
        estimates=estimates,
    )


def _unknown_cells(work: Work) -> Iterable[Cell]:
    """Yield the cells of strategies that were not imported: only `planned` is known."""
    why = Estimate(why="code that is not imported")
    sizes = Counter(item.task_id for item in work.items)
    for configuration, _, strategy in work.configurations:
        if not isinstance(strategy, Unimported):
            continue
        for task in work.tasks:
            yield Cell(
                configuration_id=configuration.configuration_id,
                configuration=configuration.configuration,
                task=task.task,
                planned=work.plan.trials * sizes[task.task_id],
                there=None,
                missing=None,
                basis=None,
                n_items=0,
                n_traces=0,
                estimates=dict.fromkeys(MEASURES, why),
            )


def _wants(work: Work) -> Iterable[str]:
    """Describe the permissions that a collection will ask for."""
    for permission in work.wants:
        yield f"not trusted yet, and asked before it is collected: {permission.sentence}"


_WHY = {"cost_usd": "no price", "energy_j": "not measured", "time_s": "not timed"}


def _estimate(measure: str, row: CellCounts, source: Source | None, draws: Floats) -> Estimate:
    if not row.missing:
        return Estimate(0.0, 0.0, 0.0)
    if source is None:
        return Estimate(why="no history")
    mean = source.items[measure].mean()
    if not isinstance(mean, int | float):
        return Estimate(why=_WHY.get(measure, "not reported"))
    return _interval(row.missing * float(mean), draws)


def _interval(mean: float, draws: Floats) -> Estimate:
    """Return the mean with the interval between the tails; a sum of costs is never below zero."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Estimate(mean, why="one item is no interval")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, min(max(0.0, float(low)), mean), max(float(high), mean))


def _totals(cells: Sequence[Cell], draws: Floats) -> dict[str, Estimate]:
    """Add up the cells with missing attempts."""
    chosen = [cell for cell in cells if cell.missing != 0]
    places = [place for place, cell in enumerate(cells) if cell.missing]
    return {m: _total(m, chosen, draws[:, places, k]) for k, m in enumerate(MEASURES)}


def _total(measure: str, cells: Sequence[Cell], draws: Floats) -> Estimate:
    """Add up one measure of the cells, draw by draw."""
    if not cells:
        return Estimate(0.0, 0.0, 0.0)
    parts = [c.estimates[measure] for c in cells]
    unknown = [(c, p) for c, p in zip(cells, parts, strict=True) if p.mean is None]
    if unknown:
        reasons = "; ".join(dict.fromkeys(p.why or "" for _, p in unknown))
        known = sum(p.mean for p in parts if p.mean is not None)
        at_least = f", the rest comes to {known:.6g}" if len(unknown) < len(cells) else ""
        return Estimate(why=f"{reasons} for {len(unknown)} of {len(cells)} rows{at_least}")
    mean = sum(p.mean for p in parts if p.mean is not None)
    if any(p.low is None for p in parts):
        return Estimate(mean, why="one item is no interval")
    return _interval(mean, draws.sum(axis=1))


def _least_call(
    work: Work, limits: Iterable[str], price: Callable[[Call], float | None] | None
) -> dict[str, float]:
    """Return the room that the smallest first call of a plan takes, by name of the budget."""
    amounts = {"budget_tokens": tokens_of} | ({"budget_usd": price} if price else {})
    calls = [plan_budget.typical(target, 1) for _, target, _ in work.configurations]
    least = {}
    for name in amounts.keys() & set(limits):
        known = [a for a in map(amounts[name], calls) if a is not None]
        if known:
            least[name] = min(known)
    return least


def _warnings(
    remaining: Mapping[str, float],
    total: Mapping[str, Estimate],
    elapsed: Estimate,
    missing: int,
    least_call: Mapping[str, float],
) -> Iterable[str]:
    """Describe the budgets that will not, or may not, suffice."""
    tokens = _add(total["input_tokens"], total["output_tokens"])
    estimates = {
        "budget_usd": total["cost_usd"],
        "budget_tokens": tokens,
        "budget_j": total["energy_j"],
        "budget_time_s": elapsed,
    }
    for name, text in plan_budget.TEXTS.items():
        limit, expected = remaining.get(name), estimates[name]
        if limit is None or not missing:
            continue
        least = least_call.get(name, 0.0)
        if least > limit:
            advice = "raise it" if name == "budget_usd" else "raise it or lower max_tokens"
            yield (
                f"{name} = {text.format(limit)} has no room for one call, which may take"
                f" {text.format(least)}: nothing will be collected; {advice}"
            )
        elif expected.mean is None:
            yield f"whether {name} = {text.format(limit)} will do is not known: {expected.why}"
        elif expected.mean > limit:
            n_affordable = int(missing * limit / expected.mean)
            yield (
                f"{name} = {text.format(limit)} will not do: {text.format(expected.mean)} expected;"
                f" it ends after about {n_affordable:,} of {missing:,} attempts"
            )
        elif expected.high is not None and expected.high > limit:
            yield (
                f"{name} = {text.format(limit)} may not do: {text.format(expected.mean)} expected,"
                f" up to {text.format(expected.high)}"
            )


def _divided(total: Estimate, by: int) -> Estimate:
    mean, low, high = (None if v is None else v / by for v in (total.mean, total.low, total.high))
    return Estimate(mean, low, high, total.why)


def _add(one: Estimate, other: Estimate) -> Estimate:
    """Add input and output tokens and the ends of their intervals, as both grow with hard items."""
    if one.mean is None or other.mean is None:
        return Estimate(why=one.why or other.why)
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(one.mean + other.mean, why=one.why or other.why)
    return Estimate(one.mean + other.mean, one.low + other.low, one.high + other.high)


def _notes(cells: Sequence[Cell], at_once: int) -> Iterable[str]:
    if any(c.missing for c in cells):
        yield (
            f"elapsed time is the latencies added up over {at_once:,} at once; waits at the server,"
            " rate limits and retries are not in it"
        )
    if any(c.missing and c.basis is None for c in cells):
        yield "— without history: --pilot N makes the first N items, then shows the estimate"
