"""Reduce stage of every analysis: traces → one row per group and item.

Written once in narwhals over `trace_facts`, so that it runs inside DuckDB for a relation and in
Polars for a frame; only its small result is fetched.

`counted_traces` defines which traces count. A failed trace (`error_type` set) and an unscored one
say nothing about the answer and are left out and counted; `errors_as_wrong` scores failed ones 0
instead. Where an analysis sets a cost against a score, traces without that cost are left out of
both, so that the two speak of the same traces. Trials weigh within their item: means are taken per
item first and then over items, independent of the number of trials.
"""

import dataclasses
import functools
import operator
from collections.abc import Collection, Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core import entry_columns
from workbench.analysis.core.declaration import SCORES, unknown_name
from workbench.analysis.core.entry_columns import SETTINGS
from workbench.analysis.core.options import MEASURES
from workbench.analysis.inputs import counted_traces, engine
from workbench.errors import AnalysisError

Outcome = Literal["passed", "score"]


def check_measure(frame: "nw.LazyFrame[Any]", name: str, what: str = "measure") -> None:
    """Check that rows have a measure: a cost, a metric of a scorer, or a number that was set.

    Raises:
        AnalysisError: there is no such measure, with the nearest, or it is text.
    """
    schema = frame.collect_schema()
    is_entry = entry_columns.is_entry_column(name)
    if is_entry and name not in schema:
        raise AnalysisError(entry_columns.missing_column(name))
    if name not in schema or not (name in MEASURES or name in SETTINGS or is_entry):
        known = {*SCORES, *MEASURES} & {*SCORES, *schema}
        raise AnalysisError(unknown_name(what, name, known))
    if is_entry and not schema[name].is_numeric():
        raise AnalysisError(
            f"{what} {name}: not all of its values are numbers; group by it instead"
        )


ABOUT = {"task": pl.String, "item": pl.String, "human_cost_usd": pl.Float64}  # an item
ALONE = "item "  # begins the names of clusters that are items by themselves
_COUNTS = ("n_traces", "n_failed", "n_unscored", "n_missing", "n", "n_scored")


@dataclasses.dataclass(frozen=True, slots=True)
class Items:
    """Traces reduced to items.

    Attributes:
        frame: one row per group and item, sorted: the `by` columns; `item_id`; of what is known of
            the item what was asked for, and `_cluster`, unique over tasks; `n_traces`, `n_failed`,
            `n_unscored`, `n_missing` (a required measure is unknown), `n` (those that count),
            `n_scored`; `outcome`, the sum over the scored ones; and per measure `{m}_sum` and
            `{m}_known`, its sum and the number of traces that it is known of.
        by: the columns that name a group.
        measures: the measures reduced.
        require: the measures that a trace must have to count.
        errors_as_wrong: whether failed traces count, as wrong.
        scored: whether a trace must have an outcome to count.
    """

    frame: pl.DataFrame
    by: tuple[str, ...]
    measures: tuple[str, ...]
    require: tuple[str, ...]
    errors_as_wrong: bool
    scored: bool

    def dropped(self) -> dict[str, int]:
        """Count the traces that were left out, by reason in words."""
        totals = self.frame.select(pl.col("n_failed", "n_unscored", "n_missing").sum()).row(0)
        missing = " or ".join(self.require) or "a measure"
        return {
            "failed traces": 0 if self.errors_as_wrong else int(totals[0] or 0),
            "unscored traces": int(totals[1] or 0) if self.scored else 0,
            f"traces without {missing}": int(totals[2] or 0),
        }


def reduce_items(
    traces: "nw.LazyFrame[Any]",
    by: Sequence[str],
    measures: Sequence[str] = (),
    *,
    outcome: Outcome = "passed",
    errors_as_wrong: bool = False,
    require: Sequence[str] = (),
    scored: bool = True,
    about: Sequence[str] = (),
) -> Items:
    """Group traces by `by` and item.

    Args:
        traces: rows of `trace_facts`; columns that are absent count as unknown throughout.
        by: the columns that name a group.
        measures: numeric columns to sum.
        outcome: `passed` as 0 or 1, or `score`.
        errors_as_wrong: count failed traces, with an outcome of 0.
        require: columns that a trace must have a value in to count.
        scored: whether a trace must have an outcome to count.
        about: what to keep of the item besides its cluster, of `ABOUT`. Of many items it is much.
    """
    counted = _counted(
        traces, outcome=outcome, errors_as_wrong=errors_as_wrong, require=require, scored=scored
    )
    # No name holds on to the frame as it came: two of a large one need not fit at once.
    # What a trace must have is known of all that count.
    counting = [m for m in measures if m not in require]
    grouped = _grouped(counted, by, measures, counting, about)
    frame = _tidy(engine.collect(grouped), by, measures, (*counting, *about))
    return Items(frame, tuple(by), tuple(measures), tuple(require), errors_as_wrong, scored)


