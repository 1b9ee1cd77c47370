"""The session through which a strategy sends requests, and the protocol of strategies.

A strategy is one file under `strategies/` with one class. It does no HTTP, timing or recording: the
session sends, times and records; `execution/attempt.py` scores and builds the trace.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
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
    """The result of a strategy on one item.

    Attributes:
        answer_text: the text that the scorer reads; "" where the model wrote nothing.
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

    A strategy of more than one call gives the upper bound in `most_calls` (None: unknown): a budget
    uses it before the first item has ended, and replies go to the journal as they arrive. A
    strategy that uses other models names them in `helpers`; the plan must define them.

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


def _continues_turns(line: Line) -> bool | None:
    """Whether a model continues a begun assistant turn; None where that is not known yet."""
    if line.endpoint == "completions":  # the chat is one text, which ends inside the turn
        return True
    return line.begun_turns.taken_by(line.model) if line.begun_turns is not None else None


# (call, its time windows) → its energy readings, once the counters have updated
Meter = Callable[[Call, Sequence[windows.Window]], Awaitable[tuple[EnergyReading, ...]]]


class Session:
    """The conversation of one attempt: sends requests and records calls, messages and tool calls.

    Where the configuration has a seed, the first call uses it, and every later call one derived
    from it and the call's ordinal: samples of one question differ, and are reproducible. Calls may
    be in flight concurrently; their ordinals are the order in which they were sent.

    Attributes:
        task: the task set of the item: its prompt, its name.
        endpoint: "chat", or "completions" for a base model.
        calls: the records so far; a call in flight has no result yet.
        broken: broken requests that were sent again, each with the ordinal of its call.
        recalled: journal lines of calls that an earlier run had paid for, by ordinal.
        windows: time windows of each ended call at this machine's meters, by ordinal.
        facts: JSON-able facts about the attempt that have no column; part of the trace's metadata.
        rng: the strategy's randomness, seeded by the attempt.
        own_tools: makers of the user's tools, by `module:Class` or `file.py:Class`.
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
        own_tools: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
    ) -> None:
        """Bind a session to a model, and to helper models by name."""
        self.task = task
        self.own_tools = own_tools
        self.endpoint = endpoint
        self._line = Line(
            model, ask, count, endpoint, dict(sampling or {}), render, begun_turns=begun_turns
        )
        self._helpers = dict(helpers or {})
        self._journal = journal
        self._meter = meter
        self._transcript = Transcript()
        self.rng = rng or random.Random(0)  # noqa: S311  # not for secrets
        self.calls: list[Call] = []
        self.broken: list[Call] = []
        self.facts: dict[str, Any] = {}
        self.recalled: dict[int, JournalLine] = {}
        self.windows: dict[int, list[windows.Window]] = {}
        self._line_ids: dict[int, str] = {}  # ids of journal lines, by ordinal
        self._metered: list[asyncio.Task[tuple[EnergyReading, ...]]] = []

    @property
    def messages(self) -> list[Message]:
        """The messages so far."""
        return self._transcript.messages

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls so far."""
        return self._transcript.tool_calls

    @property
    def goes_on(self) -> bool:
        """Whether the configuration's model is known to continue a begun assistant turn."""
        return _continues_turns(self._line) is True

    @property
    def helpers(self) -> frozenset[str]:
        """The names of the plan's helper models."""
        return frozenset(self._helpers)

    def record_tool(self, call: int, tool: ToolCall, *, place: int | None = None) -> None:
        """Record the result of a tool call.

        Args:
            call: ordinal of the call that requested it (`reply.call.ordinal`).
            tool: the record; its ordinals are filled in.
            place: index among the reply's `tool_calls`; None where the model requested it in its
                text.
        """
        self._transcript.tool(call, tool, place)

    async def energy(self) -> tuple[EnergyReading, ...]:
        """Wait for the energy readings of the calls that ran under this machine's meters."""
        per_call = await asyncio.gather(*self._metered)
        return tuple(reading for readings in per_call for reading in readings)

    async def count_tokens(self, text: str) -> int | None:
        """Count a text's tokens with the server's tokenizer; None where it offers none."""
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

        A base model gets the chat as a text (see `providers/chat_templates.py`). A last message by
        the assistant is the beginning of the answer, which the model continues; it is part of the
        reply's text. A server that refuses a begun turn gets the request again without it, and no
        begun turn any more.

        Args:
            messages: {"role": "system" | "user" | "assistant", "content": text}, in order;
                `Reply.turn` and {"role": "tool", "tool_call_id", "name", "content"} where tools
                were used.
            role: subject, judge, verifier or draft.
            model: name of a helper model of the plan; None is the configuration's model.
            tools: tools that the model may call; a base model cannot.
            thinking_tags: (opening, closing); the text between them is thinking: it is taken out of
                `text`, and its tokens are counted by the server's tokenizer where there is one.
                None: the usual thinking tags are searched.
            instead: messages in place of a begun turn where the model does not continue one.
            most_tokens: cap on the output of this call; a lower one of the configuration holds.
            sampling: settings of this request, over those of the configuration.

        Raises:
            ProviderError: the request failed; the call is recorded.
            LimitReached: a budget is used up.
        """
        line = self._line_to(model)
        settings = self._settings(line, sampling)
        if most_tokens is not None:
            settings["max_tokens"] = min(settings.get("max_tokens") or most_tokens, most_tokens)
        last = messages[-1] if messages else {"role": "user"}
        is_begun = last["role"] == "assistant" and not last.get("tool_calls")
        without_begun_turn = [*messages[:-1], *instead]
        if is_begun and _continues_turns(line) is False:
            messages = without_begun_turn
            is_begun = False
        prefill = last["content"] if is_begun else ""
        if line.endpoint == "completions":
            if line.render is None:
                raise TypeError("a session of completions needs a template")
            prompt, stop = line.render(messages)
            if stop:
                settings["stop"] = list(dict.fromkeys((*settings.get("stop", ()), *stop)))
            request = Request(model=line.model, prompt=prompt, sampling=settings)
            heard: Sequence[ChatMessage] = [{"role": "user", "content": prompt}]  # as recorded
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
            begun_turns = line.begun_turns if is_begun and request.prompt is None else None
            if begun_turns is None or not begun_turns.refused(line.model, error):
                raise
        return await self.generate(
            without_begun_turn,
            role=role,
            model=model,
            tools=tools,
            thinking_tags=thinking_tags,
            **settings,
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
                f"the strategy uses the helper model {model!r}, and the plan has {known}; add"
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
        with windows.collecting() as call_windows:
            reply, error = await self._ask(line, request, role, ordinal, call_windows)
        self.windows[ordinal] = call_windows
        tags = tags or thinking_tags.usual(reply)
        if tags is not None:
            reply = await thinking_tags.split(reply, prefill, tags, line.count_tokens)
        elif prefill:
            reply = msgspec.structs.replace(reply, text=prefill + reply.text)
        call = msgspec.structs.replace(reply.call, ordinal=ordinal, role=role)
        reply = msgspec.structs.replace(reply, call=call)
        self.calls[ordinal] = reply.call
        if call_windows and self._meter is not None:
            readings = self._settle(self._meter, reply.call, call_windows)
            self._metered.append(asyncio.create_task(readings))
        self._transcript.answer(ordinal, reply)
        if error is not None:
            raise error
        return reply

    async def _ask(
        self,
        line: Line,
        request: Request,
        role: str,
        ordinal: int,
        call_windows: list[windows.Window],
    ) -> tuple[Reply, ProviderError | None]:
        """Send a request unless the journal has its reply; a new reply is journalled at once."""
        ORDINAL.set(ordinal)
        known = self._journal.recall(request, role) if self._journal is not None else None
        if known is not None and known.line is not None and known.reply is not None:
            self.recalled[ordinal] = known.line
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
                known.request_id,
                msgspec.structs.replace(reply, call=call),
                is_metered=bool(call_windows),
            )
        return reply, error

    async def _settle(
        self, meter: Meter, call: Call, call_windows: Sequence[windows.Window]
    ) -> tuple[EnergyReading, ...]:
        """Wait for the energy readings of a call, and journal them beside its reply."""
        readings = await meter(call, call_windows)
        if self._journal is not None and call.ordinal in self._line_ids:
            self._journal.keep_energy(self._line_ids[call.ordinal], readings)
        return readings
