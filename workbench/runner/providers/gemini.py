"""Gemini's generateContent, streamed: every event is a reply as far as it came.

Thoughts are shown as summaries where an effort or a thinking budget is asked for. An effort is the
API's thinking level (Gemini 3 and later), "none" a thinking budget of 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import httpx
import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ProviderRejected
from workbench.records import json_text
from workbench.runner.providers import transport
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.partial_reply import PartialReply, StreamFailed, decode
from workbench.runner.providers.protocol import ChatMessage, Request, ToolSpec
from workbench.runner.providers.sse import Event


class Part(msgspec.Struct, rename="camel"):
    """A part of the content: text, a thought (`thought` is true), or a call of a function."""

    text: str | None = None
    thought: bool | None = None
    function_call: dict[str, Any] | None = None
    thought_signature: str | None = None


class Content(msgspec.Struct):
    """The content of a candidate."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One candidate."""

    index: int = 0
    content: Content | None = None
    finish_reason: str | None = None


class Piece(msgspec.Struct, rename="camel"):
    """One event, or the whole reply."""

    candidates: list[Candidate] | None = None
    prompt_feedback: dict[str, Any] | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Piece)


class PartialContent(PartialReply):
    """The part of one reply that was received so far."""

    convention = "gemini"
    tools_end_it = True

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._parts: list[dict[str, Any]] = []  # as they must go back

    def take(self, event: Event, at_s: float) -> str:
        """Take an event. Counts before the end are of an unfinished reply, and not taken."""
        piece = decode(_decoder, event.data)
        if piece.error or event.type == b"error":
            raise StreamFailed(piece.error or event.data.decode("utf-8", "replace"))
        self.model, self.reply_id = (
            piece.model_version or self.model,
            piece.response_id or self.reply_id,
        )
        shown = ""
        for candidate in piece.candidates or ():
            if candidate.index == 0:
                self.finish = candidate.finish_reason or self.finish
                parts = candidate.content.parts if candidate.content else None
                shown += "".join([self._part(part, at_s) for part in parts or ()])
        if piece.prompt_feedback and piece.prompt_feedback.get("blockReason"):
            self.finish, self.refused = str(piece.prompt_feedback["blockReason"]), True
        if self.finish is not None and piece.usage_metadata:
            self.count(piece.usage_metadata)
            tier = piece.usage_metadata.get("serviceTier") or piece.usage_metadata.get(
                "trafficType"
            )
            self.tier = tier if isinstance(tier, str) else None
        return shown

    def _part(self, part: Part, at_s: float) -> str:
        self._keep(part)
        if part.function_call is not None:
            tool = self.tool(len(self.tools))
            tool[0] = str(part.function_call.get("name") or "")
            tool[1] = json_text(part.function_call.get("args") or {})
            tool[2] = str(part.function_call.get("id") or "")
            self.saw(at_s, tool=True)
        text = part.text or ""
        if part.thought:
            self.saw(at_s, thought=text)
            return ""
        self.saw(at_s, shown=text)
        return text

    def _keep(self, part: Part) -> None:
        """Record a part, without thoughts; consecutive texts without a signature become one."""
        sealed = {"thoughtSignature": part.thought_signature} if part.thought_signature else {}
        last = self._parts[-1] if self._parts else {}
        if part.function_call is not None:
            self._parts.append({"functionCall": part.function_call, **sealed})
        elif part.thought or (not part.text and not sealed):
            return
        elif not sealed and set(last) == {"text"}:
            last["text"] += part.text
        else:
            self._parts.append({"text": part.text or "", **sealed})

    def state(self) -> list[dict[str, Any]] | None:
        """Return the parts where the service gave signatures, or ids, that it wants back."""
        marked = any(
            "thoughtSignature" in p or (p.get("functionCall") or {}).get("id") for p in self._parts
        )
        return self._parts if marked and self.tools else None


class Gemini(HttpProvider):
    """A server that speaks Gemini's generateContent."""

    partial_reply: ClassVar[type[PartialReply]] = PartialContent
    default_name = "google"

    def headers(self, key: str | None) -> dict[str, str]:
        """The key has a header of its own; it never goes into the address."""
        return {"x-goog-api-key": key} if key else {}

    def url(self, request: Request) -> httpx.URL:
        """The model is part of the address."""
        model = quote(request.model.removeprefix("models/"), safe="")
        return transport.address(f"{self.base}/models/{model}:streamGenerateContent?alt=sse")

    def fields(self, request: Request) -> dict[str, Any]:
        """Write a chat as contents; settings are the generation's configuration."""
        if request.prompt is not None:
            raise ProviderRejected("Gemini continues no prompt; use a chat", kind="unsupported")
        settings = {name: v for name, v in request.sampling.items() if v is not None}
        body: dict[str, Any] = {"contents": _contents(request.messages)}
        system = [
            p for m in request.messages if m["role"] == "system" for p in _parts(m["content"])
        ]
        if system:
            body["systemInstruction"] = {"parts": system}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_function(t) for t in request.tools]}]
        if isinstance(choice := settings.pop("tool_choice", None), str):
            mode = {"required": "ANY"}.get(choice, choice.upper())
            body["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
        effort, budget = (
            settings.pop("reasoning_effort", None),
            settings.pop("thinking_budget_tokens", None),
        )
        thinking: dict[str, Any] = {}
        if effort == "none":
            thinking = {"thinkingBudget": 0}
        elif effort is not None:
            thinking = {"thinkingLevel": effort, "includeThoughts": True}
        if budget is not None:
            thinking |= {"thinkingBudget": budget, "includeThoughts": True}
        stop = settings.pop("stop", None)
        configuration = {_NAMES.get(n, _camel(n)): v for n, v in settings.items()}
        if stop:
            configuration["stopSequences"] = [stop] if isinstance(stop, str) else stop
        if thinking:
            configuration["thinkingConfig"] = thinking
        return body | ({"generationConfig": configuration} if configuration else {})


_NAMES = {"max_tokens": "maxOutputTokens", "n": "candidateCount"}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [{"text": p["text"]} if "text" in p else dict(p) for p in content or ()]


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parametersJsonSchema": dict(tool.parameters),
    }


def _contents(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Turn a chat into contents: the assistant is the model, answers of tools are the user's."""
    contents: list[dict[str, Any]] = []
    given: set[str] = set()  # ids that are the service's own; it knows no others
    for message in messages:
        if message["role"] == "system":
            continue
        role = "model" if message["role"] == "assistant" else "user"
        if message["role"] == "tool":
            parts = [_response(message, given)]
        elif state := message.get("state"):
            parts = list(state)
            given |= {call["id"] for p in state if (call := p.get("functionCall") or {}).get("id")}
        else:
            parts = _parts(message.get("content"))
            parts += [_function_call(call) for call in message.get("tool_calls") or ()]
        if contents and contents[-1]["role"] == role:  # turns must alternate
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    return contents


def _response(message: ChatMessage, given: set[str]) -> dict[str, Any]:
    tool_id = message["tool_call_id"]
    response = {"error" if message.get("error") else "result": message["content"]}
    named = {"id": tool_id} if tool_id in given else {}
    return {"functionResponse": {**named, "name": message["name"], "response": response}}


def _function_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Write a call; arguments must be an object, so that what is none becomes empty."""
    try:
        arguments = msgspec.json.decode(call.get("arguments") or "{}", type=dict[str, Any])
    except UNDECODABLE:
        arguments = {}
    return {"functionCall": {"name": call["name"], "args": arguments}}
