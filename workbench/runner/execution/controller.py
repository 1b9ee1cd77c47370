"""The collector's end of live control: it holds attempts back, obeys commands, and says how it stands.

What a worker asks before each attempt (`may_begin`, `passes_over`) costs no system call. Files are
looked at by a task of its own, a few times a second; where they cannot be had, the collection goes
on without.
"""

import asyncio
import datetime as dt
import os
import platform
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec

from workbench.runner.attempts.session import Session
from workbench.runner.control import protocol
from workbench.runner.control.command_folder import CommandFolder
from workbench.runner.control.protocol import AnyCommand, Taken
from workbench.runner.execution.launch_state import LaunchState
from workbench.runner.planning.plan import Planned
from workbench.runner.providers.current_attempt import AttemptKey

Act = Callable[[], object]  # what is left to do once a command was answered
Obey = Callable[["Controller", LaunchState, AnyCommand], tuple[str, Act | None]]
POLL_S = 0.25
PUBLISH_S = 1.0
_MOST_SHOWN = 500  # attempts in flight that the state lists
_KEPT = 20  # commands that the state tells of


class InFlight(msgspec.Struct):
    """An attempt under way.

    Attributes:
        cancelled: whether somebody asked for its end.
    """

    planned: Planned
    session: Session
    start_s: float
    task: "asyncio.Task[object]"
    cancelled: bool = False


class Pilot(msgspec.Struct, frozen=True):
    """A first part of the run, after which somebody decides whether the rest is made.

    Attributes:
        n_items: the first so many items of the plan, with every configuration.
        go_on: called once they are made; False ends the run.
    """

    n_items: int
    go_on: Callable[[], Awaitable[bool]]


