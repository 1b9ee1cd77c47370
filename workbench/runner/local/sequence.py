"""A sequence in the engine: one request with its tokens, their times, and the stop reason."""

import random
from collections import deque
from collections.abc import Callable

from workbench.runner.local.output_parser import Detokenizer, Output, Piece
from workbench.runner.local.settings import Sampling

# called by the engine's thread after each step, with those of its sequences that share it
Deliver = Callable[[list["Sequence"]], None]


class Sequence:
    """What the engine knows of a request; only its thread writes here once it is submitted.

    Attributes:
        key: name of the call, as `Call.request_id` and the engine's steps say it.
        prompt: the tokens of the request.
        tokens: the output so far, forced tokens and the end token included.
        pieces: (time, text) as they were settled, on the engine's clock.
        logprob_sum: sum of the log probabilities of the output tokens; see `sampling.Choice`.
        stop_reason: None while it goes on.
        error: why it failed; None where it did not.
        admitted_s, first_s, ended_s: when it got a slot, its first token, its last; None until
            then.
        cancelled: set from outside: the slot is freed before the next step.
        prefill_s: time of the steps that read its prompt, those of other prompts read with it
            included.
        n_prefilled: tokens that were read for it; more than the prompt where it had to make room.
    """

    def __init__(
        self,
        key: str,
        prompt: list[int],
        *,
        sampling: Sampling,
        output: Output,
        detokenizer: Detokenizer,
        end_ids: frozenset[int],
        closing: list[int],
        most_tokens: int,
        submitted_s: float,
        deliver: Deliver,
    ) -> None:
        """Begin; `closing` are the tokens that end its thinking, `most_tokens` its cap."""
        self.key, self.prompt, self.sampling = key, prompt, sampling
        self.output, self._detokenizer = output, detokenizer
        self._end_ids = frozenset() if sampling.ignore_eos else end_ids
        self._closing, self._most = closing, most_tokens
        self._random = random.Random(sampling.seed)  # noqa: S311  # not for secrets
        self._drawn: float | None = None
        self._forced: deque[int] = deque()
        self._inside = 0  # tokens between the thinking tags
        self.submitted_s, self.deliver = submitted_s, deliver
        self.admitted_s: float | None = None
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self.prefill_s = 0.0
        self.n_prefilled = 0
        self.tokens: list[int] = []
        self._ends: list[int] = []
        self.pieces: list[tuple[float, Piece]] = []
        self.logprob_sum = 0.0
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self.cancelled = False
        self._force_if_spent()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.stop_reason is not None

    @property
    def looks_for_thinking(self) -> bool:
        """Whether thinking tags are known, so that a count of 0 is a statement."""
        return self.output.has_tags

    @property
    def phase(self) -> str:
        """What the next token belongs to: thinking or answer."""
        return "thinking" if self.output.is_thinking else "answer"

    @property
    def input(self) -> list[int]:
        """The tokens that are read before the next one is chosen."""
        return self.prompt + self.tokens

    @property
    def forced(self) -> int | None:
        """The token that must come next; None where the model chooses."""
        return self._forced[0] if self._forced else None

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens within thinking, tags included."""
        return self.output.spans_over(self._ends)

    def draw(self) -> float:
        """Return the next token's random number in [0, 1), the same until the token is taken."""
        if self.sampling.temperature == 0 or self._forced:
            return 0.0
        if self._drawn is None:
            self._drawn = self._random.random()
        return self._drawn

    def take(self, token: int, logprob: float, at_s: float) -> None:
        """Add a token that was chosen; sets `stop_reason` where it is the last."""
        if self._forced:
            self._forced.popleft()
        self._drawn = None
        self.tokens.append(token)
        self.first_s = at_s if self.first_s is None else self.first_s
        self.logprob_sum += logprob
        was_thinking = self.output.is_thinking
        if token in self._end_ids:
            self._ends.append(self.output.length)
            return self.end("stop", at_s)
        self._settle(self.output.take(self._detokenizer.take(token)), at_s)
        self._ends.append(self.output.length)
        self._inside += was_thinking and self.output.is_thinking
        if self.output.stopped:
            return self.end("stop", at_s)
        if len(self.tokens) >= self._most:
            return self.end("max_tokens", at_s)
        return self._force_if_spent()

    def end(self, reason: str, at_s: float, error: BaseException | None = None) -> None:
        """End it; what was held back is shown."""
        if not self.output.stopped:
            self._settle(self.output.take(self._detokenizer.flush()), at_s)
            self._settle(self.output.end(), at_s)
        self.stop_reason, self.error, self.ended_s = reason, error, at_s

    def _settle(self, pieces: list[Piece], at_s: float) -> None:
        self.pieces.extend((at_s, p) for p in pieces)

    def _force_if_spent(self) -> None:
        """Write the closing tag where the thinking has used up its budget."""
        budget = self.sampling.thinking_budget_tokens
        spent = budget is not None and self._inside >= budget
        if spent and self.output.is_thinking and not self._forced:
            self._forced.extend(self._closing)
