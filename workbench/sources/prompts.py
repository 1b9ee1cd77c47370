"""Prompts of calls as messages, and the transcript of a trace whose calls repeat the conversation.

Programs send the whole conversation with every request, and tracers log all of it with every call.
Here each message is stored once: a message of a prompt is new only if it occurs in it more often
than in all prompts before.
"""

import collections
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.records import Message, ToolCall, json_text


class ToolRequest(NamedTuple):
    """A tool call that the model asked for; `id` may be empty, `arguments` are canonical JSON."""

    id: str
    name: str
    arguments: str | None


class ToolResult(NamedTuple):
    """The answer of a tool within a prompt; `id` or `name` may be empty."""

    id: str
    name: str
    text: str
    is_error: bool = False


class PromptMessage(NamedTuple):
    """One message of a prompt; thinking that is sent back is left out."""

    role: str  # system | user | assistant | tool
    text: str = ""
    tool_calls: tuple[ToolRequest, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


class CallReply(NamedTuple):
    """What a model answered."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolRequest, ...] = ()


class CallTranscript:
    """The messages and tool calls of a trace, put together call by call.

    Attributes:
        messages: in order.
        tools: the tool calls, in order.
        first_input: the first text of the user; None before it.
        last_reply: the last text of a reply; "" before it.
    """

    def __init__(self, clean: Callable[[str], str] = str) -> None:
        """Begin without a call.

        Args:
            clean: changes each text before it is stored, for example to take keys out.
        """
        self.messages: list[Message] = []
        self.tools: list[ToolCall] = []
        self.first_input: str | None = None
        self.last_reply = ""
        self._clean = clean
        self._tool_by_id: dict[str, int] = {}
        self._n_tools: collections.Counter[int | None] = collections.Counter()  # of each call
        self._without_result: dict[int, None] = {}  # ordinals of tool calls, in order
        self._known: collections.Counter[int] = collections.Counter()
        self._replies: set[str] = set()  # texts without white space

    def add(
        self,
        ordinal: int,
        prompt: Sequence[PromptMessage],
        reply: CallReply,
        *,
        sent_at: dt.datetime | None = None,
        ended_at: dt.datetime | None = None,
        begins_with: int = 0,
    ) -> None:
        """Append a call.

        Args:
            ordinal: of the call.
            prompt: the messages that were sent.
            reply: the answer, as far as it came.
            sent_at: when the request was sent.
            ended_at: when the answer ended; the tools that it asks for start then.
            begins_with: how many of the messages are the prompt of an earlier call of this trace;
                the assistant's message after them is the reply to it. 0 where that is not known.
        """
        repeated: collections.Counter[int] = collections.Counter()
        for place, message in enumerate(prompt):
            key = hash(message)
            repeated[key] += 1
            if repeated[key] <= self._known[key]:
                continue
            self._known[key] += 1
            is_reply = place == begins_with > 0 or self.has_replied(message)
            if message.role != "assistant" or not is_reply:
                self._add_prompt(message, ordinal, sent_at)
        self._add_reply(reply, ordinal, ended_at)

    def has_replied(self, message: PromptMessage) -> bool:
        """Return whether an assistant's message is a reply of this trace."""
        if any(tool.id in self._tool_by_id for tool in message.tool_calls if tool.id):
            return True
        text = squeezed(self._clean(message.text))
        return bool(text) and text in self._replies

    def place_of(self, result: ToolResult) -> int | None:
        """Find the tool call of a result: by id, else by name, else the first without a result."""
        if result.id and result.id in self._tool_by_id:
            return self._tool_by_id[result.id]
        return next(
            (
                place
                for place in self._without_result
                if not result.name or self.tools[place].tool == result.name
            ),
            None,
        )

    def tool_with(self, id_: str) -> int | None:
        """Return the ordinal of the tool call with an id; None where there is none."""
        return self._tool_by_id.get(id_)

    def add_tool(
        self, tool: ToolRequest, ordinal: int | None, started_at: dt.datetime | None = None
    ) -> int:
        """Append a tool call of a call, or of none that is known; returns its ordinal."""
        place = len(self.tools)
        self.tools.append(
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

    def change_tool(self, place: int, **fields: Any) -> None:
        """Replace fields of a tool call."""
        self.tools[place] = msgspec.structs.replace(self.tools[place], **fields)

    def add_message(
        self, role: str, kind: str, text: str, ordinal: int | None, tool: int | None = None
    ) -> None:
        """Append a message."""
        self.messages.append(
            Message(
                ordinal=len(self.messages),
                role=role,
                kind=kind,
                text=self._clean(text),
                call_ordinal=ordinal,
                tool_call_ordinal=tool,
            )
        )

    def _add_prompt(
        self, message: PromptMessage, ordinal: int, sent_at: dt.datetime | None
    ) -> None:
        for result in message.tool_results:
            self._add_result(result, ordinal, sent_at)
        if message.text:
            self.add_message(message.role, "text", message.text, ordinal)
            if message.role == "user" and self.first_input is None:
                self.first_input = self._clean(message.text)
        for tool in message.tool_calls:  # of an assistant's turn that was recorded nowhere
            place = self.add_tool(tool, None)
            self.add_message("assistant", "tool_call", _shown(tool), ordinal, place)

    def _add_result(self, result: ToolResult, ordinal: int, sent_at: dt.datetime | None) -> None:
        place = self.place_of(result)
        self.add_message("tool", "tool_result", result.text, ordinal, place)
        if place is None:
            return
        self._without_result.pop(place, None)
        tool = self.tools[place]
        fields: dict[str, Any] = {
            "result_bytes": len(result.text.encode("utf-8", "replace")),
        }
        if result.is_error:
            message = self._clean(result.text)[:500]
            fields |= {"error_type": "failed", "error_message": message}
        # between the reply and the next request runs nothing but the tool, where it is the only one
        if self._n_tools[tool.call_ordinal] == 1:
            fields["e2e_s"] = seconds_between(tool.started_at, sent_at)
        self.change_tool(place, **fields)

    def _add_reply(self, reply: CallReply, ordinal: int, ended_at: dt.datetime | None) -> None:
        if reply.thinking:
            self.add_message("assistant", "thinking", reply.thinking, ordinal)
        if reply.text:
            self.add_message("assistant", "text", reply.text, ordinal)
            self.last_reply = self._clean(reply.text)
            self._replies.add(squeezed(self.last_reply))
        for tool in reply.tool_calls:
            place = self.add_tool(tool, ordinal, ended_at)
            self.add_message("assistant", "tool_call", _shown(tool), ordinal, place)


def squeezed(text: str) -> str:
    """Remove white space: clients send replies back with other line ends than they came with."""
    return "".join(text.split())


def canonical(arguments: object) -> str | None:
    """Write arguments as JSON with sorted keys; a text that is no JSON stays, None is None."""
    if not isinstance(arguments, str):
        return None if arguments is None else json_text(arguments)
    try:
        return json_text(msgspec.json.decode(arguments))
    except UNDECODABLE:
        return arguments


def content_text(content: object) -> str:
    """Return the text of a content; images, files and sounds become their type and size."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _piece(content)
    return "\n".join(filter(None, map(_piece, content))) if isinstance(content, list) else ""


def seconds_between(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    """Return the seconds between two times; None if one is unknown or they are out of order."""
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()


def _piece(piece: object) -> str:
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, dict) or piece.get("type") in {"thinking", "redacted_thinking"}:
        return ""
    for field in ("text", "refusal", "output"):
        if isinstance(piece.get(field), str):
            return str(piece[field])
    kind = piece.get("type")
    name = kind if isinstance(kind, str) else next(iter(piece), "part")
    return f"[{name}, {len(json_text(piece)):,} characters]"


def _shown(tool: ToolRequest) -> str:
    return f"{tool.name}({tool.arguments or ''})"
