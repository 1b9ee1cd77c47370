"""One launch of the runner under way: workers make the attempts, one writer keeps what comes."""

import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import platform
import signal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from workbench.errors import ProviderError, ProviderRejected
from workbench.records import Attempt, Run, json_text
from workbench.runner import attempt
from workbench.runner.fleet import Fleet
from workbench.runner.journal import Journal
from workbench.runner.limits import Budget
from workbench.runner.plan import Key, Planned, Work
from workbench.runner.progress import CollectReport, Progress
from workbench.runner.resume import Leftovers
from workbench.runner.session import Session
from workbench.spool import SpoolWriter

_COMMIT_S = 0.05
_RAMP_S = 0.001
_REFUSALS = 5  # the same refusal so many times in a row stops a configuration


class Stop:
    """A way to end a collection from outside: once is after what is in flight, twice is now."""

    def __init__(self) -> None:
        """Begin without a wish to stop."""
        self.asked = 0
        self._now: Callable[[], object] | None = None

    def bind(self, now: Callable[[], object]) -> None:
        """Say what ends the collection at once."""
        self._now = now

    def __call__(self) -> None:
        """Ask to stop; ask twice to cancel what is in flight."""
        self.asked += 1
        if self.asked > 1 and self._now is not None:
            self._now()


def _versions() -> str:
    names = ("trace-workbench", "httpx", "httpx-aiohttp", "aiohttp")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return json_text(found)


