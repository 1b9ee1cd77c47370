"""The append-only JSONL format that the runner writes and the store reads.

One line is `{"crc":"<crc32 of the record's bytes, 8 hex digits>","record":<record as tagged
JSON>}`. A segment is one file, `<run_id>-<seq>.jsonl`, that one writer holds under an advisory lock
while it lives: the operating system lets go of the lock however the writer ends. Nothing here ever
changes or deletes what was written; `remove` is for the store, after it has committed a segment's
rows.

The folder carries the id of its store in the file `store`, and so does the first line of a segment,
`{"crc":"…","store":"<id>"}`: what another store's collector wrote is not taken in.

Where there is no `fcntl` (Windows) a segment counts as live while it changed in the last ten
minutes.
"""

import contextlib
import datetime as dt
import errno
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from workbench import private
from workbench.decoding import UNDECODABLE
from workbench.errors import StoreError
from workbench.records import AnyRecord, Attempt, Run, Trace

try:
    import fcntl
except ImportError:  # not a POSIX system: see the module's docstring
    fcntl = None  # type: ignore[assignment]  # the one platform switch; guarded by `_LOCKS`

_LOCKS = fcntl is not None
_STALE_S = 600.0
_HEAD = b'{"crc":"'
_MIDDLE = b'","record":'
_RECORD_AT = len(_HEAD) + 8 + len(_MIDDLE)
_OWNED = b'","store":'
_OWNER_AT = len(_HEAD) + 8 + len(_OWNED)
_OWNER = "store"  # the file that names the folder's store
# Asking again, with the same configuration, gives the same refusal; every other failure may pass.
FINAL_ERRORS = frozenset({"http_400", "http_413", "http_422"})
SEGMENT_BYTES = 8_000_000
# folders beside the segments: replies of unfinished attempts, and what is known of batches
ARRIVED, BATCHES = "arrived", "batches"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyRecord)


class Segment(NamedTuple):
    """One file of the spool."""

    path: Path
    size: int
    live: bool

    @property
    def run_id(self) -> str:
        """The run of its writer."""
        return self.path.stem.rpartition("-")[0]


class BadLine(NamedTuple):
    """A line that is no record: its offset, the reason and its bytes."""

    offset: int
    reason: str
    data: bytes


class AttemptStart(msgspec.Struct, frozen=True, gc=False, tag="Attempt"):
    """The fields of an `Attempt` that resuming a run needs."""

    run_id: str
    configuration_id: str
    item_id: str
    trial: int
    started_at: dt.datetime


class TraceEnd(msgspec.Struct, frozen=True, gc=False, tag="Trace"):
    """The fields of a `Trace` that resuming a run needs."""

    run_id: str
    configuration_id: str
    item_id: str
    trial: int = 0
    error_type: str | None = None


_summary_decoder = msgspec.json.Decoder(Run | AttemptStart | TraceEnd)
_SUMMARY_HEADS = tuple(_MIDDLE + b'{"type":"%s",' % name for name in (b"Trace", b"Run", b"Attempt"))
# Most of a `Trace` is its lists; the fields of `TraceEnd` precede them. No text looks like their
# beginning: within one every quote is written \".
_LISTS = b',"calls":['
_READ_BYTES = 1 << 18  # at a time, so that a line is looked at while the processor's cache holds it


class SegmentBatch(NamedTuple):
    """Records and bad lines read from a segment; the next reading begins at `end_offset`."""

    records: list[AnyRecord]
    bad: list[BadLine]
    end_offset: int


def encode_line(record: AnyRecord) -> bytes:
    """Write a record as one checksummed line."""
    body = _encoder.encode(record)
    return b"".join((_HEAD, b"%08x" % zlib.crc32(body), _MIDDLE, body, b"}\n"))


def folder_of(store: Path) -> Path:
    """Return the spool of a store: it is named after the whole file name."""
    return store.with_name(f"{store.name}.spool")


def owner(folder: Path) -> str | None:
    """Return the id of the store that a spool belongs to; None where it does not say."""
    try:
        with private.open_regular(Path(folder) / _OWNER) as file:
            return file.read().decode("ascii", "replace").strip() or None
    except OSError:
        return None


def write_owner(folder: Path, store_id: str) -> None:
    """Write the id of its store into a folder that has none."""
    if owner(folder) is None:
        hidden = Path(folder) / f".{_OWNER}.{os.getpid()}-{threading.get_ident()}"
        private.write_text(hidden, f"{store_id}\n")
        hidden.replace(Path(folder) / _OWNER)


