"""Tools of installed plug-ins (group `workbench.tools`); their faults are answers to the model."""

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from workbench.errors import ConfigError
from workbench.external_code import fault
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
        except Exception as error:  # noqa: BLE001  # any fault of code that is not ours
            return ToolResult(f"Error: {fault(error)}.", "tool_failed")
        if not isinstance(result, ToolResult):
            return ToolResult("Error: the tool returned no ToolResult.", "tool_failed")
        return result


def make(plugin: Plugin) -> OwnTool:
    """Import and make the tool of an installed plug-in.

    Raises:
        ConfigError: it is not installed, its import failed, or it is no tool of that name.
    """
    kind: Any = plugin.load()
    where = f"the tool {plugin.name!r} of {plugin.origin}"
    try:
        tool = kind()
        is_spec = isinstance(tool.spec, ToolSpec) and tool.spec.name == plugin.name
        runs = inspect.iscoroutinefunction(tool.run)
        own = OwnTool(tool)
    except Exception as error:
        raise ConfigError(f"{where} could not be made: {fault(error)}") from error
    if not is_spec or not runs:
        raise ConfigError(
            f"{where} must have `async def run(self, arguments)` and a `spec` (ToolSpec) whose name"
            f" is {plugin.name!r}"
        )
    return own
