"""Chunks of an OpenAI-compatible stream, decoded and put together as they arrive."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from workbench.records import ToolCall, json_text
from workbench.runner.providers import usage as usages


class Function(msgspec.Struct):
    """The function of a tool call, or a piece of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolDelta(msgspec.Struct):
    """A piece of a tool call; `index` says which one it goes on with."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    """What one chunk adds to the message, or a whole message."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolDelta] | None = None


class Choice(msgspec.Struct):
    """One choice of a chunk; `text` in completions, `message` where the server did not stream."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


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
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # strict about text; look again, more slowly
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        return msgspec.convert(_mend(value), Chunk)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise ValueError(str(error)[:200]) from error


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mend(v) for v in value]
    if isinstance(value, dict):
        return {_mend(k): _mend(v) for k, v in value.items()}
    return value


def quantile(ordered: Sequence[float], q: float) -> float:
    """Interpolate a quantile of sorted values linearly (Hyndman and Fan 1996, type 7)."""
    place = (len(ordered) - 1) * q
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Assembly:
    """What has arrived of one reply. A chunk counts if it brings text, thinking or a tool call."""

    def __init__(self) -> None:
        """Begin empty."""
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.times: list[float] = []
        self.text_ends: list[int] = []
        self.text_times: list[float] = []
        self.answer_start_s: float | None = None
        self.finish: str | None = None
        self.refused = False
        self.model: str | None = None
        self.tier: str | None = None
        self.usage: dict[str, Any] | None = None
        self.timings: dict[str, Any] | None = None
        self._tools: dict[int, list[str]] = {}
        self._length = 0

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
        delta = choice.delta or choice.message
        shown, thought = choice.text or "", ""
        tools: Sequence[ToolDelta] = ()
        if delta is not None:
            if isinstance(delta.content, list):
                shown, thought = _parts(delta.content)
            elif delta.content:
                shown = delta.content
            thought = thought or delta.reasoning_content or delta.reasoning or ""
            if delta.refusal:
                self.refused = True
                shown += delta.refusal
            tools = delta.tool_calls or ()
        if thought:
            self.thinking.append(thought)
        for tool in tools:
            self._tool(tool)
        if shown or thought or tools:
            self.times.append(at_s)
        if shown or tools:
            self.answer_start_s = at_s if self.answer_start_s is None else self.answer_start_s
        if shown:
            self.text.append(shown)
            self._length += len(shown)
            self.text_ends.append(self._length)
            self.text_times.append(at_s)
        return shown

    def _tool(self, piece: ToolDelta) -> None:
        index = piece.index
        if index is None:  # some servers send whole calls without an index, or go on with the last
            fresh = piece.id or not self._tools
            index = len(self._tools) if fresh else max(self._tools)
        name_and_arguments = self._tools.setdefault(index, ["", ""])
        if piece.function is not None:
            arguments = piece.function.arguments or ""
            name_and_arguments[0] += piece.function.name or ""
            name_and_arguments[1] += (
                arguments if isinstance(arguments, str) else json_text(arguments)
            )

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls, in the order of their index."""
        return tuple(
            ToolCall(ordinal=place, tool=name, arguments=arguments or None)
            for place, (_, (name, arguments)) in enumerate(sorted(self._tools.items()))
        )

    def stop_reason(self) -> str:
        """Return why the model stopped; a refusal is a content filter of its own."""
        return "content_filter" if self.refused else usages.stop_reason(self.finish)

    def times_of_chunks(self) -> dict[str, Any]:
        """Return the columns about chunks; gaps are between consecutive non-empty chunks."""
        times = self.times
        fields: dict[str, Any] = {"n_chunks": len(times)}
        if times:
            fields |= {"ttft_s": times[0], "answer_start_s": self.answer_start_s}
        if len(times) > 1:
            gaps = sorted(b - a for a, b in itertools.pairwise(times))
            fields |= {
                "gap_p50_s": quantile(gaps, 0.5), "gap_p90_s": quantile(gaps, 0.9),
                "gap_p99_s": quantile(gaps, 0.99), "gap_max_s": gaps[-1],
            }  # fmt: skip
        return fields

    def usage_text(self) -> str | None:
        """Return the usage object as received, llama.cpp's timings beside it; None where none came."""
        raw: Mapping[str, Any] = self.usage or {}
        if self.timings:
            raw = {**raw, "timings": self.timings}
        return json_text(raw) if raw else None


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
