"""Anthropic's Messages: blocks of text, thinking and tool use, streamed as typed events.

The API has no seed: a seed is left out. An effort turns adaptive thinking on, "none" turns thinking
off, and a thinking budget asks for that many tokens at most (models up to Claude 4.6).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import httpx
import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderRejected
from workbench.records import json_text
from workbench.runner.providers import transport
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, decode
from workbench.runner.providers.protocol import ChatMessage, Request
from workbench.runner.providers.sse import Event

VERSION = "2023-06-01"  # of the API; there has been no other since


class Block(msgspec.Struct):
    """A block of content, or what is added to one."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class Body(msgspec.Struct):
    """The message as a whole; in its first event it is still empty."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class Piece(Body):
    """One event, or the whole reply of a server that does not stream."""

    type: str | None = None
    index: int = 0
    message: Body | None = None
    content_block: Block | None = None
    delta: Block | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Piece)
_raw = msgspec.json.Decoder(dict[str, Any])
_SEALED = ("thinking", "redacted_thinking")


class PartialMessage(PartialReply):
    """The part of one message that was received so far."""

    convention = "messages"

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._blocks: dict[int, dict[str, Any]] = {}  # as they came, by place
        self._at_index: dict[int, int] = {}  # the place of the latest block at an index

    def take(self, event: Event, at_s: float) -> str:
        """Take an event; pings and ends of blocks bring nothing."""
        piece = decode(_decoder, event.data)
        kind = piece.type
        if kind == "error" or event.type == b"error" or piece.error:
            raise StreamFailed(piece.error or event.data.decode("utf-8", "replace"))
        if kind == "content_block_delta" and piece.delta is not None:
            place = self._at_index.get(piece.index, piece.index)
            self._grow(place, piece.delta)
            return self._block(place, piece.delta, at_s)
        if kind == "content_block_start" and piece.content_block is not None:
            # a block of its own also where a server gives all of them one index
            taken = piece.index in self._blocks
            place = self._at_index[piece.index] = max(self._blocks) + 1 if taken else piece.index
            self._blocks[place] = decode(_raw, event.data)["content_block"]
            return self._block(place, piece.content_block, at_s)
        if kind == "message_start" and piece.message is not None:
            # its output count is that of the first token only; the last event has the real one
            start = {k: v for k, v in (piece.message.usage or {}).items() if k != "output_tokens"}
            return self._message(piece.message, start, at_s)
        if kind == "message_delta":
            self.finish = (piece.delta.stop_reason if piece.delta else None) or self.finish
            self._count(piece.usage)
        elif kind == "message_stop":
            self.done = True
        elif kind == "message":
            self.done = True
            self._blocks = dict(enumerate(decode(_raw, event.data).get("content") or ()))
            return self._message(piece, piece.usage, at_s)
        elif kind is None:
            raise ValueError("an event without a type")
        return ""

    def _message(self, body: Body, usage: dict[str, Any] | None, at_s: float) -> str:
        self.reply_id, self.model = body.id or self.reply_id, body.model or self.model
        self.finish = body.stop_reason or self.finish
        self._count(usage)
        blocks = enumerate(body.content or ())
        return "".join(self._block(place, block, at_s) for place, block in blocks)

    def _block(self, place: int, block: Block, at_s: float) -> str:
        tool = block.type in {"tool_use", "server_tool_use", "input_json_delta"}
        if tool:
            tool_call = self.tool(place)
            tool_call[0] += block.name or ""
            tool_call[1] += block.partial_json or ""
            tool_call[2] = tool_call[2] or block.id or ""
            if block.input:  # comes whole where nothing is streamed, else empty
                tool_call[1] = json_text(block.input)
        # an empty piece of arguments brings nothing
        self.saw(
            at_s,
            block.text or "",
            block.thinking or "",
            tool=tool and bool(block.name or block.partial_json),
        )
        return block.text or ""

    def _grow(self, place: int, delta: Block) -> None:
        """Add a piece to the block that may have to go back unchanged."""
        block = self._blocks.setdefault(place, {})
        for name in ("text", "thinking", "signature"):
            if (more := getattr(delta, name)) is not None:
                block[name] = (block.get(name) or "") + more

    def state(self) -> list[dict[str, Any]] | None:
        """Return the blocks in order, unchanged, where signed thinking is among them."""
        ordered = sorted(self._blocks.items())
        if not self.tools or not any(block.get("type") in _SEALED for _, block in ordered):
            return None
        whole = []
        for place, begun in ordered:
            is_tool = place in self.tools
            block = {**begun, "input": _arguments(self.tools[place][1])} if is_tool else begun
            if block.get("type") != "text" or block.get("text"):  # an empty text is refused
                whole.append(block)
        return whole

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Take the counts, and the tier among them."""
        self.count(usage)
        tier = (usage or {}).get("service_tier")
        self.tier = tier if isinstance(tier, str) else self.tier


