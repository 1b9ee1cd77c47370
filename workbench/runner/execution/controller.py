"""The controller of a running collection: holds attempts back, executes commands, publishes state.

The checks of a worker before each attempt (`may_begin`, `skips`) make no system call. A task of its
own reads the command files every `POLL_S` seconds; the collection continues without live control
where the folder cannot be made.
"""

import asyncio
import datetime as dt
import os
import platform
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec

from workbench.runner.attempts.session import Session
from workbench.runner.control import protocol
from workbench.runner.control.command_folder import CommandFolder
from workbench.runner.control.protocol import AnyCommand, CommandResult
from workbench.runner.execution.launch_state import LaunchState
from workbench.runner.planning.plan import Planned
from workbench.runner.providers.current_attempt import AttemptKey

FollowUp = Callable[[], object]  # a step to take once a command was answered
Execute = Callable[["Controller", LaunchState, AnyCommand], tuple[str, FollowUp | None]]
POLL_S = 0.25
PUBLISH_S = 1.0
_MAX_ATTEMPTS = 500  # attempts in flight that the state lists
_MAX_COMMANDS = 20  # answered commands that the state lists


class InFlight(msgspec.Struct):
    """An attempt in flight.

    Attributes:
        start_s: the launch's clock when it began.
        task: the asyncio task that makes it.
        cancelled: whether the user cancelled it.
    """

    planned: Planned
    session: Session
    start_s: float
    task: "asyncio.Task[object]"
    cancelled: bool = False


class Pilot(msgspec.Struct, frozen=True):
    """A first part of the run, after which a callback decides whether the rest is made.

    Attributes:
        n_items: number of items, the first of the plan, with every configuration.
        go_on: called once they are made; False ends the run.
    """

    n_items: int
    go_on: Callable[[], Awaitable[bool]]


