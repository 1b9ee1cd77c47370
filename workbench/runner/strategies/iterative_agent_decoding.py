"""Strategy `iterative_agent_decoding`: sample, verify and sample again (after arXiv 2504.01931)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.parallel import sampled
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.reply_scores import Mark, verified
from workbench.runner.strategies.sequential_refinement import ask_again

_AGAIN = (
    "{question}\n\nThe best answer so far:\n{answer}\n\nWhat a verifier says of"
    " it:\n{verdict}\n\nWrite a better"
    " answer: think step by step, then write 'Answer:' and the answer."
)
_SILENT = "(it may hold mistakes)"
_VERIFIERS = ("self", "judge", "oracle")


class _Best(NamedTuple):
    reply: Reply
    mark: Mark
    round: int


@dataclasses.dataclass(frozen=True, slots=True)
class IterativeAgentDecoding(Parameters):
    """In each round, sample `samples` answers, given the best so far and its verdict.

    Best-of-n whose samples know of the rounds before, after "Review, Refine, Repeat: Understanding
    Iterative Decoding of AI Agents with Dynamic Evaluation and Selection". Every different reply is
    marked 0..1 in the role "verifier"; a later reply becomes the best only with a higher mark, and
    a mark that cannot be read is below all. It ends early where the best mark reaches `enough`. The
    trace's metadata has the rounds made and the round of the best.

    Attributes:
        rounds: at most.
        samples: replies a round.
        enough: the mark, 0..1, that ends it.
        temperature: of every reply, in place of the plan's.
        verifier: "self", the same model; "judge", a helper model; "oracle", the item's scorer,
            which knows the target: a ceiling, no strategy that could be used.
        judge: the helper model that marks where the verifier is judge.
    """

    name: ClassVar[str] = "iterative_agent_decoding"
    shots: int = 5
    rounds: int = dataclasses.field(default=3, metadata={"least": 1})
    samples: int = dataclasses.field(default=2, metadata={"least": 1})
    enough: float = dataclasses.field(default=1.0, metadata={"most": 1})
    temperature: float = 0.7
    verifier: str = dataclasses.field(default="self", metadata={"choices": _VERIFIERS})
    judge: str = "judge"

    @property
    def most_calls(self) -> int:
        """A reply per round and sample, and a mark where a model marks."""
        return self.rounds * self.samples * (1 if self.verifier == "oracle" else 2)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper models that it asks."""
        return (self.judge,) if self.verifier == "judge" else ()

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        chat = prompt = ask_for_steps(session, item, self.shots)
        best, turn = _Best(Reply(), Mark(), 0), 0
        for turn in range(1, self.rounds + 1):
            replies = await sampled(session, prompt, self.samples, self.temperature)
            marks = await verified(
                session, item, [r.text for r in replies], by=self.verifier, judge=self.judge
            )
            best = _better(best, replies, marks, turn)
            if best.mark.rank >= self.enough:
                break
            if best.reply.text.strip():
                words = _AGAIN.format(
                    question=item.question,
                    answer=best.reply.text,
                    verdict=best.mark.text.strip() or _SILENT,
                )
                prompt = ask_again(chat, words)
        return Outcome(
            best.reply.text,
            verifier_score=best.mark.score,
            stop_reason=best.reply.stop_reason,
            metadata={"rounds": turn, "best_round": best.round or None},
        )


def _better(best: _Best, replies: Sequence[Reply], marks: Sequence[Mark], turn: int) -> _Best:
    """Return the best of a round and of those before; anything said is better than nothing."""
    for reply, given in zip(replies, marks, strict=True):
        is_first = reply.text.strip() and not best.reply.text.strip()
        if is_first or (reply.text.strip() and given.rank > best.mark.rank):
            best = _Best(reply, given, turn)
    return best
