"""Strategy `direct`: the answer and nothing else."""

import dataclasses
from typing import Any, ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.session import Outcome, Session
from workbench.runner.strategies.shots import opening


@dataclasses.dataclass(frozen=True, slots=True)
class Direct:
    """Ask for the answer alone, after `shots` worked examples.

    The model's turn is begun for it with "Answer:", so that it cannot think aloud first.
    """

    name: ClassVar[str] = "direct"
    shots: int = 5

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as the configuration keeps them."""
        return dataclasses.asdict(self)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call."""
        chat = opening(
            session.task, item, shots=self.shots, answer=_answer,
            instruction="Reply with the answer alone.",
        )  # fmt: skip
        reply = await session.generate([*chat, {"role": "assistant", "content": "Answer:"}])
        return Outcome(reply.text)


def _answer(example: Example) -> str:
    return f"Answer: {example.target}"