class Controller:
    """Live control of one launch: pause, pilot, commands and the published state.

    Attributes:
        flights: attempts in flight, the oldest first.
        failed: attempts of this run whose trace holds an error; they can be requeued.
        skipped: attempts of this run that were cancelled before they began; they too.
        requeued: attempts to make next.
        cancelled: keys of attempts that will be skipped when their turn comes.
        counts: done and failed attempts by configuration id.
        tries: how often each attempt was requeued.
        taken: the last commands with their answers.
    """

    def __init__(
        self,
        launch: LaunchState,
        execute: Execute,
        *,
        pilot: Pilot | None = None,
        host: str | None = None,
        pid: int | None = None,
    ) -> None:
        """Bind to a launch; nothing is written before `open`."""
        self._launch = launch
        self._pilot = pilot
        self._execute_command = execute
        self._host = host or platform.node()
        self._pid = pid or os.getpid()
        self.flights: dict[AttemptKey, InFlight] = {}
        self.failed: dict[AttemptKey, Planned] = {}
        self.skipped: dict[AttemptKey, Planned] = {}
        self.requeued: deque[Planned] = deque()
        self.cancelled: set[AttemptKey] = set()
        self.counts: dict[str, list[int]] = {}
        self.tries: dict[AttemptKey, int] = {}
        self.taken: deque[CommandResult] = deque(maxlen=_MAX_COMMANDS)
        self._may_begin = asyncio.Event()
        self._may_begin.set()
        self._paused_since: dt.datetime | None = None
        self._hold_reasons: set[str] = set()  # why no attempt begins: "pause", "pilot"
        self._hold_start_s = 0.0
        self._total_hold_s = 0.0
        self._pilot_keys = self._missing_pilot_keys()
        # attempts of the pilot; None once the rest was decided on, or without a pilot
        self._pilot_size = None if pilot is None else len(self._pilot_keys)
        self._n_begun = 0
        self._pilot_decision: asyncio.Task[bool] | None = None
        self._folder: CommandFolder | None = None
        self._unanswered: list[CommandResult] = []
        self.status = "running"

    def _missing_pilot_keys(self) -> set[AttemptKey]:
        """Return the keys of the pilot's attempts that are missing."""
        if self._pilot is None:
            return set()
        work, known = self._launch.work, self._launch.known
        first = islice(work, self._pilot.n_items * len(work.configurations))
        return {planned.key for planned in first} - set(known)

    # -- called by the workers -------------------------------------------------------------------

    async def may_begin(self) -> bool:
        """Wait while the run is paused or its pilot is undecided; False where the run is to end."""
        while self._is_pilot_begun() or not self._may_begin.is_set():
            if self._launch.stop.n_requests:
                return False
            self._may_begin.clear()
            await self._may_begin.wait()
        return not self._launch.stop.n_requests

    def _is_pilot_begun(self) -> bool:
        return self._pilot_size is not None and self._n_begun >= self._pilot_size

    def skips(self, planned: Planned) -> bool:
        """Skip an attempt whose item was cancelled; returns whether it was."""
        if not self.cancelled or planned.key not in self.cancelled:
            return False
        self.cancelled.discard(planned.key)
        self.skipped[planned.key] = planned
        return True

    def leave_to_others(self, planned: Planned) -> None:
        """Record that another collector makes an attempt; the pilot does not wait for it."""
        if self._pilot_size is not None and planned.key in self._pilot_keys:
            self._pilot_keys.discard(planned.key)
            self._pilot_size -= 1

    def begin(self, planned: Planned, session: Session) -> InFlight:
        """Record that the current task makes an attempt."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an attempt is made within a task")
        flight = InFlight(planned, session, self._launch.clock(), task)
        self.flights[planned.key] = flight
        self._n_begun += 1
        return flight

    def end(self, flight: InFlight) -> None:
        """Record that an attempt has ended, with any result."""
        self.flights.pop(flight.planned.key, None)

    def note(self, planned: Planned, *, failed: bool) -> None:
        """Count an attempt whose trace is written."""
        self._launch.progress.failed += failed
        counts = self.counts.setdefault(planned.configuration.configuration_id, [0, 0])
        counts[0] += 1
        counts[1] += failed
        if failed:
            self.failed[planned.key] = planned

    def uncount_failure(self, planned: Planned) -> None:
        """Remove a failed attempt from the counts, as it is made again."""
        key, progress = planned.key, self._launch.progress
        counts = self.counts[planned.configuration.configuration_id]
        for place in (0, 1):
            counts[place] -= 1
        progress.done -= 1
        progress.failed -= 1
        self.tries[key] = self.tries.get(key, 0) + 1

    # -- the command folder ----------------------------------------------------------------------

    def open(self) -> None:
        """Make the run's folder; without it the run continues and takes no commands."""
        launch = self._launch
        try:
            self._folder = CommandFolder.open(launch.spool.folder, launch.spool.run_id)
        except OSError as error:
            launch.note(f"no live control of this run: {error.filename}: {error.strerror or error}")
            return
        self._folder.publish(self.state())

    async def serve(self) -> None:
        """Execute commands and publish the state until cancelled."""
        launch = self._launch
        due_s = launch.clock() + PUBLISH_S
        while True:
            self._check_pilot()
            if launch.stop.n_requests:
                self._may_begin.set()
            if (folder := self._folder) is not None:
                received = await asyncio.to_thread(folder.collect)
                executed = [self._execute(command_id, data) for command_id, data in received]
                self._unanswered += [answer for answer, _ in executed]
                if executed or launch.clock() >= due_s:
                    due_s = launch.clock() + PUBLISH_S
                    await asyncio.to_thread(folder.publish, self.state())
                # Answers come after the state, so that a sender who has its answer reads the new
                # state; and before the follow-ups, as a stop leaves no time to answer.
                self._send_answers(folder)
                for _, follow_up in executed:
                    if follow_up is not None:
                        follow_up()
            await asyncio.sleep(POLL_S)

    def _execute(
        self, command_id: str, data: bytes | None
    ) -> tuple[CommandResult, FollowUp | None]:
        """Execute one command; a step that ends the run is returned, to be taken last."""
        name = ""
        follow_up: FollowUp | None = None
        try:
            command = protocol.decode_command(data)
            name = protocol.name_of(command)
            message, follow_up = self._execute_command(self, self._launch, command)
            status = "done"
        except ValueError as error:
            status, message = "refused", str(error)
        except Exception as error:  # noqa: BLE001  # a bug in a command must not end a paid run
            status = "refused"
            message = f"the command failed: {type(error).__name__}: {error}"
        at = self._launch.now()
        taken = CommandResult(
            command_id,
            name,
            status,  # type: ignore[arg-type]  # one of the literals
            message,
            at,
        )
        self.taken.append(taken)
        return taken, follow_up

    def _send_answers(self, folder: CommandFolder) -> None:
        """Write the answers to executed commands that were not answered yet."""
        answers, self._unanswered = self._unanswered, []
        for answer in answers:
            folder.answer(answer)

    def close(self, status: str) -> None:
        """Publish the final state, refuse the commands that still wait, and close the folder."""
        self.status = status
        if self._pilot_decision is not None:
            self._pilot_decision.cancel()
        if self._folder is None:
            return
        folder, self._folder = self._folder, None
        self._send_answers(folder)  # the run may have ended while its state was being written
        for command_id, _ in folder.collect():
            folder.answer(
                CommandResult(
                    command_id, "", "refused", f"the run has ended: {status}", self._launch.now()
                )
            )
        folder.close(self.state())

    def _check_pilot(self) -> None:
        """Ask for a decision once the pilot is made; then let the rest begin, or end the run."""
        if self._pilot is None or self._pilot_size is None:
            return
        if self._pilot_decision is None:
            n_unfinished = len(self.flights) + len(self._launch.background)
            if self._is_pilot_begun() and not n_unfinished and self._launch.workers.present:
                self._pilot_decision = asyncio.create_task(_decide(self._pilot))
                self._hold("pilot")
            return
        if self._pilot_decision.done():
            self._pilot_size = None
            self._release("pilot")
            if not self._pilot_decision.result():
                self._launch.note("stopped after the pilot")
                self._launch.stop.n_requests = max(self._launch.stop.n_requests, 1)
            if self._paused_since is None:
                self._may_begin.set()

    # -- pause and resume ------------------------------------------------------------------------

    def pause(self) -> bool:
        """Hold new attempts back; False if they were held already."""
        if self._paused_since is not None:
            return False
        self._paused_since = self._launch.now()
        self._hold("pause")
        self._may_begin.clear()
        return True

    def resume(self) -> bool:
        """Let new attempts begin; False if the run was not paused."""
        if self._paused_since is None:
            return False
        self._paused_since = None
        self._release("pause")
        self._may_begin.set()
        return True

    # -- the published state ---------------------------------------------------------------------

    @property
    def status_now(self) -> str:
        """The status of the run, one of `RunState.status`."""
        if self.status != "running":
            return self.status
        if self._launch.stop.n_requests:
            return "stopping"
        if self._paused_since is not None:
            return "paused"
        is_deciding = self._pilot_decision is not None and self._pilot_size is not None
        return "asking" if is_deciding else "running"

    def active_s(self) -> float:
        """Seconds of the run in which attempts could begin: no pause, no pending pilot decision."""
        now_s = self._launch.clock()
        current_hold_s = now_s - self._hold_start_s if self._hold_reasons else 0.0
        return now_s - self._launch.begun_s - self._total_hold_s - current_hold_s

    def _hold(self, reason: str) -> None:
        if not self._hold_reasons:
            self._hold_start_s = self._launch.clock()
        self._hold_reasons.add(reason)

    def _release(self, reason: str) -> None:
        self._hold_reasons.discard(reason)
        if not self._hold_reasons:
            self._total_hold_s += self._launch.clock() - self._hold_start_s

    def state(self) -> protocol.RunState:
        """Return the state of the run, as it is published."""
        launch = self._launch
        p = launch.progress
        now_s = launch.clock()
        active_s = self.active_s()
        models = tuple(launch.connected.states)
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
            configurations=self._configuration_counts(),
            attempts=tuple(
                _attempt_state(f, now_s) for f in islice(self.flights.values(), _MAX_ATTEMPTS)
            ),
            taken=tuple(self.taken),
            notes=tuple(launch.notes),
        )

    def _configuration_counts(self) -> tuple[protocol.Counts, ...]:
        launch = self._launch
        n_planned = launch.plan.trials * len(launch.work.items)
        in_flight = Counter(configuration_id for configuration_id, _, _ in self.flights)
        counts = []
        for configuration, _, _ in launch.work.configurations:
            configuration_id = configuration.configuration_id
            done, failed = self.counts.get(configuration_id, (0, 0))
            counts.append(
                protocol.Counts(
                    configuration_id,
                    configuration.configuration,
                    planned=n_planned,
                    before=launch.before.get(configuration_id, 0),
                    done=done,
                    failed=failed,
                    in_flight=in_flight[configuration_id],
                )
            )
        return tuple(counts)


async def _decide(pilot: Pilot) -> bool:
    return await pilot.go_on()


def _attempt_state(flight: InFlight, now_s: float) -> protocol.AttemptInFlight:
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
