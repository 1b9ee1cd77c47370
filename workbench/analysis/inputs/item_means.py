"""Item means per group, with clustered standard errors, without a matrix."""

from collections.abc import Sequence

import polars as pl

from workbench.analysis.inputs.reduce import ALONE, Items


def item_means(items: Items) -> pl.DataFrame:
    """Average trials within their item: a column per measure, and `outcome_mean`; null: unknown."""
    return items.frame.with_columns(
        *[
            pl.when(pl.col(f"{m}_known") > 0)
            .then(pl.col(f"{m}_sum") / pl.col(f"{m}_known"))
            .alias(m)
            for m in items.measures
            if m not in items.by
        ],
        outcome_mean=pl.when(pl.col("n_scored") > 0).then(pl.col("outcome") / pl.col("n_scored")),
    )


def clustered(frame: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Average a column over the items of a group.

    Args:
        frame: one row per group and item, with its `_cluster`.
        by: the columns that name a group.
        value: the column; null = unknown.

    Returns:
        One row per group that has a known value: `by`, mean, se (`intervals.clustered_se`;
        null below two clusters), bend (`intervals.bend`), n_items, n_clusters.
    """
    few = frame.select(*dict.fromkeys((*by, "_cluster", value)))  # all else would be copied
    known = few.filter(pl.col(value).is_not_null()).with_columns(
        _residual=pl.col(value) - pl.col(value).mean().over(by)
    )
    sums = known.select(*by, "_residual", _sum=pl.col(value), _n=pl.lit(1, pl.UInt32))
    if not known["_cluster"].str.starts_with(ALONE).all():
        sums = known.group_by(*by, "_cluster", maintain_order=True).agg(
            pl.col(value).sum().alias("_sum"), pl.col("_residual").sum(), pl.len().alias("_n")
        )
    n = pl.col("_n").sum()
    square = (pl.col("_residual") ** 2).sum()
    correction = pl.when(pl.len() > 1).then(pl.len() / (pl.len() - 1))
    return sums.group_by(by, maintain_order=True).agg(
        mean=pl.col("_sum").sum() / n,
        se=(correction * square).sqrt() / n,
        bend=(pl.col("_residual") ** 3).sum() / square**1.5,
        n_items=n.cast(pl.Int64),
        n_clusters=pl.len().cast(pl.Int64),
    )


def by_item(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Average columns over each item's trials: `_item`, `_code`, the columns; null: unknown."""
    means = [pl.col(c).cast(pl.Float64).mean() for c in columns]
    return rows.group_by("_item").agg(pl.col("_code").first(), *means).sort("_item")