def mean_measure(
    traces: "nw.LazyFrame[Any]",
    by: Sequence[str],
    measure: str,
    *,
    outcome: Outcome = "passed",
    errors_as_wrong: bool = False,
) -> pl.DataFrame:
    """Average a measure over the scored traces that have it: rows of `by` and `mean`, unsorted."""
    counted = _counted(
        traces, outcome=outcome, errors_as_wrong=errors_as_wrong, require=(measure,), scored=True
    )
    if measure not in traces.collect_schema().names():
        counted = counted.with_columns(nw.lit(None, nw.Float64).alias(measure))
    used = counted.filter(nw.col("_n") == 1)
    means = used.group_by(*by).agg(nw.col(measure).cast(nw.Float64).mean().alias("mean"))
    frame: pl.DataFrame = means.collect("polars").to_native()
    return frame


def reduce_counts(
    traces: "nw.LazyFrame[Any]", items: Items, by: Sequence[str], *, fetched: Sequence[str] = ()
) -> pl.DataFrame:
    """Count the scored traces of every reduced item by something finer, as its answers.

    Args:
        traces: rows of `trace_facts`.
        items: the same traces, reduced.
        by: what tells traces of an item apart.
        fetched: which of these columns are fetched; the others only separate.

    Returns:
        `_at`, the row of the item in `items.frame`; the fetched columns; `n_scored`; `outcome`
        (passed traces); in no order.
    """
    grouped = _scored(traces, items).group_by(*items.by, "_item", *by)
    counts = grouped.agg(nw.len().alias("n_scored"), nw.col("_outcome").sum().alias("outcome"))
    rows = engine.collect(counts.select(*items.by, "_item", *fetched, "n_scored", "outcome"))
    return _placed(rows, items).with_columns(
        pl.col("n_scored").cast(pl.Int64), pl.col("outcome").cast(pl.Float64)
    )


def scored_rows(traces: "nw.LazyFrame[Any]", items: Items, columns: Sequence[str]) -> pl.DataFrame:
    """Fetch the scored traces of reduced items: `_at` as in `reduce_counts`, columns, `outcome`."""
    rows = _scored(traces, items).with_columns(outcome=nw.col("_outcome"))
    return _placed(engine.collect(rows.select(*items.by, "_item", *columns, "outcome")), items)


def _scored(traces: "nw.LazyFrame[Any]", items: Items) -> "nw.LazyFrame[Any]":
    counted = _counted(
        traces, outcome="passed", errors_as_wrong=items.errors_as_wrong, require=(), scored=True
    )
    return counted.filter(nw.col("_n_scored") > 0).with_columns(_item=nw.col("item_id"))


def _placed(rows: pl.DataFrame, items: Items) -> pl.DataFrame:
    """Replace the names of group and item by the row in `items.frame`, which is in their order."""
    frame = items.frame
    by = list(items.by)
    listed = frame["item_id"].unique().drop_nulls().sort()
    words = pl.Enum(listed)
    # Groups in the order of the frame, and the columns as the rows have them.
    groups = frame.select(by).unique(maintain_order=True).with_row_index("_group")
    typed = groups.cast({c: rows.schema[c] for c in by if rows.schema[c] == pl.Categorical})

    def cell(of: pl.DataFrame, item: str, names: pl.DataFrame) -> pl.Series:
        group = of.select(by).join(
            names, on=by, how="left", nulls_equal=True, maintain_order="left"
        )["_group"]
        place = of[item].cast(pl.Categorical).cast(words).to_physical().cast(pl.Int64)
        return group.cast(pl.Int64) * (len(listed) + 1) + place.fill_null(len(listed))

    cells = cell(frame, "item_id", groups).to_numpy()  # they rise
    row_cells = cell(rows, "_item", typed).to_numpy()
    if len(groups) * (len(listed) + 1) <= 4 * (len(cells) + len(row_cells)):
        at = np.full(len(groups) * (len(listed) + 1), -1)
        at[cells] = np.arange(len(cells))
        at = at[row_cells]
    else:  # of many groups with few items each most cells are empty
        at = np.searchsorted(cells, row_cells)
    return rows.drop(*by, "_item", strict=False).with_columns(_at=pl.Series(at, dtype=pl.Int64))


