"""Widgets for notebooks: panels over a store, as in `from widgets import Explorer`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.explorer import Explorer
    from widgets.grid import Grid

__all__ = ["Explorer", "Grid"]

_HOMES = {"Explorer": "widgets.explorer", "Grid": "widgets.grid"}
_OPTIONAL = {"anywidget", "ipywidgets"}


def __getattr__(name: str) -> Any:
    """Import a panel on first use; MissingExtra names the command that installs its libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module 'widgets' has no attribute {name!r}")
    try:
        module = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        from workbench.errors import MissingExtra

        raise MissingExtra(error.name, "notebook") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    """List the panels."""
    return sorted(__all__)
