"""Cost history of attempts per item and group, for plans of further ones."""

import dataclasses
import functools
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import narwhals as nw

Known = Mapping[str, Any]
_PAIRED = " → "  # between two groups that are named in one cell


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Group of traces, by values of columns or by its label.

    Attributes:
        values: by column of `by`; null is a value.
        label: the group's name in place of its values, "" where they are given.
    """

    values: Known
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptCost:
    """Cost of all attempts of a group, including failed ones.

    Attributes:
        rows: traces, or calls where the rows are of calls.
        items: distinct items; None where they were not counted.
        trials: mean scored attempts of an item; None where no outcome was asked for.
        per_row: dollars, joules and seconds ("usd", "j", "s") of a row, the mean of those of known
            cost; what no row tells is not there.
        noise: what the spread between an item's trials adds to the variance of the mean outcome:
            Σ s_i² / K_i / n²; None where most items have a single one, or no outcome was asked for.
    """

    rows: int
    items: int | None
    trials: float | None
    per_row: dict[str, float]
    noise: float | None


def named_groups(cells: Sequence[object], within: Known) -> list[Group]:
    """Read the groups that the cells of a row name; a cell may hold two with an arrow between."""
    names = [name for cell in cells if cell is not None for name in str(cell).split(_PAIRED)]
    return [Group(within, name) for name in dict.fromkeys(names)]


def attempt_costs(
    lazy: "nw.LazyFrame[Any]",
    by: Sequence[str],
    groups: Sequence[Group],
    outcome: str | None,
    *,
    counted: bool = False,
) -> list[AttemptCost | None]:
    """Add up what groups have cost, in one pass over the rows of these groups.

    Args:
        lazy: rows of a view of traces, calls, tool calls or energy.
        by: the columns that name a group.
        groups: the groups, none of them twice.
        outcome: the column whose spread between trials is asked for: passed or score.
        counted: whether it is known how many traces an item has; items are not counted then, if
            rows are traces.

    Returns:
        One per group; None where it has no row, or rows tell no items.
    """
    present = lazy.collect_schema().names()
    if "item_id" not in present or not groups:
        return [None] * len(groups)
    costs = _costs(present)
    if outcome is not None and (outcome not in present or "call_id" in present):
        outcome = None
    tests = [_is(group, by) for group in groups]
    everything = any(not group.values and not group.label for group in groups)
    chosen = lazy if everything else lazy.filter(functools.reduce(operator.or_, tests))
    which: Any = nw.lit(len(tests) - 1)
    for place in reversed(range(len(tests) - 1)):
        which = nw.when(tests[place]).then(nw.lit(place)).otherwise(which)
    fields = {f"_{key}": nw.col(name).cast(nw.Float64) for key, name in costs.items()}
    fields |= {} if outcome is None else {"_x": nw.col(outcome).cast(nw.Float64)}
    # Few steps: DuckDB plans each of them anew.
    rows = chosen.select("item_id", *_once(present), which.alias("_which"), **fields)
    if _once(present):
        rows = rows.unique("trace_id")
    if outcome is None:
        grouped = _whole(rows, costs, items=not counted or "call_id" in present)
    else:
        grouped = _per_group(_per_item(rows, costs), costs)
    row_of = {row["_which"]: row for row in grouped.iter_rows(named=True)}
    return [_attempt_cost(row_of[j], costs) if j in row_of else None for j in range(len(groups))]


def _once(present: Collection[str]) -> list[str]:
    """Name what rows must not repeat: those of tools repeat the cost of their trace."""
    return ["trace_id"] if {"tool_call_id", "trace_cost_usd"} <= set(present) else []


def _costs(present: Collection[str]) -> dict[str, str]:
    """Name the columns whose sums are costs, where every row counts once."""
    dollars = "trace_cost_usd" if "trace_cost_usd" in present else "cost_usd"
    names = {"usd": dollars, "j": "energy_j", "s": "e2e_s"}
    if "phase" in present:  # one row per phase and device: a call's time is repeated
        names = {"j": "energy_j"}
    elif "tool_call_id" in present:
        names = {"usd": dollars} if dollars == "trace_cost_usd" else {}
    return {key: name for key, name in names.items() if name in present}


def _is(group: Group, by: Sequence[str]) -> Any:
    """Whether a row is of the group."""
    tests = [
        nw.col(column).is_null() if value is None else nw.col(column) == value
        for column, value in group.values.items()
    ]
    if group.label:
        columns = [c for c in by if c not in group.values] or list(by)
        texts = [nw.col(c).cast(nw.String).fill_null("—") for c in columns]
        name = texts[0] if len(texts) == 1 else nw.concat_str(texts, separator=" · ")
        tests.append(name == group.label)
    return functools.reduce(operator.and_, tests) if tests else nw.lit(value=True)


def _sums(costs: Mapping[str, str]) -> list[Any]:
    """Add up costs, and count where they are known."""
    return [
        part
        for key in costs
        for part in (nw.col(f"_{key}").sum(), nw.col(f"_{key}").count().alias(f"_{key}_known"))
    ]


def _whole(rows: "nw.LazyFrame[Any]", costs: Mapping[str, str], *, items: bool) -> Any:
    """Add up groups at once, where trials do not matter."""
    distinct = [nw.col("item_id").n_unique().alias("_items")] if items else []
    summed = rows.group_by("_which").agg(nw.len().alias("_n"), *distinct, *_sums(costs))
    return summed.collect("polars").to_native()


def _per_item(rows: "nw.LazyFrame[Any]", costs: Mapping[str, str]) -> "nw.LazyFrame[Any]":
    """Add up items, with the variance of the mean of an item's trials.

    s² / K = (Σx² − (Σx)² / K) / (K (K − 1)).
    """
    summed = (
        rows.with_columns(_xx=nw.col("_x") * nw.col("_x"))
        .group_by("_which", "item_id")
        .agg(
            nw.len().alias("_n"),
            nw.col("_x").count().cast(nw.Float64).alias("_k"),
            nw.col("_x").sum(),
            nw.col("_xx").sum(),
            *_sums(costs),
        )
    )
    k = nw.col("_k")
    squares = nw.col("_xx") - nw.col("_x") * nw.col("_x") / k
    return summed.with_columns(
        _noise=nw.when(k > 1).then(squares / (k * (k - 1))),
        _several=nw.when(k > 1).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
        _scored=nw.when(k > 0).then(nw.lit(1.0)).otherwise(nw.lit(0.0)),
    )


def _per_group(items: "nw.LazyFrame[Any]", costs: Mapping[str, str]) -> Any:
    sums = ["_n", "_k", "_noise", "_several", "_scored"]
    sums += [name for key in costs for name in (f"_{key}", f"_{key}_known")]
    grouped = items.group_by("_which").agg(
        nw.len().alias("_items"), *[nw.col(c).cast(nw.Float64).sum().alias(c) for c in sums]
    )
    return grouped.collect("polars").to_native()


def _attempt_cost(row: Mapping[str, Any], costs: Mapping[str, str]) -> AttemptCost:
    per_row = {key: row[f"_{key}"] / row[f"_{key}_known"] for key in costs if row[f"_{key}_known"]}
    scored = row.get("_scored", 0.0)
    several = row.get("_several", 0.0)
    noise = None
    if several and several >= scored / 2:  # items of one trial are taken to be like the others
        noise = max(row["_noise"] / several / scored, 0.0)
    trials = row["_k"] / scored if scored else None
    items = row.get("_items")
    return AttemptCost(
        int(row["_n"]), None if items is None else int(items), trials, per_row, noise
    )
