"""Strategy `best_of_n`: several answers, and a verifier that picks one (Cobbe et al. 2021, arXiv 2110.14168)."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from workbench.datasets import TaskItem
from workbench.records import Call
from workbench.runner.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import ask_for_steps

_SCORE = re.compile(r"(?i)\bscore[*_\s]{0,4}[:=][*_\s]{0,8}(\d{1,2}(?:\.\d{1,4})?)(?!\d|\.\d)")
_ASK = (
    "Somebody was told: {prompt}\n\nQuestion:\n{question}\n\nTheir reply:\n{reply}\n\nIs the reply right?"
    " Check it step by step, then write 'Score:' and a number from 0 (surely wrong) to 10 (surely right)."
)


@dataclasses.dataclass(frozen=True, slots=True)
class BestOfN:
    """Ask for `samples` chains of thought and keep the one with the highest verifier score, 0..1.

    Where every reply came with log probabilities, the score is exp(their sum / output tokens), the
    geometric mean probability of a token. They are asked for in the provider's own words, by the
    plan's `extra_body`. Otherwise the same model marks every different reply, at temperature 0, in a call with
    the role "verifier"; a mark that cannot be read is null and ranks last. Ties go to the first reply.

    Attributes:
        samples: replies per item.
        temperature: of every reply, in place of the plan's.
    """

    name: ClassVar[str] = "best_of_n"
    shots: int = 5
    samples: int = dataclasses.field(default=5, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as the configuration keeps them."""
        return dataclasses.asdict(self)

    @property
    def most_calls(self) -> int:
        """A reply and a mark per sample."""
        return 2 * self.samples

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with a call per sample, and one per different reply where it must be marked."""
        chat = ask_for_steps(session, item, self.shots)
        replies = [
            await session.generate(chat, temperature=self.temperature) for _ in range(self.samples)
        ]
        scores = [likelihood(reply.call) for reply in replies]
        if None in scores:
            scores = await _marks(session, item, replies)
        ranks = [-1.0 if score is None else score for score in scores]
        best = ranks.index(max(ranks))
        won = replies[best]
        return Outcome(won.text, verifier_score=scores[best], stop_reason=won.stop_reason)


def likelihood(call: Call) -> float | None:
    """Return the geometric mean probability of a call's output tokens; None without log probabilities."""
    if call.logprob_sum is None or not call.output_tokens:
        return None
    return math.exp(call.logprob_sum / call.output_tokens)


async def _marks(session: Session, item: TaskItem, replies: Sequence[Reply]) -> list[float | None]:
    """Have every different reply marked once; an empty one has no mark."""
    marks: dict[str, float | None] = {"": None}
    for text in (reply.text for reply in replies):
        if text not in marks:
            ask = _ASK.format(prompt=session.task.prompt, question=item.question, reply=text)
            said = await session.generate(
                [{"role": "user", "content": ask}], role="verifier", temperature=0.0
            )
            marks[text] = read_mark(said.text)
    return [marks[reply.text] for reply in replies]


def read_mark(text: str) -> float | None:
    """Read the last mark of 0 to 10 as 0..1; None where there is none."""
    found = _SCORE.findall(text)
    return float(found[-1]) / 10 if found and float(found[-1]) <= 10 else None
