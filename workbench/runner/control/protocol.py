"""Live control of collections without a server: what a running one says, and how others tell it something.

A run has a folder `<spool>/control/<run_id>/` while it lives:

    lock             held by the collector; the operating system lets go of it however the collector
    ends state.json       what it says of itself: a `RunState`, replaced whole about once a second
    commands/*.json  what others ask of it: a `Command` a file, renamed into place
    results/*.json   how each command was taken: a `Taken` of the same name

Whoever sends needs nothing but the right to write there, which the folder's owner alone has.
Nothing in these files is trusted: they are bounded in size, read as plain files only, and checked
field by field.
"""

import contextlib
import datetime as dt
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from workbench import spool
from workbench.decoding import UNDECODABLE
from workbench.errors import ConfigError
from workbench.runner.limits.progress import ModelState

FORMAT = 1
MOST_BYTES = 16 << 10  # of a command
_STATE_BYTES = 16 << 20
_FOLDER = "control"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
BUDGETS = ("budget_usd", "budget_tokens", "budget_j", "budget_time_s")


class Command(msgspec.Struct, frozen=True, tag_field="command", forbid_unknown_fields=True):
    """Base of what a running collection can be told."""


class Pause(Command, frozen=True, tag="pause"):
    """Begin no new attempts; those in flight go on."""


class Resume(Command, frozen=True, tag="resume"):
    """Begin new attempts again."""


class Stop(Command, frozen=True, tag="stop"):
    """End the run: after what is in flight, or at once with `now`."""

    now: bool = False


class Retune(Command, frozen=True, tag="set"):
    """Change how fast and how far the run goes; what is None stays as it is.

    Attributes:
        lift: budgets that are to hold no longer.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    budget_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    budget_tokens: Annotated[float, msgspec.Meta(ge=0)] | None = None
    budget_j: Annotated[float, msgspec.Meta(ge=0)] | None = None
    budget_time_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    lift: tuple[Literal["budget_usd", "budget_tokens", "budget_j", "budget_time_s"], ...] = ()


class _Pick(Command, frozen=True):
    """Which attempts are meant.

    Attributes:
        item: the item's name, "task/name" where several tasks have one of that name, or its id.
        trial: one repeat; None is all of them.
        configuration: name or id of one configuration; None is all of them.
    """

    item: Text
    trial: Annotated[int, msgspec.Meta(ge=0)] | None = None
    configuration: Text | None = None


class Cancel(_Pick, frozen=True, tag="cancel"):
    """End an item's attempts in flight, and begin those that wait no more in this run."""


class Requeue(_Pick, frozen=True, tag="requeue"):
    """Make an item's attempts again that failed or were cancelled in this run."""


AnyCommand = Pause | Resume | Stop | Retune | Cancel | Requeue


class Taken(msgspec.Struct, frozen=True):
    """How a command was taken.

    Attributes:
        command_id: the name of its file.
        command: which one; "" where it could not be read.
        status: done, refused, or waiting where nobody has answered yet.
        said: a sentence for the user.
    """

    command_id: str
    command: str
    status: Literal["done", "refused", "waiting"]
    said: str
    at: dt.datetime | None = None


class Counts(msgspec.Struct, frozen=True):
    """How far one configuration is; the counts of `Progress`."""

    configuration_id: str
    configuration: str
    planned: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0

    @property
    def left(self) -> int:
        """Attempts still to be made, those in flight included."""
        return self.planned - self.before - self.done


