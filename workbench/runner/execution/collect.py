"""Makes the attempts of a plan that are missing: the public way into the runner."""

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
from workbench.runner.execution.stop import Stop
from workbench.runner.limits import Budget, PriceOf
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning import plan_budget
from workbench.runner.planning.claims import Claims
from workbench.runner.planning.plan import Plan, Work, expand
from workbench.runner.planning.plan_budget import Spent
from workbench.runner.planning.resume import look
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
    stop: Stop | None = None,
    pilot: Pilot | None = None,
    recordings: Recordings | None = None,
    trust: Trust = False,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> CollectReport:
    """Make the attempts of a plan that are missing, and write them to the spool.

    A failed call is data: its trace holds the error. A configuration that is refused for the same
    reason again and again is stopped; the run ends early when the budget is used up. Ctrl-C once
    waits for what is in flight, twice cancels it.

    Args:
        plan: what is asked.
        spool: where lines go; its run id is the run's.
        done: gives the keys that the store holds for some configuration ids (`Store.done`); what
            lies in the spool is looked up here.
        spent: tells what earlier launches took of the plan's budgets, which hold over all of them;
            nothing, where None.
        limits: budgets of this launch alone, by the names of the plan's; both hold.
        on_progress: called whenever an attempt has ended.
        price: gives the cost of a call in USD, None where unknown; needed with a budget.
        work: the plan expanded; made from the names in the plan where None.
        provider: made from the plan where None.
        stop: ends the collection from outside; SIGINT and SIGTERM call it too.
        pilot: a first part, after which somebody decides whether the rest is made.
        recordings: reads the traces at a path, for a replay.
        trust: as of `expand`, where that is done here.
        environ: where the key is looked up.
        rng: for the jitter of waits.
        clock: monotonic seconds.
        now: the time of day in UTC.
    """
    work = work or expand(plan, trust=trust)
    if work.wants:
        raise ConfigError("the plan was expanded for a look only; expand it without preview=True")
    grading.check(work.task_sets, plan.helpers)
    # joined first: what others end from now on is heard of, what they have ended before is found
    # below
    claims = await Claims.open(
        spool.folder,
        spool.run_id,
        configurations=work.configuration_ids,
        items=[item.item_id for item in work.items],
    )
    with claims:
        left = look(spool.folder)
        before = spent(work) if spent is not None and plan_budget.budgets_of(plan) else Spent()
        may_spend = plan_budget.left_of(plan, before, limits or {})
        known = left.settled | set(done(work.configuration_ids) if done else ())
        connected = ConnectedModels(
            plan,
            provider=provider,
            environ=environ,
            rng=rng or random.SystemRandom(),
            clock=clock,
            recordings=recordings,
            batching=_batching(plan, spool.folder, known),
        )
        metering = Metering()
        try:
            await connected.start()
            metering = await Metering.begin(plan, connected, clock)
            begun_s = clock()
            budget = Budget(
                may_spend.get("budget_usd"),
                price,
                limit_tokens=may_spend.get("budget_tokens"),
                limit_j=may_spend.get("budget_j"),
                limit_time_s=may_spend.get("budget_time_s"),
                elapsed_s=lambda: clock() - begun_s,
                # a meter whose counters stand still keeps no budget
                joules=None if metering.spent_j is None else lambda: metering.spent_j,
            )
            _expect(budget, work)
            shared = plan_budget.left_of(plan, before, {})
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
                stop=stop or Stop(),
                on_progress=on_progress,
                clock=clock,
                now=now,
                pilot=pilot,
                metering=metering,
                sharing=sharing,
            )
            launch.notes += plan_budget.said(plan, before)
            return await launch.run(left)
        finally:
            metering.stop()
            await connected.aclose()


def _expect(budget: Budget, work: Work) -> None:
    """Tell a budget what attempts of ordinary size take; ConfigError where it could not be kept."""
    n_judged = max(sum(grading.most_calls(task).values()) for task in work.task_sets)
    for configuration, target, strategy in work.configurations:
        n_calls = (getattr(strategy, "most_calls", 1) or 1) + n_judged
        typical = plan_budget.typical(target, n_calls)
        budget.expect(configuration.configuration_id, typical, n_calls)
    for name in work.plan.helpers:
        budget.check_price(plan_budget.typical(work.plan.helper(name), 1))


def _batching(plan: Plan, folder: Path, known: set[AttemptKey]) -> Batching | None:
    """Say how requests go out in batches, if they do."""
    if not plan.batch:
        return None

    def wrap(provider: HttpProvider) -> Provider:
        from workbench.runner import batch

        return batch.make(provider, folder, settled=known)

    return wrap
