"""What must be known of batches after a kill: which were meant, which were sent, and what came back.

Each batch has a note `<spool>/batches/<label>.json`, and once it has ended its results as received
beside it, `<label>.results.jsonl`. A note is written before its batch is sent, so that none is ever
sent twice: whoever finds a note without the service's name for its batch asks the service first.
Files are replaced whole.
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
        label: our name of it, which the service is told where it takes one.
        kind, base, path: the API, the service and the address of its requests.
        created_at: when it was meant, later when it was made (UTC).
        attempts: the attempt that each request of `custom_ids` is of.
        batch_id: the service's name of it; None until it is known to have been made.
        is_ended: whether its results are here.
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
    """Where a result lies."""

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
        """Look into the spool's folder; makes nothing yet."""
        self.folder = Path(spool_folder) / spool.BATCHES
        self._store_id = spool.owner(spool_folder)

    def __iter__(self) -> Iterator[Note]:
        """Read all notes of this store; one that is damaged is an error: it may be of a paid batch."""
        for path in sorted(self.folder.glob("*.json")):
            if spool.is_foreign(path, self._store_id):
                continue
            try:
                yield _decode(path.read_bytes())
            except FileNotFoundError:  # forgotten by another collector since the look
                continue
            except (OSError, *UNDECODABLE) as error:
                raise StoreError(
                    f"the note of a batch {path} cannot be read: {error}; look at the service whether the batch was"
                    " made, then delete the file"
                ) from error

    def write(self, note: Note) -> None:
        """Write a note so that it outlives a power cut."""
        note.store_id = note.store_id or self._store_id
        with _explain(self.folder):
            private.make_folder(self.folder)
            _replace(self.folder / f"{note.label}.json", _encode(note))

    async def store(self, note: Note, lines: AsyncIterator[bytes]) -> None:
        """Write the results of a batch, and that it has ended."""
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
        """Walk the results of an ended batch."""
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
        """Delete what belongs to ended batches all of whose attempts are settled."""
        known = set(settled)
        for note in list(self):
            if note.is_ended and known and set(note.attempts) <= known:
                self.forget(note)

    def _results(self, note: Note) -> Path:
        return self.folder / f"{note.label}.results.jsonl"


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(f".part{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
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
            f"what is known of batches cannot be written at {path}: {error.strerror or error}; make room or give"
            " another --store, then run the same command again: no batch is sent that is not noted"
        ) from error
