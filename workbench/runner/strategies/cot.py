"""Strategy `cot`: think step by step, then answer (Wei et al. 2022, arXiv 2201.11903)."""

import dataclasses
from typing import ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.few_shot import Turn, opening
from workbench.runner.strategies.parameters import Parameters

STEPS = "Think step by step, then write 'Answer:' and the answer."


@dataclasses.dataclass(frozen=True, slots=True)
class ChainOfThought(Parameters):
    """Ask for steps and then "Answer:", after `shots` worked examples.

    The steps are visible text: they cost output tokens and count as no thinking tokens.
    """

    name: ClassVar[str] = "cot"
    shots: int = 5

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call."""
        reply = await session.generate(ask_for_steps(session, item, self.shots))
        return Outcome(reply.text)


def ask_for_steps(
    session: Session, item: TaskItem, shots: int, *, instruction: str = STEPS
) -> list[Turn]:
    """Write the chat that asks for steps and then the answer."""
    return opening(session.task, item, shots=shots, instruction=instruction, answer=_answer)


def _answer(example: Example) -> str:
    return f"{example.thought}\nAnswer: {example.target}".lstrip()
