"""Strategy `think`: think between tags, so that thinking tokens are counted, then answer."""

import dataclasses
from typing import ClassVar

from workbench.datasets import Example, TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.few_shot import Turn, opening
from workbench.runner.strategies.parameters import Parameters

OPEN, CLOSE = "<think>", "</think>"
FINISH = "Now write 'Answer:' and the answer, nothing else."


@dataclasses.dataclass(frozen=True, slots=True)
class Think(Parameters):
    """Ask for thinking inside tags, after `shots` worked examples; the opening tag is prefilled.

    Where the model has not stopped thinking within its cap, a second call closes the tag for it and
    asks for the answer (budget forcing: Muennighoff et al. 2025, arXiv 2501.19393).

    Attributes:
        max_thinking_tokens: cap on the tokens of the first call.
        max_answer_tokens: cap on the tokens of the forced answer.
    """

    name: ClassVar[str] = "think"
    most_calls: ClassVar[int] = 2
    shots: int = 5
    max_thinking_tokens: int = 1024
    max_answer_tokens: int = 64

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call, or with two where the thinking had to be cut."""
        chat = ask_for_thinking(session, item, self.shots)
        begun = {"role": "assistant", "content": OPEN}
        reply = await session.generate(
            [*chat, begun], thinking_tags=(OPEN, CLOSE), max_tokens=self.max_thinking_tokens
        )
        if reply.text.strip():
            return Outcome(_visible(reply.text))
        closed = f"{OPEN}{reply.thinking or ''}{CLOSE}\nAnswer:"
        forced = await session.generate(
            [*chat, {"role": "assistant", "content": closed}],
            thinking_tags=(OPEN, CLOSE),
            max_tokens=self.max_answer_tokens,
            instead=ask_to_finish(reply.thinking or ""),
        )
        return Outcome(_visible(forced.text))


def ask_for_thinking(session: Session, item: TaskItem, shots: int) -> list[Turn]:
    """Write the chat that asks for thinking inside tags and then the answer."""
    return opening(
        session.task,
        item,
        shots=shots,
        answer=_answer,
        instruction=f"Think between {OPEN} and {CLOSE}, then write 'Answer:' and the answer.",
    )


def ask_to_finish(thinking: str) -> list[Turn]:
    """Ask for the answer after the thinking, for models that do not continue a begun turn."""
    return [
        {"role": "assistant", "content": f"{OPEN}{thinking}{CLOSE}"},
        {"role": "user", "content": FINISH},
    ]


def _answer(example: Example) -> str:
    return f"{OPEN}{example.thought}{CLOSE}\nAnswer: {example.target}"


def _visible(text: str) -> str:
    """Drop closing tags that a model writes once more."""
    return text.replace(CLOSE, "").strip()
