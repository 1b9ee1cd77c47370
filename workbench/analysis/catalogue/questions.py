"""Questions that a result may leave open: types shared by `what_would_it_take` and `sentences`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.analysis.core.declaration import Analysis, Settles
from workbench.analysis.core.result import Result
from workbench.schema import Column

Row = Mapping[str, Any]
MOST_ITEMS = 1_000_000  # a larger number of items is called unrealistic
# the same for repeats of the whole set, and for multiples where the number of items is unknown
MOST_REPEATS = 1000
_LESS_IS_BETTER = {"USD", "s", "J", "g", "Wh", "MW", "GWh", "PTE", "TFLOP", "tokens", "J/token"}
_OUTCOMES = {"pass_rate", "rate", "score", "difference"}  # figures that average over trials


def is_less(settles: Settles, unit: str, options: Mapping[str, Any]) -> bool:
    """Whether the group with the least of a figure leads."""
    if settles.better is not None:
        return settles.better == "less"
    return bool(options.get("minimise_y")) or unit in _LESS_IS_BETTER


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """The question of an analysis, applied to its result.

    Attributes:
        declared: the analysis.
        result: its answer.
        settles: its declaration.
        column: the figure.
        rows: the rows where the figure is known.
        group_columns: the columns that name a group.
        within: the columns that rows must share to be compared with each other.
        level: nominal coverage of the intervals.
    """

    declared: Analysis
    result: Result
    settles: Settles
    column: Column
    rows: Sequence[Row]
    group_columns: tuple[str, ...]
    within: tuple[str, ...]
    level: float

    @property
    def of_outcome(self) -> bool:
        """Whether the figure is a mean over items of their trials' outcomes, or a difference."""
        return self.column.name in _OUTCOMES and self.settles.unit == "items"

    @property
    def less(self) -> bool:
        """Whether the group with the least of the figure leads."""
        return is_less(self.settles, self.column.unit, self.result.options)

    def ends(self, row: Row) -> tuple[float, float, float]:
        """The figure and its interval; NaN where unknown."""
        name = self.column.name
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        point, lower, upper = (math.nan if x is None else float(x) for x in (value, low, high))
        return point, lower, upper

    def count(self, row: Row) -> int | None:
        """Count the items, or other units, behind a row; None if it has no such column."""
        n = row.get(self.settles.n)
        return None if n is None else int(n)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A comparison that the intervals leave open.

    Attributes:
        rows: the row whose figure is compared with a neutral value; or those of two groups, the
            leader's first.
        needed: the items that each group needs; infinite where no number suffices.
        relative: whether `needed` is a multiple of the present number, because rows do not give it.
        neutral: the neutral value; None between groups.
        half: half the width of the interval on that side, of the difference between groups.
        difference: the distance from the neutral value, or between the groups.
        others: how many more figures, or groups, are open.
        elsewhere: in how many more tasks, or sizes, the leader is open.
        easier: a group further behind that needs fewer items to be distinguished from the leader.
        partial: whether groups without an interval are ahead of the leader.
        repeats: whether `needed` counts repeats of all items rather than further items.
    """

    rows: tuple[Mapping[str, Any], ...]
    needed: float
    relative: bool
    neutral: float | None
    half: float
    difference: float
    others: int = 0
    elsewhere: int = 0
    easier: "Case | None" = None
    partial: bool = False
    repeats: bool = False

    @property
    def within_reach(self) -> bool:
        """Whether the number is realistic."""
        return self.needed <= (MOST_REPEATS if self.relative or self.repeats else MOST_ITEMS)
