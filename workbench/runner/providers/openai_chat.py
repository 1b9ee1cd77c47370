"""OpenAI's chat completions and completions, and every server that speaks them."""

from typing import Any, ClassVar

import httpx

from workbench.errors import ProviderRejected
from workbench.runner.providers.arrived import Arrived
from workbench.runner.providers.chunks import Assembly
from workbench.runner.providers.exchange import HttpProvider, merged
from workbench.runner.session import Request


class OpenAIChat(HttpProvider):
    """One server that speaks OpenAI's chat completions or completions; what differs is in its quirks."""

    arrived: ClassVar[type[Arrived]] = Assembly
    default_name = "openai-compatible"

    def url(self, request: Request) -> httpx.URL:
        """Chats and prompts have a path each."""
        path = "/chat/completions" if request.prompt is None else "/completions"
        return httpx.URL(self.base + path)

    def fields(self, request: Request) -> dict[str, Any]:
        """Settings go out as asked, except for the names that the service has changed."""
        body: dict[str, Any] = {"model": request.model}
        if request.prompt is None:
            body["messages"] = request.messages
        else:
            body["prompt"] = request.prompt
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        body |= self.quirks.body
        settings = dict(request.sampling)
        budget = settings.pop("thinking_budget_tokens", None)
        for name, theirs in self.quirks.rename.items():
            if name in settings and request.prompt is None:
                settings[theirs] = settings.pop(name)
        if self.quirks.nested_reasoning:
            asked = {"effort": settings.pop("reasoning_effort", None), "max_tokens": budget}
            if asked := {name: value for name, value in asked.items() if value is not None}:
                settings["reasoning"] = asked
        elif budget is not None:
            raise ProviderRejected(
                f"{self.name} takes no thinking budget with chat completions; leave out"
                " thinking_budget_tokens, or ask for an effort",
                kind="unsupported",
            )
        return merged(body, settings)
