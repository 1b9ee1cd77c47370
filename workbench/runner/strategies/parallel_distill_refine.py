"""Strategy `parallel_distill_refine`: drafts, notes, answer (Madaan et al., arXiv 2510.01123)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parallel import together
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.rounds import Rounds
from workbench.runner.strategies.sequential_refinement import ask_again

_DISTIL = (
    "Somebody was told: {prompt}\n\nQuestion:\n{question}\n\nTheir tries:\n{drafts}\n\nWrite short"
    " notes for the next try, of {tokens} tokens at most: what the tries agree on, where they"
    " contradict each other and who is right, which mistakes to avoid, which results hold."
)
_REFINE = (
    "{question}\n\nNotes from earlier tries at this, which may hold mistakes:\n{notes}\n\nThink"
    " step by step, then write 'Answer:' and the answer."
)


@dataclasses.dataclass(frozen=True, slots=True)
class ParallelDistillRefine(Parameters):
    """In every round, write `drafts` drafts and distil them into notes; answer from the last.

    The notes are a workspace of bounded length that the next round's drafts start from, so that the
    context does not grow with the number of drafts. Drafts and notes have the role "draft", the
    answer is the subject's. A draft that says nothing is left out; where a round's drafts or notes
    say nothing, the notes before them stand; where the answer says nothing, the first draft of the
    last round does. What each round came to, by its first draft, and the answer after them are in
    the trace's metadata: rounds (see `rounds.py`).

    Attributes:
        rounds: times that drafts are written and distilled.
        drafts: per round.
        workspace_tokens: cap of the notes.
        temperature: of the drafts, in place of the plan's.
    """

    name: ClassVar[str] = "parallel_distill_refine"
    shots: int = 5
    rounds: int = dataclasses.field(default=1, metadata={"least": 1})
    drafts: int = dataclasses.field(default=4, metadata={"least": 1})
    workspace_tokens: int = dataclasses.field(default=512, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def most_calls(self) -> int:
        """Drafts and notes of every round, and the answer."""
        return self.rounds * (self.drafts + 1) + 1

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        chat = ask_for_steps(session, item, self.shots)
        prompt, fallback, rounds = chat, "", Rounds(session, item)
        for _ in range(self.rounds):
            drafts = await self._drafts(session, prompt)
            fallback = drafts[0] if drafts else fallback
            rounds.add(fallback)
            notes = await self._notes(session, item, drafts) if drafts else ""
            if notes:
                prompt = ask_again(chat, _REFINE.format(question=item.question, notes=notes))
        answer = await session.generate(prompt)
        stands = answer.text if answer.text.strip() else fallback
        rounds.add(stands)
        return Outcome(stands, metadata=rounds.metadata)

    async def _drafts(self, session: Session, prompt: Sequence[Turn]) -> list[str]:
        """Return the drafts that say something."""
        replies = await together(
            session.generate(prompt, role="draft", temperature=self.temperature)
            for _ in range(self.drafts)
        )
        return [reply.text for reply in replies if reply.text.strip()]

    async def _notes(self, session: Session, item: TaskItem, drafts: Sequence[str]) -> str:
        numbered = "\n\n".join(f"Try {n}:\n{draft}" for n, draft in enumerate(drafts, 1))
        words = _DISTIL.format(
            prompt=session.task.prompt,
            question=item.question,
            drafts=numbered,
            tokens=self.workspace_tokens,
        )
        reply = await session.generate(
            [{"role": "user", "content": words}], role="draft", max_tokens=self.workspace_tokens
        )
        return reply.text.strip()
