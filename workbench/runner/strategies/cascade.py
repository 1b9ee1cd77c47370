"""Strategy `cascade`: a larger model answers where the first is unsure (arXiv 2305.05176)."""

import dataclasses
import re
from typing import ClassVar, NamedTuple

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parallel import sampled
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.reply_scores import likelihood, without_logprobs
from workbench.runner.strategies.votes import majority

_ASK = (
    "How sure are you that this answer is right? Write only 'Confidence:' and a number from 0"
    " (surely wrong) to 100 (surely right)."
)
_CONFIDENCE = re.compile(
    r"(?i)\bconfidence[*_\s]{0,4}[:=][*_\s]{0,8}(\d{1,3}(?:\.\d{1,4})?)(?!\d|\.\d)"
)
_TOKENS = 16
_WAYS = ("vote", "logprob", "stated")


class _First(NamedTuple):
    """The answer of the configuration's model, and its confidence."""

    reply: Reply
    confidence: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cascade(Parameters):
    """Ask the configuration's cheap model; below `threshold` of confidence ask helper `large`.

    After FrugalGPT's cascade of two; the scorer there is trained, the confidence here is the
    model's own. An unknown confidence counts as none. Where the large model says nothing, the
    answer before it stands. A confidence is the trace's where the own model's answer stands; in
    every case it is in the trace's metadata: confidence, deferred.

    Attributes:
        large: the helper model that the item is deferred to.
        threshold: the confidence, 0..1, from which on the own answer stands.
        by: "vote", the share of `samples` chains of thought that agree; "logprob", the geometric
            mean probability of the reply's tokens, asked for by the plan's `extra_body`; "stated",
            a number that the model writes in a second call, in the role "verifier".
        samples: chains of thought where the confidence is a vote; else it is one.
        temperature: of these samples, in place of the plan's.
    """

    name: ClassVar[str] = "cascade"
    shots: int = 5
    large: str = "large"
    threshold: float = dataclasses.field(default=0.7, metadata={"most": 1})
    by: str = dataclasses.field(default="vote", metadata={"choices": _WAYS})
    samples: int = dataclasses.field(default=3, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def most_calls(self) -> int:
        """The own model's, and the large one's."""
        return {"vote": self.samples, "logprob": 1, "stated": 2}[self.by] + 1

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper models that it asks."""
        return (self.large,)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        chat = ask_for_steps(session, item, self.shots)
        if self.by == "vote":
            first = await self._vote(session, item, chat)
        else:
            first = await self._single(session, chat)
        sure = first.confidence
        if sure is not None and sure >= self.threshold:
            return Outcome(
                first.reply.text,
                confidence=sure,
                stop_reason=first.reply.stop_reason,
                metadata={"confidence": sure, "deferred": False},
            )
        larger = await session.generate(chat, model=self.large)
        stands = larger if larger.text.strip() else first.reply
        return Outcome(
            stands.text,
            confidence=sure if stands is first.reply else None,
            stop_reason=stands.stop_reason,
            metadata={"confidence": sure, "deferred": True},
        )

    async def _vote(self, session: Session, item: TaskItem, chat: list[Turn]) -> _First:
        replies = await sampled(session, chat, self.samples, self.temperature)
        vote = majority(session, item, [reply.text for reply in replies])
        return _First(replies[vote.place], vote.share)

    async def _single(self, session: Session, chat: list[Turn]) -> _First:
        reply = await session.generate(chat)
        if not reply.text.strip():
            return _First(reply, None)
        if self.by == "logprob":
            sure = likelihood(reply.call)
            if sure is None:
                raise without_logprobs(self.name)
            return _First(reply, sure)
        rating = await session.generate(
            [
                *chat,
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": _ASK},
            ],
            role="verifier",
            temperature=0.0,
            max_tokens=_TOKENS,
        )
        return _First(reply, read_confidence(rating.text))


def read_confidence(text: str) -> float | None:
    """Read the last confidence of 0 to 100 as 0..1; None where there is none."""
    matches = _CONFIDENCE.findall(text)
    return float(matches[-1]) / 100 if matches and float(matches[-1]) <= 100 else None
