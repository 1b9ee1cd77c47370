"""Pooling: notes on groups that mix configurations, versions of a task, or providers of a model.

Groups are made by name, and several things with different ids may share one name. The figures of
such a group are means over all of them; the notes say so.
"""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis.core.result import label
from workbench.analysis.inputs import engine

# a column to group by → the id that separates things of one name, and their plural
_ID_COLUMNS = {
    "task": ("task_id", "versions"),
    "model": ("provider", "providers"),
    "origin": ("run_id", "runs"),
    "item": ("item_id", "items"),
}
_MOST_NAMED = 3
_NEVER_POOLED = ("configuration_id", "trace_id", "call_id")  # grouped by these nothing is pooled


def notes(
    rows: "nw.LazyFrame[Any]", by: Sequence[str], within: Sequence[str] = ()
) -> tuple[str, ...]:
    """Write notes on the groups that pool several configurations, or several things of one name.

    Takes one pass over the columns that name groups and things.

    Args:
        rows: the rows of the analysis.
        by: the columns that name a group.
        within: columns by which the analysis separates the traces of a group; absent ones are
            ignored.
    """
    present = set(rows.collect_schema().names())
    by = list(dict.fromkeys([*by, *(c for c in within if c in present)]))
    id_columns = {c: _ID_COLUMNS[c] for c in by if c in _ID_COLUMNS and _ID_COLUMNS[c][0] not in by}
    id_columns = {c: pair for c, pair in id_columns.items() if pair[0] in present}
    ids = (
        []
        if "configuration_id" not in present or set(by) & set(_NEVER_POOLED)
        else ["configuration_id"]
    )
    if not ids and not id_columns:
        return ()
    named = [c for c in ("configuration",) if ids and c in present and c not in by]
    keys = list(dict.fromkeys([*by, *ids, *named, *(pair[0] for pair in id_columns.values())]))
    # group_by, not unique: for `unique` an engine would number the rows.
    combinations = engine.collect(rows.group_by(*keys).agg(nw.len().alias("_rows")))
    sentences = [_configurations(combinations, by, named)] if ids else []
    sentences += [_things(combinations, c, *id_columns[c]) for c in id_columns]
    return tuple(note for note in sentences if note)


def _configurations(combinations: pl.DataFrame, by: Sequence[str], named: Sequence[str]) -> str:
    keys = [c for c in by if c != "task"] or list(by)
    groups = (
        combinations.group_by(keys)
        .agg(
            pl.col("configuration_id").n_unique().alias("_n"),
            *(pl.col(c).cast(pl.String).unique().sort().alias("_names") for c in named),
        )
        .filter(pl.col("_n") > 1)
        .sort("_n", *keys, descending=[True] + [False] * len(keys), nulls_last=True)
    )
    if groups.is_empty():
        return ""
    shown = []
    for row in groups.head(_MOST_NAMED).iter_rows(named=True):
        names = row.get("_names") or []
        more_names = ", …" if len(names) > _MOST_NAMED else ""
        listed = f": {', '.join(map(str, names[:_MOST_NAMED]))}{more_names}"
        which = ", ".join(f"{k}={label([row[k]])}" for k in keys)
        shown.append(f"{row['_n']} in {which}{listed if names else ''}")
    more = f"; and {groups.height - _MOST_NAMED} more groups" if groups.height > _MOST_NAMED else ""
    return f"configurations are pooled: {'; '.join(shown)}{more}"


def _things(combinations: pl.DataFrame, column: str, id: str, what: str) -> str:
    """Write a note on names that several things share; items are compared within their task."""
    within = [c for c in ("task", "task_id") if column == "item" and c in combinations.columns][:1]
    several = (
        combinations.group_by(*within, column)
        .agg(pl.col(id).n_unique().alias("_n"))
        .filter(pl.col("_n") > 1)
        .sort(
            "_n", *within, column, descending=[True] + [False] * (1 + len(within)), nulls_last=True
        )
    )
    if several.is_empty():
        return ""
    names = [
        f"{n} in {column}={label([name])}"
        for name, n in several.select(column, "_n").head(_MOST_NAMED).iter_rows()
    ]
    more = f"; and {several.height - _MOST_NAMED} more" if several.height > _MOST_NAMED else ""
    return f"{what} are pooled: {'; '.join(names)}{more}; group by {id} too to tell them apart"