class AnthropicMessages(HttpProvider):
    """A server that speaks Anthropic's Messages."""

    partial_reply: ClassVar[type[PartialReply]] = PartialMessage
    default_name = "anthropic"

    def headers(self, key: str | None) -> dict[str, str]:
        """The key has a header of its own."""
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def url(self, request: Request) -> httpx.URL:
        """There is one address."""
        return transport.address(self.base + "/messages")

    def fields(self, request: Request) -> dict[str, Any]:
        """Write a chat as messages; the system's words stand beside them."""
        if request.prompt is not None:
            raise ProviderRejected("Messages continue no prompt; use a chat", kind="unsupported")
        settings = {name: v for name, v in request.sampling.items() if name != "seed"}
        if settings.get("max_tokens") is None:
            raise ProviderRejected("Messages need a cap: give max_tokens", kind="unsupported")
        if stop := settings.pop("stop", None):
            settings["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        settings |= _tools(request, settings.pop("tool_choice", None))
        effort, budget = (
            settings.pop("reasoning_effort", None),
            settings.pop("thinking_budget_tokens", None),
        )
        if effort == "none":
            settings["thinking"] = {"type": "disabled"}
        elif effort is not None:
            settings |= {"output_config": {"effort": effort}, "thinking": {"type": "adaptive"}}
        if budget is not None:
            settings["thinking"] = {"type": "enabled", "budget_tokens": budget}
        body: dict[str, Any] = {"model": request.model, "messages": _messages(request.messages)}
        if system := [m["content"] for m in request.messages if m["role"] == "system"]:
            body["system"] = (
                system[0] if len(system) == 1 else [b for s in system for b in _blocks(s)]
            )
        return body | {"stream": True} | settings


_CHOICES = {"required": "any"}  # OpenAI's words; "auto" and "none" are the same


def _tools(request: Request, choice: Any) -> dict[str, Any]:
    """Describe the tools, and say whether they may be used."""
    fields: dict[str, Any] = {}
    if request.tools:
        fields["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": dict(t.parameters)}
            for t in request.tools
        ]
    if choice is not None:
        is_word = isinstance(choice, str)
        fields["tool_choice"] = {"type": _CHOICES.get(choice, choice)} if is_word else choice
    return fields


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or ())


def _messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Convert a chat to messages; consecutive tool results and the next user turn become one."""
    converted: list[dict[str, Any]] = []
    answering = False
    for message in messages:
        role, content = message["role"], message.get("content")
        if role == "system":
            continue
        if role == "tool":
            content, role = [_result(message)], "user"
        elif role == "assistant" and message.get("state"):
            content = list(message["state"])
        elif calls := message.get("tool_calls"):
            content = [*_blocks(content), *(_use(c) for c in calls)]
        if answering and role == "user":
            converted[-1]["content"] += _blocks(content)
        else:
            converted.append({"role": role, "content": content})
        answering = role == "user" and (answering or message["role"] == "tool")
    return converted


def _result(message: ChatMessage) -> dict[str, Any]:
    failed = {"is_error": True} if message.get("error") else {}
    return {
        "type": "tool_result",
        "tool_use_id": message["tool_call_id"],
        "content": message["content"],
        **failed,
    }


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _arguments(call.get("arguments"))
    return {"type": "tool_use", "id": call["id"], "name": call["name"], "input": arguments}


def _arguments(text: str | None) -> dict[str, Any]:
    """Decode a tool call's arguments; {} for what is no object, as the API takes objects only."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except UNDECODABLE:
        return {}
