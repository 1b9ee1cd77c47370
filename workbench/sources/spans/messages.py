"""Messages of spans: what a call was sent and what it answered, in each convention."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.sources.prompts import (
    CallReply,
    PromptMessage,
    ToolRequest,
    ToolResult,
    canonical,
    content_text,
)
from workbench.sources.spans.span import Attributes, Span
from workbench.sources.spans.values import as_text, decoded, decoded_list, first_in, shown

_NUMBERED = re.compile(
    r"(gen_ai\.prompt|gen_ai\.completion|llm\.input_messages|llm\.output_messages|llm\.prompts|"
    r"llm\.completions)\.(\d{1,6})\.(?:message\.)?(.+)"
)
_CALL_FIELD = re.compile(r"tool_calls\.(\d{1,4})\.(?:tool_call\.)?(.+)")
_EVENT_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def prompt_of(span: Span) -> list[PromptMessage]:
    """Return the messages that a call was sent."""
    attributes = span.attributes
    messages = list(_listed(_structured(span, "gen_ai.input.messages")))
    instructions = _structured(span, "gen_ai.system_instructions")
    system = _instructions(instructions) if isinstance(instructions, list) else ""
    if not messages:
        numbered = _numbered(attributes, "gen_ai.prompt", "llm.input_messages", "llm.prompts")
        messages = [message for fields in numbered for message in _of_fields(fields)]
    if not messages:
        vercel = decoded(attributes.get("ai.prompt.messages") or attributes.get("ai.prompt"))
        listed = vercel.get("messages") if isinstance(vercel, dict) else vercel
        messages = list(_listed(listed))
    if not messages:
        messages = [m for e in span.events if (m := _of_event(e.name, e.attributes)) is not None]
    if not messages:
        messages = list(_of_value(input_of(span)))
    return [PromptMessage("system", system), *messages] if system else messages


def _instructions(parts: Sequence[Any]) -> str:
    return "\n".join(filter(None, map(_part_text, parts)))


def reply_of(span: Span) -> CallReply:
    """Return what the model answered."""
    attributes = span.attributes
    replies = list(_listed(_structured(span, "gen_ai.output.messages"), role="assistant"))
    thinking = _thinking(_structured(span, "gen_ai.output.messages"))
    if not replies:
        numbered = _numbered(
            attributes, "gen_ai.completion", "llm.output_messages", "llm.completions"
        )
        replies = [message for fields in numbered for message in _of_fields(fields)]
        thinking = thinking or "".join(
            str(fields.get("reasoning_content") or "") for fields in numbered
        )
    if not replies and any(name.startswith("ai.response.") for name in attributes):
        replies = list(_of_vercel(attributes))
    if not replies:
        choices = [event for event in span.events if event.name == "gen_ai.choice"]
        for event in choices:
            message = decoded(event.attributes.get("message")) or dict(event.attributes)
            if isinstance(message, dict):
                replies += _listed([message], role="assistant")
    if not replies:
        replies = list(_of_value(output_of(span), role="assistant"))
    text = "\n".join(message.text for message in replies if message.text)
    calls = tuple(call for message in replies for call in message.tool_calls)
    return CallReply(text, thinking, calls)


def input_of(span: Span) -> Any:
    """Return what went into a span, as it stands there."""
    return first_in(
        span.attributes,
        (
            "input.value",
            "traceloop.entity.input",
            "langfuse.observation.input",
            "langfuse.trace.input",
            "mlflow.spanInputs",
            "ai.prompt",
        ),
    )


def output_of(span: Span) -> Any:
    """Return what came out of a span, as it stands there."""
    return first_in(
        span.attributes,
        (
            "output.value",
            "traceloop.entity.output",
            "langfuse.observation.output",
            "langfuse.trace.output",
            "mlflow.spanOutputs",
            "ai.response.text",
        ),
    )


def text_of(value: Any) -> str:
    """Return an input or output as text: of a chat its last text, of other JSON the JSON."""
    messages = list(_of_value(value))
    texts = [message.text for message in messages if message.text and message.role != "system"]
    return texts[-1] if texts else "" if value is None else shown(value)


def _structured(span: Span, name: str) -> Any:
    """Return a list of messages that stands in an attribute, or in an event's."""
    value = decoded(span.attributes.get(name))
    if value is not None:
        return value
    for event in span.events:
        if name in event.attributes:
            return decoded(event.attributes[name])
    return None


def _listed(value: Any, role: str = "user") -> Iterator[PromptMessage]:
    """Read a list of messages: content, or parts, and tool calls."""
    for message in value if isinstance(value, list) else ():
        if isinstance(message, str):
            yield PromptMessage(role, message)
        elif isinstance(message, dict):
            yield from _of_message(message, role)


