"""Strategy `budgeted`: a budget for the thinking and another for the answer."""

import dataclasses
from typing import Any, ClassVar

from workbench.datasets import TaskItem
from workbench.errors import ConfigError
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.effort import ask_for_answer
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.think import CLOSE, OPEN, ask_for_thinking, ask_to_finish

_CAPPING = {"messages", "gemini", "local"}  # endpoints that cap the thinking themselves


@dataclasses.dataclass(frozen=True, slots=True)
class Budgeted(Parameters):
    """Let the model think for `thinking_tokens` at most, then answer in `answer_tokens` at most.

    With tags, the thinking is a text between tags that a first call writes and a further one ends:
    where it reaches its cap it is cut and the answer asked for; where it ends below
    `min_thinking_tokens`, "Wait" is written for the model and it goes on, `extensions` times at
    most. Both after budget forcing (s1: Muennighoff et al. 2025, arXiv 2501.19393); that both
    budgets are separate is after Elastic Reasoning. With a provider that caps the thinking itself,
    one call asks it to. What was used is in the trace's metadata: enforced_by, thinking_tokens,
    extensions, was_cut.

    Attributes:
        thinking_tokens, answer_tokens: the budgets.
        min_thinking_tokens: thinking that is wished for at least; 0 lets the model end when it
            will.
        extensions: how many times "Wait" is written, at most.
        by: who keeps the thinking's budget: "provider", "tags", or "auto": the provider where its
            endpoint can (messages, gemini, local) and no minimum is set, else tags. Tags want a
            service that goes on with a turn that was begun for the model.
    """

    name: ClassVar[str] = "budgeted"
    shots: int = 5
    thinking_tokens: int = dataclasses.field(default=1024, metadata={"least": 1})
    answer_tokens: int = dataclasses.field(default=256, metadata={"least": 1})
    min_thinking_tokens: int = 0
    extensions: int = 4
    by: str = dataclasses.field(default="auto", metadata={"choices": ("auto", "provider", "tags")})

    def __post_init__(self) -> None:
        """Refuse budgets that contradict each other."""
        if self.min_thinking_tokens > self.thinking_tokens:
            raise ConfigError(
                f"strategy 'budgeted': min_thinking_tokens = {self.min_thinking_tokens} is more"
                f" than thinking_tokens = {self.thinking_tokens}"
            )
        if self.min_thinking_tokens and self.by == "provider":
            raise ConfigError(
                "strategy 'budgeted': no provider keeps a minimum of thinking; use by = \"tags\","
                " or"
                " leave out min_thinking_tokens"
            )

    @property
    def most_calls(self) -> int:
        """Thinking, its extensions, the answer; one call where the provider keeps the budget."""
        if self.by == "provider":
            return 1
        return 2 + (self.extensions if self.min_thinking_tokens else 0)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        can = session.endpoint in _CAPPING and not self.min_thinking_tokens
        if self.by == "provider" or (self.by == "auto" and can):
            return await self._one_call(session, item)
        chat = ask_for_thinking(session, item, self.shots)
        thinking = await self._think(session, chat)
        closed = f"{OPEN}{thinking.text}{CLOSE}\nAnswer:"
        forced = await session.generate(
            [*chat, {"role": "assistant", "content": closed}],
            thinking_tags=(OPEN, CLOSE),
            max_tokens=self.answer_tokens,
            instead=ask_to_finish(thinking.text),
        )
        return Outcome(forced.text.replace(CLOSE, "").strip(), metadata=thinking.metadata)

    async def _one_call(self, session: Session, item: TaskItem) -> Outcome:
        reply = await session.generate(
            ask_for_answer(session, item, self.shots),
            thinking_budget_tokens=self.thinking_tokens,
            max_tokens=self.thinking_tokens + self.answer_tokens,
        )
        metadata = {"enforced_by": "provider", "thinking_tokens": reply.call.reasoning_tokens}
        return Outcome(reply.text, metadata=metadata)

    async def _think(self, session: Session, chat: list[Turn]) -> "_Thinking":
        thinking = _Thinking()
        while True:
            reply = await session.generate(
                [*chat, {"role": "assistant", "content": OPEN + thinking.text}],
                thinking_tags=(OPEN, CLOSE),
                stop=[CLOSE],
                max_tokens=self.thinking_tokens - thinking.tokens,
                instead=thinking.go_on,
            )
            thinking.add(reply)
            tokens_left = self.thinking_tokens - thinking.tokens
            thinking.was_cut = tokens_left <= 0 or reply.stop_reason == "max_tokens"
            is_enough = thinking.tokens >= self.min_thinking_tokens
            if thinking.was_cut or is_enough or thinking.extensions >= self.extensions:
                return thinking
            thinking.extend()


@dataclasses.dataclass(slots=True)
class _Thinking:
    """The thinking so far."""

    text: str = ""
    tokens: int = 0
    extensions: int = 0
    was_cut: bool = False

    def add(self, reply: Reply) -> None:
        """Add a call's thinking; all its output counts, or its words where no tokens are known."""
        thinking = (reply.thinking or "").strip()
        self.text = f"{self.text} {thinking}".strip() if thinking else self.text
        counted = reply.call.output_tokens
        self.tokens += len(thinking.split()) if counted is None else counted

    def extend(self) -> None:
        """Make it go on."""
        self.text = f"{self.text}\nWait,".lstrip()
        self.extensions += 1

    @property
    def go_on(self) -> list[Turn]:
        """Ask for more thinking, for models that do not go on with a turn that was begun."""
        if not self.text:
            return []
        return [
            {"role": "assistant", "content": f"{OPEN}{self.text}{CLOSE}"},
            {"role": "user", "content": f"Wait. Think on between {OPEN} and {CLOSE}."},
        ]

    @property
    def metadata(self) -> dict[str, Any]:
        """What was used."""
        return {
            "enforced_by": "tags",
            "thinking_tokens": self.tokens,
            "extensions": self.extensions,
            "was_cut": self.was_cut,
        }
