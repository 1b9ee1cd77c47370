"""Strategy `sequential_refinement`: answer, then improve the answer, several times."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.rounds import refined

_AGAIN = (
    "{question}\n\nAn earlier answer to this, which may hold mistakes:\n{answer}\n\nWrite a better"
    " answer: think step by step, then write 'Answer:' and the answer."
)


@dataclasses.dataclass(frozen=True, slots=True)
class SequentialRefinement(Parameters):
    """Ask for a chain of thought, then `rounds` times for a better one, given the last one alone.

    After the sequential baseline of Madaan et al. 2025 (arXiv 2510.01123): one candidate is
    improved iteratively. Unlike `self_refine` nothing is criticised apart, and a round sees only
    the answer before it, so that the prompt does not grow. A round that says nothing ends it: the
    answer before stands. What each round came to is in the trace's metadata: rounds (see
    `rounds.py`).

    Attributes:
        rounds: revisions, at most.
    """

    name: ClassVar[str] = "sequential_refinement"
    shots: int = 5
    rounds: int = dataclasses.field(default=2, metadata={"least": 1})

    @property
    def most_calls(self) -> int:
        """The answer, and a call a round."""
        return 1 + self.rounds

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item, a call after the other."""
        chat = ask_for_steps(session, item, self.shots)

        async def revise(answer: Reply) -> Reply:
            words = _AGAIN.format(question=item.question, answer=answer.text)
            return await session.generate(ask_again(chat, words))

        return await refined(session, item, chat, rounds=self.rounds, revise=revise)


def ask_again(chat: list[Turn], words: str) -> list[Turn]:
    """Put other words in the place of the question that ends a chat."""
    return [*chat[:-1], {"role": "user", "content": words}]
