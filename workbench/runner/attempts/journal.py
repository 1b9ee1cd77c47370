"""What attempts of many calls have received so far, so that neither a kill nor a failure loses what was paid.

A trace is one line of the spool, written when its attempt ends, or when the meters know what it
took. Until then every reply of an attempt that has something to wait for after its first lies in a
file of its own, `<spool>/arrived/<attempt>-<run>-<n>.jsonl`, a checksummed line each. Whoever makes
the attempt again gets these replies for the same requests and asks only for the rest. The files go
once a trace that settles the attempt is safe on the disk; what is left of settled attempts goes
with the next launch.

So that nothing counts twice, all tries of an attempt that has replies write one trace: each line
names it, whoever goes on takes that id, and the store keeps the last of the same id. What earlier
tries paid and the last has no use for, calls that failed among it, stands in the trace as `unused`
calls. A request that brings the server down in the same way again and again does not keep its
attempt from ever ending: after `_HOPELESS` tries the attempt is begun anew, without the replies
that led there.
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
    """One line: how a request ended, or what it took once that is known.

    Attributes:
        request_id: which one of the attempt's; that of a failure has "!" and its file's name after
            it.
        reply: null on a line that tells the energy alone.
        trace_id: of the trace that holds the call, or will.
        is_metered: whether it was under the meters of this machine.
        energy: null until the counters have told.
    """

    request_id: str
    reply: Reply | None = None
    trace_id: str = ""
    is_metered: bool = False
    energy: tuple[EnergyReading, ...] | None = None

    @property
    def arrived(self) -> bool:
        """Whether it is an answer."""
        return self.reply is not None and self.reply.call.error_type is None

    @property
    def was_lost(self) -> bool:
        """Whether it is a request that broke off while its call went on, or was cancelled."""
        call = None if self.reply is None else self.reply.call
        return call is not None and (call.retried_as is not None or call.error_type == CANCELLED)


class Recalled(NamedTuple):
    """What is known of a request: its id among the attempt's, and what came of it before."""

    request_id: str
    kept: JournalLine | None

    @property
    def reply(self) -> Reply | None:
        """The reply, if it came before."""
        return None if self.kept is None else self.kept.reply


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
        """Look at what earlier runs left, and delete that of settled attempts; makes no folder yet.

        Args:
            spool_folder: the spool.
            run_id: the run that writes.
            settled: attempts that are done.
            may_wait: is told why the disk refuses a reply and for how many seconds it has waited;
                says whether to wait on.
        """
        self.folder, self.run_id = Path(spool_folder) / spool.ARRIVED, run_id
        self._owner = spool.owner(spool_folder)
        self._may_wait = may_wait
        self._left: dict[str, list[Path]] = {}
        for path in files(spool_folder):
            self._left.setdefault(path.name.partition("-")[0], []).append(path)
        self._settled: list[Path] = []
        self._n_opened = 0
        if self._left:  # of a run that was killed between its last trace and the sweep
            self.sweep([path for key in settled for path in self._left.pop(content_id(*key), ())])

    def open(self, key: AttemptKey, trace_id: str = "") -> "AttemptJournal":
        """Begin, or take up, an attempt; each time in a file of its own.

        Args:
            key: the attempt.
            trace_id: of its trace, where nothing is left of earlier tries.
        """
        name = content_id(*key)
        left = self._left.setdefault(name, [])
        self._n_opened += 1
        path = self.folder / f"{name}-{self.run_id}-{self._n_opened}.jsonl"
        attempt = AttemptJournal(
            path, left, trace_id, store_id=self._owner, may_wait=self._may_wait
        )
        left.append(path)
        return attempt

    def adopt(self, key: AttemptKey) -> None:
        """Look again at what is left of an attempt: a collector that has died may have added to it."""
        name = content_id(*key)
        found = sorted(self.folder.glob(f"{name}-*.jsonl"))
        left = [path for path in found if not spool.is_foreign(path, self._owner)]
        if left:
            self._left[name] = left

    def settle(self, key: AttemptKey, attempt: "AttemptJournal") -> None:
        """Note that an attempt's trace is written: its files go with the next `sweep`, and nobody reads them again."""
        attempt.close()
        self._settled += self._left.pop(content_id(*key), ())

    def sweep(self, settled: list[Path]) -> None:
        """Delete files whose traces are safe on the disk."""
        for path in settled:
            path.unlink(missing_ok=True)

    def take_settled(self) -> list[Path]:
        """Return what may be swept after the next sync of the spool."""
        settled, self._settled = self._settled, []
        return settled


