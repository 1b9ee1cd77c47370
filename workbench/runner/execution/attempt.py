"""One attempt: a strategy answers an item, and what came of it becomes a trace."""

import datetime as dt
import random
from collections.abc import Sequence

import msgspec

from workbench.errors import LimitReached, ProviderError
from workbench.records import (
    Call,
    EnergyReading,
    Score,
    ToolCall,
    Trace,
    content_id,
    json_text,
)
from workbench.runner.attempts.grading import grade
from workbench.runner.attempts.journal import AttemptJournal, Kept
from workbench.runner.attempts.session import Meter, Outcome, Session
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.limits import Tab
from workbench.runner.planning.plan import Plan, Planned, seed_of
from workbench.runner.providers.broken_requests import CANCELLED

UNUSED = "unused"  # a call of an earlier try whose answer the last one has not asked for
BUDGET = "budget"  # an attempt that the run's budget cut short is no result: it is made again


class Ended(msgspec.Struct):
    """How an attempt ended.

    Attributes:
        outcome: null where an error or a limit ended it before an answer.
        error: what the provider said last.
        limit: the limit that a strategy did not handle itself.
        scores: the first one is the trace's.
    """

    outcome: Outcome | None = None
    error: ProviderError | None = None
    limit: LimitReached | None = None
    scores: tuple[Score, ...] = ()


def open_session(
    plan: Plan,
    planned: Planned,
    connected: ConnectedModels,
    journal: AttemptJournal | None,
    tab: Tab,
    *,
    meter: Meter | None = None,
) -> Session:
    """Begin the conversation of an attempt; every call is counted on its tab."""
    seed = seed_of(plan.seed, planned.item_id, planned.trial)
    sampling = {"seed": seed} if seed is not None else {}
    line = tab.over(connected.line(planned.target, sampling))
    helpers = {name: tab.over(helper) for name, helper in connected.helpers(sampling).items()}
    return Session(
        task=planned.task,
        model=line.model,
        ask=line.ask,
        count=line.count_tokens,
        endpoint=line.endpoint,
        sampling=line.sampling,
        render=line.render,
        helpers=helpers,
        journal=journal,
        meter=meter,
        begun_turns=line.begun_turns,
        rng=random.Random(repr((plan.seed, *planned.key))),  # noqa: S311  # not for secrets
    )


async def make(session: Session, planned: Planned) -> Ended:
    """Let the strategy answer the item, and grade the answer; failures of the provider are data."""
    ended = Ended()
    try:
        ended.outcome = await planned.strategy.run(session, planned.item)
        ended.scores = await grade(session, planned.task, planned.item, ended.outcome.answer_text)
    except ProviderError as caught:
        ended.error = caught
    except LimitReached as caught:
        ended.limit = caught
    return ended


def cancelled(session: Session) -> Ended:
    """End an attempt that somebody cancelled: calls without an answer are marked so."""
    error = ProviderError("cancelled while it was in flight", kind=CANCELLED)
    for place, call in enumerate(session.calls):
        if (
            call.ordinal not in session.windows
        ):  # still under way; what a batch answered has no times
            ended = {"error_type": error.kind, "error_message": str(error), "stop_reason": "error"}
            session.calls[place] = msgspec.structs.replace(call, **ended)
    return Ended(error=error)


def trace_id(run_id: str, planned: Planned, again: int = 0) -> str:
    """Name the trace of an attempt; one made `again` in its run has an id of its own."""
    parts = (run_id, *planned.key)
    return content_id("Trace", *parts, again) if again else content_id("Trace", *parts)


def unused(session: Session, journal: AttemptJournal | None) -> list[tuple[Call, Kept]]:
    """List the calls that earlier tries of an attempt made in vain, numbered after its own: they were paid."""
    found = []
    for ordinal, kept in enumerate(journal.unused if journal else (), len(session.calls)):
        if kept.reply is None:
            continue
        call = msgspec.structs.replace(kept.reply.call, ordinal=ordinal)
        if call.error_type is None:
            said = "answered an earlier try of this attempt; the last one asked something else"
            call = msgspec.structs.replace(call, error_type=UNUSED, error_message=said)
        found.append((call, kept))
    return found


