"""Reports: answers of many analyses as one page, Markdown or LaTeX tables.

`make` builds a report from a store, `of` from results. `as_html`, `as_markdown` and `as_latex` turn
it into text without I/O; `save` writes a file in the format of its suffix.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.report.answers import of
    from workbench.report.builder import USUAL, make, select_analyses
    from workbench.report.contents import Answered, Looked, Report, Unanswered
    from workbench.report.latex import as_latex
    from workbench.report.markdown import as_markdown
    from workbench.report.page import as_html
    from workbench.report.saving import SUFFIXES, save, written

__all__ = [
    "SUFFIXES",
    "USUAL",
    "Answered",
    "Looked",
    "Report",
    "Unanswered",
    "as_html",
    "as_latex",
    "as_markdown",
    "make",
    "of",
    "save",
    "select_analyses",
    "written",
]

_HOMES = {
    "SUFFIXES": "saving",
    "save": "saving",
    "written": "saving",
    "USUAL": "builder",
    "select_analyses": "builder",
    "make": "builder",
    "of": "answers",
    "Answered": "contents",
    "Looked": "contents",
    "Report": "contents",
    "Unanswered": "contents",
    "as_html": "page",
    "as_latex": "latex",
    "as_markdown": "markdown",
}

_FORMER = {"chosen": "select_analyses"}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use, to load only the format that is written."""
    if name in _FORMER:
        message = f"workbench.report.{name} is now called {_FORMER[name]}"
        warnings.warn(message, FutureWarning, stacklevel=2)
        name = _FORMER[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