def _grouped(
    counted: "nw.LazyFrame[Any]",
    by: Sequence[str],
    measures: Sequence[str],
    counting: Sequence[str],
    about: Sequence[str],
) -> "nw.LazyFrame[Any]":
    """Add up counted traces per group and item, and count known values of some measures."""
    present = set(counted.collect_schema().names())
    have = [m for m in measures if m in present]
    named = {a: a for a in about if a in present and a not in by}
    named |= {"_cluster": "_cluster"} if "cluster" in present else {}
    uses = nw.col("_n") == 1
    return (
        counted.with_columns(
            nw.col("item_id").alias("_item"),
            *([cluster(present)] if "cluster" in present else []),
            *[nw.when(uses).then(nw.col(m).cast(nw.Float64)).alias(f"_m_{m}") for m in have],
        )
        .group_by(*by, "_item")
        .agg(
            nw.len().alias("n_traces"),
            *[nw.col(f"_{c}").sum().alias(c) for c in _COUNTS[1:]],
            nw.col("_outcome").sum().alias("outcome"),
            *[nw.col(a).max().alias(name) for name, a in named.items()],
            *[nw.col(f"_m_{m}").sum().alias(f"{m}_sum") for m in have],
            *[nw.col(f"_m_{m}").count().alias(f"{m}_known") for m in have if m in counting],
        )
    )


def cluster(present: Collection[str]) -> "nw.Expr":
    """Name the cluster, which is only unique within its task; null where the item stands alone."""
    task = nw.col("task_id").cast(nw.String).fill_null("") if "task_id" in present else nw.lit("")
    name = nw.col("cluster").cast(nw.String)
    whole = nw.concat_str(nw.lit("cluster "), task, nw.lit(" "), name)
    return nw.when(~nw.col("cluster").is_null()).then(whole).alias("_cluster")


def _counted(
    traces: "nw.LazyFrame[Any]",
    *,
    outcome: Outcome,
    errors_as_wrong: bool,
    require: Sequence[str],
    scored: bool,
) -> "nw.LazyFrame[Any]":
    """Mark with 0 or 1 which traces count and why others do not."""
    traces = counted_traces.counting(traces)
    present = set(traces.collect_schema().names())
    no = nw.lit(value=False)
    failed = ~nw.col("error_type").is_null() if "error_type" in present else no
    missing = functools.reduce(
        operator.or_, [nw.col(r).is_null() for r in require if r in present], no
    )
    if not set(require) <= present:
        missing = nw.lit(value=True)
    if outcome in present:
        value = nw.col(outcome).cast(nw.Float64)
        known = ~nw.col(outcome).is_null()
    else:
        value = nw.lit(0.0)
        known = no
    if errors_as_wrong:
        value, known = nw.when(failed).then(nw.lit(0.0)).otherwise(value), known | failed
    done = ~no if errors_as_wrong else ~failed
    fits = done & known if scored else done
    used = fits & ~missing
    flags = {
        "_n_failed": failed,
        "_n_unscored": done & ~known,
        "_n_missing": fits & missing,
        "_n": used,
        "_n_scored": used & known,
    }
    return traces.with_columns(
        _outcome=nw.when(used & known).then(value),
        **{
            # Sums of whole numbers are 128 bits wide in DuckDB.
            name: nw.when(flag).then(nw.lit(1.0)).otherwise(nw.lit(0.0))
            for name, flag in flags.items()
        },
    )


def _tidy(
    frame: pl.DataFrame, by: Sequence[str], measures: Sequence[str], counted: Collection[str]
) -> pl.DataFrame:
    """Normalise the results of engines: types, order, and a null sum where nothing is known.

    Args:
        frame: as grouped.
        by: the columns that name a group.
        measures: what was summed.
        counted: the measures with counts (the others are known of all), and columns of items.
    """
    counting = [m for m in measures if m in counted]
    dtypes: dict[str, pl.DataType | type[pl.DataType]] = {f"{m}_known": pl.Int64 for m in counting}
    dtypes |= {f"{m}_sum": pl.Float64 for m in measures}
    dtypes |= {a: dtype for a, dtype in ABOUT.items() if a in counted} | {"_cluster": pl.String}
    dtypes |= dict.fromkeys(_COUNTS, pl.Int64) | {"outcome": pl.Float64}
    frame = frame.with_columns(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in dtypes.items()
        if name not in by and frame.schema.get(name) != pl.Categorical
    ).with_columns(
        *[pl.col(f"{m}_known").fill_null(0) for m in counting],
        *[pl.col("n").alias(f"{m}_known") for m in measures if m not in counted],
    )
    frame = frame.with_columns(
        *[pl.when(pl.col(f"{m}_known") > 0).then(f"{m}_sum").alias(f"{m}_sum") for m in measures],
        outcome=pl.when(pl.col("n_scored") > 0).then("outcome"),
    )
    frame = engine.spelled(engine.sort(frame, (*by, "_item")))
    alone = pl.concat_str(pl.lit(ALONE), pl.col("_item").cast(pl.String))
    frame = frame.with_columns(_cluster=pl.coalesce("_cluster", alone))
    return frame if "item_id" in by else frame.rename({"_item": "item_id"})


