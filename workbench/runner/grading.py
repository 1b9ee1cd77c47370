"""Grades an answer with the scorers of its item."""

from workbench.datasets import TaskSet
from workbench.records import Score
from workbench.runner.session import Session
from workbench.scoring import TaskItem


async def grade(
    session: Session, task: TaskSet, item: TaskItem, text: str | None
) -> tuple[Score, ...]:
    """Score a text; the first score is the trace's. Null text gives nulls."""
    return (task.score(item, text),)