class Collection:
    """One launch under way."""

    def __init__(
        self, *, work: Work, spool: SpoolWriter, fleet: Fleet, budget: Budget, known: set[Key],
        stop: Stop, on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float], now: Callable[[], dt.datetime],
    ) -> None:  # fmt: skip
        """Prepare; nothing is asked or written yet."""
        self.work, self.plan, self.spool, self.fleet = work, work.plan, spool, fleet
        self.budget, self.known, self.stop = budget, known, stop
        self.on_progress, self.clock, self.now = on_progress, clock, now
        self.begun_s = clock()
        self.progress = Progress(planned=len(work), spent_usd=budget.spent_usd)
        self.progress.before = sum(p.key in known for p in work)
        self.notes: list[str] = []
        self.stopped: set[str] = set()
        self.refusals: dict[str, tuple[str, int]] = {}
        self.queue = self._missing()
        self.settled = asyncio.Event()
        self.journal = Journal(spool.folder, spool.run_id)
        self.record = Run(
            run_id=spool.run_id, kind="collect", source="runner", plan=self.plan.as_json(),
            status="running", started_at=now(), host=platform.node() or None,
            platform=platform.platform(), versions=_versions(),
            n_planned=len(work) - self.progress.before,
        )  # fmt: skip

    async def run(self, left: Leftovers) -> CollectReport:
        """Make the missing attempts; `left` is what earlier launches left in the spool."""
        repeated = len(left.in_flight & {p.key for p in self.work} - self.known)
        self._write_head(left)
        status = "failed"
        why: str | None = "the program failed"
        try:
            with self._signals():
                await self._work()
            status, why = (
                ("done", None) if not self.progress.left else ("cancelled", "stopped early")
            )
        except asyncio.CancelledError:
            status, why = "cancelled", "cancelled with attempts in flight"
            if self.stop.asked < 2:
                raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise
        finally:
            message = None if why is None else "; ".join((why, *self.notes))
            ended = {"status": status, "ended_at": self.now(), "error_message": message}
            self.spool.append(msgspec.structs.replace(self.record, **ended))
            self._sync()
        p = self.progress
        return CollectReport(
            run_id=self.spool.run_id, status=status, planned=p.planned, before=p.before,
            collected=p.done, failed=p.failed, left=p.left, repeated=repeated,
            elapsed_s=self.clock() - self.begun_s, input_tokens=p.input_tokens,
            output_tokens=p.output_tokens, spent_usd=p.spent_usd, n_unpriced=p.n_unpriced,
            notes=tuple(self.notes),
        )  # fmt: skip

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
        count = min(self.plan.concurrency, self.progress.left)
        committer = asyncio.create_task(self._commit())
        workers = [asyncio.create_task(self._worker(place)) for place in range(count)]
        try:
            working = asyncio.gather(*workers)
            either: tuple[asyncio.Future[Any], ...] = (working, committer)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if committer.done():
                committer.result()  # raises: the disk refused
            await working
        finally:
            for task in (*workers, committer):
                task.cancel()
            await asyncio.gather(*workers, committer, return_exceptions=True)

    async def _commit(self) -> None:
        """Force the lines of the last moments to the disk together."""
        while True:
            await asyncio.sleep(_COMMIT_S)
            await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        """Force the spool to the disk; only then the replies of finished attempts may go."""
        settled = self.journal.take_settled()
        self.spool.sync()
        self.journal.sweep(settled)

    def _missing(self) -> Iterator[Planned]:
        for planned in self.work:
            if planned.key not in self.known:
                yield planned

    async def _worker(self, place: int) -> None:
        # all at once would delay one another, and so be timed wrongly, or trip a rate limit
        await asyncio.sleep(place * _RAMP_S)
        for planned in self.queue:
            configuration_id = planned.configuration.configuration_id
            if self.stop.asked or not await self._fits(configuration_id):
                return
            if configuration_id not in self.stopped:
                await self._attempt(planned)

    async def _fits(self, configuration_id: str) -> bool:
        """Wait until the budget has room; no room and nothing in flight is the end of it."""
        while not self.budget.may_start(configuration_id):
            if not self.progress.in_flight:
                spent = f"${self.budget.spent_usd or 0.0:.4f} of ${self.plan.budget_usd:g}"
                self._note(f"the budget is used up: {spent} spent; raise --budget-usd to go on")
                self.stop.asked = max(self.stop.asked, 1)
            if self.stop.asked:
                return False
            await self.settled.wait()
        return True

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    async def _attempt(self, planned: Planned) -> None:
        configuration_id, item_id, trial = planned.key
        started_at, start = self.now(), self.clock()
        self.spool.append(
            Attempt(
                run_id=self.spool.run_id, configuration_id=configuration_id, item_id=item_id,
                trial=trial, started_at=started_at,
            )
        )  # fmt: skip
        self.budget.begin(configuration_id)
        self.progress.in_flight += 1
        kept = self.journal.open(planned.key) if _is_long(planned) else None
        session = attempt.open_session(self.plan, planned, self.fleet, kept)
        try:
            ended = await attempt.make(session, planned)
        finally:
            self.progress.in_flight -= 1
            self.budget.settle(configuration_id, session.calls)
            self.settled.set()
            self.settled = asyncio.Event()
            if kept is not None:
                kept.close()
        e2e_s = self.clock() - start
        self.spool.append(
            attempt.trace_of(
                self.spool.run_id, planned, session, ended, started_at=started_at, e2e_s=e2e_s
            )
        )
        if kept is not None:
            self.journal.settle(kept)
        self._account(planned, session, ended.error)

    def _account(self, planned: Planned, session: Session, error: ProviderError | None) -> None:
        progress = self.progress
        progress.done += 1
        progress.failed += error is not None
        progress.add(session.calls)
        progress.spent_usd, progress.n_unpriced = self.budget.spent_usd, self.budget.n_unpriced
        progress.elapsed_s = self.clock() - self.begun_s
        self._watch(planned, error)
        if self.on_progress is not None:
            self.on_progress(progress)

    def _watch(self, planned: Planned, error: ProviderError | None) -> None:
        """Stop a configuration that fails for the same reason again and again."""
        configuration = planned.configuration
        configuration_id = configuration.configuration_id
        if error is None:
            self.refusals.pop(configuration_id, None)
            return
        said = str(error) if isinstance(error, ProviderRejected) else error.kind
        before, times = self.refusals.get(configuration_id, (said, 0))
        times = times + 1 if before == said else 1
        self.refusals[configuration_id] = (said, times)
        most = _REFUSALS if isinstance(error, ProviderRejected) else 2 * self.plan.concurrency + 5
        if times >= most and configuration_id not in self.stopped:
            self.stopped.add(configuration_id)
            self._note(
                f"stopped {configuration.configuration!r} after {times} failures in a row: {error}"
            )


def _is_long(planned: Planned) -> bool:
    """Say whether a kill in the middle of an attempt could lose a reply: it makes calls after the first."""
    return getattr(planned.strategy, "most_calls", 1) != 1
