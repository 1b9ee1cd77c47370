"""Which collector makes which attempt, and what each of them takes of a budget, without a server.

Any number of collectors may work on one store at once, with one plan or with plans that share
attempts. Each has a file of its own, `<spool>/claims/<run>-<random>.jsonl`, to which it appends a
line whenever it begins an attempt, has ended one, or takes more for one than it had reserved. It
reads what the others append. An attempt is claimed, and room in a budget taken, only under the lock
of `<spool>/claims/lock`, after the others' newest lines were read: so no two collectors ever hold
one attempt, and together they stay within the budgets of a plan.

A claim holds for as long as its owner lives. That is no matter of clocks: the owner keeps its file
under an advisory lock, as it does its spool segment, and the operating system lets go of it in the
moment in which the owner ends, however it ends, on this machine and, through the file server, on
others. A collector that is merely stopped or slow keeps what it holds: an attempt is never paid
twice because somebody was late. What a dead collector held is free for the others, once they have
looked into the spool and the store for what it had settled; what it may have spent on them counts
for budgets all the same.

A trace is in the spool before its attempt's claim is ended; a collector puts its file there before
it looks for what is settled. So whoever comes later finds every attempt either settled or claimed.
Files of the dead go when no collector lives that may not have read them; those that were killed
with attempts under way leave theirs, for what these may have cost (`unfinished`).

Where there are no advisory locks (Windows) collectors cannot tell the living from the dead: the
second one at a time is refused.
"""

import asyncio
import contextlib
import os
import random
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

import msgspec

from workbench import private, spool
from workbench.decoding import UNDECODABLE
from workbench.errors import StoreError
from workbench.runner.limits import Amounts
from workbench.runner.providers.current_attempt import AttemptKey

try:
    import fcntl
except ImportError:  # not a POSIX system: see the module's docstring
    fcntl = None  # type: ignore[assignment]  # the one platform switch

_LOCKS: bool = fcntl is not None
FOLDER = "claims"
_LOCK = "lock"
_FIRST_WAIT_S, _MOST_WAIT_S = 0.0005, 0.02
_IS_CLAIMS = re.compile(r".*-.*\.jsonl").fullmatch
_T = TypeVar("_T")
Kind = Literal["begin", "take", "end", "fail", "back"]


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a collector says of an attempt.

    Attributes:
        kind: begin claims it, take says that it takes more than was said, end and fail that it has
            its trace, without and with an error that may pass, back that somebody else may make it.
        usd, tokens: what it has taken, estimates for what nobody reported included; while it is
            under way, no less than what it has reserved.
    """

    kind: Kind
    configuration_id: str
    item_id: str
    trial: int
    usd: float = 0.0
    tokens: float = 0.0

    @property
    def key(self) -> AttemptKey:
        """The attempt."""
        return self.configuration_id, self.item_id, self.trial

    @property
    def amounts(self) -> Amounts:
        """What it takes."""
        return Amounts(self.usd, self.tokens)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Change(NamedTuple):
    """What another collector has come to hold, has ended or has let go of."""

    key: AttemptKey
    kind: Kind


class _Other:
    """The file of another collector, as far as it was read."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.is_dead = path, 0, False
        self.open: dict[AttemptKey, Amounts] = {}

    def read(self) -> Iterator[Line]:
        """Read the whole lines that were appended since; keeps account of what is open."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for text in whole.splitlines():
            try:
                line = _decode(text)
            except UNDECODABLE:
                continue  # of a version to come
            if line.kind in {"begin", "take"}:
                self.open[line.key] = line.amounts
            else:
                self.open.pop(line.key, None)
            yield line

    @property
    def has_more(self) -> bool:
        """Whether anything was appended since."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size > self.offset
        return False