class Controller:
    """What a running collection obeys.

    Attributes:
        flights: attempts under way, the oldest first.
        failed: attempts of this run whose trace holds an error: they may be made again.
        left_out: attempts of this run that were passed over: they too.
        again: those that are to be made again next.
        passed_over: attempts not to be begun.
    """

    def __init__(
        self,
        launch: LaunchState,
        obey: Obey,
        *,
        pilot: Pilot | None = None,
        host: str | None = None,
        pid: int | None = None,
    ) -> None:
        """Bind to a launch; nothing is written before `open`."""
        self._launch, self._pilot = launch, pilot
        self._obey = obey
        self._host, self._pid = host or platform.node(), pid or os.getpid()
        self.flights: dict[AttemptKey, InFlight] = {}
        self.failed: dict[AttemptKey, Planned] = {}
        self.left_out: dict[AttemptKey, Planned] = {}
        self.again: deque[Planned] = deque()
        self.passed_over: set[AttemptKey] = set()
        self.counts: dict[str, list[int]] = {}  # done, failed by configuration
        self.tries: dict[AttemptKey, int] = {}  # how often an attempt was asked for again
        self.taken: deque[Taken] = deque(maxlen=_KEPT)
        self._free = asyncio.Event()
        self._free.set()
        self._paused_since: dt.datetime | None = None
        self._holds: set[str] = set()  # why nothing begins: "pause", "pilot"
        self._held_at_s, self._held_s = 0.0, 0.0
        self._pilot_keys = self._keys_of_pilot()
        self._gate = None if pilot is None else len(self._pilot_keys)
        self._begun = 0
        self._asking: asyncio.Task[bool] | None = None
        self._box: CommandFolder | None = None
        self._owed: list[Taken] = []
        self.status = "running"

    def _keys_of_pilot(self) -> set[AttemptKey]:
        """Find the attempts of the pilot that are missing."""
        if self._pilot is None:
            return set()
        work, known = self._launch.work, self._launch.known
        first = islice(work, self._pilot.n_items * len(work.configurations))
        return {planned.key for planned in first} - set(known)

    # -- what workers ask ------------------------------------------------------------------------

    async def may_begin(self) -> bool:
        """Wait while the run is paused, or its pilot is not decided; False where it is to end."""
        while (self._gate is not None and self._begun >= self._gate) or not self._free.is_set():
            if self._launch.stop.asked:
                return False
            self._free.clear()
            await self._free.wait()
        return not self._launch.stop.asked

    def passes_over(self, planned: Planned) -> bool:
        """Say whether an attempt is not to be begun, as somebody cancelled its item."""
        if not self.passed_over or planned.key not in self.passed_over:
            return False
        self.passed_over.discard(planned.key)
        self.left_out[planned.key] = planned
        return True

    def leave_to_others(self, planned: Planned) -> None:
        """Note that another collector makes an attempt: the pilot is over without it."""
        if self._gate is not None and planned.key in self._pilot_keys:
            self._pilot_keys.discard(planned.key)
            self._gate -= 1

    def begin(self, planned: Planned, session: Session) -> InFlight:
        """Note that the current task makes an attempt."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an attempt is made within a task")
        flight = InFlight(planned, session, self._launch.clock(), task)
        self.flights[planned.key] = flight
        self._begun += 1
        return flight

    def end(self, flight: InFlight) -> None:
        """Note that an attempt is over, however it went."""
        self.flights.pop(flight.planned.key, None)

    def note(self, planned: Planned, *, failed: bool) -> None:
        """Count an attempt whose trace is written."""
        self._launch.progress.failed += failed
        counts = self.counts.setdefault(planned.configuration.configuration_id, [0, 0])
        counts[0] += 1
        counts[1] += failed
        if failed:
            self.failed[planned.key] = planned

    def take_back(self, planned: Planned) -> None:
        """Count an attempt that failed as not made, as it is to be made again."""
        key, progress = planned.key, self._launch.progress
        counts = self.counts[planned.configuration.configuration_id]
        for place in (0, 1):
            counts[place] -= 1
        progress.done -= 1
        progress.failed -= 1
        self.tries[key] = self.tries.get(key, 0) + 1

    # -- what it serves --------------------------------------------------------------------------

    def open(self) -> None:
        """Make the run's folder; a disk that refuses costs the control, not the run."""
        launch = self._launch
        try:
            self._box = CommandFolder.open(launch.spool.folder, launch.spool.run_id)
        except OSError as error:
            launch.note(f"no live control of this run: {error.filename}: {error.strerror or error}")
            return
        self._box.publish(self.state())

    async def serve(self) -> None:
        """Take commands and publish the state until cancelled."""
        launch = self._launch
        due_s = launch.clock() + PUBLISH_S
        while True:
            self._look_at_pilot()
            if launch.stop.asked:
                self._free.set()
            if (box := self._box) is not None:
                letters = await asyncio.to_thread(box.collect)
                taken = [self._take(command_id, data) for command_id, data in letters]
                self._owed += [answer for answer, _ in taken]
                if taken or launch.clock() >= due_s:
                    due_s = launch.clock() + PUBLISH_S
                    await asyncio.to_thread(box.publish, self.state())
                # whoever has an answer finds the state changed; a stop leaves no time for an answer
                # after it
                self._answer(box)
                for _, act in taken:
                    if act is not None:
                        act()
            await asyncio.sleep(POLL_S)

    def _take(self, command_id: str, data: bytes | None) -> tuple[Taken, Act | None]:
        """Obey one command; what would end the run is returned, to be done last."""
        name = ""
        act: Act | None = None
        try:
            command = protocol.decode_command(data)
            name = protocol.name_of(command)
            said, act = self._obey(self, self._launch, command)
            status = "done"
        except ValueError as error:
            status, said = "refused", str(error)
        except Exception as error:  # noqa: BLE001  # a fault in here must not end a run that is paid for
            status, said = "refused", f"it could not be obeyed: {type(error).__name__}: {error}"
        taken = Taken(command_id, name, status, said, self._launch.now())  # type: ignore[arg-type]  # of two literals
        self.taken.append(taken)
        return taken, act

    def _answer(self, box: CommandFolder) -> None:
        """Say how commands were taken that nobody was told of yet."""
        owed, self._owed = self._owed, []
        for answer in owed:
            box.answer(answer)

    def close(self, status: str) -> None:
        """Say how the run ended, refuse what still waits, and let go of the folder."""
        self.status = status
        if self._asking is not None:
            self._asking.cancel()
        if self._box is None:
            return
        box, self._box = self._box, None
        self._answer(box)  # the run may have ended while its state was being written
        for command_id, _ in box.collect():
            box.answer(
                Taken(command_id, "", "refused", f"the run has ended: {status}", self._launch.now())
            )
        box.close(self.state())

    def _look_at_pilot(self) -> None:
        """Once the pilot is made, ask; then let the rest begin, or end the run."""
        if self._pilot is None or self._gate is None:
            return
        if self._asking is None:
            under_way = len(self.flights) + len(self._launch.background)
            if self._begun >= self._gate and not under_way and self._launch.workers.present:
                self._asking = asyncio.create_task(_decide(self._pilot))
                self._hold("pilot")
            return
        if self._asking.done():
            self._gate = None
            self._let_go("pilot")
            if not self._asking.result():
                self._launch.note("stopped after the pilot")
                self._launch.stop.asked = max(self._launch.stop.asked, 1)
            if self._paused_since is None:
                self._free.set()

    # -- what it is told -------------------------------------------------------------------------

    def pause(self) -> bool:
        """Hold new attempts back; False if they were held already."""
        if self._paused_since is not None:
            return False
        self._paused_since = self._launch.now()
        self._hold("pause")
        self._free.clear()
        return True

    def resume(self) -> bool:
        """Let new attempts begin; False if they did already."""
        if self._paused_since is None:
            return False
        self._paused_since = None
        self._let_go("pause")
        self._free.set()
        return True

    # -- what it says ----------------------------------------------------------------------------

    @property
    def status_now(self) -> str:
        """How the run stands, in the words of `RunState.status`."""
        if self.status != "running":
            return self.status
        if self._launch.stop.asked:
            return "stopping"
        if self._paused_since is not None:
            return "paused"
        return "asking" if self._asking is not None and self._gate is not None else "running"

    def active_s(self) -> float:
        """Seconds of the run in which attempts might begin: no pause, no question after a pilot."""
        now_s = self._launch.clock()
        held_s = self._held_s + (now_s - self._held_at_s if self._holds else 0.0)
        return now_s - self._launch.begun_s - held_s

    def _hold(self, why: str) -> None:
        if not self._holds:
            self._held_at_s = self._launch.clock()
        self._holds.add(why)

    def _let_go(self, why: str) -> None:
        self._holds.discard(why)
        if not self._holds:
            self._held_s += self._launch.clock() - self._held_at_s

    def state(self) -> protocol.RunState:
        """Say how the run stands."""
        launch, p, now_s = self._launch, self._launch.progress, self._launch.clock()
        active_s, models = self.active_s(), tuple(launch.connected.states)
        rate = p.done / active_s if p.done and active_s > 0 else None
        status = self.status_now
        since = [m.retrying_since for m in models if m.retrying_since is not None]
        cap = launch.workers.wanted
        budget = launch.budget
        return protocol.RunState(
            run_id=launch.spool.run_id,
            pid=self._pid,
            host=self._host,
            status=status,
            at=launch.now(),
            started_at=launch.record.started_at or launch.now(),
            plan=launch.record.plan or "",
            planned=p.planned,
            before=p.before,
            done=p.done,
            failed=p.failed,
            in_flight=len(self.flights),
            left=p.left,
            n_items=len(launch.work.items),
            elapsed_s=now_s - launch.begun_s,
            rate_per_s=rate,
            eta_s=p.left / rate if rate and status == "running" else None,
            spent_usd=budget.spent_usd,
            n_unpriced=budget.n_unpriced,
            spent_tokens=budget.spent_tokens,
            spent_j=budget.spent_j,
            budget_usd=budget.limit_usd,
            budget_tokens=budget.limit_tokens,
            budget_j=budget.limit_j,
            budget_time_s=budget.limit_time_s,
            concurrency=min(cap, sum(m.limit for m in models)) if models else cap,
            concurrency_cap=cap,
            retries=launch.connected.retries,
            timeout_s=launch.connected.timeout_s,
            retrying=sum(m.retrying for m in models),
            retrying_since=min(since, default=None),
            paused_since=self._paused_since,
            models=models,
            configurations=self._counted(),
            attempts=tuple(_flying(f, now_s) for f in islice(self.flights.values(), _MOST_SHOWN)),
            taken=tuple(self.taken),
            notes=tuple(launch.notes),
        )

    def _counted(self) -> tuple[protocol.Counts, ...]:
        launch = self._launch
        each = launch.plan.trials * len(launch.work.items)
        flying: dict[str, int] = {}
        for configuration_id, _, _ in self.flights:
            flying[configuration_id] = flying.get(configuration_id, 0) + 1
        found = []
        for configuration, _, _ in launch.work.configurations:
            name = configuration.configuration_id
            done, failed = self.counts.get(name, (0, 0))
            found.append(
                protocol.Counts(
                    name,
                    configuration.configuration,
                    planned=each,
                    before=launch.before.get(name, 0),
                    done=done,
                    failed=failed,
                    in_flight=flying.get(name, 0),
                )
            )
        return tuple(found)


async def _decide(pilot: Pilot) -> bool:
    return await pilot.go_on()


def _flying(flight: InFlight, now_s: float) -> protocol.AttemptInFlight:
    planned = flight.planned
    return protocol.AttemptInFlight(
        planned.configuration.configuration,
        planned.configuration.configuration_id,
        planned.task.name,
        planned.item.item,
        planned.item_id,
        planned.trial,
        max(0.0, now_s - flight.start_s),
        len(flight.session.calls),
    )
