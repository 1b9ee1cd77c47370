"""Registry of scorers by name: those that ship, plug-ins, and the user's own `module:function`."""

from pathlib import Path

from workbench import plugins
from workbench.errors import TaskError
from workbench.external_code import is_external
from workbench.scoring import user_code
from workbench.scoring.base import InlineScorer, Scorer
from workbench.scoring.choice import CHOICE
from workbench.scoring.dates import DATE
from workbench.scoring.json_values import JSON
from workbench.scoring.judge import Judge
from workbench.scoring.mathematics import Mathematics
from workbench.scoring.numeric import NUMERIC
from workbench.scoring.unit_tests import UnitTests
from workbench.scoring.words import EXACT, LIST, REGEX

_SHIPPED: dict[str, Scorer] = {
    s.name: s
    for s in (EXACT, NUMERIC, CHOICE, REGEX, LIST, DATE, JSON, Mathematics(), UnitTests(), Judge())
}


def names() -> tuple[str, ...]:
    """List the scorers that ship."""
    return tuple(_SHIPPED)


def inline_names() -> tuple[str, ...]:
    """List those that need nothing but the text."""
    return tuple(n for n, s in _SHIPPED.items() if isinstance(s, InlineScorer))


def get(name: str) -> Scorer:
    """Find a scorer that ships; TaskError with the nearest name if there is none."""
    try:
        return _SHIPPED[name]
    except KeyError:
        own = ", and module:function for one of your own"
        hint = plugins.hint("scorer", name, _SHIPPED, own=own)
        raise TaskError(f"no scorer is called {name!r}; {hint}") from None


def is_own(name: str) -> bool:
    """Whether a name is that of code of the user's, or of a plug-in, and of none that ships."""
    if name in _SHIPPED:
        return False
    return is_external(name) or plugins.find("scorer", name) is not None


def find(name: str, *, allow_code: bool, folder: Path | None = None) -> Scorer:
    """Find a scorer that ships, or import the user's own where that is allowed.

    Raises:
        TaskError: there is none, or it is code that a file names and the user did not allow.
    """
    if not is_own(name):
        return get(name)
    plugin = None if is_external(name) else user_code.locate(name, [])
    if plugin is not None and plugin.code.is_typed:
        return plugin.load()
    if not allow_code:
        raise TaskError(
            f"the scorer {name!r} is code that a task file names, and importing it would run it;"
            " read it, and give --allow-code (allow_code=True in Python) if you trust it"
        )
    return user_code.load(name, folder)
