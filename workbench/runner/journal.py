"""What attempts of many calls have received so far, so that a kill in their middle loses nothing paid.

A trace is one line of the spool, written when its attempt ends, or when the meters know what it took.
Until then every reply of an attempt that has something to wait for after its first lies in a file of its
own, `<spool>/arrived/<attempt>-<run>-<n>.jsonl`, a checksummed line each. Whoever makes the attempt again
gets these replies for the same requests and asks only for the rest. The file goes once the trace is safe
on the disk; what is left of settled attempts goes with the next launch.
"""

import asyncio
import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from workbench import spool
from workbench.errors import StoreError
from workbench.records import content_id
from workbench.runner.asking import Reply, Request
from workbench.runner.plan import Key

_NAME = re.compile(r"([0-9a-f]+)-.+\.jsonl")


class Kept(msgspec.Struct):
    """One line: a reply, and which request it answers."""

    request_id: str
    reply: Reply


class Recalled(NamedTuple):
    """What is known of a request: its id among the attempt's, and the reply if it came before."""

    request_id: str
    reply: Reply | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class Journal:
    """The replies of unfinished attempts of one store."""

    def __init__(self, spool_folder: Path, run_id: str, settled: Collection[Key] = ()) -> None:
        """Look at what earlier runs left, and delete that of settled attempts; makes no folder yet."""
        self.folder, self.run_id = Path(spool_folder) / spool.ARRIVED, run_id
        self._left: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            if found := _NAME.fullmatch(path.name):
                self._left.setdefault(found[1], []).append(path)
        self._settled: list[Path] = []
        self._n_opened = 0
        if self._left:  # of a run that was killed between its last trace and the sweep
            self.sweep([path for key in settled for path in self._left.pop(content_id(*key), ())])

    def open(self, key: Key) -> "AttemptJournal":
        """Begin, or take up, an attempt; each time in a file of its own."""
        name = content_id(*key)
        left = self._left.setdefault(name, [])
        self._n_opened += 1
        path = self.folder / f"{name}-{self.run_id}-{self._n_opened}.jsonl"
        attempt = AttemptJournal(path, left)
        left.append(path)
        return attempt

    def settle(self, key: Key, attempt: "AttemptJournal") -> None:
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
    """The replies of one attempt. Equal requests are told apart by their order."""

    def __init__(self, path: Path, left: Iterable[Path]) -> None:
        """Read what was left; a file of its own appears with the first reply."""
        self._path, self._fd = path, -1
        self._known = {kept.request_id: kept.reply for p in left for kept in _read(p)}
        self._asked: Counter[str] = Counter()

    def recall(self, request: Request, role: str) -> Recalled:
        """Name the request, and give the reply that it got before."""
        same = content_id(
            role, request.model, request.messages, request.prompt, dict(request.sampling),
            [tool.name for tool in request.tools],
        )  # fmt: skip
        request_id = f"{same}-{self._asked[same]}"
        self._asked[same] += 1
        return Recalled(request_id, self._known.get(request_id))

    async def keep(self, request_id: str, reply: Reply) -> None:
        """Write a reply down and force it to the disk, beside the event loop."""
        body = _encode(Kept(request_id, reply))
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            if self._fd < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._fd = os.open(self._path, flags, 0o600)
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
            await asyncio.to_thread(os.fsync, self._fd)
        except OSError as error:
            raise StoreError(
                f"a reply cannot be written at {self._path}: {error.strerror or error}; make room or give"
                " another --store, then run the same command again"
            ) from error

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _read(path: Path) -> list[Kept]:
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
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return kept
