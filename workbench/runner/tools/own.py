"""Tools of the user's own, by name or of plug-ins; their faults are answers to the model."""

import asyncio
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from workbench.errors import ConfigError
from workbench.external_code import ExternalCode, fault
from workbench.plugins import Plugin
from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools.base import Example, ToolResult


class OwnTool:
    """A tool from outside the package."""

    def __init__(self, tool: Any) -> None:
        """Wrap it."""
        self._tool = tool
        self.spec: ToolSpec = tool.spec
        self.example: Example = tool.example
        self.timeout_s = float(tool.timeout_s)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Answer; a fault of the tool is an error in the result, and does not end the run."""
        try:
            result = await self._tool.run(arguments)
        except (TimeoutError, asyncio.CancelledError):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any fault of theirs
            return ToolResult(f"Error: {fault(error)}.", "tool_failed")
        if not isinstance(result, ToolResult):
            return ToolResult("Error: the tool returned no ToolResult.", "tool_failed")
        return result


@dataclasses.dataclass(frozen=True, slots=True)
class OwnToolClass:
    """The class of a tool that the user named, imported; a call makes a tool."""

    name: str
    kind: Any

    @classmethod
    def imported(cls, code: ExternalCode) -> "OwnToolClass":
        """Import the class, and make a tool to see that it is one.

        The caller has made sure that it may run.

        Raises:
            ConfigError: its import failed, or it is no tool.
        """
        own = cls(code.name, code.load("class"))
        own()
        return own

    def __call__(self) -> OwnTool:
        """Make a tool."""
        return _made(self.kind, f"the tool {self.name!r}")


def make(plugin: Plugin) -> OwnTool:
    """Import and make the tool of an installed plug-in.

    Raises:
        ConfigError: it is not installed, its import failed, or it is no tool of that name.
    """
    return _made(plugin.load(), f"the tool {plugin.name!r} of {plugin.origin}", plugin.name)


def _made(kind: Any, where: str, name: str | None = None) -> OwnTool:
    """Make a tool of a class; where a name is given, the tool must bear it."""
    try:
        tool = kind()
        is_spec = isinstance(tool.spec, ToolSpec) and name in {None, tool.spec.name}
        runs = inspect.iscoroutinefunction(tool.run)
        own = OwnTool(tool)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where} could not be made: {fault(error)}") from error
    if not is_spec or not runs:
        whose_name = "" if name is None else f" whose name is {name!r}"
        raise ConfigError(
            f"{where} must have `async def run(self, arguments)` and a `spec` (ToolSpec)"
            f"{whose_name}"
        )
    return own