class AttemptInFlight(msgspec.Struct, frozen=True):
    """An attempt in flight."""

    configuration: str
    configuration_id: str
    task: str
    item: str
    item_id: str
    trial: int
    elapsed_s: float
    n_calls: int


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What a running collection says of itself.

    Attributes:
        status: running, paused, asking (a pilot is over), stopping, or how it ended: done,
            cancelled, failed.
        at: when it said so; the state of a collector that lives is about a second old.
        plan: the plan, as `Plan.as_json` writes it.
        planned, before, done, failed, in_flight, left: attempts, as in `Progress`.
        rate_per_s: attempts finished per second, pauses left out; null before the first.
        eta_s: seconds to the end at that rate; null while paused and before the first attempt.
        spent_usd, spent_tokens, spent_j: so far in this run; null where nothing is known.
        budget_usd, budget_tokens, budget_j, budget_time_s: null where there is none.
        concurrency: requests that may be in flight now; `concurrency_cap` is the most there may be.
        models: how each model that was asked stands: its window, waits, retries.
        retrying: calls that failed for a passing reason and are being tried again.
        retrying_since, paused_since: since when; null while nothing is.
        attempts: those in flight, the oldest first; `in_flight` counts them all.
        taken: the last commands, the newest last.
        notes: sentences for the user.
    """

    format: int = FORMAT
    run_id: str
    pid: int
    host: str
    status: str
    at: dt.datetime
    started_at: dt.datetime
    plan: str
    planned: int
    before: int
    done: int
    failed: int
    in_flight: int
    left: int
    n_items: int
    elapsed_s: float
    rate_per_s: float | None = None
    eta_s: float | None = None
    spent_usd: float | None = None
    n_unpriced: int = 0
    spent_tokens: int | None = None
    spent_j: float | None = None
    budget_usd: float | None = None
    budget_tokens: float | None = None
    budget_j: float | None = None
    budget_time_s: float | None = None
    concurrency: int
    concurrency_cap: int
    retries: int
    timeout_s: float
    retrying: int = 0
    retrying_since: dt.datetime | None = None
    paused_since: dt.datetime | None = None
    models: tuple[ModelState, ...] = ()
    configurations: tuple[Counts, ...] = ()
    attempts: tuple[AttemptInFlight, ...] = ()
    taken: tuple[Taken, ...] = ()
    notes: tuple[str, ...] = ()

    def trouble(self, now: dt.datetime) -> str:
        """Say what holds the models back that are asked; "" where nothing does."""
        return "; ".join(said for model in self.models if (said := model.trouble(now)))

    @property
    def ended(self) -> bool:
        """Whether the run has said how it ended."""
        return self.status in {"done", "cancelled", "failed"}


_states = msgspec.json.Decoder(RunState)
_commands = msgspec.json.Decoder(AnyCommand)
_results = msgspec.json.Decoder(Taken)


def control_dir(spool_dir: Path) -> Path:
    """The folder that holds one folder a live run."""
    return Path(spool_dir) / _FOLDER


def is_live(folder: Path) -> bool:
    """Whether the collector of a run's folder lives."""
    return spool.is_live(folder / "lock")


def live_runs(spool_dir: Path) -> list[RunState]:
    """List the runs whose collector lives, the oldest first."""
    found = (read_state(folder) for folder in _folders(spool_dir) if is_live(folder))
    return sorted((s for s in found if s is not None), key=lambda s: (s.started_at, s.run_id))


def read_state(folder: Path) -> RunState | None:
    """Read what a run says; None where there is nothing, or nothing of this version."""
    data = read_plain(folder / "state.json", _STATE_BYTES)
    if data is None:
        return None
    try:
        state = _states.decode(data)
    except UNDECODABLE:
        return None
    return state if state.format == FORMAT and state.run_id == folder.name else None


def state_of(spool_dir: Path, run_id: str) -> RunState | None:
    """Read what one run said last, whether it lives or not; None where nothing is known."""
    return read_state(control_dir(spool_dir) / run_id) if _NAME.fullmatch(run_id) else None