class _Note(msgspec.Struct):
    """The part of a JSON note that names its store."""

    store_id: str | None = None


def file_owner(path: Path) -> str | None:
    """Return the id of the store that a file of a spool was written for.

    Segments, journals and claims name it in their first line, notes of batches in `store_id`.

    Returns:
        None where the file does not say, as files of earlier versions, or cannot be read.
    """
    try:
        with private.open_regular(path) as file:
            if path.suffix == ".json":
                return msgspec.json.decode(file.read(), type=_Note).store_id
            return _owner_in(file.readline(200).rstrip(b"\n"))
    except (OSError, *UNDECODABLE):
        return None


def is_foreign(path: Path, store_id: str | None) -> bool:
    """Return whether a file belongs to another store; without an id it belongs to its folder's."""
    return store_id is not None and file_owner(path) not in {None, store_id}


def owner_line(store_id: str | None) -> bytes:
    """Write the first line of a file, which names its store; nothing where the folder has no id."""
    if store_id is None:
        return b""
    body = _encoder.encode(store_id)
    return b"".join((_HEAD, b"%08x" % zlib.crc32(body), _OWNED, body, b"}\n"))


def is_owner_line(line: bytes) -> bool:
    """Return whether a line, without its line end, is whole and names a store."""
    return _owner_in(line) is not None


def _owner_in(line: bytes) -> str | None:
    """Read a line that names the store; None for any other."""
    body = line[_OWNER_AT:-1]
    if line[16:_OWNER_AT] != _OWNED or line[8:16] != b"%08x" % zlib.crc32(body):
        return None
    try:
        return msgspec.json.decode(body, type=str)
    except UNDECODABLE:
        return None


def decode_line(line: bytes) -> AnyRecord:
    """Read one line without its line end; ValueError says what is wrong with it."""
    framed = line.startswith(_HEAD) and line[16:_RECORD_AT] == _MIDDLE and line.endswith(b"}")
    if not framed:
        raise ValueError("no line of a spool")
    body = line[_RECORD_AT:-1]
    if line[8:16] != b"%08x" % zlib.crc32(body):
        raise ValueError("checksum does not match")
    try:
        record: AnyRecord = _decoder.decode(body)
    except UNDECODABLE as error:
        raise ValueError(f"no record of this version: {error}") from error
    return record


