"""`workbench watch`: sessions and logs are imported again whenever they change."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.examples import examples
from workbench.cli.options import open_store, print_message, store_option

if TYPE_CHECKING:
    from workbench.cli.import_report import ImportOutcome
    from workbench.sources import DetectedFile
    from workbench.store import Store

_SHARE = 10  # looking takes at most one part of so many, however large the folders are
_State = tuple[int, int]  # size, time of the last change


class FolderWatcher:
    """Finds the files below some paths that changed, and imports them."""

    def __init__(self, store: "Store", paths: Sequence[Path]) -> None:
        """Prepare; nothing is read yet.

        Args:
            store: where to.
            paths: files and folders, which may vanish and come back.
        """
        from workbench.cli.import_files import FileImporter

        self._importer = FileImporter(store)
        self._paths = paths
        self._states: dict[Path, _State] = {}
        self._detected: dict[Path, DetectedFile] = {}

    def look(self, is_stopped: Callable[[], bool] = lambda: False) -> "list[ImportOutcome]":
        """Import what changed since the last look; returns the outcomes of files of known formats.

        A file that the store could not take, as while another process writes to it, is tried again
        at the next look.

        Args:
            is_stopped: whether to read no further file.
        """
        states = dict(self._look_at_files())
        changed = [path for path, state in states.items() if self._states.get(path) != state]
        self._states = states
        files = (file for file in self._detect(changed) if not is_stopped())
        outcomes = []
        for outcome in self._importer.files(files):
            if outcome.is_store_busy:
                self._states.pop(outcome.path, None)
            if not outcome.is_unchanged and not outcome.skipped:
                outcomes.append(outcome)
        return outcomes

    def _look_at_files(self) -> Iterator[tuple[Path, _State]]:
        from workbench import sources

        for root in self._paths:
            for path in sources.walk(root):
                try:
                    status = path.stat()
                except OSError:  # it has vanished since the folder was listed
                    continue
                yield path, (status.st_size, status.st_mtime_ns)

    def _detect(self, changed: Sequence[Path]) -> "list[DetectedFile]":
        """Return the files to import; a part of another file stands for that one."""
        from workbench import sources

        for path in changed:
            known = self._detected.get(path)
            if known is None or (known.source is None and known.read_with is None):
                self._detected[path] = sources.DetectedFile(path, sources.detect(path))
        if changed:
            files = sources.joined(list(self._detected.values()))
            self._detected = {file.path: file for file in files}
        mains = dict.fromkeys(self._detected[path].read_with or path for path in changed)
        return [self._detected[path] for path in mains]


@click.command(
    "watch",
    epilog=examples(
        "workbench watch ~/.claude/projects ~/.codex/sessions",
        "workbench watch logs/ --every 10",
    ),
)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two looks at the files; more where the folders are large.",
)
@store_option
def watch(*, paths: tuple[Path, ...], every_s: float, store_path: str | None) -> None:
    """Import files and folders whenever they change, until Ctrl-C.

    It is for sessions of agents that go on, and logs that grow. Everything that workbench import
    recognises by itself is imported; files of other formats are passed over without a word.
    """
    store = open_store(store_path, create=True)
    watcher = FolderWatcher(store, paths)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print_message(f"watching {', '.join(map(str, paths))}; Ctrl-C ends it")
    n_traces = 0
    while not stop.is_set():
        start = time.monotonic()
        n_traces += _tell(watcher.look(stop.is_set))
        stop.wait(max(every_s, _SHARE * (time.monotonic() - start)))
    print_message(f"stopped watching; {_traces(n_traces)} written to {store.path}")


def _traces(n: int) -> str:
    from workbench import formats

    return formats.counted(n, "trace")


def _tell(outcomes: "Iterable[ImportOutcome]") -> int:
    """Print a line for each file that brought something or failed; returns the traces written."""
    total = 0
    for outcome in outcomes:
        if outcome.failed and not outcome.is_store_busy:
            print_message(f"{outcome.path}: {outcome.failed}")
        n = outcome.ingest.rows_new.get("traces", 0) if outcome.ingest is not None else 0
        if n:
            print_message(f"{outcome.path.name}: {_traces(n)} written")
        total += n
    return total
