"""What a group's name holds more than one of: configurations, versions of a task, providers of a model.

A name is a label; what it stands for has an id. Where a group holds traces of several things, its
figures are means over all of them, and the reader is told.
"""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

from workbench.analysis.core.result import label
from workbench.analysis.inputs import engine

# a column to group by → what tells things of one name apart, and what it is called
_BEHIND = {
    "task": ("task_id", "versions"),
    "model": ("provider", "providers"),
    "origin": ("run_id", "runs"),
    "item": ("item_id", "items"),
}
_SHOWN = 3
_ALONE = ("configuration_id", "trace_id", "call_id")  # grouped by these nothing is pooled


def notes(
    rows: "nw.LazyFrame[Any]", by: Sequence[str], within: Sequence[str] = ()
) -> tuple[str, ...]:
    """Say which groups pool several configurations, or several things of one name.

    One pass over the narrow columns that name groups and things; of these there are few.

    Args:
        rows: the rows that the analysis was given.
        by: the columns that name a group.
        within: columns by which the analysis tells traces of a group apart; those that are absent
            do not.
    """
    present = set(rows.collect_schema().names())
    by = list(dict.fromkeys([*by, *(c for c in within if c in present)]))
    behind = {c: _BEHIND[c] for c in by if c in _BEHIND and _BEHIND[c][0] not in by}
    behind = {c: pair for c, pair in behind.items() if pair[0] in present}
    ids = [] if "configuration_id" not in present or set(by) & set(_ALONE) else ["configuration_id"]
    if not ids and not behind:
        return ()
    named = [c for c in ("configuration",) if ids and c in present and c not in by]
    keys = list(dict.fromkeys([*by, *ids, *named, *(pair[0] for pair in behind.values())]))
    # Grouped and counted: for `unique` an engine would number the rows.
    combinations = engine.collect(rows.group_by(*keys).agg(nw.len().alias("_rows")))
    sentences = [_configurations(combinations, by, named)] if ids else []
    sentences += [_things(combinations, c, *behind[c]) for c in behind]
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
    for row in groups.head(_SHOWN).iter_rows(named=True):
        names = row.get("_names") or []
        listed = f": {', '.join(map(str, names[:_SHOWN]))}{', …' if len(names) > _SHOWN else ''}"
        which = ", ".join(f"{k}={label([row[k]])}" for k in keys)
        shown.append(f"{row['_n']} in {which}{listed if names else ''}")
    more = f"; and {groups.height - _SHOWN} more groups" if groups.height > _SHOWN else ""
    return f"configurations are pooled: {'; '.join(shown)}{more}"


def _things(combinations: pl.DataFrame, column: str, id: str, what: str) -> str:
    """Say which names stand for several things; an item's only within its task."""
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
        for name, n in several.select(column, "_n").head(_SHOWN).iter_rows()
    ]
    more = f"; and {several.height - _SHOWN} more" if several.height > _SHOWN else ""
    return f"{what} are pooled: {'; '.join(names)}{more}; group by {id} too to tell them apart"
