"""The protocol of live control: commands to a running collection and its state, as files.

A run has a folder `<spool>/control/<run_id>/` while it lives:

    lock             locked by the collector; released by the system however the collector ends
    state.json       a `RunState`, replaced as a whole about once a second
    commands/*.json  a `Command` a file, renamed into place by the sender
    results/*.json   a `CommandResult` for each command, under the same name

A sender needs the right to write there, which only the folder's owner has. Nothing in these files
is trusted: they are bounded in size, read as plain files only, and checked field by field.
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
    """Base of the commands to a running collection."""


class Pause(Command, frozen=True, tag="pause"):
    """Begin no new attempts; those in flight continue."""


class Resume(Command, frozen=True, tag="resume"):
    """Begin new attempts again."""


class Stop(Command, frozen=True, tag="stop"):
    """End the run: after the attempts in flight, or with `now` at once."""

    now: bool = False


class Retune(Command, frozen=True, tag="set"):
    """Change limits of the run; those that are None stay as they are.

    Attributes:
        lift: budgets to remove.
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
    """A selection of attempts.

    Attributes:
        item: the item's name, "task/name" where several tasks have one of that name, or its id.
        trial: one trial; None: all of them.
        configuration: name or id of one configuration; None: all of them.
    """

    item: Text
    trial: Annotated[int, msgspec.Meta(ge=0)] | None = None
    configuration: Text | None = None


class Cancel(_Pick, frozen=True, tag="cancel"):
    """End an item's attempts in flight, and skip its waiting ones in this run."""


class Requeue(_Pick, frozen=True, tag="requeue"):
    """Make an item's failed or cancelled attempts of this run again."""


AnyCommand = Pause | Resume | Stop | Retune | Cancel | Requeue


class CommandResult(msgspec.Struct, frozen=True):
    """The result of a command.

    Attributes:
        command_id: the name of its file.
        command: the command's name; "" where it could not be read.
        status: done, refused, or waiting where there is no answer yet.
        said: a sentence for the user.
    """

    command_id: str
    command: str
    status: Literal["done", "refused", "waiting"]
    said: str
    at: dt.datetime | None = None


class Counts(msgspec.Struct, frozen=True):
    """Attempts of one configuration, counted as in `Progress`."""

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
    """The state of a running collection, as it publishes it.

    Attributes:
        status: running, paused, asking (a pilot is over), stopping, or the final done, cancelled or
            failed.
        at: time of this state; that of a live collector is about a second old.
        plan: the plan, as `Plan.as_json` writes it.
        planned, before, done, failed, in_flight, left: attempts, as in `Progress`.
        rate_per_s: attempts finished per second, pauses left out; null before the first.
        eta_s: seconds to the end at that rate; null while paused and before the first attempt.
        spent_usd, spent_tokens, spent_j: so far in this run; null where not known.
        budget_usd, budget_tokens, budget_j, budget_time_s: null where there is none.
        concurrency: requests that may be in flight now; `concurrency_cap` is the upper limit.
        models: window, waits and retries of each model that has got requests.
        retrying: calls that failed for a temporary reason and wait for their next try.
        retrying_since, paused_since: time it began; null while nothing is retried or paused.
        attempts: the oldest attempts in flight; `in_flight` counts them all.
        taken: results of the last commands, the newest last.
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
    taken: tuple[CommandResult, ...] = ()
    notes: tuple[str, ...] = ()

    def trouble(self, now: dt.datetime) -> str:
        """Describe what holds the models back; "" where nothing does."""
        return "; ".join(text for model in self.models if (text := model.trouble(now)))

    @property
    def ended(self) -> bool:
        """Whether the status is a final one."""
        return self.status in {"done", "cancelled", "failed"}


_states = msgspec.json.Decoder(RunState)
_commands = msgspec.json.Decoder(AnyCommand)
_results = msgspec.json.Decoder(CommandResult)


def control_dir(spool_dir: Path) -> Path:
    """The folder that holds a folder for each live run."""
    return Path(spool_dir) / _FOLDER


def is_live(folder: Path) -> bool:
    """Whether the collector of a run's folder lives."""
    return spool.is_live(folder / "lock")


