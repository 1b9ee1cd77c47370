"""Claims of attempts: which collector makes which, and how much budget it takes, without a server.

Any number of collectors may work on one store at once, with one plan or with plans that share
attempts. Each has a file of its own, `<spool>/claims/<run>-<random>.jsonl`, to which it appends a
line whenever it begins or ends an attempt, or takes more for one than it had reserved. It reads the
lines of the others. Attempts are claimed, and budget is reserved, only under the lock of
`<spool>/claims/lock`, after the others' newest lines were read: so no two collectors ever hold one
attempt, and together they stay within the budgets of a plan.

A claim holds as long as its owner lives. This does not depend on clocks: the owner holds an
advisory lock on its file, as on its spool segment, and the operating system releases it when the
owner ends in any way, on this machine and, through the file server, on others. A stopped or slow
collector keeps its claims, so that no attempt is paid twice. The claims of a dead collector are
free for the others once they have read in the spool and the store which of them it had settled;
the amounts it may have spent count for budgets all the same.

A trace is in the spool before its attempt's claim ends, and a collector makes its claims file
before it reads which attempts are settled. So it sees every attempt either settled or claimed. A
dead collector's file is deleted when no collector lives that may not have read it; files with
attempts in flight at the kill stay, for their possible cost (`unfinished`).

Without advisory locks (Windows) live and dead collectors cannot be distinguished: a second
concurrent collector is refused.
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
_FIRST_WAIT_S = 0.0005
_MAX_WAIT_S = 0.02
_IS_CLAIMS = re.compile(r".*-.*\.jsonl").fullmatch
_T = TypeVar("_T")
Kind = Literal["begin", "take", "end", "fail", "back"]


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of a claims file.

    Attributes:
        kind: begin (claimed), take (takes more than before), end (its trace is written), fail (the
            same, with a temporary error), back (released for other collectors).
        usd, tokens: taken so far, estimates for unreported usage included; while the attempt is in
            flight, at least the amount it has reserved.
    """

    kind: Kind
    configuration_id: str
    item_id: str
    trial: int
    usd: float = 0.0
    tokens: float = 0.0

    @property
    def key(self) -> AttemptKey:
        """The key of the attempt."""
        return self.configuration_id, self.item_id, self.trial

    @property
    def amounts(self) -> Amounts:
        """The dollars and tokens that it takes."""
        return Amounts(self.usd, self.tokens)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Change(NamedTuple):
    """A claim that another collector has made, ended or released."""

    key: AttemptKey
    kind: Kind


class _Other:
    """The claims file of another collector, up to the offset that was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.is_dead = False
        self.open: dict[AttemptKey, Amounts] = {}

    def read(self) -> Iterator[Line]:
        """Read the complete new lines, and update the open claims."""
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
                continue  # of a later version
            if line.kind in {"begin", "take"}:
                self.open[line.key] = line.amounts
            else:
                self.open.pop(line.key, None)
            yield line

    @property
    def has_more(self) -> bool:
        """Whether the file has unread lines."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size > self.offset
        return False


