"""Strategy `speculative_steps`: a small model drafts, a large one judges (arXiv 2504.07891)."""

import dataclasses
from typing import Any, ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.reply_scores import read_mark
from workbench.runner.strategies.steps import cut, finish, first_step, has_answer, next_step

_JUDGE = (
    "{prompt}\n\nQuestion:\n{question}\n\nSteps so far:\n{steps}\n\nProposed next"
    " step:\n{step}\n\nHow good"
    " is the proposed step? Write only 'Score:' and a number from 0 (wrong or useless) to 10 (right"
    " and useful)."
)
_MARK_TOKENS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class SpeculativeSteps(Parameters):
    """Let helper `small` draft each step; the model marks it, and rewrites it below `threshold`.

    After SpecReason: a step of a chain of thought need not be the same, only as useful, so that
    most can be the small model's; the score there is a digit of 0 to 9, here a mark of 0 to 10 in
    the role "verifier", read as 0..1. A draft that says nothing, or whose mark cannot be read, is
    not accepted; where the own model then writes nothing, a draft that said something stands. It
    ends with the step that states the answer; after `max_steps` the own model is asked for it.
    Drafts have the role "draft", own steps and the last answer are the subject's. The trace's
    metadata has the steps made, those accepted, and the marks.

    Attributes:
        small: the helper model that drafts.
        threshold: the mark, 0..1, from which on a step is accepted.
        delimiter: what ends a step, sent as a stop word; "" where the service takes none: then a
            reply, cut by `step_tokens`, is a step.
        max_steps: at most.
        step_tokens: cap of a step.
    """

    name: ClassVar[str] = "speculative_steps"
    shots: int = 5
    small: str = "small"
    threshold: float = dataclasses.field(default=0.7, metadata={"most": 1})
    delimiter: str = dataclasses.field(default="\n\n", metadata={"empty": True})
    max_steps: int = dataclasses.field(default=10, metadata={"least": 1})
    step_tokens: int = dataclasses.field(default=256, metadata={"least": 1})

    @property
    def most_calls(self) -> int:
        """A draft, a mark and a step of its own for every step, and the answer."""
        return 3 * self.max_steps + 1

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper models that it asks."""
        return (self.small,)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item, a step after the other."""
        chat = first_step(session, item, self.shots)
        chain = _Chain(self.delimiter or "\n")
        for _ in range(self.max_steps):
            ended = await self._grow(session, item, chat, chain)
            if ended is None:
                break
            if has_answer(chain.steps[-1]):
                return chain.outcome("", ended)
        last = await session.generate(finish(chat, chain.text))
        return chain.outcome(last.text, last.stop_reason)

    async def _grow(
        self, session: Session, item: TaskItem, chat: list[Turn], chain: "_Chain"
    ) -> str | None:
        """Add a step; returns why its call ended, None where neither model has one."""
        prompt = next_step(chat, chain.text)
        capped: dict[str, Any] = {"max_tokens": self.step_tokens}
        capped |= {"stop": [self.delimiter]} if self.delimiter else {}
        reply = await session.generate(prompt, role="draft", model=self.small, **capped)
        step = cut(reply.text, self.delimiter)
        mark = await self._mark(session, item, chain.text, step) if step else None
        chain.marks.append(mark)
        if mark is not None and mark >= self.threshold:
            chain.n_accepted += 1
        else:
            reply = await session.generate(prompt, **capped)
            step = cut(reply.text, self.delimiter) or step
        if not step:
            return None
        chain.steps.append(step)
        return reply.stop_reason or "unknown"

    async def _mark(self, session: Session, item: TaskItem, steps: str, step: str) -> float | None:
        words = _JUDGE.format(
            prompt=session.task.prompt, question=item.question, steps=steps or "(none)", step=step
        )
        reply = await session.generate(
            [{"role": "user", "content": words}],
            role="verifier",
            temperature=0.0,
            max_tokens=_MARK_TOKENS,
        )
        return read_mark(reply.text)


@dataclasses.dataclass(slots=True)
class _Chain:
    """The steps so far."""

    joint: str
    steps: list[str] = dataclasses.field(default_factory=list)
    marks: list[float | None] = dataclasses.field(default_factory=list)
    n_accepted: int = 0

    @property
    def text(self) -> str:
        return self.joint.join(self.steps)

    def outcome(self, last: str, stop_reason: str | None) -> Outcome:
        """End it with a last text, if any."""
        written = [*self.steps, last] if last.strip() else self.steps
        metadata = {
            "steps": len(self.steps),
            "accepted": self.n_accepted,
            "marks": list(self.marks),
        }
        return Outcome(self.joint.join(written), stop_reason=stop_reason, metadata=metadata)
