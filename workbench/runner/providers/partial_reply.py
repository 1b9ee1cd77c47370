"""A partial reply: the text, thinking, tools, times and counts that have arrived so far."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderUnavailable
from workbench.records import ToolCall, json_text
from workbench.runner.providers import usage as usages
from workbench.runner.providers.sse import Event

T = TypeVar("T")
_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})


class StreamFailed(Exception):
    """The server said within the stream that it failed; `exchange` makes a ProviderError of it."""

    def __init__(self, error: object) -> None:
        """Keep what was said."""
        self.error = error
        super().__init__()


class PartialReply:
    """The part of one reply that was received so far.

    A chunk counts if it brings text, thinking or a tool call.

    Attributes:
        times: seconds from the request to each chunk that counts.
        finish: the server's word for why it ended; None until it said so.
        done: whether the server said that nothing more follows.
        reply_id: the server's name for the reply.
    """

    convention = "chat"  # how its usage object counts
    tools_end_it = False  # whether a reply that asks for tools is called an ordinary end

    def __init__(self) -> None:
        """Create an empty reply."""
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.times: list[float] = []
        self.text_ends: list[int] = []
        self.text_times: list[float] = []
        self.answer_start_s: float | None = None
        self.finish: str | None = None
        self.done = False
        self.refused = False
        self.reply_id: str | None = None
        self.model: str | None = None
        self.tier: str | None = None
        self.usage: dict[str, Any] | None = None
        self.timings: dict[str, Any] | None = None
        self.logprob_sum: float | None = None
        self.tools: dict[int, list[str]] = {}  # [name, arguments so far, id] by place
        self._length = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the reply is missing, though the server may not have said so."""
        return self.done or (self.finish is not None and self.usage is not None)

    @property
    def is_empty(self) -> bool:
        """Whether the reply holds neither text nor thinking nor a tool call."""
        return not (self.text or self.thinking or self.tools)

    def fault(self) -> ProviderUnavailable | None:
        """Return the error of a reply that ended by a failure of its host; None otherwise."""
        if not self.done and self.finish is None:
            return ProviderUnavailable("the stream ended before the reply did", kind="truncated")
        if self.finish is None and self.is_empty:
            return ProviderUnavailable("the server ended without a reply", kind="truncated")
        if self.stop_reason() == "tool_calls" and not (self.tools or self.text):
            message = f"the server ended with {self.finish}, and no tool call came"
            return ProviderUnavailable(message, kind="malformed_tool_call")
        if self.stop_reason() == "error":
            kind = "malformed_tool_call" if self.finish in _MALFORMED else "stream_error"
            return ProviderUnavailable(
                f"the server gave up: it ended with {self.finish}", kind=kind
            )
        return None

    def take(self, event: Event, at_s: float) -> str:
        """Take an event that arrived at a time; returns its visible text.

        Raises:
            ValueError: the event is not of this format.
            StreamFailed: the server says that it failed.
        """
        raise NotImplementedError

    def saw(self, at_s: float, shown: str = "", thought: str = "", *, tool: bool = False) -> None:
        """Note what a chunk brought, and when."""
        if thought:
            self.thinking.append(thought)
        if shown or thought or tool:
            self.times.append(at_s)
        if (shown or tool) and self.answer_start_s is None:
            self.answer_start_s = at_s
        if shown:
            self.text.append(shown)
            self._length += len(shown)
            self.text_ends.append(self._length)
            self.text_times.append(at_s)

    def count(self, usage: Any) -> None:
        """Merge a usage object; counts of a reply are cumulative, and the last ones hold."""
        if isinstance(usage, Mapping) and usage:
            self.usage = usages.laid_over(self.usage, usage)

    def tool(self, place: int) -> list[str]:
        """Return the [name, arguments, id] of a tool call, to be added to."""
        return self.tools.setdefault(place, ["", "", ""])

    def add_logprobs(self, tokens: Sequence[Any]) -> None:
        """Add the log probabilities of some output tokens."""
        logprobs = [t.get("logprob") for t in tokens if isinstance(t, Mapping)]
        numbers = [n for n in logprobs if isinstance(n, int | float) and math.isfinite(n)]
        if numbers:
            self.logprob_sum = (self.logprob_sum or 0.0) + sum(numbers)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls, in order."""
        return tuple(
            ToolCall(ordinal=place, tool=name, arguments=arguments or None)
            for place, (_, (name, arguments, _id)) in enumerate(sorted(self.tools.items()))
        )

    def tool_ids(self) -> tuple[str, ...]:
        """Return the server's names of the tool calls; what it left without one is numbered."""
        ordered = [self.tools[place] for place in sorted(self.tools)]
        return tuple(tool[2] or f"call_{n}" for n, tool in enumerate(ordered))

    def state(self) -> Any:
        """Return the fields to send back unchanged when the chat continues; None without any."""
        return None

    def stop_reason(self) -> str:
        """Return why the model stopped; a refusal is a content filter of its own."""
        reason = "content_filter" if self.refused else usages.stop_reason(self.finish)
        asks = self.tools_end_it and bool(self.tools)
        return "tool_calls" if asks and reason == "stop" else reason

    def times_of_chunks(self) -> dict[str, Any]:
        """Return the columns about chunks; gaps are between consecutive non-empty chunks."""
        times = self.times
        fields: dict[str, Any] = {"n_chunks": len(times)}
        if times:
            fields |= {"ttft_s": times[0], "answer_start_s": self.answer_start_s}
        if len(times) > 1:
            gaps = sorted(b - a for a, b in itertools.pairwise(times))
            fields |= {
                "gap_p50_s": quantile(gaps, 0.5),
                "gap_p90_s": quantile(gaps, 0.9),
                "gap_p99_s": quantile(gaps, 0.99),
                "gap_max_s": gaps[-1],
            }
        return fields

    def usage_text(self) -> str | None:
        """Return the usage object as received, with llama.cpp's timings; None without one."""
        raw: Mapping[str, Any] = self.usage or {}
        if self.timings:
            raw = {**raw, "timings": self.timings}
        return json_text(raw) if raw else None


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode JSON; ValueError if it is none, or of another form. Broken characters are replaced."""
    try:
        return decoder.decode(data)
    except UNDECODABLE:
        pass  # strict about text; look again, more slowly
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        # msgspec 0.22 types the result as T, 0.23 as Any: the annotation fits both
        mended: T = msgspec.convert(_mend(value), decoder.type)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise ValueError(str(error)[:200]) from error
    return mended


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mend(v) for v in value]
    if isinstance(value, dict):
        return {_mend(k): _mend(v) for k, v in value.items()}
    return value


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Clean every text within a JSON-able value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {name: cleaned(inner, clean) for name, inner in value.items()}
    return [cleaned(inner, clean) for inner in value] if isinstance(value, list) else value


def quantile(ordered: Sequence[float], q: float) -> float:
    """Interpolate a quantile of sorted values linearly (Hyndman and Fan 1996, type 7)."""
    place = (len(ordered) - 1) * q
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
