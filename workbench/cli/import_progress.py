"""Progress of an import on stderr: a bar on a terminal, once it has taken two seconds."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from workbench.cli.import_files import FileImporter, size_of
from workbench.cli.import_report import ImportOutcome

if TYPE_CHECKING:
    from workbench.sources import DetectedFile

SHOWN_AFTER_S = 2.0


class ImportBar(Progress):
    """Bytes that an importer has read, of all bytes; with the rate and the time left."""

    def __init__(
        self,
        importer: FileImporter,
        n_bytes: int,
        *,
        console: Console,
        shown_after_s: float = SHOWN_AFTER_S,
    ) -> None:
        """Prepare.

        Args:
            importer: says what it has read.
            n_bytes: size of all files.
            console: where to; no bar if it is no terminal.
            shown_after_s: a shorter import shows no bar.
        """
        self._importer = importer
        self._shown_at = time.monotonic() + shown_after_s
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(
            TextColumn("importing"),
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self.add_task("importing", total=n_bytes)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar as it is now; called whenever the screen is drawn."""
        if not hasattr(self, "_bar") or time.monotonic() < self._shown_at:
            return
        self.update(self._bar, completed=self._importer.n_bytes_read)
        yield from super().get_renderables()


def with_progress(
    importer: FileImporter, files: Sequence["DetectedFile"], *, named: Path | None
) -> Iterator[ImportOutcome]:
    """Import files as `FileImporter.files` does, with a bar."""
    n_bytes = sum(size_of(file.path) for file in files)
    with ImportBar(importer, n_bytes, console=Console(stderr=True)):
        yield from importer.files(files, named=named)
