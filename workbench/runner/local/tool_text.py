"""Tool calls in a model's text, in the three common forms."""

import json
import re
from collections.abc import Collection
from typing import Any, NamedTuple

MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>")  # kept in the text
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_LISTED = re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])", re.DOTALL)


class ToolRequest(NamedTuple):
    """A tool that a model asked for."""

    name: str
    arguments: str  # JSON text


def parse(text: str, names: Collection[str]) -> tuple[str, list[ToolRequest]]:
    """Take the tool calls out of a text; what is broken, or names no tool, stays text.

    Args:
        text: what the model wrote: `<tool_call>{…}</tool_call>` (Hermes, Qwen), `[TOOL_CALLS][…]`
            (Mistral), or nothing but one object (Llama).
        names: the tools that it was offered.

    Returns:
        The text without them, and the calls in order.
    """
    parsed: list[ToolRequest] = []

    def take(match: re.Match[str]) -> str:
        calls = _calls(match[1], names)
        parsed.extend(calls)
        return "" if calls else match[0]

    for pattern in (_TAGGED, _LISTED):
        text = pattern.sub(take, text)
    if not parsed and (calls := _calls(text.strip().removeprefix("<|python_tag|>"), names)):
        return "", calls
    return (text.strip() if parsed else text), parsed


def _calls(text: str, names: Collection[str]) -> list[ToolRequest]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls = [_call(v) for v in (value if isinstance(value, list) else [value])]
    known = [c for c in calls if c is not None and c.name in names]
    return known if len(known) == len(calls) else []


def _call(value: Any) -> ToolRequest | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolRequest(value["name"], text)
