"""Effort and thinking budget in the fields of each service, and what was sent of them.

An effort is one of `LEVELS`, as OpenAI's chat takes it. The providers encode it for their API; this
module has the differences by model, and `services` says by service which field is used:

- Claude up to 4.5 knows no adaptive thinking: the effort becomes a share of `max_tokens`, with the
  shares that OpenRouter documents for these models.
- Gemini 2.5 knows no thinking level: the effort becomes the budget to which Google's own
  OpenAI-compatible endpoint maps it.
- DeepSeek turns thinking on and off with a field of its own.
- llama.cpp, vLLM and SGLang hand the effort to the model's chat template, under the names that most
  templates read; whether a model uses it depends on the template. llama.cpp and vLLM cap
  thinking.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from workbench.records import json_text
from workbench.runner.providers.protocol import Request
from workbench.runner.providers.services import quirks_of

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
_LEAST, _MOST = 1024, 128_000  # tokens of thinking that Claude takes
_GEMINI = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
_CLAUDE = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:[.-][015](?!\d)|-20\d{6}|$|[@:]))")
_PLACES = (
    "reasoning_effort",
    "reasoning.enabled",
    "reasoning.effort",
    "reasoning.max_tokens",
    "thinking.type",
    "thinking.budget_tokens",
    "output_config.effort",
    "generationConfig.thinkingConfig.thinkingLevel",
    "generationConfig.thinkingConfig.thinkingBudget",
    "chat_template_kwargs.enable_thinking",
    "chat_template_kwargs.thinking",
    "chat_template_kwargs.reasoning_effort",
    "chat_template_kwargs.thinking_budget",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "enable_thinking",
    "thinking_budget",
    "think",
)


def translate(service: str, convention: str, request: Request) -> tuple[Request, dict[str, Any]]:
    """Encode effort and thinking budget for a service and a model.

    Args:
        service: name of the provider.
        convention: the API: chat, responses, messages or gemini.
        request: its sampling may hold `reasoning_effort` and `thinking_budget_tokens`.

    Returns:
        The request with what the provider still has to write in its API's words, and further fields
        of the body.
    """
    settings, extra = dict(request.sampling), {}
    effort = settings.get("reasoning_effort")
    if convention == "chat" and request.prompt is None:
        extra = _fields_of_chat(service, settings)
    elif effort in _SHARES and settings.get("thinking_budget_tokens") is None:
        budget = _budget(convention, request.model, effort, settings.get("max_tokens"))
        if budget is not None:
            del settings["reasoning_effort"]
            settings["thinking_budget_tokens"] = budget
    return msgspec.structs.replace(request, sampling=settings), extra


def _fields_of_chat(service: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Take from the settings what a server of chats has a field of its own for."""
    extra: dict[str, Any] = {}
    effort = settings.get("reasoning_effort")
    budget = settings.get("thinking_budget_tokens")
    quirks = quirks_of(service)
    if quirks.thinking_budget_field is not None and budget is not None:
        extra[quirks.thinking_budget_field] = settings.pop("thinking_budget_tokens")
    if effort is None or quirks.thinking_switch is None:
        return extra
    is_on = effort != "none"
    if quirks.thinking_switch == "object":
        extra["thinking"] = {"type": "enabled" if is_on else "disabled"}
    else:
        level = {"reasoning_effort": effort} if is_on else {}
        extra["chat_template_kwargs"] = {"enable_thinking": is_on, **level}
    if not is_on:
        del settings["reasoning_effort"]  # no level that these servers know
    return extra


def _budget(convention: str, model: str, effort: str, max_tokens: int | None) -> int | None:
    """Return the thinking tokens for an effort; None where the model takes the effort itself."""
    if convention == "gemini" and "gemini-2.5" in model:
        return _GEMINI[effort]
    if convention == "messages" and max_tokens and _CLAUDE.search(model):
        return max(_LEAST, min(int(_SHARES[effort] * max_tokens), _MOST))
    return None


def sent(body: Mapping[str, Any]) -> str | None:
    """Read out of an outgoing body what it says of effort and thinking; None where it says nothing.

    >>> sent({"model": "m", "thinking": {"type": "enabled", "budget_tokens": 8192}})
    'thinking.type=enabled, thinking.budget_tokens=8192'
    """
    values = [(place, _at(body, place)) for place in _PLACES if place.partition(".")[0] in body]
    settings = [
        f"{p}={v if isinstance(v, str) else json_text(v)}" for p, v in values if v is not None
    ]
    return ", ".join(settings) or None


def _at(body: Any, place: str) -> Any:
    for name in place.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return body
