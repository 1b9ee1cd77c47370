"""The journal of batches: a note of each batch that is sent, and its results, to survive a kill.

Each batch has a note `<spool>/batches/<label>.json`, and once it has ended its results as received
beside it, `<label>.results.jsonl`. A note is written before its batch is sent, so that no batch is
sent twice: a run that reads a note without the service's batch id asks the service first. Files are
replaced as a whole.
"""

import contextlib
import datetime as dt
import os
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from workbench import private, spool
from workbench.decoding import UNDECODABLE
from workbench.errors import StoreError


class Note(msgspec.Struct, kw_only=True):
    """One batch.

    Attributes:
        label: our name of it, which is sent to services that take one.
        kind, base, path: the API, the service and the path of its requests.
        created_at: time of the note, later of the batch at the service (UTC).
        attempts: the attempt of each request in `custom_ids`.
        batch_id: the service's id; None until the batch is known to have been made.
        is_ended: whether its results are stored.
        store_id: the store that pays for it; None where the folder has no id.
    """

    label: str
    kind: str
    base: str
    path: str
    model: str
    created_at: dt.datetime
    custom_ids: list[str]
    attempts: list[str]
    batch_id: str | None = None
    is_ended: bool = False
    status: str = ""
    store_id: str | None = None


class Stored(NamedTuple):
    """The place of a result line in its file."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the line."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


class Notes:
    """The notes of one store."""

    def __init__(self, spool_folder: Path) -> None:
        """Bind to the spool's folder; creates no files yet."""
        self.folder = Path(spool_folder) / spool.BATCHES
        self._store_id = spool.owner(spool_folder)

    def __iter__(self) -> Iterator[Note]:
        """Read all notes of this store; a damaged one is an error, as its batch may be paid."""
        for path in sorted(self.folder.glob("*.json")):
            if spool.is_foreign(path, self._store_id):
                continue
            try:
                yield _decode(path.read_bytes())
            except FileNotFoundError:  # deleted by another collector since the listing
                continue
            except (OSError, *UNDECODABLE) as error:
                raise StoreError(
                    f"the note of a batch {path} cannot be read: {error}; look at the service"
                    " whether the batch was made, then delete the file"
                ) from error

    def write(self, note: Note) -> None:
        """Write a note and sync it, so that it survives a power cut."""
        note.store_id = note.store_id or self._store_id
        with _explain(self.folder):
            private.make_folder(self.folder)
            _replace(self.folder / f"{note.label}.json", _encode(note))

    async def store(self, note: Note, lines: AsyncIterator[bytes]) -> None:
        """Write the results of a batch, and mark it as ended."""
        target = self._results(note)
        draft = target.with_suffix(f".part{os.getpid()}")
        with _explain(self.folder):
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                async for line in lines:
                    file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        note.is_ended = True
        self.write(note)

    def results(self, note: Note) -> Iterator[tuple[Stored, bytes]]:
        """Yield the results of an ended batch."""
        path, offset = self._results(note), 0
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                body = line.rstrip(b"\n")
                if body:
                    yield Stored(path, offset, len(body)), body
                offset += len(line)

    def forget(self, note: Note) -> None:
        """Delete a batch's files."""
        (self.folder / f"{note.label}.json").unlink(missing_ok=True)
        self._results(note).unlink(missing_ok=True)

    def forget_settled(self, settled: Collection[str]) -> None:
        """Delete the files of ended batches whose attempts are all settled."""
        known = set(settled)
        for note in list(self):
            if note.is_ended and known and set(note.attempts) <= known:
                self.forget(note)

    def _results(self, note: Note) -> Path:
        return self.folder / f"{note.label}.results.jsonl"


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(f".part{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # A file object writes until all is written; os.write may stop short on a disk that is filling.
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the notes of batches cannot be written at {path}: {error.strerror or error}; make"
            " room or give another --store, then run the same command again: no batch is sent that"
            " is not noted"
        ) from error
