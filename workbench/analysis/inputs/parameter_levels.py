"""Parameter levels: groups that were tried at several levels of a budget or parameter."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import Items, reduce_items
from workbench.errors import AnalysisError

_PARAMS = "strategy_params"
NOT_EVERYWHERE = "items that not every level was tried on"


class LevelledGroup(NamedTuple):
    """One group.

    Attributes:
        names: its names, a frame of one row.
        levels: rising; the panel's groups in this order.
        panel: the items that every level was tried on.
    """

    names: pl.DataFrame
    levels: list[float]
    panel: Panel


class LevelledGroups(NamedTuple):
    """The groups with at least two levels; those with one; what was left out."""

    several: list[LevelledGroup]
    single: list[pl.DataFrame]
    dropped: dict[str, int]


def levelled_groups(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    axis: str,
    measures: Sequence[str],
    options: Mapping[str, Any],
) -> LevelledGroups:
    """Line each group's levels up on the items that all of them were tried on.

    Args:
        frame: rows of `trace_details`.
        by: the columns that name a group; they must leave the level out.
        axis: a numeric column, or a parameter of strategies.
        measures: what is averaged beside the outcome.
        options: errors_as_wrong of the analysis.
    """
    present = frame.collect_schema().names()
    column = _column(frame, by, axis)
    if column not in present:
        frame = frame.with_columns(nw.lit(None, nw.String).alias(column))
    items = reduce_items(frame, (*by, column), measures, errors_as_wrong=options["errors_as_wrong"])
    counted_rows = items.frame.filter(pl.col("n") > 0)
    counted = int(counted_rows["n"].sum())
    levelled = _levelled(counted_rows, by, column, axis, items.measures)
    dropped = items.dropped() | {f"traces without {axis}": counted - int(levelled["n"].sum())}
    dropped[NOT_EVERYWHERE] = 0
    several = []
    single = []
    for _, part in levelled.group_by(by, maintain_order=True):
        names = part.head(1).select(by)
        if part["_level"].n_unique() < 2:
            single.append(names)
            continue
        group = _group(names, dataclasses.replace(items, frame=part, by=("_level",)))
        dropped[NOT_EVERYWHERE] += part["item_id"].n_unique() - group.panel.items.height
        if group.panel.items.height:
            several.append(group)
    return LevelledGroups(several, single, dropped)


def level_counts(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], axis: str, *, errors_as_wrong: bool
) -> pl.DataFrame:
    """Count each group's levels, without a look at items: `by` and `n_levels`, groups with any."""
    present = frame.collect_schema().names()
    column = _column(frame, by, axis)
    if column not in present:
        frame = frame.with_columns(nw.lit(None, nw.String).alias(column))
    scored = ~nw.col("passed").is_null() if "passed" in present else nw.lit(value=False)
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    fine = scored | failed if errors_as_wrong else scored & ~failed
    rows: pl.DataFrame = (
        frame.filter(fine).select(*by, column).unique().collect("polars").to_native()
    )
    level = _level(rows[column], axis if column == _PARAMS else None)
    known = rows.select(*by, level.alias("_level")).drop_nulls("_level")
    return known.group_by(by).agg(n_levels=pl.col("_level").n_unique()).sort(by, nulls_last=True)


def _column(frame: "nw.LazyFrame[Any]", by: Sequence[str], axis: str) -> str:
    """Return the column from which the levels are read."""
    column = axis if axis in frame.collect_schema().names() else _PARAMS
    if column in by:
        raise AnalysisError(
            f"by: {column} is what varies along the levels; group by what stays the same, as model"
        )
    return column


def _level(values: pl.Series, parameter: str | None) -> pl.Series:
    """Read levels off a column of numbers, or off the parameters of strategies."""
    if parameter is None:
        return values.cast(pl.Float64, strict=False)
    levels = {text: _read(text, parameter) for text in values.unique().drop_nulls().to_list()}
    return values.replace_strict(levels, default=None, return_dtype=pl.Float64)


def single_level_groups(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    measures: Sequence[str],
    options: Mapping[str, Any],
) -> LevelledGroups:
    """Take every group as a ladder of one level, 0; none is `single`."""
    items = reduce_items(frame, by, measures, errors_as_wrong=options["errors_as_wrong"])
    counted_rows = items.frame.filter(pl.col("n") > 0).with_columns(_level=pl.lit(0.0))
    parts = counted_rows.group_by(by, maintain_order=True)
    groups = [
        _group(part.head(1).select(by), dataclasses.replace(items, frame=part, by=("_level",)))
        for _, part in parts
    ]
    return LevelledGroups(groups, [], items.dropped())


def _group(names: pl.DataFrame, items: Items) -> LevelledGroup:
    panel = build(items).parts[0][1]
    shared = panel.restrict(panel.everywhere)
    return LevelledGroup(names, panel.groups["_level"].to_list(), shared)


def _levelled(
    rows: pl.DataFrame, by: Sequence[str], column: str, axis: str, measures: Sequence[str]
) -> pl.DataFrame:
    """Add `_level`, and join the rows that have the same one; rows without it are left out."""
    level = _level(rows[column], axis if column == _PARAMS else None)
    keyed = rows.with_columns(level.alias("_level")).filter(pl.col("_level").is_not_null())
    keys = list(dict.fromkeys((*by, "_level", "item_id")))
    sums = [c for c in rows.columns if c.startswith("n_") or c in {"n", "outcome"}]
    sums += [f"{m}{end}" for m in measures for end in ("_sum", "_known")]
    rest = [c for c in keyed.columns if c not in {*keys, *sums, column}]
    return (
        keyed.group_by(keys, maintain_order=True)
        .agg(pl.col(sums).sum(), pl.col(rest).max())
        .sort(keys, nulls_last=True)
    )


def _read(text: str, axis: str) -> float | None:
    try:
        value = json.loads(text).get(axis)
    except (ValueError, AttributeError):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None
