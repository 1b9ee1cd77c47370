"""The transcript of an attempt, call by call: the messages and tool calls of its trace.

Calls may be in flight concurrently; the transcript does not depend on the order in which they end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.records import Message, ToolCall, json_text
from workbench.runner.providers.protocol import Reply

_BEGIN = 0  # hash of a chat without messages


class _Part(NamedTuple):
    """One part of the conversation, before it has its ordinal."""

    role: str
    kind: str
    text: str
    tool: tuple[int, int] | None = None  # (call, place among that call's tools)


class _Exchange:
    """One call: the new parts of its prompt, and the parts of the reply."""

    def __init__(self) -> None:
        self.prompt_parts: list[_Part] = []
        self.reply_parts: list[_Part] = []
        self.tools: list[ToolCall] = []
        self.prompt = _BEGIN  # hash of the whole prompt


class Transcript:
    """Records every message once, though each request of a chat repeats the earlier ones.

    A message is new unless a chat that began with the same messages had it in the same place.
    """

    def __init__(self) -> None:
        """Start without messages."""
        self._exchanges: list[_Exchange] = []
        self._known: set[int] = set()
        self._tool_places: dict[str, tuple[int, int]] = {}  # tool call id → (call, place)

    def hear(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Record the prompt of the next call; returns the call's ordinal."""
        exchange = _Exchange()
        key = _BEGIN
        for message in messages:
            key = _after(key, message)
            if key not in self._known:
                self._known.add(key)
                exchange.prompt_parts.extend(self._parts(message))
        exchange.prompt = key
        self._exchanges.append(exchange)
        return len(self._exchanges) - 1

    def answer(self, ordinal: int, reply: Reply) -> None:
        """Record the reply to a call, whole or broken off."""
        exchange = self._exchanges[ordinal]
        self._known.add(_after(exchange.prompt, {"role": "assistant", "content": reply.text}))
        self._known.add(_after(exchange.prompt, reply.turn))
        if reply.thinking:
            exchange.reply_parts.append(_Part("assistant", "thinking", reply.thinking))
        if reply.text:
            exchange.reply_parts.append(_Part("assistant", "text", reply.text))
        for tool, tool_id in zip(reply.tool_calls, reply.tool_ids, strict=True):
            place = self._add(exchange, ordinal, tool)
            self._tool_places[tool_id] = (ordinal, place)
            text = f"{tool.tool}({tool.arguments or ''})"
            exchange.reply_parts.append(_Part("assistant", "tool_call", text, (ordinal, place)))

    def tool(self, ordinal: int, tool: ToolCall, place: int | None = None) -> None:
        """Record the result of a tool call.

        Args:
            ordinal: the call that requested it.
            tool: the record.
            place: index among the reply's tool calls; None where the model requested it in its
                text.
        """
        exchange = self._exchanges[ordinal]
        if place is None:
            self._add(exchange, ordinal, tool)
        else:
            exchange.tools[place] = msgspec.structs.replace(tool, call_ordinal=ordinal)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls, in the order of the calls."""
        tools = [tool for exchange in self._exchanges for tool in exchange.tools]
        return [msgspec.structs.replace(tool, ordinal=n) for n, tool in enumerate(tools)]

    @property
    def messages(self) -> list[Message]:
        """The conversation: the new messages of each prompt, then the reply to it."""
        starts = self._tool_starts()
        return [
            Message(
                ordinal=n,
                role=part.role,
                kind=part.kind,
                text=part.text,
                call_ordinal=call,
                tool_call_ordinal=starts[part.tool[0]] + part.tool[1] if part.tool else None,
            )
            for n, (call, part) in enumerate(self._all())
        ]

    def _all(self) -> Iterator[tuple[int, _Part]]:
        for call, exchange in enumerate(self._exchanges):
            for part in (*exchange.prompt_parts, *exchange.reply_parts):
                yield call, part

    def _tool_starts(self) -> list[int]:
        """Count the tool calls before those of each call."""
        starts, n = [], 0
        for exchange in self._exchanges:
            starts.append(n)
            n += len(exchange.tools)
        return starts

    def _add(self, exchange: _Exchange, ordinal: int, tool: ToolCall) -> int:
        exchange.tools.append(msgspec.structs.replace(tool, call_ordinal=ordinal))
        return len(exchange.tools) - 1

    def _parts(self, message: Mapping[str, Any]) -> Iterator[_Part]:
        """Yield the parts of a prompt's message, which may be a worked example or tool result."""
        role, content = str(message["role"]), message.get("content")
        tool = self._tool_places.get(message.get("tool_call_id", ""))
        text = content if isinstance(content, str) else json_text(content)
        if text or not message.get("tool_calls"):
            yield _Part(role, "tool_result" if role == "tool" else "text", text, tool)
        for call in message.get("tool_calls", ()):
            yield _Part(role, "tool_call", f"{call['name']}({call.get('arguments') or ''})")


def _after(key: int, message: Mapping[str, Any]) -> int:
    """Hash a chat and one more message; valid within this process only."""
    content = message.get("content")
    text = content if isinstance(content, str) else json_text(content)
    tool_calls = tuple(
        (t.get("id"), t.get("name"), t.get("arguments")) for t in message.get("tool_calls", ())
    )
    return hash((key, message["role"], text, tool_calls, message.get("tool_call_id")))
