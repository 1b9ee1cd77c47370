"""What a strategy sees: the session through which it asks a model, and the answers it gets.

A strategy is one file under `strategies/` with one class. It holds no HTTP, no clock and no record
keeping: the session sends, times and records; the executor scores and writes the trace.
"""

import bisect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import Call, Message, ToolCall, content_id

if TYPE_CHECKING:
    from workbench.datasets import TaskSet
    from workbench.scoring import TaskItem

ChatMessage = Mapping[str, Any]  # {"role": "system" | "user" | "assistant", "content": text}


class Outcome(msgspec.Struct, frozen=True):
    """How a strategy ended an item.

    Attributes:
        answer_text: the text that the scorer reads; "" where the model said nothing.
        confidence: the model's own confidence, 0..1; null where it was not asked.
        verifier_score: what a verifier gave the answer, the higher the better; null without one.
        stop_reason: why it ended; null takes the stop reason of the last subject call.
    """

    answer_text: str
    confidence: float | None = None
    verifier_score: float | None = None
    stop_reason: str | None = None


class Request(msgspec.Struct, frozen=True):
    """One request to a model, before a provider turns it into its own format.

    Attributes:
        messages: the chat; empty for a completion.
        prompt: the text to continue; null for a chat.
        sampling: temperature, top_p, max_tokens, seed, stop … in OpenAI's names, as asked.
    """

    model: str
    messages: tuple[ChatMessage, ...] = ()
    prompt: str | None = None
    sampling: Mapping[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """What a model answered, and the record of the call.

    Attributes:
        text: the visible text, thinking taken out.
        thinking: the thinking text; null where none was shown.
        call: tokens, times and errors of the call.
        text_ends: characters of `text` received after each of its chunks, rising.
        text_times: seconds from the request to those chunks.
    """

    text: str = ""
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: str | None = None
    call: Call = Call()
    text_ends: tuple[int, ...] = ()
    text_times: tuple[float, ...] = ()

    def time_of(self, offset: int) -> float | None:
        """Return when the character at an offset of the received text arrived; null if it did not."""
        index = bisect.bisect_right(self.text_ends, offset)
        return self.text_times[index] if index < len(self.text_times) else None


class StreamBroken(ProviderUnavailable):
    """A call did not end well and may be made again; `reply` holds what arrived."""

    def __init__(
        self, message: str, *, kind: str, reply: Reply, retry_after_s: float | None = None
    ) -> None:
        """Keep what arrived beside the cause."""
        self.reply = reply
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

    `generate` raises ProviderRejected where asking again will not help, ProviderUnavailable where it
    may; every other failure is a fault of the program. What arrived before is in the `reply` of
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
        """Let go of the connections."""
        ...


class Strategy(Protocol):
    """A way of using a model to answer an item.

    One that makes more than one call may say how many at most in `most_calls`; a budget counts on it before
    the first item has ended.

    Attributes:
        name: what `--strategy` and `configurations.strategy` say.
        params: JSON-able parameters that may change the answer; {} where there are none.
    """

    @property
    def name(self) -> str:
        """What `--strategy` and `configurations.strategy` say."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """JSON-able parameters that may change the answer; {} where there are none."""
        ...

    async def run(self, session: "Session", item: "TaskItem") -> Outcome:
        """Answer one item; errors of the provider pass through."""
        ...


# (request, role) → what arrived, and the error that ended it; with retries and limits
Ask = Callable[[Request, str], Awaitable[tuple[Reply, ProviderError | None]]]
Count = Callable[[str], Awaitable[int | None]]


class Session:
    """One attempt's conversation: sends requests and keeps what was said.

    Where the configuration has a seed, the first call gets it as it is, and every later call one derived
    from it and from the call's ordinal: samples of one question differ, and can be had again.

    Attributes:
        task: the task set of the item: its prompt, its name.
        endpoint: "chat", or "completions" for a base model.
        calls, messages, tool_calls: the records so far.
    """

    def __init__(
        self,
        *,
        task: "TaskSet",
        model: str,
        ask: Ask,
        count: Count,
        endpoint: str = "chat",
        sampling: Mapping[str, Any] | None = None,
        render: Callable[[Sequence[ChatMessage]], tuple[str, tuple[str, ...]]] | None = None,
    ) -> None:
        """Bind a session to a model; `render` turns a chat into (prompt, stop words)."""
        self.task, self.endpoint = task, endpoint
        self._model, self._ask, self._count, self._render = model, ask, count, render
        self._sampling = dict(sampling or {})
        self._said: list[tuple[Any, Any]] = []
        self.calls: list[Call] = []
        self.messages: list[Message] = []
        self.tool_calls: list[ToolCall] = []

    async def generate(
        self,
        messages: Sequence[ChatMessage],
        *,
        role: str = "subject",
        thinking_tags: tuple[str, str] | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask the model to answer a chat.

        A base model gets the chat as a text (see `templates.py`). A last message by the assistant is the
        beginning of the answer, which the model goes on with; it is part of the reply's text.

        Args:
            messages: {"role": "system" | "user" | "assistant", "content": text}, in order.
            role: subject, judge, verifier or draft.
            thinking_tags: (opening, closing); the text between them is thinking: it leaves `text`, and its
                tokens are counted by the server's tokenizer where there is one.
            sampling: settings of this request, over those of the configuration.
        """
        settings = self._settings(sampling)
        last = messages[-1] if messages else {"role": "user"}
        prefill = last["content"] if last["role"] == "assistant" else ""
        if self.endpoint == "completions":
            if self._render is None:
                raise TypeError("a session of completions needs a template")
            prompt, stop = self._render(messages)
            if stop:
                settings.setdefault("stop", list(stop))
            request = Request(model=self._model, prompt=prompt, sampling=settings)
            self._hear([{"role": "user", "content": prompt}])
        else:
            request = Request(model=self._model, messages=tuple(messages), sampling=settings)
            self._hear(messages[:-1] if prefill else messages)
        return await self._send(request, role, prefill, thinking_tags)

    async def complete(
        self,
        prompt: str,
        *,
        role: str = "subject",
        thinking_tags: tuple[str, str] | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask a base model to continue a text; the session's endpoint must be completions."""
        settings = self._settings(sampling)
        self._hear([{"role": "user", "content": prompt}])
        request = Request(model=self._model, prompt=prompt, sampling=settings)
        return await self._send(request, role, "", thinking_tags)

    def _settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the next call, with a seed (31 bits) of its own."""
        settings = {**self._sampling, **sampling}
        ordinal, seed = len(self.calls), settings.get("seed")
        if ordinal and seed is not None and "seed" not in sampling:
            settings["seed"] = int(content_id(seed, ordinal)[:8], 16) & 0x7FFFFFFF
        return settings

    async def _send(
        self, request: Request, role: str, prefill: str, tags: tuple[str, str] | None
    ) -> Reply:
        ordinal = len(self.calls)
        self.calls.append(Call(ordinal=ordinal, role=role, model=self._model))
        reply, error = await self._ask(request, role)
        if tags is not None:
            reply = await self._split(reply, prefill, tags)
        elif prefill:
            reply = msgspec.structs.replace(reply, text=prefill + reply.text)
        call = msgspec.structs.replace(reply.call, ordinal=ordinal, role=role)
        reply = msgspec.structs.replace(reply, call=call)
        self._record(ordinal, reply)
        if error is not None:
            raise error
        return reply

    def _record(self, ordinal: int, reply: Reply) -> None:
        """Keep a reply, whole or broken off, as the call with that ordinal."""
        self.calls[ordinal] = reply.call
        if reply.thinking:
            self._say("assistant", "thinking", reply.thinking, ordinal)
        if reply.text:
            self._say("assistant", "text", reply.text, ordinal)
            self._said.append(("assistant", reply.text))
        for tool in reply.tool_calls:
            place = len(self.tool_calls)
            self.tool_calls.append(
                msgspec.structs.replace(tool, ordinal=place, call_ordinal=ordinal)
            )
            text = f"{tool.tool}({tool.arguments or ''})"
            self._say("assistant", "tool_call", text, ordinal, place)

    def _hear(self, messages: Sequence[ChatMessage]) -> None:
        """Record what is new in a prompt: a chat that goes on repeats what was already said."""
        keys = [(m["role"], m["content"]) for m in messages]
        known = 0
        while known < min(len(keys), len(self._said)) and keys[known] == self._said[known]:
            known += 1
        for role, content in keys[known:]:
            text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
            kind = "tool_result" if role == "tool" else "text"
            self._say(role, kind, text, len(self.calls))
        self._said = keys

    def _say(
        self, role: str, kind: str, text: str, call: int, tool_call: int | None = None
    ) -> None:
        self.messages.append(
            Message(
                ordinal=len(self.messages), role=role, kind=kind, text=text,
                call_ordinal=call, tool_call_ordinal=tool_call,
            )
        )  # fmt: skip

    async def _split(self, reply: Reply, prefill: str, tags: tuple[str, str]) -> Reply:
        """Take the tagged thinking out of the text, and count its tokens.

        The thinking reaches from the opening tag (in what the model wrote, or in the beginning that it was
        given, or by the template of the server: then only the closing tag shows) to the closing tag, or to
        the end of the text where the model never closed it. Its tokens are those of the received text up
        to and with the closing tag, no more than the output; none where there is no tag.
        """
        whole = prefill + reply.text
        opened, closed = whole.find(tags[0]), whole.find(tags[1])
        if opened < 0 and closed < 0:
            call = reply.call
            if call.reasoning_tokens is None and reply.thinking is None and not call.error_type:
                call = msgspec.structs.replace(call, reasoning_tokens=0, tokens_source="counted")
            return msgspec.structs.replace(reply, text=whole, call=call)
        inside = 0 if opened < 0 else opened + len(tags[0])
        closed = whole.find(tags[1], inside)
        end = len(whole) if closed < 0 else closed + len(tags[1])
        visible = whole[end:].lstrip()
        begun = max(opened, len(prefill))
        counted = await self._count(whole[begun:end]) if end > begun else 0
        call = reply.call
        if counted is not None and not call.error_type:
            most = counted if call.output_tokens is None else min(counted, call.output_tokens)
            call = msgspec.structs.replace(call, reasoning_tokens=most, tokens_source="counted")
        shown = reply.time_of(len(whole) - len(visible) - len(prefill)) if visible else None
        return msgspec.structs.replace(
            reply,
            text=whole[: max(opened, 0)].strip() + visible,
            thinking=whole[max(inside, len(prefill)) : closed if closed >= 0 else end].strip()
            or None,
            call=msgspec.structs.replace(call, answer_start_s=shown),
        )
