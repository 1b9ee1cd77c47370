"""Strategy `best_of_n`: a verifier picks one of several answers (arXiv 2110.14168)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.parallel import sampled
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.reply_scores import (
    likelihood,
    read_mark,
    verified,
    without_logprobs,
)

__all__ = ["BestOfN", "likelihood", "read_mark"]
_VERIFIERS = ("auto", "logprob", "self", "judge", "oracle")


@dataclasses.dataclass(frozen=True, slots=True)
class BestOfN(Parameters):
    """Sample `samples` chains of thought at once, and take the one with the best verifier score.

    Ties go to the first reply; a reply without a score ranks last. The verifiers:

    - logprob: exp(sum of the log probabilities / output tokens), the geometric mean probability of
      a token. They are asked for in the provider's own words, by the plan's `extra_body`; where
      none come, the attempt fails and says so.
    - self: the same model marks every different reply, at temperature 0, in a call with the role
      "verifier"; a mark that cannot be read is null.
    - judge: as self, by the plan's helper model of the name `judge`.
    - auto: logprob where every reply came with log probabilities, else self.
    - oracle: the item's own scorer, which knows the target. No strategy that could be used: a
      ceiling for all others (coverage, pass@k).

    Attributes:
        samples: replies per item.
        temperature: of every reply, in place of the plan's.
        verifier: auto, logprob, self, judge or oracle.
        judge: the helper model that marks where the verifier is judge.
    """

    name: ClassVar[str] = "best_of_n"
    shots: int = 5
    samples: int = dataclasses.field(default=5, metadata={"least": 1})
    temperature: float = 0.7
    verifier: str = dataclasses.field(default="auto", metadata={"choices": _VERIFIERS})
    judge: str = "judge"

    @property
    def most_calls(self) -> int:
        """A reply per sample, and a mark where a model marks."""
        return self.samples * (2 if self.verifier in {"auto", "self", "judge"} else 1)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper models that it asks."""
        return (self.judge,) if self.verifier == "judge" else ()

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with a call per sample, and one per distinct reply to be marked."""
        chat = ask_for_steps(session, item, self.shots)
        replies = await sampled(session, chat, self.samples, self.temperature)
        scores = await self._scores(session, item, replies)
        ranks = [-1.0 if score is None else score for score in scores]
        best = ranks.index(max(ranks))
        won = replies[best]
        return Outcome(won.text, verifier_score=scores[best], stop_reason=won.stop_reason)

    async def _scores(
        self, session: Session, item: TaskItem, replies: Sequence[Reply]
    ) -> list[float | None]:
        if self.verifier in {"auto", "logprob"}:
            scores = [likelihood(reply.call) for reply in replies]
            if None not in scores:
                return scores
            if self.verifier == "logprob":
                if all(score is None for score in scores):
                    raise without_logprobs(self.name)
                return scores
        texts = [reply.text for reply in replies]
        marks = await verified(session, item, texts, by=self.verifier, judge=self.judge)
        return [m.score for m in marks]
