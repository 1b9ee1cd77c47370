"""Usage objects and finish reasons of providers as columns of a call; see `workbench.usage`."""

from collections.abc import Mapping
from typing import Any

from workbench import usage as usages
from workbench.usage import billed_usd

__all__ = ["STOP_REASONS", "billed_usd", "laid_over", "stop_reason", "token_fields"]

STOP_REASONS = {
    # OpenAI and those that copy it
    "stop": "stop",
    "eos": "stop",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    # text-generation-inference, Mistral, vLLM and SGLang, DeepSeek, GLM
    "eos_token": "stop",
    "model_length": "max_tokens",
    "abort": "error",
    "aborted": "error",
    "insufficient_system_resource": "error",
    "network_error": "error",
    "sensitive": "content_filter",
    # OpenAI's Responses
    "completed": "stop",
    "max_output_tokens": "max_tokens",
    "failed": "error",
    "cancelled": "error",
    # Anthropic
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "content_filter",
    # Gemini
    "STOP": "stop",
    "MAX_TOKENS": "max_tokens",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
}


def stop_reason(finish_reason: str | None) -> str:
    """Map a finish reason to stop, max_tokens, tool_calls, content_filter, error or unknown."""
    return STOP_REASONS.get(finish_reason or "", "unknown")


def laid_over(
    earlier: Mapping[str, Any] | None, later: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Lay a later usage object of a reply over an earlier one, as their counts are cumulative.

    Absence does not outrank evidence: what the later object leaves out, or gives as null or zero,
    stays as the earlier one has it.

    >>> laid_over({"prompt_tokens": 11, "completion_tokens": 7}, {"prompt_tokens": 0, "cost": 0.5})
    {'prompt_tokens': 11, 'completion_tokens': 7, 'cost': 0.5}
    """
    merged = dict(earlier or {})
    for name, value in (later or {}).items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = laid_over(below, value)
        elif value or not below:
            merged[name] = value
    return merged or None


def token_fields(
    usage: Mapping[str, Any] | None,
    timings: Mapping[str, Any] | None = None,
    model: str = "",
    convention: str = "chat",
    *,
    has_content: bool = False,
) -> dict[str, Any]:
    """Return the token columns of a call and its bill, only those that are known.

    Args:
        usage: the usage object as received.
        timings: llama.cpp's timings, used where usage is missing.
        model: the answering model.
        convention: how the endpoint counts; chat is looked at more closely.
        has_content: whether the reply holds text, thinking or a tool call. A count of no output,
            or of no input, is then no measurement, and a bill of nothing beside it is none either.
    """
    if not usage:
        return usages.from_timings(timings).known()
    if convention == "chat" and usages.convention_of(usage) == "chat_beside":
        convention = "chat_beside"
    counts = usages.normalise(usage, convention, model=model)
    counts = _believed(counts) if has_content else counts
    if counts.tokens_source is None and timings:
        counts = usages.from_timings(timings)._replace(billed_cost_usd=counts.billed_cost_usd)
    return counts.known()


def _believed(counts: usages.Usage) -> usages.Usage:
    """Leave out the zeros that a reply with something in it contradicts."""
    if counts.output_tokens == 0:
        counts = counts._replace(
            output_tokens=None,
            reasoning_tokens=None,
            total_tokens=None,
            billed_cost_usd=counts.billed_cost_usd or None,
        )
    if counts.input_tokens == 0:
        counts = counts._replace(
            input_tokens=None,
            cache_read_tokens=None,
            cache_write_5m_tokens=None,
            cache_write_1h_tokens=None,
            total_tokens=None,
        )
    counted = any(n is not None for n in counts[:7])
    return counts if counted else counts._replace(tokens_source=None)
