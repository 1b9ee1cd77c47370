"""Strategy `direct`: the answer and nothing else."""

import dataclasses
from typing import ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.session import Outcome, Session
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.shots import opening


@dataclasses.dataclass(frozen=True, slots=True)
class Direct(Parameters):
    """Ask for the answer alone, after `shots` worked examples.

    The model's turn is begun for it with "Answer:", so that it cannot think aloud first.
    """

    name: ClassVar[str] = "direct"
    shots: int = 5

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
