"""Plug-ins: parts that installed packages offer by entry points, listed without importing them.

A distribution declares an entry point in one of six groups, `workbench.strategies`,
`workbench.tools`, `workbench.scorers`, `workbench.sources`, `workbench.analyses` and
`workbench.providers`; its name is the name by which the part is used:

    [project.entry-points."workbench.strategies"] twice = "twice:Twice"

A distribution in an installation folder of Python, or in a folder of PYTHONPATH, is one that the
user installed: its parts are imported when they are asked for. Any other (in the working folder,
for example) is listed, and its code is imported only after the user trusted it
(`workbench.trust`).
"""

import ast
import dataclasses
import difflib
import functools
import os
import re
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import external_code
from workbench.errors import ConfigError
from workbench.external_code import ExternalCode, locate

if TYPE_CHECKING:
    from importlib.metadata import Distribution

# what a plug-in is → its group of entry points, and what it is in Python
GROUPS = {
    "strategy": ("workbench.strategies", "class"),
    "tool": ("workbench.tools", "class"),
    "scorer": ("workbench.scorers", "function"),
    "source": ("workbench.sources", "object"),
    "analysis": ("workbench.analyses", "object"),
    "provider": ("workbench.providers", "class"),
}
SHIPPED = "workbench"  # the origin of what is no plug-in
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,79}")


@dataclasses.dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of one of the groups; nothing of it is imported.

    Attributes:
        what: strategy, tool, scorer, source, analysis or provider.
        name: the name of the entry point; of a distribution whose entry points cannot be read, its
            own.
        value: `module:name`, as the distribution has it.
        origin: the distribution and its version.
        folder: where the distribution lies.
        is_installed: whether the user installed it, so that it is imported without a question.
        error: why it cannot be used; None where nothing is known against it.
    """

    what: str
    name: str
    value: str
    origin: str
    folder: Path
    is_installed: bool
    error: str | None = None

    def code(self) -> ExternalCode:
        """Locate its code without importing it.

        Raises:
            ConfigError: it cannot be used, or there is no such module.
        """
        if self.error is not None:
            raise ConfigError(self._unusable(self.error))
        try:
            code = locate(
                self.what,
                self.value,
                [],
                kind=GROUPS[self.what][1],
                is_typed=self.is_installed,
            )
            code.check(GROUPS[self.what][1])
        except ConfigError as error:
            raise ConfigError(self._unusable(str(error))) from None
        return dataclasses.replace(code, plugin=self.name)

    def load(self) -> object:
        """Import what it offers, if it is installed.

        Raises:
            ConfigError: it is not installed and so not trusted, or it could not be imported.
        """
        code = self.code()
        if not self.is_installed:
            raise ConfigError(self._unusable(self.untrusted))
        try:
            return code.load(GROUPS[self.what][1])
        except ConfigError as error:
            raise ConfigError(self._unusable(str(error))) from error

    @property
    def untrusted(self) -> str:
        """Why nothing of it is imported unasked, and what to do; "" where it is installed."""
        if self.is_installed:
            return ""
        return (
            f"its distribution is in {str(self.folder)!r}, which is no installation folder;"
            f" install it (pip install), or name its code: {self.value}"
        )

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, as far as that is seen without importing it."""
        try:
            self.code()
        except ConfigError as error:
            return str(error)
        return None

    def summary(self) -> str:
        """Read the first line of its docstring from its source; "" where there is none."""
        tree = self.code().syntax()
        definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in tree.body if tree is not None else ():
            if isinstance(node, definitions) and node.name == self.value.rpartition(":")[2]:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""

    def _unusable(self, reason: str) -> str:
        return f"the {self.what} {self.name!r} of {self.origin} cannot be used: {reason}"


