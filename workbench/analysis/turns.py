"""Runs of agents by their turns: how many each took, how it ended, and what every turn cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.calls import is_calls
from workbench.analysis.result import label

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """One group's runs.

    Attributes:
        turns: (n,) of each run; passed: (n,); item: (n,) its item's place.
        clusters: (n_items,) numbers of the items' clusters; cluster_names: their names.
        spent: (n_items, t) cost of turn 1, 2, … added up over the item's runs; None where unknown.
    """

    names: pl.DataFrame
    turns: Ints
    passed: Floats
    item: Ints
    clusters: Ints
    cluster_names: pl.Series
    spent: Floats | None

    def percentile(self, q: float, keep: npt.NDArray[np.bool_]) -> float:
        """A percentile of the turns of some runs, linear between them."""
        return float(np.quantile(self.turns[keep], q / 100)) if keep.any() else float("nan")


def read(
    frame: "nw.LazyFrame[Any]", by: Sequence[str]
) -> tuple[list[Runs], dict[str, int], list[str]]:
    """Reduce to runs, and to the cost of each turn per item; both in the engine."""
    present = set(frame.collect_schema().names())
    of_calls = is_calls(frame)
    error = "trace_error_type" if of_calls else "error_type"
    for column, dtype in ((error, nw.String), ("cluster", nw.String), ("task_id", nw.String), ("cost_usd", nw.Float64), ("n_turns", nw.Int64)):  # fmt: skip
        if column not in present:
            frame = frame.with_columns(nw.lit(None, dtype).alias(column))
    frame = frame.with_columns(_item=nw.col("item_id"), _ok=nw.col("passed").cast(nw.Float64))
    fine = nw.col(error).is_null() & ~nw.col("_ok").is_null()
    lost = {"failed or unscored traces": _count(frame.filter(~fine), of_calls=of_calls)}
    spent = None
    if of_calls:
        numbered = _numbered(frame.filter(fine))
        keys = [*by, "_item", "trace_id"]
        told = numbered.group_by(*keys).agg(
            nw.col("_turn").max().alias("_turns"), nw.col("_ok").max(), nw.col("cluster").max(),
            nw.col("task_id").max(), nw.col("_dear").sum().alias("_unknown"),
        )  # fmt: skip
        spent = numbered.group_by(*by, "_item", "_turn").agg(nw.col("_cost").sum())
    else:
        told = frame.filter(fine & ~nw.col("n_turns").is_null()).with_columns(
            _turns=nw.col("n_turns"), _cost=nw.col("cost_usd").cast(nw.Float64),
            _unknown=nw.when(nw.col("cost_usd").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)),
        )  # fmt: skip
    kept = ["_turns", "_ok", "cluster", "task_id", "_unknown"] + ([] if of_calls else ["_cost"])
    rows: pl.DataFrame = told.select(*by, "_item", *kept).collect("polars").to_native()
    costs = spent.collect("polars").to_native() if spent is not None else None
    rows = rows.filter(pl.col("_turns") > 0).sort(*by, "_item", "_turns", "_ok", nulls_last=True)
    notes = [] if of_calls or rows.is_empty() else ["cost is shared out over turns as 1 : 2 : 3 …: give call_facts"]  # fmt: skip
    found = [_group(part, by, costs) for _, part in rows.group_by(by, maintain_order=True)]
    unpriced = [label(r.names.row(0)) for r in found if r.spent is None]
    if unpriced:
        notes.append(f"a call without a cost, so no saving: {'; '.join(unpriced[:5])}")
    return found, lost, notes


def _count(frame: "nw.LazyFrame[Any]", *, of_calls: bool) -> int:
    one = nw.col("trace_id").n_unique() if of_calls else nw.len()
    counted: pl.DataFrame = frame.select(one.alias("n")).collect("polars").to_native()
    return int(counted["n"][0] or 0)


def _numbered(calls: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Give every call the number of its turn, its cost, and whether that is unknown."""
    present = set(calls.collect_schema().names())
    if "role" in present:
        calls = calls.filter((nw.col("role") != "judge") | nw.col("role").is_null())
    own = nw.col("role").is_null() | (nw.col("role") == "subject") if "role" in present else nw.lit(value=True)  # fmt: skip
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    place = "ordinal" if "ordinal" in present else "call_id"
    zero, one = nw.lit(0), nw.lit(1)
    calls = calls.with_columns(_is_turn=nw.when(own & ~failed).then(one).otherwise(zero))
    calls = calls.with_columns(
        _turn=nw.col("_is_turn").cum_sum().over("trace_id", order_by=place),
        _dear=nw.when(nw.col("cost_usd").is_null() & ~failed).then(one).otherwise(zero),
        _cost=nw.col("cost_usd").cast(nw.Float64).fill_null(0.0),
    )
    # What is said before the first turn belongs to it; a run of failed calls alone has no turn.
    first = nw.when(nw.col("_turn") < 1).then(one).otherwise(nw.col("_turn"))
    ever = nw.col("_is_turn").sum().over("trace_id")
    return calls.with_columns(_turn=nw.when(ever > 0).then(first).otherwise(zero))


def _group(rows: pl.DataFrame, by: Sequence[str], costs: pl.DataFrame | None) -> Runs:
    """Make one group's runs of its rows."""
    names = rows.head(1).select(by)
    items = rows["_item"].unique().sort()
    item = rows["_item"].rank("dense").cast(pl.Int64).to_numpy() - 1
    cluster = pl.when(pl.col("cluster").is_null()).then(pl.concat_str(pl.lit("i "), pl.col("_item").cast(pl.String))).otherwise(pl.concat_str(pl.lit("c "), pl.col("task_id").fill_null(""), pl.lit(" "), "cluster"))  # fmt: skip
    first = rows.group_by("_item").agg(cluster.max().alias("c")).sort("_item")
    clusters = first["c"].rank("dense").cast(pl.Int64).to_numpy() - 1
    turns = rows["_turns"].cast(pl.Int64).to_numpy()
    spent = None
    if not rows["_unknown"].sum():
        spent = np.zeros((len(items), int(turns.max())))
        if costs is not None:
            own = costs.join(names, on=list(by), how="semi", nulls_equal=True).filter(
                pl.col("_turn") > 0
            )
            place = own.join(
                items.to_frame("_item").with_row_index("_row"), on="_item", how="inner"
            )
            spent[place["_row"].to_numpy(), place["_turn"].cast(pl.Int64).to_numpy() - 1] = place[
                "_cost"
            ]
        else:
            each = 2.0 * rows["_cost"].to_numpy() / (turns * (turns + 1.0))
            for t in range(1, spent.shape[1] + 1):
                np.add.at(spent[:, t - 1], item, np.where(turns >= t, t * each, 0.0))
    return Runs(names, turns, rows["_ok"].to_numpy(), item, clusters, first["c"], spent)
