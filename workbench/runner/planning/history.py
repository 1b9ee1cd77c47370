"""The history of a plan: past use of its models and attempts already made, for the preflight."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.records import Call, Configuration
from workbench.runner.planning.plan import Work
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.strategies.custom import Unimported
from workbench.spool import FINAL_ERRORS

if TYPE_CHECKING:
    import narwhals as nw

MEASURES = ("cost_usd", "input_tokens", "output_tokens", "time_s", "energy_j")
_KEYS = ["configuration_id", "item_id", "trial"]
_GROUP = ["configuration_id", "model", "provider", "strategy", "task_id", "item_id"]


def history_of(facts: "nw.LazyFrame[Any]", work: Work) -> pl.DataFrame:
    """Reduce `trace_facts` to the past use of a plan's models.

    Returns:
        One row per configuration and item: `_GROUP`, n (traces), and the mean per attempt of each
        of `MEASURES`; null = unknown for all of them. Failed attempts are left out.
    """
    import narwhals as nw

    models = sorted({c.model for c, _, _ in work.configurations})
    judge_cost = nw.coalesce(nw.col("judge_cost_usd"), nw.lit(0.0))
    means = {
        "cost_usd": nw.col("cost_usd") + judge_cost,
        "input_tokens": nw.col("input_tokens"),
        "output_tokens": nw.col("output_tokens"),
        "time_s": nw.coalesce(nw.col("working_s"), nw.col("e2e_s")),
        "energy_j": nw.col("energy_j"),
    }
    chosen = facts.filter(nw.col("model").is_in(models), nw.col("error_type").is_null())
    measures = (value.alias(name) for name, value in means.items())
    grouped = chosen.select(*map(nw.col, _GROUP), *measures).group_by(*_GROUP)
    reduced = grouped.agg(nw.len().alias("n"), *(nw.col(m).mean() for m in MEASURES))
    frame: pl.DataFrame = reduced.collect("polars").to_native()
    return frame.sort(_GROUP, nulls_last=True)


def settled_of(facts: "nw.LazyFrame[Any]", work: Work) -> pl.DataFrame:
    """List the attempts in `trace_facts` that need not be made again: `_KEYS`, each once."""
    import narwhals as nw

    ids = work.configuration_ids
    final = nw.col("error_type").is_null() | nw.col("error_type").is_in(sorted(FINAL_ERRORS))
    settled = facts.filter(
        nw.col("configuration_id").is_in(ids), final, nw.col("trial") < work.plan.trials
    )
    frame: pl.DataFrame = settled.select(*_KEYS).collect("polars").to_native()
    return frame.unique()


def refused_of(facts: "nw.LazyFrame[Any]", work: Work) -> int:
    """Count the attempts in `trace_facts` that failed for good and were never answered."""
    import narwhals as nw

    ids = work.configuration_ids
    chosen = facts.filter(nw.col("configuration_id").is_in(ids), nw.col("trial") < work.plan.trials)
    refused = chosen.filter(nw.col("error_type").is_in(sorted(FINAL_ERRORS)))
    items = [item.item_id for item in work.items]
    keys: pl.DataFrame = refused.select(*_KEYS).collect("polars").to_native()
    keys = keys.filter(pl.col("item_id").is_in(items)).unique()
    if not keys.height:
        return 0
    answered = chosen.filter(nw.col("error_type").is_null()).select(*_KEYS)
    done: pl.DataFrame = answered.collect("polars").to_native()
    return keys.join(done.unique(), on=_KEYS, how="anti").height


class CellCounts(NamedTuple):
    """A cell before its estimates; `squares` is Σ (missing trials)² over its items."""

    configuration: Configuration
    task: str
    task_id: str
    planned: int
    missing: int
    squares: float


class Source(NamedTuple):
    """The history of a cell: one row per item, with the means of `MEASURES`."""

    basis: str
    items: pl.DataFrame
    n_traces: int

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """The item means, (n_items, measures); NaN = unknown."""
        known = self.items.select(pl.col(MEASURES).cast(pl.Float64)).fill_null(np.nan)
        means: npt.NDArray[np.float64] = known.to_numpy()
        return means


def count(work: Work, settled: pl.DataFrame, waiting: Iterable[AttemptKey]) -> list[CellCounts]:
    """Count the planned and missing attempts per cell, without strategies that are not imported.

    The identity of such a strategy, and so its attempts in the store, is not known.
    """
    trials = work.plan.trials
    schema = {"configuration_id": pl.String, "item_id": pl.String, "trial": pl.Int64}
    more = pl.DataFrame(list(waiting), schema=schema, orient="row")
    known = settled.select(_KEYS).cast(schema)  # type: ignore[arg-type]  # a mapping of types
    keys = pl.concat([known, more])
    keys = keys.filter(pl.col("trial") < trials).unique()
    items = pl.DataFrame(
        [(i.item_id, i.task_id) for i in work.items], schema=["item_id", "task_id"], orient="row"
    )
    done = (
        keys.group_by("configuration_id", "item_id")
        .len("n")
        .join(items, on="item_id")
        .group_by("configuration_id", "task_id")
        .agg(
            pl.col("n").sum(),
            pl.len().alias("touched"),
            ((trials - pl.col("n").cast(pl.Int64)) ** 2).sum().alias("squares"),
        )
    )
    counts = {(c, t): rest for c, t, *rest in done.iter_rows()}
    sizes = dict(items.group_by("task_id").len().iter_rows())
    counted = []
    for configuration, _, strategy in work.configurations:
        if isinstance(strategy, Unimported):
            continue
        for task in work.tasks:
            n_items = sizes.get(task.task_id, 0)
            n, touched, squares = counts.get(
                (configuration.configuration_id, task.task_id), (0, 0, 0)
            )
            planned = trials * n_items
            squares += (n_items - touched) * trials**2
            counted.append(
                CellCounts(
                    configuration, task.task, task.task_id, planned, planned - n, float(squares)
                )
            )
    return counted


def priced(history: pl.DataFrame, price: Callable[[Call], float | None] | None) -> pl.DataFrame:
    """Price the mean attempt of rows with tokens and no cost, where the model has a price now."""
    if price is None or not history.height:
        return history
    unpriced: set[tuple[Any, Any]] = set()
    costs = []
    for row in history.iter_rows(named=True):
        cost, model = row["cost_usd"], (row["provider"], row["model"])
        known = row["input_tokens"] is not None and row["output_tokens"] is not None
        if cost is None and known and model not in unpriced:
            cost = price(
                Call(
                    provider=row["provider"],
                    model=row["model"],
                    cache_read_tokens=0,
                    input_tokens=round(row["input_tokens"]),
                    output_tokens=round(row["output_tokens"]),
                )
            )
            if cost is None:
                unpriced.add(model)
        costs.append(cost)
    return history.with_columns(pl.Series("cost_usd", costs, pl.Float64))


def nearest_source(history: pl.DataFrame, row: CellCounts) -> Source | None:
    """Return the nearest history of a cell; None where there is none."""
    c = row.configuration
    here, same = pl.col("task_id") == row.task_id, pl.col("configuration_id") == c.configuration_id
    model = (pl.col("model") == c.model) & pl.col("provider").eq_missing(pl.lit(c.provider))
    nearest = (
        ("this configuration", same & here),
        ("same model and strategy on this task", model & here & (pl.col("strategy") == c.strategy)),
        ("this configuration on other tasks", same),
        ("same model", model),
    )
    for basis, chosen in nearest:
        rows = history.filter(chosen)
        if rows.height:
            weighted = [
                (pl.col(m) * pl.col("n")).sum() / pl.col("n").filter(pl.col(m).is_not_null()).sum()
                for m in MEASURES
            ]
            known = [
                pl.when(pl.col(m).is_not_null().all()).then(w).alias(m)
                for m, w in zip(MEASURES, weighted, strict=True)
            ]
            items = rows.group_by("item_id").agg(*known).sort("item_id")
            return Source(basis, items, int(rows["n"].sum()))
    return None
