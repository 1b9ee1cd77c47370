"""Strategy `direct`: the answer and nothing else."""

import dataclasses
from typing import ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.few_shot import opening
from workbench.runner.strategies.parameters import Parameters


@dataclasses.dataclass(frozen=True, slots=True)
class Direct(Parameters):
    """Ask for the answer alone, after `shots` worked examples.

    Where the model is known to go on with a turn that was begun for it (base models, models in this
    process, llama.cpp), it is begun with "Answer:", so that it cannot think aloud first.
    """

    name: ClassVar[str] = "direct"
    shots: int = 5

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call."""
        chat = opening(
            session.task,
            item,
            shots=self.shots,
            answer=_answer,
            instruction="Reply with the answer alone.",
        )
        begun = [{"role": "assistant", "content": "Answer:"}] if session.goes_on else []
        reply = await session.generate([*chat, *begun])
        return Outcome(reply.text)


def _answer(example: Example) -> str:
    return f"Answer: {example.target}"
