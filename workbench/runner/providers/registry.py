"""The registry of providers: makes the one that a plan's endpoint names."""

from typing import Any

from workbench.errors import ConfigError
from workbench.runner.providers.anthropic import AnthropicMessages
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.gemini import Gemini
from workbench.runner.providers.openai_chat import OpenAIChat
from workbench.runner.providers.openai_responses import OpenAIResponses
from workbench.runner.providers.services import quirks_of

KINDS: dict[str, type[HttpProvider]] = {
    "chat": OpenAIChat,
    "completions": OpenAIChat,
    "responses": OpenAIResponses,
    "messages": AnthropicMessages,
    "gemini": Gemini,
}


def make(endpoint: str, base_url: str, *, name: str, **options: Any) -> HttpProvider:
    """Make a provider of a kind; what is known of the service of that name goes with it.

    Args:
        endpoint: one of KINDS.
        base_url: the server.
        name: the provider's name in records and price sheets.
        options: `api_key`, `concurrency`, `timeout_s`, `extra_body` … of `HttpProvider`.
    """
    if endpoint not in KINDS:
        raise ConfigError(f"there is no endpoint {endpoint!r}; there are {', '.join(KINDS)}")
    return KINDS[endpoint](base_url, name=name, quirks=quirks_of(name), **options)
