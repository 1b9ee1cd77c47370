"""The budget of an agent in turns, tool calls and tokens, with reminders and extensions.

Limits on turns, tool calls and tokens hold together: whichever is reached first ends the acting,
and the model is asked once more for its answer. A reminder of the turns that are left, and turns
granted on demand, are the turn control of "More with Less" (arXiv 2510.16786); the account of what
was spent is the Budget Tracker of BATS (arXiv 2511.17006).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from workbench.errors import ProviderRejected
from workbench.records import Call
from workbench.runner.providers.protocol import ToolSpec

LAST_TOKENS = 256  # of the answer that is asked for where none are left
MORE = ToolSpec(
    "more_turns",
    "Ask for more turns, if the ones that are left will not do.",
    {
        "type": "object",
        "required": ["reason"],
        "additionalProperties": False,
        "properties": {
            "reason": {
                "type": "string",
                "maxLength": 500,
                "description": "what is still to be done",
            }
        },
    },
)


@dataclasses.dataclass(frozen=True, slots=True)
class AgentBudget:
    """The limits of one attempt; None is none.

    Attributes:
        turns: replies that may ask for tools; the answer asked for after them is one more.
        tool_calls: tools that are run.
        tokens: input and output of all calls, added up after each. A reply may write no more than
            is left; the answer that is asked for when nothing is left has LAST_TOKENS.
        extension: turns (and tool calls) granted each time the model asks for more; 0 grants none.
        most_turns: no extension goes beyond.
    """

    turns: int = 8
    tool_calls: int | None = None
    tokens: int | None = None
    extension: int = 0
    most_turns: int = 16

    @property
    def may_grow(self) -> bool:
        """Whether the model is offered to ask for more turns."""
        return self.extension > 0 and self.most_turns > self.turns


class Account:
    """What an attempt has used up of its budget.

    Attributes:
        turns, tool_calls, tokens: so far.
        n_extensions: how often more turns were granted.
    """

    def __init__(self, budget: AgentBudget) -> None:
        """Begin with nothing spent."""
        self._budget = budget
        self._turns, self._tool_calls = budget.turns, budget.tool_calls
        self.turns = self.tool_calls = self.tokens = self.n_extensions = 0

    @property
    def turns_left(self) -> int:
        """Replies that may still ask for tools."""
        return max(self._turns - self.turns, 0)

    @property
    def most_tokens(self) -> int | None:
        """The most that the next reply may write; None where tokens are not limited."""
        if self._budget.tokens is None:
            return None
        tokens_left = self._budget.tokens - self.tokens
        return tokens_left if tokens_left > 0 else LAST_TOKENS

    def reply(self, call: Call) -> None:
        """Count a reply that asked for tools.

        Raises:
            ProviderRejected: tokens are limited, and the server did not say how many there were.
        """
        self.turns += 1
        if call.input_tokens is None or call.output_tokens is None:
            if self._budget.tokens is not None:
                raise ProviderRejected(
                    "the budget of tokens cannot be kept: the server counts none; leave out"
                    " token_budget",
                    kind="no_usage",
                )
            return
        self.tokens += call.input_tokens + call.output_tokens

    def take_tool(self) -> bool:
        """Count a tool call if one is left."""
        if self._tool_calls is not None and self.tool_calls >= self._tool_calls:
            return False
        self.tool_calls += 1
        return True

    def grow(self) -> str:
        """Grant more turns if there are any; returns what the model is told."""
        more = min(self._budget.extension, self._budget.most_turns - self._turns)
        if more <= 0:
            return "Refused: no more turns can be had."
        self._turns += more
        self._tool_calls = None if self._tool_calls is None else self._tool_calls + more
        self.n_extensions += 1
        return f"Granted: {more} more turns."

    def limit(self) -> str | None:
        """Name the limit that is reached; None while none is."""
        if self._budget.tokens is not None and self.tokens >= self._budget.tokens:
            return "tokens"
        if self._tool_calls is not None and self.tool_calls >= self._tool_calls:
            return "tool_calls"
        return "turns" if not self.turns_left else None

    def reminder(self) -> str:
        """Return the reminder of the turns that are left."""
        turns_left = self.turns_left
        more = f" Call {MORE.name} if you need more." if self._can_grow else ""
        return f"You have {turns_left} {'turn' if turns_left == 1 else 'turns'} left.{more}"

    @property
    def _can_grow(self) -> bool:
        return self._budget.may_grow and self._turns < self._budget.most_turns

    def tracked(self) -> str:
        """Return the account of the spent budget."""
        parts = [f"{self.turns} of {self._turns} turns"]
        if self._tool_calls is not None:
            parts.append(f"{self.tool_calls} of {self._tool_calls} tool calls")
        if self._budget.tokens is not None:
            parts.append(f"{self.tokens} of {self._budget.tokens} tokens")
        return f"Used so far: {', '.join(parts)}."

    def facts(self) -> Mapping[str, Any]:
        """Return facts for the trace's metadata that have no column."""
        return {"n_extensions": self.n_extensions} if self._budget.may_grow else {}
