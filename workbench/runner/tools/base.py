"""What a tool is, and what it gives back."""

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
    """How a tool is used, for models that must be shown; the answer of the tool is not made up but asked for.

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
        """Answer; the arguments fit the schema. What the model did wrong is an error in the result."""
        ...
