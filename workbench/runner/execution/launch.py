"""A launch of the runner: workers make the attempts, one writer appends traces to the spool."""

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
from workbench.runner.execution.shared_work import UPDATE_S, SharedWork
from workbench.runner.execution.stop_signal import StopSignal
from workbench.runner.execution.worker_pool import WorkerPool
from workbench.runner.limits import AttemptAccount, Breaker, Budget
from workbench.runner.limits.failure_reasons import Failures
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning.plan import Planned, Work
from workbench.runner.planning.resume import Leftovers
from workbench.runner.planning.target import IN_PROCESS
from workbench.runner.providers.current_attempt import CURRENT_ATTEMPT, AttemptKey, CurrentAttempt
from workbench.runner.providers.protocol import FATAL, UNREACHABLE
from workbench.spool import SpoolWriter, is_settled

_LOG = logging.getLogger(__name__)
DISK_WAIT_S = 120.0  # at the end of a run, for a full disk to take traces that were paid for
_COMMIT_S = 0.05
_RAMP_S = 0.001
_PROGRESS_S = 1.0
_PROMPT_OVERHEAD_BYTES = 500  # instructions of the task and the strategy around an item's prompt


def _spool_lost(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the spool {folder} cannot be read: {error.strerror or error}; if its disk was unmounted,"
        " mount it again"
    )


class _EndedAttempt(NamedTuple):
    """An attempt that has ended and whose trace is not written yet.

    Attributes:
        e2e_s: null where the duration does not describe the model, as in a batch.
        journal: its replies on the disk until the trace is written; None where it has no journal.
    """

    flight: InFlight
    result: attempt.Ended
    started_at: dt.datetime
    e2e_s: float | None
    journal: AttemptJournal | None
    trace_id: str
    account: AttemptAccount