def listed(what: str, shipped: Collection[str] = ()) -> list[Plugin]:
    """List the plug-ins of a kind by name, without importing any.

    Those that cannot be used are among them, with the reason: a name of a part that ships, a name
    that two distributions offer, or a declaration that cannot be read.

    Args:
        what: a key of GROUPS.
        shipped: names of the parts of this kind that ship.
    """
    plugins = [p for p in _read(*_path()) if p.what == what]
    plugins.sort(key=lambda p: (p.name, p.origin))
    origins: dict[str, list[str]] = {}
    for plugin in plugins:
        origins.setdefault(plugin.name, []).append(plugin.origin)
    return [dataclasses.replace(p, error=_error(p, origins[p.name], shipped)) for p in plugins]


def find(what: str, name: str) -> Plugin | None:
    """Find the plug-in of a kind by name, without importing it; None where there is none.

    Callers search the parts that ship first. A plug-in that cannot be used is returned as well: its
    `code` raises the reason.
    """
    return next((p for p in listed(what) if p.name == name), None)


def hint(what: str, name: str, shipped: Iterable[str], *, own: str = "") -> str:
    """Write what to do about an unknown name: the nearest name, else all, and how to name code."""
    known = [*dict.fromkeys([*shipped, *(p.name for p in listed(what) if p.error is None)])]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(known)}{own}"


def _error(plugin: Plugin, origins: list[str], shipped: Collection[str]) -> str | None:
    """Return what is wrong with a declaration."""
    if plugin.error is not None:
        return plugin.error
    if plugin.name in shipped:
        return f"{plugin.name!r} is the name of one that ships; the plug-in must have another name"
    if len(origins) > 1:
        return (
            f"{' and '.join(origins)} offer the same name; uninstall one, or name the code:"
            f" {plugin.value}"
        )
    if not _NAME.fullmatch(plugin.name):
        return "its name must begin with a letter, and hold letters, digits, '_', '-' and '.' only"
    return None


def _path() -> tuple[tuple[str, ...], tuple[float, ...], frozenset[Path]]:
    """Return Python's path with the times at which its folders changed, and the installation's."""
    # a folder that code of a plan was offered from is no place of the user's
    path = tuple(p for p in sys.path if p not in external_code.offered_folders())
    return path, tuple(_changed_at(p) for p in path), _installation_folders()


def _changed_at(folder: str) -> float:
    try:
        return Path(folder).stat().st_mtime
    except (OSError, ValueError):
        return 0.0


@functools.lru_cache(maxsize=4)
def _read(
    path: tuple[str, ...], _changed: tuple[float, ...], installation: frozenset[Path]
) -> tuple[Plugin, ...]:
    """Read the entry points of all groups from the distributions on a path."""
    # imported here, as it would be a quarter of the time of a command that asks no registry
    import importlib.metadata

    plugins: list[Plugin] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions(path=list(path)):
        try:
            text = distribution.read_text("entry_points.txt")
            if text is None or "workbench." not in text:
                continue
            name = str(distribution.metadata["Name"])
        except (OSError, ValueError, KeyError, TypeError):  # no distribution that names itself
            continue
        if name.lower() in seen:  # an older one, further on in the path
            continue
        seen.add(name.lower())
        plugins += _of(distribution, name, text, installation)
    return tuple(plugins)


def _of(
    distribution: "Distribution", name: str, text: str, installation: frozenset[Path]
) -> Iterator[Plugin]:
    """Read the entry points of one distribution."""
    folder = Path(str(distribution.locate_file(""))).resolve()
    installed = folder in installation
    for what, (group, _) in GROUPS.items():
        if group not in text:
            continue
        try:
            origin = f"{name} {distribution.version}"
            entries = list(distribution.entry_points.select(group=group))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"its entry points cannot be read ({type(error).__name__}: {error})"
            yield Plugin(what, name, "", name, folder, installed, reason)
            continue
        for entry in entries:
            value = entry.value.replace(" ", "")
            yield Plugin(what, entry.name, value, origin, folder, installed)


def _installation_folders() -> frozenset[Path]:
    """Collect the folders that only the user puts packages into."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    paths += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    # an empty or relative entry means the working folder
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths += [p for p in named if Path(p).is_absolute()]
    return frozenset(Path(p).resolve() for p in paths)
