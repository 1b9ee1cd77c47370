"""Strategy `diverse_prompts`: a vote over several wordings (Li et al., arXiv 2206.02336)."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.cot import STEPS, ask_for_steps
from workbench.runner.strategies.parallel import together
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.votes import majority

_PROMPTS = (
    "",
    "You are a patient teacher who explains every step.",
    "You are an engineer who checks every quantity twice.",
    "First say in your own words what is asked.",
    "First say what would be a wrong answer that comes to mind easily, and why it is wrong.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class DiversePrompts(Parameters):
    """Ask once for every prompt, at once, and take the commonest answer.

    After DiVeRSe, which varies the prompts to vary the reasoning; there, prompts differ by their
    worked examples and a trained verifier weighs the votes; here they differ by wording or persona,
    and votes weigh the same. Votes, ties, confidence and samples without an answer are as in
    `self_consistency`.

    Attributes:
        prompts: what comes before the instruction, each in its turn; "" is the plain instruction.
        samples: replies per prompt.
        temperature: of every reply, in place of the plan's.
    """

    name: ClassVar[str] = "diverse_prompts"
    shots: int = 5
    prompts: tuple[str, ...] = dataclasses.field(default=_PROMPTS, metadata={"least": 1})
    samples: int = dataclasses.field(default=1, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def most_calls(self) -> int:
        """The calls of one item."""
        return len(self.prompts) * self.samples

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with a call per prompt and sample; every prompt once before any twice."""
        chats = [
            ask_for_steps(session, item, self.shots, instruction=f"{prompt} {STEPS}".lstrip())
            for prompt in self.prompts
        ]
        replies = await together(
            session.generate(chat, temperature=self.temperature)
            for _ in range(self.samples)
            for chat in chats
        )
        vote = majority(session, item, [reply.text for reply in replies])
        chosen = replies[vote.place]
        return Outcome(
            chosen.text,
            confidence=vote.share,
            stop_reason=chosen.stop_reason,
            metadata={"prompt": vote.place % len(self.prompts)},
        )
