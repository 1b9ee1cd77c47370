"""Task set (`TaskSet`): a task with its items, prompt and scorers."""

import dataclasses
from collections.abc import Mapping

from workbench import scoring
from workbench.datasets.spec import Example
from workbench.errors import TaskError
from workbench.records import Item, Score, Task, json_text
from workbench.scoring import Scorer, TaskItem


@dataclasses.dataclass(frozen=True, slots=True)
class TaskSet:
    """A task with its items, in the order of the file.

    Attributes:
        scorer: the scorer of the set; an item may have another one.
        prompt: the instruction before every question.
        examples: worked examples for strategies.
        scorers: the scorers of its items by name; shipped scorers may be absent.
        mapping: field → source in the file.
        notes: sentences on guesses and skipped rows.
    """

    task: Task
    items: list[TaskItem]
    scorer: Scorer
    prompt: str
    examples: tuple[Example, ...] = ()
    scorers: Mapping[str, Scorer] = dataclasses.field(default_factory=dict)
    mapping: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.task

    def scorers_of(self, item: TaskItem) -> tuple[Scorer, ...]:
        """Return an item's scorers; the first gives the trace its score."""
        return tuple(self.scorers.get(name) or scoring.get(name) for name in item.scorers)

    def score(self, item: TaskItem, text: str | None) -> Score:
        """Score a text with the item's first scorer; null text gives nulls.

        Raises:
            TaskError: the scorer needs a model or a sandbox; see
                `workbench.runner.attempts.grading`.
        """
        scorer = self.scorers_of(item)[0]
        if not callable(scorer):  # a hundred times faster than isinstance with the Protocol
            raise TaskError(
                f"{item.place}: scorer {scorer.name!r} needs something to run with; use"
                " workbench.runner.attempts.grading.grade"
            )
        score: Score = scorer(item, text)
        return score

    def record(self, item: TaskItem) -> Item:
        """Build the record of an item for the store."""
        return Item(
            task_id=self.task.task_id,
            item=item.item,
            input=item.question,
            target=item.target or None,
            tags=json_text(list(item.tags)) if item.tags else None,
            cluster=item.cluster,
            difficulty=item.difficulty,
            value_usd=item.value_usd,
            human_cost_usd=item.human_cost_usd,
            metadata=json_text(dict(item.metadata)) if item.metadata else None,
        )
