"""Which files a store has imported: a file that did not change since need not be read again.

The list lies beside the store, and can be deleted: then each file is read once more. It says of a
file its size, its time and the traces made of it. A file counts as known only while all of them are
in the store.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from workbench import private
from workbench.decoding import UNDECODABLE
from workbench.store.store import Store

_SUFFIX = ".imported"
MAX_TRACES = 100  # files with more are few, and are read again
_SETTLED_NS = 2_000_000_000  # a file may change twice within the resolution of its time


class _File(msgspec.Struct, array_like=True):
    size: int
    changed_ns: int
    traces: list[str]


class _List(msgspec.Struct):
    """Content of the file; `version` is that of the program, whose readers may have changed."""

    version: str
    files: dict[str, _File]


class ImportedFiles:
    """The files that a store has imported whole."""

    def __init__(self, store: Store, version: str) -> None:
        """Read the list.

        Args:
            store: the store.
            version: version of the program; what another version imported is read again.
        """
        self._path = store.path.with_name(store.path.name + _SUFFIX)
        self._version = version
        self._files: dict[str, _File] = {}
        self._changed = False
        with contextlib.suppress(OSError, *UNDECODABLE):
            known = msgspec.json.decode(self._path.read_bytes(), type=_List)
            self._files = known.files if known.version == version else {}
        if self._files:
            in_store = set(store.sql("SELECT trace_id FROM traces")["trace_id"].to_list())
            self._files = {
                path: file for path, file in self._files.items() if in_store.issuperset(file.traces)
            }

    def traces(self, path: Path, status: os.stat_result) -> list[str] | None:
        """Return the traces of a file that did not change since its import; None if it did."""
        known = self._files.get(str(path.resolve()))
        if known is None or (known.size, known.changed_ns) != (status.st_size, status.st_mtime_ns):
            return None
        return known.traces

    def add(self, path: Path, status: os.stat_result, traces: Iterable[str]) -> None:
        """Note a file that was imported whole.

        Args:
            path: the file.
            status: its status from before it was read.
            traces: ids of the traces made of it.
        """
        ids = list(traces)
        is_settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
        if is_settled and len(ids) <= MAX_TRACES:
            known = _File(status.st_size, status.st_mtime_ns, ids)
            self._files[str(path.resolve())] = known
            self._changed = True

    def save(self) -> None:
        """Write the list; a folder that cannot be written to costs only time."""
        if not self._changed:
            return
        data = msgspec.json.encode(_List(self._version, self._files))
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError), private.only_owner():
            new.write_bytes(data)
            new.replace(self._path)
            self._changed = False
