"""Prompts of local models: a request as tokens, by the model's chat template."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workbench.errors import ProviderRejected
from workbench.runner.local.loading import Loaded
from workbench.runner.local.output_parser import Tags
from workbench.runner.local.settings import Sampling
from workbench.runner.providers.protocol import ChatMessage, Request


class Prompt(NamedTuple):
    """What a model reads.

    Attributes:
        tokens: the input.
        is_thinking: whether it ends within an opening tag.
        is_own: whether the caller's own text opened it, not the template.
    """

    tokens: list[int]
    is_thinking: bool = False
    is_own: bool = False


def build(request: Request, loaded: Loaded, sampling: Sampling, tags: Tags | None) -> Prompt:
    """Turn a request into tokens.

    A last message by the assistant is gone on with, not answered.

    Raises:
        ProviderRejected: the model has no chat template, or one without tools or effort, and the
            request needs it; or a message holds what is no text.
    """
    if request.prompt is not None:
        if request.tools:
            raise _bad("a completion has no tools; ask with messages")
        tokens = loaded.tokenizer(request.prompt)["input_ids"]
        return Prompt(list(tokens), *_thinking(request.prompt, request.prompt, tags))
    if not loaded.template:
        raise ProviderRejected(
            f"{request.model} is a base model without a chat template; ask it with a prompt",
            kind="no_chat_template",
        )
    messages = [_message(m) for m in request.messages]
    last = messages[-1] if messages else {"role": "user"}
    begun = last["content"] if last["role"] == "assistant" and "tool_calls" not in last else ""
    options = _options(request, loaded, sampling)
    text = _rendered(loaded, messages, begun, options)
    tokens = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Prompt(list(tokens), *_thinking(text, begun, tags))


def _thinking(text: str, own: str, tags: Tags | None) -> tuple[bool, bool]:
    """Whether a text ends within thinking, and whether the caller's part of it opened it."""
    if tags is None:
        return False, False
    is_open = text.rfind(tags[0]) > text.rfind(tags[1])
    if is_open and text is not own and not own:
        tail = text[text.rfind(tags[0]) + len(tags[0]) :]
        is_open = not tail.strip()  # else it is an earlier message that speaks of tags
    return is_open, is_open and own.rfind(tags[0]) > own.rfind(tags[1])


def _rendered(
    loaded: Loaded, messages: list[dict[str, Any]], begun: str, options: Mapping[str, Any]
) -> str:
    from jinja2 import TemplateError

    def render(chat: Sequence[Any], **how: bool) -> str:
        text: str = loaded.tokenizer.apply_chat_template(chat, tokenize=False, **how, **options)
        return text

    try:
        if begun:
            try:
                text = render(messages, continue_final_message=True)
            except (
                ValueError
            ):  # a template that rewrites the message, as those that cut thinking do
                text = ""
            if text.rstrip().endswith(begun.rstrip()):
                return text.rstrip() + begun[len(begun.rstrip()) :]
            return render(messages[:-1], add_generation_prompt=True) + begun
        return render(messages, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError) as error:
        raise _bad(f"the model's chat template refuses these messages: {error}") from error


def _options(request: Request, loaded: Loaded, sampling: Sampling) -> dict[str, Any]:
    """Return what the template is told beside the messages."""
    options: dict[str, Any] = {}
    if request.tools:
        if "tools" not in loaded.template:
            raise ProviderRejected(
                f"the chat template of {request.model} knows no tools; use a model that does, or"
                " describe the tools in the prompt",
                kind="no_tools",
            )
        options["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": t.name,
                    "description": t.description,
                    "parameters": dict(t.parameters),
                },
            }
            for t in request.tools
        ]
    effort = sampling.reasoning_effort
    if effort is not None:
        if "reasoning_effort" in loaded.template:
            options["reasoning_effort"] = effort
        elif "enable_thinking" in loaded.template and effort in {"none", "minimal"}:
            options["enable_thinking"] = False
        elif "enable_thinking" not in loaded.template:
            raise _bad(
                f"the chat template of {request.model} knows no reasoning effort; leave it out"
            )
    return options


def _message(message: ChatMessage) -> dict[str, Any]:
    """Write a message in the words of chat templates."""
    converted: dict[str, Any] = {"role": message["role"], "content": _text(message.get("content"))}
    if message.get("tool_calls"):
        converted["tool_calls"] = [
            {
                "id": c.get("id"),
                "type": "function",
                "function": {"name": c["name"], "arguments": _object(c["arguments"])},
            }
            for c in message["tool_calls"]
        ]
    for name in ("tool_call_id", "name"):
        if message.get(name) is not None:
            converted[name] = message[name]
    return converted


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [p.get("text") if isinstance(p, Mapping) else None for p in content]
    if any(not isinstance(p, str) for p in parts):
        raise _bad("a local model reads text only; a message holds something else")
    return "".join(p for p in parts if p)


def _object(arguments: Any) -> Any:
    """Decode a tool call's arguments for the template; invalid JSON stays a text."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def _bad(message: str) -> ProviderRejected:
    return ProviderRejected(message, kind="bad_request")
