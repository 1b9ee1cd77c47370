"""Traces with a score and a cost, and pairs of groups that agree as often as asked."""

import polars as pl
import polars.testing

from tests.support.facts import facts


def trace(group: str, item: str, passed: bool | None = True, cost: float | None = 1.0, **more):
    """One trace of a group on an item."""
    named = {"configuration": group, "model": group, "task": "t", "task_id": "t", "item": item}
    score = None if passed is None else float(passed)
    named |= {"item_id": item, "trial": 0, "passed": passed, "score": score, "cost_usd": cost}
    return named | more


def counted(both: int, only_a: int, only_b: int, neither: int) -> pl.DataFrame:
    """Two groups on single-trial items with given agreement."""
    cells = [(True, True)] * both + [(True, False)] * only_a
    cells += [(False, True)] * only_b + [(False, False)] * neither
    return facts(
        *[
            trace(g, f"{i:05}", ok)
            for i, pair in enumerate(cells)
            for g, ok in zip("ab", pair, strict=True)
        ]
    )
