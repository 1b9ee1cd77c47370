"""Trust in plans and task files: permissions that they need, asked of the user once and saved.

There are three kinds: to import code outside the package, to send a key to an address that is not
its provider's own, and to send a file from outside the plan's folder to such an address, or with
fields of the plan's own. Each is a `Permission` with a digest of all that decides what would
happen. A given permission is saved in the user's state folder by that digest; after a change the
user is asked again.

Every kind of code that is named `module:name` is imported the same way:

    tool = load_trusted("tool", "mine.py:Mine", [folder], trust=gate)
"""

import datetime as dt
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workbench import config
from workbench.errors import ConfigError
from workbench.external_code import ExternalCode, locate

Ask = Callable[[str], bool]
_MOST_BYTES = 16 << 20
_MOST_SIGNS = 5  # of a program, shown in the question
_MOST_SHOWN = 500  # characters of the fields of a request, shown in the question
_FILE = "trusted.jsonl"


class Permission(NamedTuple):
    """A permission that only the user can give.

    Attributes:
        kind: code, key or file.
        sentence: what would happen, in words; texts from files are quoted as Python's `repr`
            does, so that none can write lines of its own, and addresses as `ascii` does, so that
            no letter passes for another.
        digest: of all that decides what would happen; the value of no key is in it.
    """

    kind: str
    sentence: str
    digest: str


def to_run(code: ExternalCode) -> Permission:
    """Ask for code to be imported: its files and their contents."""
    program = code.program()
    n_others = len(program.files) - 1
    also = f" (and {n_others:,} more of that folder, which it imports)" if n_others > 0 else ""
    sentence = f"run code with your rights: the {code.what} {code.name!r} of {code.place!r}{also}"
    if program.signs:
        shown = ", ".join(repr(sign)[1:-1] for sign in program.signs[:_MOST_SIGNS])
        more = len(program.signs) - _MOST_SIGNS
        shown += f" and {more:,} more" if more > 0 else ""
        sentence += f"; it may also run files that are not asked about when they change ({shown})"
    return Permission("code", sentence, _digest("code", code.what, code.name, program.digest))


def to_send_key(variable: str, address: str) -> Permission:
    """Ask for a key to be sent to an address that is not its provider's own."""
    sentence = (
        f"send the key in {variable} to {address!a}, which is not the address of its provider"
    )
    return Permission("key", sentence, _digest("key", variable, address))


def to_send_file(path: Path, address: str, fields: Mapping[str, Any] | None = None) -> Permission:
    """Ask for a file from outside the plan's folder to be sent to an address of the plan.

    Args:
        path: the file, without links.
        address: where it would be sent.
        fields: what the plan adds to each request, which may name further addresses.
    """
    where = str(path)
    sentence = f"send what is in {where!r}, outside the plan's folder, to {address!a}"
    parts = ["file", where, address]
    if fields:
        parts.append(json.dumps(fields, sort_keys=True, default=str))
        shown = parts[-1] if len(parts[-1]) <= _MOST_SHOWN else f"{parts[-1][:_MOST_SHOWN]}…"
        sentence += f" with the plan's own fields {shown!a}"
    return Permission("file", sentence, _digest(*parts))


