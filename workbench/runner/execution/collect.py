"""`collect`, the entry point of the runner: makes the missing attempts of a plan."""

import datetime as dt
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from workbench.errors import ConfigError
from workbench.runner.attempts import grading
from workbench.runner.execution.connect import Recordings
from workbench.runner.execution.connected_models import Batching, ConnectedModels
from workbench.runner.execution.controller import Pilot
from workbench.runner.execution.launch import Launch
from workbench.runner.execution.metering import Metering
from workbench.runner.execution.shared_work import Done, SharedWork
from workbench.runner.execution.stop_signal import StopSignal
from workbench.runner.limits import Budget, PriceOf
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning import plan_budget
from workbench.runner.planning.claims import Claims
from workbench.runner.planning.plan import Plan, Work, expand
from workbench.runner.planning.plan_budget import Spent
from workbench.runner.planning.resume import read_leftovers
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.protocol import Provider
from workbench.spool import SpoolWriter
from workbench.trust import Trust


async def collect(
    plan: Plan,
    *,
    spool: SpoolWriter,
    done: Done | None = None,
    spent: Callable[[Work], Spent] | None = None,
    limits: Mapping[str, float] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    price: PriceOf | None = None,
    work: Work | None = None,
    provider: Provider | None = None,
    environ: Mapping[str, str] = os.environ,
    rng: random.Random | None = None,
    stop: StopSignal | None = None,
    pilot: Pilot | None = None,
    recordings: Recordings | None = None,
    trust: Trust = False,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> CollectReport:
    """Make the missing attempts of a plan, and write their traces to the spool.

    A failed call is data: its trace holds the error. A configuration that repeatedly fails for the
    same reason is stopped; the run ends early when the budget is used up. The first Ctrl-C waits
    for the attempts in flight, the second cancels them.

    Args:
        plan: tasks, models, strategies and limits.
        spool: writer of the run's records; its run id is the run's.
        done: returns the attempt keys that the store holds for some configuration ids
            (`Store.done`); keys in the spool are read here.
        spent: returns how much earlier launches took of the plan's budgets, which hold over all
            launches; None: nothing was spent before.
        limits: budgets of this launch alone, by the plan's names; both hold.
        on_progress: called whenever an attempt has ended.
        price: returns the cost of a call in USD, None where unknown; required with a budget.
        work: the expanded plan; None expands it here.
        provider: serves every model; None connects the providers that the plan names.
        stop: ends the collection from outside; SIGINT and SIGTERM call it too.
        pilot: a first part, after which a callback decides whether the rest is made.
        recordings: reads the traces at a path, for a replay.
        trust: passed to `expand` where the plan is expanded here.
        environ: where API keys are looked up.
        rng: randomness of the jitter of waits.
        clock: monotonic seconds.
        now: the time of day in UTC.
    """
    work = work or expand(plan, trust=trust)
    if work.wants:
        raise ConfigError(
            "the plan was expanded with preview=True, which leaves parts out; expand it without"
        )
    grading.check(work.task_sets, plan.helpers)
    # Claims open before the spool is read: attempts that other collectors end from now on are
    # reported to the claims, those that ended earlier are in the spool.
    claims = await Claims.open(
        spool.folder,
        spool.run_id,
        configurations=work.configuration_ids,
        items=[item.item_id for item in work.items],
    )
    with claims:
        leftovers = read_leftovers(spool.folder)
        before = spent(work) if spent is not None and plan_budget.budgets_of(plan) else Spent()
        remaining = plan_budget.remaining(plan, before, limits or {})
        known = leftovers.settled | set(done(work.configuration_ids) if done else ())
        connected = ConnectedModels(
            plan,
            provider=provider,
            environ=environ,
            rng=rng or random.SystemRandom(),
            clock=clock,
            recordings=recordings,
            batching=_batching(plan, spool.folder, known),
            providers=work.providers,
        )
        metering = Metering()
        try:
            await connected.start()
            metering = await Metering.begin(plan, connected, clock)
            start_s = clock()
            budget = Budget(
                remaining.get("budget_usd"),
                price,
                limit_tokens=remaining.get("budget_tokens"),
                limit_j=remaining.get("budget_j"),
                limit_time_s=remaining.get("budget_time_s"),
                elapsed_s=lambda: clock() - start_s,
                # no energy budget where no meter gives a figure
                joules=None if metering.spent_j is None else lambda: metering.spent_j,
            )
            _set_expected_use(budget, work)
            shared = plan_budget.remaining(plan, before, {})
            budget.share(claims, shared.get("budget_usd"), shared.get("budget_tokens"))
            sharing = SharedWork(
                claims,
                spool_folder=spool.folder,
                configuration_ids=work.configuration_ids,
                done=done,
                budget=budget,
            )
            launch = Launch(
                work=work,
                spool=spool,
                connected=connected,
                budget=budget,
                known=known,
                stop=stop or StopSignal(),
                on_progress=on_progress,
                clock=clock,
                now=now,
                pilot=pilot,
                metering=metering,
                sharing=sharing,
            )
            launch.notes += plan_budget.describe_spent(plan, before)
            return await launch.run(leftovers)
        finally:
            metering.stop()
            await connected.aclose()


def _set_expected_use(budget: Budget, work: Work) -> None:
    """Give a budget the expected use of an attempt; ConfigError where a price is missing."""
    n_judged = max(sum(grading.most_calls(task).values()) for task in work.task_sets)
    for configuration, target, strategy in work.configurations:
        n_calls = (getattr(strategy, "most_calls", 1) or 1) + n_judged
        typical = plan_budget.typical(target, n_calls)
        budget.expect(configuration.configuration_id, typical, n_calls)
    for name in work.plan.helpers:
        budget.check_price(plan_budget.typical(work.plan.helper(name), 1))


def _batching(plan: Plan, folder: Path, known: set[AttemptKey]) -> Batching | None:
    """Return the wrapper that sends a provider's requests in batches; None without a batch plan."""
    if not plan.batch:
        return None

    def wrap(provider: HttpProvider) -> Provider:
        from workbench.runner import batch

        return batch.make(provider, folder, settled=known)

    return wrap
