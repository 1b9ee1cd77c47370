"""Traces one by one, for what no sum per item can give: quantiles, and fits of a distribution.

Only the columns asked for are fetched, with an underscore before their names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis import engine
from workbench.analysis.reduce import cluster

_GROUPS = 200  # more are quicker sorted


def fetch(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    numbers: Sequence[str],
    *,
    texts: Sequence[str] = (),
    flags: Sequence[str] = (),
    times: Sequence[str] = (),
    each: engine.Each | None = None,
) -> pl.DataFrame:
    """Fetch some columns of `trace_facts` or `call_facts`; absent ones are unknown throughout.

    Args:
        frame: the rows.
        by: the columns that name a group.
        numbers: columns of numbers, of texts, of flags and of times.
        texts: see above.
        flags: see above.
        times: see above.
        each: makes of some rows what is kept of them, see `engine.collect`; they have the columns
            told below, but for the two numbers, and `_item` is a text.

    Returns:
        One row per trace (or call): the `by` columns; `_` and the name for each column asked for;
        `_item`, the number of its item; `_failed`, whether it failed; `_code`, the number of its
        item's cluster. Both are numbered in order of the names.
    """
    present = set(frame.collect_schema().names())
    dtypes: dict[str, Any] = dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(texts, pl.String)
    dtypes |= dict.fromkeys(flags, pl.Boolean) | dict.fromkeys(times, pl.Datetime("us"))
    names = {f"_{c}": c for c in dtypes if c in present} | {"_item": "item_id"}
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    selected = frame.select(
        *by,
        *[
            (nw.col(c).cast(nw.Float64) if c in numbers else nw.col(c)).alias(alias)
            for alias, c in names.items()
        ],
        *([cluster(present)] if "cluster" in present else []),
        _failed=failed,
    )
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {} if "cluster" in present else {"_cluster": pl.String}

    def whole(piece: pl.DataFrame) -> pl.DataFrame:
        piece = piece.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
        return each(piece) if each else piece

    rows = whole(engine.collect(selected)) if each is None else engine.collect(selected, whole)
    return engine.spelled(numbered(rows))


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Number the items from 1, and the clusters, `_code`; items that stand alone are below 0.

    Args:
        rows: with the names `_item` and `_cluster`.
    """
    item = engine.ranks(rows["_item"]).cast(pl.Int32)
    cluster = rows["_cluster"]
    code = -item
    if cluster.count():
        code = pl.select(pl.coalesce(engine.ranks(cluster).cast(pl.Int32), code)).to_series()
    return rows.drop("_cluster").with_columns(_item=item, _code=code)


def sieve(rows: pl.DataFrame, tests: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Keep the rows that pass every test, of which only one copy is held: the frame given is used up.

    Args:
        rows: what `fetch` gave.
        tests: by what is said of the rows that fail; unknown is failed.

    Returns:
        The rows kept, and how many failed each test, having passed those before it.
    """
    dropped = {}
    kept = pl.select(pl.repeat(value=True, n=rows.height)).to_series()
    for reason, test in tests.items():
        passed = kept & rows.select(test.fill_null(value=False)).to_series()
        dropped[reason] = int((kept & ~passed).sum())
        kept = passed
    if any(dropped.values()):
        rows = pl.DataFrame([rows.drop_in_place(c).filter(kept) for c in rows.columns])
    return rows, dropped


def parts(rows: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Give the names and the rows of each group, in order of the names; null last.

    One group is taken out at a time: sorting would double what many rows hold.
    """
    names = rows.select(by).unique().sort(by, nulls_last=True)
    if names.height > _GROUPS:
        yield from rows.sort(by, nulls_last=True).group_by(by, maintain_order=True)
        return
    numbered = names.with_row_index("_group")
    place = rows.select(by).join(
        numbered, on=list(by), how="left", nulls_equal=True, maintain_order="left"
    )["_group"]  # fmt: skip
    for number, key in enumerate(names.iter_rows()):
        yield key, rows.filter(place == number)
