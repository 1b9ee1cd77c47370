"""Tools by name that a model may call, one file each, imported on use."""

import difflib
import importlib

from workbench.errors import ConfigError
from workbench.runner.tools.base import Tool, ToolResult
from workbench.runner.tools.toolbox import Toolbox, ToolOutcome

__all__ = ["Tool", "ToolOutcome", "ToolResult", "Toolbox", "get", "names"]

_HOMES = {
    "calculator": ("workbench.runner.tools.calculator", "Calculator"),
    "search": ("workbench.runner.tools.search", "Search"),
    "sql": ("workbench.runner.tools.sql", "Sql"),
    "python": ("workbench.runner.tools.python", "Python"),
}


def names() -> tuple[str, ...]:
    """List the tools."""
    return tuple(_HOMES)


def get(name: str) -> Tool:
    """Make a tool by name.

    Raises:
        ConfigError: there is no such tool, or it cannot work on this machine.
    """
    if name not in _HOMES:
        near = difflib.get_close_matches(name, _HOMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_HOMES)}"
        raise ConfigError(f"no tool is called {name!r}; {hint}")
    module, attribute = _HOMES[name]
    tool: Tool = getattr(importlib.import_module(module), attribute)()
    return tool
