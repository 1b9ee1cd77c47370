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

from workbench.recorder.requests import RecordedRequest
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.runner.providers.protocol import Reply
from workbench.sources.prompts import (
    CallReply,
    CallTranscript,
    PromptMessage,
    ToolRequest,
    canonical,
    seconds_between,
)

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
        self.transcript = CallTranscript(clean)
        self._calls: list[RecordedCall] = []

    @property
    def n_calls(self) -> int:
        """How many calls it has."""
        return len(self._calls)

    def add(self, call: RecordedCall, begins_with: int) -> None:
        """Append a call, `begins_with` messages of whose prompt are that of an earlier one."""
        reply = call.reply
        tools = zip(reply.tool_ids, reply.tool_calls, strict=True)
        requests = (ToolRequest(id_, tool.tool, canonical(tool.arguments)) for id_, tool in tools)
        self.transcript.add(
            len(self._calls),
            call.request.messages,
            CallReply(reply.text, reply.thinking or "", tuple(requests)),
            sent_at=reply.call.started_at,
            ended_at=call.ended_at,
            begins_with=begins_with,
        )
        self._calls.append(call)

    def records(self, recording: "Recording") -> Iterator[AnyRecord]:
        """Yield its item, configuration and trace, as they are now."""
        first = self._calls[0]
        messages = self.transcript.messages
        text = self.transcript.first_input or "".join(m.text for m in messages[:1])
        item = Item(task_id=recording.task.task_id, item=content_id(text), input=text or None)
        configuration = self._configuration(recording.strategy)
        calls = tuple(self._numbered(recording.run_id))
        last = self._calls[-1]
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
            e2e_s=seconds_between(began, max(call.ended_at for call in self._calls)),
            answer=self.transcript.last_reply or None,
            stop_reason=last.reply.stop_reason,
            error_type=last.reply.call.error_type,
            error_message=last.reply.call.error_message,
            n_turns=len(calls),
            metadata=json_text(recording.metadata),
            calls=calls,
            tool_calls=tuple(self.transcript.tools),
            messages=tuple(messages),
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
        prefixes = _prefixes(messages)
        conversation, begins_with = self._continued(call, prefixes)
        if conversation is None:
            conversation = Conversation(len(self._conversations), self.clean)
            self._conversations.append(conversation)
        conversation.add(call, begins_with)
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
            own = [c for c in conversations if c.transcript.has_replied(messages[place])]
            return (own or conversations)[-1], place
        return None, 0


def _prefixes(messages: Iterable[PromptMessage]) -> list[tuple[int, int]]:
    """Hash every beginning of a prompt: (number of messages, hash), without the system's words.

    Programs write the time and the like into the system's words, so that they differ from call to
    call. The hashes are valid within this process only.
    """
    prefixes, key = [], 0
    for place, message in enumerate(messages, start=1):
        if message.role != "system":
            key = hash((key, message))
            prefixes.append((place, key))
    return prefixes


def _shared(settings: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = {values.get(name) for values in settings}
    return values.pop() if len(values) == 1 else None
