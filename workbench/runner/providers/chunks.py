"""Chunks of an OpenAI-compatible stream, decoded and put together as they arrive."""

from collections.abc import Sequence
from typing import Any

import msgspec

from workbench.records import json_text
from workbench.runner.providers.arrived import Arrived, StreamFailed, decode, quantile
from workbench.runner.providers.sse import Event

__all__ = ["Assembly", "Chunk", "decode_chunk", "quantile"]


class Function(msgspec.Struct):
    """The function of a tool call, or a piece of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolDelta(msgspec.Struct):
    """A piece of a tool call; `index` says which one it goes on with."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: dict[str, Any] | None = None


class Delta(msgspec.Struct):
    """What one chunk adds to the message, or a whole message."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[ToolDelta] | None = None


class Choice(msgspec.Struct):
    """One choice of a chunk; `text` in completions, `message` where the server did not stream."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class Chunk(msgspec.Struct):
    """One event's data."""

    model: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    error: Any = None
    service_tier: str | None = None


_decoder = msgspec.json.Decoder(Chunk)


def decode_chunk(data: bytes) -> Chunk:
    """Decode one chunk; ValueError if it is none. Half surrogates and broken UTF-8 are replaced."""
    return decode(_decoder, data)


class Assembly(Arrived):
    """What has arrived of one reply.

    A turn that asks for tools goes back with the thinking before it where the server needs that: as the text of
    `reasoning_content` (DeepSeek), as `reasoning_details` (OpenRouter), as a signature in the tool
    call's `extra_content` (Google).
    """

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._extra: dict[int, dict[str, Any]] = {}  # of tool calls, by place

    def take(self, event: Event, at_s: float) -> str:
        """Take an event; `[DONE]` is the last one."""
        if event.data == b"[DONE]":
            self.done = True
            return ""
        chunk = decode_chunk(event.data)
        if chunk.error is not None or event.type == b"error":
            raise StreamFailed(chunk.error or event.data.decode("utf-8", "replace"))
        return self.add(chunk, at_s)

    def add(self, chunk: Chunk, at_s: float) -> str:
        """Take a chunk that arrived at a time; returns its visible text."""
        self.model = chunk.model or self.model
        self.tier = chunk.service_tier or self.tier
        self.usage = chunk.usage or self.usage
        self.timings = chunk.timings or self.timings
        shown = ""
        for choice in chunk.choices or ():
            if choice.index == 0:
                shown += self._choose(choice, at_s)
        return shown

    def _choose(self, choice: Choice, at_s: float) -> str:
        self.finish = choice.finish_reason or self.finish
        if choice.logprobs is not None and isinstance(choice.logprobs.get("content"), list):
            self.add_logprobs(choice.logprobs["content"])
        delta = choice.delta or choice.message
        shown, thought = choice.text or "", ""
        tools: Sequence[ToolDelta] = ()
        if delta is not None:
            if isinstance(delta.content, list):
                shown, thought = _parts(delta.content)
            elif delta.content:
                shown = delta.content
            thought = thought or delta.reasoning_content or delta.reasoning or ""
            self._reasoning.append(delta.reasoning_content or "")
            self._details += delta.reasoning_details or ()
            if delta.refusal:
                self.refused = True
                shown += delta.refusal
            tools = delta.tool_calls or ()
        for tool in tools:
            self._tool(tool)
        self.saw(at_s, shown, thought, tool=bool(tools))
        return shown

    def _tool(self, piece: ToolDelta) -> None:
        index = piece.index
        if index is None:  # some servers send whole calls without an index, or go on with the last
            fresh = piece.id or not self.tools
            index = len(self.tools) if fresh else max(self.tools)
        tool = self.tool(index)
        tool[2] = tool[2] or piece.id or ""
        if piece.extra_content:
            self._extra[index] = piece.extra_content
        if piece.function is not None:
            arguments, name = piece.function.arguments or "", piece.function.name or ""
            tool[0] += name if name != tool[0] else ""  # some servers say it with every piece
            tool[1] += arguments if isinstance(arguments, str) else json_text(arguments)

    def state(self) -> dict[str, Any] | None:
        """Return the thinking that must go back with a turn that asks for tools."""
        if not self.tools:
            return None
        extra = [self._extra.get(place) for place in sorted(self.tools)]
        found = {
            "reasoning_content": "".join(self._reasoning), "reasoning_details": self._details,
            "extra_content": extra if any(extra) else None,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value} or None


def _parts(content: list[Any]) -> tuple[str, str]:
    """Take (text, thinking) out of content that comes as a list of typed parts."""
    shown, thought = "", ""
    for part in content:
        if not isinstance(part, dict):
            continue
        inner = part.get("thinking")
        if isinstance(inner, list):
            inner = _parts(inner)[0]
        if isinstance(inner, str):
            thought += inner
        if isinstance(part.get("text"), str):
            shown += part["text"]
    return shown, thought
