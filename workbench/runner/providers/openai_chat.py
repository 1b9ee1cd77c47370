"""OpenAI's chat completions and completions, and every server that speaks them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from workbench.errors import ProviderRejected
from workbench.runner.providers import transport
from workbench.runner.providers.chunks import PartialChatReply
from workbench.runner.providers.exchange import HttpProvider, merged
from workbench.runner.providers.partial_reply import PartialReply
from workbench.runner.providers.protocol import ChatMessage, Request, ToolSpec


class OpenAIChat(HttpProvider):
    """A server of OpenAI's chat completions or completions; differences are in its quirks."""

    partial_reply: ClassVar[type[PartialReply]] = PartialChatReply
    default_name = "openai-compatible"

    def url(self, request: Request) -> httpx.URL:
        """Chats and prompts have a path each."""
        path = "/chat/completions" if request.prompt is None else "/completions"
        return transport.address(self.base + path)

    def fields(self, request: Request) -> dict[str, Any]:
        """Settings go out as requested, except for the names that the service has changed."""
        body: dict[str, Any] = {"model": request.model}
        if request.prompt is None:
            body["messages"] = [_message(m) for m in request.messages]
            body |= {"tools": [describe_tool(t) for t in request.tools]} if request.tools else {}
        else:
            body["prompt"] = request.prompt
        body["stream"] = True
        if self.quirks.takes_stream_options:
            body["stream_options"] = {"include_usage": True}
        body |= self.quirks.body
        settings = dict(request.sampling)
        budget = settings.pop("thinking_budget_tokens", None)
        for name, theirs in self.quirks.rename.items():
            if name in settings and request.prompt is None:
                settings[theirs] = settings.pop(name)
        if self.quirks.nested_reasoning:
            reasoning = {"effort": settings.pop("reasoning_effort", None), "max_tokens": budget}
            if reasoning := {name: value for name, value in reasoning.items() if value is not None}:
                settings["reasoning"] = reasoning
        elif budget is not None:
            raise ProviderRejected(
                f"{self.name} takes no thinking budget with chat completions; leave out"
                " thinking_budget_tokens, or ask for an effort",
                kind="unsupported",
            )
        return merged(body, settings)


def describe_tool(tool: ToolSpec) -> dict[str, Any]:
    """Describe a tool as chat completions do."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def _message(message: ChatMessage) -> Mapping[str, Any]:
    """Write a message: turns with tools, and answers to them, have a form of their own."""
    if message["role"] == "tool":
        return {
            "role": "tool",
            "tool_call_id": message["tool_call_id"],
            "content": message["content"],
        }
    calls = message.get("tool_calls")
    if not calls:
        return {"role": message["role"], "content": message["content"]}
    state = dict(message.get("state") or {})
    extra = state.pop("extra_content", None) or [None] * len(calls)
    written = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call.get("arguments") or "{}"},
            **({"extra_content": more} if more else {}),
        }
        for call, more in zip(calls, extra, strict=True)
    ]
    content = message.get("content") or ""
    return {"role": "assistant", "content": content, "tool_calls": written, **state}
