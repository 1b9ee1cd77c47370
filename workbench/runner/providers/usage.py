"""Usage objects of OpenAI-compatible servers → token counts of a call, inclusive; unknown stays null.

Conventions: OpenAI, OpenRouter, DeepSeek, vLLM, SGLang and llama.cpp count cached tokens within the prompt
and thinking within the completion. Gemini's compatible endpoint leaves thinking out of both, so that only
its total holds it. SGLang's flat `reasoning_tokens` is 0 where it did not count: 0 there is unknown.
"""

import math
from collections.abc import Mapping
from typing import Any

STOP_REASONS = {
    "stop": "stop", "eos": "stop", "end_turn": "stop", "length": "max_tokens",
    "max_tokens": "max_tokens", "tool_calls": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter", "error": "error",
}  # fmt: skip


def stop_reason(finish_reason: str | None) -> str:
    """Map a finish reason to ours: stop, max_tokens, tool_calls, content_filter, error or unknown."""
    return STOP_REASONS.get(finish_reason or "", "unknown")


def count(value: object) -> int | None:
    """Return a token count; None for anything that is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**62 else None


def _part(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = usage.get(name)
    return value if isinstance(value, Mapping) else {}


def _first(*values: object) -> int | None:
    return next((n for n in map(count, values) if n is not None), None)


def token_fields(
    usage: Mapping[str, Any] | None, timings: Mapping[str, Any] | None = None, model: str = ""
) -> dict[str, Any]:
    """Return the token columns of a call, only those that are known.

    Args:
        usage: the usage object as received.
        timings: llama.cpp's timings; `prompt_n` there excludes the cached ones. Used where usage is missing.
        model: the answering model: Gemini's compatible endpoint has a convention of its own.
    """
    if not usage:
        return _from_timings(timings or {})
    prompt, details = (
        _part(usage, "prompt_tokens_details"),
        _part(usage, "completion_tokens_details"),
    )
    flat = count(usage.get("reasoning_tokens"))
    found: dict[str, Any] = {
        "input_tokens": count(usage.get("prompt_tokens")),
        "cache_read_tokens": _first(
            prompt.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
            usage.get("num_cached_tokens"),
        ),
        "cache_write_5m_tokens": count(prompt.get("cache_write_tokens")),
        "output_tokens": count(usage.get("completion_tokens")),
        "reasoning_tokens": _first(details.get("reasoning_tokens"), flat or None),
        "total_tokens": count(usage.get("total_tokens")),
    }
    source = "reported"
    if "gemini" in model and found["reasoning_tokens"] is None:
        known = (found["input_tokens"], found["output_tokens"], found["total_tokens"])
        if None not in known and known[2] > known[0] + known[1]:
            found["reasoning_tokens"] = known[2] - known[0] - known[1]
            found["output_tokens"] = known[2] - known[0]
            source = "derived"
    found = {name: value for name, value in found.items() if value is not None}
    return found | {"tokens_source": source} if found else {}


def _from_timings(timings: Mapping[str, Any]) -> dict[str, Any]:
    fresh, cached = count(timings.get("prompt_n")), count(timings.get("cache_n"))
    output = count(timings.get("predicted_n"))
    if fresh is None or output is None:
        return {}
    found = {"input_tokens": fresh + (cached or 0), "output_tokens": output}
    if cached is not None:
        found["cache_read_tokens"] = cached
    return {**found, "tokens_source": "derived"}


def billed_usd(usage: Mapping[str, Any] | None) -> float | None:
    """Return what the provider says it charged (OpenRouter's `usage.cost`); None where it does not."""
    cost = (usage or {}).get("cost")
    usable = isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost)
    return float(cost) if usable and cost is not None else None
