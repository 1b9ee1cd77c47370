"""Foreign files → records: one module per format, found by content.

A format is a module here with a `SOURCE`; adding the file adds the format. Installed plug-ins add
theirs (group `workbench.sources`). Reading streams: an iterator yields the records, and the report
fills meanwhile.
"""

import functools
import importlib
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from workbench.errors import ConfigError, ImportFormatError
from workbench.records import AnyRecord
from workbench.sources import own
from workbench.sources.report import FileReport, Total

__all__ = [
    "FileReport",
    "Found",
    "Source",
    "Total",
    "detect",
    "find",
    "get",
    "problems",
    "read",
    "shipped_names",
    "sources",
    "why_not",
]

if TYPE_CHECKING:
    from workbench.trust import Trust

_SKIPPED = ("readme", "license", "licence", "notice", "copying", "changelog")


class Source(Protocol):
    """One foreign format.

    Attributes:
        name: short and stable; stored as the run's source.
        title: one line for people.
    """

    name: str
    title: str

    def detect(self, path: Path) -> bool:
        """Whether the file is of this format, by its content and cheaply."""
        ...

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield a file's records: run, task, item and configuration before what refers to them."""
        ...


class Found(NamedTuple):
    """A file, and the format that reads it; None where none does."""

    path: Path
    source: Source | None


def sources() -> dict[str, Source]:
    """All formats by name: those that ship, those of plug-ins, and last that of tables."""
    shipped = _shipped()
    others, _ = own.load_all(tuple(shipped))
    last = {"table": shipped["table"]}
    first = {n: s for n, s in shipped.items() if n != "table"}
    return {**first, **{s.name: s for s in others}, **last}


def shipped_names() -> tuple[str, ...]:
    """List the formats of this package."""
    return tuple(_shipped())


def problems() -> list[str]:
    """Say which plug-ins cannot be used, and why."""
    return own.load_all(tuple(_shipped()))[1]


def get(name: str, *, trust: "Trust" = False, is_typed: bool = False) -> Source:
    """Find a format by name, or import one that is named `file.py:name` or `module:name`.

    Args:
        name: of a format that ships, of a plug-in, or of code.
        trust: who answers for code that is not trusted yet (see `workbench.trust`).
        is_typed: whether the user named it where he works, so that nobody is asked.

    Raises:
        ConfigError: there is none, or it is not trusted.
    """
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    found = own.load(name, shipped, trust=trust, is_typed=is_typed)
    if found.name in shipped:
        raise ConfigError(
            f"the source {name!r} calls itself {found.name!r}, which is one that ships; give it"
            " another name"
        )
    return found


@functools.cache
def _shipped() -> dict[str, Source]:
    """The formats of this package; those that need a mapping come last."""
    found: dict[str, Source] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        source: Source | None = getattr(loaded, "SOURCE", None)
        if source is not None:
            found[source.name] = source
    return dict(sorted(found.items(), key=lambda pair: (pair[0] == "table", pair[0])))


def detect(
    path: str | Path, *, mapping: str | Path | None = None, source: Source | None = None
) -> Source | None:
    """Find the format of one file; with a mapping it is a table, and `source` is taken as it is."""
    if source is not None:
        return source
    if mapping is not None:
        return sources()["table"]
    path = Path(path)
    return next((source for source in sources().values() if source.detect(path)), None)


def find(
    path: str | Path, *, mapping: str | Path | None = None, source: Source | None = None
) -> list[Found]:
    """Walk a file or folder in sorted order and tell each file's format.

    Hidden files, README, LICENSE and the like are passed over, and so are links that lead out of
    the folder. With a mapping, the files that its [match] names are tables of it. With a source,
    all files are of its format.

    Raises:
        ImportFormatError: there is nothing at the path.
    """
    root = Path(path)
    if root.is_file():
        return [Found(root, detect(root, mapping=mapping, source=source))]
    if not root.is_dir():
        raise ImportFormatError(f"{root} is neither a file nor a folder")
    return [
        Found(file, detect(file, mapping=_if_named(mapping, file), source=source))
        for file in _walk(root)
    ]


def read(
    path: str | Path,
    *,
    report: FileReport | None = None,
    mapping: str | Path | None = None,
    source: Source | None = None,
) -> Iterator[AnyRecord]:
    """Yield the records of one file of any known format.

    Args:
        path: the file.
        report: filled while the records are drawn.
        mapping: a mapping file, or the name of a shipped one; for tables.
        source: its format, where that need not be found.

    Raises:
        ImportFormatError: the file is of no known format, or broken.
    """
    path = Path(path)
    report = report or FileReport(path)
    source = detect(path, mapping=mapping, source=source)
    if source is None:
        raise ImportFormatError(why_not(path))
    report.format = source.name
    try:
        yield from source.read(path, report=report, mapping=mapping)
    except OSError as error:
        raise ImportFormatError(f"{path} cannot be read: {error.strerror or error}") from error


def why_not(path: str | Path) -> str:
    """Say what was tried on a file of no known format, and what to do."""
    from workbench.sources.tables import why_not as reason

    failed = [
        s.failures[Path(path)]
        for s in own.load_all(tuple(_shipped()))[0]
        if Path(path) in s.failures
    ]
    return "; ".join([reason(Path(path)), *failed, *problems()])


def _if_named(mapping: str | Path | None, file: Path) -> str | Path | None:
    if mapping is None:
        return None
    from workbench.sources.mapping import load
    from workbench.sources.tables import named_by

    return mapping if named_by(load(mapping), file) else None


def _walk(root: Path) -> Iterator[Path]:
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            stem = name.lower().split(".")[0]
            plain = file.resolve().is_relative_to(inside) and file.is_file()
            if plain and not name.startswith(".") and stem not in _SKIPPED:
                yield file
