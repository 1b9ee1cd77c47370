"""Recorded conversations: calls that continue each other, as growing traces.

A program sends the whole conversation with every request. A call continues the conversation

1. whose response its `previous_response_id` names,
2. or whose tool call ids stand in its prompt,
3. or one of whose prompts its own prompt begins with.

Every other call begins a conversation: a sub-agent, a conversation that was compacted, a prompt
that is sent once more after it was answered. A message is stored once, though every request repeats
the earlier ones.
"""

import collections
import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.recorder.requests import (
    PromptMessage,
    RecordedRequest,
    ToolRequest,
    ToolResult,
    canonical,
)
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Message,
    Task,
    ToolCall,
    Trace,
    content_id,
    json_text,
)
from workbench.runner.providers.protocol import Reply

_SETTINGS = ("effort", "thinking_budget_tokens", "temperature", "top_p", "max_tokens")
_GENERIC_ID = re.compile(r"call_?\d{0,4}|.{0,7}")  # ids that servers give to many calls


class RecordedCall(NamedTuple):
    """One request and what came of it."""

    request: RecordedRequest
    reply: Reply
    ended_at: dt.datetime

    @property
    def has_failed(self) -> bool:
        """Whether no answer came."""
        return self.reply.call.error_type is not None


class Conversation:
    """One conversation, and the records that describe it.

    Attributes:
        number: its place among the conversations of the recording, from 0.
        n_calls: calls so far.
    """

    def __init__(self, number: int, clean: Callable[[str], str]) -> None:
        """Begin without a call.

        Args:
            number: its place.
            clean: takes keys out of a text.
        """
        self.number = number
        self._clean = clean
        self._calls: list[RecordedCall] = []
        self._messages: list[Message] = []
        self._tools: list[ToolCall] = []
        self._n_tools: collections.Counter[int | None] = collections.Counter()  # of each call
        self._tool_by_id: dict[str, int] = {}
        self._without_result: dict[int, None] = {}  # ordinals of tool calls, in order
        self._known: collections.Counter[int] = collections.Counter()
        self._replies: set[str] = set()  # texts without white space
        self._input: str | None = None

    @property
    def n_calls(self) -> int:
        """How many calls it has."""
        return len(self._calls)

    def add(self, call: RecordedCall, hashes: tuple[int, ...], begins_with: int) -> None:
        """Append a call.

        Args:
            call: what was asked, and what came.
            hashes: of the prompt's messages.
            begins_with: how many of the messages are the prompt of an earlier call of this
                conversation; the assistant's message after them is the reply to it.
        """
        ordinal = len(self._calls)
        repeated: collections.Counter[int] = collections.Counter()
        for place, (key, message) in enumerate(zip(hashes, call.request.messages, strict=True)):
            repeated[key] += 1
            if repeated[key] <= self._known[key]:
                continue
            self._known[key] += 1
            if message.role == "assistant" and (
                place == begins_with > 0 or self.has_replied(message)
            ):
                continue
            self._add_prompt(message, ordinal, call.reply.call.started_at)
        self._calls.append(call)
        self._add_reply(call, ordinal)

    def has_replied(self, message: PromptMessage) -> bool:
        """Return whether an assistant's message is a reply of this conversation."""
        if any(tool.id in self._tool_by_id for tool in message.tool_calls if tool.id):
            return True
        text = squeezed(self._clean(message.text))
        return bool(text) and text in self._replies

    def _add_prompt(
        self, message: PromptMessage, ordinal: int, sent_at: dt.datetime | None
    ) -> None:
        for result in message.tool_results:
            self._add_result(result, ordinal, sent_at)
        if message.text:
            self._append(message.role, "text", message.text, ordinal)
            if message.role == "user" and self._input is None:
                self._input = self._clean(message.text)
        for tool in message.tool_calls:  # of an assistant's turn that was recorded nowhere
            place = self._add_tool(tool, None, None)
            self._append("assistant", "tool_call", _shown(tool), ordinal, place)

    def _add_result(self, result: ToolResult, ordinal: int, sent_at: dt.datetime | None) -> None:
        place = self._place_of(result)
        self._append("tool", "tool_result", result.text, ordinal, place)
        if place is None:
            return
        self._without_result.pop(place, None)
        tool = self._tools[place]
        failed = (
            {"error_type": "failed", "error_message": self._clean(result.text)[:500]}
            if result.is_error
            else {}
        )
        # between the reply and the next request runs nothing but the tool, where it is the only one
        is_alone = self._n_tools[tool.call_ordinal] == 1
        taken = _seconds(tool.started_at, sent_at) if is_alone else None
        self._tools[place] = msgspec.structs.replace(
            tool,
            result_bytes=len(result.text.encode("utf-8", "replace")),
            e2e_s=taken,
            **failed,
        )

    def _place_of(self, result: ToolResult) -> int | None:
        """Find the tool call of a result: by id, else by name, else the first without a result."""
        if result.id and result.id in self._tool_by_id:
            return self._tool_by_id[result.id]
        waiting = list(self._without_result)
        named = [n for n in waiting if not result.name or self._tools[n].tool == result.name]
        return next(iter(named), None)

    def _add_reply(self, call: RecordedCall, ordinal: int) -> None:
        reply = call.reply
        if reply.thinking:
            self._append("assistant", "thinking", reply.thinking, ordinal)
        if reply.text:
            self._append("assistant", "text", reply.text, ordinal)
            self._replies.add(squeezed(self._clean(reply.text)))
        for tool_id, tool in zip(reply.tool_ids, reply.tool_calls, strict=True):
            arguments = tool.arguments and canonical(tool.arguments)
            request = ToolRequest(tool_id, tool.tool, arguments)
            place = self._add_tool(request, ordinal, call.ended_at)
            self._append("assistant", "tool_call", _shown(request), ordinal, place)

    def _add_tool(
        self, tool: ToolRequest, ordinal: int | None, started_at: dt.datetime | None
    ) -> int:
        place = len(self._tools)
        self._tools.append(
            ToolCall(
                ordinal=place,
                tool=self._clean(tool.name),
                call_ordinal=ordinal,
                arguments=tool.arguments and self._clean(tool.arguments),
                started_at=started_at,
            )
        )
        self._without_result[place] = None
        self._n_tools[ordinal] += 1
        if tool.id:
            self._tool_by_id[tool.id] = place
        return place

    def _append(
        self, role: str, kind: str, text: str, ordinal: int, tool: int | None = None
    ) -> None:
        self._messages.append(
            Message(
                ordinal=len(self._messages),
                role=role,
                kind=kind,
                text=self._clean(text),
                call_ordinal=ordinal,
                tool_call_ordinal=tool,
            )
        )

    def records(self, recording: "Recording") -> Iterator[AnyRecord]:
        """Yield its item, configuration and trace, as they are now."""
        first = self._calls[0]
        text = self._input or "".join(m.text for m in self._messages[:1])
        item = Item(task_id=recording.task.task_id, item=content_id(text), input=text or None)
        configuration = self._configuration(recording.strategy)
        calls = tuple(self._numbered(recording.run_id))
        last = self._calls[-1]
        answered = [c.reply for c in self._calls if c.reply.text]
        began = first.reply.call.started_at
        yield from (item, configuration)
        yield Trace(
            run_id=recording.run_id,
            configuration_id=configuration.configuration_id,
            task_id=recording.task.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", "record", recording.run_id, self.number),
            trial=recording.trial_of(item.item_id, self.number),
            started_at=began,
            e2e_s=_seconds(began, max(call.ended_at for call in self._calls)),
            answer=self._clean(answered[-1].text) if answered else None,
            stop_reason=last.reply.stop_reason,
            error_type=last.reply.call.error_type,
            error_message=last.reply.call.error_message,
            n_turns=len(calls),
            metadata=json_text(recording.metadata),
            calls=calls,
            tool_calls=tuple(self._tools),
            messages=tuple(self._messages),
        )

    def _numbered(self, run_id: str) -> Iterator[Call]:
        for ordinal, call in enumerate(self._calls):
            yield msgspec.structs.replace(
                call.reply.call,
                ordinal=ordinal,
                call_id=content_id("call", "record", run_id, self.number, ordinal),
            )

    def _configuration(self, strategy: str) -> Configuration:
        """Return the model that wrote the most tokens, with the settings that its calls share."""
        weights: collections.Counter[tuple[str, str | None]] = collections.Counter()
        for call in self._calls:
            named = (call.request.model, call.reply.call.provider)
            weights[named] += call.reply.call.output_tokens or 0
        model, provider = max(weights, key=lambda named: (weights[named], str(named)))
        settings = [call.request.settings for call in self._calls if call.request.model == model]
        return Configuration(
            model=model,
            provider=provider,
            strategy=strategy,
            **{name: _shared(settings, name) for name in _SETTINGS},
        )


