"""The toolbox of an attempt: finds a called tool, runs and times it, and records the call."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from workbench.records import ToolCall
from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools import arguments
from workbench.runner.tools.base import Tool, ToolResult

MOST_CHARACTERS = 4_000


class ToolOutcome(NamedTuple):
    """A tool that was asked for.

    Attributes:
        text: what the model is shown, cut to the cap.
        record: the tool call, its place in the attempt not yet filled in.
    """

    text: str
    record: ToolCall


class Toolbox:
    """Tools by name; a model's mistake becomes a result that describes it, and an `error_type`.

    The error types: unknown_tool, bad_arguments, timeout, and those of each tool.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        most_characters: int = MOST_CHARACTERS,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Bind the tools; an answer longer than `most_characters` is cut, and says so."""
        self.tools = {tool.spec.name: tool for tool in tools}
        self._most, self._clock, self._now = most_characters, clock, now

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of the tools."""
        return tuple(tool.spec for tool in self.tools.values())

    async def call(self, name: str, text: str | None) -> ToolOutcome:
        """Run a tool with the arguments as the model wrote them."""
        started_at, start = self._now(), self._clock()
        result = await self._run(name, text)
        return self._called(name, text, result, started_at, self._clock() - start)

    def refuse(self, name: str, text: str | None, result: ToolResult) -> ToolOutcome:
        """Answer without running the tool: it took no time."""
        return self._called(name, text, result, self._now(), None)

    def _called(
        self,
        name: str,
        text: str | None,
        result: ToolResult,
        started_at: dt.datetime,
        e2e_s: float | None,
    ) -> ToolOutcome:
        shown = _cut(result.text, self._most)
        record = ToolCall(
            ordinal=0,
            tool=name,
            arguments=text,
            started_at=started_at,
            e2e_s=e2e_s,
            result_bytes=len(shown.encode("utf-8", "replace")),
            error_type=result.error,
            error_message=shown[:300] if result.error else None,
        )
        return ToolOutcome(shown, record)

    async def _run(self, name: str, text: str | None) -> ToolResult:
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join(self.tools)
            return ToolResult(
                f"Error: there is no tool called {name[:80]!r}; there are {known}.", "unknown_tool"
            )
        try:
            given = arguments.read(text, tool.spec.parameters)
        except arguments.BadArguments as error:
            return ToolResult(f"Error: {error}.", "bad_arguments")
        try:
            async with asyncio.timeout(tool.timeout_s):
                return await tool.run(given)
        except TimeoutError:
            return ToolResult(
                f"Error: {name} was given up after {tool.timeout_s:g} seconds.", "timeout"
            )


def _cut(text: str, most: int) -> str:
    """Keep the beginning of a long answer, and say in it what is missing."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut: {most:,} of {len(text):,} characters are shown]"
