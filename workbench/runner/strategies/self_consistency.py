"""Strategy `self_consistency`: a vote over chains of thought (Wang et al., arXiv 2203.11171)."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.parallel import sampled
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.votes import majority


@dataclasses.dataclass(frozen=True, slots=True)
class SelfConsistency(Parameters):
    """Ask for `samples` chains of thought, at once, and take the commonest answer.

    The answers are those that the item's scorer reads, so that two ways to write one answer count
    together as far as the scorer sees them as one; ties go to the answer that came first. What is
    scored is the first reply with that answer. The confidence is its share of all samples; a sample
    without an answer votes for none and still counts. Without any answer the first reply with text
    stands, its confidence unknown.

    Attributes:
        samples: calls per item.
        temperature: of every sample, in place of the plan's.
    """

    name: ClassVar[str] = "self_consistency"
    shots: int = 5
    samples: int = dataclasses.field(default=5, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def most_calls(self) -> int:
        """The calls of one item."""
        return self.samples

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with a call per sample."""
        chat = ask_for_steps(session, item, self.shots)
        replies = await sampled(session, chat, self.samples, self.temperature)
        vote = majority(session, item, [reply.text for reply in replies])
        chosen = replies[vote.place]
        return Outcome(chosen.text, confidence=vote.share, stop_reason=chosen.stop_reason)
