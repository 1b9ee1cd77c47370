"""Public interface of the analyses: each answers one question about traces, frame in, frame out.

Every analysis is a function of this module by its name with underscores: `analysis.cost_of_pass`.
"""

import functools
import importlib
from typing import TYPE_CHECKING, Any

from workbench.analysis.catalogue.registry import (
    by_family,
    catalogue,
    get,
    load,
    names,
    origin,
    problems,
    run,
    shipped_names,
)
from workbench.analysis.core.declaration import Analysis, ChartSpec, Option, analysis

if TYPE_CHECKING:
    from workbench.analysis.core.result import Answer, Result

__all__ = [
    "Analysis",
    "Answer",
    "ChartSpec",
    "Option",
    "Result",
    "analysis",
    "by_family",
    "catalogue",
    "get",
    "load",
    "names",
    "origin",
    "problems",
    "run",
    "shipped_names",
]

_LAZY = {
    "Answer": "core.result",
    "Result": "core.result",
    "snippets": "catalogue.snippets",
}


def __getattr__(name: str) -> Any:
    """Resolve an analysis by name, or a public name whose import is deferred because it is slow."""
    if name in _LAZY:
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
        return module if name == "snippets" else getattr(module, name)
    if name.replace("_", "-") in names():
        return functools.partial(run, name.replace("_", "-"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the analyses among them."""
    return sorted([*__all__, "snippets", *(name.replace("-", "_") for name in names())])
