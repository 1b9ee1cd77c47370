"""A recording: the possible prompts of each call of recorded traces, and the replies to it.

A trace holds every message once (see `transcript.py`), so the prompt of a call is some beginning of
the earlier messages, followed by the new ones. `Conversation.can_be_prompt` says whether a chat
can be that prompt.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Message,
    ToolCall,
    Trace,
    content_id,
    json_text,
)
from workbench.runner.providers.protocol import ChatMessage, Request

_TAG = re.compile(r"<([^<>/\s]{1,40})>")


class Part(NamedTuple):
    """One part of a chat: role (system, user, assistant, tool), kind, text."""

    role: str
    kind: str
    text: str


Chat = tuple[Part, ...]


def chat_of(request: Request) -> tuple[Chat, str]:
    """Take a request apart: its prompt, and the beginning of the answer that it gives."""
    if request.prompt is not None:
        return (Part("user", "text", request.prompt),), ""
    messages, begun = request.messages, ""
    if messages and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        begun = str(messages[-1].get("content") or "")
        messages = messages[:-1] if begun else messages
    return tuple(part for message in messages for part in _parts(message)), begun


def _parts(message: ChatMessage) -> Iterator[Part]:
    role, content = str(message["role"]), message.get("content")
    text = content if isinstance(content, str) else "" if content is None else json_text(content)
    tool_calls = message.get("tool_calls") or ()
    if text or (role != "assistant" and not tool_calls):
        yield Part(role, "tool_result" if role == "tool" else "text", text)
    for tool in tool_calls:
        yield Part(role, "tool_call", _tool_text(str(tool["name"]), tool.get("arguments")))


def _tool_text(name: str, arguments: str | None) -> str:
    return f"{name}({'' if arguments in {None, '{}'} else arguments})"


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded call.

    Attributes:
        heard: what was new in its prompt.
        reply_chat: the reply as a continued chat repeats it: text, then tool calls.
        seed: that of its request; None where none is known.
    """

    trace: Trace
    configuration: Configuration | None
    call: Call
    heard: Chat
    reply_chat: Chat
    thinking: str | None
    tools: tuple[ToolCall, ...]
    seed: int | None

    @property
    def text(self) -> str:
        """The visible text."""
        return "".join(part.text for part in self.reply_chat if part.kind == "text")

    @property
    def call_id(self) -> str:
        """Its name in the recording."""
        return self.call.call_id or f"{self.trace.trace_id}-{self.call.ordinal}"

    @property
    def model(self) -> str | None:
        """The model that was asked."""
        return self.call.model or (self.configuration.model if self.configuration else None)


class Conversation:
    """The calls of one trace, in the order of asking."""

    def __init__(self, trace: Trace, configuration: Configuration | None) -> None:
        """Return the prompt and the reply of each call."""
        calls = sorted(trace.calls, key=lambda call: call.ordinal)
        base = _base_seed(configuration)
        self.calls = [
            _recorded(trace, configuration, call, messages, _seed(base, trace, call.ordinal))
            for call, messages in zip(calls, _by_call(trace, calls), strict=True)
        ]

    def can_be_prompt(self, chat: Chat, place: int) -> bool:
        """Whether a chat can be the prompt of the call at a place."""
        return self._matches_prompt(chat, len(chat), place, {})

    def _matches_prompt(
        self, chat: Chat, end: int, place: int, known: dict[tuple[int, int], bool]
    ) -> bool:
        start = _without(chat, end, self.calls[place].heard)
        return start is not None and self._begun(chat, start, place, known)

    def _begun(self, chat: Chat, end: int, place: int, known: dict[tuple[int, int], bool]) -> bool:
        """Whether `chat[:end]` is the beginning of the messages before the call at a place."""
        if not end:
            return True
        if (end, place) not in known:
            known[end, place] = any(self._ends_in(chat, end, p, known) for p in range(place))
        return known[end, place]

    def _ends_in(
        self, chat: Chat, end: int, place: int, known: dict[tuple[int, int], bool]
    ) -> bool:
        """Whether `chat[:end]` ends within the prompt of a call, or with its reply."""
        recorded = self.calls[place]
        only_text = tuple(part for part in recorded.reply_chat if part.kind == "text")
        for said in {recorded.reply_chat, only_text}:
            start = _without(chat, end, said) if said else None
            if start is not None and self._matches_prompt(chat, start, place, known):
                return True
        for length in range(len(recorded.heard), 0, -1):
            start = _without(chat, end, recorded.heard[:length])
            if start is not None and self._begun(chat, start, place, known):
                return True
        return False

    def last_parts(self, place: int) -> set[Part]:
        """Return what the prompt of a call may end with."""
        heard = self.calls[place].heard
        if heard:
            return {heard[-1]}
        return {part for r in self.calls[:place] for part in (*r.heard, *r.reply_chat)}