class Claims:
    """The claims of one collector, and those of the others.

    Attributes:
        taken: attempts that this collector must not make: others hold them, or have ended them
            since it began.
        spent: amounts that others take for attempts of this plan, since this collector began.
    """

    def __init__(self, folder: Path, path: Path, fd: int, lock: int) -> None:
        """Take over the open files; see `open`."""
        self._folder = folder
        self._path = path
        self._fd = fd
        self._lock = lock
        self._unwritten = b""  # lines that the disk has refused
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

        Attempts that others have ended before are not in `taken`: they are in the spool or in the
        store, which the caller reads next.

        Args:
            spool_folder: the store's spool.
            run_id: of the run that begins.
            configurations: ids of the plan's configurations; their attempts count for the budget.
            items: ids of the plan's items, likewise.

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
        """Read the claims of the others, and delete files that are not needed any more."""
        for other in self._others.values():
            other.is_dead = not spool.is_live(other.path)
        if not _LOCKS and any(not other.is_dead for other in self._others.values()):
            raise StoreError(
                f"another collector works on {self._folder.parent}, and this system has no file"
                " locks with which they could share the work; wait until it has ended"
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
        """Whether another collector was alive at the last update."""
        return any(not other.is_dead for other in self._others.values())

    @property
    def is_awaited(self) -> bool:
        """Whether others hold attempts of this plan, which they may release or end cheaper."""
        return any(
            self._is_of_plan(key)
            for other in self._others.values()
            if not other.is_dead
            for key in other.open
        )

    # -- the claims of others --------------------------------------------------------------------

    def update(self) -> None:
        """Read the new lines of the others; costs one listing and one `stat` per live file."""
        # not by the folder's modification time: two changes within one tick have the same
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208  # Path objects are slow here
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
                    self._apply(name, line)

    def take_changes(self) -> list[Change]:
        """Return the changes that were read since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def _apply(self, name: str, line: Line) -> None:
        self._changes.append(Change(line.key, line.kind))
        self._count(name, line)
        if line.kind == "back":
            self.taken.discard(line.key)
        else:
            self.taken.add(line.key)

    def _count(self, name: str, line: Line) -> None:
        """Replace the amount of an attempt's current try by that of a line.

        A collector may claim again what it released: the amounts of all its tries count.
        """
        key = line.key
        if not self._is_of_plan(key):
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

    def _is_of_plan(self, key: AttemptKey) -> bool:
        return key[0] in self._configurations and key[1] in self._items

    def find_dead(self) -> set[AttemptKey]:
        """Find collectors that have died since the last call; returns the attempts they held.

        These stay `taken` until the caller knows which of them are settled, and releases the others
        with `free`.
        """
        orphans: set[AttemptKey] = set()
        for name, other in self._others.items():
            if other.is_dead or spool.is_live(other.path):
                continue
            for line in other.read():  # it is dead: these are its last lines
                self._apply(name, line)
            other.is_dead = True
            orphans |= other.open.keys()
        live_claims = {
            key for other in self._others.values() if not other.is_dead for key in other.open
        }
        return orphans - live_claims

    def free(self, key: AttemptKey) -> None:
        """Release an attempt of a dead collector."""
        self.taken.discard(key)

    # -- the claims of this collector ------------------------------------------------------------

    async def exclusively(self, act: Callable[[], _T]) -> _T:
        """Call a function under the lock of all collectors, after reading their new lines."""
        wait_s = _FIRST_WAIT_S
        while not self._try_lock():
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not for secrets
            wait_s = min(wait_s * 2, _MAX_WAIT_S)
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

    def append(
        self,
        kind: Kind,
        key: AttemptKey,
        amounts: Amounts = Amounts(),  # noqa: B008  # frozen
    ) -> None:
        """Append a line; "begin" only within `exclusively`, and of an attempt that is not `taken`.

        A line that the disk refuses is written with the next one; only "begin" must be on the disk
        before its attempt is made.

        Raises:
            StoreError: a "begin" cannot be written; it is revoked.
        """
        self._unwritten += _encode(Line(kind, *key, *amounts)) + b"\n"
        try:
            while self._unwritten:
                written = os.write(self._fd, self._unwritten)
                self._unwritten = self._unwritten[written:]
        except OSError as error:
            if kind == "begin":
                self._unwritten += _encode(Line("back", *key)) + b"\n"
                raise _unwritable(self._folder, error) from error

    def __enter__(self) -> Self:
        """Return the claims."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files, which releases all claims."""
        for fd in (self._fd, self._lock):
            os.close(fd)


def _locked_file(path: Path, head: bytes) -> int:
    """Make a file, locked before it gets its name, so that its owner never looks dead."""
    hidden = path.with_suffix(f".new{os.getpid()}")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        if _LOCKS:
            fcntl.flock(fd, fcntl.LOCK_EX)
        while head:  # written completely, so that no claim follows a torn line
            head = head[os.write(fd, head) :]
        hidden.rename(path)
    except OSError:
        os.close(fd)
        hidden.unlink(missing_ok=True)
        raise
    return fd


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the claims of collectors cannot be written at {folder}: {error.strerror or error}; make"
        " room or give another --store, then run the same command again"
    )


def unfinished(spool_folder: Path) -> Iterator[tuple[str, AttemptKey, Amounts]]:
    """Yield the attempts in flight when a collector was killed.

    Yields:
        The collector's run id, the attempt, and the amounts that it may have cost.
    """
    for path in _files(spool_folder):
        if spool.is_live(path):
            continue
        dead = _Other(path)
        for _ in dead.read():
            pass
        run_id = path.stem.rpartition("-")[0]
        yield from ((run_id, key, amounts) for key, amounts in dead.open.items())


def live_runs(spool_folder: Path) -> set[str]:
    """Return the ids of the runs whose collector lives."""
    paths = _files(spool_folder)
    return {path.stem.rpartition("-")[0] for path in paths if spool.is_live(path)}


def _files(spool_folder: Path) -> list[Path]:
    """List the claims files, without those of other stores' collectors."""
    paths = (Path(spool_folder) / FOLDER).glob("*-*.jsonl")
    store_id = spool.owner(spool_folder)
    return sorted(path for path in paths if not spool.is_foreign(path, store_id))
