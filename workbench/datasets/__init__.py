"""Task sets and sample traces; the one package that knows where `data/` is.

A task set is a file with one item a row: CSV, JSON Lines, JSON or Parquet. What the set says of
itself (`Header`) is the first line of a `.jsonl` file, a `.toml` file of the same name beside it,
or a table of the plan (`TaskSpec`); columns that nobody names are guessed by their names, and what
was guessed is said (`TaskSet.notes`).
"""

from workbench.datasets.loading import Loaded, examine, load_task
from workbench.datasets.reading import SUFFIXES
from workbench.datasets.shipped import (
    by_hand_dir,
    data_dir,
    sample_prices,
    sample_traces_dir,
    task_names,
)
from workbench.datasets.spec import Example, Header, TaskSpec
from workbench.datasets.taskset import TaskSet
from workbench.scoring import TaskItem

__all__ = [
    "SUFFIXES",
    "Example",
    "Header",
    "Loaded",
    "TaskItem",
    "TaskSet",
    "TaskSpec",
    "by_hand_dir",
    "data_dir",
    "examine",
    "load_task",
    "sample_prices",
    "sample_traces_dir",
    "task_names",
]
