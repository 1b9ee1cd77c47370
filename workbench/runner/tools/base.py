"""The base types of tools: the protocol of a tool and its result."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from workbench.runner.providers.protocol import ToolSpec


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool answered.

    Attributes:
        text: what the model is shown; never empty.
        error: a short, stable word for what went wrong, stored as `error_type`; null where nothing
            did.
    """

    text: str
    error: str | None = None


class Example(NamedTuple):
    """A worked example of a tool's use for few-shot prompts; its result comes from the real tool.

    Attributes:
        question, thought: what leads to asking it.
        arguments: what it is asked.
        answer: what follows from what it says.
    """

    question: str
    thought: str
    arguments: Mapping[str, Any]
    answer: str


class Tool(Protocol):
    """Something that a model may have done; one may be asked by many attempts at once.

    Attributes:
        spec: its name, what it does, and the JSON Schema of its arguments.
        example: how it is used.
        timeout_s: seconds after which its answer is no longer waited for.
    """

    @property
    def spec(self) -> ToolSpec:
        """Its name, what it does, and the JSON Schema of its arguments."""
        ...

    @property
    def example(self) -> Example:
        """How it is used."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds after which its answer is no longer waited for."""
        ...

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run the tool with valid arguments; a model's mistake is an error in the result."""
        ...
