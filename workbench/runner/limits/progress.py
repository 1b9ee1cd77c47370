"""Progress of a collection, the state of its models, and the final report."""

import datetime as dt
from collections.abc import Iterable

import msgspec

from workbench.formats import counted
from workbench.records import Call
from workbench.runner.limits.failure_reasons import Reason
from workbench.runner.providers.broken_requests import may_be_billed

_MOST_REASONS = 8  # printed


class ModelState(msgspec.Struct):
    """The state of a model with a key, updated in place while the collection runs.

    Attributes:
        provider, model: which one; the model as requested.
        in_flight: requests in flight.
        limit: how many may be in flight now; `cap` is the plan's upper limit.
        why: reason of the present limit, in words.
        waiting: calls that wait in the queue.
        retrying: calls that failed for a temporary reason and wait for their next try.
        retrying_since: when the oldest of those failed first; null where there is none.
        paused_until: when the next request goes out, at the server's wish; null while requests go
            out.
        last_error, last_error_at: kind and time of the last failure; null before the first.
        n_overloads: refusals for overload or a rate limit so far (429, 503, 529).
        n_retries: tries that were made again so far.
    """

    provider: str
    model: str
    cap: int
    in_flight: int = 0
    limit: int = 0
    why: str = ""
    waiting: int = 0
    retrying: int = 0
    retrying_since: dt.datetime | None = None
    paused_until: dt.datetime | None = None
    last_error: str | None = None
    last_error_at: dt.datetime | None = None
    n_overloads: int = 0
    n_retries: int = 0

    def trouble(self, now: dt.datetime) -> str:
        """Describe in a few words what holds this model back; "" where nothing does."""
        parts = []
        if self.retrying and self.retrying_since is not None:
            since = f"{(now - self.retrying_since).total_seconds():.0f} s"
            parts.append(f"{self.retrying} retrying since {since} ({self.last_error})")
        if self.paused_until is not None and self.paused_until > now:
            parts.append(f"paused {(self.paused_until - now).total_seconds():.0f} s")
        if self.limit < self.cap and (parts or self.waiting):
            parts.append(f"{self.in_flight} of {self.limit} at once (cap {self.cap}: {self.why})")
        return f"{self.model}: {', '.join(parts)}" if parts else ""


