"""The protocol of providers: requests, replies, and the errors of a call."""

import bisect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import Call, ToolCall

# kinds of errors that say the same of every request: to a server that has no address or no trust,
# or to a model for which there is no money (behind one address may stand several accounts)
UNREACHABLE = frozenset({"dns", "tls"})
FATAL = UNREACHABLE | {"insufficient_quota", "http_402"}
# {"role": "system" | "user" | "assistant", "content": text}, or as `Reply.turn` and a tool's answer
# are
ChatMessage = Mapping[str, Any]


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool that a model may ask for.

    Attributes:
        parameters: JSON Schema of its arguments, an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


class Request(msgspec.Struct, frozen=True):
    """One request to a model, before a provider turns it into its own format.

    Attributes:
        messages: the chat; empty for a completion.
        prompt: the text to continue; null for a chat.
        sampling: temperature, top_p, max_tokens, seed, stop … in OpenAI's names, as requested.
        tools: what the model may ask for.
    """

    model: str
    messages: tuple[ChatMessage, ...] = ()
    prompt: str | None = None
    sampling: Mapping[str, Any] = {}
    tools: tuple[ToolSpec, ...] = ()


class Reply(msgspec.Struct, frozen=True):
    """What a model answered, and the record of the call.

    Attributes:
        text: the visible text, thinking taken out.
        thinking: the thinking text; null where none was shown.
        tool_calls: the tools that it asks for, in order; `tool_ids` are the provider's names of
            them.
        state: what the provider wants back, unchanged, when the chat goes on (signatures of
            thinking).
        call: tokens, times and errors of the call.
        text_ends: characters of `text` received after each of its chunks, rising.
        text_times: seconds from the request to those chunks.
    """

    text: str = ""
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_ids: tuple[str, ...] = ()
    state: Any = None
    stop_reason: str | None = None
    call: Call = Call()
    text_ends: tuple[int, ...] = ()
    text_times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Name the tool calls that a provider left without a name."""
        if len(self.tool_ids) != len(self.tool_calls):
            names = tuple(f"call_{n}" for n in range(len(self.tool_calls)))
            msgspec.structs.force_setattr(self, "tool_ids", names)

    @property
    def turn(self) -> ChatMessage:
        """The assistant's message that makes the chat go on from this reply."""
        turn: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            turn["tool_calls"] = [
                {"id": tool_id, "name": tool.tool, "arguments": tool.arguments or "{}"}
                for tool_id, tool in zip(self.tool_ids, self.tool_calls, strict=True)
            ]
        if self.state is not None:
            turn["state"] = self.state
        return turn

    def time_of(self, offset: int) -> float | None:
        """Return the time of arrival of a character of the text; null if it did not arrive."""
        index = bisect.bisect_right(self.text_ends, offset)
        return self.text_times[index] if index < len(self.text_times) else None


class StreamBroken(ProviderUnavailable):
    """A call did not end well and may be made again; `reply` holds what arrived.

    Attributes:
        n_sent: how often the request went out: twice where a pooled connection turned out closed.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        reply: Reply,
        retry_after_s: float | None = None,
        n_sent: int = 1,
    ) -> None:
        """Keep what arrived beside the cause."""
        self.reply, self.n_sent = reply, n_sent
        super().__init__(message, kind=kind, retry_after_s=retry_after_s)


class CallRefused(ProviderRejected):
    """A call was refused; `reply` holds its times and what arrived."""

    def __init__(self, message: str, *, kind: str, reply: Reply) -> None:
        """Keep what arrived beside the cause."""
        self.reply = reply
        super().__init__(message, kind=kind)


OnChunk = Callable[[str], None]  # called with each visible piece of text as it arrives


class Provider(Protocol):
    """A way to reach models: one file each under `providers/`.

    `generate` raises ProviderRejected where asking again will not help, ProviderUnavailable where
    it may; every other failure is a fault of the program. What arrived before is in the `reply` of
    `CallRefused` and `StreamBroken`.
    """

    name: str

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Reply:
        """Ask once, without retries."""
        ...

    async def count_tokens(self, text: str) -> int | None:
        """Count with the server's own tokenizer; None where it offers none."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


# (request, role) → what arrived, and the error that ended it; with retries and limits
Ask = Callable[[Request, str], Awaitable[tuple[Reply, ProviderError | None]]]
Count = Callable[[str], Awaitable[int | None]]
Render = Callable[[Sequence[ChatMessage]], tuple[str, tuple[str, ...]]]


class BegunTurns:
    """Whether the models of a server go on with a turn of the assistant's that was begun for them.

    One is shared by all attempts at a server, so that what one of them learns by a refusal is
    known.
    """

    def __init__(self, taken: bool | None = None) -> None:
        """Begin with what is known of the server; None where nothing is."""
        self._taken = taken
        self._refused_by: set[str] = set()

    def taken_by(self, model: str) -> bool | None:
        """Whether a model continues a begun turn; None where not known."""
        return False if model in self._refused_by else self._taken

    def refused(self, model: str, error: ProviderError) -> bool:
        """Note whether an error refuses a begun turn; it is not sent to this model again."""
        if error.kind not in {"http_400", "http_422"} or not _BEGUN_TURN.search(str(error)):
            return False
        self._refused_by.add(model)
        return True


_BEGUN_TURN = re.compile(
    r"prefill|assistant message|messages? at the end|last (?:message|role)|end with a user",
    re.IGNORECASE,
)


class Line(NamedTuple):
    """A way from a session to one model.

    Attributes:
        endpoint: "chat" and the like, or "completions" for a base model.
        sampling: settings of every request, in OpenAI's names.
        render: turns a chat into (prompt, stop words); for completions.
        provider: its name in price sheets; null where not known.
        begun_turns: whether it goes on with a begun turn; a base model always does.
    """

    model: str
    ask: Ask
    count_tokens: Count
    endpoint: str = "chat"
    sampling: Mapping[str, Any] = {}
    render: Render | None = None
    provider: str | None = None
    begun_turns: BegunTurns | None = None
