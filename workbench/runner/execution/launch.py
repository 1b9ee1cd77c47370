"""One launch of the runner under way: workers make the attempts, one writer keeps what comes."""

import asyncio
import contextlib
import datetime as dt
import logging
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from workbench.errors import ProviderError, StoreError
from workbench.records import Attempt, Trace
from workbench.runner.attempts import grading
from workbench.runner.attempts.journal import AttemptJournal, Journal
from workbench.runner.execution import attempt, commands
from workbench.runner.execution.connect import POOL
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.execution.controller import Controller, InFlight, Pilot
from workbench.runner.execution.launch_state import LaunchState
from workbench.runner.execution.metering import Metering
from workbench.runner.execution.shared_work import LOOK_S, SharedWork
from workbench.runner.execution.stop import Stop
from workbench.runner.execution.worker_pool import WorkerPool
from workbench.runner.limits import Breaker, Budget, Tab
from workbench.runner.limits.failure_reasons import Failures
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning.plan import Planned, Work
from workbench.runner.planning.resume import Leftovers
from workbench.runner.planning.target import IN_PROCESS
from workbench.runner.providers.current_attempt import CURRENT_ATTEMPT, AttemptKey, CurrentAttempt
from workbench.runner.providers.protocol import FATAL, UNREACHABLE
from workbench.spool import SpoolWriter, is_settled

_LOG = logging.getLogger(__name__)
ROOM_S = 120.0  # so long, at the end, room is waited for on a disk that refuses what was paid for
_COMMIT_S = 0.05
_RAMP_S = 0.001
_TELL_S = 1.0
_AROUND_BYTES = 500  # of an item's prompt: the task's words and the strategy's


def _lost(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the spool {folder} cannot be read: {error.strerror or error}; if its disk was unmounted,"
        " mount it again"
    )


class _Made(NamedTuple):
    """An attempt that has ended.

    Attributes:
        e2e_s: null where its time says nothing, as in a batch.
        kept: its replies, where they are kept until the trace is written.
    """

    flight: InFlight
    ended: attempt.Ended
    started_at: dt.datetime
    e2e_s: float | None
    kept: AttemptJournal | None
    trace_id: str
    tab: Tab