def conversations(records: Iterable[AnyRecord]) -> list[Conversation]:
    """Read traces and configurations, in any order; other records are let pass."""
    configurations: dict[str, Configuration] = {}
    traces: dict[str, Trace] = {}
    for record in records:
        if isinstance(record, Configuration):
            configurations[record.configuration_id] = record
        elif isinstance(record, Trace):
            traces[record.trace_id] = record
    ordered = sorted(traces.values(), key=lambda t: (t.trial, str(t.started_at or ""), t.trace_id))
    return [Conversation(t, configurations.get(t.configuration_id)) for t in ordered]


def raw_text(recorded: Recorded, begun: str) -> str | None:
    """Return a reply's text after the beginning that a request gives; None if it does not fit.

    A session adds the beginning to the text and takes tagged thinking out (`tagged.split`);
    whatever is returned here becomes the recorded text and thinking again.
    """
    text, thinking = recorded.text, recorded.thinking or ""
    if not begun or (not text and not thinking):
        return text
    if text.startswith(begun):
        return text[len(begun) :]
    tag = _TAG.search(begun)
    if tag is None:
        return None
    closing = f"</{tag[1]}>"
    before = begun[: tag.start()].strip()
    if not text.startswith(before):
        return None
    shown = text[len(before) :]
    closed = begun.find(closing, tag.end())
    if closed < 0:
        return f"{thinking}{closing}{shown}" if shown else thinking
    rest = begun[closed + len(closing) :].lstrip()
    return shown[len(rest) :] if shown.startswith(rest) else None


def _without(chat: Chat, end: int, tail: Chat) -> int | None:
    """Return where `chat[:end]` begins to be `tail`; None if it does not end so."""
    start = end - len(tail)
    return start if start >= 0 and chat[start:end] == tail else None


def _by_call(trace: Trace, calls: list[Call]) -> list[list[Message]]:
    """Assign messages to their calls; one without a call belongs to the next prompt."""
    places = {call.ordinal: place for place, call in enumerate(calls)}
    per_call: list[list[Message]] = [[] for _ in calls]
    waiting: list[Message] = []
    for message in sorted(trace.messages, key=lambda m: m.ordinal):
        place = places.get(-1 if message.call_ordinal is None else message.call_ordinal)
        if place is None:
            waiting.append(message)
        else:
            per_call[place] += [*waiting, message]
            waiting = []
    return per_call


def _recorded(
    trace: Trace,
    configuration: Configuration | None,
    call: Call,
    messages: list[Message],
    seed: int | None,
) -> Recorded:
    """Separate prompt and reply: the reply is the last turn of the assistant."""
    turn = len(messages)
    while turn and messages[turn - 1].role == "assistant":
        turn -= 1
    thinking = "".join(m.text for m in messages[turn:] if m.kind == "thinking")
    tool_parts = [m for m in messages[turn:] if m.kind == "tool_call"]
    tools = tuple(_tool(trace, message, place) for place, message in enumerate(tool_parts))
    reply_chat = [
        Part("assistant", "text", m.text) for m in messages[turn:] if m.kind == "text" and m.text
    ]
    reply_chat += [Part("assistant", "tool_call", _tool_text(t.tool, t.arguments)) for t in tools]
    return Recorded(
        trace=trace,
        configuration=configuration,
        call=call,
        heard=tuple(
            _heard(m)
            for m in messages[:turn]
            if m.kind != "thinking" and (m.text or m.role != "assistant")
        ),
        reply_chat=tuple(reply_chat),
        thinking=thinking or None,
        tools=tools,
        seed=seed,
    )


def _heard(message: Message) -> Part:
    text = message.text
    if message.kind == "tool_call" and text.endswith("({})"):
        text = text[:-3] + ")"
    return Part(message.role, message.kind, text)


def _tool(trace: Trace, message: Message, place: int) -> ToolCall:
    """Find what was asked of a tool: in the record of the tool call, else in the message."""
    for tool in trace.tool_calls:
        if tool.ordinal == message.tool_call_ordinal:
            return ToolCall(ordinal=place, tool=tool.tool, arguments=tool.arguments)
    name, _, arguments = message.text.removesuffix(")").partition("(")
    return ToolCall(ordinal=place, tool=name, arguments=arguments or None)


def _base_seed(configuration: Configuration | None) -> int | None:
    if configuration is None or not configuration.settings:
        return None
    try:
        base = msgspec.json.decode(configuration.settings).get("seed")
    except (*UNDECODABLE, AttributeError):
        return None
    return base if isinstance(base, int) else None


def _seed(base: int | None, trace: Trace, ordinal: int) -> int | None:
    """Return the seed that a session gave the request of a call: see `Session`, `plan.seed_of`."""
    if base is None:
        return None
    first = int(content_id(base, trace.item_id, trace.trial)[:8], 16) & 0x7FFFFFFF
    return int(content_id(first, ordinal)[:8], 16) & 0x7FFFFFFF if ordinal else first