class Claims:
    """What one collector holds, and what it knows of the others.

    Attributes:
        taken: attempts that are nobody else's to make: others hold them, or have ended them since
            this collector began.
        spent: what others take of the attempts that are meant, since this collector began.
    """

    def __init__(self, folder: Path, path: Path, fd: int, lock: int) -> None:
        """Take the files over; see `open`."""
        self._folder, self._path, self._fd, self._lock = folder, path, fd, lock
        self._unsaid = b""  # lines that the disk has refused
        self._others: dict[str, _Other] = {}
        self._store_id = spool.owner(folder.parent)
        self._ignored = {path.name}  # and the files of other stores' collectors
        self._configurations: frozenset[str] = frozenset()
        self._items: frozenset[str] = frozenset()
        self._amounts: dict[tuple[str, AttemptKey], Amounts] = {}
        self._changes: list[Change] = []
        self.taken: set[AttemptKey] = set()
        self.spent = Amounts()

    @classmethod
    async def open(
        cls,
        spool_folder: Path,
        run_id: str,
        *,
        configurations: Collection[str] = (),
        items: Collection[str] = (),
    ) -> Self:
        """Join the collectors of a store.

        What others have ended by then is none of this object's business: it is in the spool or in
        the store, where the caller looks next.

        Args:
            spool_folder: the store's spool.
            run_id: of the run that begins.
            configurations: whose attempts, beside `items`, count for the budget.
            items: see there.

        Raises:
            StoreError: the folder cannot be written.
        """
        folder = Path(spool_folder) / FOLDER
        path = folder / f"{run_id}-{secrets.token_hex(4)}.jsonl"
        try:
            private.make_folder(folder)
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fd = _locked_file(path, spool.owner_line(spool.owner(spool_folder)))
            except OSError:
                os.close(lock)
                raise
        except OSError as error:
            raise _unwritable(folder, error) from error
        claims = cls(folder, path, fd, lock)
        claims._configurations, claims._items = frozenset(configurations), frozenset(items)
        try:
            await claims.exclusively(claims._join)
        except BaseException:
            claims.close()
            raise
        return claims

    def _join(self) -> None:
        """Read what the others hold; delete what nobody needs any more."""
        for other in self._others.values():
            other.is_dead = not spool.is_live(other.path)
        if not _LOCKS and any(not other.is_dead for other in self._others.values()):
            raise StoreError(
                f"another collector works on {self._folder.parent}, and this system has no locks by which they could"
                " share the work; wait until it has ended"
            )
        if all(other.is_dead for other in self._others.values()):
            for other in self._others.values():
                if not other.open:
                    other.path.unlink(missing_ok=True)
        self.taken.clear()
        self._amounts.clear()
        self._changes.clear()
        self.spent = Amounts()
        for name, other in self._others.items():
            for key, amounts in other.open.items() if not other.is_dead else ():
                self.taken.add(key)
                self._count(name, Line("begin", *key, *amounts))

    @property
    def has_company(self) -> bool:
        """Whether another collector lives, as far as was seen."""
        return any(not other.is_dead for other in self._others.values())

    @property
    def is_awaited(self) -> bool:
        """Whether others hold attempts that are meant: they may come free, or take less than was reserved."""
        return any(
            self._is_meant(key)
            for other in self._others.values()
            if not other.is_dead
            for key in other.open
        )

    # -- what the others say ---------------------------------------------------------------------

    def update(self) -> None:
        """Read what the others have appended; costs a look at the folder and at each file."""
        # by its names, not by its time: two changes within one tick of the clock have the same
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208  # a path each is dear here
            if name in self._others or name in self._ignored or not _IS_CLAIMS(name):
                continue
            path = self._folder / name
            if spool.is_foreign(path, self._store_id):  # it makes attempts of another store
                self._ignored.add(name)
            else:
                self._others[name] = _Other(path)
        for name, other in self._others.items():
            if not other.is_dead and other.has_more:
                for line in other.read():
                    self._hear(name, line)

    def take_changes(self) -> list[Change]:
        """Return what was heard of the others since the last time."""
        changes, self._changes = self._changes, []
        return changes

    def _hear(self, name: str, line: Line) -> None:
        self._changes.append(Change(line.key, line.kind))
        self._count(name, line)
        if line.kind == "back":
            self.taken.discard(line.key)
        else:
            self.taken.add(line.key)

    def _count(self, name: str, line: Line) -> None:
        """Take an amount for what a try takes, in place of what was said of that try before.

        A collector may take up again what it gave back: what each of its tries took counts.
        """
        key = line.key
        if not self._is_meant(key):
            return
        before = self._amounts.pop((name, key), Amounts())
        if line.kind in {"begin", "take"}:
            self._amounts[name, key] = line.amounts
        self.spent = Amounts(
            *(
                total + now - old
                for total, now, old in zip(self.spent, line.amounts, before, strict=True)
            )
        )

    def _is_meant(self, key: AttemptKey) -> bool:
        return key[0] in self._configurations and key[1] in self._items

    def bury(self) -> set[AttemptKey]:
        """Find collectors that have died since; returns the attempts that they held.

        They stay `taken` until the caller has found out which of them are settled, and let go of
        the others with `free`.
        """
        orphans: set[AttemptKey] = set()
        for name, other in self._others.items():
            if other.is_dead or spool.is_live(other.path):
                continue
            for line in other.read():  # it is dead: these are its last
                self._hear(name, line)
            other.is_dead = True
            orphans |= other.open.keys()
        held = {k for other in self._others.values() if not other.is_dead for k in other.open}
        return orphans - held

    def free(self, key: AttemptKey) -> None:
        """Let go of an attempt of a dead collector."""
        self.taken.discard(key)

    # -- what this one says ----------------------------------------------------------------------

    async def exclusively(self, act: Callable[[], _T]) -> _T:
        """Do something while no other collector can claim or take anything; their lines are read before."""
        wait_s = _FIRST_WAIT_S
        while not self._try_lock():
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not for secrets
            wait_s = min(wait_s * 2, _MOST_WAIT_S)
        try:
            self.update()
            return act()
        finally:
            if _LOCKS:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        if not _LOCKS:
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def say(self, kind: Kind, key: AttemptKey, amounts: Amounts = Amounts()) -> None:  # noqa: B008  # frozen
        """Append a line; "begin" only within `exclusively`, and of an attempt that is not `taken`.

        What the disk refuses is said with the next line. Only a beginning must be known to the
        others first.

        Raises:
            StoreError: a beginning cannot be written; it is taken back.
        """
        self._unsaid += _encode(Line(kind, *key, *amounts)) + b"\n"
        try:
            while self._unsaid:
                written = os.write(self._fd, self._unsaid)
                self._unsaid = self._unsaid[written:]
        except OSError as error:
            if kind == "begin":
                self._unsaid += _encode(Line("back", *key)) + b"\n"
                raise _unwritable(self._folder, error) from error

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.close()

    def close(self) -> None:
        """Leave; what is still held is free for the others."""
        for fd in (self._fd, self._lock):
            os.close(fd)


