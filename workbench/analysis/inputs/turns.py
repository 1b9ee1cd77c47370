"""Turns of agents' runs: their number, outcome and cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.result import label
from workbench.analysis.inputs import engine, per_trace
from workbench.analysis.inputs.calls import is_calls, requests
from workbench.analysis.inputs.reduce import cluster
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.schema import APART

_LOST = "failed or unscored traces"
_UNRECORDED = "traces whose turns nobody recorded"


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """One group's runs; those alike in item, turns and outcome are one row.

    Attributes:
        turns: (m,) of a run; passed: (m,); item: (m,) its item's place; n: (m,) how many there are.
        clusters: (n_items,) numbers of the items' clusters; cluster_names: the same in all groups.
        spent: (n_items, t) cost of turn 1, 2, … added up over the item's runs; None where unknown.
    """

    names: pl.DataFrame
    turns: Ints
    passed: Floats
    item: Ints
    n: Ints
    clusters: Ints
    cluster_names: pl.Series
    spent: Floats | None

    @property
    def n_of_items(self) -> Floats:
        """Number of runs of each item, (n_items,)."""
        return np.bincount(self.item, self.n).astype(float)

    def percentile(self, q: float, keep: npt.NDArray[np.bool_]) -> float:
        """A percentile of the turns of some runs, linear between them."""
        turns = np.repeat(self.turns[keep], self.n[keep])
        return float(np.quantile(turns, q / 100)) if len(turns) else float("nan")


class Read(NamedTuple):
    """Runs of all groups, with what was left out.

    Attributes:
        runs: per group that has any with turns, in order of the names.
        silent: the names of the other groups.
        dropped: what was left out, by reason in words.
        notes: sentences for the reader.
    """

    runs: list[Runs]
    silent: pl.DataFrame
    dropped: dict[str, int]
    notes: list[str]


def read(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> Read:
    """Reduce to runs, and to the cost of each turn per item; both in the engine."""
    calls = _prepared(frame)
    of_calls = is_calls(frame)
    traces = _traces(calls, by) if of_calls else calls.with_columns(_turns=nw.col("n_turns"))
    grouped = traces.group_by(*by, "_item", "_turns", "_ok", "_regular").agg(
        nw.len().alias("_n"),
        nw.col("_cluster").max(),
        nw.col("_dear").sum(),
        nw.col("_cost").sum(),
        nw.col("_summed").sum(),
    )
    rows = _words(engine.collect(grouped))
    groups = engine.spelled(rows.select(by).unique())
    lost = int(rows.filter(pl.col("_ok").is_null())["_n"].sum())
    rows = rows.filter(pl.col("_ok").is_not_null())
    known = pl.col("_turns").fill_null(0) > 0
    untold = int(rows.filter(~known)["_n"].sum())
    rows = rows.filter(known)
    costs = rows.clear()
    if of_calls:
        costs = _per_turn(calls, by, regular=bool((rows["_regular"] == 1).all()))
    # Numbered together, so that an item has one number.
    both = pl.concat([rows, costs], how="diagonal")
    both = engine.spelled(per_trace.numbered(both.rechunk()))
    rows, costs = both[: rows.height], both[rows.height :]
    spent = dict(per_trace.parts(costs, by))
    group_runs = []
    summed = []
    for key, part in per_trace.parts(rows, by):
        if part["_summed"].sum():
            summed.append(key)
            spent.pop(key, None)
        group_runs.append(_group(part, by, spent.get(key)))
    notes = _shared_out(summed, of_calls=of_calls) if group_runs else []
    unpriced = [label(r.names.row(0)) for r in group_runs if r.spent is None]
    if unpriced:
        notes.append(f"a call without a cost, so no saving: {'; '.join(unpriced[:5])}")
    heard = pl.concat([groups.clear(), *(r.names for r in group_runs)])
    silent = groups.join(heard, on=list(by), how="anti", nulls_equal=True)
    dropped = {_LOST: lost, _UNRECORDED: untold}
    return Read(group_runs, silent.sort(by, nulls_last=True), dropped, notes)


def _shared_out(summed: Sequence[tuple[Any, ...]], *, of_calls: bool) -> list[str]:
    """Write notes where the cost of a turn is not recorded."""
    how = "cost is shared out over turns as 1 : 2 : 3 …"
    if not of_calls:
        return [f"{how}: give call_facts"]
    named = "; ".join(label(key) for key in summed[:5])
    return [f"{how}, only totals of several turns are recorded: {named}"] if summed else []


def _words(rows: pl.DataFrame) -> pl.DataFrame:
    """Cast texts to categories, so that frames of any length can be joined."""
    return rows.with_columns(pl.col(pl.String).cast(pl.Categorical))


def _prepared(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Mark what of a call (or trace) counts; `_ok` is null where its trace failed or is unscored.

    Of a call: whether it counts at all (judges do not), is a turn, has an unknown cost; its place.
    """
    of_calls = is_calls(frame)
    error = "trace_error_type" if is_calls(frame) else "error_type"
    present = set(frame.collect_schema().names())
    for column, dtype in (
        (error, nw.String),
        ("error_type", nw.String),
        ("cost_usd", nw.Float64),
        ("role", nw.String),
        ("n_turns", nw.Int64),
    ):
        if column not in present:
            frame = frame.with_columns(nw.lit(None, dtype).alias(column))
    fine = nw.col(error).is_null() & ~nw.col("passed").is_null()
    anyone = nw.col("role").is_null()
    counts = (anyone | ~nw.col("role").is_in(APART)) if of_calls else ~nw.lit(value=False)
    done = nw.col("error_type").is_null()
    is_turn = (anyone | (nw.col("role") == "subject")) & done
    several = requests(frame)
    cost = nw.col("cost_usd").cast(nw.Float64)
    place = nw.lit(None, nw.Float64)
    if "ordinal" in present:
        place = nw.when(counts).then(nw.col("ordinal").cast(nw.Float64))

    def flag(test: "nw.Expr") -> "nw.Expr":
        # Sums of whole numbers are 128 bits wide in DuckDB.
        return nw.when(test).then(nw.lit(1.0)).otherwise(nw.lit(0.0))

    return frame.with_columns(
        cluster(present) if "cluster" in present else nw.lit(None, nw.String).alias("_cluster"),
        _item=nw.col("item_id"),
        _ok=nw.when(fine).then(nw.col("passed").cast(nw.Float64)),
        _cost=nw.when(counts).then(cost.fill_null(0.0)).otherwise(nw.lit(0.0)),
        _dear=flag(counts & done & cost.is_null()),
        _counts=flag(counts),
        _is_turn=nw.when(is_turn).then(several.fill_null(0.0)).otherwise(nw.lit(0.0)),
        _summed=flag(is_turn & (several > 1)) if of_calls else nw.lit(0.0),
        _place=place,
        _regular=nw.lit(1.0),
    )


