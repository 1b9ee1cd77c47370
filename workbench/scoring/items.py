"""Items to score: one question of a task set, with the data that its scorers need."""

import dataclasses
from collections.abc import Mapping
from typing import Any

LETTERS = "ABCDEFGHIJ"


@dataclasses.dataclass(frozen=True, slots=True)
class TaskItem:
    """One question of a task set.

    Attributes:
        task: name of the set.
        item: key within the set.
        target: the accepted truth, as text; of a choice, its letter; "" where a scorer needs none.
        scorer: name of the scorer that reads the answer and gives the trace its score.
        difficulty: the higher the harder, on the set's own scale; null where not graded.
        cluster: items that share a template are not independent; null is a cluster of its own.
        choices: options of a multiple choice, A first; empty where the answer is free.
        metadata: what the scorer may need of this item (`tolerance`, `pattern`, `tests`, `rubric`,
            further `accepted` targets) and what the author adds.
        more_scorers: names of further scorers, recorded beside the first.
        options: settings of the scorers that all items share; the item's metadata goes before them.
        value_usd: what a right answer is worth, in USD; null where unknown.
        human_cost_usd: what a person's answer costs, in USD; null where unknown.
    """

    task: str
    item: str
    input: str
    target: str
    scorer: str = "exact"
    tags: tuple[str, ...] = ()
    difficulty: float | None = None
    cluster: str | None = None
    choices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    more_scorers: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    value_usd: float | None = None
    human_cost_usd: float | None = None

    @property
    def question(self) -> str:
        """The input with its lettered options, as the model sees it."""
        options = [f"{letter}) {text}" for letter, text in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.input, *options])

    @property
    def scorers(self) -> tuple[str, ...]:
        """All its scorers by name, each once; the first gives the trace its score."""
        return tuple(dict.fromkeys((self.scorer, *self.more_scorers)))

    @property
    def targets(self) -> tuple[str, ...]:
        """Every accepted truth, the target first."""
        more = self.metadata.get("accepted", ())
        return (self.target, *(str(t) for t in more if isinstance(more, list | tuple)))

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.task}, item {self.item}"

    def option(self, name: str, default: Any = None) -> Any:
        """Look a scorer's setting up: the item's own, else the set's, else the default."""
        for where in (self.metadata, self.options):
            if where.get(name) is not None:
                return where[name]
        return default
