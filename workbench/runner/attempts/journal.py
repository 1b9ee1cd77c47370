"""The journal of unfinished attempts: replies on the disk, so that a kill loses nothing paid for.

A trace is one line of the spool, written when its attempt ends or when the meters know its energy.
Until then the replies of an attempt of several calls lie in files of their own,
`<spool>/arrived/<attempt>-<run>-<n>.jsonl`, one checksummed line each. The next try of the attempt
takes these replies for equal requests and sends only the others. The files are deleted once a trace
that settles the attempt is safe on the disk, at the latest by the next launch.

So that nothing counts twice, all tries of an attempt with replies write one trace: each line names
its id, later tries take that id, and the store keeps the last trace of an id. Calls of earlier
tries that the last one did not repeat, failed calls included, are in the trace as `unused` calls. A
request that makes the server fail in the same way again and again does not block its attempt for
ever: after `_HOPELESS` tries the attempt starts anew, without the replies that led there.
"""

import asyncio
import contextlib
import itertools
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from workbench import private, spool
from workbench.decoding import UNDECODABLE
from workbench.errors import StoreError
from workbench.records import Call, EnergyReading, content_id
from workbench.runner.limits.caller import DETERMINISTIC
from workbench.runner.providers.broken_requests import CANCELLED
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.providers.protocol import Reply, Request

# (why the disk refuses a reply, seconds waited so far) → whether to wait on
MayWait = Callable[[StoreError, float], bool]
_HOPELESS = 3
_RETRY_S = 0.05
_NAME = re.compile(r"[0-9a-f]+-.+\.jsonl")


class JournalLine(msgspec.Struct, omit_defaults=True):
    """One line of a journal: the reply to a request, or later its energy readings.

    Attributes:
        request_id: id among the attempt's requests; that of a failure ends in "!" and its file's
            name.
        reply: null on a line that holds the energy alone.
        trace_id: of the trace that holds the call, or will.
        is_metered: whether it ran under the meters of this machine.
        energy: null until the counters have updated.
    """

    request_id: str
    reply: Reply | None = None
    trace_id: str = ""
    is_metered: bool = False
    energy: tuple[EnergyReading, ...] | None = None

    @property
    def arrived(self) -> bool:
        """Whether it holds an answer."""
        return self.reply is not None and self.reply.call.error_type is None

    @property
    def was_lost(self) -> bool:
        """Whether it holds a broken request that was sent again, or a cancelled one."""
        call = None if self.reply is None else self.reply.call
        return call is not None and (call.retried_as is not None or call.error_type == CANCELLED)


class Recalled(NamedTuple):
    """A request's id within its attempt, and its journal line of an earlier try (None without)."""

    request_id: str
    line: JournalLine | None

    @property
    def reply(self) -> Reply | None:
        """The reply that an earlier try got; None without."""
        return None if self.line is None else self.line.reply


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(JournalLine).decode


def _never(_error: StoreError, _waited_s: float) -> bool:
    return False


