"""Recorded requests: bodies of four APIs, read as prompts and settings.

The body is a stranger's: whatever is not of the expected form is left out, never an error.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import zstandard

from workbench.records import json_text
from workbench.runner.providers import effort
from workbench.runner.providers.partial_reply import decode
from workbench.sources.prompts import (
    PromptMessage,
    ToolRequest,
    ToolResult,
    canonical,
    content_text,
)

Body = dict[str, Any]
_body = msgspec.json.Decoder(Body)
_UNPACKED_BYTES = 256_000_000  # of one request
_GEMINI_PATH = re.compile(r"/models/([^/:]+):(?:streamGenerateContent|generateContent)$")
_ENDPOINTS = {
    "chat/completions": "chat",
    "completions": "completions",
    "responses": "responses",
    "messages": "messages",
}


class RawRequest(NamedTuple):
    """A request as it came: the API, the path, the body, and how the body is compressed."""

    endpoint: str
    path: str
    body: bytes
    encoding: str = ""


class RecordedRequest(NamedTuple):
    """What one request asked for.

    Attributes:
        model: as it was requested; "unknown" where the request does not say.
        messages: the prompt.
        continues: the id of the response that the server is to go on from; None where the prompt
            is whole.
        settings: temperature, top_p, max_tokens, effort and thinking_budget_tokens, where they
            are given.
        effort_sent: all that it says of effort and thinking, in its own words; None where nothing.
    """

    model: str
    messages: tuple[PromptMessage, ...]
    continues: str | None
    settings: Mapping[str, Any]
    effort_sent: str | None


def endpoint_of(path: str) -> str | None:
    """Return the API that a path belongs to; None for what is no request to generate.

    >>> endpoint_of("/v1/chat/completions"), endpoint_of("/v1/models")
    ('chat', None)
    """
    if _GEMINI_PATH.search(path):
        return "gemini"
    for ending, endpoint in _ENDPOINTS.items():
        if path.endswith("/" + ending):
            return endpoint
    return None


def read(request: RawRequest) -> RecordedRequest:
    """Read the body of a request; an empty prompt where it is not JSON."""
    try:
        body = decode(_body, _unpacked(request))
    except (ValueError, zlib.error, zstandard.ZstdError):
        body = {}
    model = _text(body.get("model"))
    if request.endpoint == "gemini" and (named := _GEMINI_PATH.search(request.path)):
        model = named[1]
    return RecordedRequest(
        model=model or "unknown",
        messages=tuple(_READERS[request.endpoint](body)),
        continues=_text(body.get("previous_response_id")) or None,
        settings=_settings(body),
        effort_sent=effort.sent(body),
    )


def _unpacked(request: RawRequest) -> bytes:
    if request.encoding == "zstd":
        reader = zstandard.ZstdDecompressor().stream_reader(request.body)
        return reader.read(_UNPACKED_BYTES)
    if request.encoding == "gzip":
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(request.body, _UNPACKED_BYTES)
    return request.body


def _settings(body: Body) -> dict[str, Any]:
    inner = _object(body.get("generationConfig"))
    thinking = _object(body.get("thinking")) | _object(inner.get("thinkingConfig"))
    reasoning = _object(body.get("reasoning")) | _object(body.get("output_config"))
    given = body | inner | thinking | reasoning
    values: dict[str, Any] = {
        "temperature": _number(given, "temperature"),
        "top_p": _number(given, "top_p", "topP"),
        "max_tokens": _number(
            body | inner,
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "maxOutputTokens",
        ),
        "thinking_budget_tokens": _number(given, "budget_tokens", "thinkingBudget"),
        "effort": next(
            (
                given[name].lower()
                for name in ("reasoning_effort", "effort", "thinkingLevel")
                if _text(given.get(name))
            ),
            None,
        ),
    }
    for name in ("max_tokens", "thinking_budget_tokens"):
        values[name] = None if values[name] is None else int(values[name])
    return {name: value for name, value in values.items() if value is not None}


def _number(body: Body, *names: str) -> float | None:
    return next((body[name] for name in names if _is_number(body.get(name))), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _chat(body: Body) -> Iterator[PromptMessage]:
    for message in _objects(body.get("messages")):
        role = _role(message.get("role"))
        text = content_text(message.get("content"))
        if role == "tool":
            tool_id, name = _text(message.get("tool_call_id")), _text(message.get("name"))
            yield PromptMessage("tool", tool_results=(ToolResult(tool_id, name, text, False),))
            continue
        calls = []
        for call in _objects(message.get("tool_calls")):
            function = _object(call.get("function")) or _object(call.get("custom"))
            arguments = canonical(function.get("arguments", function.get("input")))
            calls.append(
                ToolRequest(
                    _text(call.get("id")), _text(function.get("name")), canonical(arguments)
                )
            )
        yield PromptMessage(role, text, tuple(calls))


def _completions(body: Body) -> Iterator[PromptMessage]:
    prompt = body.get("prompt")
    yield PromptMessage("user", prompt if isinstance(prompt, str) else json_text(prompt))


def _responses(body: Body) -> Iterator[PromptMessage]:
    if instructions := content_text(body.get("instructions")):
        yield PromptMessage("system", instructions)
    given = body.get("input")
    if isinstance(given, str):
        yield PromptMessage("user", given)
        return
    for item in _objects(given):
        kind = _text(item.get("type"))
        if kind.endswith("_call_output"):
            output = content_text(item.get("output"))
            result = ToolResult(_text(item.get("call_id")), "", output, False)
            yield PromptMessage("tool", tool_results=(result,))
        elif kind.endswith("_call"):
            arguments = next(
                (item[f] for f in ("arguments", "input", "action") if item.get(f) is not None), None
            )
            tool_id = _text(item.get("call_id")) or _text(item.get("id"))
            name = _text(item.get("name")) or kind.removesuffix("_call")
            call = ToolRequest(tool_id, name, canonical(arguments))
            yield PromptMessage("assistant", tool_calls=(call,))
        elif "role" in item:
            yield PromptMessage(_role(item.get("role")), content_text(item.get("content")))


def _messages(body: Body) -> Iterator[PromptMessage]:
    if system := content_text(body.get("system")):
        yield PromptMessage("system", system)
    for message in _objects(body.get("messages")):
        content = message.get("content")
        blocks = _objects(content) if isinstance(content, list) else ()
        calls = tuple(
            ToolRequest(_text(b.get("id")), _text(b.get("name")), canonical(b.get("input")))
            for b in blocks
            if b.get("type") == "tool_use"
        )
        results = tuple(
            ToolResult(
                _text(b.get("tool_use_id")),
                "",
                content_text(b.get("content")),
                b.get("is_error") is True,
            )
            for b in blocks
            if b.get("type") == "tool_result"
        )
        shown = [b for b in blocks if b.get("type") not in {"tool_use", "tool_result"}]
        text = content_text(shown if isinstance(content, list) else content)
        yield PromptMessage(_role(message.get("role")), text, calls, results)


def _gemini(body: Body) -> Iterator[PromptMessage]:
    system = _object(body.get("systemInstruction")) or _object(body.get("system_instruction"))
    if text := content_text(system.get("parts")):
        yield PromptMessage("system", text)
    for content in _objects(body.get("contents")):
        parts = _objects(content.get("parts"))
        calls, results, shown = [], [], []
        for part in parts:
            if call := _object(part.get("functionCall")):
                arguments = canonical(call.get("args") or {})
                calls.append(ToolRequest(_text(call.get("id")), _text(call.get("name")), arguments))
            elif answer := _object(part.get("functionResponse")):
                response = _object(answer.get("response"))
                results.append(
                    ToolResult(
                        _text(answer.get("id")),
                        _text(answer.get("name")),
                        json_text(response),
                        "error" in response,
                    )
                )
            elif not part.get("thought"):
                shown.append(part)
        role = _role(content.get("role") or "user")
        yield PromptMessage(role, content_text(shown), tuple(calls), tuple(results))


_READERS = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "messages": _messages,
    "gemini": _gemini,
}
_ROLES = {"developer": "system", "model": "assistant", "function": "tool"}


def _role(value: object) -> str:
    role = _ROLES.get(_text(value), _text(value))
    return role if role in {"system", "user", "assistant", "tool"} else "user"


def _objects(value: object) -> list[Body]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _object(value: object) -> Body:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
