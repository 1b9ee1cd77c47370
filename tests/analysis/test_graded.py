"""Graded scores of which none passes: who asks for rates is told to ask for scores."""

import pytest

from tests.support.facts import facts
from workbench import analysis

ASKED = (
    "summary",
    "frontier",
    "tradeoff",
    "compare",
    "ranking",
    "budget-curve",
    "efficiency-scores",
)


def traces(*, passed: bool = False, graded: bool = True) -> list[dict]:
    """Two models on eight items; b scores twice as much."""
    return [
        {
            "configuration": m,
            "model": m,
            "task": "t",
            "task_id": "t",
            "item": str(i),
            "item_id": str(i),
            "trial": 0,
            "passed": passed and i == 0,
            "score": cost * (0.1 + 0.03 * i) if graded else 0.0,
            "cost_usd": cost,
            "e2e_s": 1.0,
        }
        for m, cost in (("a", 1.0), ("b", 2.0))
        for i in range(8)
    ]


@pytest.mark.parametrize("name", ASKED)
def test_scores_are_offered_where_none_passes(name: str) -> None:
    """The note comes first, with the option; groups are not called tied at 0."""
    result = analysis.run(name, facts(*traces()), by="model")

    assert result.notes[0].startswith("no trace passes, as scores are graded (0.1 to 0.62)")
    assert "--outcome score" in result.notes[0]
    assert result.outlook == ()

    asked = analysis.run(name, facts(*traces()), by="model", outcome="score")
    assert not any("no trace passes" in note for note in asked.notes)


@pytest.mark.parametrize("name", ["coverage", "cost-of-pass"])
def test_who_only_knows_right_and_wrong_says_so(name: str) -> None:
    """They have no option for scores."""
    assert "only knows right and wrong" in analysis.run(name, facts(*traces())).notes[0]


@pytest.mark.parametrize("rows", [traces(passed=True), traces(graded=False)], ids=["passed", "0"])
def test_nothing_is_said_where_zero_is_an_answer(rows: list[dict]) -> None:
    """One passed, or all scores are 0."""
    assert not any("no trace passes" in n for n in analysis.summary(facts(*rows)).notes)


@pytest.mark.parametrize("name", ["frontier", "tradeoff"])
def test_the_outcome_is_the_axis_of_gain(name: str) -> None:
    """`outcome` means the same everywhere; an axis that was named stays."""
    frame = facts(*traces())
    by_outcome = analysis.run(name, frame, by="model", outcome="score")

    assert by_outcome.frame.equals(analysis.run(name, frame, by="model", y="score").frame)
    assert by_outcome.options["y"] == "score"
    assert "score" in by_outcome.frame.columns