def live_runs(spool_dir: Path) -> list[RunState]:
    """List the runs whose collector lives, the oldest first."""
    states = (read_state(folder) for folder in _folders(spool_dir) if is_live(folder))
    return sorted((s for s in states if s is not None), key=lambda s: (s.started_at, s.run_id))


def read_state(folder: Path) -> RunState | None:
    """Read the state of a run's folder; None without one of this version."""
    data = read_plain(folder / "state.json", _STATE_BYTES)
    if data is None:
        return None
    try:
        state = _states.decode(data)
    except UNDECODABLE:
        return None
    return state if state.format == FORMAT and state.run_id == folder.name else None


def state_of(spool_dir: Path, run_id: str) -> RunState | None:
    """Read the last state of a run, live or not; None where there is none."""
    return read_state(control_dir(spool_dir) / run_id) if _NAME.fullmatch(run_id) else None


def find(spool_dir: Path, text: str) -> RunState:
    """Find a live run by the beginning of its id, or the newest by "latest".

    Raises:
        ConfigError: no run matches, or several do.
    """
    live = live_runs(spool_dir)
    matches = live[-1:] if text == "latest" else [s for s in live if s.run_id.startswith(text)]
    exact = [s for s in matches if s.run_id == text]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    names = ", ".join(s.run_id for s in (matches or live))
    if matches:
        raise ConfigError(f"several live runs begin with {text!r}: {names}; type more of the id")
    known = f"live runs: {names}" if live else "no collection is running on this store"
    raise ConfigError(f"no live run matches {text!r}; {known}; see: workbench runs")


def send(
    spool_dir: Path,
    run_id: str,
    command: AnyCommand,
    *,
    wait_s: float = 5.0,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> CommandResult:
    """Send a command to a live run and wait for the result; blocks, so a TUI uses a thread.

    Args:
        spool_dir: the spool of the store that the run collects into.
        run_id: the whole id.
        command: the command.
        wait_s: seconds to wait; then the status `waiting` is returned, and the run still executes
            the command.
        sleep: waits between two checks for the result.
        clock: monotonic seconds.

    Raises:
        ConfigError: the run has ended, or its folder cannot be written.
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
    while (result := _read_result(folder, command_id, command)) is None:
        if clock() >= due_s:
            message = f"no answer in {wait_s:g} s; the run executes it when it reads its commands"
            return CommandResult(command_id, name_of(command), "waiting", message)
        sleep(0.02)
    return result


def _read_result(folder: Path, command_id: str, command: AnyCommand) -> CommandResult | None:
    """Read the result of a command; None where there is none yet."""
    # before the file is read: a run answers all waiting commands before it ends
    lives = is_live(folder)
    data = read_plain(folder / "results" / f"{command_id}.json", MOST_BYTES)
    if data is None and lives:
        return None
    message = "the run ended before it answered"
    if data is not None:
        try:
            return _results.decode(data)
        except UNDECODABLE:
            message = "the run's answer cannot be read; see: workbench runs show"
    return CommandResult(command_id, name_of(command), "refused", message)


def name_of(command: AnyCommand) -> str:
    """The name of a command."""
    return str(command.__struct_config__.tag)


def is_command_name(name: str) -> bool:
    """Whether a file name is a command's; names with a leading dot are still being written."""
    return name.endswith(".json") and _NAME.fullmatch(name.removesuffix(".json")) is not None


def decode_command(data: bytes | None) -> AnyCommand:
    """Decode a command; ValueError tells what is wrong. None stands for an unreadable file."""
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
    """Delete the folders of runs whose collector has died; returns their ids."""
    gone = []
    for folder in _folders(spool_dir):
        if not is_live(folder):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return gone


def _folders(spool_dir: Path) -> list[Path]:
    """List the folders of runs, without hidden ones (still being made) and links."""
    try:
        entries = sorted(os.scandir(control_dir(spool_dir)), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        Path(e.path) for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)
    ]


def read_plain(path: Path, most_bytes: int) -> bytes | None:
    """Read a plain file that is no link, pipe or device; None where there is none to read.

    Of a larger file, the first `most_bytes` + 1 bytes are returned.
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
    """Write a file atomically: readers see the old content or the new one."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
