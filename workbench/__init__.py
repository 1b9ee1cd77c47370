"""Workbench for the cost of LLM and agent results: public names, imported on first use."""

import importlib
from typing import TYPE_CHECKING, Any

from workbench.version import __version__

if TYPE_CHECKING:
    from workbench import analysis, billing, charts, report
    from workbench.billing import reconcile
    from workbench.slice import Slice
    from workbench.store import Store
    from workbench.store import open_store as open

__all__ = [
    "Slice",
    "Store",
    "__version__",
    "analysis",
    "billing",
    "charts",
    "open",
    "reconcile",
    "report",
]

_HOMES = {
    "Slice": ("workbench.slice", "Slice"),
    "Store": ("workbench.store", "Store"),
    "open": ("workbench.store", "open_store"),
    "analysis": ("workbench.analysis", None),
    "billing": ("workbench.billing", None),
    "charts": ("workbench.charts", None),
    "reconcile": ("workbench.billing", "reconcile"),
    "report": ("workbench.report", None),
}


def __getattr__(name: str) -> Any:
    """Import a public name's home on first use, so that `import workbench` costs nothing."""
    try:
        home, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}") from None
    module = importlib.import_module(home)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
