"""Dollars that were billed stand in where none can be computed, and that is said."""

import polars as pl
import pytest

from tests.support.facts import facts
from workbench import analysis
from workbench.errors import AnalysisError

MONEY = ("economics", "tradeoff", "cost-of-pass", "compare", "frontier", "budget-curve", "routing")


def traces(model: str, cost: float | None, billed: float | None, n: int = 8) -> list[dict]:
    """Half of the items right; the dearer model gets more of them."""
    right = 4 if model == "a" else 6
    return [
        {
            "configuration": model,
            "model": model,
            "task": "t",
            "task_id": "t",
            "item": str(i),
            "item_id": str(i),
            "trial": k,
            "passed": i < right,
            "cost_usd": cost,
            "billed_cost_usd": billed,
            "e2e_s": 1.0,
        }
        for i in range(n)
        for k in range(2)
    ]


def ask(name: str, frame: pl.DataFrame) -> pl.DataFrame | str:
    """The answer, or why there is none."""
    try:
        return analysis.run(name, frame, by="model").frame
    except AnalysisError as error:
        return str(error)


@pytest.mark.parametrize("name", analysis.names())
def test_bills_alone_give_what_the_same_computed_costs_give(name: str) -> None:
    """No analysis is empty of dollars that are known."""
    billed = facts(*traces("a", None, 0.5), *traces("b", None, 2.0))
    computed = facts(*traces("a", 0.5, 0.5), *traces("b", 2.0, 2.0))

    found, expected = ask(name, billed), ask(name, computed)

    assert str(found) == str(expected)


@pytest.mark.parametrize("name", MONEY)
def test_it_is_said_how_many_costs_are_billed_ones(name: str) -> None:
    """A note counts them, and names groups in which both kinds stand side by side."""
    frame = facts(*traces("a", 0.5, 9.0), *traces("b", None, 2.0)[:6], *traces("b", 2.0, None)[6:])

    notes = " ".join(analysis.run(name, frame, by="model").notes)

    assert "billed dollars stand in where none can be computed: 6 costs" in notes
    assert "beside computed ones in b (6 of 16)" in notes


def test_what_can_be_computed_is_never_replaced() -> None:
    """The bill of a is another figure, and no note is needed."""
    result = analysis.summary(facts(*traces("a", 0.5, 9.0)), by="model")

    assert result.frame["cost_usd"][0] == 0.5
    assert not any("billed" in note for note in result.notes)


@pytest.mark.parametrize("trial", [1, 7, None], ids=str)
def test_single_trials_are_allocated_whatever_their_number(trial: int | None) -> None:
    """A table that counts trials from 1, or has no numbers, gave no rows: none of them was even."""
    groups = (("a", 0.5), ("b", 2.0), ("c", 4.0))
    rows = [row for model, cost in groups for row in traces(model, cost, None) if row["trial"] == 0]
    from_zero = analysis.allocation(facts(*rows), by="model")

    found = analysis.allocation(facts(*[row | {"trial": trial} for row in rows]), by="model")

    assert from_zero.frame.height > 0
    assert found.frame.equals(from_zero.frame)
    assert found.notes == from_zero.notes
