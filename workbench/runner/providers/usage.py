"""What providers say of tokens, money and endings → the columns of a call; see `workbench.usage`."""

from collections.abc import Mapping
from typing import Any

from workbench import usage as usages
from workbench.usage import billed_usd

__all__ = ["STOP_REASONS", "billed_usd", "stop_reason", "token_fields"]

STOP_REASONS = {
    # OpenAI and those that copy it
    "stop": "stop", "eos": "stop", "length": "max_tokens", "max_tokens": "max_tokens",
    "tool_calls": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter", "error": "error",
    # OpenAI's Responses
    "completed": "stop", "max_output_tokens": "max_tokens", "failed": "error",
    # Anthropic
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls",
    "model_context_window_exceeded": "max_tokens", "refusal": "content_filter",
    # Gemini
    "STOP": "stop", "MAX_TOKENS": "max_tokens", "SAFETY": "content_filter",
    "RECITATION": "content_filter", "LANGUAGE": "content_filter", "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter", "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter", "MODEL_ARMOR": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error", "UNEXPECTED_TOOL_CALL": "error",
}  # fmt: skip


def stop_reason(finish_reason: str | None) -> str:
    """Map a finish reason to ours: stop, max_tokens, tool_calls, content_filter, error or unknown."""
    return STOP_REASONS.get(finish_reason or "", "unknown")


def token_fields(
    usage: Mapping[str, Any] | None,
    timings: Mapping[str, Any] | None = None,
    model: str = "",
    convention: str = "chat",
) -> dict[str, Any]:
    """Return the token columns of a call, only those that are known.

    Args:
        usage: the usage object as received.
        timings: llama.cpp's timings, used where usage is missing.
        model: the answering model.
        convention: how the endpoint counts; chat is looked at more closely.
    """
    if not usage:
        return usages.from_timings(timings).known()
    if convention == "chat" and usages.convention_of(usage) == "chat_beside":
        convention = "chat_beside"
    found = usages.normalise(usage, convention, model=model)
    return found._replace(billed_cost_usd=None).known()