class Progress(msgspec.Struct):
    """A collection so far.

    Attributes:
        planned: attempts of the plan, those done earlier included.
        before: attempts that earlier launches had done.
        done, failed: attempts of this launch; failed ones are among the done.
        elsewhere: attempts that other collectors have made since this launch began.
        in_flight: attempts under way.
        elapsed_s: since this launch began, pauses left out.
        status: running, paused, asking (a pilot is over) or stopping.
        spent_usd: known cost; null without prices, and where no call has a known cost.
        n_unpriced: calls without a known price.
        input_tokens, output_tokens: of this launch, as far as reported.
        n_reported, n_unreported: requests that told their tokens, and those that may be billed and
            did not.
        spent_j: joules as metered; null without a meter.
        models: how each model stands: requests at once, waits, retries.
        batches: how far the batches are, in words.
    """

    planned: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    elsewhere: int = 0
    in_flight: int = 0
    elapsed_s: float = 0.0
    status: str = "running"
    spent_usd: float | None = None
    n_unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    n_reported: int = 0
    n_unreported: int = 0
    spent_j: float | None = None
    models: list[ModelState] = []
    batches: str = ""

    def add(self, calls: Iterable[Call]) -> None:
        """Count the tokens of calls that this launch has made."""
        for call in calls:
            self.input_tokens += call.input_tokens or 0
            self.output_tokens += call.output_tokens or 0
            is_reported = call.output_tokens is not None
            self.n_reported += is_reported
            self.n_unreported += not is_reported and may_be_billed(call)

    def trouble(self, now: dt.datetime) -> str:
        """Describe what holds the models back; "" where nothing does."""
        parts = [state.trouble(now) for state in self.models]
        return "; ".join(part for part in (*parts, self.batches) if part)

    @property
    def left(self) -> int:
        """Attempts that are still to be made, those in flight included."""
        return self.planned - self.before - self.done - self.elsewhere

    @property
    def rate_per_s(self) -> float | None:
        """Attempts finished per second of this launch; null before the first."""
        return self.done / self.elapsed_s if self.done and self.elapsed_s > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at this rate; null before the first attempt is finished."""
        return None if self.rate_per_s is None else self.left / self.rate_per_s


class CollectReport(msgspec.Struct, frozen=True):
    """How a collection ended.

    Attributes:
        status: done, cancelled (stopped before its end) or failed.
        planned: attempts of the plan.
        before: attempts that earlier launches had done.
        collected: attempts that this launch has made and that were answered; `failed` ones are
            apart.
        unscored: of the answered ones, those whose scorer gave nothing.
        reasons: why attempts failed or have no score, the commonest first.
        left: attempts not made.
        elsewhere: attempts that other collectors made meanwhile; `failed_elsewhere` of them failed.
        repeated: attempts that were under way when an earlier run ended, and are made again.
        input_tokens, output_tokens: as far as reported, requests that broke off included; null
            where none was.
        spent_usd: known cost; null without prices, and where no call has a known cost.
        n_unreported: requests that may be billed and did not tell their tokens.
        notes: sentences for the user.
    """

    run_id: str
    status: str
    planned: int
    before: int
    collected: int
    failed: int
    left: int
    repeated: int
    elapsed_s: float
    input_tokens: int | None
    output_tokens: int | None
    spent_usd: float | None
    n_unpriced: int
    n_unreported: int = 0
    elsewhere: int = 0
    failed_elsewhere: int = 0
    unscored: int = 0
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every attempt of the plan was made, answered and scored."""
        wrong = self.failed or self.failed_elsewhere or self.unscored or self.left
        return self.status == "done" and not wrong

    def __str__(self) -> str:
        """Format it in a few lines."""
        # the status is "cancelled" too where a budget or a server that fails ended the run
        status = "ended early" if self.status == "cancelled" else self.status
        lines = [
            f"{status}: {self.planned:,} planned, {self.before:,} done before,"
            f" {self.collected:,} collected, {self.failed:,} failed, {self.left:,} left"
        ]
        if self.elsewhere:
            failed = f" ({self.failed_elsewhere:,} failed)" if self.failed_elsewhere else ""
            lines.append(f"{self.elsewhere:,} were made by other collectors meanwhile{failed}")
        if self.repeated:
            were = "attempt was" if self.repeated == 1 else "attempts were"
            lines.append(
                f"{self.repeated:,} {were} under way when an earlier run ended,"
                f" and {'is' if self.repeated == 1 else 'are'} made again"
            )
        spent = "—" if self.spent_usd is None else f"${self.spent_usd:,.4f}"
        unpriced = (
            f" ({counted(self.n_unpriced, 'call')} without a price)" if self.n_unpriced else ""
        )
        tokens_in, tokens_out = (
            "—" if n is None else f"{n:,}" for n in (self.input_tokens, self.output_tokens)
        )
        lines.append(
            f"{tokens_in} tokens in, {tokens_out} out, {spent}{unpriced}, {self.elapsed_s:,.1f} s"
        )
        if self.n_unreported:
            one = self.n_unreported == 1
            lines.append(
                f"{self.n_unreported:,} {'request' if one else 'requests'} may be billed and did"
                f" not tell {'its' if one else 'their'} usage: more was spent than these figures"
                " say"
            )
        if self.reasons:
            lines.append(f"why {self.failed + self.unscored:,} failed or have no score:")
            lines += [f"  {reason}" for reason in self.reasons[:_MOST_REASONS]]
            if (more := len(self.reasons) - _MOST_REASONS) > 0:
                lines.append(f"  and {more:,} more {'reason' if more == 1 else 'reasons'}")
        return "\n".join((*lines, *self.notes))
