"""Panels: reduced traces as matrices of items × groups, with clusters of items.

Within a panel the same item is the same row for every group, so that what is resampled is paired.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.result import label
from workbench.analysis.inputs.reduce import ABOUT, Items
from workbench.analysis.stats.arrays import Bools, Floats
from workbench.errors import AnalysisError

_MAX_CELLS = 100_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """Groups × items of one task, or of all.

    Attributes:
        groups: one row per group: the `by` columns, in order of the labels.
        items: one row per item: item_id, _cluster, and what was kept of it (`reduce.ABOUT`).
        rows: the reduced rows, with their place as `_group` and `_row`.
        clusters: (n_items,) the number of each item's cluster, from 0.
    """

    groups: pl.DataFrame
    items: pl.DataFrame
    rows: pl.DataFrame
    clusters: npt.NDArray[np.int64]

    @property
    def labels(self) -> list[str]:
        """The groups' names."""
        return [label(row) for row in self.groups.iter_rows()]

    @property
    def n_clusters(self) -> int:
        """The number of clusters: what is resampled."""
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0

    def matrix(self, column: str) -> Floats:
        """Spread a reduced column, (n_items, n_groups); NaN where unknown or not tried."""
        out = np.full((self.items.height, self.groups.height), np.nan)
        at = (self.rows["_row"].to_numpy(), self.rows["_group"].to_numpy())
        out[at] = self.rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return out

    def outcome(self) -> Floats:
        """Mean outcome per item over its trials, (n_items, n_groups), 0..1; NaN where unscored."""
        return divide(self.matrix("outcome"), self.matrix("n_scored"))

    def measure(self, name: str) -> Floats:
        """Mean of a measure per item over the trials where it is known, (n_items, n_groups)."""
        return divide(self.matrix(f"{name}_sum"), self.matrix(f"{name}_known"))

    def cluster_sums(self, values: Floats) -> Floats:
        """Add up the known rows of each cluster: (n_items, k) → (n_clusters, k)."""
        filled = np.where(np.isnan(values), 0.0, values)
        if self.n_clusters == len(self.clusters):
            out = np.empty_like(filled)
            out[self.clusters] = filled
            return out
        out = np.empty((self.n_clusters, values.shape[1]))
        for j, column in enumerate(filled.T):
            out[:, j] = np.bincount(self.clusters, column, len(out))
        return out

    def restrict(self, keep: Bools) -> "Panel":
        """Keep some items."""
        if keep.all():
            return self
        return _panel(
            self.rows.filter(pl.Series(keep)[self.rows["_row"]]).drop("_row", "_group"),
            tuple(self.groups.columns),
        )

    @property
    def n_own_clusters(self) -> npt.NDArray[np.int64]:
        """Number of clusters that each group was tried on, (n_groups,)."""
        return np.asarray((self.cluster_sums(self.tried.astype(float)) > 0).sum(axis=0))

    @functools.cached_property
    def tried(self) -> Bools:
        """Whether a group has counted traces on an item, (n_items, n_groups)."""
        return np.nan_to_num(self.matrix("n")) > 0

    @property
    def everywhere(self) -> Bools:
        """Whether every group has the item, (n_items,)."""
        return np.asarray(self.tried.all(axis=1))


def divide(total: npt.ArrayLike, count: npt.ArrayLike) -> Floats:
    """Divide elementwise; NaN where the count is 0 or unknown."""
    top, bottom = np.broadcast_arrays(np.asarray(total, float), np.asarray(count, float))
    out: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return out


class Built(NamedTuple):
    """Panels with what was left out in making them.

    Attributes:
        parts: (task, panel) in order; the task is None where tasks are not distinguished.
        dropped: how much was left out, by reason in words.
        notes: sentences for the reader.
    """

    parts: list[tuple[str | None, Panel]]
    dropped: dict[str, int]
    notes: tuple[str, ...]


