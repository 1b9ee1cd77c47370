"""Strategy `self_refine`: answer, criticise, revise (Madaan et al. 2023, arXiv 2303.17651)."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.rounds import refined

_NONE = "No mistakes."
_CRITICISE = (
    "Check this answer step by step and list its mistakes."
    f" Where it has none, write '{_NONE}' alone."
)
_REVISE = (
    "Now answer the question again without these mistakes: think step by step, then write"
    " 'Answer:' and the answer."
)


@dataclasses.dataclass(frozen=True, slots=True)
class SelfRefine(Parameters):
    """Ask for a chain of thought, then `rounds` times for a critique and a revision, in one chat.

    It ends early where the model finds no mistake. The last answer is scored; where nothing came
    (an empty critique or revision), the answer before it stands. Critiques have the role
    "verifier". What each round came to is in the trace's metadata: rounds (see `rounds.py`).

    Attributes:
        rounds: critiques, and revisions after them, at most.
    """

    name: ClassVar[str] = "self_refine"
    shots: int = 5
    rounds: int = dataclasses.field(default=1, metadata={"least": 1})

    @property
    def most_calls(self) -> int:
        """The answer, and two calls a round."""
        return 1 + 2 * self.rounds

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item; every call sees all that was said before."""
        chat = ask_for_steps(session, item, self.shots)

        async def revise(answer: Reply) -> Reply | None:
            chat.extend([_turn("assistant", answer.text), _turn("user", _CRITICISE)])
            critique = await session.generate(chat, role="verifier")
            if _is_content(critique.text):
                return None
            chat.extend([_turn("assistant", critique.text), _turn("user", _REVISE)])
            return await session.generate(chat)

        return await refined(session, item, chat, rounds=self.rounds, revise=revise)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _is_content(critique: str) -> bool:
    """Whether a critique is empty or states that there is no mistake."""
    verdict = critique.strip(" \t\r\n.*_'\"").casefold()
    return not verdict or verdict == _NONE.strip(".").casefold()
