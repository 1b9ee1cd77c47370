"""What was said in an attempt, call by call: the messages and tool calls of its trace.

Calls may be in flight at once; what is kept does not depend on the order in which they end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.records import Message, ToolCall, json_text
from workbench.runner.providers.protocol import Reply

_BEGIN = 0  # what a chat hashes to before its first message


class _Said(NamedTuple):
    """One part of the conversation, before it has its place."""

    role: str
    kind: str
    text: str
    tool: tuple[int, int] | None = None  # (call, place among that call's tools)


class _Exchange:
    """One call: what was new in its prompt, and what came back."""

    def __init__(self) -> None:
        self.heard: list[_Said] = []
        self.said: list[_Said] = []
        self.tools: list[ToolCall] = []
        self.prompt = _BEGIN  # hash of the whole prompt


class Transcript:
    """Records a conversation once, though every request of a chat repeats what was said before.

    A message is new unless a chat that began with the same messages had it in the same place.
    """

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._exchanges: list[_Exchange] = []
        self._known: set[int] = set()
        self._asked: dict[str, tuple[int, int]] = {}  # id of a tool call → where it is

    def hear(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Note the prompt of the next call; returns its ordinal."""
        exchange = _Exchange()
        key = _BEGIN
        for message in messages:
            key = _after(key, message)
            if key not in self._known:
                self._known.add(key)
                exchange.heard.extend(self._parts(message))
        exchange.prompt = key
        self._exchanges.append(exchange)
        return len(self._exchanges) - 1

    def answer(self, ordinal: int, reply: Reply) -> None:
        """Note what came back to a call, whole or broken off."""
        exchange = self._exchanges[ordinal]
        self._known.add(_after(exchange.prompt, {"role": "assistant", "content": reply.text}))
        self._known.add(_after(exchange.prompt, reply.turn))
        if reply.thinking:
            exchange.said.append(_Said("assistant", "thinking", reply.thinking))
        if reply.text:
            exchange.said.append(_Said("assistant", "text", reply.text))
        for tool, tool_id in zip(reply.tool_calls, reply.tool_ids, strict=True):
            place = self._add(exchange, ordinal, tool)
            self._asked[tool_id] = (ordinal, place)
            text = f"{tool.tool}({tool.arguments or ''})"
            exchange.said.append(_Said("assistant", "tool_call", text, (ordinal, place)))

    def tool(self, ordinal: int, tool: ToolCall, place: int | None = None) -> None:
        """Note what came of a tool that a call asked for.

        Args:
            ordinal: the call.
            tool: the record.
            place: which of the reply's tool calls it is; None where the model asked for it in its
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
        """The conversation: what was new in each prompt, then what came back to it."""
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

    def _all(self) -> Iterator[tuple[int, _Said]]:
        for call, exchange in enumerate(self._exchanges):
            for part in (*exchange.heard, *exchange.said):
                yield call, part

    def _tool_starts(self) -> list[int]:
        """Say how many tool calls came before each call's own."""
        starts, n = [], 0
        for exchange in self._exchanges:
            starts.append(n)
            n += len(exchange.tools)
        return starts

    def _add(self, exchange: _Exchange, ordinal: int, tool: ToolCall) -> int:
        exchange.tools.append(msgspec.structs.replace(tool, call_ordinal=ordinal))
        return len(exchange.tools) - 1

    def _parts(self, message: Mapping[str, Any]) -> Iterator[_Said]:
        """Read a message of a prompt: worked examples and tool answers come here."""
        role, content = str(message["role"]), message.get("content")
        tool = self._asked.get(message.get("tool_call_id", ""))
        text = content if isinstance(content, str) else json_text(content)
        if text or not message.get("tool_calls"):
            yield _Said(role, "tool_result" if role == "tool" else "text", text, tool)
        for asked in message.get("tool_calls", ()):
            yield _Said(role, "tool_call", f"{asked['name']}({asked.get('arguments') or ''})")


def _after(key: int, message: Mapping[str, Any]) -> int:
    """Hash a chat and one more message; within this process only."""
    content = message.get("content")
    said = content if isinstance(content, str) else json_text(content)
    asked = tuple(
        (t.get("id"), t.get("name"), t.get("arguments")) for t in message.get("tool_calls", ())
    )
    return hash((key, message["role"], said, asked, message.get("tool_call_id")))