def build(items: Items, *, shared: bool = False) -> Built:
    """Make a panel per task where "task" is among the groups' columns, else one of everything.

    Args:
        items: the reduced traces; rows without a trace that counts are left out.
        shared: keep only the items that every group of the panel has.
    """
    counts = items.frame["n"] > 0
    frame = items.frame if counts.all() else items.frame.filter(counts)
    by = tuple(c for c in items.by if c != "task")
    if "task" in items.by and by:
        panels: list[tuple[str | None, Panel]] = [
            (str(task), _panel(part, by)) for task, part in _by_task(frame)
        ]
    else:
        panels = [(None, _panel(frame, items.by))] if frame.height else []
    gone = items.frame.select(items.by).n_unique() - frame.select(items.by).n_unique()
    dropped = items.dropped() | {"groups without a trace that counts": gone}
    if not shared:
        return Built(panels, dropped, _coverage(panels))
    common = [(task, panel.restrict(panel.everywhere)) for task, panel in panels]
    lost = sum(p.items.height for _, p in panels) - sum(p.items.height for _, p in common)
    return Built(
        [(task, panel) for task, panel in common if panel.items.height],
        dropped | {"items that not every group was tried on": lost},
        tuple(
            f"no item was tried by every group{_on(task)}; the fewest has {_fewest(before)}"
            for (task, panel), (_, before) in zip(common, panels, strict=True)
            if not panel.items.height
        ),
    )


def _by_task(frame: pl.DataFrame) -> list[tuple[Any, pl.DataFrame]]:
    """Split rows by task, in order; rows that are in that order already are not copied."""
    runs = frame["task"].rle().struct.unnest()
    if runs["value"].n_unique() == runs.height:
        starts = runs["len"].cum_sum() - runs["len"]
        parts = list(zip(runs["value"], map(frame.slice, starts, runs["len"]), strict=True))
    else:
        keyed = frame.partition_by("task", as_dict=True, maintain_order=True)
        parts = [(key[0], part) for key, part in keyed.items()]
    return sorted(parts, key=lambda pair: str(pair[0]))


def _on(task: str | None) -> str:
    return f" on {task}" if task else ""


def _fewest(panel: Panel) -> str:
    return panel.labels[int(panel.tried.sum(axis=0).argmin())]


def _coverage(panels: list[tuple[str | None, Panel]]) -> tuple[str, ...]:
    """Warn where groups were not tried on the same items."""
    notes = []
    for task, panel in panels:
        counts = panel.tried.sum(axis=0)
        common = int(panel.everywhere.sum())
        if counts.max() > common:
            spread = f"{counts.min()} to {counts.max()}"
            notes.append(
                f"groups cover different items{_on(task)}: {spread} each, {common} in common"
            )
    return tuple(notes)


def _panel(frame: pl.DataFrame, by: tuple[str, ...]) -> Panel:
    groups = frame.select(by).unique().sort(by, nulls_last=True)
    item_columns = [c for c in ("_cluster", *ABOUT) if c in frame.columns]
    items = frame.group_by("item_id").agg(pl.col(c).max() for c in item_columns)
    items = items.sort("item_id")
    if groups.height * items.height > _MAX_CELLS:
        reason = f"{groups.height:,} groups × {items.height:,} items are too many to compare"
        raise AnalysisError(f"{reason}; narrow the slice, or group by fewer columns than {by}")
    # Only the keys are joined: all else would be copied, twice.
    group = _place(frame, groups).alias("_group")
    rows = frame.with_columns(group, _place(frame, items.select("item_id")).alias("_row"))
    clusters = items["_cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
    return Panel(groups, items, rows, clusters)


def _place(frame: pl.DataFrame, names: pl.DataFrame) -> pl.Series:
    """Find the row of `names` that each row of a frame has."""
    places = frame.select(names.columns).join(
        names.with_row_index("_place"),
        on=names.columns,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return places["_place"]
