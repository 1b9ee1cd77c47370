"""Datasets: loading of task sets from files, and paths of the shipped data.

A task set is a file with one item per row: CSV, JSON Lines, JSON or Parquet. Its header (`Header`)
is the first line of a `.jsonl` file, a `.toml` file of the same name, or a table of the plan
(`TaskSpec`). Columns that the header does not assign are guessed by their names, and
`TaskSet.notes` lists the guesses.
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