def _locked_file(path: Path, head: bytes) -> int:
    """Make a file and lock it before it gets its name, so that nobody takes its owner for dead."""
    hidden = path.with_suffix(f".new{os.getpid()}")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        if _LOCKS:
            fcntl.flock(fd, fcntl.LOCK_EX)
        while head:  # whole, so that no claim goes on in a torn line
            head = head[os.write(fd, head) :]
        hidden.rename(path)
    except OSError:
        os.close(fd)
        hidden.unlink(missing_ok=True)
        raise
    return fd


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"what collectors hold cannot be written at {folder}: {error.strerror or error}; make room or give"
        " another --store, then run the same command again"
    )


def unfinished(spool_folder: Path) -> Iterator[tuple[str, AttemptKey, Amounts]]:
    """Walk the attempts that were under way when a collector was killed: its run, the attempt, what it may have cost."""
    for path in _files(spool_folder):
        if spool.is_live(path):
            continue
        dead = _Other(path)
        for _ in dead.read():
            pass
        run_id = path.stem.rpartition("-")[0]
        yield from ((run_id, key, amounts) for key, amounts in dead.open.items())


def live_runs(spool_folder: Path) -> set[str]:
    """List the runs whose collector lives."""
    paths = _files(spool_folder)
    return {path.stem.rpartition("-")[0] for path in paths if spool.is_live(path)}


def _files(spool_folder: Path) -> list[Path]:
    """List the collectors' files; what a collector of another store holds is none of this store's."""
    found, store_id = (Path(spool_folder) / FOLDER).glob("*-*.jsonl"), spool.owner(spool_folder)
    return sorted(path for path in found if not spool.is_foreign(path, store_id))
