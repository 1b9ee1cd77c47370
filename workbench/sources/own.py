"""Sources from outside the package: plug-ins, and `file.py:name` that the user named.

Their faults are contained: what cannot be imported or fails on a file is named with its error, and
the other sources go on.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import plugins
from workbench.errors import ConfigError, ImportFormatError, WorkbenchError
from workbench.external_code import fault, is_external
from workbench.records import AnyRecord
from workbench.sources.report import FileReport

if TYPE_CHECKING:
    from workbench.trust import Trust


class OwnSource:
    """A source from outside the package.

    Attributes:
        name: as it calls itself.
        title: one line for people.
        origin: the distribution, or the file that was named.
        failures: what went wrong when files were looked at, by file.
    """

    def __init__(self, source: Any, origin: str) -> None:
        """Wrap it.

        Raises:
            ConfigError: it is no source.
        """
        name, title = getattr(source, "name", None), getattr(source, "title", None)
        methods = [getattr(source, method, None) for method in ("detect", "read")]
        is_named = isinstance(name, str) and name and isinstance(title, str)
        if not is_named or not all(callable(method) for method in methods):
            raise ConfigError(
                f"{origin} offers no source: an object with the texts `name` and `title`, and"
                " with `detect(path)` and `read(path, *, report, mapping)`"
            )
        self.name, self.title = str(name), str(title)
        self._source, self.origin = source, origin
        self.failures: dict[Path, str] = {}

    def detect(self, path: Path) -> bool:
        """Whether the file is of this format; one that it fails on is not."""
        try:
            return bool(self._source.detect(path))
        except Exception as error:  # noqa: BLE001  # any fault of code that is not ours
            self.failures[path] = f"the source {self.name!r} of {self.origin}: {fault(error)}"
            return False

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the file's records; a fault of the source fails this file.

        Raises:
            ImportFormatError: the file is broken, or the source failed.
        """
        try:
            yield from self._source.read(path, report=report, mapping=mapping)
        except (WorkbenchError, OSError):
            raise
        except Exception as error:
            raise ImportFormatError(
                f"{path}: the source {self.name!r} of {self.origin} failed: {fault(error)}"
            ) from error


@functools.lru_cache(maxsize=64)
def _loaded(plugin: plugins.Plugin) -> OwnSource | str:
    """Import the source of a plug-in once; a text says why that cannot be."""
    try:
        source = OwnSource(plugin.load(), plugin.origin)
    except ConfigError as error:
        return str(error)
    if source.name != plugin.name:
        return (
            f"the source {plugin.name!r} of {plugin.origin} cannot be used: it calls itself"
            f" {source.name!r}; its `name` must be that of its entry point"
        )
    return source


def load_all(shipped: Sequence[str]) -> tuple[list[OwnSource], list[str]]:
    """Import the sources of installed plug-ins; return them, and why others cannot be used."""
    found = [_loaded(p) for p in plugins.listed("source", shipped)]
    return (
        [s for s in found if isinstance(s, OwnSource)],
        [s for s in found if isinstance(s, str)],
    )


def load(
    name: str, shipped: Iterable[str], *, trust: "Trust" = False, is_typed: bool = False
) -> OwnSource:
    """Import a source that is named `module:name` or `file.py:name`, or a plug-in.

    Args:
        name: as the user or a file named it.
        shipped: the names of the sources that ship, for the message.
        trust: who answers for code that is not trusted yet.
        is_typed: whether the user named it where he works, so that nobody is asked.

    Raises:
        ConfigError: it is not trusted, is not there, or is no source.
    """
    from workbench.trust import load_trusted

    if is_external(name):
        found = load_trusted("source", name, kind="object", trust=trust, is_typed=is_typed)
        return OwnSource(found, name)
    plugin = plugins.find("source", name)
    if plugin is None:
        own = ", and file.py:NAME for one of your own"
        raise ConfigError(
            f"no source is called {name!r}; {plugins.hint('source', name, shipped, own=own)}"
        )
    found = _loaded(plugin)
    if isinstance(found, str):
        raise ConfigError(found)
    return found