class Recording:
    """All conversations of one recording.

    Attributes:
        run_id: of its run.
        task: the task that its items belong to.
        strategy: the name of the program in configurations.
        metadata: what each trace says of where the program ran.
        clean: takes keys out of a text.
        n_calls: calls so far.
    """

    def __init__(
        self,
        run_id: str,
        *,
        task: str,
        strategy: str,
        metadata: Mapping[str, Any],
        clean: Callable[[str], str] = str,
    ) -> None:
        """Begin without a conversation.

        Args:
            run_id: of the run.
            task: name of the task.
            strategy: name of the program.
            metadata: of every trace: project, session.
            clean: takes keys out of a text.
        """
        self.run_id, self.strategy, self.metadata = run_id, strategy, metadata
        self.task = Task(task=task, description="Calls of a program, recorded while it ran.")
        self.n_calls = 0
        self.clean = clean
        self._conversations: list[Conversation] = []
        self._by_response: dict[str, Conversation] = {}
        self._by_tool: dict[str, Conversation | None] = {}  # None: an id that two of them use
        # hash of the messages of a prompt → the conversations that sent it, and whether it failed
        self._by_prompt: dict[int, dict[int, bool]] = {}
        self._trials: dict[str, list[int]] = {}

    @property
    def conversations(self) -> Sequence[Conversation]:
        """The conversations, in the order in which they began."""
        return self._conversations

    def add(self, call: RecordedCall) -> Conversation:
        """Append a call to the conversation that it continues, or begin one; returns it."""
        messages = call.request.messages
        hashes = tuple(map(_hash, messages))
        prefixes = _prefixes(messages, hashes)
        conversation, begins_with = self._continued(call, prefixes)
        if conversation is None:
            conversation = Conversation(len(self._conversations), self.clean)
            self._conversations.append(conversation)
        conversation.add(call, hashes, begins_with)
        self.n_calls += 1
        whole = prefixes[-1][1] if prefixes else 0
        self._by_prompt.setdefault(whole, {})[conversation.number] = call.has_failed
        if call.reply.call.response_id:
            self._by_response[call.reply.call.response_id] = conversation
        for tool_id in call.reply.tool_ids:
            if not _GENERIC_ID.fullmatch(tool_id):
                other = self._by_tool.setdefault(tool_id, conversation)
                self._by_tool[tool_id] = conversation if other is conversation else None
        return conversation

    def trial_of(self, item_id: str, number: int) -> int:
        """Return how many earlier conversations of this recording have the same item."""
        trials = self._trials.setdefault(item_id, [])
        if number not in trials:
            trials.append(number)
        return trials.index(number)

    def _continued(
        self, call: RecordedCall, prefixes: Sequence[tuple[int, int]]
    ) -> tuple[Conversation | None, int]:
        """Find the conversation that a call continues, and how many messages it repeats."""
        request = call.request
        if request.continues and (known := self._by_response.get(request.continues)):
            return known, 0
        by_prefix, begins_with = self._with_prefix(request.messages, prefixes)
        for message in reversed(request.messages):
            ids = [t.id for t in message.tool_calls] + [t.id for t in message.tool_results]
            for tool_id in ids:
                if (known := self._by_tool.get(tool_id)) is not None:
                    return known, begins_with if known is by_prefix else 0
        return by_prefix, begins_with

    def _with_prefix(
        self, messages: Sequence[PromptMessage], prefixes: Sequence[tuple[int, int]]
    ) -> tuple[Conversation | None, int]:
        for place, prefix in reversed(prefixes):
            senders = self._by_prompt.get(prefix)
            if not senders:
                continue
            if place == len(messages):  # the same prompt again: only after a failure
                failed = [n for n, has_failed in senders.items() if has_failed]
                if failed:
                    return self._conversations[failed[-1]], 0
                continue
            conversations = [self._conversations[n] for n in senders]
            own = [c for c in conversations if c.has_replied(messages[place])]
            return (own or conversations)[-1], place
        return None, 0


def squeezed(text: str) -> str:
    """Remove white space: clients send replies back with other line ends than they came with."""
    return "".join(text.split())


def _hash(message: PromptMessage) -> int:
    """Hash a message; valid within this process only."""
    return hash(message)


def _prefixes(messages: Iterable[PromptMessage], hashes: Iterable[int]) -> list[tuple[int, int]]:
    """Hash every beginning of a prompt: (number of messages, hash), without the system's words.

    Programs write the time and the like into the system's words, so that they differ from call to
    call.
    """
    prefixes, key = [], 0
    for place, (message, of_message) in enumerate(zip(messages, hashes, strict=True), start=1):
        if message.role != "system":
            key = hash((key, of_message))
            prefixes.append((place, key))
    return prefixes


def _shared(settings: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = {values.get(name) for values in settings}
    return values.pop() if len(values) == 1 else None


def _shown(tool: ToolRequest) -> str:
    return f"{tool.name}({tool.arguments or ''})"


def _seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    known = start is not None and end is not None and end >= start
    return (end - start).total_seconds() if known else None  # type: ignore[operator]  # known
