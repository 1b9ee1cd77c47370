"""Strategy `relative_effort`: a length asked for relative to the model's own mean length."""

import dataclasses
from typing import ClassVar, NamedTuple

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.cot import STEPS, ask_for_steps
from workbench.runner.strategies.parallel import together
from workbench.runner.strategies.parameters import Parameters


class _Lengths(NamedTuple):
    """Lengths of pilot replies in tokens, or in words where no tokens are known, and their mean."""

    unit: str
    mean: float
    pilot: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class RelativeEffort(Parameters):
    """Ask for a chain of thought of about `fraction` of the length that the model usually writes.

    The relative effort of a reply is its length over the model's mean length; the idea of asking
    for effort relative to the model's own, not in tokens, is after e1 ("e1: Learning Adaptive
    Control of Reasoning Effort"), which trains models for it; here the words of the prompt ask. The
    mean is given, or it is that of a pilot: calls with the role "draft" that ask for the same with
    no word of length. What was asked for and used is in the trace's metadata: unit, mean, pilot,
    asked, used, relative_effort.

    Attributes:
        fraction: of the mean length; 0.5 asks for half, 2 for twice.
        mean_tokens: the model's mean length in tokens, from an earlier run; 0 has a pilot find it.
        pilot: replies that the pilot is made of; not asked for where the mean is given.
        pilot_on: "task" takes so many other items of the task, drawn at random (the item itself
            where it is the only one); "item" asks the item itself so many times, as e1's definition
            does.
    """

    name: ClassVar[str] = "relative_effort"
    shots: int = 5
    fraction: float = dataclasses.field(default=0.5, metadata={"least": 0.01})
    mean_tokens: float = 0.0
    pilot: int = dataclasses.field(default=3, metadata={"least": 1})
    pilot_on: str = dataclasses.field(default="task", metadata={"choices": ("task", "item")})

    @property
    def most_calls(self) -> int:
        """The answer, and the pilot where there is one."""
        return 1 if self.mean_tokens else 1 + self.pilot

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item after the pilot."""
        usual = await self._usual(session, item)
        target_length = max(round(self.fraction * usual.mean), 1) if usual.mean else None
        chat = ask_for_steps(
            session, item, self.shots, instruction=self._words(usual, target_length)
        )
        reply = await session.generate(chat)
        used = _length(reply, usual.unit)
        relative = used / usual.mean if used is not None and usual.mean else None
        metadata = {
            "unit": usual.unit,
            "mean": usual.mean or None,
            "pilot": list(usual.pilot),
            "asked": target_length,
            "used": used,
            "relative_effort": relative,
        }
        return Outcome(reply.text, metadata=metadata)

    def _words(self, usual: _Lengths, target_length: int | None) -> str:
        share = f"about {self.fraction * 100:.3g} % of the length that you usually write"
        known = (
            f"; that is about {target_length} {usual.unit}, where you usually write about"
            f" {usual.mean:.0f}"
        )
        return f"{STEPS} Write {share}{known if target_length else ''}."

    async def _usual(self, session: Session, item: TaskItem) -> _Lengths:
        """Return the model's usual length: as given, or of the pilot."""
        if self.mean_tokens:
            return _Lengths("tokens", self.mean_tokens)
        replies = await together(
            session.generate(ask_for_steps(session, other, self.shots), role="draft")
            for other in self._pilot(session, item)
        )
        counted = [n for r in replies if (n := _length(r, "tokens")) is not None]
        unit = "tokens" if counted else "words"
        lengths = tuple(counted) or tuple(len(reply.text.split()) for reply in replies)
        return _Lengths(unit, sum(lengths) / len(lengths), lengths)

    def _pilot(self, session: Session, item: TaskItem) -> list[TaskItem]:
        """Choose the pilot's items."""
        items = session.task.items
        if self.pilot_on == "task":
            places = session.rng.sample(range(len(items)), min(self.pilot + 1, len(items)))
            others = [items[place] for place in places if items[place] != item][: self.pilot]
            if others:
                return others
        return [item] * self.pilot


def _length(reply: Reply, unit: str) -> int | None:
    """Return the length of a reply, thinking included; None where the server did not count."""
    return reply.call.output_tokens if unit == "tokens" else len(reply.text.split())
