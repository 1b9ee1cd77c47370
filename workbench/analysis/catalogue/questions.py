"""What an analysis asks of its result, and what of it is open; `outlook` finds both, `sentences` writes them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.analysis.core.declaration import Analysis, Settles
from workbench.analysis.core.result import Result
from workbench.schema import Column

Row = Mapping[str, Any]
FAR = 1_000_000  # items beyond which nobody asks
OFTEN = 1000  # repeats of everything; also times as many items as there are, where their number is not known
_LESS = {"USD", "s", "J", "g", "Wh", "MW", "GWh", "PTE", "TFLOP", "tokens", "J/token"}
_OUTCOMES = {"pass_rate", "rate", "score", "difference"}  # of which trials are known


def is_less(settles: Settles, unit: str, options: Mapping[str, Any]) -> bool:
    """Say whether the group with the least of a figure leads."""
    if settles.better is not None:
        return settles.better == "less"
    return bool(options.get("minimise_y")) or unit in _LESS


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a result.

    Attributes:
        declared: the analysis.
        result: its answer.
        settles: how it was declared.
        column: the figure.
        rows: those where the figure is known.
        own: the columns that name a group.
        within: those that rows must share to be held against each other.
        level: nominal coverage of the intervals.
    """

    declared: Analysis
    result: Result
    settles: Settles
    column: Column
    rows: Sequence[Row]
    own: tuple[str, ...]
    within: tuple[str, ...]
    level: float

    @property
    def of_outcome(self) -> bool:
        """Whether the figure is a mean over items of what their trials came to, or a difference of two."""
        return self.column.name in _OUTCOMES and self.settles.unit == "items"

    @property
    def less(self) -> bool:
        """Whether the group with the least of the figure leads."""
        return is_less(self.settles, self.column.unit, self.result.options)

    def ends(self, row: Row) -> tuple[float, float, float]:
        """The figure and its interval; NaN where unknown."""
        name = self.column.name
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return tuple(math.nan if x is None else float(x) for x in (value, low, high))  # type: ignore[return-value]  # of three

    def count(self, row: Row) -> int | None:
        """How many items, or whatever shrinks the interval, stand behind the row; None where it does not say."""
        found = row.get(self.settles.n)
        return None if found is None else int(found)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A question that is open.

    Attributes:
        rows: the row of a figure that is held against a neutral value; or of two groups, the
            leader's first.
        needed: the items it takes, of each group; infinite where no number of them does.
        relative: whether that is a multiple of those there are, because rows do not say how many.
        neutral: the neutral value; None between groups.
        half: half the width of the interval on that side, of the difference between groups.
        difference: how far it is from the neutral value, or one group from the other.
        others: how many more figures, or groups, are as open.
        elsewhere: in how many more tasks, or sizes, leaders are open.
        easier: a group further behind that it takes less to tell from the leader.
        partial: whether groups without an interval are ahead of the leader.
        repeats: whether it takes no further items, but all of them again.
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
        """Whether anybody would try so many."""
        return self.needed <= (OFTEN if self.relative or self.repeats else FAR)
