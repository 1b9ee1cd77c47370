"""Steps of a chain of thought: the prompt for the next, where a step ends, which is the last."""

import re
from collections.abc import Sequence

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Session
from workbench.runner.strategies.cot import ask_for_steps
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.think import FINISH

_INSTRUCTION = (
    "Think step by step, a blank line between the steps, then write 'Answer:' and the answer."
)
_NEXT = "Write the next step alone. Where nothing is left to do, write 'Answer:' and the answer."
_ANSWER = re.compile(r"(?i)\banswer[*_\s]{0,4}[:=]|\\boxed\s?\{")


def first_step(session: Session, item: TaskItem, shots: int) -> list[Turn]:
    """Write the chat that asks for a chain of thought in steps."""
    return ask_for_steps(session, item, shots, instruction=_INSTRUCTION)


def next_step(chat: Sequence[Turn], steps: str) -> list[Turn]:
    """Write the chat that asks for the step after those so far.

    The steps are a turn of the assistant's that has ended: not every service goes on with one that
    has not.
    """
    return [*chat, *_turns(steps, _NEXT)] if steps else list(chat)


def finish(chat: Sequence[Turn], steps: str) -> list[Turn]:
    """Write the chat that asks for the answer after the steps so far."""
    return [*chat, *_turns(steps, FINISH)] if steps else list(chat)


def cut(text: str, delimiter: str) -> str:
    """Return the first step of a text, "" without one; a text without delimiter is one step."""
    text = text.strip()
    return text.partition(delimiter)[0].rstrip() if delimiter else text


def has_answer(step: str) -> bool:
    """Whether a step states the answer, so that none follows."""
    return _ANSWER.search(step) is not None


def _turns(steps: str, words: str) -> list[Turn]:
    return [{"role": "assistant", "content": steps}, {"role": "user", "content": words}]
