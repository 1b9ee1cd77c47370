"""The state of one launch, which its parts share: workers, controller and commands."""

import asyncio
import datetime as dt
import platform
from collections.abc import Callable

from workbench.records import Run
from workbench.runner.execution.background_tasks import BackgroundTasks
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.execution.stop import Stop
from workbench.runner.execution.versions import versions
from workbench.runner.execution.worker_pool import WorkerPool
from workbench.runner.limits import Budget
from workbench.runner.limits.progress import Progress
from workbench.runner.planning.plan import Planned, Work
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.spool import SpoolWriter


class LaunchState:
    """How far one launch is, and what it runs with.

    Attributes:
        begun_s: the clock when the launch began.
        before: attempts that earlier launches had done, by configuration.
        position: how many of the plan's attempts were taken from the queue.
        held: those of them that a worker has taken and not begun.
        stopped: configurations of which nothing more is asked.
        background: traces that wait for the counters of a meter.
        settled: set whenever an attempt has ended, then replaced by a new event.
        notes: sentences for the user.
        record: how the launch stands in the store.
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
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
        workers: WorkerPool,
    ) -> None:
        """Begin with nothing made; nothing is asked or written yet."""
        self.work = work
        self.plan = work.plan
        self.spool = spool
        self.connected = connected
        self.budget = budget
        self.known = known
        self.stop = stop
        self.clock = clock
        self.now = now
        self.workers = workers
        self.background = BackgroundTasks()
        self.begun_s = clock()
        self.progress = Progress(planned=len(work), spent_usd=budget.spent_usd)
        self.before = work.count(known)
        self.progress.before = self.before.total()
        self.position = 0
        self.held: dict[int, Planned] = {}
        self.stopped: set[str] = set()
        self.settled = asyncio.Event()
        self.notes: list[str] = []
        self.record = Run(
            run_id=spool.run_id,
            kind="collect",
            source="runner",
            plan=self.plan.as_json(),
            status="running",
            started_at=now(),
            host=platform.node() or None,
            platform=platform.platform(),
            versions=versions(),
            n_planned=len(work) - self.progress.before,
        )

    def wake(self) -> None:
        """Let workers look again that wait for room in the budget."""
        self.settled.set()
        self.settled = asyncio.Event()

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
