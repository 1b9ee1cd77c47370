"""Confidences of answers, as recorded or as agreement of trials; and cascades that were run."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.inputs import engine
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.votes import ItemVotes, vote
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.decoding import UNDECODABLE


class Answers(NamedTuple):
    """Answers of a group, each (n,).

    Attributes:
        item: the place of the item.
        right: 0..1.
        cost: NaN where unknown.
        confidence: of the answer.
    """

    item: Ints
    right: Floats
    cost: Floats
    confidence: Floats


class _Facts(msgspec.Struct):
    """Facts that the strategy `cascade` records in the metadata."""

    confidence: float | None = None
    deferred: bool | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """Scored traces with a confidence, or with facts of a cascade.

    Attributes:
        own: those of which the confidence is about the answer: the `by` columns, `_item` (place
            in `items`), `_sure`, `_right`, `_cost`.
        items: the ids of their items.
        ran: those of a cascade: the same columns, and `_deferred`.
    """

    own: pl.DataFrame
    items: pl.Series
    ran: pl.DataFrame

    def of(self, panel: Panel, task: str | None, group: int) -> Answers | None:
        """Take the answers of a panel's group, on its items; the least sure first."""
        names = panel.groups.row(group, named=True)
        names |= {"task": task} if task is not None and "task" in self.own.columns else {}
        rows = self.own.filter(
            pl.col(c).is_null() if value is None else pl.col(c) == value
            for c, value in names.items()
        )
        ids = panel.items.select("item_id").with_row_index("_row")
        rows_of = self.items.to_frame("item_id").join(
            ids, on="item_id", how="left", maintain_order="left"
        )
        rows = rows.with_columns(_row=rows_of["_row"].gather(rows["_item"])).drop_nulls("_row")
        if rows.is_empty():
            return None
        order = np.argsort(rows["_sure"].to_numpy())
        return Answers(
            rows["_row"].cast(pl.Int64).to_numpy()[order],
            rows["_right"].cast(pl.Float64).to_numpy()[order],
            rows["_cost"].fill_null(np.nan).to_numpy()[order],
            rows["_sure"].to_numpy()[order],
        )

    def described(self, by: Sequence[str]) -> pl.DataFrame | None:
        """Describe the cascades that were really run, one row per group."""
        if self.ran.is_empty():
            return None
        handed = pl.col("_deferred")
        right = pl.col("_right").cast(pl.Float64)
        cost = pl.col("_cost")
        table = self.ran.group_by(by).agg(
            n_run=pl.len().cast(pl.Int64),
            deferred_rate=handed.mean(),
            kept_right=right.filter(~handed).mean(),
            deferred_right=right.filter(handed).mean(),
            run_cost_usd=pl.when(cost.is_not_null().all()).then(cost.mean()),
        )
        return engine.spelled(table).sort(by, nulls_last=True)


def read(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> Recorded:
    """Fetch the scored traces with a confidence, or of a cascade."""
    present = frame.collect_schema().names()
    for column, dtype in (
        ("confidence", nw.Float64),
        ("metadata", nw.String),
        ("error_type", nw.String),
        ("cost_usd", nw.Float64),
    ):
        if column not in present:
            frame = frame.with_columns(nw.lit(None, dtype).alias(column))
    text = nw.col("metadata").cast(nw.String)
    sure = nw.col("confidence").cast(nw.Float64)
    noted = text.str.contains('"deferred"', literal=True).fill_null(value=False)
    selected = frame.filter(
        nw.col("error_type").is_null() & ~nw.col("passed").is_null() & (~sure.is_null() | noted)
    ).select(
        *by,
        _item=nw.col("item_id"),
        _sure=sure,
        _right=nw.col("passed"),
        _cost=nw.col("cost_usd").cast(nw.Float64),
        _noted=nw.when(noted).then(text),
    )
    rows = engine.collect(selected)
    items = rows["_item"].unique().drop_nulls().cast(pl.String).sort()
    rows = rows.with_columns(
        engine.ranks(rows["_item"]).cast(pl.Int32) - 1, _deferred=_deferred(rows["_noted"])
    )
    rows = rows.drop("_noted")
    ran = rows.filter(pl.col("_deferred").is_not_null())
    # A deferred answer is the larger model's: the confidence is not about it.
    about = pl.col("_sure").is_not_nan() & ~pl.col("_deferred").fill_null(value=False)
    return Recorded(rows.filter(about).drop("_deferred"), items, ran)


def _deferred(noted: pl.Series) -> pl.Series:
    """Read whether a cascade deferred the answer; null where none was run, or it cannot be read."""
    places = noted.is_not_null().arg_true()
    facts = [_read(text).deferred for text in noted.gather(places).cast(pl.String).to_list()]
    nothing = pl.repeat(None, len(noted), dtype=pl.Boolean, eager=True)
    return nothing.scatter(places, pl.Series(facts, dtype=pl.Boolean)) if facts else nothing


def _read(text: str) -> _Facts:
    try:
        return msgspec.json.decode(text, type=_Facts)
    except UNDECODABLE:
        return _Facts()


def agreeing(panel: Panel, cast: ItemVotes, group: int) -> Answers | None:
    """Take the vote of an item's trials, with their agreement as confidence and their total cost.

    None where no item has two trials.
    """
    patterns = cast.patterns.to_dicts()
    sizes = np.array([int(sum(p["counts"]) + p["none"]) for p in patterns])
    place = cast.place[:, group]
    items = np.flatnonzero(place >= 0)
    if not len(items) or max(sizes[place[items]]) < 2:
        return None
    right = np.array(
        [
            vote(p["counts"], p["rights"], int(p["none"]), [n])[0][0]
            for p, n in zip(patterns, sizes, strict=True)
        ]
    )
    agreed = np.array([max(p["counts"], default=0) for p in patterns]) / sizes
    n = panel.matrix("n")[items, group]
    cost = n * panel.measure("cost_usd")[items, group]
    return Answers(items, right[place[items]], cost, agreed[place[items]])
