"""Strategy `react`: think, use a tool, look, think again (Yao et al. 2022, arXiv 2210.03629)."""

import dataclasses
from typing import ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.agent import AgentParameters


@dataclasses.dataclass(frozen=True, slots=True)
class ReAct(AgentParameters):
    """Let the model call tools, turn by turn, until it answers or hits a limit.

    The parameters are those of `AgentParameters`.

    When a limit is reached the model is asked once more, for its answer alone, and the trace's
    `limit_type` says which limit: turns, tool_calls or tokens.
    """

    name: ClassVar[str] = "react"

    @property
    def most_calls(self) -> int:
        """The turns, and the answer."""
        return self.calls_of_attempt

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item with a call per turn."""
        return await self.act(session, item)