def reduce_repeats(
    traces: "nw.LazyFrame[Any]",
    by: Sequence[str],
    repeat: str = "trial",
    *,
    unit: str = "task",
    outcome: Outcome = "passed",
    errors_as_wrong: bool = False,
) -> pl.DataFrame:
    """Average the outcome over all traces of a repeat: one row per group, unit and repeat.

    Args:
        traces: rows of `trace_facts`.
        by: the columns that name a group.
        repeat: the column that tells repeats apart.
        unit: what a repeat is scored on: task, or item_id.
        outcome: `passed` as 0 or 1, or `score`.
        errors_as_wrong: count failed traces, with an outcome of 0.

    Returns:
        The `by` columns, `_unit`, `_repeat`, `n` traces, `score` their mean; sorted.
    """
    counted = _counted(
        traces, outcome=outcome, errors_as_wrong=errors_as_wrong, require=(), scored=True
    )
    present = set(traces.collect_schema().names())
    keys = {"_unit": unit, "_repeat": repeat}
    marked = counted.filter(nw.col("_n") == 1).with_columns(
        **{
            name: (nw.col(column) if column in present else nw.lit(None)).cast(nw.String)
            for name, column in keys.items()
        }
    )
    grouped = marked.group_by(*by, *keys).agg(
        nw.len().alias("n"), nw.col("_outcome").mean().alias("score")
    )
    frame: pl.DataFrame = grouped.collect("polars").to_native()
    return frame.sort(*by, *keys, nulls_last=True)


def mean_repeats(
    traces: "nw.LazyFrame[Any]",
    by: Sequence[str],
    repeat: str = "trial",
    *,
    errors_as_wrong: bool = False,
) -> pl.DataFrame:
    """Average the items of every repeat: one row per group and repeat.

    Args:
        traces: rows of `trace_facts`.
        by: the columns that name a group.
        repeat: the column that tells repeats apart; where it is null a trace is of none.
        errors_as_wrong: count failed traces, as wrong.

    Returns:
        The `by` columns, `_repeat`, `n_items`, `score` 0..1; sorted.
    """
    counted = _counted(
        traces, outcome="passed", errors_as_wrong=errors_as_wrong, require=(), scored=True
    )
    if repeat not in traces.collect_schema().names():
        counted = counted.with_columns(nw.lit(None, nw.String).alias(repeat))
    used = counted.filter((nw.col("_n") == 1) & ~nw.col(repeat).is_null())
    marked = used.with_columns(_repeat=nw.col(repeat).cast(nw.String), _item=nw.col("item_id"))
    items = marked.group_by(*by, "_repeat", "_item").agg(nw.col("_outcome").mean().alias("score"))
    grouped = items.group_by(*by, "_repeat").agg(nw.len().alias("n_items"), nw.col("score").mean())
    frame: pl.DataFrame = grouped.collect("polars").to_native()
    return frame.sort(*by, "_repeat", nulls_last=True)


def quantiles(
    traces: "nw.LazyFrame[Any]",
    by: Sequence[str],
    wanted: Sequence[tuple[str, float, str]],
    *,
    errors_as_wrong: bool = False,
) -> pl.DataFrame:
    """Compute quantiles over a group's traces, with equal weights of all trials; one row per group.

    Args:
        traces: rows of `trace_facts`.
        by: the columns that name a group.
        wanted: (column, probability, name of the result); linear between order statistics.
        errors_as_wrong: whether failed traces count.
    """
    traces = counted_traces.counting(traces)
    present = set(traces.collect_schema().names())
    if "error_type" in present and not errors_as_wrong:
        traces = traces.filter(nw.col("error_type").is_null())
    have = [w for w in wanted if w[0] in present]
    grouped = traces.group_by(*by).agg(
        nw.len().alias("_n"),
        *[
            nw.col(column).cast(nw.Float64).quantile(q, interpolation="linear").alias(name)
            for column, q, name in have
        ],
    )
    frame: pl.DataFrame = grouped.collect("polars").to_native().drop("_n")
    absent = [name for column, _, name in wanted if column not in present]
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in absent)
