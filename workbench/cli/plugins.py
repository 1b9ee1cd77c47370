"""`workbench plugins`: plug-ins of other packages by entry point, listed without an import."""

import importlib
from collections.abc import Callable, Collection
from typing import Any

import click

from workbench.cli.examples import examples
from workbench.cli.options import output_options


@click.command("plugins", epilog=examples("workbench plugins", "workbench plugins --format json"))
@output_options
def plugins(format_: str | None, output: Any) -> None:
    """List plug-ins: parts that other installed packages offer, and why one cannot be used.

    This command reads their entry points and sources, and imports nothing. A package that is not in
    an installation folder of Python (or in one of PYTHONPATH) is not trusted: you are asked once
    when a plan names one of its parts.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.plugins import GROUPS, listed

    rows = [
        {
            "kind": plugin.what,
            "name": plugin.name,
            "code": plugin.value,
            "origin": plugin.origin,
            "folder": str(plugin.folder),
            "trusted": plugin.is_installed,
            "problem": plugin.problem,
        }
        for what in GROUPS
        for plugin in listed(what, _shipped(what))
    ]
    columns = ["kind", "name", "code", "origin", "folder", "trusted", "problem"]
    emit(Document("plugins", frame_of(rows, columns)), format_, output)


def _shipped(what: str) -> Collection[str]:
    """Name the parts of a kind that ship."""
    module, function = _NAMES[what].split(":")
    names: Callable[[], Collection[str]] = getattr(importlib.import_module(module), function)
    return names()


# what a plug-in is → the function that names those that ship
_NAMES = {
    "strategy": "workbench.runner.strategies:names",
    "tool": "workbench.runner.tools:names",
    "scorer": "workbench.scoring:names",
    "source": "workbench.sources:shipped_names",
    "analysis": "workbench.analysis:shipped_names",
    "provider": "workbench.runner.planning.target:endpoint_names",
}
