"""Per-trace rows, for figures that sums per item cannot give: quantiles and fits.

Only the columns asked for are fetched, with an underscore before their names.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis.inputs import engine
from workbench.analysis.inputs.reduce import cluster

_GROUPS = 200  # more are quicker sorted


def fetch(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    numbers: Sequence[str],
    *,
    texts: Sequence[str] = (),
    flags: Sequence[str] = (),
    times: Sequence[str] = (),
    transform: engine.PieceTransform | None = None,
    items: bool = True,
) -> pl.DataFrame:
    """Fetch some columns of `trace_facts` or `call_facts`; absent ones are unknown throughout.

    Args:
        frame: the rows.
        by: the columns that name a group.
        numbers: columns of numbers, of texts, of flags and of times.
        texts: see above.
        flags: see above.
        times: see above.
        transform: reduces each piece of rows, see `engine.collect`; they have the columns named
            below, but for the two numbers, and `_item` is a text.
        items: whether it matters which item, and cluster, a row is of.

    Returns:
        One row per trace (or call): the `by` columns; `_` and the name for each column asked for;
        `_item`, the number of its item; `_failed`, whether it failed; `_code`, the number of its
        item's cluster. Both are numbered in order of the names, and left out without `items`.
    """
    present = set(frame.collect_schema().names())
    dtypes: dict[str, Any] = dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(texts, pl.String)
    dtypes |= dict.fromkeys(flags, pl.Boolean) | dict.fromkeys(times, pl.Datetime("us"))
    names = {f"_{c}": c for c in dtypes if c in present} | ({"_item": "item_id"} if items else {})
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    selected = frame.select(
        *by,
        *[
            (nw.col(c).cast(nw.Float64) if c in numbers else nw.col(c)).alias(alias)
            for alias, c in names.items()
        ],
        *([cluster(present)] if items and "cluster" in present else []),
        _failed=failed,
    )
    absent = {f"_{c}": t for c, t in dtypes.items() if f"_{c}" not in names}
    absent |= {} if "cluster" in present or not items else {"_cluster": pl.String}

    def whole(piece: pl.DataFrame) -> pl.DataFrame:
        piece = piece.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
        return transform(piece) if transform else piece

    rows = whole(engine.collect(selected)) if transform is None else engine.collect(selected, whole)
    return engine.spelled(numbered(rows) if items else rows)


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


def keep_passing(
    rows: pl.DataFrame, tests: Mapping[str, pl.Expr]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Keep the rows that pass every test; the given frame is consumed to save memory.

    Args:
        rows: what `fetch` gave.
        tests: by what is said of the rows that fail; unknown is failed.

    Returns:
        The rows kept, and how many failed each test, having passed those before it.
    """
    dropped = {}
    passing = pl.select(pl.repeat(value=True, n=rows.height)).to_series()
    for reason, test in tests.items():
        passed = passing & rows.select(test.fill_null(value=False)).to_series()
        dropped[reason] = int((passing & ~passed).sum())
        passing = passed
    if any(dropped.values()):
        rows = pl.DataFrame([rows.drop_in_place(c).filter(passing) for c in rows.columns])
    return rows, dropped


def parts(rows: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Yield the names and the rows of each group, in order of the names; null last.

    One group is taken out at a time: sorting would double what many rows hold.
    """
    listed, number = _grouped(rows, by)
    group_codes = number.unique().sort()
    if len(group_codes) > _GROUPS:
        yield from rows.sort(by, nulls_last=True).group_by(by, maintain_order=True)
        return
    for group in group_codes:
        places = []
        rest = group
        for names in reversed(listed):
            rest, place = divmod(rest, len(names))
            places.append(names[place])
        yield tuple(reversed(places)), rows.filter(number == group)


def _grouped(rows: pl.DataFrame, by: Sequence[str]) -> tuple[list[list[Any]], pl.Series]:
    """List the values of each column, in order and null last, and number the groups."""
    listed = []
    number = pl.Series([0], dtype=pl.Int64).new_from_index(0, rows.height)
    for name in by:
        values = rows[name]
        known = values.unique().drop_nulls().sort()
        if known.dtype == pl.String:
            place = values.cast(pl.Enum(known)).to_physical()
        else:
            place = values.replace_strict(known, pl.int_range(len(known), eager=True))
        number = number * (len(known) + 1) + place.cast(pl.Int64).fill_null(len(known))
        listed.append([*known, None])
    most = math.prod(map(len, listed))
    return listed, number.cast(pl.UInt16) if most < 1 << 16 else number