class Journal:
    """The replies of unfinished attempts of one store."""

    def __init__(
        self,
        spool_folder: Path,
        run_id: str,
        settled: Collection[AttemptKey] = (),
        *,
        may_wait: MayWait = _never,
    ) -> None:
        """List the files of earlier runs, and delete those of settled attempts; makes no folder.

        Args:
            spool_folder: the spool.
            run_id: the run that writes.
            settled: attempts that are done.
            may_wait: called with the disk's error and the seconds waited so far; returns whether to
                go on waiting.
        """
        self.folder, self.run_id = Path(spool_folder) / spool.ARRIVED, run_id
        self._owner = spool.owner(spool_folder)
        self._may_wait = may_wait
        self._files: dict[str, list[Path]] = {}  # by `content_id` of the attempt's key
        for path in files(spool_folder):
            self._files.setdefault(path.name.partition("-")[0], []).append(path)
        self._settled: list[Path] = []
        self._n_opened = 0
        if self._files:  # of a run that was killed between its last trace and the sweep
            self.sweep([path for key in settled for path in self._files.pop(content_id(*key), ())])

    def open(self, key: AttemptKey, trace_id: str = "") -> "AttemptJournal":
        """Open a new file for a try of an attempt, with the replies of the earlier tries.

        Args:
            key: the attempt.
            trace_id: of its trace, where no earlier try has named one.
        """
        name = content_id(*key)
        earlier = self._files.setdefault(name, [])
        self._n_opened += 1
        path = self.folder / f"{name}-{self.run_id}-{self._n_opened}.jsonl"
        attempt = AttemptJournal(
            path, earlier, trace_id, store_id=self._owner, may_wait=self._may_wait
        )
        earlier.append(path)
        return attempt

    def adopt(self, key: AttemptKey) -> None:
        """List an attempt's files again, as a collector that has died may have added some."""
        name = content_id(*key)
        paths = sorted(self.folder.glob(f"{name}-*.jsonl"))
        own_paths = [path for path in paths if not spool.is_foreign(path, self._owner)]
        if own_paths:
            self._files[name] = own_paths

    def settle(self, key: AttemptKey, attempt: "AttemptJournal") -> None:
        """Mark an attempt as settled by its trace; the next `sweep` may delete its files."""
        attempt.close()
        self._settled += self._files.pop(content_id(*key), ())

    def sweep(self, settled: list[Path]) -> None:
        """Delete files whose traces are safe on the disk."""
        for path in settled:
            path.unlink(missing_ok=True)

    def take_settled(self) -> list[Path]:
        """Return the files that may be deleted after the next sync of the spool."""
        settled, self._settled = self._settled, []
        return settled


