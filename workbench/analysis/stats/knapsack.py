"""Multiple-choice knapsack, solved exactly: one option for each group under a common budget.

All non-dominated totals are built up group by group (Nemhauser & Ullmann 1969, Management Science
15:494): a choice that is dominated over some groups stays so over all.
"""

import dataclasses

import numpy as np

from workbench.analysis.stats.arrays import Floats, Ints
from workbench.errors import AnalysisError

_MOST_TOTALS = 2_000_000  # in memory at once


@dataclasses.dataclass(frozen=True, eq=False)
class Totals:
    """Non-dominated choices, cheapest first.

    Attributes:
        cost: (k,) total cost, strictly rising.
        value: (k,) total value, strictly rising.
    """

    cost: Floats
    value: Floats
    _steps: tuple[tuple[Ints, Ints], ...]  # per group: the option, and the total before it

    def best(self, budget: float) -> int | None:
        """Return the place of the most valuable choice within a budget; None if there is none."""
        # A budget that is a sum of these costs must not fail on the rounding of the sum.
        place = int(np.searchsorted(self.cost, budget * (1 + 1e-12) + 1e-15, side="right")) - 1
        return place if place >= 0 else None

    def options(self, place: int) -> Ints:
        """Return the option that each group takes, (n_groups,)."""
        chosen = np.empty(len(self._steps), np.int64)
        for group in range(len(self._steps) - 1, -1, -1):
            option, before = self._steps[group]
            chosen[group], place = option[place], before[place]
        return chosen


def solve(value: Floats, cost: Floats) -> Totals:
    """List the non-dominated ways to take exactly one option per group.

    Args:
        value: (n_groups, n_options); NaN where a group does not have the option.
        cost: (n_groups, n_options), not negative; NaN likewise.

    Raises:
        AnalysisError: a group without an option, or too many non-dominated totals to list.
    """
    known = ~(np.isnan(value) | np.isnan(cost))
    if not known.any(axis=1).all():
        raise AnalysisError("a group has no option whose value and cost are known")
    costs = np.zeros(1)
    values = np.zeros(1)
    steps = []
    for group in range(len(value)):
        options = np.flatnonzero(known[group])
        if len(options) * len(costs) > _MOST_TOTALS:
            reason = (
                f"{len(value):,} groups × {value.shape[1]:,} options have too many "
                "non-dominated totals"
            )
            raise AnalysisError(f"{reason}; take fewer groups, or fewer options")
        new_cost = (cost[group, options][:, None] + costs).ravel()
        new_value = (value[group, options][:, None] + values).ravel()
        stays = _non_dominated(new_cost, new_value)
        option, before = np.divmod(stays, len(costs))
        steps.append((options[option], before))
        costs = new_cost[stays]
        values = new_value[stays]
    return Totals(costs, values, tuple(steps))


def _non_dominated(cost: Floats, value: Floats) -> Ints:
    """Return the places of the non-dominated totals, cheapest first; of equal totals one."""
    order = np.lexsort((-value, cost))
    best = np.maximum.accumulate(value[order])
    # A gain within rounding error is none: it would keep the more expensive of two equal choices.
    rises = np.concatenate([[True], value[order][1:] > best[:-1] + 1e-12])
    return np.asarray(order[rises], np.int64)


def by_price(value: Floats, cost: Floats, price: float) -> Ints:
    """Take for every item the option of the largest value − price · cost; the cheapest of equals.

    The relaxation of the budget by a multiplier: for each price the choice is the best one at the
    total cost that it has, so over all prices it walks the concave hull of the totals.

    Args:
        value: (n_items, n_options).
        cost: (n_items, n_options), or (n_options,) where it is the same for all items.
        price: value per unit of cost, 0 or more; infinite takes the cheapest.
    """
    cost = np.broadcast_to(cost, value.shape)
    merit = -cost if np.isinf(price) else value - price * cost
    slack = 1e-12 * (1 + np.abs(merit).max(axis=1, keepdims=True))
    best = merit >= merit.max(axis=1, keepdims=True) - slack
    return np.asarray(np.argmin(np.where(best, cost, np.inf), axis=1), np.int64)


def within(rate: Floats, cost: Floats, budget: float) -> Ints | None:
    """Assign a model to each item under a budget for the mean cost, by one price for all items.

    It is the best assignment at the cost that it has; the exact best one within the budget may use
    what is left over, at most one item's worth of it (relaxation of the integer program of FORC).

    Args:
        rate: (n_items, m) accuracy as expected.
        cost: (n_items, m) cost as expected.
        budget: most mean cost.

    Returns:
        (n_items,) places; None where even the cheapest models are too expensive.
    """
    at = np.arange(len(rate))

    def mean(chosen: Ints) -> float:
        return float(cost[at, chosen].mean())

    slack = budget * (1 + 1e-12)
    chosen = by_price(rate, cost, 0.0)
    if mean(chosen) <= slack:
        return chosen
    chosen = by_price(rate, cost, float("inf"))
    if mean(chosen) > slack:
        return None
    low = 0.0
    high = 1.0 / max(float(np.ptp(cost, axis=1).max()), 1e-300)
    while mean(by_price(rate, cost, high)) > slack:
        low, high = high, high * 4
    for _ in range(60):
        middle = (low + high) / 2
        trial = by_price(rate, cost, middle)
        if mean(trial) > slack:
            low = middle
        else:
            high = middle
            chosen = trial
    return chosen