class AttemptJournal:
    """The replies of one attempt. Equal requests are told apart by their order.

    Attributes:
        trace_id: of the trace that all tries of the attempt write.
        has_replies: whether any has arrived, in this try or before.
    """

    def __init__(
        self,
        path: Path,
        left: Iterable[Path],
        trace_id: str = "",
        *,
        store_id: str | None = None,
        may_wait: MayWait = _never,
    ) -> None:
        """Read what was left; a file of its own, which names the store, appears with a reply."""
        self._path, self._fd = path, -1
        self._store_id, self._may_wait = store_id, may_wait
        self._unwritten: list[bytes] = []  # lines that the disk has refused
        self._n_lost, self._is_closed = 0, False
        lines = [kept for p in left for kept in read(p)]
        self.has_replies = any(kept.arrived for kept in lines)
        if not self.has_replies:  # failures alone are told by the traces that they ended
            lines = [kept for kept in lines if kept.was_lost]
        self.trace_id = next((k.trace_id for k in lines if k.trace_id), trace_id)
        mine = [k for k in lines if k.trace_id in {"", self.trace_id}]
        self._left = {k.request_id: k for k in mine if k.reply is not None}
        for kept in mine:
            if kept.reply is None and kept.request_id in self._left:
                self._left[kept.request_id].energy = kept.energy
        self._begun = _begun_anew(self._left.values())
        self._asked: Counter[str] = Counter()

    def recall(self, request: Request, role: str) -> Recalled:
        """Name the request, and give what came of it before; once."""
        same = content_id(
            role,
            request.model,
            request.messages,
            request.prompt,
            dict(request.sampling),
            [tool.name for tool in request.tools],
        )
        request_id = f"{same}-{self._asked[same]}"
        self._asked[same] += 1
        if self._begun:
            request_id = f"{self._begun}:{request_id}"
        return Recalled(request_id, self._left.pop(request_id, None))

    @property
    def unused(self) -> list[JournalLine]:
        """What earlier tries got, or failed at, and this one has not asked for."""
        return list(self._left.values())

    async def keep(self, request_id: str, reply: Reply, *, is_metered: bool = False) -> str:
        """Write down how a request ended and force it to the disk, beside the event loop.

        While the disk refuses, the line waits in memory, and whoever keeps it waits here: the
        attempt asks nothing more until what it has paid for is safe.

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
        began_s = asyncio.get_running_loop().time()
        while (error := await self._write_through()) is not None:
            if not self._may_wait(error, asyncio.get_running_loop().time() - began_s):
                raise StoreError(f"a reply that was paid for is lost: {error}") from error
            await asyncio.sleep(_RETRY_S)
        return request_id

    def lose(self, request_id: str, call: Call) -> None:
        """Write down what a request took that broke off; a power cut may lose it."""
        if self._is_closed:
            return
        self._n_lost += 1
        line_id = f"{request_id}!{self._path.stem}~{self._n_lost}"
        self._write_later(JournalLine(line_id, Reply(call=call), self.trace_id))

    def keep_energy(self, line_id: str, energy: tuple[EnergyReading, ...]) -> None:
        """Write down what a request took; a power cut may lose it, which makes it unknown."""
        if not self._is_closed:  # else the attempt was given up
            self._write_later(JournalLine(line_id, trace_id=self.trace_id, energy=energy))

    def _write_later(self, kept: JournalLine) -> None:
        """Write a line now, or with the next one where the disk refuses; nobody waits for it."""
        self._unwritten.append(_line(kept))
        if (error := self._write()) is not None:
            self._may_wait(error, 0.0)

    async def _write_through(self) -> StoreError | None:
        """Force all lines to the disk; returns why it refuses."""
        if (refused := self._write()) is not None:
            return refused
        try:
            await asyncio.to_thread(os.fsync, self._fd)
        except OSError as error:
            return self._explained(error)
        return None

    def _write(self) -> StoreError | None:
        """Write what is not written yet, in its order; returns why some of it still is not."""
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
        """Let go of the file; it stays. What the disk has refused is tried once more."""
        self._is_closed = True
        if self._unwritten:
            self._write()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(kept: JournalLine) -> bytes:
    body = _encode(kept)
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


def _begun_anew(kept: Iterable[JournalLine]) -> int:
    """Count how often the attempt was begun anew, as one request had failed in the same way too often.

    Only ways that say something of the request count: a server that is away for a week costs no
    reply.
    """
    answered, failed = set(), Counter[str]()
    for line in kept:
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
    """List the files of unfinished attempts; those of another store are left out.

    What comes before the first "-" of a name is `content_id(*key)`.
    """
    folder, store_id = Path(spool_folder) / spool.ARRIVED, spool.owner(spool_folder)
    return sorted(
        path
        for path in folder.glob("*.jsonl")
        if _NAME.fullmatch(path.name) and not spool.is_foreign(path, store_id)
    )


def read(path: Path) -> list[JournalLine]:
    """Read the whole lines of a file; a torn or damaged one was never known to have arrived."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    kept = []
    for line in lines:
        crc, _, body = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(body):
            try:
                kept.append(_decode(body))
            except UNDECODABLE:
                continue
    return kept
