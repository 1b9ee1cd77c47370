"""Chunks of an OpenAI-compatible stream, decoded and put together as they arrive."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderUnavailable
from workbench.records import json_text
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, decode, quantile
from workbench.runner.providers.sse import Event

__all__ = ["Chunk", "PartialChatReply", "decode_chunk", "quantile"]


class Function(msgspec.Struct):
    """The function of a tool call, or a piece of it."""

    name: str | None = None
    arguments: Any = None


class ToolDelta(msgspec.Struct):
    """A piece of a tool call; `id` and `index` identify the call where servers set them right."""

    index: int | None = None
    id: str | int | None = None
    function: Function | None = None
    extra_content: dict[str, Any] | None = None


class Delta(msgspec.Struct):
    """What one chunk adds to the message, or a whole message."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[ToolDelta] | None = None


class Choice(msgspec.Struct):
    """One choice of a chunk; `text` in completions, `message` where the server did not stream.

    `native_finish_reason` is the word of the host that a router asked. Moonshot puts the usage
    here.
    """

    index: int | None = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    native_finish_reason: Any = None
    logprobs: Any = None
    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct):
    """One event's data; Groq has an object of its own for the usage."""

    id: Any = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    timings: dict[str, Any] | None = None
    error: Any = None
    service_tier: Any = None


_decoder = msgspec.json.Decoder(Chunk)
_FAILED = re.compile(r"error|malformed|overload|abort", re.IGNORECASE)  # hosts' own words


def decode_chunk(data: bytes) -> Chunk:
    """Decode one chunk; ValueError if it is none. Half surrogates and broken UTF-8 are replaced."""
    return decode(_decoder, data)


class PartialChatReply(PartialReply):
    """The part of one chat reply that was received so far.

    A turn that asks for tools goes back with the thinking before it where the server needs that: as
    the text of `reasoning_content` (DeepSeek), as `reasoning_details` (OpenRouter), as a signature
    in the tool call's `extra_content` (Google).
    """

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._extra: dict[int, dict[str, Any]] = {}  # of tool calls, by place
        self._at_index: dict[int, int] = {}  # the latest place of a tool call at an index
        self._native: str | None = None  # the host's own word for the end

    def take(self, event: Event, at_s: float) -> str:
        """Take an event; `[DONE]` is the last one."""
        if event.data == b"[DONE]":
            self.done = True
            return ""
        chunk = decode_chunk(event.data)
        if isinstance(chunk.id, str):  # also of a stream that fails: it may be on the bill
            self.reply_id = self.reply_id or chunk.id or None
        error = chunk.error or next((c.error for c in chunk.choices or () if c.error), None)
        if error or event.type == b"error":  # an empty object beside a reply is no error
            raise StreamFailed(error or event.data.decode("utf-8", "replace"))
        return self.add(chunk, at_s)

    def add(self, chunk: Chunk, at_s: float) -> str:
        """Take a chunk that arrived at a time; returns its visible text."""
        self.model = chunk.model or self.model
        if isinstance(chunk.service_tier, str):
            self.tier = chunk.service_tier or self.tier
        if isinstance(chunk.x_groq, Mapping):
            self.count(chunk.x_groq.get("usage"))
        self.timings = chunk.timings or self.timings
        shown = ""
        for choice in chunk.choices or ():
            if not choice.index:
                shown += self._choose(choice, at_s)
        self.count(chunk.usage)
        return shown

    def fault(self) -> ProviderUnavailable | None:
        """A router may call an ordinary end what its host calls a failure."""
        if self._native is not None and _FAILED.search(self._native):
            message = f"the server gave up: its host ended with {self._native[:80]}"
            return ProviderUnavailable(message, kind="stream_error")
        return super().fault()

    def _choose(self, choice: Choice, at_s: float) -> str:
        self.finish = choice.finish_reason or self.finish
        if isinstance(choice.native_finish_reason, str):
            self._native = choice.native_finish_reason
        self.count(choice.usage)
        if isinstance(choice.logprobs, Mapping) and isinstance(
            choice.logprobs.get("content"), list
        ):
            self.add_logprobs(choice.logprobs["content"])
        delta = choice.delta or choice.message
        shown, thought = choice.text or "", ""
        tools: Sequence[ToolDelta] = ()
        if delta is not None:
            if isinstance(delta.content, list):
                shown, thought = _parts(delta.content)
            elif delta.content:
                shown = delta.content
            thought = thought or _thought(delta)
            self._reasoning.append(delta.reasoning_content or "")
            self._details += delta.reasoning_details or ()
            if delta.refusal:
                self.refused = True
                shown += delta.refusal
            tools = delta.tool_calls or ()
        begun = len(self.tools)
        for tool in tools:
            self._tool(tool, begun)
        self.saw(at_s, shown, thought, tool=bool(tools))
        return shown

    def _tool(self, piece: ToolDelta, begun: int) -> None:
        """Add a piece to its call; `begun` calls were there before the chunk."""
        name = (piece.function.name if piece.function else None) or ""
        known = self._place(piece, name, begun)
        place = len(self.tools) if known is None else known
        if piece.index is not None:
            self._at_index[piece.index] = place
        tool = self.tool(place)
        tool[2] = tool[2] or _id(piece)
        if piece.extra_content:
            self._extra[place] = piece.extra_content
        if piece.function is not None:
            arguments = piece.function.arguments or ""
            tool[0] += name if name != tool[0] else ""  # some servers say it with every piece
            tool[1] += arguments if isinstance(arguments, str) else json_text(arguments)

    def _place(self, piece: ToolDelta, name: str, begun: int) -> int | None:
        """Find the call that a piece goes on with; None where it begins another.

        Calls are distinguished by their id, then by where they stand: Ollama and others give every
        call the index 0, or none. A piece with a name begins a call of its own where the call at
        its index came in the same chunk, or has its arguments whole already; without a name it goes
        on with that call.
        """
        if piece.index is None:
            last: int | None = len(self.tools) - 1 if self.tools else None
        else:
            last = self._at_index.get(piece.index)
        named = _id(piece)
        if named:
            known = [place for place, tool in self.tools.items() if tool[2] == named]
            if known:
                elsewhere = piece.index is not None and last is None
                return None if elsewhere and name else known[-1]
            if last is not None and self.tools[last][2]:
                return None
        if last is None:
            return None
        asked, arguments, _ = self.tools[last]
        if not name or not asked:
            return last
        return None if name != asked or last >= begun or _is_object(arguments) else last

    def state(self) -> dict[str, Any] | None:
        """Return the thinking that must go back with a turn that asks for tools."""
        if not self.tools:
            return None
        extra = [self._extra.get(place) for place in sorted(self.tools)]
        fields = {
            "reasoning_content": "".join(self._reasoning),
            "reasoning_details": self._details,
            "extra_content": extra if any(extra) else None,
        }
        return {name: value for name, value in fields.items() if value} or None


def _id(piece: ToolDelta) -> str:
    return "" if piece.id is None else str(piece.id)


def _is_object(arguments: str) -> bool:
    """Whether arguments that arrive in pieces are complete."""
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except UNDECODABLE:
        return False


def _thought(delta: Delta) -> str:
    """Return the thinking of a delta; some servers send it under two names, or as details."""
    if delta.reasoning_content:
        return delta.reasoning_content
    if delta.reasoning:
        return delta.reasoning if isinstance(delta.reasoning, str) else ""
    texts = [d.get("text") or d.get("summary") for d in delta.reasoning_details or ()]
    return "".join(text for text in texts if isinstance(text, str))


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
