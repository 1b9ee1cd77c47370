"""Strategy `plain`: the item as it stands, and nothing else."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.parameters import Parameters


@dataclasses.dataclass(frozen=True, slots=True)
class Plain(Parameters):
    """Send the question verbatim, with any options: no system prompt, examples or instruction.

    For items that are whole prompts by themselves. A base model continues the text.
    """

    name: ClassVar[str] = "plain"

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with one call."""
        if session.endpoint == "completions":
            reply = await session.complete(item.question)
        else:
            reply = await session.generate([{"role": "user", "content": item.question}])
        return Outcome(reply.text)
