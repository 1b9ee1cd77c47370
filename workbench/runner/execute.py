"""Makes a plan's attempts, a bounded number at a time, and writes each one down as it ends."""

import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from workbench.errors import ConfigError, ProviderError, ProviderRejected
from workbench.records import Attempt, Call, Run, Trace, json_text
from workbench.runner import templates
from workbench.runner.limits import Budget, Caller, PriceOf
from workbench.runner.plan import Key, Plan, Planned, Work, expand
from workbench.runner.progress import CollectReport, Progress
from workbench.runner.resume import Leftovers, look
from workbench.runner.session import Outcome, Provider, Session
from workbench.spool import SpoolWriter

Done = Callable[[Collection[str]], Collection[Key]]
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


async def collect(
    plan: Plan,
    *,
    spool: SpoolWriter,
    done: Done | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    price: PriceOf | None = None,
    work: Work | None = None,
    provider: Provider | None = None,
    environ: Mapping[str, str] = os.environ,
    rng: random.Random | None = None,
    stop: Stop | None = None,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> CollectReport:
    """Make the attempts of a plan that are missing, and write them to the spool.

    A failed call is data: its trace holds the error. A configuration that is refused for the same reason again
    and again is stopped; the run ends early when the budget is used up. Ctrl-C once waits for what is in
    flight, twice cancels it.

    Args:
        plan: what is asked.
        spool: where lines go; its run id is the run's.
        done: gives the keys that the store holds for some configuration ids (`Store.done`); what lies in
            the spool is looked up here.
        on_progress: called whenever an attempt has ended.
        price: gives the cost of a call in USD, None where unknown; needed with a budget.
        work: the plan expanded; made from the names in the plan where None.
        provider: made from the plan where None.
        stop: ends the collection from outside; SIGINT and SIGTERM call it too.
        environ: where the key is looked up.
        rng: for the jitter of waits.
        clock: monotonic seconds.
        now: the time of day in UTC.
    """
    work = work or expand(plan)
    key = plan.api_key(environ)
    if key and key in plan.as_json():
        raise ConfigError("the plan holds the key itself; only its variable's name belongs there")
    budget = Budget(plan.budget_usd, price)
    for configuration, strategy in work.configurations:
        n_calls = getattr(strategy, "most_calls", 1)
        typical = _typical(plan, configuration.model, n_calls)
        budget.expect(configuration.configuration_id, typical)
    left = look(spool.folder)
    known = left.settled | set(done(work.configuration_ids) if done else ())
    stop = stop or Stop()
    asked = provider or _provider(plan, key)
    caller = Caller(
        asked, slots=plan.concurrency, backoff=plan.backoff, rng=rng or random.SystemRandom(),
        machine=plan.machine, clock=clock,
    )  # fmt: skip
    collection = _Collection(
        work=work, spool=spool, caller=caller, provider=asked, budget=budget, known=known, stop=stop,
        on_progress=on_progress, clock=clock, now=now,
    )  # fmt: skip
    try:
        return await collection.run(left)
    finally:
        if provider is None:
            await asked.aclose()


def _provider(plan: Plan, key: str | None) -> Provider:
    from workbench.runner.providers import registry

    return registry.make(
        plan.endpoint, plan.base_url, name=plan.provider_name, api_key=key,
        concurrency=plan.concurrency, timeout_s=plan.timeout_s, extra_body=plan.extra_body,
    )  # fmt: skip


def _typical(plan: Plan, model: str, n_calls: int) -> Call:
    """Make up calls of an ordinary size, added up, to see whether they can be priced; never recorded."""
    return Call(
        provider=plan.provider_name, model=model, input_tokens=500 * n_calls, cache_read_tokens=0,
        output_tokens=(plan.max_tokens or 1000) * n_calls, machine=plan.machine,
        machine_s=float(n_calls) if plan.machine else None,
    )  # fmt: skip


def _versions() -> str:
    names = ("trace-workbench", "httpx", "httpx-aiohttp", "aiohttp")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return json_text(found)


class _Collection:
    """One launch under way."""

    def __init__(
        self, *, work: Work, spool: SpoolWriter, caller: Caller, provider: Provider, budget: Budget,
        known: set[Key], stop: Stop, on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float], now: Callable[[], dt.datetime],
    ) -> None:  # fmt: skip
        self.work, self.plan, self.spool, self.caller = work, work.plan, spool, caller
        self.provider, self.budget, self.known, self.stop = provider, budget, known, stop
        self.on_progress, self.clock, self.now = on_progress, clock, now
        self.begun_s = clock()
        self.progress = Progress(planned=len(work), spent_usd=budget.spent_usd)
        self.progress.before = sum(p.key in known for p in work)
        self.notes: list[str] = []
        self.stopped: set[str] = set()
        self.refusals: dict[str, tuple[str, int]] = {}
        self.queue = self._missing()
        self.settled = asyncio.Event()
        self.render = templates.get(self.plan.template) if self.plan.endpoint != "chat" else None
        self.record = Run(
            run_id=spool.run_id, kind="collect", source="runner", plan=self.plan.as_json(),
            status="running", started_at=now(), host=platform.node() or None,
            platform=platform.platform(), versions=_versions(),
            n_planned=len(work) - self.progress.before,
        )  # fmt: skip

    async def run(self, left: Leftovers) -> CollectReport:
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
            self.spool.sync()
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
        for configuration, _ in self.work.configurations:
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
            await asyncio.to_thread(self.spool.sync)

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
        session = Session(
            task=planned.task, model=planned.configuration.model, ask=self.caller.ask,
            count=self.provider.count_tokens, endpoint=self.plan.endpoint,
            sampling=self.plan.sampling(item_id, trial), render=self.render,
        )  # fmt: skip
        outcome: Outcome | None = None
        error: ProviderError | None = None
        try:
            outcome = await planned.strategy.run(session, planned.item)
        except ProviderError as caught:
            error = caught
        finally:
            self.progress.in_flight -= 1
            self.budget.settle(configuration_id, session.calls)
            self.settled.set()
            self.settled = asyncio.Event()
        e2e_s = self.clock() - start
        self.spool.append(
            self._trace(planned, session, outcome, error, started_at=started_at, e2e_s=e2e_s)
        )
        self._account(planned, session, error)

    def _trace(
        self, planned: Planned, session: Session, outcome: Outcome | None,
        error: ProviderError | None, *, started_at: dt.datetime, e2e_s: float,
    ) -> Trace:  # fmt: skip
        configuration_id, item_id, trial = planned.key
        score = planned.task.score(planned.item, outcome.answer_text) if outcome else None
        subject = [c for c in session.calls if c.role == "subject"]
        last = subject[-1].stop_reason if subject else None
        waited_s = sum((c.retry_wait_s or 0.0) + (c.queue_s or 0.0) for c in session.calls)
        return Trace(
            run_id=self.spool.run_id, configuration_id=configuration_id,
            task_id=planned.task.task.task_id, item_id=item_id, trial=trial,
            started_at=started_at, e2e_s=e2e_s, working_s=max(e2e_s - waited_s, 0.0),
            answer=score.answer if score else None, score=score.score if score else None,
            passed=score.passed if score else None, scores=(score,) if score else (),
            confidence=outcome.confidence if outcome else None,
            verifier_score=outcome.verifier_score if outcome else None,
            stop_reason="error" if error else (outcome.stop_reason if outcome else None) or last,
            error_type=error.kind if error else None, error_message=str(error) if error else None,
            n_turns=sum(c.error_type is None for c in subject),
            calls=tuple(session.calls), tool_calls=tuple(session.tool_calls),
            messages=tuple(session.messages),
        )  # fmt: skip

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
