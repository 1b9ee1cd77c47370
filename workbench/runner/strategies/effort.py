"""Strategy `effort`: the answer, with an effort of thinking that the strategy itself asks for."""

import dataclasses
from typing import ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.providers.effort import LEVELS
from workbench.runner.strategies.few_shot import Turn, opening
from workbench.runner.strategies.parameters import Parameters


@dataclasses.dataclass(frozen=True, slots=True)
class Effort(Parameters):
    """Ask for the answer with an effort level; for models that think by themselves.

    The level goes out in each provider's words (see `providers/effort.py`): `reasoning_effort` for
    OpenAI's chat, `reasoning.effort` for its Responses and for OpenRouter, adaptive thinking or a
    thinking budget for Claude, a thinking level or budget for Gemini, the variables of the chat
    template for a local server. What went out is in `calls.effort_sent`; a service that does not
    know the level refuses it.

    Attributes:
        level: none, minimal, low, medium, high, xhigh or max, in place of the plan's effort.
    """

    name: ClassVar[str] = "effort"
    shots: int = 5
    level: str = dataclasses.field(default="medium", metadata={"choices": LEVELS})

    @property
    def effort(self) -> str:
        """The effort as requested."""
        return self.level

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call."""
        chat = ask_for_answer(session, item, self.shots)
        reply = await session.generate(chat, reasoning_effort=self.level)
        return Outcome(reply.text)


def ask_for_answer(session: Session, item: TaskItem, shots: int) -> list[Turn]:
    """Write the chat that asks for the answer, and leaves the thinking to the model."""
    return opening(
        session.task,
        item,
        shots=shots,
        answer=_answer,
        instruction="Write 'Answer:' and the answer.",
    )


def _answer(example: Example) -> str:
    return f"Answer: {example.target}"
