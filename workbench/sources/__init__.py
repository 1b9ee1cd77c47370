"""Sources: readers that convert the files of other tools to records, one module per format.

A format is a module of this package, or of one of its rooms, with a `SOURCE`; adding the file adds
the format. Installed plug-ins add further ones (group `workbench.sources`). Files are detected by
their content and read as a stream: an iterator yields the records and fills the report as it
advances. Files that belong together are read together (`parts`).
"""

import functools
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from workbench.errors import ConfigError, ImportFormatError
from workbench.records import AnyRecord, Rows
from workbench.sources import external
from workbench.sources.report import FileReport, Total

__all__ = [
    "DetectedFile",
    "FileReport",
    "Source",
    "Total",
    "detect",
    "detect_files",
    "get",
    "joined",
    "parts",
    "problems",
    "read",
    "read_rows",
    "shipped_names",
    "sources",
    "walk",
    "why_not",
]

if TYPE_CHECKING:
    from workbench.trust import Trust

_DEPTH = 3  # dots in the name of a source: workbench.sources.room.module
_SKIPPED = ("readme", "license", "licence", "notice", "copying", "changelog")


class Source(Protocol):
    """Reader of one file format.

    A source may have a method `parts(path)` too: the other files that `read(path)` reads, as the
    samples beside the results of a run. A folder's walk does not import those by themselves.

    Attributes:
        name: short and stable; stored as the run's source.
        title: one line for people.
    """

    name: str
    title: str

    def detect(self, path: Path) -> bool:
        """Return whether the file is of this format, by its first bytes."""
        ...

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield a file's records; each one after the records that it refers to."""
        ...


class DetectedFile(NamedTuple):
    """A file and its source; None if its format is unknown, or if it is read with another file.

    Attributes:
        path: the file.
        source: its source.
        read_with: the file with which it is read, so that it is not imported by itself.
    """

    path: Path
    source: Source | None
    read_with: Path | None = None


def sources() -> dict[str, Source]:
    """Return all sources by name: shipped ones, those of plug-ins, and tables last."""
    shipped = dict(_shipped())
    plugin_sources, _ = external.load_all(tuple(shipped))
    table = shipped.pop("table")
    return {**shipped, **{s.name: s for s in plugin_sources}, "table": table}


def shipped_names() -> tuple[str, ...]:
    """Return the names of the sources of this package."""
    return tuple(_shipped())


def problems() -> list[str]:
    """Explain for each unusable plug-in why it cannot be used."""
    return external.load_all(tuple(_shipped()))[1]


def get(name: str, *, trust: "Trust" = False, is_typed: bool = False) -> Source:
    """Return a source by name, or import the code named `file.py:name` or `module:name`.

    Args:
        name: name of a shipped source or a plug-in, or of code.
        trust: decides about code that is not trusted yet (see `workbench.trust`).
        is_typed: whether the user typed the name, which counts as trust.

    Raises:
        ConfigError: there is no such source, or its code is not trusted.
    """
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    source = external.load(name, shipped, trust=trust, is_typed=is_typed)
    if source.name in shipped:
        raise ConfigError(
            f"the source {name!r} has the name {source.name!r}, which a shipped source has; give"
            " it another name"
        )
    return source


@functools.cache
def _shipped() -> dict[str, Source]:
    """Return the sources of this package by name; tables, which need a mapping, are last."""
    sources_by_name: dict[str, Source] = {}
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        if module.name.count(".") > _DEPTH:  # a part of a source, which may load large libraries
            continue
        source: Source | None = getattr(importlib.import_module(module.name), "SOURCE", None)
        if source is not None:
            sources_by_name[source.name] = source
    return dict(sorted(sources_by_name.items(), key=lambda pair: (pair[0] == "table", pair[0])))


