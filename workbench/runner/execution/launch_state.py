"""The state of one launch, shared by its workers, its controller and the commands."""

import asyncio
import datetime as dt
import platform
from collections.abc import Callable

from workbench.records import Run
from workbench.runner.execution.background_tasks import BackgroundTasks
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.execution.stop_signal import StopSignal
from workbench.runner.execution.versions import versions
from workbench.runner.execution.worker_pool import WorkerPool
from workbench.runner.limits import Budget
from workbench.runner.limits.progress import Progress
from workbench.runner.planning.plan import Planned, Work
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.spool import SpoolWriter


class LaunchState:
    """Progress, limits and resources of one launch.

    Attributes:
        known: keys of attempts that are settled in the store or the spool.
        begun_s: the clock when the launch began.
        before: number of attempts that earlier launches had done, by configuration.
        position: number of the plan's attempts that were taken from the queue.
        waiting_for_start: attempts that a worker has taken and not begun, by `id()`.
        stopped: ids of configurations that get no more requests.
        background: tasks that write traces once the energy counters have updated.
        attempt_ended: set whenever an attempt has ended, then replaced by a new event.
        notes: sentences for the user.
        record: the run's record in the store.
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
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
        workers: WorkerPool,
    ) -> None:
        """Start with no attempts made; no request is sent and nothing is written yet."""
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
        self.waiting_for_start: dict[int, Planned] = {}
        self.stopped: set[str] = set()
        self.attempt_ended = asyncio.Event()
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
        """Wake the workers that wait for room in the budget."""
        self.attempt_ended.set()
        self.attempt_ended = asyncio.Event()

    def note(self, sentence: str) -> None:
        """Add a sentence for the user, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)