def _of_message(message: Mapping[str, Any], role: str) -> Iterator[PromptMessage]:
    said = message.get("role")
    role = _ROLES.get(said, said) if isinstance(said, str) else role
    content = message.get("parts", message.get("content"))
    if isinstance(content, str) and role != "tool" and not message.get("tool_calls"):
        yield PromptMessage(role, content)
        return
    parts = content if isinstance(content, list) else []
    texts, calls, results = [], [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in {"tool_call", "tool_use", "tool-call", "function_call"}:
            calls.append(_request(part))
        elif kind in {"tool_call_response", "tool_result", "tool-result"}:
            answer = next(
                (part[f] for f in ("response", "result", "content", "output") if f in part), None
            )
            id_ = part.get("id") or part.get("tool_use_id") or part.get("toolCallId")
            is_error = part.get("is_error") is True
            results.append(ToolResult(as_text(id_), "", shown(answer), is_error))
        elif kind not in {"reasoning", "thinking", "redacted_thinking"}:
            texts.append(_part_text(part))
    if not parts and content is not None:
        texts.append(shown(content))
    requested = message.get("tool_calls")
    calls += [
        _request(call.get("tool_call") or call)
        for call in (requested if isinstance(requested, list) else ())
        if isinstance(call, dict)
    ]
    text = "\n".join(filter(None, texts))
    if role == "tool" and not results:
        id_ = message.get("tool_call_id") or message.get("id")
        results, text = [ToolResult(as_text(id_), as_text(message.get("name")), text)], ""
    yield PromptMessage(role, text, tuple(calls), tuple(results))


_ROLES = {"model": "assistant", "developer": "system", "human": "user", "ai": "assistant"}


def _part_text(part: Any) -> str:
    if isinstance(part, dict) and isinstance(part.get("content"), str):
        return str(part["content"])
    return content_text([part])


def _request(call: Mapping[str, Any]) -> ToolRequest:
    inner = call.get("function")
    function: Mapping[str, Any] = inner if isinstance(inner, dict) else call
    name = function.get("name") or call.get("toolName")
    arguments = next(
        (
            place[field]
            for place in (function, call)
            for field in ("arguments", "input", "args")
            if place.get(field) is not None
        ),
        None,
    )
    return ToolRequest(
        as_text(call.get("id") or call.get("toolCallId")), as_text(name), canonical(arguments)
    )


def _thinking(value: Any) -> str:
    texts = [
        as_text(part.get("content") or part.get("text"))
        for message in (value if isinstance(value, list) else ())
        if isinstance(message, dict) and isinstance(message.get("parts"), list)
        for part in message["parts"]
        if isinstance(part, dict) and part.get("type") in {"reasoning", "thinking"}
    ]
    return "\n".join(filter(None, texts))


def _numbered(attributes: Attributes, *prefixes: str) -> list[dict[str, Any]]:
    """Collect attributes with a number in their names, as `gen_ai.prompt.0.role`."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(prefixes) and (parts := _number_in(name)) and parts[0] in prefixes:
            found.setdefault(parts[1], {})[parts[2]] = value
    return [fields for _, fields in sorted(found.items())]


@functools.lru_cache(maxsize=4096)  # the names of a program's spans are few
def _number_in(name: str) -> tuple[str, int, str] | None:
    match = _NUMBERED.fullmatch(name)
    return None if match is None else (match[1], int(match[2]), match[3])


@functools.lru_cache(maxsize=1024)
def _call_field(name: str) -> tuple[int, str] | None:
    match = _CALL_FIELD.fullmatch(name)
    return None if match is None else (int(match[1]), match[2].removeprefix("function."))


def _of_fields(fields: Mapping[str, Any]) -> Iterator[PromptMessage]:
    """Build a message of flattened fields, as role, content, tool_calls.0.name."""
    calls: dict[int, dict[str, Any]] = {}
    contents: list[str] = []
    for name, value in fields.items():
        if field := _call_field(name):
            calls.setdefault(field[0], {})[field[1]] = value
        elif name.startswith("contents.") and name.endswith("message_content.text"):
            contents.append(as_text(value))
    content = fields.get("content") or "\n".join(contents) or fields.get("text")
    message: dict[str, Any] = {
        "role": fields.get("role"),
        "content": decoded_list(content),
        "tool_calls": [call for _, call in sorted(calls.items())],
        "tool_call_id": fields.get("tool_call_id"),
        "name": fields.get("name"),
    }
    if message["role"] is None:
        del message["role"]
    yield from _of_message(message, "assistant" if "finish_reason" in fields else "user")


def _of_event(name: str, attributes: Attributes) -> PromptMessage | None:
    role = _EVENT_ROLES.get(name)
    if role is None:
        return None
    fields = {k.removeprefix("gen_ai.event."): v for k, v in attributes.items()}
    body = decoded(fields.get("content"))
    message = {**fields, "role": role, "content": body if body is not None else ""}
    message["tool_calls"] = decoded(fields.get("tool_calls"))
    return next(_of_message(message, role), None)


def _of_vercel(attributes: Attributes) -> Iterator[PromptMessage]:
    calls = decoded(attributes.get("ai.response.toolCalls"))
    requests = (
        tuple(_request(c) for c in calls if isinstance(c, dict)) if isinstance(calls, list) else ()
    )
    text = attributes.get("ai.response.text") or attributes.get("ai.response.object")
    if text or requests:
        yield PromptMessage("assistant", shown(text) if text else "", requests)


def _of_value(value: Any, role: str = "user") -> Iterator[PromptMessage]:
    """Read an input or output: a chat, a request or response of a provider, or plain text."""
    value = decoded(value)
    if isinstance(value, dict):
        for name in ("messages", "contents", "choices"):
            listed = value.get(name)
            if isinstance(listed, list) and listed:
                if isinstance(listed[0], list):  # LangChain: a list of chats
                    listed = listed[0]
                yield from _listed(
                    [m.get("message", m) if isinstance(m, dict) else m for m in listed], role
                )
                return
        if "role" in value and ("content" in value or "parts" in value):
            yield from _of_message(value, role)
            return
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and "role" in m for m in value)
    ):
        yield from _listed(value, role)
    elif value is not None and value not in ("", {}, []):
        yield PromptMessage(role, shown(value))