def _traces(calls: "nw.LazyFrame[Any]", by: Sequence[str]) -> "nw.LazyFrame[Any]":
    """One row per trace; a regular one has turns alone, numbered 0, 1, 2 …."""
    total = ("_is_turn", "_counts", "_dear", "_cost", "_summed")
    grouped = calls.group_by(*by, "_item", "trace_id").agg(
        *[nw.col(c).sum() for c in total],
        nw.col("_ok").max(),
        nw.col("_cluster").max(),
        nw.col("_place").min().alias("_first"),
        nw.col("_place").max().alias("_last"),
    )
    turns = nw.col("_is_turn")
    alone = (turns == nw.col("_counts")) & (nw.col("_first") == 0) & (nw.col("_last") == turns - 1)
    regular = nw.when(alone).then(nw.lit(1.0)).otherwise(nw.lit(0.0))
    return grouped.with_columns(_turns=turns, _regular=regular)


def _per_turn(calls: "nw.LazyFrame[Any]", by: Sequence[str], *, regular: bool) -> pl.DataFrame:
    """Add up the cost per group, item and turn (several rows where calls differ in kind)."""
    fine = calls.filter(~nw.col("_ok").is_null() & (nw.col("_counts") == 1))
    numbered = []
    if regular:
        numbered.append(fine.with_columns(_turn=nw.col("_place") + 1))
    else:  # only these need a window, which many calls make slow
        odd = _traces(fine, by).filter(nw.col("_regular") == 0).select("trace_id")
        numbered.append(
            fine.join(odd, on="trace_id", how="anti").with_columns(_turn=nw.col("_place") + 1)
        )
        numbered.append(_numbered(fine.join(odd, on="trace_id", how="semi")))
    parts = [
        _words(engine.collect(n.group_by(*by, "_item", "_turn").agg(nw.col("_cost").sum())))
        for n in numbered
    ]
    return pl.concat(parts).filter(pl.col("_turn") > 0)


def _numbered(calls: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Number every call by its turn."""
    place = "ordinal" if "ordinal" in calls.collect_schema().names() else "call_id"
    calls = calls.with_columns(_turn=nw.col("_is_turn").cum_sum().over("trace_id", order_by=place))
    # Messages before the first turn belong to it; a run of failed calls alone has no turn.
    first = nw.when(nw.col("_turn") < 1).then(nw.lit(1.0)).otherwise(nw.col("_turn"))
    ever = nw.col("_is_turn").sum().over("trace_id")
    return calls.with_columns(_turn=nw.when(ever > 0).then(first).otherwise(nw.lit(0.0)))


def _group(rows: pl.DataFrame, by: Sequence[str], costs: pl.DataFrame | None) -> Runs:
    """Make one group's runs of its rows, and of what each turn cost where that is known."""
    rows = rows.sort("_item", "_turns", "_ok")
    number, turns, n = (rows[c].cast(pl.Int64).to_numpy() for c in ("_item", "_turns", "_n"))
    first = np.append(True, number[1:] != number[:-1])
    item = np.cumsum(first) - 1
    names = rows["_code"].filter(pl.Series(first))
    clusters = names.rank("dense").cast(pl.Int64).to_numpy() - 1
    spent = None
    if not rows["_dear"].sum():
        longest = int(turns.max())
        if costs is not None:
            at = np.searchsorted(number[first], costs["_item"].to_numpy())
            turn = costs["_turn"].cast(pl.Int64).to_numpy()
            cost = costs["_cost"].to_numpy()
        else:  # of a run of t turns the j-th costs j parts of t (t + 1) / 2
            per_part = 2.0 * rows["_cost"].to_numpy() / (turns * (turns + 1.0))
            at = np.repeat(item, turns)
            turn = _upto(turns)
            cost = np.repeat(per_part, turns) * turn
        size = int(item[-1]) + 1, longest
        added = np.bincount(at * longest + turn - 1, cost, size[0] * size[1])
        spent = added.reshape(size).astype(float)
    passed = rows["_ok"].to_numpy()
    return Runs(rows.head(1).select(by), turns, passed, item, n, clusters, names, spent)


def _upto(counts: Ints) -> Ints:
    """1 … n for each count, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(1, int(ends[-1]) + 1) - np.repeat(ends - counts, counts)
