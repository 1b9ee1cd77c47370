"""Tools of an agent: runs the tool calls of a reply within the budget, and records them."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.records import NOT_RUN
from workbench.runner.attempts.session import Outcome, Reply, Session, ToolSpec
from workbench.runner.tools import Toolbox, ToolOutcome, ToolResult
from workbench.runner.tools.budget import MORE, Account, AgentBudget

FINAL = "No more tools can be used. Write 'Answer:' and your final answer now."


class ToolRequest(NamedTuple):
    """A tool that the model asks for, in its own words."""

    name: str
    arguments: str | None


class AgentTools:
    """The tools of one attempt, with what was used up of its budget.

    Attributes:
        account: what was used up.
        specs: the tools that are described to the model; a request for more turns is one of them
            where the budget may grow.
    """

    def __init__(
        self, session: Session, toolbox: Toolbox, budget: AgentBudget, *, remind: bool, track: bool
    ) -> None:
        """Bind the tools to an attempt."""
        self.session, self.toolbox, self.account = session, toolbox, Account(budget)
        self.specs: tuple[ToolSpec, ...] = (*toolbox.specs, *((MORE,) if budget.may_grow else ()))
        self._grows, self._remind, self._track = budget.may_grow, remind, track

    async def use(
        self, reply: Reply, calls: Sequence[ToolRequest], *, in_text: bool
    ) -> list[ToolOutcome]:
        """Run the tools that a reply asks for, side by side, and record them in order.

        What goes beyond the budget of tool calls is not run; its error type is NOT_RUN.
        """
        self.account.reply(reply.call)
        results = await asyncio.gather(*[self._one(each, self._room(each)) for each in calls])
        for place, called in enumerate(results):
            counted = await self.session.count_tokens(called.text)
            record = msgspec.structs.replace(called.record, result_tokens=counted)
            self.session.record_tool(reply.call.ordinal, record, place=None if in_text else place)
        return results

    def refuse_all(self, reply: Reply, calls: Sequence[ToolRequest], *, in_text: bool) -> None:
        """Record the tool calls of a reply after the end, without running or answering them."""
        for place, each in enumerate(calls):
            record = msgspec.structs.replace(self._refuse(each).record, result_bytes=None)
            self.session.record_tool(reply.call.ordinal, record, place=None if in_text else place)

    @property
    def most_tokens(self) -> int | None:
        """The most that the next reply may write; None without a budget of tokens."""
        return self.account.most_tokens

    def _room(self, call: ToolRequest) -> bool:
        """Count a tool call before it runs; asking for turns is none."""
        return (self._grows and call.name == MORE.name) or self.account.take_tool()

    async def _one(self, call: ToolRequest, room: bool) -> ToolOutcome:
        name, text = call
        if self._grows and name == MORE.name:
            return self.toolbox.refuse(name, text, ToolResult(self.account.grow()))
        return await self.toolbox.call(name, text) if room else self._refuse(call)

    def _refuse(self, call: ToolRequest) -> ToolOutcome:
        message = "Not run: no tool calls are left."
        return self.toolbox.refuse(call.name, call.arguments, ToolResult(message, NOT_RUN))

    def notes(self) -> str:
        """Return the notes to the model after its turn; "" without any."""
        parts = [FINAL] if self.account.limit() else []
        if self._track:
            parts.insert(0, self.account.tracked())
        if self._remind and not self.account.limit():
            parts.append(self.account.reminder())
        return f"\n\n[{' '.join(parts)}]" if parts else ""

    def _was_cut(self, reply: Reply) -> bool:
        """Whether a reply ended at the rest of the token budget, not at its own cap."""
        most, wrote = self.most_tokens, reply.call.output_tokens
        if most is None or wrote is None:
            return False
        return reply.stop_reason == "max_tokens" and wrote >= most

    def outcome(self, text: str, reply: Reply, **facts: Any) -> Outcome:
        """End the attempt with a text; the limit is named where one ended the acting."""
        limit = self.account.limit() if self.account.turns else None
        if limit is None and self._was_cut(reply):
            limit = "tokens"
        return Outcome(
            text,
            stop_reason=reply.stop_reason,
            limit_type=limit,
            metadata={**facts, **self.account.facts()},
        )


def format_lessons(lessons: Sequence[str]) -> str:
    """Write what earlier attempts have taught; "" where nothing."""
    if not lessons:
        return ""
    return "\n\nYou have tried this question before. What you noted then:\n" + "\n".join(
        f"- {' '.join(lesson.split())}" for lesson in lessons
    )