class AttemptJournal:
    """The journal of one attempt; equal requests are distinguished by their order.

    Attributes:
        trace_id: of the trace that all tries of the attempt write.
        has_replies: whether any reply has arrived, in this try or before.
    """

    def __init__(
        self,
        path: Path,
        earlier: Iterable[Path],
        trace_id: str = "",
        *,
        store_id: str | None = None,
        may_wait: MayWait = _never,
    ) -> None:
        """Read the files of earlier tries; the new file is made with the first line."""
        self._path = path
        self._fd = -1
        self._store_id = store_id
        self._may_wait = may_wait
        self._unwritten: list[bytes] = []  # lines that the disk has refused
        self._n_lost = 0
        self._is_closed = False
        lines = [line for p in earlier for line in read(p)]
        self.has_replies = any(line.arrived for line in lines)
        if not self.has_replies:  # failed calls are in the traces that they ended
            lines = [line for line in lines if line.was_lost]
        self.trace_id = next((line.trace_id for line in lines if line.trace_id), trace_id)
        lines = [line for line in lines if line.trace_id in {"", self.trace_id}]
        self._unused = {line.request_id: line for line in lines if line.reply is not None}
        for line in lines:
            if line.reply is None and line.request_id in self._unused:
                self._unused[line.request_id].energy = line.energy
        self._round = _restarts(self._unused.values())
        self._n_equal: Counter[str] = Counter()  # requests so far, by their content

    def recall(self, request: Request, role: str) -> Recalled:
        """Return the request's id and its reply from an earlier try, which is given out once."""
        content = content_id(
            role,
            request.model,
            request.messages,
            request.prompt,
            dict(request.sampling),
            [tool.name for tool in request.tools],
        )
        request_id = f"{content}-{self._n_equal[content]}"
        self._n_equal[content] += 1
        if self._round:
            request_id = f"{self._round}:{request_id}"
        return Recalled(request_id, self._unused.pop(request_id, None))

    @property
    def unused(self) -> list[JournalLine]:
        """Lines of earlier tries, replies and failures, that this try has not recalled."""
        return list(self._unused.values())

    async def keep(self, request_id: str, reply: Reply, *, is_metered: bool = False) -> str:
        """Append a reply and sync it to the disk in a thread.

        While the disk refuses, the line waits in memory and the caller waits here: the attempt
        sends no more requests until the replies it has paid for are safe.

        Returns:
            The line's id.

        Raises:
            StoreError: there was no room for longer than `may_wait` allows.
        """
        if reply.call.error_type is None:
            self.has_replies = True
        else:
            request_id = f"{request_id}!{self._path.stem}"
        self._unwritten.append(_line(JournalLine(request_id, reply, self.trace_id, is_metered)))
        start_s = asyncio.get_running_loop().time()
        while (error := await self._write_through()) is not None:
            if not self._may_wait(error, asyncio.get_running_loop().time() - start_s):
                raise StoreError(f"a reply that was paid for is lost: {error}") from error
            await asyncio.sleep(_RETRY_S)
        return request_id

    def lose(self, request_id: str, call: Call) -> None:
        """Append a broken request, without a sync: a power cut may lose it."""
        if self._is_closed:
            return
        self._n_lost += 1
        line_id = f"{request_id}!{self._path.stem}~{self._n_lost}"
        self._write_later(JournalLine(line_id, Reply(call=call), self.trace_id))

    def keep_energy(self, line_id: str, energy: tuple[EnergyReading, ...]) -> None:
        """Append a call's energy, without a sync: after a power cut it may be unknown."""
        if not self._is_closed:  # else the attempt was cancelled
            self._write_later(JournalLine(line_id, trace_id=self.trace_id, energy=energy))

    def _write_later(self, line: JournalLine) -> None:
        """Write a line now, or with the next one where the disk refuses it."""
        self._unwritten.append(_line(line))
        if (error := self._write()) is not None:
            self._may_wait(error, 0.0)

    async def _write_through(self) -> StoreError | None:
        """Write and sync all lines; returns the error where the disk refuses them."""
        if (refused := self._write()) is not None:
            return refused
        try:
            await asyncio.to_thread(os.fsync, self._fd)
        except OSError as error:
            return self._explained(error)
        return None

    def _write(self) -> StoreError | None:
        """Write the unwritten lines in order; returns the error where the disk refuses one."""
        try:
            if self._fd < 0:
                private.make_folder(self._path.parent)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._fd = os.open(self._path, flags, private.FILE_MODE)
                if not os.fstat(self._fd).st_size:
                    self._unwritten.insert(0, spool.owner_line(self._store_id))
            while self._unwritten:
                _append(self._fd, self._unwritten[0])
                del self._unwritten[0]
        except OSError as error:
            return self._explained(error)
        return None

    def _explained(self, error: OSError) -> StoreError:
        return StoreError(
            f"a reply cannot be written at {self._path}: {error.strerror or error}; make room or"
            " give another --store, then run the same command again"
        )

    def close(self) -> None:
        """Close the file, after a last try to write the lines that the disk has refused."""
        self._is_closed = True
        if self._unwritten:
            self._write()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(line: JournalLine) -> bytes:
    body = _encode(line)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _append(file: int, line: bytes) -> None:
    """Append a line, or nothing of it: half a line would spoil the next one."""
    size = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def _restarts(lines: Iterable[JournalLine]) -> int:
    """Count how often the attempt started anew because a request kept failing in the same way.

    Only deterministic failures count: a server that is unavailable for a week costs no reply.
    """
    answered = set()
    failed = Counter[str]()
    for line in lines:
        request_id = line.request_id.partition("!")[0]
        if line.arrived:
            answered.add(request_id)
        elif (
            line.reply is not None
            and not line.was_lost  # the tries of one call are one failure
            and line.reply.call.error_type in DETERMINISTIC
        ):
            failed[request_id] += 1
    hopeless = {i for i, n in failed.items() if n >= _HOPELESS and i not in answered}
    rounds = {int(i.partition(":")[0]) if ":" in i else 0 for i in hopeless}
    return next(n for n in itertools.count() if n not in rounds)


def files(spool_folder: Path) -> list[Path]:
    """List the files of unfinished attempts, without those of other stores.

    A file's name up to the first "-" is `content_id(*key)` of its attempt.
    """
    folder, store_id = Path(spool_folder) / spool.ARRIVED, spool.owner(spool_folder)
    return sorted(
        path
        for path in folder.glob("*.jsonl")
        if _NAME.fullmatch(path.name) and not spool.is_foreign(path, store_id)
    )


def read(path: Path) -> list[JournalLine]:
    """Read the complete lines of a file, without torn or damaged ones."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    decoded = []
    for line in lines:
        crc, _, body = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(body):
            try:
                decoded.append(_decode(body))
            except UNDECODABLE:
                continue
    return decoded
