"""Published figures (rows of `metric` and `value`) as one row per group, a column per metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from workbench.analysis.core.declaration import unknown_name
from workbench.analysis.core.result import label
from workbench.errors import AnalysisError


class Wide(NamedTuple):
    """Figures side by side.

    Attributes:
        frame: one row per group: the `by` columns and a column per metric; null = not published.
        units: by metric, where the frame tells them.
        notes: which groups had several values of a metric, that were averaged.
    """

    frame: pl.DataFrame
    units: dict[str, str]
    notes: tuple[str, ...]


def wide(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    need: Sequence[str],
    also: Sequence[str] = (),
) -> Wide:
    """Spread metrics to columns; several values of one are averaged, and a note says so.

    Args:
        frame: rows with the `by` columns, metric, value and maybe unit.
        by: the columns that name a group.
        need: metrics that must be there; AnalysisError names those that are.
        also: metrics that may be; null throughout where they are not.
    """
    wanted = list(dict.fromkeys((*need, *also)))
    long: pl.DataFrame = (
        frame.group_by(*by, "metric")
        .agg(nw.col("value").cast(nw.Float64).mean(), nw.col("value").count().alias("count"))
        .collect("polars")
        .to_native()
    )
    for metric in need:
        if metric not in long["metric"].to_list():
            raise AnalysisError(unknown_name("metric", metric, set(long["metric"].drop_nulls())))
    wanted_rows = long.filter(pl.col("metric").is_in(wanted))
    table = (
        wanted_rows.group_by(by)
        .agg(
            pl.col("value").filter(pl.col("metric") == metric).first().alias(metric)
            for metric in wanted
        )
        .sort(by, nulls_last=True)
        .with_columns(pl.col(wanted).fill_nan(None))
    )
    several = wanted_rows.filter(pl.col("count") > 1).sort(by, nulls_last=True)
    names = dict.fromkeys(label(row) for row in several.select(by).iter_rows())
    shown = [f"several values were averaged: {name}" for name in list(names)[:20]]
    if len(names) > 20:
        shown.append(f"several values were averaged: {len(names) - 20} more groups")
    return Wide(table, _units(frame, wanted), tuple(shown))


def _units(frame: "nw.LazyFrame[Any]", wanted: Sequence[str]) -> dict[str, str]:
    """Look up the units of metrics, where the frame tells them."""
    if "unit" not in frame.collect_schema().names():
        return {}
    grouped = frame.filter(nw.col("metric").is_in(list(wanted))).group_by("metric")
    rows = grouped.agg(nw.col("unit").max()).collect("polars").to_native()
    return {metric: unit for metric, unit in rows.iter_rows() if unit}
