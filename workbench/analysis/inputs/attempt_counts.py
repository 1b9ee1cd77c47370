"""Attempt counts: attempts and passes per item, for curves of pass@k, pass^k and votes."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from workbench.analysis.core.result import empty
from workbench.analysis.inputs.panel import Panel, divide
from workbench.analysis.stats.arrays import Floats
from workbench.analysis.stats.pass_at_k import curve_sizes, pass_all_k, pass_at_k
from workbench.schema import Column

SHORT = "items with fewer trials than the curve has attempts, per group"
UNPRICED = "traces without a cost, left out of the cost"


@dataclasses.dataclass(frozen=True, eq=False)
class Attempts:
    """Attempts and passes of each item of a panel, where it has enough trials.

    Attributes:
        n, passed: (n_items, n_groups) counts; NaN where a group is not judged on the item.
        most: (n_groups,) the largest k of each group's curve; 0 where it has none.
        n_short: items with fewer trials than the largest k, added up over the groups.
        is_fixed: whether the largest k is an option's value.
        cap: the largest k of any curve; None where there is no such bound.
    """

    panel: Panel
    n: Floats
    passed: Floats
    most: list[int]
    n_short: int
    is_fixed: bool
    cap: int | None = None

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Every k that is on the curve of some group."""
        return sorted({k for most in set(self.most) for k in curve_sizes(most)})

    def at_least_one(self, k: int) -> Floats:
        """pass@k of every item, (n_items, n_groups)."""
        return self.within(pass_at_k(self.passed, self.n, k), k)

    def curve(self, group: int) -> Floats:
        """pass@k of one group's items for every k of its own curve, (n_items, n_sizes)."""
        n = self.n[:, group]
        passed = self.passed[:, group]
        return np.column_stack([pass_at_k(passed, n, k) for k in curve_sizes(self.most[group])])

    def all(self, k: int) -> Floats:
        """pass^k of every item, (n_items, n_groups)."""
        return self.within(pass_all_k(self.passed, self.n, k), k)

    def within(self, values: Floats, k: int) -> Floats:
        """Blank what lies beyond the end of a group's curve."""
        return np.where(np.array(self.most) >= k, values, np.nan)

    @functools.cached_property
    def cost(self) -> Floats:
        """Mean cost of an attempt per group over the items of known cost, (n_groups,)."""
        cost = np.where(np.isnan(self.n), np.nan, self.panel.measure("cost_usd"))
        return divide(np.nansum(cost, axis=0), (~np.isnan(cost)).sum(axis=0))

    def rows(self, k: int) -> pl.DataFrame:
        """Make a row per group: names, k, n_items, n, cost_usd; `_own`: k is on its curve."""
        return self.panel.groups.with_columns(
            pl.lit(k, pl.Int64).alias("k"),
            pl.Series("n_items", (~np.isnan(self.n)).sum(axis=0)).cast(pl.Int64),
            pl.Series("n", np.nansum(self.n, axis=0)).cast(pl.Int64),
            pl.Series("cost_usd", k * self.cost).fill_nan(None),
            pl.Series("_own", [k in curve_sizes(most) for most in self.most]),
            _place=pl.int_range(pl.len()),
        )

    def notes(self, task: str | None) -> tuple[str, ...]:
        """Name the groups whose curve is missing, or shorter than most of their items allow."""
        on = f" on {task}" if task else ""
        usual = np.nanmedian(self.panel.matrix("n_scored"), axis=0)
        named = list(zip(self.panel.labels, self.most, usual, strict=True))
        none = [name for name, most, _ in named if most == 0]
        early = [f"{name} at k = {k}" for name, k, n in named if 0 < k < n and k != self.cap]
        notes = []
        if none:
            notes.append(f"no item{on} has that many trials: {_few(none)}")
        if early and not self.is_fixed:
            notes.append(
                f"most items{on} have more trials than the curve's end: {_few(early)}; "
                "give k to leave out the items with fewer"
            )
        return tuple(notes)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "; ".join(names[:5]) + more


def attempts(panel: Panel, k: int | None, *, cap: int | None = None) -> Attempts:
    """Choose each group's largest k, and the items that have as many trials.

    A curve is of one set of items throughout, or it could fall where it must rise. Where `k` is
    open it is what nine in ten items of the group have, and `cap` at most: a few failed traces
    should not cost the whole curve.
    """
    n = panel.matrix("n_scored")
    passed = panel.matrix("outcome")
    common = np.nanquantile(np.where(n > 0, n, np.nan), 0.1, axis=0, method="lower")
    wanted = np.full(len(common), float(k)) if k is not None else np.fmin(common, cap or np.inf)
    keep = np.nan_to_num(n) >= wanted
    most = np.where(keep.any(axis=0), wanted, 0).astype(int).tolist()
    short = int((panel.tried & ~keep).sum())
    tried, right = (np.where(keep, x, np.nan) for x in (n, passed))
    return Attempts(panel, tried, right, most, short, k is not None, cap)


def ordered(
    parts: Sequence[pl.DataFrame], first: str, panel: Panel, columns: Sequence[Column]
) -> pl.DataFrame:
    """Join the rows of all k, the group with the best first attempt first.

    Args:
        parts: the rows of each k.
        first: the column of which the value at k = 1 decides.
        panel: whose groups they are.
        columns: what the table has beside the groups' names, in order.
    """
    if not parts:
        shape = empty((), columns).schema
        return panel.groups.clear().with_columns(pl.lit(None, d).alias(c) for c, d in shape.items())
    at_one = pl.when(pl.col("k") == 1).then(first).max().over("_place")
    table = pl.concat(parts).filter("_own").with_columns(_first=at_one)
    table = table.sort("_first", "_place", "k", descending=[True, False, False], nulls_last=True)
    return table.select(*panel.groups.columns, *(c.name for c in columns))


def unpriced(parts: Iterable[tuple[str | None, Panel]]) -> int:
    """Count the traces that count and have no cost."""
    return sum(int((p.rows["n"] - p.rows["cost_usd_known"]).sum()) for _, p in parts)