class Gate:
    """Permissions that were given, and the function that asks the user for others.

    Attributes:
        notes: messages for the user: permissions given without a question, and answers that could
            not be saved.
    """

    def __init__(
        self,
        trust: bool | Ask = False,
        *,
        allow_code: bool = False,
        source: str = "the plan",
        ledger: Path | None = None,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Make a gate with the answers that the user gave in advance.

        Args:
            trust: True gives every permission; a function is called with the question and returns
                the answer. Both are saved. False gives only the permissions saved before.
            allow_code: whether code may run without being saved as trusted.
            source: the plan or file that needs the permissions, to begin the question with.
            ledger: the file of what is trusted; in the user's state folder where None.
            now: the time of day in UTC, for the record.
        """
        self._trust = trust
        self._allow_code = allow_code
        self._source = source
        self._path = config.state_dir() / _FILE if ledger is None else ledger
        self._now = now
        self.notes: list[str] = []

    @classmethod
    def of(cls, trust: "Trust") -> "Gate":
        """Return a gate as it is, or make one of a flag or a function."""
        return trust if isinstance(trust, Gate) else cls(trust)

    def lacking(self, permissions: Iterable[Permission]) -> list[Permission]:
        """List permissions that were not given yet, each once, without asking the user."""
        wanted = {p.digest: p for p in permissions if not (self._allow_code and p.kind == "code")}
        known = self._known() if wanted else frozenset[str]()
        return [p for digest, p in wanted.items() if digest not in known]

    def require(self, permissions: Iterable[Permission]) -> None:
        """Make sure that all permissions are given; ask the user once for those that lack.

        Raises:
            ConfigError: one was not given; the message lists them, and the option that gives them.
        """
        lacking = self.lacking(permissions)
        if not lacking:
            return
        listed = "\n".join(f"  - {p.sentence}" for p in lacking)
        wants = f"{self._source} is not trusted yet; it would\n{listed}\n"
        if self._trust is False:
            raise ConfigError(
                f"{wants}Look at it, then give --trust (trust=True in Python); the answer is kept"
                " until something of this changes"
            )
        if self._trust is not True and not self._trust(f"{wants}Do you trust it?"):
            raise ConfigError(f"{self._source} is not trusted; nothing of it was run or sent")
        if self._trust is True:  # the user has not seen the list
            self.notes += [f"trusted until it changes: {p.sentence}" for p in lacking]
        try:
            self._keep(lacking)
        except OSError as error:
            self.notes.append(
                f"{self._path} cannot be written ({error.strerror}); it will be asked again"
            )

    def _known(self) -> frozenset[str]:
        """Read the digests of given permissions; refuse a file that other users can write."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be read: {error.strerror}") from None
        try:
            about = os.fstat(fd)
            others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not stat.S_ISREG(about.st_mode) or others or about.st_uid != os.getuid():
                raise ConfigError(
                    f"{self._path} is not a file that only you can write, so that others could"
                    " trust in your name; remove it, and answer again"
                )
            text = os.read(fd, _MOST_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)
        return frozenset(_digests(text))

    def _keep(self, permissions: Iterable[Permission]) -> None:
        """Append permissions to the file."""
        at = self._now().isoformat(timespec="seconds")
        lines = [
            json.dumps({"trusted": p.digest, "kind": p.kind, "what": p.sentence, "at": at})
            for p in permissions
        ]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write("\n" + "\n".join(lines) + "\n")  # after a line that was cut off


Trust = bool | Ask | Gate


def load_trusted(
    what: str,
    name: str,
    folders: Sequence[Path] = (),
    *,
    kind: str = "class",
    trust: Trust = False,
    is_typed: bool = False,
) -> Any:
    """Import what is named `module:name` or `file.py:name`, if the user trusts it.

    Args:
        what: what it is used as, in messages: strategy, tool, scorer, source, analysis, provider.
        name: as the user or a file named it.
        folders: folders to search first, in order.
        kind: what it is in Python, in messages: class, function.
        trust: as in `Gate`, or a gate.
        is_typed: whether the user named it (on the command line, from Python), which gives the
            permission.

    Raises:
        ConfigError: it is not trusted, is not there, or its import failed.
    """
    code = locate(what, name, folders, kind=kind, is_typed=is_typed)
    permission = to_run(code)
    if not is_typed:
        Gate.of(trust).require([permission])
        check_unchanged(code, permission)
    return code.load(kind)


def check_unchanged(code: ExternalCode, permission: Permission) -> None:
    """Refuse code that was changed while the user looked at it; ConfigError says so."""
    if to_run(code).digest != permission.digest:
        raise ConfigError(f"{code.place} was changed while you were asked; look at it again")


def _digests(text: str) -> Iterator[str]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that was cut off: its question is asked again
            continue
        if isinstance(entry, dict) and isinstance(entry.get("trusted"), str):
            yield entry["trusted"]


def _digest(*parts: str) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
