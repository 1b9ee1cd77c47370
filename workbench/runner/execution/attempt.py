"""One attempt: runs a strategy on an item, grades the answer and builds the trace."""

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType

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
from workbench.runner.attempts.journal import AttemptJournal, JournalLine
from workbench.runner.attempts.session import Meter, Outcome, Session
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.limits import AttemptAccount
from workbench.runner.planning.plan import Plan, Planned, seed_of
from workbench.runner.providers.broken_requests import CANCELLED
from workbench.runner.tools.own import OwnToolClass

UNUSED = "unused"  # error type of a call of an earlier try that the last try did not repeat
BUDGET = "budget"  # limit type of the run's budget: such an attempt is no result and is made again


class Ended(msgspec.Struct):
    """The result of an attempt.

    Attributes:
        outcome: the strategy's; null where an error or a limit came first.
        error: the provider's last error.
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
    account: AttemptAccount,
    *,
    meter: Meter | None = None,
    own_tools: Mapping[str, OwnToolClass] = MappingProxyType({}),
) -> Session:
    """Open the session of an attempt; every call is charged to its account."""
    seed = seed_of(plan.seed, planned.item_id, planned.trial)
    sampling = {"seed": seed} if seed is not None else {}
    line = account.over(connected.line(planned.target, sampling))
    helpers = {name: account.over(helper) for name, helper in connected.helpers(sampling).items()}
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
        own_tools=own_tools,
        rng=random.Random(repr((plan.seed, *planned.key))),  # noqa: S311  # not for secrets
    )


async def make(session: Session, planned: Planned) -> Ended:
    """Run the strategy on the item and grade the answer; a provider's errors are returned."""
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
    """Return the result of a cancelled attempt, and mark its calls in flight as cancelled."""
    error = ProviderError("cancelled while it was in flight", kind=CANCELLED)
    for place, call in enumerate(session.calls):
        # a call has its windows once it has ended; its times do not tell, as a batch has none
        if call.ordinal not in session.windows:
            fields = {"error_type": error.kind, "error_message": str(error), "stop_reason": "error"}
            session.calls[place] = msgspec.structs.replace(call, **fields)
    return Ended(error=error)


def trace_id(run_id: str, planned: Planned, n_requeued: int = 0) -> str:
    """Return the trace id of an attempt; one that was requeued in its run gets another id."""
    parts = (run_id, *planned.key)
    return content_id("Trace", *parts, n_requeued) if n_requeued else content_id("Trace", *parts)


def unused(session: Session, journal: AttemptJournal | None) -> list[tuple[Call, JournalLine]]:
    """List the paid calls of earlier tries that the last try did not repeat.

    Their ordinals follow those of the session's own calls.
    """
    calls = []
    for ordinal, line in enumerate(journal.unused if journal else (), len(session.calls)):
        if line.reply is None:
            continue
        call = msgspec.structs.replace(line.reply.call, ordinal=ordinal)
        if call.error_type is None:
            message = "answered an earlier try of this attempt; the last one asked something else"
            call = msgspec.structs.replace(call, error_type=UNUSED, error_message=message)
        calls.append((call, line))
    return calls


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
    """Build the trace of an attempt from its session and result.

    Its own calls come first, then the unused calls of earlier tries, then the broken requests: all
    of them were paid for.
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
    """Subtract from an attempt's duration the time in which it only waited.

    Waits are those for a slot and those before a retry. A wait that overlaps a call or a tool is
    not subtracted, and overlapping waits are subtracted once.

    Args:
        started_at: start of the attempt.
        e2e_s: duration in seconds; None if not known.
        calls: its calls, with the wait before each.
        tools: its tool calls.

    Returns:
        Seconds, from 0 to `e2e_s`; None where that is not known.
    """
    if e2e_s is None:
        return None
    work: list[tuple[float, float]] = []
    waits: list[tuple[float, float]] = []
    unplaced_s = 0.0  # waits of calls without a start time, which cannot overlap anything
    parts = [(c.started_at, c.e2e_s, (c.queue_s or 0.0) + (c.retry_wait_s or 0.0)) for c in calls]
    parts += [(t.started_at, t.e2e_s, 0.0) for t in tools]
    for part_started_at, duration_s, waited_s in parts:
        if part_started_at is None:
            unplaced_s += waited_s
            continue
        offset_s = (part_started_at - started_at).total_seconds()
        waits.append((offset_s - waited_s, offset_s))
        work.append((offset_s, offset_s + (duration_s or 0.0)))
    idle_s = _covered([*waits, *work], e2e_s) - _covered(work, e2e_s)
    return max(e2e_s - idle_s - unplaced_s, 0.0)


def _covered(spans: Sequence[tuple[float, float]], end: float) -> float:
    """Return the total time between 0 and `end` that at least one span covers."""
    total, reached = 0.0, 0.0
    for low, high in sorted(spans):
        total += max(min(high, end) - max(low, reached), 0.0)
        reached = max(reached, min(high, end))
    return total


def _stop_reason(ended: Ended, call_reasons: Sequence[str | None]) -> str | None:
    if ended.error:
        return "error"
    if ended.limit:
        return "limit"
    reason = ended.outcome.stop_reason if ended.outcome else None
    return reason or (call_reasons[-1] if call_reasons else None)