def trace_of(
    run_id: str,
    planned: Planned,
    session: Session,
    ended: Ended,
    *,
    started_at: dt.datetime,
    e2e_s: float | None,
    trace_id: str = "",
    unused: Sequence[Call] = (),
    energy: tuple[EnergyReading, ...] = (),
) -> Trace:
    """Write what an attempt did as a record, with all that was paid for it.

    After its own calls come those that earlier tries of it made in vain, and the requests that
    broke off.
    """
    configuration_id, item_id, trial = planned.key
    outcome, error, limit = ended.outcome, ended.error, ended.limit
    score = ended.scores[0] if ended.scores else None
    limit_type = limit.limit_type if limit else outcome.limit_type if outcome else None
    facts = {**(outcome.metadata or {} if outcome else {}), **session.facts}
    calls = session.calls if limit is None else [c for c in session.calls if c.provider is not None]
    n_before = len(session.calls) + len(unused)
    broken = [
        msgspec.structs.replace(call, ordinal=ordinal)
        for ordinal, call in enumerate(session.broken, n_before)
    ]
    subject = [c for c in calls if c.role == "subject"]
    return Trace(
        run_id=run_id,
        trace_id=trace_id,
        configuration_id=configuration_id,
        task_id=planned.task.task.task_id,
        item_id=item_id,
        trial=trial,
        started_at=started_at,
        e2e_s=e2e_s,
        working_s=working_s(started_at, e2e_s, calls, session.tool_calls),
        answer=score.answer if score else None,
        score=score.score if score else None,
        passed=score.passed if score else None,
        scores=ended.scores,
        confidence=outcome.confidence if outcome else None,
        verifier_score=outcome.verifier_score if outcome else None,
        stop_reason=_stop_reason(ended, [c.stop_reason for c in subject]),
        limit_type=limit_type,
        error_type=error.kind if error else BUDGET if limit_type == BUDGET else None,
        error_message=str(error) if error else str(limit) if limit else None,
        n_turns=sum(c.error_type is None for c in subject),
        metadata=json_text(facts) if facts else None,
        calls=(*calls, *unused, *broken),
        tool_calls=tuple(session.tool_calls),
        messages=tuple(session.messages),
        energy=energy,
    )


def working_s(
    started_at: dt.datetime, e2e_s: float | None, calls: Sequence[Call], tools: Sequence[ToolCall]
) -> float | None:
    """Take from the time of an attempt the moments in which all of it only waited, for a slot or to try again.

    What waits beside a call or a tool at work costs no time, and what waits beside another that
    waits costs none twice.

    Args:
        started_at: when the attempt began.
        e2e_s: how long it took; None if not known.
        calls: its calls, with the wait before each.
        tools: its tool calls.

    Returns:
        Seconds, from 0 to `e2e_s`; None where that is not known.
    """
    if e2e_s is None:
        return None
    work: list[tuple[float, float]] = []
    waits: list[tuple[float, float]] = []
    unplaced_s = 0.0  # nobody knows beside what
    parts = [(c.started_at, c.e2e_s, (c.queue_s or 0.0) + (c.retry_wait_s or 0.0)) for c in calls]
    parts += [(t.started_at, t.e2e_s, 0.0) for t in tools]
    for began, took_s, waited_s in parts:
        if began is None:
            unplaced_s += waited_s
            continue
        at = (began - started_at).total_seconds()
        waits.append((at - waited_s, at))
        work.append((at, at + (took_s or 0.0)))
    idle_s = _covered([*waits, *work], e2e_s) - _covered(work, e2e_s)
    return max(e2e_s - idle_s - unplaced_s, 0.0)


def _covered(spans: Sequence[tuple[float, float]], end: float) -> float:
    """Add up the time from 0 to `end` that at least one span covers."""
    total, reached = 0.0, 0.0
    for low, high in sorted(spans):
        total += max(min(high, end) - max(low, reached), 0.0)
        reached = max(reached, min(high, end))
    return total


def _stop_reason(ended: Ended, said: Sequence[str | None]) -> str | None:
    if ended.error:
        return "error"
    if ended.limit:
        return "limit"
    own = ended.outcome.stop_reason if ended.outcome else None
    return own or (said[-1] if said else None)
