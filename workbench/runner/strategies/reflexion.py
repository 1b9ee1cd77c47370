"""Strategies `reflexion` and `reflexion_oracle`: retry with notes on errors (arXiv 2303.11366)."""

import dataclasses
import re
from typing import Any, ClassVar

import msgspec

from workbench.datasets import TaskItem
from workbench.runner.attempts.grading import grade
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.agent import AgentParameters

_JUDGE = (
    "A question was:\n{question}\n\nThe answer given:\n{answer}\n\nWhat was done to find"
    " it:\n{story}\n\nIs the answer"
    " right? Think step by step, then write 'Verdict:' and one word: right or wrong."
)
_REFLECT = (
    "You tried to answer a question with tools, and the answer is taken to be wrong.\n\nThe"
    " question:\n{question}\n\nWhat you did:\n{story}\n\nYour answer:\n{answer}\n\nIn two or three"
    " sentences, say what went wrong and what to do differently next time. Do not answer the"
    " question."
)
_VERDICT = re.compile(r"(?i)\bverdict[*_\s]{0,4}[:=][*_\s]{0,8}(right|wrong|correct|incorrect)\b")
_STORY = 6_000  # characters of what was done, the end of it


@dataclasses.dataclass(frozen=True, slots=True)
class Reflexion(AgentParameters):
    """Make attempts as `react` does; between them the model writes down what to do differently.

    Whether another attempt is made never depends on the item's target: the model judges its own
    answer (`signal` = "self"), or an attempt counts as failed if a tool ended in an error, a limit
    was reached, or there is no answer ("tools"). The last attempt's answer is scored. Judgements
    and reflections have the role "verifier".

    Attributes:
        attempts: at most.
        signal: "self" or "tools".
    """

    name: ClassVar[str] = "reflexion"
    attempts: int = dataclasses.field(default=3, metadata={"least": 1})
    signal: str = dataclasses.field(default="self", metadata={"choices": ("self", "tools")})

    @property
    def most_calls(self) -> int:
        """The calls of every attempt, and two between each pair of them."""
        return self.attempts * (self.calls_of_attempt + 2)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with up to `attempts` attempts."""
        lessons: list[str] = []
        while True:
            n_tools, n_messages = len(session.tool_calls), len(session.messages)
            outcome = await self.act(session, item, lessons)
            if len(lessons) + 1 == self.attempts:
                break
            story = _story(session, n_messages, item.question)
            failed = any(t.error_type for t in session.tool_calls[n_tools:])
            failed = failed or outcome.limit_type is not None
            if not await self.is_wrong(session, item, outcome, story, failed=failed):
                break
            lessons.append(await _reflect(session, item, outcome, story))
        facts: dict[str, Any] = {
            **(outcome.metadata or {}),
            "n_attempts": len(lessons) + 1,
            "signal": self.source,
        }
        return msgspec.structs.replace(outcome, metadata=facts)

    @property
    def source(self) -> str:
        """What decided about further attempts, for the record."""
        return self.signal

    async def is_wrong(
        self, session: Session, item: TaskItem, outcome: Outcome, story: str, *, failed: bool
    ) -> bool:
        """Whether an attempt is assumed to be wrong."""
        if not outcome.answer_text.strip():
            return True
        if self.signal == "tools":
            return failed
        ask = _JUDGE.format(question=item.question, answer=outcome.answer_text, story=story)
        reply = await session.generate(
            [{"role": "user", "content": ask}], role="verifier", temperature=0.0
        )
        return read_verdict(reply.text) is False


@dataclasses.dataclass(frozen=True, slots=True)
class ReflexionOracle(Reflexion):
    """Reflexion as in the paper: the item's scorer decides whether an attempt failed.

    Its results are no estimate of what a model can do alone, since the target decides when to stop:
    an upper bound. The name says so, and the trace's metadata holds the signal "oracle".
    """

    name: ClassVar[str] = "reflexion_oracle"

    @property
    def source(self) -> str:
        """The target decided."""
        return "oracle"

    async def is_wrong(
        self, session: Session, item: TaskItem, outcome: Outcome, story: str, *, failed: bool
    ) -> bool:
        """Ask the item's scorer; a score of null is no success."""
        scores = await grade(session, session.task, item, outcome.answer_text)
        return not scores[0].passed


def read_verdict(text: str) -> bool | None:
    """Read the last verdict; None where there is none, which ends the attempts."""
    matches = _VERDICT.findall(text)
    return matches[-1].lower() in {"right", "correct"} if matches else None


def _story(session: Session, first: int, question: str) -> str:
    """Write what was said in the last attempt after the question, its end if it is long."""
    messages = session.messages[first:]
    question_places = [n for n, message in enumerate(messages) if message.text == question]
    story = messages[question_places[-1] + 1 :] if question_places else messages
    return "\n".join(f"{message.role}: {message.text}" for message in story)[-_STORY:]


async def _reflect(session: Session, item: TaskItem, outcome: Outcome, story: str) -> str:
    ask = _REFLECT.format(
        question=item.question, story=story, answer=outcome.answer_text or "(none)"
    )
    reply = await session.generate([{"role": "user", "content": ask}], role="verifier")
    return reply.text.strip() or "(nothing was noted)"
