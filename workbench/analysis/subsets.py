"""What a random subset of the recorded trials would have done, drawn without replacement."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.panel import Panel, divide
from workbench.analysis.result import empty
from workbench.schema import Column

Floats = npt.NDArray[np.float64]
SHORT = "items with fewer trials than the curve has attempts, per group"
UNPRICED = "traces without a cost, left out of the cost"
_COUNTED = 2000  # counts up to which pairs of them are not sorted
_SHOWN = 25  # sizes up to which a curve has them all


def all_marked(marked: npt.ArrayLike, n: npt.ArrayLike, k: int) -> Floats:
    """Chance that k draws from n trials are all among the marked ones: C(m, k) / C(n, k).

    With the passed ones marked it is pass^k (Yao et al. 2024, arXiv 2406.12045); with the others
    marked, 1 − it is the unbiased pass@k (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    Args:
        marked: (...) counts of marked trials, 0 ≤ m ≤ n.
        n: (...) counts of trials; NaN where nothing was tried.
        k: how many are drawn.

    Returns:
        (...) chances; NaN where there are fewer than k trials.
    """
    m, size = np.broadcast_arrays(np.asarray(marked, float), np.asarray(n, float))
    enough = size >= k
    # The same few pairs of counts occur over and over: the product is taken once for each.
    pairs = np.stack([m[enough], size[enough]], axis=-1)
    distinct, place = _distinct(pairs)
    drawn = np.arange(k)
    left, total = distinct[:, :1] - drawn, distinct[:, 1:] - drawn
    chance = np.prod(np.maximum(left, 0.0) / total, axis=1)
    out = np.full(m.shape, np.nan)
    out[enough] = chance[place]
    return out


def _distinct(pairs: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """List distinct pairs of whole numbers, and for every row the place of its pair."""
    if not len(pairs):
        return np.empty((0, 2)), np.empty(0, np.intp)
    width = int(pairs.max()) + 1
    codes = (pairs[:, 0] * width + pairs[:, 1]).astype(np.int64)
    if width > _COUNTED:
        codes, place = np.unique(codes, return_inverse=True)
    else:
        here = np.zeros(width * width, bool)
        here[codes] = True
        codes, place = np.flatnonzero(here), (np.cumsum(here) - 1)[codes]
    return np.column_stack([codes // width, codes % width]).astype(float), place


def sizes(most: int) -> list[int]:
    """The subset sizes of a curve: all up to 25, else 25 that are even in the logarithm."""
    if most <= _SHOWN:
        return list(range(1, most + 1))
    return sorted({round(k) for k in np.geomspace(1, most, _SHOWN).tolist()})


@dataclasses.dataclass(frozen=True, eq=False)
class Attempts:
    """How often each item of a panel was tried and passed, where it has enough trials.

    Attributes:
        n, passed: (n_items, n_groups) counts; NaN where a group is not judged on the item.
        most: (n_groups,) the largest k of each group's curve; 0 where it has none.
        n_short: items that had fewer trials than asked for, added up over the groups.
        asked: whether the largest k was asked for.
        cap: what no curve goes beyond; None where there is no such bound.
    """

    panel: Panel
    n: Floats
    passed: Floats
    most: list[int]
    n_short: int
    asked: bool
    cap: int | None = None

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Every k that is on the curve of some group."""
        return sorted({k for most in set(self.most) for k in sizes(most)})

    def at_least_one(self, k: int) -> Floats:
        """pass@k of every item, (n_items, n_groups)."""
        return self.within(1.0 - all_marked(self.n - self.passed, self.n, k), k)

    def curve(self, group: int) -> Floats:
        """pass@k of one group's items for every k of its own curve, (n_items, n_sizes)."""
        n, wrong = self.n[:, group], (self.n - self.passed)[:, group]
        return np.column_stack([1.0 - all_marked(wrong, n, k) for k in sizes(self.most[group])])

    def all(self, k: int) -> Floats:
        """pass^k of every item, (n_items, n_groups)."""
        return self.within(all_marked(self.passed, self.n, k), k)

    def within(self, values: Floats, k: int) -> Floats:
        """Blank what lies beyond the end of a group's curve."""
        return np.where(np.array(self.most) >= k, values, np.nan)

    @functools.cached_property
    def cost(self) -> Floats:
        """Mean cost of an attempt per group over the items of known cost, (n_groups,)."""
        cost = np.where(np.isnan(self.n), np.nan, self.panel.measure("cost_usd"))
        return divide(np.nansum(cost, axis=0), (~np.isnan(cost)).sum(axis=0))

    def rows(self, k: int) -> pl.DataFrame:
        """Begin a row per group: its names, k, n_items, n, cost_usd; `_own`, whether k is on its curve."""
        return self.panel.groups.with_columns(
            pl.lit(k, pl.Int64).alias("k"),
            pl.Series("n_items", (~np.isnan(self.n)).sum(axis=0)).cast(pl.Int64),
            pl.Series("n", np.nansum(self.n, axis=0)).cast(pl.Int64),
            pl.Series("cost_usd", k * self.cost).fill_nan(None),
            pl.Series("_own", [k in sizes(most) for most in self.most]),
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
        if early and not self.asked:
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
    n, passed = panel.matrix("n_scored"), panel.matrix("outcome")
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
