"""External sources: installed plug-ins, and code that the user names as `file.py:name`.

Their errors are contained: a source that cannot be imported or fails on a file is reported with its
error, and the other sources are still tried.
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


class ExternalSource:
    """A source from outside the package.

    Attributes:
        name: its own name.
        title: one line for people.
        origin: the distribution, or the file that the user named.
        failures: error of `detect`, by file.
    """

    def __init__(self, source: Any, origin: str) -> None:
        """Wrap an imported object.

        Raises:
            ConfigError: the object is not a source.
        """
        name = getattr(source, "name", None)
        title = getattr(source, "title", None)
        methods = [getattr(source, method, None) for method in ("detect", "read")]
        is_named = isinstance(name, str) and name and isinstance(title, str)
        if not is_named or not all(callable(method) for method in methods):
            raise ConfigError(
                f"{origin} is not a source; it needs the texts `name` and `title`, and the methods"
                " `detect(path)` and `read(path, *, report, mapping)`"
            )
        self.name = str(name)
        self.title = str(title)
        self._source = source
        self.origin = origin
        self.failures: dict[Path, str] = {}

    def detect(self, path: Path) -> bool:
        """Return whether the file is of this format; False if the source raises an error."""
        try:
            return bool(self._source.detect(path))
        except Exception as error:  # noqa: BLE001  # any fault of code that is not ours
            self.failures[path] = f"the source {self.name!r} of {self.origin}: {fault(error)}"
            return False

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the other files that are read with a file; none if the source fails."""
        find = getattr(self._source, "parts", None)
        if find is None:
            return ()
        try:
            return tuple(Path(part) for part in find(path))
        except Exception as error:  # noqa: BLE001  # any fault of code that is not ours
            self.failures[path] = f"the source {self.name!r} of {self.origin}: {fault(error)}"
            return ()

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the file's records; an error of the source fails this file only.

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
def _loaded(plugin: plugins.Plugin) -> ExternalSource | str:
    """Import the source of a plug-in once; return the reason as text if that fails."""
    try:
        source = ExternalSource(plugin.load(), plugin.origin)
    except ConfigError as error:
        return str(error)
    if source.name != plugin.name:
        return (
            f"the source {plugin.name!r} of {plugin.origin} cannot be used: its `name` is"
            f" {source.name!r}; it must be the name of its entry point"
        )
    return source


def load_all(shipped: Sequence[str]) -> tuple[list[ExternalSource], list[str]]:
    """Import the sources of installed plug-ins: (sources, why others cannot be used)."""
    outcomes = [_loaded(p) for p in plugins.listed("source", shipped)]
    return (
        [s for s in outcomes if isinstance(s, ExternalSource)],
        [s for s in outcomes if isinstance(s, str)],
    )


def load(
    name: str, shipped: Iterable[str], *, trust: "Trust" = False, is_typed: bool = False
) -> ExternalSource:
    """Import the code named `module:name` or `file.py:name`, or a plug-in by name.

    Args:
        name: the name of the code or the plug-in.
        shipped: the names of the shipped sources, for the message.
        trust: decides about code that is not trusted yet.
        is_typed: whether the user typed the name, which counts as trust.

    Raises:
        ConfigError: the code is not trusted, does not exist, or is not a source.
    """
    from workbench.trust import load_trusted

    if is_external(name):
        loaded = load_trusted("source", name, kind="object", trust=trust, is_typed=is_typed)
        return ExternalSource(loaded, name)
    plugin = plugins.find("source", name)
    if plugin is None:
        advice = ", and file.py:NAME for one of your own"
        raise ConfigError(
            f"no source is called {name!r}; {plugins.hint('source', name, shipped, own=advice)}"
        )
    loaded = _loaded(plugin)
    if isinstance(loaded, str):
        raise ConfigError(loaded)
    return loaded