def detect(
    path: str | Path, *, mapping: str | Path | None = None, source: Source | None = None
) -> Source | None:
    """Detect the source of one file: `source` if given, tables if there is a mapping."""
    if source is not None:
        return source
    if mapping is not None:
        return sources()["table"]
    path = Path(path)
    return next((source for source in sources().values() if source.detect(path)), None)


def detect_files(
    path: str | Path, *, mapping: str | Path | None = None, source: Source | None = None
) -> list[DetectedFile]:
    """Walk a file or folder in sorted order and detect the source of each file.

    Hidden files, README, LICENSE and similar files are skipped, and so are links that lead out of
    the folder. Files that are read with another one are marked. With a mapping, the files that
    match its [match] table are read with it. With a source, it reads all files.

    Raises:
        ImportFormatError: the path does not exist.
    """
    root = Path(path)
    if root.is_file():
        return [DetectedFile(root, detect(root, mapping=mapping, source=source))]
    if not root.is_dir():
        raise ImportFormatError(f"{root} is neither a file nor a folder")
    files = [
        DetectedFile(file, detect(file, mapping=_if_named(mapping, file), source=source))
        for file in walk(root)
    ]
    return joined(files)


def parts(path: Path, source: Source) -> tuple[Path, ...]:
    """Return the other files that a source reads with a file."""
    find: Callable[[Path], tuple[Path, ...]] | None = getattr(source, "parts", None)
    return () if find is None else tuple(find(path))


def joined(files: list[DetectedFile]) -> list[DetectedFile]:
    """Mark the files that are read with another one; the first that names a part has it."""
    read_with: dict[Path, Path] = {}
    for file in files:
        if file.source is not None and file.path not in read_with:
            for part in parts(file.path, file.source):
                if part != file.path:
                    read_with.setdefault(part, file.path)
    return [
        DetectedFile(file.path, None, read_with[file.path]) if file.path in read_with else file
        for file in files
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
        report: filled while the iterator advances.
        mapping: a mapping file, or the name of a shipped one; for tables.
        source: its source; None detects it.

    Raises:
        ImportFormatError: the file's format is unknown, or the file is broken.
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


def read_rows(
    path: str | Path,
    *,
    report: FileReport | None = None,
    mapping: str | Path | None = None,
    source: Source | None = None,
) -> Iterator[AnyRecord | Rows]:
    """Yield as `read` does, and many rows at once where the source can read a file in bulk.

    This is several times faster; `Store.ingest` takes both.

    Raises:
        ImportFormatError: the file's format is unknown, or the file is broken.
    """
    path = Path(path)
    report = report or FileReport(path)
    source = detect(path, mapping=mapping, source=source)
    in_bulk: Callable[..., Iterator[AnyRecord | Rows]] | None = getattr(source, "read_rows", None)
    if in_bulk is None:
        yield from read(path, report=report, mapping=mapping, source=source)
        return
    try:
        yield from in_bulk(path, report=report, mapping=mapping)
    except OSError as error:
        raise ImportFormatError(f"{path} cannot be read: {error.strerror or error}") from error


def why_not(path: str | Path) -> str:
    """Explain why no source reads a file, and what to do."""
    from workbench.sources.tables.tables import why_not as reason

    failed = [
        s.failures[Path(path)]
        for s in external.load_all(tuple(_shipped()))[0]
        if Path(path) in s.failures
    ]
    return "; ".join([reason(Path(path)), *failed, *problems()])


def _if_named(mapping: str | Path | None, path: Path) -> str | Path | None:
    if mapping is None:
        return None
    from workbench.sources.tables.mapping import load
    from workbench.sources.tables.tables import matches_name

    return mapping if matches_name(load(mapping), path) else None


def walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder that may be imported, in sorted order; a file is itself."""
    if root.is_file():
        yield root
        return
    resolved_root = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            stem = name.lower().split(".")[0]
            is_regular = file.resolve().is_relative_to(resolved_root) and file.is_file()
            if is_regular and not name.startswith(".") and stem not in _SKIPPED:
                yield file
