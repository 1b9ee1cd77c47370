"""Strategy `plan_and_budget`: smaller questions with token budgets (arXiv 2505.16122)."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.few_shot import Turn, opening
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.sequential_refinement import ask_again
from workbench.runner.strategies.steps import has_answer

_PLAN = (
    "Do not answer yet. Split the question into {parts} smaller questions at most that lead to its"
    " answer, one a line, each as '1. [difficulty from 1 to 5] question', and write nothing else."
)
_PART = "{question}\n\n{done}Answer only this part of it, in {tokens} tokens at most: {part}"
_COMBINE = (
    "{question}\n\nWhat is known so far:\n{done}\nUse it to answer the question: write"
    " 'Answer:' and the answer."
)
_LINE = re.compile(
    r"\s{0,8}\d{1,2}\s?[.):]\s{0,4}(?:[\[(]\D{0,20}([1-5])\D{0,20}?[\])])?[\s:.-]{0,4}(\S.*)"
)
_SCHEDULES = ("uniform", "linear", "polynomial", "cosine")


class Part(NamedTuple):
    """One of the smaller questions; the difficulty is 1 to 5, 3 where the plan gives none."""

    question: str
    difficulty: int


@dataclasses.dataclass(frozen=True, slots=True)
class PlanAndBudget(Parameters):
    """Split the question, allot `total_tokens` to the parts, answer each, and combine.

    The model itself splits the question and says how difficult, that is how uncertain, each part
    is. A part's tokens are its share of difficulty × schedule, where the schedule decays over the
    parts, because what comes early decides the rest. After Plan-and-Budget, whose prompts, weights
    and constants are its own. Plan and parts have the role "draft", one part after the other as
    each may need the last; the combined answer is the subject's. Without a readable plan the
    question is answered at once, under the total. The trace's metadata has parts, difficulties and
    caps.

    Attributes:
        parts: at most so many smaller questions; further ones are left out.
        total_tokens: for all parts together.
        answer_tokens: cap of the combined answer.
        schedule: with n parts, the i-th (from 0) has the weight 1 (uniform), n − i (linear),
            (n − i)^power (polynomial) or (1 + cos(π i / n)) / 2 (cosine).
        power: of the polynomial schedule.
    """

    name: ClassVar[str] = "plan_and_budget"
    shots: int = 5
    parts: int = dataclasses.field(default=5, metadata={"least": 1, "most": 99})
    total_tokens: int = dataclasses.field(default=1024, metadata={"least": 1})
    answer_tokens: int = dataclasses.field(default=256, metadata={"least": 1})
    schedule: str = dataclasses.field(default="polynomial", metadata={"choices": _SCHEDULES})
    power: float = 2.0

    @property
    def most_calls(self) -> int:
        """The plan, the parts, the answer."""
        return self.parts + 2

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        chat = ask_for_steps(session, item, self.shots)
        plan = await session.generate(self._ask_for_plan(session, item), role="draft")
        parts = read_plan(plan.text)[: min(self.parts, self.total_tokens)]
        caps = self._caps(parts)
        metadata = {
            "parts": len(parts),
            "difficulties": [p.difficulty for p in parts],
            "caps": caps,
        }
        if not parts:
            reply = await session.generate(chat, max_tokens=self.total_tokens + self.answer_tokens)
            return Outcome(reply.text, metadata=metadata)
        done = ""
        for part, cap in zip(parts, caps, strict=True):
            known = f"What is known so far:\n{done}\n" if done else ""
            words = _PART.format(question=item.question, done=known, tokens=cap, part=part.question)
            reply = await session.generate(ask_again(chat, words), role="draft", max_tokens=cap)
            if reply.text.strip():
                done += f"- {part.question}\n  {reply.text.strip()}\n"
        words = _COMBINE.format(question=item.question, done=done)
        prompt = ask_again(chat, words) if done else chat
        answer = await session.generate(prompt, max_tokens=self.answer_tokens)
        # what the parts found may hold the answer where the last call brought none
        text = answer.text if answer.text.strip() or not has_answer(done) else done
        return Outcome(text, metadata=metadata)

    def _ask_for_plan(self, session: Session, item: TaskItem) -> list[Turn]:
        """Ask for the plan; worked examples would show answers, and none is wanted yet."""
        words = _PLAN.format(parts=self.parts)
        return opening(
            session.task, item, shots=0, instruction=words, answer=lambda example: example.target
        )

    def _caps(self, parts: Sequence[Part]) -> list[int]:
        n = len(parts)
        weights = [p.difficulty * self._decay(i, n) for i, p in enumerate(parts)]
        return allot(self.total_tokens, weights)

    def _decay(self, i: int, n: int) -> float:
        """Return the schedule's weight of the i-th of n parts."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * i / n)) / 2
        power = {"uniform": 0.0, "linear": 1.0, "polynomial": self.power}[self.schedule]
        return float((n - i) ** power)


def read_plan(text: str) -> list[Part]:
    """Read the numbered lines of a plan; others are let pass."""
    matches = (_LINE.fullmatch(line.rstrip()) for line in text.splitlines())
    return [Part(m[2], int(m[1] or 3)) for m in matches if m and any(map(str.isalpha, m[2]))]


def allot(total: int, weights: Sequence[float]) -> list[int]:
    """Share tokens out by weights: at least 1 each, the sum exactly `total` (largest remainders).

    Raises:
        ValueError: there are fewer tokens than weights.
    """
    if not weights:
        return []
    if total < len(weights):
        raise ValueError(f"{total} tokens cannot be shared by {len(weights)}")
    rest, scale = total - len(weights), math.fsum(weights)
    exact = [rest * w / scale for w in weights]
    caps = [int(e) for e in exact]
    by_remainder = sorted(range(len(caps)), key=lambda i: caps[i] - exact[i])
    for place in by_remainder[: rest - sum(caps)]:
        caps[place] += 1
    return [1 + cap for cap in caps]
