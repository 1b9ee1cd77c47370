"""Known services and servers: their addresses, APIs and differences (`Quirks`)."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

ENDPOINTS = ("chat", "completions", "responses", "messages", "gemini")
LOCAL_URL = "http://127.0.0.1:8080/v1"


class Quirks(msgspec.Struct, frozen=True):
    """How a server differs from the API that it speaks.

    Attributes:
        rename: settings of a chat that have another name there.
        body: fields that every chat holds.
        nested_reasoning: effort and thinking budget go into one `reasoning` object.
        tokenize_field: the field of its `/tokenize` that takes the text; None where there is none.
        thinking_budget_field: the field of a chat that caps thinking; None where there is none.
        thinking_switch: what turns thinking on and off in a chat beside the effort: the object
            `thinking`, or variables of the model's chat template; None where the effort is all.
        takes_stream_options: whether a stream's usage is asked for by `stream_options`; False where
            that field is refused, and usage is sent unasked.
        begun_turns: whether it continues a begun assistant turn: False is said of all its
            endpoints, True of chat; None where unknown.
    """

    rename: Mapping[str, str] = {}
    body: Mapping[str, Any] = {}
    nested_reasoning: bool = False
    tokenize_field: str | None = "content"
    thinking_budget_field: str | None = None
    thinking_switch: Literal["object", "template"] | None = None
    takes_stream_options: bool = True
    begun_turns: bool | None = None


class Service(msgspec.Struct, frozen=True):
    """A service or server by its name in the price sheet.

    Attributes:
        base_urls: its address by endpoint; the first endpoint is the one it is asked by.
        api_key_env: the variable that holds its key; None for a server of one's own.
    """

    base_urls: Mapping[str, str]
    api_key_env: str | None = None
    quirks: Quirks = Quirks()

    @property
    def endpoint(self) -> str:
        """The endpoint that it is asked by unless another is named."""
        return next(iter(self.base_urls))

    def base_url(self, endpoint: str) -> str | None:
        """Return its address for an endpoint; completions share that of chat."""
        return self.base_urls.get("chat" if endpoint == "completions" else endpoint)


def _server(port: int, quirks: Quirks) -> Service:
    url = f"http://127.0.0.1:{port}/v1"
    return Service(dict.fromkeys(("chat", "responses", "messages"), url), None, quirks)


_OPENAI, _GOOGLE = "https://api.openai.com/v1", "https://generativelanguage.googleapis.com/v1beta"
_OPENROUTER, _REMOTE = "https://openrouter.ai/api/v1", Quirks(tokenize_field=None)
_XAI = "https://api.x.ai/v1"
SERVICES: Mapping[str, Service] = {
    "openai": Service(
        {"chat": _OPENAI, "responses": _OPENAI},
        "OPENAI_API_KEY",
        Quirks(
            rename={"max_tokens": "max_completion_tokens"},
            tokenize_field=None,
            begun_turns=False,  # it is read as a turn that has ended, and answered anew
        ),
    ),
    "anthropic": Service(
        {"messages": "https://api.anthropic.com/v1", "chat": "https://api.anthropic.com/v1"},
        "ANTHROPIC_API_KEY",
        _REMOTE,
    ),
    "google": Service({"gemini": _GOOGLE, "chat": f"{_GOOGLE}/openai"}, "GEMINI_API_KEY", _REMOTE),
    "openrouter": Service(
        dict.fromkeys(("chat", "responses", "messages"), _OPENROUTER),
        "OPENROUTER_API_KEY",
        Quirks(body={"usage": {"include": True}}, nested_reasoning=True, tokenize_field=None),
    ),
    "deepseek": Service(
        {
            "chat": "https://api.deepseek.com/v1",
            "messages": "https://api.deepseek.com/anthropic/v1",
        },
        "DEEPSEEK_API_KEY",
        Quirks(tokenize_field=None, thinking_switch="object"),
    ),
    "groq": Service({"chat": "https://api.groq.com/openai/v1"}, "GROQ_API_KEY", _REMOTE),
    "mistral": Service(
        {"chat": "https://api.mistral.ai/v1"},
        "MISTRAL_API_KEY",
        Quirks(
            rename={"seed": "random_seed"},  # a field that it does not know is refused with 422
            tokenize_field=None,
            takes_stream_options=False,
        ),
    ),
    "together": Service({"chat": "https://api.together.xyz/v1"}, "TOGETHER_API_KEY", _REMOTE),
    "x-ai": Service({"chat": _XAI, "responses": _XAI}, "XAI_API_KEY", _REMOTE),
    "fireworks": Service(
        {"chat": "https://api.fireworks.ai/inference/v1"}, "FIREWORKS_API_KEY", _REMOTE
    ),
    "llama.cpp": _server(
        8080,
        Quirks(
            tokenize_field="content",
            thinking_budget_field="thinking_budget_tokens",
            thinking_switch="template",
            begun_turns=True,
        ),
    ),
    "vllm": _server(
        8000,
        Quirks(
            tokenize_field="prompt",
            thinking_budget_field="thinking_token_budget",
            thinking_switch="template",
        ),
    ),
    "sglang": _server(30000, Quirks(tokenize_field=None, thinking_switch="template")),
    "ollama": _server(11434, _REMOTE),
}
_HOSTS = {"127.0.0.1": "local", "localhost": "local"} | {
    str(urlsplit(url).hostname): name
    for name, service in SERVICES.items()
    if service.api_key_env
    for url in service.base_urls.values()
}


def quirks_of(name: str) -> Quirks:
    """Return how a service differs; a service that is not known does not."""
    service = SERVICES.get(name)
    return service.quirks if service is not None else Quirks()


def name_of(base_url: str) -> str:
    """Return the name of the service at an address; the host where it is not known."""
    host = urlsplit(base_url).hostname or ""
    return _HOSTS.get(host, host)


def takes_begun_turns(name: str, endpoint: str) -> bool | None:
    """Whether a service continues a begun assistant turn; None where unknown.

    Responses reads it as a turn that has ended, at every service. Current Claude models refuse it,
    and so does llama.cpp where a template thinks; both say so, and are asked without it then.
    """
    if endpoint == "responses":
        return False
    is_taken = quirks_of(name).begun_turns
    return None if is_taken and endpoint != "chat" else is_taken


def is_at_home(name: str, base_url: str) -> bool:
    """Whether an address is the service's own, so that its key may be sent there."""
    service = SERVICES.get(name)
    hosts = {urlsplit(u).hostname for u in service.base_urls.values()} if service else set()
    return urlsplit(base_url).hostname in hosts and urlsplit(base_url).scheme == "https"


def is_own_key(variable: str, base_url: str) -> bool:
    """Whether a variable is the usual one of the service at its own address."""
    return any(
        service.api_key_env == variable and is_at_home(name, base_url)
        for name, service in SERVICES.items()
    )


def is_own_address(base_url: str) -> bool:
    """Whether an address belongs to a known service."""
    host = urlsplit(base_url).hostname or ""
    return host in _HOSTS and urlsplit(base_url).scheme == "https"