class Launch(LaunchState):
    """One launch of the runner.

    Attributes:
        control: executes the commands that arrive while the launch runs.
    """

    def __init__(
        self,
        *,
        work: Work,
        spool: SpoolWriter,
        connected: ConnectedModels,
        budget: Budget,
        known: set[AttemptKey],
        stop: StopSignal,
        on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
        metering: Metering,
        sharing: SharedWork,
        pilot: Pilot | None = None,
    ) -> None:
        """Prepare the launch; no request is sent and nothing is written yet."""
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
        self.failures = Failures()
        self.n_unscored = 0
        self.breakers: dict[str, Breaker] = {}
        self.queue = self._missing()
        self.control = Controller(self, commands.execute, pilot=pilot)
        self.journal = Journal(spool.folder, spool.run_id, known, may_wait=self._may_wait)
        stop.at_once = bool(connected.batches)
        for batches in connected.batches:
            batches.client.active = lambda: self.progress.in_flight

    async def run(self, leftovers: Leftovers) -> CollectReport:
        """Make the missing attempts, and return the report.

        Args:
            leftovers: runs and attempts that earlier launches left unfinished in the spool.
        """
        missing = leftovers.in_flight - self.known
        repeated = len(missing & {p.key for p in self.work}) if missing else 0
        self._write_head(leftovers)
        with self._signals():
            status = await self._run_and_record_status()
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

    async def _run_and_record_status(self) -> str:
        """Run the workers, write the run's final record and return its status."""
        status, why = "failed", "the program failed"
        try:
            await self._run_workers()
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
            status = await self._finish(status, why)
        return status

    async def _finish(self, status: str, why: str) -> str:
        """Write the remaining traces, the energy balances and the run's final record.

        The final record is written even where an error interrupts the rest.
        """
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
            message = "; ".join((why, *self.notes)) if why else None
            fields = {"status": status, "ended_at": self.now(), "error_message": message}
            try:
                await self._wait_for_disk()
                self.spool.append(msgspec.structs.replace(self.record, **fields))
                self._sync()
            finally:
                self.control.close(status)
        return status

    def _write_head(self, leftovers: Leftovers) -> None:
        """Write the records that traces refer to, and the final records of killed runs."""
        for run in leftovers.killed:
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
        handled = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self.stop)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    async def _run_workers(self) -> None:
        """Run the workers; the first exception of the program ends them all."""
        # attempts that wait for a batch use no resources, and a fuller batch is sent sooner
        at_once = POOL if self.connected.batches else self.plan.at_once
        self.workers.resize(min(at_once, max(self.progress.left, 1)), self.progress.left)
        self.control.open()
        services = (
            self._commit(),
            self._report_every_second(),
            self.control.serve(),
            self.background.watch(),
            self._watch_other_collectors(),
        )
        await self.workers.run(*[asyncio.create_task(service) for service in services])
        await self.background.drain()

    async def _commit(self) -> None:
        """Sync the spool every `_COMMIT_S` seconds, so that many lines share one fsync."""
        while True:
            await asyncio.sleep(_COMMIT_S)
            if self.spool.retry() is None:
                try:
                    await asyncio.to_thread(self._sync)
                except StoreError as error:
                    self._stop_on_disk_error(error)

    def _sync(self) -> None:
        """Sync the spool, and then delete the journals of the attempts it holds."""
        settled = self.journal.take_settled()
        self.spool.sync()
        self.journal.sweep(settled)

    def _stop_on_disk_error(self, error: StoreError) -> None:
        """Start no more attempts; traces of those in flight wait in memory for the disk."""
        if str(error) not in self.notes:
            _LOG.warning("%s", error)
        self.note(str(error))
        self.stop.n_requests = max(self.stop.n_requests, 1)
        self.wake()

    def _may_wait(self, error: StoreError, waited_s: float) -> bool:
        """Whether an attempt goes on waiting for a disk that does not take its replies."""
        self._stop_on_disk_error(error)
        return waited_s < DISK_WAIT_S and self.stop.n_requests < 2

    def _write_trace(self, trace: Trace) -> bool:
        """Write a trace; False where it waits in memory until the disk takes it."""
        error = self.spool.offer(trace)
        if error is not None:
            self._stop_on_disk_error(error)
        return error is None

    async def _wait_for_disk(self) -> None:
        """Wait until the disk has taken the traces that wait in memory.

        Raises:
            StoreError: the disk stayed full for `DISK_WAIT_S`, or the user asked twice to stop.
        """
        until = self.clock() + DISK_WAIT_S
        while (error := self.spool.retry()) is not None:
            if self.clock() > until or self.stop.n_requests > 1:
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
        requeued = self.control.requeued
        planned = requeued.popleft() if requeued else next(self.queue, None)
        if self.stop.n_requests:
            return False
        if planned is None:
            return await self._wait_for_other_collectors()
        if self.sharing.is_claimed_elsewhere(planned):
            self.control.leave_to_others(planned)
            return True
        self.waiting_for_start[id(planned)] = planned
        configuration_id = planned.configuration.configuration_id
        try:
            if not await self._is_admitted(planned):
                return False
        finally:
            del self.waiting_for_start[id(planned)]
        if self.workers.present > self.workers.wanted:  # fewer workers now: another one makes it
            requeued.appendleft(planned)
        elif configuration_id not in self.stopped and not self.control.skips(planned):
            await self._claim(planned)
        return True

    async def _claim(self, planned: Planned) -> None:
        """Make an attempt unless another collector makes it or has used up the budget."""
        may_start = partial(self._may_start, planned)
        try:
            claimed = await self.sharing.claim(planned, may_start, _prompt_bytes(planned))
        except StoreError as error:  # no request was sent yet
            self._stop_on_disk_error(error)
            self.control.requeued.append(planned)
            return
        if claimed:
            await self._attempt(planned)
        elif claimed is None:
            self.control.requeued.appendleft(planned)
        else:
            self.control.leave_to_others(planned)

    async def _wait_for_other_collectors(self) -> bool:
        """Wait while other collectors hold attempts that may be released; False at the end."""
        if self.sharing.waiting and not self.stop.n_requests:
            await self.attempt_ended.wait()
        return bool(self.sharing.waiting or self.control.requeued) and not self.stop.n_requests

    async def _watch_other_collectors(self) -> None:
        """Read the claims of other collectors every `UPDATE_S` seconds, and wake the workers."""
        while True:
            await asyncio.sleep(UPDATE_S)
            try:
                released = await self.sharing.update(self.journal, self._reload_batches)
            except OSError as error:  # disk lost: attempts in flight go on, they are paid for
                self._stop_on_disk_error(_spool_lost(self.spool.folder, error))
                continue
            if released:
                self.control.requeued.extend(released)
            if released is not None or self.stop.n_requests:
                self.progress.elsewhere = self.sharing.n_made
                self.wake()

    def _reload_batches(self) -> None:
        for batches in self.connected.batches:
            batches.client.take_up()

    async def _is_admitted(self, planned: Planned) -> bool:
        """Wait until the budget has room and the controller lets attempts begin, both at once."""
        while await self._wait_for_budget(planned) and await self.control.may_begin():
            if self._may_start(planned):  # other workers may have begun meanwhile
                return True
        return False

    def _may_start(self, planned: Planned, *, alone: bool = False) -> bool:
        configuration_id = planned.configuration.configuration_id
        return self.budget.may_start(configuration_id, _prompt_bytes(planned), alone=alone)

    async def _wait_for_budget(self, planned: Planned) -> bool:
        """Wait until the budget has room; False where it never will.

        Room may still come while attempts are in flight, here or in another collector: they may
        take less than was reserved for them.
        """
        while not self._may_start(planned):
            others = self.sharing.is_awaited and self._may_start(planned, alone=True)
            if not self.progress.in_flight and not others:
                configuration_id = planned.configuration.configuration_id
                self.note(self.budget.verdict(configuration_id, _prompt_bytes(planned)))
                self.stop.n_requests = max(self.stop.n_requests, 1)
            if self.stop.n_requests:
                return False
            await self.attempt_ended.wait()
        return True

    async def _attempt(self, planned: Planned) -> None:
        configuration_id, item_id, trial = planned.key
        started_at, start = self.now(), self.clock()
        record = Attempt(
            run_id=self.spool.run_id,
            configuration_id=configuration_id,
            item_id=item_id,
            trial=trial,
            started_at=started_at,
        )
        try:
            self.spool.append(record)
        except StoreError as error:  # no request was sent yet
            self._stop_on_disk_error(error)
            self.control.requeued.append(planned)
            self.sharing.withdraw(planned)
            return
        account = self.budget.begin(configuration_id, _prompt_bytes(planned))
        self.sharing.open(planned, account)
        self.progress.in_flight += 1
        CURRENT_ATTEMPT.set(CurrentAttempt(planned.configuration, item_id, trial))
        journal, trace_id = self._open_journal(planned)
        session = attempt.open_session(
            self.plan,
            planned,
            self.connected,
            journal,
            account,
            meter=self.metering.meter,
            own_tools=self.work.own_tools,
        )
        flight = self.control.begin(planned, session)
        try:
            result = await self._make(flight)
        except BaseException as error:
            if journal is not None:
                journal.close()
            if isinstance(error, asyncio.CancelledError):
                self._write_interrupted(flight, started_at, trace_id, journal)
            self.sharing.give_back(planned, account)
            raise
        finally:
            self.control.end(flight)
            self.progress.in_flight -= 1
            self.progress.add(c for c in session.calls if c.ordinal not in session.recalled)
            self.progress.add(session.broken)
            account.close(is_whole=not session.recalled)
            self.wake()
        if account.was_stopped and journal is not None:  # continues if the budget is raised
            await session.energy()
            journal.close()
            self.sharing.give_back(planned, account)
            self.control.requeued.append(planned)
            return
        # replies of an earlier run took no time here, so the duration would be too short
        is_timed = self.connected.is_timed(planned.target) and not session.recalled
        e2e_s = self.clock() - start if is_timed else None
        ended = _EndedAttempt(flight, result, started_at, e2e_s, journal, trace_id, account)
        if not self.metering.measures:
            await self._write(ended)
            return
        # energy counters lag by one update: the worker continues, the trace is written later
        self.background.begin(self._write(ended))

    def _write_interrupted(
        self,
        flight: InFlight,
        started_at: dt.datetime,
        trace_id: str,
        journal: AttemptJournal | None,
    ) -> None:
        """Write the calls that an attempt had paid for when the run was cancelled."""
        is_paid = self.connected.is_timed(flight.planned.target)  # a batch continues at the server
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
            unused=[call for call, _ in attempt.unused(flight.session, journal)],
        )
        is_written = self._write_trace(trace)
        if is_written and journal is not None and not journal.has_replies:  # the trace has it all
            self.journal.settle(flight.planned.key, journal)

    def _open_journal(self, planned: Planned) -> tuple[AttemptJournal | None, str]:
        """Open the journal of an attempt and return it with the id of the attempt's trace.

        There is no journal where neither a kill nor a failure could lose a reply.
        """
        n_tries = self.control.tries.get(planned.key, 0)
        trace_id = attempt.trace_id(self.spool.run_id, planned, n_tries)
        if not self.metering.measures and not _is_long(planned):
            return None, trace_id
        journal = self.journal.open(planned.key, trace_id)
        return journal, journal.trace_id

    async def _write(self, ended: "_EndedAttempt") -> None:
        """Write the trace of an ended attempt with its energy, and count it."""
        flight, journal = ended.flight, ended.journal
        planned, session = flight.planned, flight.session
        unused = attempt.unused(session, journal)
        trace = attempt.trace_of(
            self.spool.run_id,
            planned,
            session,
            ended.result,
            started_at=ended.started_at,
            e2e_s=ended.e2e_s,
            trace_id=ended.trace_id,
            unused=[call for call, _ in unused],
            energy=await self.metering.settle(session, unused),
        )
        is_written = self._write_trace(trace)
        self.sharing.close(planned, ended.account, failed=not is_settled(trace.error_type))
        if journal is not None:
            journal.close()
            # an attempt that a temporary failure interrupted continues from its journal
            settles = is_settled(trace.error_type) or not journal.has_replies
            if is_written and settles:  # else the journal is the only copy on the disk
                self.journal.settle(planned.key, journal)
        failed = trace.error_type is not None
        self.control.note(planned, failed=failed)
        self._record_reason(planned, trace)
        self.progress.done += 1
        if not flight.cancelled:
            self._check_breaker(planned, ended.result.error)
            self._check_judges(trace)
        self._report_progress()

    def _record_reason(self, planned: Planned, trace: Trace) -> None:
        """Record why an attempt failed, or has no score."""
        example = (
            f"{planned.task.name}/{planned.item.item}, trial {planned.trial}, "
            f"{planned.configuration.configuration}"
        )
        if trace.error_type is not None:
            is_final = is_settled(trace.error_type)
            reason = trace.error_message or "no reason was given"
            self.failures.add(trace.error_type, reason, example, is_final=is_final)
        elif trace.scores and trace.score is None:
            self.n_unscored += 1
            reason = trace.scores[0].explanation or f"{trace.scores[0].scorer} gave no score"
            self.failures.add("not scored", reason, example)

    async def _make(self, flight: InFlight) -> attempt.Ended:
        """Make an attempt; a cancelled one ends with an error and the calls it made so far."""
        try:
            return await attempt.make(flight.session, flight.planned)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.cancelled or self.stop.is_now or task is None:
                raise
            task.uncancel()
            return attempt.cancelled(flight.session)

    def _report_progress(self) -> None:
        """Update the progress and the state of the models, and call `on_progress`."""
        progress = self.progress
        progress.spent_usd, progress.n_unpriced = self.budget.spent_usd, self.budget.n_unpriced
        progress.batches = "; ".join(b.describe() for b in self.connected.batches)
        progress.spent_j, progress.models = self.budget.spent_j, self.connected.states
        progress.elapsed_s, progress.status = self.control.active_s(), self.control.status_now
        if self.on_progress is not None:
            self.on_progress(progress)

    async def _report_every_second(self) -> None:
        """Report progress every second, so that retries show while no attempt ends."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._report_progress()

    def _check_breaker(self, planned: Planned, error: ProviderError | None) -> None:
        """Stop a configuration whose failures predict that the next item would fail too."""
        configuration = planned.configuration
        configuration_id = configuration.configuration_id
        breaker = self.breakers.setdefault(configuration_id, Breaker(2 * self.plan.at_once + 5))
        times = breaker.note(error)
        if times is None or configuration_id in self.stopped:
            return
        if error is not None and error.kind in FATAL:
            self._stop_model(planned, error)
            return
        self.stopped.add(configuration_id)
        self.note(
            f"stopped {configuration.configuration!r} after {times} failures in a row: {error}"
        )

    def _stop_model(self, planned: Planned, error: ProviderError) -> None:
        """Stop every configuration of a model, or of an unreachable server; others continue."""
        failed = planned.target
        is_server = error.kind in UNREACHABLE
        for configuration, target, _ in self.work.configurations:
            if target.place_id == failed.place_id and (is_server or target.model == failed.model):
                self.stopped.add(configuration.configuration_id)
        name = failed.provider_name if is_server else f"{failed.model} ({failed.provider_name})"
        self.note(f"no more requests are sent to {name}: {error}")

    def _check_judges(self, trace: Trace) -> None:
        """End the run where a judge fails for good: answers would be paid for and not scored."""
        for call in trace.calls:
            if call.role == "judge" and call.error_type in FATAL:
                self.note(
                    f"stopped, as the judge {call.model} cannot be asked: {call.error_message}"
                )
                self.stop.n_requests = max(self.stop.n_requests, 1)
                return


def _prompt_bytes(planned: Planned) -> int:
    """Estimate the length of an attempt's first prompt from its item."""
    return len(planned.item.input.encode()) + _PROMPT_OVERHEAD_BYTES


def _is_long(planned: Planned) -> bool:
    """Whether an attempt may make calls after its first, so that a kill could lose a reply."""
    if getattr(planned.strategy, "most_calls", 1) != 1:
        return True
    return not grading.at_once(planned.task, planned.item)