class SpoolWriter:
    """Appends records to segments of its own.

    `append` hands the line to the operating system at once, so it survives the death of this
    process; `sync` makes all lines so far survive the death of the machine. A full segment is
    closed and the next one begun with the run's record and the attempts that are still open, so
    that the newest segment always tells what was in flight.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        *,
        store_id: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Create the folder; the first segment appears with the first record.

        Args:
            folder: the spool.
            run_id: the run that writes.
            store_id: the store that the lines are for; None takes that of the folder, where it has
                one.
            segment_bytes: a segment that has grown to this size is followed by the next.
        """
        if not run_id or not run_id.replace("-", "").replace("_", "").isalnum():
            raise StoreError(f"a run id becomes a file name, and {run_id!r} cannot")
        self.folder, self.run_id = Path(folder), run_id
        self._segment_bytes = segment_bytes
        self._fd, self._size, self._seq, self._dirty = -1, 0, -1, False
        self._path = self.folder
        self._guard = threading.Lock()  # a sync in a thread must not meet a closed file
        self._run: Run | None = None
        self._open: dict[tuple[str, str, int], Attempt] = {}
        self._held: list[AnyRecord] = []
        self._may_be_elsewhere = False
        with _explain(self.folder):
            private.make_folder(self.folder)
            check_private(self.folder)
            if store_id is not None:
                write_owner(self.folder, store_id)
        self._owner = owner(self.folder)
        if store_id is not None and self._owner != store_id:
            raise StoreError(
                f"{self.folder} belongs to another store (id {str(self._owner)[:8]});"
                " name another file with --store"
            )

    def append(self, record: AnyRecord) -> None:
        """Write one record; StoreError, and nothing half-written, if the disk refuses."""
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._rotate()
        with _explain(self._path):
            self._check_there()
        if isinstance(record, Attempt):
            self._open[record.configuration_id, record.item_id, record.trial] = record
        elif isinstance(record, Trace):
            self._open.pop((record.configuration_id, record.item_id, record.trial), None)
        elif isinstance(record, Run) and record.run_id == self.run_id:
            self._run = record
        self._write(encode_line(record))

    def offer(self, record: AnyRecord) -> StoreError | None:
        """Write one record, or hold it in memory where the disk refuses; returns why it does."""
        self._held.append(record)
        return self.retry()

    @property
    def n_held(self) -> int:
        """Records that wait in memory until the disk takes them."""
        return len(self._held)

    def retry_elsewhere(self) -> StoreError | None:
        """Write what is held even if the folder was moved or unmounted, as a last resort."""
        self._may_be_elsewhere = True
        return self.retry()

    def retry(self) -> StoreError | None:
        """Write what is held, in its order; returns why some of it still is."""
        while self._held:
            try:
                self.append(self._held[0])
            except StoreError as error:
                return error
            del self._held[0]
        return None

    def sync(self) -> None:
        """Force everything appended so far to the disk; may be called from a thread."""
        with self._guard, _explain(self._path):
            if self._dirty and self._fd >= 0:
                self._dirty = False
                try:
                    os.fsync(self._fd)
                except OSError:
                    self._dirty = True
                    raise

    def close(self) -> None:
        """Sync, and let go of the segment."""
        self.sync()
        with self._guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _check_there(self) -> None:
        """Raise OSError where the file that is open is not found any more: nobody would read it."""
        mine = os.fstat(self._fd)
        if not mine.st_nlink:
            raise FileNotFoundError(errno.ENOENT, "it was deleted")
        if not self._may_be_elsewhere and not os.path.samestat(mine, self._path.stat()):
            raise FileNotFoundError(errno.ENOENT, "another file is in its place")

    def _write(self, line: bytes) -> None:
        self._dirty = True
        with _explain(self._path):
            try:
                written = os.write(self._fd, line)
                while written < len(line):
                    written += os.write(self._fd, line[written:])
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
        self._size += len(line)

    def _rotate(self) -> None:
        """Begin the next segment: locked, with its head, before it gets its name and the last ends.

        So none looks abandoned, nor its run, and the newest tells what is open even if the writer
        is killed right here.
        """
        self.sync()
        before = self._fd
        try:
            with _explain(self.folder):
                self._begin_segment()
                _sync_folder(self.folder)
        finally:
            if before >= 0:
                with self._guard:
                    os.close(before)

    def _begin_segment(self) -> None:
        with self._guard:
            self._fd = -1
        while True:
            self._seq += 1
            self._path = self.folder / f"{self.run_id}-{self._seq:06d}.jsonl"
            hidden = self._path.with_suffix(f".new{os.getpid()}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC
            self._fd = os.open(hidden, flags, 0o600)
            try:
                self._write_head()
                if not self._path.exists():
                    hidden.rename(self._path)
                    return
            except BaseException:
                self._drop(hidden)
                raise
            self._drop(hidden)

    def _write_head(self) -> None:
        if _LOCKS:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._size = 0
        if self._owner is not None:
            self._write(owner_line(self._owner))
        if self._run is not None:
            self._write(encode_line(self._run))
        for attempt in self._open.values():
            self._write(encode_line(attempt))

    def _drop(self, hidden: Path) -> None:
        with self._guard:
            os.close(self._fd)
            self._fd = -1
        hidden.unlink()


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the spool cannot be written at {path}: {error.strerror or error}; "
            "what was written before"
            " is safe; make room or give another --store, then run the same command again"
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def is_settled(error_type: str | None) -> bool:
    """Return whether an attempt with this error type is final, so that it is not repeated."""
    return error_type is None or error_type in FINAL_ERRORS


def supersedes(new: Trace, old: Trace) -> bool:
    """Return whether a trace replaces one of the same id: a later try of a failed attempt."""
    if is_settled(old.error_type):
        return False
    if is_settled(new.error_type):
        return True
    both = new.started_at is not None and old.started_at is not None
    return both and new.started_at > old.started_at  # type: ignore[operator]  # both says so


def is_torn(line: bytes) -> bool:
    """Return whether a bad line is the start of a good one, as a killed writer leaves it."""
    begins = line.startswith(_HEAD) if len(line) >= len(_HEAD) else _HEAD.startswith(line)
    return begins and not line.endswith(b"}")


def is_live(path: Path) -> bool:
    """Return whether a writer still holds the segment."""
    if not _LOCKS:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime < _STALE_S
        return False
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def segments(folder: Path) -> list[Segment]:
    """List the segments, oldest last line first: a later run's rows override an earlier one's.

    Those of another store than the folder's are left out, and what is no file: the folder may come
    from others, and the read of a pipe would wait for a writer.
    """
    found, store_id = [], owner(folder)
    for path in Path(folder).glob("*-*.jsonl"):
        if path.is_symlink() or not path.is_file() or is_foreign(path, store_id):
            continue
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            found.append((about.st_mtime_ns, Segment(path, about.st_size, is_live(path))))
    return [segment for _, segment in sorted(found)]


def check_private(folder: Path) -> None:
    """Check that no other user can put answers into a spool; nothing where there is none.

    It may belong to this user, to root, or to whoever owns the store beside it. A folder above it
    that a group can write is let pass: who shares a folder of stores trusts the group with them.

    Raises:
        StoreError: another user may write there, or put another folder in its place.
    """
    if os.name != "posix":
        return
    owners = {os.geteuid(), 0}
    with contextlib.suppress(OSError):
        owners.add(folder.with_name(folder.name.removesuffix(".spool")).stat().st_uid)
    with contextlib.suppress(FileNotFoundError):
        if (who := private.who_else_can_write(folder, owners)) is not None:
            raise StoreError(
                f"what waits in the spool may be anybody's: {who}. Where the file system ignores"
                " that, keep the store on another one (--store)"
            )


def is_spool(folder: Path) -> bool:
    """Return whether a folder holds segments, and not only files with such names."""
    for segment in segments(folder) if Path(folder).is_dir() else ():
        with contextlib.suppress(OSError), segment.path.open("rb") as file:
            if file.read(len(_HEAD)) == _HEAD:
                return True
    return False


def read_segment(path: Path, offset: int = 0) -> SegmentBatch:
    """Read the records from an offset on; changes nothing.

    A last line without its line end is left for a later reading while the writer lives; it is a bad
    line once the writer is gone. Bad lines are returned beside the good ones: see `quarantine`.
    """
    live = is_live(path)  # before the reading: a line that a dead writer left torn stays torn
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError as error:
        raise StoreError(f"the spool segment {path} cannot be read: {error.strerror}") from error
    lines = data.split(b"\n")
    torn = lines.pop()
    records: list[AnyRecord] = []
    bad: list[BadLine] = []
    for line in lines:
        try:
            if _owner_in(line) is None:
                records.append(decode_line(line))
        except ValueError as error:
            bad.append(BadLine(offset, str(error), line))
        offset += len(line) + 1
    if torn and not live:
        bad.append(BadLine(offset, "torn: the writer ended in the middle of the line", torn))
        offset += len(torn)
    return SegmentBatch(records, bad, offset)


def read_summaries(path: Path, *, attempts: bool = True) -> Iterator[Run | AttemptStart | TraceEnd]:
    """Read runs, starts of attempts and ends of traces, without the lists of calls and messages.

    Resuming needs no more, and it takes a tenth of the time of `read_segment`. Bad lines are
    skipped: checksums are compared here too, and an attempt whose line is damaged is made again. A
    segment that no longer exists, because the store took it in meanwhile, yields nothing.

    Args:
        path: the segment.
        attempts: whether to read the starts of attempts; the newest segment of a run names all
            attempts that are open.
    """
    crc32, decode = zlib.crc32, _summary_decoder.decode
    wanted = _SUMMARY_HEADS if attempts else _SUMMARY_HEADS[:-1]
    try:
        with path.open("rb", buffering=_READ_BYTES) as file:
            for line in file:
                if not line.startswith(wanted, 16):
                    continue
                body = line[_RECORD_AT:-2]  # of a line without its end too short: no checksum fits
                if line[8:16] == b"%08x" % crc32(body):
                    lists = body.find(_LISTS)
                    try:
                        record = decode(body if lists < 0 else body[:lists] + b"}")
                    except UNDECODABLE:
                        continue
                    yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"the spool segment {path} cannot be read: {error.strerror}") from error


def quarantine(path: Path, bad: Iterable[BadLine]) -> list[Path]:
    """Keep bad lines of a segment in `quarantine/`, a file each; doing it twice changes nothing."""
    paths = []
    for line in bad:
        target = path.parent / "quarantine" / f"{path.stem}-{line.offset}.bad"
        with _explain(target):
            private.make_folder(target.parent)
            private.write_bytes(target, line.data)
        paths.append(target)
    return paths


def remove(path: Path) -> None:
    """Delete a segment whose rows are committed; StoreError while its writer lives."""
    if is_live(path):
        raise StoreError(f"the spool segment {path} is still being written; it is kept")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
