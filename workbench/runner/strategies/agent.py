"""An agent's attempt: the parameters that agents share, and one attempt by either protocol."""

import dataclasses
from collections.abc import Sequence

from workbench.datasets import TaskItem
from workbench.errors import ConfigError
from workbench.external_code import is_external
from workbench.runner import tools as toolkit
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies import agent_native, agent_text
from workbench.runner.strategies.agent_tools import AgentTools
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.tools.budget import AgentBudget

PROTOCOLS = ("auto", "native", "text")
_TEXT_ONLY = {"completions", "local"}  # endpoints that take no tool definitions


@dataclasses.dataclass(frozen=True, slots=True)
class AgentParameters(Parameters):
    """Parameters that all agents share.

    Attributes:
        tools: their names; `module:Class` or `file.py:Class` for one of the user's.
        protocol: "native" sends the tools to the API; "text" asks for them in words, for base
            models and models whose chat template leaves tools out; "auto" is native except for base
            models. Where a server's count of tokens shows that native tools never reached the
            model, the call is refused.
        shots: worked examples of tools in use, at most one for each tool, with the tools' real
            answers; by the text protocol only.
        max_turns: replies that may ask for tools; the answer asked for after them is one more call.
        max_tool_calls, token_budget: the other limits; None is none.
        remind: tell the model after each turn how many turns are left.
        track: tell it what it has used up of every limit.
        extension_turns: granted each time the model asks for more turns, up to `most_turns`; 0
            offers none.
    """

    tools: tuple[str, ...] = dataclasses.field(
        default=("calculator", "search", "sql"), metadata={"least": 1}
    )
    protocol: str = dataclasses.field(default="auto", metadata={"choices": PROTOCOLS})
    shots: int = 2
    max_turns: int = dataclasses.field(default=8, metadata={"least": 1})
    max_tool_calls: int | None = dataclasses.field(default=None, metadata={"least": 1})
    token_budget: int | None = dataclasses.field(default=None, metadata={"least": 1})
    remind: bool = False
    track: bool = False
    extension_turns: int = 0
    most_turns: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot work, before the first item is asked."""
        if len(set(self.tools)) < len(self.tools):
            raise ConfigError(f"tools = {list(self.tools)} names a tool twice")
        for name in self.tools:
            if not is_external(name):  # what is, is looked at where the plan is expanded
                toolkit.get(name)
        if self.extension_turns and self.most_turns <= self.max_turns:
            raise ConfigError(
                f"most_turns = {self.most_turns} leaves no room for extensions above max_turns ="
                f" {self.max_turns}; raise it, or leave out extension_turns"
            )

    @property
    def calls_of_attempt(self) -> int:
        """The most calls that one attempt makes."""
        return max(self.max_turns, self.most_turns if self.extension_turns else 0) + 1

    async def act(self, session: Session, item: TaskItem, lessons: Sequence[str] = ()) -> Outcome:
        """Make one attempt at an item; `lessons` are what earlier ones have taught."""
        budget = AgentBudget(
            self.max_turns,
            self.max_tool_calls,
            self.token_budget,
            self.extension_turns,
            self.most_turns,
        )
        agent_tools = AgentTools(
            session,
            toolkit.Toolbox([toolkit.get(name, session.own_tools) for name in self.tools]),
            budget,
            remind=self.remind,
            track=self.track,
        )
        text = self.protocol == "text" or (
            self.protocol == "auto" and session.endpoint in _TEXT_ONLY
        )
        if text:
            return await agent_text.act(agent_tools, item, lessons, self.shots)
        return await agent_native.act(agent_tools, item, lessons)
