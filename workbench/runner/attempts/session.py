"""What a strategy sees: the session through which it asks models, and the answers it gets.

A strategy is one file under `strategies/` with one class. It holds no HTTP, no clock and no record
keeping: the session sends, times and records; the executor scores and writes the trace.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from workbench.errors import ConfigError, ProviderError
from workbench.records import Call, EnergyReading, Message, ToolCall, content_id
from workbench.runner.attempts.transcript import Transcript
from workbench.runner.energy import windows
from workbench.runner.providers import broken_requests, thinking_tags
from workbench.runner.providers.current_attempt import ORDINAL
from workbench.runner.providers.protocol import (
    Ask,
    BegunTurns,
    CallRefused,
    ChatMessage,
    Count,
    Line,
    OnChunk,
    Provider,
    Render,
    Reply,
    Request,
    StreamBroken,
    ToolSpec,
)

if TYPE_CHECKING:
    from workbench.datasets import TaskSet
    from workbench.runner.attempts.journal import AttemptJournal, JournalLine
    from workbench.scoring import TaskItem

__all__ = [
    "Ask",
    "CallRefused",
    "ChatMessage",
    "Count",
    "Line",
    "OnChunk",
    "Outcome",
    "Provider",
    "Render",
    "Reply",
    "Request",
    "Session",
    "Strategy",
    "StreamBroken",
    "ToolSpec",
]


class Outcome(msgspec.Struct, frozen=True):
    """How a strategy ended an item.

    Attributes:
        answer_text: the text that the scorer reads; "" where the model said nothing.
        confidence: the model's own confidence, 0..1; null where it was not asked.
        verifier_score: what a verifier gave the answer, the higher the better; null without one.
        stop_reason: why it ended; null takes the stop reason of the last subject call.
        limit_type: the limit that ended it early; null where none did.
        metadata: JSON-able facts about this trace that have no column.
    """

    answer_text: str
    confidence: float | None = None
    verifier_score: float | None = None
    stop_reason: str | None = None
    limit_type: str | None = None
    metadata: Mapping[str, Any] | None = None


class Strategy(Protocol):
    """A way of using a model to answer an item.

    One that makes more than one call says how many at most in `most_calls` (None where nobody
    knows): a budget counts on it before the first item has ended, and replies are kept as they
    arrive. One that asks other models names them in `helpers`; the plan must have them.

    Attributes:
        name: what `--strategy` and `configurations.strategy` say.
        params: JSON-able parameters that may change the answer; {} where there are none.
    """

    @property
    def name(self) -> str:
        """What `--strategy` and `configurations.strategy` say."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """JSON-able parameters that may change the answer; {} where there are none."""
        ...

    async def run(self, session: "Session", item: "TaskItem") -> Outcome:
        """Answer one item; errors of the provider pass through."""
        ...


def _goes_on(line: Line) -> bool | None:
    if line.endpoint == "completions":  # the chat is a text, which ends where the turn was left
        return True
    return line.begun_turns.taken_by(line.model) if line.begun_turns is not None else None


# (call, when it was under way) → what it took, once the counters have told
Meter = Callable[[Call, Sequence[windows.Window]], Awaitable[tuple[EnergyReading, ...]]]


class Session:
    """One attempt's conversation: sends requests and keeps what was said.

    Where the configuration has a seed, the first call gets it as it is, and every later call one
    derived from it and from the call's ordinal: samples of one question differ, and can be had
    again. Calls may be in flight at once; their ordinals are the order in which they were asked.

    Attributes:
        task: the task set of the item: its prompt, its name.
        endpoint: "chat", or "completions" for a base model.
        calls: the records so far; a call in flight is there without its result.
        broken: requests that broke off and were made again, each with the ordinal of its call.
        recalled: the calls that an earlier run had paid for, as the journal had them, by ordinal.
        windows: when each call was under way, as the meters of this machine saw it; by ordinal.
        facts: JSON-able facts about the attempt that have no column: they become part of the
            trace's metadata.
        rng: the strategy's own randomness, seeded by the attempt.
    """

    def __init__(
        self,
        *,
        task: "TaskSet",
        model: str,
        ask: Ask,
        count: Count,
        endpoint: str = "chat",
        sampling: Mapping[str, Any] | None = None,
        render: Render | None = None,
        helpers: Mapping[str, Line] | None = None,
        journal: "AttemptJournal | None" = None,
        meter: Meter | None = None,
        rng: random.Random | None = None,
        begun_turns: BegunTurns | None = None,
    ) -> None:
        """Bind a session to a model, and to helper models by name."""
        self.task, self.endpoint = task, endpoint
        self._line = Line(
            model, ask, count, endpoint, dict(sampling or {}), render, begun_turns=begun_turns
        )
        self._helpers, self._journal, self._meter = dict(helpers or {}), journal, meter
        self._transcript = Transcript()
        self.rng = rng or random.Random(0)  # noqa: S311  # not for secrets
        self.calls: list[Call] = []
        self.broken: list[Call] = []
        self.facts: dict[str, Any] = {}
        self.recalled: dict[int, JournalLine] = {}
        self.windows: dict[int, list[windows.Window]] = {}
        self._line_ids: dict[int, str] = {}  # of the journal's, by ordinal
        self._metered: list[asyncio.Task[tuple[EnergyReading, ...]]] = []

    @property
    def messages(self) -> list[Message]:
        """What was said so far."""
        return self._transcript.messages

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools that were asked for so far."""
        return self._transcript.tool_calls

    @property
    def goes_on(self) -> bool:
        """Whether the configuration's model is known to go on with a turn that was begun for it."""
        return _goes_on(self._line) is True

    @property
    def helpers(self) -> frozenset[str]:
        """The names of the other models that the plan gives."""
        return frozenset(self._helpers)

    def record_tool(self, call: int, tool: ToolCall, *, place: int | None = None) -> None:
        """Record what came of a tool.

        Args:
            call: ordinal of the call that asked for it (`reply.call.ordinal`).
            tool: the record; its own ordinals are filled in.
            place: which of the reply's `tool_calls` it is; None where the model asked for it in its
                text.
        """
        self._transcript.tool(call, tool, place)

    async def energy(self) -> tuple[EnergyReading, ...]:
        """Wait until the counters have told what the calls took that were made here under the meters."""
        told = await asyncio.gather(*self._metered)
        return tuple(reading for readings in told for reading in readings)

    async def count_tokens(self, text: str) -> int | None:
        """Count a text with the tokenizer of the configuration's server; None where it offers none."""
        return await self._line.count_tokens(text)

    async def generate(
        self,
        messages: Sequence[ChatMessage],
        *,
        role: str = "subject",
        model: str | None = None,
        tools: Sequence[ToolSpec] = (),
        thinking_tags: tuple[str, str] | None = None,
        instead: Sequence[ChatMessage] = (),
        most_tokens: int | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask a model to answer a chat.

        A base model gets the chat as a text (see `templates.py`). A last message by the assistant
        is the beginning of the answer, which the model goes on with; it is part of the reply's
        text. A server that refuses a begun turn is asked again without it, and is not sent one any
        more.

        Args:
            messages: {"role": "system" | "user" | "assistant", "content": text}, in order;
                `Reply.turn` and {"role": "tool", "tool_call_id", "name", "content"} where tools
                were used.
            role: subject, judge, verifier or draft.
            model: name of a helper model of the plan; None is the configuration's own.
            tools: what the model may ask for; a base model cannot.
            thinking_tags: (opening, closing); the text between them is thinking: it leaves `text`,
                and its tokens are counted by the server's tokenizer where there is one. Where None,
                the tags that models think between of their own accord are found.
            instead: what stands in the place of a begun turn where the model does not go on with
                one.
            most_tokens: cap on the output of this call; the configuration's own, if lower, holds.
            sampling: settings of this request, over those of the configuration.

        Raises:
            ProviderError: the model could not be asked; the call is recorded.
            LimitReached: a budget is used up.
        """
        line = self._line_to(model)
        settings = self._settings(line, sampling)
        if most_tokens is not None:
            settings["max_tokens"] = min(settings.get("max_tokens") or most_tokens, most_tokens)
        last = messages[-1] if messages else {"role": "user"}
        begun = last["role"] == "assistant" and not last.get("tool_calls")
        otherwise = [*messages[:-1], *instead]
        if begun and _goes_on(line) is False:
            messages, begun = otherwise, False
        prefill = last["content"] if begun else ""
        if line.endpoint == "completions":
            if line.render is None:
                raise TypeError("a session of completions needs a template")
            prompt, stop = line.render(messages)
            if stop:
                settings["stop"] = list(dict.fromkeys((*settings.get("stop", ()), *stop)))
            request = Request(model=line.model, prompt=prompt, sampling=settings)
            heard: Sequence[ChatMessage] = [{"role": "user", "content": prompt}]
        else:
            request = Request(
                model=line.model, messages=tuple(messages), sampling=settings, tools=tuple(tools)
            )
            heard = messages[:-1] if prefill else messages
        try:
            return await self._send(
                line, request, heard=heard, role=role, prefill=prefill, tags=thinking_tags
            )
        except CallRefused as error:
            learnt = line.begun_turns if begun and request.prompt is None else None
            if learnt is None or not learnt.refused(line.model, error):
                raise
        return await self.generate(
            otherwise, role=role, model=model, tools=tools, thinking_tags=thinking_tags, **settings
        )

    async def complete(
        self,
        prompt: str,
        *,
        role: str = "subject",
        thinking_tags: tuple[str, str] | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask a base model to continue a text; the session's endpoint must be completions."""
        settings = self._settings(self._line, sampling)
        request = Request(model=self._line.model, prompt=prompt, sampling=settings)
        heard = [{"role": "user", "content": prompt}]
        return await self._send(
            self._line, request, heard=heard, role=role, prefill="", tags=thinking_tags
        )

    def _line_to(self, model: str | None) -> Line:
        if model is None:
            return self._line
        if model not in self._helpers:
            known = ", ".join(sorted(self._helpers)) or "none"
            raise ConfigError(
                f"the strategy asks the helper model {model!r}, and the plan has {known}; add"
                f" [helpers.{model}] with its model to the plan"
            )
        return self._helpers[model]

    def _settings(self, line: Line, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the next call, with a seed (31 bits) of its own."""
        settings = {**line.sampling, **sampling}
        ordinal, seed = len(self.calls), settings.get("seed")
        if ordinal and seed is not None and "seed" not in sampling:
            settings["seed"] = int(content_id(seed, ordinal)[:8], 16) & 0x7FFFFFFF
        return settings

    async def _send(
        self,
        line: Line,
        request: Request,
        *,
        heard: Sequence[ChatMessage],
        role: str,
        prefill: str,
        tags: tuple[str, str] | None,
    ) -> Reply:
        ordinal = self._transcript.hear(heard)
        self.calls.append(Call(ordinal=ordinal, role=role, model=line.model))
        with windows.collecting() as made:
            reply, error = await self._ask(line, request, role, ordinal, made)
        self.windows[ordinal] = made
        tags = tags or thinking_tags.usual(reply)
        if tags is not None:
            reply = await thinking_tags.split(reply, prefill, tags, line.count_tokens)
        elif prefill:
            reply = msgspec.structs.replace(reply, text=prefill + reply.text)
        call = msgspec.structs.replace(reply.call, ordinal=ordinal, role=role)
        reply = msgspec.structs.replace(reply, call=call)
        self.calls[ordinal] = reply.call
        if made and self._meter is not None:
            told = self._settle(self._meter, reply.call, made)
            self._metered.append(asyncio.create_task(told))
        self._transcript.answer(ordinal, reply)
        if error is not None:
            raise error
        return reply

    async def _ask(
        self, line: Line, request: Request, role: str, ordinal: int, made: list[windows.Window]
    ) -> tuple[Reply, ProviderError | None]:
        """Ask, unless an earlier run has got the answer; what arrives is kept at once."""
        ORDINAL.set(ordinal)
        known = self._journal.recall(request, role) if self._journal is not None else None
        if known is not None and known.kept is not None and known.reply is not None:
            self.recalled[ordinal] = known.kept
            return known.reply, None

        def lose(call: Call) -> None:
            place = {"ordinal": ordinal, "role": role}
            if call.error_type == broken_requests.CANCELLED:
                self.calls[ordinal] = lost = msgspec.structs.replace(call, **place)
            else:
                lost = msgspec.structs.replace(call, **place, retried_as=ordinal)
                self.broken.append(lost)
            if self._journal is not None and known is not None:
                self._journal.lose(known.request_id, lost)

        with broken_requests.listening(lose):
            reply, error = await line.ask(request, role)
        if self._journal is not None and known is not None:
            call = msgspec.structs.replace(reply.call, role=role)
            self._line_ids[ordinal] = await self._journal.keep(
                known.request_id, msgspec.structs.replace(reply, call=call), is_metered=bool(made)
            )
        return reply, error

    async def _settle(
        self, meter: Meter, call: Call, made: Sequence[windows.Window]
    ) -> tuple[EnergyReading, ...]:
        """Wait for what a call took, and keep it beside its reply."""
        readings = await meter(call, made)
        if self._journal is not None and call.ordinal in self._line_ids:
            self._journal.keep_energy(self._line_ids[call.ordinal], readings)
        return readings
