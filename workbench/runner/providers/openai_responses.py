"""OpenAI's Responses: items in, items out, typed events between.

Summaries of the thinking are streamed where they are asked for: `extra_body.reasoning.summary =
"auto"`. There is no seed and there are no stop words in this API: a seed is left out, stop words
are refused.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import httpx
import msgspec

from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.providers import transport
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, decode
from workbench.runner.providers.protocol import ChatMessage, Request, ToolSpec
from workbench.runner.providers.sse import Event


class Part(msgspec.Struct):
    """A part of an item: visible text, a refusal, or a text of thinking."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class Item(msgspec.Struct):
    """An item of the output: a message, thinking, or a call of a function."""

    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None


class Body(msgspec.Struct):
    """The reply as a whole; in the first events it is still empty."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    usage: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    error: Any = None
    output: list[Item] | None = None


class Piece(Body):
    """One event, or the whole reply of a server that does not stream."""

    type: str | None = None
    object: str | None = None
    response: Body | None = None
    item: Item | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    logprobs: list[Any] | None = None
    timings: dict[str, Any] | None = None
    code: Any = None
    message: str | None = None


_decoder = msgspec.json.Decoder(Piece)
_raw = msgspec.json.Decoder(dict[str, Any])
_THOUGHTS = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
_ENDS = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
    }
)
_SHOWN = frozenset({"response.output_text.done", "response.refusal.done"})


class PartialResponse(PartialReply):
    """The part of one reply that was received so far."""

    convention = "responses"
    tools_end_it = True

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._places: dict[str, int] = {}  # of tool calls, by the id of their item
        self._items: list[dict[str, Any]] = []  # of the output, as they came
        self._came: dict[tuple[str, int | None], int] = {}  # characters shown of each part
        self._missing = 0  # characters that the server says it sent, and that did not come

    def take(self, event: Event, at_s: float) -> str:
        """Take an event; kinds that bring nothing of interest are let pass."""
        if event.data == b"[DONE]":
            return ""
        piece = decode(_decoder, event.data)
        kind = piece.type or event.type.decode("ascii", "replace")
        if kind == "error" or (piece.error and piece.response is None):
            raise StreamFailed(piece.error or {"code": piece.code, "message": piece.message})
        if piece.delta is not None or kind in _SHOWN:
            return self._delta(kind, piece, at_s)
        if kind == "response.reasoning_summary_part.added" and self.thinking:
            self.thinking.append("\n\n")
        elif piece.item is not None and piece.item.type == "function_call":
            whole = kind == "response.output_item.done"
            self._call(piece.item, piece.output_index, at_s, whole=whole)
        if kind == "response.output_item.done" and piece.item is not None:
            self._items.append(decode(_raw, event.data)["item"])
            return ""
        if piece.response is not None:
            return self._status(piece.response, piece.timings, at_s, ended=kind in _ENDS)
        if piece.object == "response":
            self._items = list(decode(_raw, event.data).get("output") or ())
            return self._status(piece, piece.timings, at_s, ended=True)
        return ""

    def state(self) -> list[dict[str, Any]] | None:
        """Return the items in order, where some hold thinking that the service can read again."""
        sealed = any(item.get("encrypted_content") for item in self._items)
        return self._items if sealed and self.tools else None

    def fault(self) -> ProviderUnavailable | None:
        """A text of which a part is missing is no answer."""
        if self._missing:
            n = len("".join(self.text))
            message = (
                f"the stream lost a part of the text: {n} of {n + self._missing} characters came"
            )
            return ProviderUnavailable(message, kind="truncated")
        return super().fault()

    def _delta(self, kind: str, piece: Piece, at_s: float) -> str:
        text = piece.delta or ""
        if kind in _SHOWN:
            return self._part(piece, at_s)
        if kind in {"response.output_text.delta", "response.refusal.delta"}:
            self.add_logprobs(piece.logprobs or ())
            self.refused = self.refused or kind == "response.refusal.delta"
            part = _part_of(piece)
            self._came[part] = self._came.get(part, 0) + len(text)
            return self._show(text, at_s)
        if kind in _THOUGHTS:
            self.saw(at_s, thought=text)
        elif kind == "response.function_call_arguments.delta":
            self._function(piece.item_id, piece.output_index)[1] += text
            self.saw(at_s, tool=True)
        return ""

    def _part(self, piece: Piece, at_s: float) -> str:
        """Process the end of a part, which repeats the part, or holds it if none was streamed."""
        self.refused = self.refused or piece.refusal is not None
        whole, part = piece.text or piece.refusal or "", _part_of(piece)
        if part not in self._came:
            self._came[part] = len(whole)
            return self._show(whole, at_s)
        self._missing += max(len(whole) - self._came[part], 0)
        return ""

    def _show(self, text: str, at_s: float) -> str:
        self.saw(at_s, shown=text)
        return text

    def _function(self, item_id: str | None, index: int | None) -> list[str]:
        """Return a tool call by the id of its item, else by its place in the output."""
        name = item_id or f"#{index}"
        return self.tool(self._places.setdefault(name, len(self._places)))

    def _call(self, item: Item, index: int | None, at_s: float, *, whole: bool) -> None:
        name = item.id or item.call_id or f"#{index}"
        fresh = name not in self._places
        tool = self._function(name, index)
        tool[0], tool[2] = item.name or tool[0], item.call_id or item.id or tool[2]
        if whole and item.arguments:
            fresh = fresh or not tool[1]
            tool[1] = item.arguments
        if fresh or not whole:
            self.saw(at_s, tool=True)

    def _status(
        self, body: Body, timings: dict[str, Any] | None, at_s: float, *, ended: bool
    ) -> str:
        self.reply_id, self.model = body.id or self.reply_id, body.model or self.model
        self.tier = body.service_tier or self.tier
        if not ended:
            return ""
        if body.error or body.status == "failed":
            raise StreamFailed(body.error or "the reply failed")
        self.count(body.usage)
        self.timings, self.done = timings, True
        self.finish = str((body.incomplete_details or {}).get("reason") or body.status or "")
        return self._whole(body.output or (), at_s)

    def _whole(self, output: Iterable[Item], at_s: float) -> str:
        """Take from the whole output the kinds of parts of which nothing came piece by piece."""
        texts: list[str] = []
        thoughts: list[str] = []
        call_on = not self.tools
        for index, item in enumerate(output):
            if item.type == "function_call" and call_on:
                self._call(item, index, at_s, whole=True)
            for part in (*(item.summary or ()), *(item.content or ())):
                self.refused = self.refused or part.refusal is not None
                (thoughts if item.type == "reasoning" else texts).append(
                    part.text or part.refusal or ""
                )
        if not self.thinking:
            for thought in thoughts:
                self.saw(at_s, thought=thought)
        if not self.text:
            return "".join([self._show(text, at_s) for text in texts])
        short = len("".join(texts)) - len("".join(self.text))
        self._missing = max(self._missing, short)
        return ""


def _part_of(piece: Piece) -> tuple[str, int | None]:
    return piece.item_id or f"#{piece.output_index}", piece.content_index


class OpenAIResponses(HttpProvider):
    """A server that speaks OpenAI's Responses."""

    partial_reply: ClassVar[type[PartialReply]] = PartialResponse
    default_name = "openai"

    def url(self, request: Request) -> httpx.URL:
        """There is one address."""
        return transport.address(self.base + "/responses")

    def fields(self, request: Request) -> dict[str, Any]:
        """Write a chat as items; replies are not kept by the service unless that is asked for."""
        if request.prompt is not None:
            raise ProviderRejected("Responses continue no prompt; use a chat", kind="unsupported")
        settings = {name: v for name, v in request.sampling.items() if name != "seed"}
        for name in ("stop", "thinking_budget_tokens"):
            if settings.pop(name, None) is not None:
                raise ProviderRejected(
                    f"Responses take no {name}; leave it out", kind="unsupported"
                )
        if "max_tokens" in settings:
            settings["max_output_tokens"] = settings.pop("max_tokens")
        if effort := settings.pop("reasoning_effort", None):
            settings["reasoning"] = {"effort": effort}
        if request.tools:
            settings["tools"] = [_tool(t) for t in request.tools]
            if (
                effort not in {None, "none"} and "include" not in self._extra
            ):  # thinking can go back only if it is sealed
                settings["include"] = ["reasoning.encrypted_content"]
        items = [item for m in request.messages for item in _items(m)]
        body: dict[str, Any] = {"model": request.model, "input": items, "stream": True}
        return body | ({} if "store" in self._extra else {"store": False}) | settings


def _tool(tool: ToolSpec) -> dict[str, Any]:
    """Describe a function; not strict, as strict mode forbids optional arguments."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": False,
    }


def _items(message: ChatMessage) -> list[dict[str, Any]]:
    """Turn a message of a chat into items; what the service gave sealed goes back as it came."""
    if message["role"] == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message["tool_call_id"],
                "output": message["content"],
            }
        ]
    if message.get("state"):
        return list(message["state"])
    items = []
    if message.get("content"):
        items.append({"role": message["role"], "content": message["content"]})
    items += [
        {
            "type": "function_call",
            "call_id": call["id"],
            "name": call["name"],
            "arguments": call.get("arguments") or "{}",
        }
        for call in message.get("tool_calls") or ()
    ]
    return items
