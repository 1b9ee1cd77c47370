"""Tools by name that a model may call: one file each, imported on use, and plug-ins."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from workbench import plugins
from workbench.errors import ConfigError
from workbench.runner.tools.base import Tool, ToolResult
from workbench.runner.tools.toolbox import Toolbox, ToolOutcome

__all__ = ["Tool", "ToolOutcome", "ToolResult", "Toolbox", "get", "identity", "names"]

_HOMES = {
    "calculator": ("workbench.runner.tools.calculator", "Calculator"),
    "search": ("workbench.runner.tools.search", "Search"),
    "sql": ("workbench.runner.tools.sql", "Sql"),
    "python": ("workbench.runner.tools.python", "Python"),
}


_OWN = ", and module:Class or file.py:Class for one of your own"


def names() -> tuple[str, ...]:
    """List the tools."""
    return tuple(_HOMES)


def identity(name: str) -> str | None:
    """Return `module:name` and a hash of the source of a tool; None for a tool that ships."""
    plugin = None if name in _HOMES else plugins.find("tool", name)
    return None if plugin is None else plugin.code().identity


def get(name: str, own_tools: Mapping[str, Callable[[], Tool]] = MappingProxyType({})) -> Tool:
    """Make a tool by name.

    Args:
        name: of one that ships, of a plug-in, or one of `own_tools`.
        own_tools: makers of the user's tools, by `module:Class` or `file.py:Class`.

    Raises:
        ConfigError: there is no such tool, or it cannot work on this machine.
    """
    if name in own_tools:
        return own_tools[name]()
    if name not in _HOMES:
        plugin = plugins.find("tool", name)
        if plugin is not None:
            from workbench.runner.tools import own

            return own.make(plugin)
        hint = plugins.hint("tool", name, _HOMES, own=_OWN)
        raise ConfigError(f"no tool is called {name!r}; {hint}")
    module, attribute = _HOMES[name]
    tool: Tool = getattr(importlib.import_module(module), attribute)()
    return tool
