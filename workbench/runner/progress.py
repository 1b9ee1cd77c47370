"""How far a collection is, and how it ended."""

import msgspec

from workbench.records import Call


class Progress(msgspec.Struct):
    """A collection so far.

    Attributes:
        planned: attempts of the plan, those done earlier included.
        before: attempts that earlier launches had done.
        done, failed: attempts of this launch; failed ones are among the done.
        in_flight: attempts under way.
        elapsed_s: since this launch began.
        spent_usd: known cost; null without prices.
        n_unpriced: calls without a known price.
        input_tokens, output_tokens: of this launch, as far as reported.
    """

    planned: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    elapsed_s: float = 0.0
    spent_usd: float | None = None
    n_unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, calls: list[Call]) -> None:
        """Count the tokens of finished calls."""
        for call in calls:
            self.input_tokens += call.input_tokens or 0
            self.output_tokens += call.output_tokens or 0

    @property
    def left(self) -> int:
        """Attempts that are still to be made, those in flight included."""
        return self.planned - self.before - self.done

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
        collected: traces written by this launch; `failed` of them hold an error.
        left: attempts not made.
        repeated: attempts that were in flight when an earlier run was killed, and are made again.
        spent_usd: known cost; null without prices.
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
    input_tokens: int
    output_tokens: int
    spent_usd: float | None
    n_unpriced: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [
            f"{self.status}: {self.planned:,} planned, {self.before:,} done before,"
            f" {self.collected:,} collected ({self.failed:,} failed), {self.left:,} left"
        ]
        if self.repeated:
            calls = "call was" if self.repeated == 1 else "calls were"
            lines.append(
                f"{self.repeated:,} {calls} in flight when an earlier run was killed,"
                f" and {'is' if self.repeated == 1 else 'are'} made again"
            )
        spent = "—" if self.spent_usd is None else f"${self.spent_usd:,.4f}"
        unpriced = f" ({self.n_unpriced:,} calls without a price)" if self.n_unpriced else ""
        lines.append(
            f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out, {spent}{unpriced},"
            f" {self.elapsed_s:,.1f} s"
        )
        return "\n".join((*lines, *self.notes))