class Launch(LaunchState):
    """One launch under way.

    Attributes:
        control: the commands that it is given while it runs.
    """

    def __init__(
        self,
        *,
        work: Work,
        spool: SpoolWriter,
        connected: ConnectedModels,
        budget: Budget,
        known: set[AttemptKey],
        stop: Stop,
        on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
        metering: Metering,
        sharing: SharedWork,
        pilot: Pilot | None = None,
    ) -> None:
        """Prepare; nothing is asked or written yet."""
        in_process = all(target.endpoint in IN_PROCESS for target in work.plan.targets)
        super().__init__(
            work=work,
            spool=spool,
            connected=connected,
            budget=budget,
            known=known,
            stop=stop,
            clock=clock,
            now=now,
            workers=WorkerPool(self._step, ramp_s=0.0 if in_process else _RAMP_S),
        )
        self.on_progress = on_progress
        self.metering = metering
        self.sharing = sharing
        self.failures, self.n_unscored = Failures(), 0
        self.breakers: dict[str, Breaker] = {}
        self.queue = self._missing()
        self.control = Controller(self, commands.obey, pilot=pilot)
        self.journal = Journal(spool.folder, spool.run_id, known, may_wait=self._may_wait)
        stop.at_once = bool(connected.batches)
        for batches in connected.batches:
            batches.client.active = lambda: self.progress.in_flight

    async def run(self, left: Leftovers) -> CollectReport:
        """Make the missing attempts; `left` is what earlier launches left in the spool."""
        missing = left.in_flight - self.known
        repeated = len(missing & {p.key for p in self.work}) if missing else 0
        self._write_head(left)
        with self._signals():
            status = await self._through()
        p = self.progress
        is_unknown = p.n_unreported > 0 and not p.n_reported
        return CollectReport(
            run_id=self.spool.run_id,
            status=status,
            planned=p.planned,
            before=p.before,
            collected=p.done - p.failed,
            failed=p.failed,
            left=p.left,
            repeated=repeated,
            elsewhere=self.sharing.n_made,
            failed_elsewhere=self.sharing.n_failed,
            unscored=self.n_unscored,
            reasons=self.failures.listing(),
            elapsed_s=self.clock() - self.begun_s,
            input_tokens=None if is_unknown else p.input_tokens,
            output_tokens=None if is_unknown else p.output_tokens,
            spent_usd=p.spent_usd,
            n_unpriced=p.n_unpriced,
            n_unreported=p.n_unreported,
            notes=tuple(self.notes),
        )

    async def _through(self) -> str:
        """Do the work and write how it ended; returns the status."""
        status, why = "failed", "the program failed"
        try:
            await self._work()
            self.progress.elsewhere = self.sharing.n_made
            status, why = ("cancelled", "stopped early") if self.progress.left else ("done", "")
        except asyncio.CancelledError:
            status, why = "cancelled", "cancelled with attempts in flight"
            if not self.stop.is_now:
                raise
            for batches in self.connected.batches:
                if running := batches.left_running():
                    self.note(running)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise
        finally:
            status = await self._end(status, why)
        return status

    async def _end(self, status: str, why: str) -> str:
        """Write the traces that wait, the energy balances and, whatever comes between, how the run ended."""
        self.stop.at_once = True  # nothing is in flight any more
        try:
            await self.background.drain()
            for balance in await self.metering.finish(self.spool.run_id, quiet=status == "done"):
                self.spool.append(balance)
        except asyncio.CancelledError:
            status, why = "cancelled", why or "cancelled while traces were written"
            if not self.stop.is_now:
                raise
        except Exception as error:
            status, why = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            said = "; ".join((why, *self.notes)) if why else None
            ended = {"status": status, "ended_at": self.now(), "error_message": said}
            try:
                await self._wait_for_room()
                self.spool.append(msgspec.structs.replace(self.record, **ended))
                self._sync()
            finally:
                self.control.close(status)
        return status

    def _write_head(self, left: Leftovers) -> None:
        """Write what the traces will refer to, and how killed runs ended."""
        for run in left.killed:
            self.spool.append(run)
        self.spool.append(self.record)
        for task in self.work.tasks:
            self.spool.append(task)
        for item in self.work.items:
            self.spool.append(item)
        for configuration, _, _ in self.work.configurations:
            self.spool.append(configuration)
        self.spool.sync()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask to stop, where this is the main thread of a POSIX system."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            self.stop.bind(task.cancel)
        taken = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self.stop)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    async def _work(self) -> None:
        """Run the workers; the first fault of the program ends them all."""
        # whoever waits for a batch is in nobody's way: the more wait, the fuller it is
        at_once = POOL if self.connected.batches else self.plan.at_once
        self.workers.resize(min(at_once, max(self.progress.left, 1)), self.progress.left)
        self.control.open()
        beside = (
            self._commit(),
            self._keep_telling(),
            self.control.serve(),
            self.background.watch(),
            self._look_at_others(),
        )
        await self.workers.run(*[asyncio.create_task(task) for task in beside])
        await self.background.drain()

    async def _commit(self) -> None:
        """Force the lines of the last moments to the disk together."""
        while True:
            await asyncio.sleep(_COMMIT_S)
            if self.spool.retry() is None:
                try:
                    await asyncio.to_thread(self._sync)
                except StoreError as error:
                    self._refused(error)

    def _sync(self) -> None:
        """Force the spool to the disk; only then the replies of finished attempts may go."""
        settled = self.journal.take_settled()
        self.spool.sync()
        self.journal.sweep(settled)

    def _refused(self, error: StoreError) -> None:
        """Begin nothing more on a disk that refuses; what is in flight arrives, and is held in memory."""
        if str(error) not in self.notes:
            _LOG.warning("%s", error)
        self.note(str(error))
        self.stop.asked = max(self.stop.asked, 1)
        self.wake()

    def _may_wait(self, error: StoreError, waited_s: float) -> bool:
        """Say whether an attempt waits on for a disk that refuses its replies."""
        self._refused(error)
        return waited_s < ROOM_S and self.stop.asked < 2

    def _keep(self, trace: Trace) -> bool:
        """Write a trace; False where it waits in memory until the disk takes it."""
        error = self.spool.offer(trace)
        if error is not None:
            self._refused(error)
        return error is None

    async def _wait_for_room(self) -> None:
        """Wait until the disk has taken what is held.

        Raises:
            StoreError: nobody made room, or whoever runs this asked twice to stop.
        """
        until = self.clock() + ROOM_S
        while (error := self.spool.retry()) is not None:
            if self.clock() > until or self.stop.asked > 1:
                if self.spool.retry_elsewhere() is None:
                    self.note(f"the last answers lie where {self.spool.folder} is now")
                    return
                raise StoreError(f"{self.spool.n_held:,} answers are lost: {error}") from error
            try:
                await asyncio.sleep(_COMMIT_S)
            except asyncio.CancelledError:
                if not self.stop.is_now:
                    raise

    def _missing(self) -> Iterator[Planned]:
        for place, planned in self.work.without(self.known):
            self.position = place
            yield planned
        self.position = len(self.work)

    async def _step(self) -> bool:
        """Make the next attempt; False where there is none, or none may begin."""
        again = self.control.again
        planned = again.popleft() if again else next(self.queue, None)
        if self.stop.asked:
            return False
        if planned is None:
            return await self._others_let_go()
        if self.sharing.is_elsewhere(planned):
            self.control.leave_to_others(planned)
            return True
        self.held[id(planned)] = planned
        configuration_id = planned.configuration.configuration_id
        try:
            if not await self._is_admitted(planned):
                return False
        finally:
            del self.held[id(planned)]
        if self.workers.present > self.workers.wanted:  # retuned meanwhile: somebody else makes it
            again.appendleft(planned)
        elif configuration_id not in self.stopped and not self.control.passes_over(planned):
            await self._claim(planned)
        return True

    async def _claim(self, planned: Planned) -> None:
        """Make an attempt, unless another collector makes it, or has used the budget up meanwhile."""
        may_start = partial(self._may_start, planned)
        try:
            claimed = await self.sharing.claim(planned, may_start, _prompt_bytes(planned))
        except StoreError as error:  # nothing was asked yet
            self._refused(error)
            self.control.again.append(planned)
            return
        if claimed:
            await self._attempt(planned)
        elif claimed is None:
            self.control.again.appendleft(planned)
        else:
            self.control.leave_to_others(planned)

    async def _others_let_go(self) -> bool:
        """Wait, with nothing left to begin, while others hold attempts that may come free; False at the end."""
        if self.sharing.waiting and not self.stop.asked:
            await self.settled.wait()
        return bool(self.sharing.waiting or self.control.again) and not self.stop.asked

    async def _look_at_others(self) -> None:
        """See what other collectors have done, and let those look again who wait for it."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                free = await self.sharing.look(self.journal, self._look_at_batches)
            except OSError as error:  # the disk is lost: what is in flight was paid for
                self._refused(_lost(self.spool.folder, error))
                continue
            if free:
                self.control.again.extend(free)
            if free is not None or self.stop.asked:
                self.progress.elsewhere = self.sharing.n_made
                self.wake()

    def _look_at_batches(self) -> None:
        for batches in self.connected.batches:
            batches.client.take_up()

    async def _is_admitted(self, planned: Planned) -> bool:
        """Wait until the budget has room and nothing holds attempts back, both at one moment."""
        while await self._fits(planned) and await self.control.may_begin():
            if self._may_start(planned):  # others who waited may have begun
                return True
        return False

    def _may_start(self, planned: Planned, *, alone: bool = False) -> bool:
        configuration_id = planned.configuration.configuration_id
        return self.budget.may_start(configuration_id, _prompt_bytes(planned), alone=alone)

    async def _fits(self, planned: Planned) -> bool:
        """Wait until the budget has room; no room and nothing in flight is the end of it.

        Other collectors may take less of it than they have reserved.
        """
        while not self._may_start(planned):
            others = self.sharing.is_awaited and self._may_start(planned, alone=True)
            if not self.progress.in_flight and not others:
                configuration_id = planned.configuration.configuration_id
                self.note(self.budget.verdict(configuration_id, _prompt_bytes(planned)))
                self.stop.asked = max(self.stop.asked, 1)
            if self.stop.asked:
                return False
            await self.settled.wait()
        return True

    async def _attempt(self, planned: Planned) -> None:
        configuration_id, item_id, trial = planned.key
        started_at, start = self.now(), self.clock()
        begun = Attempt(
            run_id=self.spool.run_id,
            configuration_id=configuration_id,
            item_id=item_id,
            trial=trial,
            started_at=started_at,
        )
        try:
            self.spool.append(begun)
        except StoreError as error:  # nothing was asked yet
            self._refused(error)
            self.control.again.append(planned)
            self.sharing.withdraw(planned)
            return
        tab = self.budget.begin(configuration_id, _prompt_bytes(planned))
        self.sharing.open(planned, tab)
        self.progress.in_flight += 1
        CURRENT_ATTEMPT.set(CurrentAttempt(planned.configuration, item_id, trial))
        kept, trace_id = self._kept(planned)
        session = attempt.open_session(
            self.plan, planned, self.connected, kept, tab, meter=self.metering.meter
        )
        flight = self.control.begin(planned, session)
        try:
            ended = await self._make(flight)
        except BaseException as error:
            if kept is not None:
                kept.close()
            if isinstance(error, asyncio.CancelledError):
                self._write_paid(flight, started_at, trace_id, kept)
            self.sharing.give_back(planned, tab)
            raise
        finally:
            self.control.end(flight)
            self.progress.in_flight -= 1
            self.progress.add(c for c in session.calls if c.ordinal not in session.recalled)
            self.progress.add(session.broken)
            tab.close(is_whole=not session.recalled)
            self.wake()
        if tab.was_stopped and kept is not None:  # with room it goes on from what is kept
            await session.energy()
            kept.close()
            self.sharing.give_back(planned, tab)
            self.control.again.append(planned)
            return
        # the time of an attempt that goes on from replies of an earlier run says nothing
        is_timed = self.connected.is_timed(planned.target) and not session.recalled
        e2e_s = self.clock() - start if is_timed else None
        made = _Made(flight, ended, started_at, e2e_s, kept, trace_id, tab)
        if not self.metering.measures:
            await self._write(made)
            return
        # the counters lag by an update: the worker goes on, and the trace follows
        self.background.begin(self._write(made))

    def _write_paid(
        self, flight: InFlight, started_at: dt.datetime, trace_id: str, kept: AttemptJournal | None
    ) -> None:
        """Write what an attempt took that is cut off as the run ends: it is made again, and was paid so far."""
        is_paid = self.connected.is_timed(flight.planned.target)  # a batch goes on without us
        if not is_paid or not flight.session.calls:
            return
        trace = attempt.trace_of(
            self.spool.run_id,
            flight.planned,
            flight.session,
            attempt.cancelled(flight.session),
            started_at=started_at,
            e2e_s=None,
            trace_id=trace_id,
            unused=[call for call, _ in attempt.unused(flight.session, kept)],
        )
        is_written = self._keep(trace)
        if is_written and kept is not None and not kept.has_replies:  # the trace tells it all
            self.journal.settle(flight.planned.key, kept)

    def _kept(self, planned: Planned) -> tuple[AttemptJournal | None, str]:
        """Open the replies of an attempt, where a kill or a failure could lose any, and name its trace."""
        named = attempt.trace_id(self.spool.run_id, planned, self.control.tries.get(planned.key, 0))
        if not self.metering.measures and not _is_long(planned):
            return None, named
        kept = self.journal.open(planned.key, named)
        return kept, kept.trace_id

    async def _write(self, made: "_Made") -> None:
        """Write the trace of an attempt with the energy that it took, and count it."""
        flight, ended = made.flight, made.ended
        planned, session = flight.planned, flight.session
        unused = attempt.unused(session, made.kept)
        trace = attempt.trace_of(
            self.spool.run_id,
            planned,
            session,
            ended,
            started_at=made.started_at,
            e2e_s=made.e2e_s,
            trace_id=made.trace_id,
            unused=[call for call, _ in unused],
            energy=await self.metering.settle(session, unused),
        )
        is_written = self._keep(trace)
        self.sharing.close(planned, made.tab, failed=not is_settled(trace.error_type))
        if made.kept is not None:
            made.kept.close()
            # what a passing failure has cut short is made again, and goes on from its replies
            settles = is_settled(trace.error_type) or not made.kept.has_replies
            if is_written and settles:  # else its replies are the only copy on the disk
                self.journal.settle(planned.key, made.kept)
        failed = trace.error_type is not None
        self.control.note(planned, failed=failed)
        self._explain(planned, trace)
        self.progress.done += 1
        if not flight.cancelled:
            self._watch(planned, ended.error)
            self._watch_helpers(trace)
        self._tell()

    def _explain(self, planned: Planned, trace: Trace) -> None:
        """Remember why an attempt failed, or has no score."""
        example = f"{planned.task.name}/{planned.item.item}, trial {planned.trial}, {planned.configuration.configuration}"
        if trace.error_type is not None:
            is_final = is_settled(trace.error_type)
            said = trace.error_message or "no reason was given"
            self.failures.add(trace.error_type, said, example, is_final=is_final)
        elif trace.scores and trace.score is None:
            self.n_unscored += 1
            said = trace.scores[0].explanation or f"{trace.scores[0].scorer} gave no score"
            self.failures.add("not scored", said, example)

    async def _make(self, flight: InFlight) -> attempt.Ended:
        """Make an attempt; one that somebody cancelled ends as data, with what it got so far."""
        try:
            return await attempt.make(flight.session, flight.planned)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.cancelled or self.stop.is_now or task is None:
                raise
            task.uncancel()
            return attempt.cancelled(flight.session)

    def _tell(self) -> None:
        """Show how far it is, and how the models stand."""
        progress = self.progress
        progress.spent_usd, progress.n_unpriced = self.budget.spent_usd, self.budget.n_unpriced
        progress.batches = "; ".join(b.describe() for b in self.connected.batches)
        progress.spent_j, progress.models = self.budget.spent_j, self.connected.states
        progress.elapsed_s, progress.status = self.control.active_s(), self.control.status_now
        if self.on_progress is not None:
            self.on_progress(progress)

    async def _keep_telling(self) -> None:
        """Show it while nothing ends too: a collection that only retries says so."""
        while True:
            await asyncio.sleep(_TELL_S)
            self._tell()

    def _watch(self, planned: Planned, error: ProviderError | None) -> None:
        """Stop a configuration whose failures say that the next item would fail too."""
        configuration = planned.configuration
        configuration_id = configuration.configuration_id
        breaker = self.breakers.setdefault(configuration_id, Breaker(2 * self.plan.at_once + 5))
        times = breaker.note(error)
        if times is None or configuration_id in self.stopped:
            return
        if error is not None and error.kind in FATAL:
            self._give_up(planned, error)
            return
        self.stopped.add(configuration_id)
        self.note(
            f"stopped {configuration.configuration!r} after {times} failures in a row: {error}"
        )

    def _give_up(self, planned: Planned, error: ProviderError) -> None:
        """Stop all that asks a model, or a server, of which every request would fail; the others go on."""
        asked, whole = planned.target, error.kind in UNREACHABLE
        for configuration, target, _ in self.work.configurations:
            if target.place_id == asked.place_id and (whole or target.model == asked.model):
                self.stopped.add(configuration.configuration_id)
        of = asked.provider_name if whole else f"{asked.model} ({asked.provider_name})"
        self.note(f"nothing more is asked of {of}: {error}")

    def _watch_helpers(self, trace: Trace) -> None:
        """End the run where a judge cannot be asked for good: answers would be paid, and have no score."""
        for call in trace.calls:
            if call.role == "judge" and call.error_type in FATAL:
                self.note(
                    f"stopped, as the judge {call.model} cannot be asked: {call.error_message}"
                )
                self.stop.asked = max(self.stop.asked, 1)
                return


def _prompt_bytes(planned: Planned) -> int:
    """About how long the first prompt of an attempt is: its item, and what stands around it."""
    return len(planned.item.input.encode()) + _AROUND_BYTES


def _is_long(planned: Planned) -> bool:
    """Say whether a kill in the middle of an attempt could lose a reply: it makes calls after the first."""
    if getattr(planned.strategy, "most_calls", 1) != 1:
        return True
    return not grading.at_once(planned.task, planned.item)
