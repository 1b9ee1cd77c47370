"""Inspect's token counts → inclusive totals: input holds cached tokens, output holds thinking.

Inspect changed its convention in 0.3.184 and its providers differ, so the counts are read by what
adds up to the total, and by provider and version only where that does not decide.
"""

import re
from typing import NamedTuple

from workbench.sources.inspect_schema import ModelUsage

EXCLUDING_SINCE = (0, 3, 184)  # input_tokens leaves cached tokens out from then on
_DISJOINT = ("anthropic", "bedrock")  # their services always count cached tokens apart
_BESIDE = ("google", "vertex", "gemini")  # thinking beside the answer until 0.3.245


class Tokens(NamedTuple):
    """Token counts in our convention.

    Attributes:
        convention: what was found, in words; for the report.
        fault: why the counts contradict each other, or "".
    """

    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None
    total: int | None
    convention: str
    fault: str = ""


def version_of(text: str | None) -> tuple[int, ...]:
    """Read the leading numbers of a version: 0.3.95.dev16 → (0, 3, 95)."""
    found = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(int(n) for n in found[0].split(".")) if found else ()


def normalise(usage: ModelUsage, model: str, version: tuple[int, ...]) -> Tokens:
    """Turn one usage object into inclusive totals.

    Args:
        usage: as logged.
        model: Inspect's name of the model, provider first.
        version: of inspect-ai that wrote the log.
    """
    given, output, total = usage.input_tokens, usage.output_tokens, usage.total_tokens
    read, write = usage.input_tokens_cache_read, usage.input_tokens_cache_write
    thinking = usage.reasoning_tokens
    if given is None or output is None:
        return Tokens(given, read, write, output, thinking, total, "tokens are not reported")
    cached = (read or 0) + (write or 0)
    beside = _beside(usage, cached, model)
    excluded = _excluded(usage, cached, beside, model, version)
    words = ["no cached input"]
    if cached:
        words = ["input excludes cached: added back" if excluded else "input includes cached"]
    if beside:
        words.append("thinking beside output: added")
    inputs, outputs = given + (cached if excluded else 0), output + beside
    fault = ""
    if total is not None and inputs + outputs != total:
        fault = f"input {inputs} + output {outputs} is not the total {total}"
    return Tokens(inputs, read, write, outputs, thinking, total, ", ".join(words), fault)


def _excluded(
    usage: ModelUsage, cached: int, beside: int, model: str, version: tuple[int, ...]
) -> bool:
    """Whether cached tokens are missing from the input."""
    if not cached:
        return False
    given = usage.input_tokens or 0
    if cached > given or model.startswith(_DISJOINT):
        return True
    rest = (usage.total_tokens or 0) - (usage.output_tokens or 0) - beside
    return rest != given and (rest == given + cached or version >= EXCLUDING_SINCE)


def _beside(usage: ModelUsage, cached: int, model: str) -> int:
    """Thinking tokens that the output leaves out."""
    thinking, output = usage.reasoning_tokens or 0, usage.output_tokens or 0
    if thinking > output:
        return thinking
    # a total that counts thinking twice (Anthropic, 0.3.77 to 0.3.88) looks the same elsewhere
    everything = (usage.input_tokens or 0) + output + thinking
    counted_apart = usage.total_tokens in {everything, everything + cached}
    return thinking if counted_apart and _is_google(model) else 0


def _is_google(model: str) -> bool:
    return any(word in model for word in _BESIDE)