def find(spool_dir: Path, text: str) -> RunState:
    """Find the live run that is meant by the beginning of its id, or by "latest".

    Raises:
        ConfigError: none or several are meant.
    """
    live = live_runs(spool_dir)
    meant = live[-1:] if text == "latest" else [s for s in live if s.run_id.startswith(text)]
    exact = [s for s in meant if s.run_id == text]
    if len(exact or meant) == 1:
        return (exact or meant)[0]
    names = ", ".join(s.run_id for s in (meant or live))
    if meant:
        raise ConfigError(f"several live runs begin with {text!r}: {names}; type more of the id")
    known = f"live are {names}" if live else "no collection is running on this store"
    raise ConfigError(f"no live run is meant by {text!r}; {known}; see: workbench runs")


def send(
    spool_dir: Path,
    run_id: str,
    command: AnyCommand,
    *,
    wait_s: float = 5.0,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Taken:
    """Tell a live run something and wait for its answer; blocks, so a TUI calls it in a thread.

    Args:
        spool_dir: the spool of the store that it collects into.
        run_id: the whole id.
        command: what it is told.
        wait_s: seconds after which an unanswered command is left to the run, and `waiting`
            returned.
        sleep: waits between looks.
        clock: monotonic seconds.

    Raises:
        ConfigError: the run does not live, or its folder cannot be written.
    """
    folder = control_dir(spool_dir) / run_id
    if not _NAME.fullmatch(run_id) or not is_live(folder):
        raise ConfigError(f"the run {run_id!r} is not running any more; see: workbench runs")
    command_id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    try:
        write_whole(folder / "commands" / f"{command_id}.json", msgspec.json.encode(command))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from error
    due_s = clock() + wait_s
    while (taken := _answer(folder, command_id, command)) is None:
        if clock() >= due_s:
            said = f"no answer in {wait_s:g} s; the run will take it when it looks"
            return Taken(command_id, name_of(command), "waiting", said)
        sleep(0.02)
    return taken


def _answer(folder: Path, command_id: str, command: AnyCommand) -> Taken | None:
    """Look how a command was taken; None where that is not known yet."""
    lives = is_live(folder)  # before the look: a run answers what waits before it ends
    data = read_plain(folder / "results" / f"{command_id}.json", MOST_BYTES)
    if data is None and lives:
        return None
    said = "the run ended before it answered"
    if data is not None:
        try:
            return _results.decode(data)
        except UNDECODABLE:
            said = "its answer cannot be read; see: workbench runs show"
    return Taken(command_id, name_of(command), "refused", said)


def name_of(command: AnyCommand) -> str:
    """The word for a command."""
    return str(command.__struct_config__.tag)


def is_command_name(name: str) -> bool:
    """Whether a file of that name is a command; what begins with a dot is still being written."""
    return name.endswith(".json") and _NAME.fullmatch(name.removesuffix(".json")) is not None


def decode_command(data: bytes | None) -> AnyCommand:
    """Read a command; ValueError says what is wrong with it. None is what could not be read."""
    if data is None:
        raise ValueError("not a plain file that can be read")
    if len(data) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES:,} bytes")
    try:
        command: AnyCommand = _commands.decode(data)
    except UNDECODABLE as error:
        raise ValueError(f"no command of this version: {error}") from error
    return command


def sweep(spool_dir: Path) -> list[str]:
    """Delete the folders of runs whose collector is gone; returns their ids."""
    gone = []
    for folder in _folders(spool_dir):
        if not is_live(folder):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return gone


def _folders(spool_dir: Path) -> list[Path]:
    """List the folders of runs; what is hidden is still being made, and links lead elsewhere."""
    try:
        entries = sorted(os.scandir(control_dir(spool_dir)), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        Path(e.path) for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)
    ]


def read_plain(path: Path, most_bytes: int) -> bytes | None:
    """Read a plain file that is no link, pipe or device; None where there is none.

    What is there but cannot be read is None too. A file that is too large gives its first
    `most_bytes` bytes and one more.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        fd = os.open(path, flags)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return os.read(fd, most_bytes + 1)
        finally:
            os.close(fd)
    return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that whoever looks sees all of it or what was there before."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
