"""Sums as a task: "What is 3 + 1?", in memory or as a task file."""

import json
from pathlib import Path

from workbench import scoring
from workbench.datasets import TaskSet
from workbench.records import Task
from workbench.scoring import TaskItem


def items(n: int, task: str = "sums") -> list[TaskItem]:
    """The first sums, scored as numbers."""
    return [
        TaskItem(
            task=task, item=str(i), input=f"What is {i} + 1?", target=str(i + 1), scorer="numeric"
        )
        for i in range(n)
    ]


def task_set(n: int = 4, task: str = "sums") -> TaskSet:
    """A task of the first sums."""
    return TaskSet(Task(task=task), items(n, task), scoring.get("numeric"), "Answer.")


def write(path: Path, n: int) -> Path:
    """Write the first sums as a task file; returns its path."""
    rows = ({"input": i.input, "target": i.target, "scorer": i.scorer} for i in items(n))
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path
